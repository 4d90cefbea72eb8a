//! Logging in at an OpenID Connect provider: who gets in, with which role, and everything that must be refused.

use crate::support::browser::Browser;
use crate::support::cli::{BackgroundProcess, Cli};
use crate::support::identity_provider::{CLIENT, Provider, SECRET, now};
use crate::support::rest::{Reply, Service, service_configured};
use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use skep::adapters::oidc::settings::OidcSettings;
use skep::domain::{AccessRole, LoginRules, ProjectName};
use skep::secrets::Secret;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const CALLBACK: &str = "/login/oidc/callback";

fn settings(issuer: String) -> OidcSettings {
    let of = |group: &str| vec![group.to_owned()];
    OidcSettings {
        issuer,
        client_id: CLIENT.to_owned(),
        client_secret: Some(Secret::new(SECRET.to_owned())),
        label: "Example & Co".to_owned(),
        scopes: ["openid", "email"].map(str::to_owned).to_vec(),
        username_claim: "preferred_username".to_owned(),
        rules: LoginRules {
            groups_claim: "groups".to_owned(),
            groups: [(AccessRole::Member, of("dev")), (AccessRole::Admin, of("platform"))].into(),
            project_groups: BTreeMap::new(),
            domains: of("example.org"),
            default_role: None,
        },
    }
}

/// Returns a provider whose account is Ann's, and a service where people log in with it.
async fn world() -> (Provider, Service) {
    let provider = Provider::start().await;
    provider.account(ann(&["dev"]));
    let oidc = settings(provider.issuer());
    let s = service_configured(|config| {
        config.server.public_url = Some("http://localhost:7300".to_owned());
        config.auth.oidc = Some(oidc);
    })
    .await;
    (provider, s)
}

fn ann(groups: &[&str]) -> Value {
    json!({
        "sub": "u-17", "preferred_username": "Ann.Lee", "email": "ann@example.org", "email_verified": true,
        "groups": groups,
    })
}

/// Sends a browser to the provider, and returns where it was sent.
async fn sent_to_provider(browser: &mut Browser<'_>, next: &str) -> String {
    let reply = browser.open(&format!("/login/oidc?next={next}")).await;
    assert_eq!((reply.status.as_u16(), reply.header("cache-control")), (303, "no-store"), "{reply:?}");
    reply.header("location").to_owned()
}

/// Returns as a browser does from another site: without the cookies that are for this site only.
async fn back(browser: &mut Browser<'_>, query: &str) -> Reply {
    let headers = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    browser.get(&format!("{CALLBACK}?{query}"), &headers).await
}

async fn log_in(provider: &Provider, browser: &mut Browser<'_>) -> Reply {
    let location = sent_to_provider(browser, "/runs").await;
    let query = provider.accept(&location);
    back(browser, &query).await
}

async fn people(s: &Service) -> Vec<(String, String)> {
    let people = s.get("/api/v1/people").await.json();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    people.as_array().expect("people").iter().map(|p| (text(&p["name"]), text(&p["role"]))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, role)| ((*name).to_owned(), (*role).to_owned())).collect()
}

#[track_caller]
fn refuses(reply: &Reply, status: u16, text: &str) {
    assert_eq!(reply.status.as_u16(), status, "{reply:?}");
    let words = reply.text.replace("<code>", "`").replace("</code>", "`").replace("&quot;", "\"");
    // A page begins a sentence with a capital letter.
    assert!(words.to_lowercase().contains(&text.to_lowercase()), "{text:?} is not in {reply:?}");
    assert!(!reply.headers.contains_key("set-cookie"), "no session is opened: {reply:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_login_adds_the_person_and_leads_on() {
    let (provider, s) = world().await;
    let mut browser = Browser::new(&s);
    let page = browser.open("/login?next=/runs").await.is(200);
    assert!(
        page.contains("href=\"/login/oidc?next=/runs\"") && page.contains("Log in with <bdi>Example &amp; Co</bdi>"),
        "{page}"
    );
    let reply = log_in(&provider, &mut browser).await;
    assert_eq!((reply.status.as_u16(), reply.header("refresh")), (200, "0; url=/runs"), "{reply:?}");
    let cookies: Vec<&str> = reply.headers.get_all("set-cookie").iter().map(|c| c.to_str().expect("ASCII")).collect();
    assert!(cookies[0].starts_with("skep=") && cookies[0].contains("SameSite=Strict"), "{cookies:?}");
    assert!(cookies.iter().all(|cookie| cookie.contains("HttpOnly")), "{cookies:?}");
    assert!(cookies[1].starts_with("skep-login=;") && cookies[1].contains("Max-Age=0"), "{cookies:?}");
    let runs = browser.open("/runs").await.is(200);
    assert!(runs.contains("user:ann.lee"), "{runs}");
    assert_eq!(people(&s).await, pairs(&[("ann.lee", "member")]));

    // The role follows the groups at each login.
    provider.account(ann(&["dev", "platform"]));
    assert_eq!(log_in(&provider, &mut Browser::new(&s)).await.status, 200);
    assert_eq!(people(&s).await, pairs(&[("ann.lee", "admin")]));
    browser.open("/audit").await.is(200);
    // The account is known by its subject, whatever its other claims say.
    provider.account(json!({
        "sub": "u-17", "preferred_username": "renamed", "email": "new@example.org", "email_verified": "true",
        "groups": "dev",
    }));
    assert_eq!(log_in(&provider, &mut Browser::new(&s)).await.status, 200);
    assert_eq!(people(&s).await, pairs(&[("ann.lee", "member")]));
    let audit = s.get("/api/v1/audit").await.text;
    for text in ["person.add", "person.grant", "session.open", "by a group of the identity provider", "oidc"] {
        assert!(audit.contains(text), "{text}: {audit}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_may_come_from_the_userinfo_endpoint() {
    let (provider, s) = world().await;
    provider.account(json!({"sub": "u-17"}));
    provider.userinfo(ann(&["dev"]));
    assert_eq!(log_in(&provider, &mut Browser::new(&s)).await.status, 200);
    assert_eq!(people(&s).await, pairs(&[("ann.lee", "member")]));
    provider.userinfo(json!({"sub": "u-18", "groups": ["platform"]}));
    refuses(&log_in(&provider, &mut Browser::new(&s)).await, 403, "another subject");
    provider.userinfo(json!({"groups": ["platform"]}));
    refuses(&log_in(&provider, &mut Browser::new(&s)).await, 403, "another subject");
    assert_eq!(people(&s).await, pairs(&[("ann.lee", "member")]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_token_with_any_fault_is_refused_in_words() {
    let (provider, s) = world().await;
    // A login that works, so that only the fault can be the reason.
    assert_eq!(log_in(&provider, &mut Browser::new(&s)).await.status, 200);
    provider.account(json!({"sub": "u-99", "preferred_username": "eve", "email": "eve@example.org",
        "email_verified": true, "groups": ["platform"]}));
    type Fault = (&'static str, &'static str, Value, &'static str);
    let faults: [Fault; 20] = [
        ("header", "alg", json!("none"), "algorithm that is not accepted"),
        ("header", "alg", json!("HS256"), "HS256, which is not accepted"),
        ("header", "alg", json!("RS256"), "a key that the provider does not publish"),
        ("header", "alg", json!("EdDSA"), "a key that the provider does not publish"),
        ("header", "kid", json!("unknown"), "a key that the provider does not publish"),
        ("claims", "iss", json!("https://evil.example"), "`iss` is not the configured issuer"),
        ("claims", "iss", json!([provider.issuer()]), "`iss` is not the configured issuer"),
        ("claims", "iss", Value::Null, "`iss` is missing"),
        ("claims", "aud", json!("another"), "`aud` does not name this client"),
        ("claims", "aud", json!([CLIENT, "another"]), "no claim `azp`"),
        ("claims", "aud", Value::Null, "`aud` is missing"),
        ("claims", "azp", json!("another"), "`azp` names another client"),
        ("claims", "nonce", json!("another"), "`nonce` is that of another login"),
        ("claims", "nonce", Value::Null, "`nonce` is that of another login"),
        ("claims", "exp", json!(now() - 90), "it has expired"),
        ("claims", "exp", Value::Null, "`exp` is missing"),
        ("claims", "iat", json!(now() + 90), "`iat` is missing or in the future"),
        ("claims", "iat", Value::Null, "`iat` is missing or in the future"),
        ("claims", "nbf", json!(now() + 90), "not valid yet"),
        ("claims", "sub", json!(""), "`sub` is not a text"),
    ];
    for (part, name, value, why) in faults {
        let wrong = value.clone();
        provider.tamper(move |header, claims| {
            let part = if part == "header" { header } else { claims };
            match &wrong {
                Value::Null => drop(part.remove(name)),
                value => drop(part.insert(name.to_owned(), value.clone())),
            }
        });
        let reply = log_in(&provider, &mut Browser::new(&s)).await;
        refuses(&reply, 403, "The ID token is not valid");
        refuses(&reply, 403, why);
        println!("{part} {name} {value}: refused");
    }
    assert_eq!(people(&s).await, pairs(&[("ann.lee", "member")]), "nobody was added");
    // Clocks may differ by a minute.
    provider.tamper(|_, claims| {
        claims.insert("exp".to_owned(), json!(now() - 30));
        claims.insert("iat".to_owned(), json!(now() + 30));
        claims.insert("aud".to_owned(), json!([CLIENT, "another"]));
        claims.insert("azp".to_owned(), json!(CLIENT));
    });
    assert_eq!(log_in(&provider, &mut Browser::new(&s)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_key_is_fetched_once_a_minute_at_most() {
    let (provider, s) = world().await;
    assert_eq!(log_in(&provider, &mut Browser::new(&s)).await.status, 200);
    assert_eq!(log_in(&provider, &mut Browser::new(&s)).await.status, 200);
    assert_eq!(provider.key_requests(), 1, "keys are kept");
    provider.rotate_key("second");
    assert_eq!(log_in(&provider, &mut Browser::new(&s)).await.status, 200);
    assert_eq!(provider.key_requests(), 2);
    // The same id, another key: a wrong signature, and no reason to fetch.
    provider.rotate_key("second");
    refuses(&log_in(&provider, &mut Browser::new(&s)).await, 403, "its signature is wrong");
    provider.rotate_key("third");
    for _ in 0..3 {
        refuses(&log_in(&provider, &mut Browser::new(&s)).await, 403, "does not publish (kid");
    }
    assert_eq!(provider.key_requests(), 2, "unknown keys do not make the service ask again and again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_ends_once_in_the_browser_that_began_it() {
    let (provider, s) = world().await;
    let (mut ann, mut other) = (Browser::new(&s), Browser::new(&s));
    let location = sent_to_provider(&mut ann, "/runs").await;
    let query = provider.accept(&location);
    let refused = "was not started in this browser";
    // Another browser, without a login and with one of its own.
    refuses(&back(&mut other, &query).await, 403, refused);
    sent_to_provider(&mut other, "/").await;
    refuses(&back(&mut other, &query).await, 403, refused);
    for (wrong, why) in [
        (query.replace("state=", "state=0"), refused),
        (query.split('&').next().expect("a code").to_owned(), refused),
        (query.replace("code=", "other="), "no usable code"),
        (format!("{query}&iss=https://evil.example"), "another issuer"),
        (query.replace("code=code-1", "error=access_denied&error_description=%3Cb%3Eno%3C/b%3E"), "access_denied"),
    ] {
        let reply = back(&mut ann, &wrong).await;
        assert!(!reply.text.contains("<b>no"), "{reply:?}");
        let status = if why == "no usable code" { 400 } else { 403 };
        refuses(&reply, status, why);
    }
    let mut copy = ann.clone();
    assert_eq!(back(&mut ann, &query).await.status, 200);
    // Used up: the browser has forgotten the login, and the provider the code.
    refuses(&back(&mut ann, &query).await, 403, refused);
    refuses(&back(&mut copy, &query).await, 403, "does not accept the code: invalid_grant no");
    // A page of another site is never led to, nor is a form of one accepted.
    for next in ["//evil.example", "https://evil.example"] {
        let mut browser = Browser::new(&s);
        let location = sent_to_provider(&mut browser, next).await;
        let query = provider.accept(&location);
        assert_eq!(back(&mut browser, &query).await.header("refresh"), "0; url=/");
    }
    let posted = ann.post(CALLBACK, &[("origin", "https://evil.example")], "code=1&state=2").await;
    assert_eq!(posted.status, 403, "{posted:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_those_whom_a_rule_lets_in_get_in() {
    let (provider, s) = world().await;
    let login = async |claims: Value| {
        provider.account(claims);
        log_in(&provider, &mut Browser::new(&s)).await
    };
    refuses(&login(ann(&["sales"])).await, 403, "claim `groups` names \"sales\"");
    provider.userinfo(json!({"sub": "1"}));
    let without_groups = json!({"sub": "1", "email": "a@example.org", "email_verified": true});
    refuses(&login(without_groups).await, 403, "sent no claim `groups`");
    let mut elsewhere = ann(&["platform"]);
    elsewhere["email"] = json!("ann@evil.example");
    refuses(&login(elsewhere).await, 403, "its domain may not log in");
    let mut unverified = ann(&["platform"]);
    unverified["email_verified"] = json!(false);
    refuses(&login(unverified).await, 403, "email_verified");
    assert_eq!(people(&s).await, pairs(&[]));

    // A person who was added by name is not taken for an account of that name, until an administrator links them.
    s.post("/api/v1/people", &json!({"name": "ann.lee", "role": "approver"})).await;
    refuses(&login(ann(&["dev"])).await, 409, "skep user link ann.lee");
    s.post("/api/v1/people/eve/link", &json!({"subject": "u-17"})).await.is_problem(404, "no_person");
    s.post("/api/v1/people/ann.lee/link", &json!({"subject": ""})).await.is_problem(422, "invalid");
    assert_eq!(s.post("/api/v1/people/ann.lee/link", &json!({"subject": "u-17"})).await.status, 200);
    assert_eq!(login(ann(&["platform"])).await.status, 200);
    assert_eq!(people(&s).await, pairs(&[("ann.lee", "admin")]));
    // Somebody who has left the groups does not get in again, and a disabled person does not, either.
    refuses(&login(ann(&[])).await, 403, "is empty");
    s.post("/api/v1/people/ann.lee/disable", &json!({})).await;
    refuses(&login(ann(&["platform"])).await, 403, "was disabled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_who_left_a_group_does_not_keep_its_role() {
    let provider = Provider::start().await;
    let mut oidc = settings(provider.issuer());
    oidc.rules.default_role = Some(AccessRole::Viewer);
    let s = service_configured(|config| {
        config.server.public_url = Some("http://localhost:7300".to_owned());
        config.auth.oidc = Some(oidc);
    })
    .await;
    for (groups, role) in [(["platform"].as_slice(), "admin"), (&[], "viewer"), (&["dev"], "member"), (&[], "viewer")] {
        provider.account(ann(groups));
        assert_eq!(log_in(&provider, &mut Browser::new(&s)).await.status, 200);
        assert_eq!(people(&s).await, pairs(&[("ann.lee", role)]));
    }
    // A role that no group gives was given by an administrator, and stays.
    assert_eq!(s.post("/api/v1/people/ann.lee/role", &json!({"role": "approver"})).await.status, 200);
    assert_eq!(log_in(&provider, &mut Browser::new(&s)).await.status, 200);
    assert_eq!(people(&s).await, pairs(&[("ann.lee", "approver")]));

    // An outage is told, and not taken for somebody in no group.
    provider.account(json!({"sub": "u-17"}));
    refuses(&log_in(&provider, &mut Browser::new(&s)).await, 503, "userinfo");
    assert_eq!(people(&s).await, pairs(&[("ann.lee", "approver")]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_of_a_project_give_a_role_there_which_goes_with_them() {
    let provider = Provider::start().await;
    let mut oidc = settings(provider.issuer());
    let of = |name: &str| [(AccessRole::Member, vec![format!("{name}-dev")])].into();
    let names = ["tally", "calc"].map(|name| (ProjectName::new(name).expect("a name"), of(name)));
    oidc.rules.project_groups = names.into();
    let s = service_configured(|config| {
        config.server.public_url = Some("http://localhost:7300".to_owned());
        config.auth.oidc = Some(oidc);
    })
    .await;
    let log_in_as = async |groups: &[&str]| {
        provider.account(ann(groups));
        log_in(&provider, &mut Browser::new(&s)).await
    };
    let roles = async || s.get("/api/v1/people").await.json()[0]["project_roles"].clone();
    assert_eq!(log_in_as(&["tally-dev"]).await.status, 200);
    assert_eq!(people(&s).await, pairs(&[("ann.lee", "none")]));
    assert_eq!(roles().await, json!({"tally": "member"}));
    // Another group, and a role in the whole service besides.
    assert_eq!(log_in_as(&["calc-dev", "platform"]).await.status, 200);
    assert_eq!(people(&s).await, pairs(&[("ann.lee", "admin")]));
    assert_eq!(roles().await, json!({"calc": "member"}));
    // Somebody in none of the groups does not get in again.
    refuses(&log_in_as(&["other"]).await, 403, "none of these groups");
    // Nor do tokens and open sessions keep what groups gave.
    assert_eq!((people(&s).await, roles().await), (pairs(&[("ann.lee", "none")]), json!({})));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_is_verified_only_by_what_names_it() {
    let (provider, s) = world().await;
    // The verified address is another one.
    provider.account(json!({"sub": "u-17", "email": "boss@example.org", "groups": ["dev"]}));
    provider.userinfo(json!({"sub": "u-17", "email": "ann@elsewhere.example", "email_verified": true}));
    refuses(&log_in(&provider, &mut Browser::new(&s)).await, 403, "email_verified");
    provider.userinfo(json!({"sub": "u-17", "email": "boss@example.org", "email_verified": true}));
    assert_eq!(log_in(&provider, &mut Browser::new(&s)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_does_not_work_is_reported_and_links_still_work() {
    let provider = Provider::start().await;
    let oidc = settings(format!("{}/", provider.issuer()));
    let s = service_configured(|config| {
        config.server.public_url = Some("http://localhost:7300".to_owned());
        config.auth.oidc = Some(oidc);
    })
    .await;
    let mut browser = Browser::new(&s);
    refuses(&browser.open("/login/oidc").await, 503, "auth.oidc.issuer must be the same text");
    // On another of its addresses, the browser is led to the one that the provider knows.
    let elsewhere = Request::builder().uri("/login/oidc?next=/runs").header("host", "127.0.0.1:7300");
    let elsewhere = s.send(elsewhere.body(Body::empty()).expect("a request")).await;
    assert_eq!(elsewhere.header("location"), "http://localhost:7300/login/oidc?next=/runs");
    let link = s.post("/api/v1/login-links", &json!({})).await.json();
    let path = link["path"].as_str().expect("a path").to_owned();
    browser.open(&path).await.is(200);
    assert_eq!(browser.submit(&path, &[]).await.status, 303);

    let none = service_configured(|_| {}).await;
    let mut browser = Browser::new(&none);
    refuses(&browser.open("/login/oidc").await, 404, "no identity provider is configured");
    assert!(!browser.open("/login").await.is(200).contains("Log in with"));
    none.post("/api/v1/people", &json!({"name": "ann", "role": "member"})).await;
    let refused = none.post("/api/v1/people/ann/link", &json!({"subject": "1"})).await;
    refused.is_problem(404, "no_single_sign_on");
}

/// A provider of somebody else, until it is dropped. `None`, and says so, without what it needs.
fn provider_of_others(name: &str, redirect_uri: &str) -> Option<(BackgroundProcess, String)> {
    let is_there = std::env::var_os("SKEP_TEST_PAGE_JUDGES")
        .is_some_and(|judges| Path::new(&judges).join("node_modules").join(name).is_dir());
    if !is_there {
        eprintln!("skipped: {name} is not there; scripts/test installs it if npm and chromium are there");
        return None;
    }
    let mut node = Command::new("node");
    node.arg(program("provider.mjs")).args([name, redirect_uri]);
    let mut child = node.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("node");
    let mut issuer = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut issuer).expect("a line");
    assert!(issuer.starts_with("http://"), "{name} does not start: {issuer:?}");
    Some((BackgroundProcess(child), issuer.trim().to_owned()))
}

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/single_sign_on").join(name)
}

/// Logs in at a provider of somebody else, in a real browser, at the real program.
fn logs_in_with(name: &str) {
    // The provider must know the address of the service before either of them starts.
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let pages = format!("http://{free}");
    let Some((_provider, issuer)) = provider_of_others(name, &format!("{pages}{CALLBACK}")) else { return };
    let cli = Cli::new();
    std::fs::create_dir_all(cli.path("data")).expect("a folder");
    std::fs::write(cli.path("secret"), "secret: % and +\n").expect("a file");
    std::fs::set_permissions(cli.path("secret"), PermissionsExt::from_mode(0o600)).expect("a mode");
    let config = format!(
        "[server]\nlisten = \"{free}\"\n[auth.oidc]\nissuer = \"{issuer}\"\nclient_id = \"skep\"\n\
         client_secret_file = \"{}\"\ndomains = [\"example.org\"]\n[auth.oidc.groups]\nmember = [\"dev\"]\n",
        cli.path("secret").display()
    );
    std::fs::write(cli.path("data/skep.toml"), config).expect("a configuration");
    cli.run(&["doctor"]).prints(&format!("{issuer} answers"));
    let _service = cli.spawn(&["serve"]);
    cli.until("the service responds", || cli.path("data/service.json").is_file());
    let mut browser = Command::new("node");
    let output = browser.arg(program("login.mjs")).arg(&pages).stdin(Stdio::null()).output().expect("node starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    cli.run(&["user", "list"]).exits_with(0).prints("ann.lee");
}

#[test]
fn people_log_in_with_oidc_provider() {
    logs_in_with("oidc-provider");
}

#[test]
fn people_log_in_with_oauth2_mock_server() {
    logs_in_with("oauth2-mock-server");
}
