//! What people manage themselves on the pages: own tokens and sessions; the page of those who manage everybody; and
//! people whom a trusted proxy logs in.

use crate::support::browser::Browser;
use crate::support::cli::Cli;
use crate::support::rest::{Reply, Service, request, service};
use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::json;
use skep::http::{Peer, TrustedProxy, router};
use std::net::IpAddr;
use std::time::Duration;

async fn add(s: &Service, name: &str, role: &str) {
    let reply = s.post("/api/v1/people", &json!({"name": name, "role": role})).await;
    assert_eq!(reply.status, 201, "{reply:?}");
}

/// Returns a browser in which a person is logged in.
async fn browser_of<'a>(s: &'a Service, name: &str) -> Browser<'a> {
    let link = s.post("/api/v1/login-links", &json!({"person": name})).await.json();
    let path = link["path"].as_str().expect("a path").to_owned();
    let mut browser = Browser::new(s);
    browser.open(&path).await.is(200);
    let headers = [("origin", "http://localhost:7300"), ("user-agent", "Firefox of <b>ann</b>")];
    assert_eq!(browser.post(&path, &headers, "").await.status, 303);
    browser
}

/// Returns the token that a page shows.
#[track_caller]
fn shown(page: &str) -> String {
    let at = page.find("skep_pat_").unwrap_or_else(|| panic!("no token in {page}"));
    page[at..].split('<').next().expect("an end").to_owned()
}

async fn with_token(s: &Service, token: &str, method: Method, path: &str) -> Reply {
    let builder = Request::builder().method(method).uri(path).header("host", "localhost:7300");
    let builder = builder.header("authorization", format!("Bearer {token}"));
    s.send(builder.body(Body::empty()).expect("a request")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_create_rotate_and_revoke_their_own_tokens() {
    let s = service().await;
    add(&s, "ann", "member").await;
    add(&s, "vera", "viewer").await;
    let mut ann = browser_of(&s, "ann").await;
    let page = ann.open("/me").await.is(200);
    assert!(page.contains("user:ann") && page.contains("member") && page.contains("No access tokens."), "{page}");
    assert!(!page.contains("value=\"approve\"") && !page.contains("value=\"people\""), "only rights of the role");
    let fields = [("name", "laptop"), ("right", "read"), ("right", "run"), ("lifetime", "30")];
    let created = ann.send_form("/me/tokens", &fields).await;
    assert_eq!(created.header("cache-control"), "no-store", "{created:?}");
    let token = shown(&created.is(200));
    assert_eq!(with_token(&s, &token, Method::GET, "/api/v1/runs").await.status, 200);
    let page = ann.open("/me").await.is(200);
    assert!(page.contains("laptop") && page.contains("read, run") && !page.contains("skep_pat_"), "{page}");
    for (wrong, status) in [
        (vec![("name", "more"), ("right", "approve")], 422),
        (vec![("name", "more"), ("right", "people")], 422),
        (vec![("name", "More!"), ("right", "read")], 422),
        (vec![("name", "more"), ("right", "read"), ("lifetime", "0")], 422),
        (vec![("name", "more"), ("right", "read"), ("lifetime", "99999")], 422),
    ] {
        assert_eq!(ann.send("/me/tokens", &wrong).await.status, status, "{wrong:?}");
    }
    // A token makes no other, not even of its own person.
    let id = token.split('_').nth(2).expect("an id").to_owned();
    for action in ["rotate", "revoke"] {
        let path = format!("/api/v1/tokens/{id}/{action}");
        with_token(&s, &token, Method::POST, &path).await.is_problem(403, "missing_right");
    }
    // Somebody else sees nothing of it, and a viewer creates none.
    let mut vera = browser_of(&s, "vera").await;
    let page = vera.open("/me").await.is(200);
    assert!(!page.contains("laptop") && !page.contains("New token"), "{page}");
    assert_eq!(vera.send("/me/tokens", &[("name", "x"), ("right", "read")]).await.status, 403);
    for action in ["rotate", "revoke"] {
        let refused = vera.send(&format!("/me/tokens/{id}/{action}"), &[]).await;
        assert!(refused.status == 404 && refused.text.contains("no_token"), "{refused:?}");
    }
    assert_eq!(vera.send(&format!("/me/tokens/{id}/frob"), &[]).await.status, 404);

    ann.open("/me").await.is(200);
    let rotated = shown(&ann.send_form(&format!("/me/tokens/{id}/rotate"), &[]).await.is(200));
    assert_ne!(rotated, token);
    for works in [&token, &rotated] {
        assert_eq!(with_token(&s, works, Method::GET, "/api/v1/runs").await.status, 200);
    }
    let new_id = rotated.split('_').nth(2).expect("an id").to_owned();
    ann.open("/me").await.is(200);
    let revoked = ann.send_form(&format!("/me/tokens/{new_id}/revoke"), &[]).await;
    assert_eq!(revoked.header("location"), "/me?notice=revoked", "{revoked:?}");
    assert_eq!(with_token(&s, &rotated, Method::GET, "/api/v1/runs").await.status, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_token_works_for_an_hour_and_warns() {
    let s = service().await;
    let created = s.post("/api/v1/tokens", &json!({"name": "ci", "rights": ["read", "run"], "days": 30})).await.json();
    let (old, id) = (created["token"].as_str().expect("a token"), &created["access_token"]["id"]);
    let fresh = with_token(&s, old, Method::GET, "/api/v1/runs").await;
    assert!(!fresh.headers.contains_key("skep-token-ends"), "{fresh:?}");
    let path = format!("/api/v1/tokens/{}/rotate", id.as_str().expect("an id"));
    let rotated = s.post(&path, &json!({})).await;
    assert_eq!(rotated.status, 201, "{rotated:?}");
    let rotated = rotated.json();
    for field in ["name", "principal", "rights"] {
        assert_eq!(rotated["access_token"][field], created["access_token"][field], "{field}");
    }
    let rows = s.get("/api/v1/tokens").await.json();
    let row = |id: &serde_json::Value| {
        rows.as_array().expect("rows").iter().find(|row| row["id"] == *id).expect("a row").clone()
    };
    let time = |value: &serde_json::Value| value.as_i64().expect("a time") / 1000;
    let now = s.state.services.clock.now().0 / 1000;
    let left = time(&row(id)["expires_at"]) - now;
    assert!((3_500..=3_600).contains(&left), "{left} s");
    let days = (time(&rotated["access_token"]["expires_at"]) - now + 60) / 86_400;
    assert_eq!(days, 30, "the new one lives as long as the old one was meant to");
    // The old one still works, and says that it will not for long.
    let warned = with_token(&s, old, Method::GET, "/api/v1/runs").await;
    assert_eq!(warned.status, 200);
    let ends = chrono::DateTime::parse_from_rfc3339(warned.header("skep-token-ends")).expect("a time");
    assert_eq!(ends.timestamp(), time(&row(id)["expires_at"]));
    let new = rotated["token"].as_str().expect("a token");
    assert!(!with_token(&s, new, Method::GET, "/api/v1/runs").await.headers.contains_key("skep-token-ends"));
    s.post(&format!("/api/v1/tokens/{}/revoke", id.as_str().expect("an id")), &json!({})).await;
    s.post(&path, &json!({})).await.is_problem(409, "token_ended");
    s.post("/api/v1/tokens/nothing/rotate", &json!({})).await.is_problem(404, "no_token");
    let audit = s.get("/api/v1/audit").await.text;
    assert!(audit.contains("token.rotate") && !audit.contains(&new[new.len() - 40..]), "{audit}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_end_their_other_sessions() {
    let s = service().await;
    add(&s, "ann", "member").await;
    add(&s, "ben", "member").await;
    let (mut here, mut there, mut ben) =
        (browser_of(&s, "ann").await, browser_of(&s, "ann").await, browser_of(&s, "ben").await);
    let page = here.open("/me").await.is(200);
    assert!(page.contains("this one") && page.contains("Firefox of &lt;b&gt;ann&lt;/b&gt;"), "{page}");
    let action = |page: &str| {
        let mut actions = page.split("action=\"").skip(1).filter_map(|text| text.split('"').next());
        let action = actions.find(|a| a.starts_with("/me/sessions/") && a.ends_with("/end"));
        action.map(str::to_owned)
    };
    let of_ben = action(&ben.open("/me").await.is(200));
    assert_eq!(of_ben, None, "the session of the page itself ends by logging out");
    let end = action(&page).expect("another session");
    // Nobody ends the session of somebody else.
    assert_eq!(ben.send(&end, &[]).await.status, 404);
    assert_eq!(there.open("/me").await.status, 200);
    assert_eq!(here.send_form(&end, &[]).await.header("location"), "/me?notice=ended");
    assert_eq!(there.open("/me").await.status, 303, "logged out");
    assert_eq!(here.open("/me").await.status, 200);
    let (mut second, mut third) = (browser_of(&s, "ann").await, browser_of(&s, "ann").await);
    here.open("/me").await.is(200);
    assert_eq!(here.send_form("/me/sessions/end-others", &[]).await.status, 303);
    for browser in [&mut second, &mut third] {
        assert_eq!(browser.open("/me").await.status, 303);
    }
    assert_eq!(here.open("/me").await.status, 200);
    assert_eq!(ben.open("/me").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_manages_people_on_a_page() {
    let s = service().await;
    for (name, role) in [("ada", "admin"), ("abe", "approver")] {
        add(&s, name, role).await;
    }
    let mut ada = browser_of(&s, "ada").await;
    assert!(ada.open("/me").await.is(200).contains("href=\"/people\""));
    ada.open("/people").await.is(200);
    let added = ada.send_form("/people", &[("name", "mia"), ("role", "member")]).await;
    assert_eq!(added.header("location"), "/people?notice=added", "{added:?}");
    assert_eq!(ada.send("/people", &[("name", "mia"), ("role", "member")]).await.status, 409);
    ada.open("/people").await.is(200);
    let mut mia = browser_of(&s, "mia").await;
    assert_eq!(ada.send_form("/people/mia/role", &[("role", "viewer")]).await.status, 303);
    assert!(mia.open("/me").await.is(200).contains("viewer"));
    assert_eq!(ada.send("/people/mia/role", &[("role", "root")]).await.status, 422);
    assert_eq!(ada.send("/people/eve/role", &[("role", "admin")]).await.status, 404);
    assert_eq!(ada.send("/people/mia/frob", &[]).await.status, 404);
    ada.open("/people").await.is(200);
    assert_eq!(ada.send_form("/people/mia/disable", &[]).await.status, 303);
    assert_eq!(mia.open("/me").await.status, 303);
    assert!(ada.open("/people").await.is(200).contains("disabled"));
    let created = s.post("/api/v1/tokens", &json!({"name": "ci"})).await.json();
    let id = created["access_token"]["id"].as_str().expect("an id");
    assert!(ada.open("/people").await.is(200).contains("token:ci"));
    assert_eq!(ada.send_form(&format!("/people/tokens/{id}/revoke"), &[]).await.status, 303);
    assert!(!ada.open("/people").await.is(200).contains("token:ci"));
    // Whoever does not manage people sees none, and changes nothing.
    let mut abe = browser_of(&s, "abe").await;
    assert!(!abe.open("/me").await.is(200).contains("href=\"/people\""));
    assert_eq!(abe.open("/people").await.status, 403);
    abe.open("/me").await.is(200);
    for (path, fields) in [
        ("/people", [("name", "eve"), ("role", "admin")]),
        ("/people/abe/role", [("role", "admin"), ("x", "")]),
        ("/people/ada/disable", [("x", ""), ("y", "")]),
    ] {
        assert_eq!(abe.send(path, &fields).await.status, 403, "{path}");
    }
}

/// Sends a request from a peer, as the listener passes it on.
async fn from_peer(s: &Service, peer: &str, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let mut builder = Request::builder().method(method).uri(path).header("host", "localhost:7300");
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let mut sent = builder.body(Body::from(body.to_owned())).expect("a request");
    sent.extensions_mut().insert(Peer(peer.parse::<IpAddr>().expect("an address")));
    s.send(sent).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_who_the_trusted_proxy_says_and_nobody_else_says_so() {
    let mut s = service().await;
    add(&s, "ann", "member").await;
    add(&s, "ben", "viewer").await;
    s.state.proxy = Some(TrustedProxy::new("10.0.0.5".parse().expect("an address"), "Remote-User").expect("a proxy"));
    s.router = router(s.state.clone());
    let get = async |peer: &str, path: &str, headers: &[(&str, &str)]| {
        from_peer(&s, peer, Method::GET, path, headers, "").await
    };
    let page = get("10.0.0.5", "/me", &[("remote-user", "ann")]).await.is(200);
    assert!(page.contains("user:ann") && page.contains("member"), "{page}");
    assert!(page.contains("a proxy logs you in") && !page.contains("Log out"), "{page}");
    assert_eq!(get("::ffff:10.0.0.5", "/me", &[("remote-user", "ann")]).await.status, 200);
    // Others may not send the header, to no surface, whatever else they have.
    for path in ["/me", "/login", "/", "/api/v1/runs", "/health", "/openapi.json", "/nothing"] {
        for peer in ["127.0.0.1", "10.0.0.6", "::1"] {
            let refused = get(peer, path, &[("Remote-User", "ann")]).await;
            assert_eq!(refused.status, 400, "{peer} {path}: {refused:?}");
            assert!(refused.text.contains("proxy_header") && !refused.headers.contains_key("set-cookie"));
        }
    }
    assert_eq!(get("10.0.0.6", "/login", &[]).await.status, 200);
    assert_eq!(get("10.0.0.5", "/me", &[]).await.status, 303, "without the header, nobody is logged in");
    assert_eq!(get("10.0.0.5", "/me", &[("remote-user", "ann"), ("remote-user", "ben")]).await.status, 400);
    for unknown in ["eve", "Ann", "", "ann ", "user:ann", "local:tester", "../ann"] {
        let refused = get("10.0.0.5", "/me", &[("remote-user", unknown)]).await;
        assert_eq!(refused.status, 403, "{unknown}: {refused:?}");
    }
    // The REST interface wants a token, also of those whom the proxy names.
    get("10.0.0.5", "/api/v1/runs", &[("remote-user", "ann")]).await.is_problem(401, "no_token");
    let authorized = request(Method::GET, "/x").body(()).expect("a request").headers()["authorization"].clone();
    let token = [("authorization", authorized.to_str().expect("text")), ("remote-user", "ann")];
    assert_eq!(get("10.0.0.5", "/api/v1/runs", &token).await.status, 200);

    // Forms need the token of this person's pages, and come from a page of this service.
    let form_token = page.split("name=\"form_token\" value=\"").nth(1).and_then(|t| t.split('"').next()).expect("it");
    let send = async |person: &str, token: &str, origin: &str| {
        let headers =
            [("remote-user", person), ("origin", origin), ("content-type", "application/x-www-form-urlencoded")];
        let body = format!("form_token={token}&name=laptop&right=read");
        from_peer(&s, "10.0.0.5", Method::POST, "/me/tokens", &headers, &body).await
    };
    let here = "http://localhost:7300";
    assert_eq!(send("ann", "wrong", here).await.status, 403);
    assert_eq!(send("ben", form_token, here).await.status, 403);
    assert_eq!(send("ann", form_token, "https://evil.example").await.status, 403);
    assert!(send("ann", form_token, here).await.is(200).contains("skep_pat_"));
    // The role is read at each request, and the word of the proxy counts more than a session.
    s.post("/api/v1/people/ann/disable", &json!({})).await;
    assert_eq!(get("10.0.0.5", "/me", &[("remote-user", "ann")]).await.status, 403);
}

#[test]
fn the_proxy_is_known_by_the_address_of_its_connection() {
    let cli = Cli::new();
    std::fs::create_dir_all(cli.path("data")).expect("a folder");
    let config = "[server]\ntrusted_proxy = \"127.0.0.2\"\n[auth]\nproxy_header = \"X-Person\"\n";
    std::fs::write(cli.path("data/skep.toml"), config).expect("a configuration");
    let _service = cli.serve();
    cli.run(&["user", "add", "ann"]).exits_with(0);
    let service = std::fs::read_to_string(cli.path("data/service.json")).expect("a file");
    let service: serde_json::Value = serde_json::from_str(&service).expect("JSON");
    let url = format!("http://{}/me", service["address"].as_str().expect("an address"));
    skep::telemetry::install_crypto();
    let status = |from: &str, person: Option<&str>| {
        let client = reqwest::blocking::Client::builder().no_proxy().local_address(from.parse::<IpAddr>().ok());
        let client = client.redirect(reqwest::redirect::Policy::none()).timeout(Duration::from_secs(60));
        let mut request = client.build().expect("a client").get(&url);
        if let Some(person) = person {
            request = request.header("x-person", person);
        }
        request.send().expect("a response").status().as_u16()
    };
    assert_eq!(status("127.0.0.2", Some("ann")), 200);
    assert_eq!(status("127.0.0.2", Some("eve")), 403);
    assert_eq!(status("127.0.0.2", None), 303);
    assert_eq!(status("127.0.0.1", Some("ann")), 400);
    assert_eq!(status("127.0.0.1", None), 303);
}
