//! The pages, without JavaScript: a person logs in by a link, starts a run, answers, approves and sees it land; what
//! comes from outside stays text; nobody else gets in.

mod judged;
mod many;
mod settings;
mod since;

use crate::support::browser::Browser;
use crate::support::rest::{Service, service};
use axum::body::Body;
use axum::http::Request;
use serde_json::json;
use skep::domain::Principal;
use skep::ports::sessions::{LoginMethod, Session};
use skep::service::{Caller, Via, sessions};

/// Text that would do harm if it became markup.
const HOSTILE: &str =
    "</textarea></title><script>alert(1)</script><img src=x onerror=alert(2)>\" onclick=\"x' \u{202e}{{x}}";

async fn logged_in(s: &Service) -> Browser<'_> {
    let mut browser = Browser::new(s);
    let link = s.post("/api/v1/login-links", &json!({})).await.json();
    let path = link["path"].as_str().expect("a path").to_owned();
    browser.open(&path).await.is(200);
    let reply = browser.submit(&path, &[]).await;
    assert_eq!((reply.status.as_u16(), reply.header("location")), (303, "/"), "{reply:?}");
    browser
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_starts_a_run_declines_once_approves_and_sees_it_land() {
    let s = service().await;
    let mut browser = logged_in(&s).await;
    let inbox = browser.open("/").await.is(200);
    assert!(inbox.contains("Nothing waits for you.") && inbox.contains("start the first run"), "{inbox}");

    // The form is sent as a browser sends it: with its hidden fields.
    browser.open("/runs/new").await.is(200);
    let origin = s.origin.display().to_string();
    let fields = [
        ("goal", "make it two\nand nothing else"),
        ("repo", &origin),
        ("checks", "grep -q two a.txt"),
        ("engine-dev", "command:cat \"$SKEP_NOTES_FILE\" >> a.txt; echo two >> a.txt"),
        ("do", "preview"),
    ];
    let ahead = browser.send_form("/runs", &fields).await.is(200);
    assert!(ahead.contains("What it would start with") && ahead.contains("make it two"), "{ahead}");
    let started = browser.send_form("/runs", &[&fields[..4], &[("do", "start")]].concat()).await;
    assert_eq!(started.status, 303, "{started:?}");
    let page = started.header("location").split('?').next().unwrap_or_default().to_owned();
    let id = page.trim_start_matches("/runs/").to_owned();
    s.until(&id, "blocked").await;

    let inbox = browser.open("/").await.is(200);
    assert!(inbox.contains("The merge waits for approval") && inbox.contains("(1) Inbox"), "{inbox}");
    let changes = browser.open(&format!("{page}/changes")).await.is(200);
    assert!(changes.contains("a.txt") && changes.contains("Your decision"), "{changes}");
    let split = browser.open(&format!("{page}/changes?view=split&at=0:2")).await.is(200);
    assert!(
        split.contains("diff split") && split.contains(">a.txt:2: </textarea>"),
        "a line is put into the reason: {split}"
    );
    let question = format!("/q/{id}/b1");
    let declined = browser.send_form(&question, &[("answer", "decline"), ("text", "a.txt:2: say it in words")]).await;
    assert_eq!(declined.header("location"), format!("{page}?notice=declined"), "{declined:?}");

    // The run is asked again, for another head. An approval of the head that was seen before is refused.
    let first_head =
        changes.split("name=\"seen\" value=\"").nth(1).and_then(|t| t.split('"').next()).expect("a head").to_owned();
    let block = loop {
        let run = s.until(&id, "blocked").await;
        let block = run["escalations"][0]["block"].as_str().map(str::to_owned);
        if let Some(block) = block.filter(|b| b != "b1") {
            break block;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    let question = format!("/q/{id}/{block}");
    let asked = browser.open(&question).await.is(200);
    let stale = browser.send(&question, &[("answer", "approve"), ("seen", &first_head)]).await;
    assert_eq!(stale.status, 412, "{stale:?}");
    assert!(stale.text.contains("nothing was approved"), "{stale:?}");
    assert!(!asked.contains(&first_head));
    let answered = browser.send_form(&question, &[("answer", "approve")]).await;
    assert_eq!(answered.header("location"), format!("{page}?notice=approved"), "{answered:?}");
    s.until(&id, "completed").await;

    let done = browser.open(&page).await.is(200);
    assert!(done.contains("Delivered as") && done.contains("say it in words"), "{done}");
    for (path, text) in [
        ("/output", "check"),
        ("/events?show=all", "landed as"),
        ("/events?show=important", "answered b1: no"),
        ("/cost", "By attempt"),
    ] {
        let html = browser.open(&format!("{page}{path}")).await.is(200);
        assert!(html.contains(text), "{path}: {html}");
    }
    let output = browser.open(&format!("{page}/output")).await.is(200);
    let log =
        output.split("<a href=\"").filter_map(|t| t.split('"').next()).find(|t| t.contains("/output/")).expect("a log");
    browser.open(log).await.is(200);
    let audit = browser.open("/audit").await.is(200);
    for text in ["session.open", "run.open", "run.answer", "local:tester", "page"] {
        assert!(audit.contains(text), "{text}: {audit}");
    }
    let repeated = browser.open(&question).await.is(200);
    assert!(repeated.contains("This question is answered"), "{repeated}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_with_a_mistake_keeps_what_was_typed_and_a_repeated_one_starts_one_run() {
    let s = service().await;
    let mut browser = logged_in(&s).await;
    browser.open("/runs/new").await.is(200);
    let wrong = browser.send_form("/runs", &[("goal", HOSTILE), ("repo", "/nothing/here"), ("do", "start")]).await;
    assert_eq!(wrong.status, 422, "{wrong:?}");
    assert!(wrong.text.contains("/nothing/here") && wrong.text.contains("role=\"alert\""), "{wrong:?}");
    is_clean(&wrong.text);

    let origin = s.origin.display().to_string();
    let fields =
        [("goal", "x"), ("repo", origin.as_str()), ("engine-dev", "command:echo two >> a.txt"), ("checks", "true")];
    browser.open("/runs/new").await.is(200);
    let (first, second) = (browser.send_form("/runs", &fields).await, browser.send_form("/runs", &fields).await);
    assert_eq!(first.status, 303, "{first:?}");
    let id = |reply: &crate::support::rest::Reply| reply.header("location").split('?').next().map(str::to_owned);
    assert_eq!(id(&first), id(&second), "the same form is the same request");
    assert_eq!(s.get("/api/v1/runs").await.json().as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_form_of_a_run_takes_its_limits() {
    let s = service().await;
    let mut browser = logged_in(&s).await;
    browser.open("/runs/new").await.is(200);
    let origin = s.origin.display().to_string();
    let fields = [
        ("goal", "make it two"),
        ("repo", &origin),
        ("checks", "true"),
        ("engine-dev", "command:echo two >> a.txt"),
        ("limit-cost", "1.25"),
        ("limit-time", "90"),
        ("limit-attempts", "5"),
        ("limit-rounds", "0"),
        ("limit-tokens", "100000"),
        ("limit-turns", ""),
    ];
    for (limit, text) in [("limit-cost", "much"), ("limit-time", "1h"), ("limit-attempts", "0")] {
        let wrong: Vec<_> = fields.iter().map(|(n, v)| (*n, if *n == limit { text } else { *v })).collect();
        let reply = browser.send_form("/runs", &wrong).await;
        assert_eq!(reply.status, 422, "{limit}: {reply:?}");
        // What was typed is still there to be corrected.
        assert!(
            reply.text.contains(&format!("value=\"{text}\"")) && reply.text.contains("<details class=\"more\" open")
        );
    }
    assert_eq!(s.get("/api/v1/runs").await.json(), json!([]), "nothing was started");
    let preview = browser.send_form("/runs", &[&fields[..], &[("do", "preview")]].concat()).await.is(200);
    assert!(preview.contains("$1.25, 100,000 tokens, 1 h 30 m, 0 rounds of rework, 5 attempts"), "{preview}");
    browser.open("/runs/new").await.is(200);
    let started = browser.send_form("/runs", &fields).await;
    let run = started.header("location").split('?').next().expect("a path").to_owned();
    let limits = s.get(&format!("/api/v1{run}")).await.json()["budget"]["limits"].clone();
    let expected =
        [("cost_micros", 1_250_000), ("timeout_secs", 5_400), ("attempts", 5), ("rounds", 0), ("tokens", 100_000)];
    for (name, amount) in expected {
        assert_eq!(limits[name], amount, "{name}: {limits}");
    }
    assert!(limits["turns"].is_null(), "as configured: {limits}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_from_outside_never_becomes_markup() {
    let s = service().await;
    let mut browser = logged_in(&s).await;
    let mut new = s.new_run(HOSTILE);
    new["engines"]["dev"] = json!(format!(
        "command:printf '%s\\n' '{}' | tee -a a.txt; printf '\\033[31mred\\033[0m\\n'; echo two >> '<b>x&y.txt'; exit 3",
        HOSTILE.replace('\'', "")
    ));
    let run = s.post("/api/v1/runs", &new).await.json();
    let id = run["id"].as_str().expect("an id").to_owned();
    let blocked = s.until(&id, "blocked").await;
    let block = blocked["escalations"][0]["block"].as_str().expect("a block");
    let mut paths = vec![
        "/".to_owned(),
        "/runs".to_owned(),
        "/projects".to_owned(),
        "/projects/origin".to_owned(),
        "/spending".to_owned(),
        "/spending?by=run".to_owned(),
        "/agents".to_owned(),
        "/deployments".to_owned(),
        "/audit".to_owned(),
        "/me".to_owned(),
        "/menu".to_owned(),
        "/menu?q=script".to_owned(),
        "/people".to_owned(),
        format!("/q/{id}/{block}"),
        "/runs/new".to_owned(),
    ];
    paths.extend(["", "/changes", "/output", "/events?show=all", "/cost"].map(|p| format!("/runs/{id}{p}")));
    let logs = s.get(&format!("/api/v1/runs/{id}/logs")).await.json();
    let digests = logs.as_array().expect("logs").iter().filter_map(|l| l["digest"].as_str());
    paths.extend(digests.map(|digest| format!("/runs/{id}/output/{digest}?q=%3Cscript%3E\"'")));
    for path in paths {
        let html = browser.open(&path).await.is(200);
        is_clean(&html);
        assert!(html.len() < 400_000, "{path}: {} bytes", html.len());
    }
    for path in ["/runs?status=%3Cscript%3E", "/runs/%3Cscript%3E", "/projects/%22%3E", "/q/0000/b1"] {
        let reply = browser.open(path).await;
        assert!(reply.status.is_client_error(), "{path}: {reply:?}");
        is_clean(&reply.text);
        assert!(reply.text.contains("</html>") && !reply.text.is_empty(), "{path}: {reply:?}");
    }
}

/// Asserts that a page has only Skep's own markup.
#[track_caller]
fn is_clean(html: &str) {
    // A field for text holds what was typed, as it was typed.
    let fields = html.split("<textarea").enumerate();
    let html: String = fields
        .map(|(n, t)| if n == 0 { t } else { t.split_once("</textarea>").map_or("", |(_, rest)| rest) })
        .collect();
    let html = html.as_str();
    let lower = html.to_lowercase();
    for bad in ["<script>", "<img", "onerror=alert(2)>", " style=", "<style", "javascript:", "href=\"//", "src=\"http"]
    {
        assert!(!lower.contains(bad), "{bad}: {html}");
    }
    // No attribute of an event: a quote from outside must not have ended an attribute.
    for tag in html.split('<').skip(1).filter_map(|t| t.split('>').next()) {
        assert!(!tag.contains(" onclick=\"") && !tag.contains(" onerror="), "{tag}");
    }
    assert!(!html.contains('\u{202e}'), "a hidden character is shown as its code: {html}");
    assert_eq!(lower.matches("<script").count(), lower.matches("<script type=\"module\" src=\"/assets/").count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deployments_are_shown_and_answered_on_their_pages() {
    use skep::domain::deployment::{
        Cause, CriterionRecord, Method, Rollout, RolloutState, Sponsor, StepRecord, Target,
    };
    use skep::domain::{ProjectName, RunId, Sha, Timestamp};
    let mut s = service().await;
    s.open_run("make it two").await;
    let target = Target {
        name: "test".into(),
        project: ProjectName::new("origin").unwrap(),
        method: Method::Command { command: "true".into() },
        runner: None,
        host: None,
        files: Vec::new(),
        env: Default::default(),
        secrets: Vec::new(),
        secrets_elsewhere: [("STRIPE_KEY".to_owned(), HOSTILE.to_owned())].into(),
        on_land: false,
        needs_approval: true,
        timeout_secs: 60,
        keep: 3,
        rolls_back: true,
        is_reversible: true,
        url: Some("http://127.0.0.1:1".into()),
        probe_secs: 60,
        branch: None,
        is_public: false,
        is_on_forge: false,
        suspends_unsponsored: false,
        criteria: Vec::new(),
    };
    s.state.services.deploy.targets = vec![target].into();
    s.router = skep::http::router(s.state.clone());
    let sha = Sha("b".repeat(40));
    let step = StepRecord {
        sha: sha.clone(),
        passed: false,
        changed: true,
        log: format!("{HOSTILE}\nboom"),
        at: Timestamp(3),
        ms: 2_000,
    };
    let criterion = CriterionRecord {
        name: "health".into(),
        test: "GET /".into(),
        expected: "200".into(),
        got: HOSTILE.into(),
        passed: false,
        at: Timestamp(4),
        ms: 5,
    };
    let failed = Rollout {
        target: "test".into(),
        number: 0,
        id: RunId::try_from("0192f0c1aaaa7bbb8ccc0123456789ab".to_owned()).unwrap(),
        key: "one".into(),
        sha,
        previous: None,
        cause: Cause::Requested { by: "user:ann".into() },
        state: RolloutState::Failed,
        proof: None,
        approved_by: None,
        why: HOSTILE.into(),
        deployment: Some(step),
        criteria: vec![criterion],
        rollback: None,
        rollback_criteria: Vec::new(),
        created_at: Timestamp(1),
        started_at: Some(Timestamp(2)),
        ended_at: Some(Timestamp(5)),
    };
    let waiting = Rollout { key: "two".into(), state: RolloutState::Waiting, ended_at: None, ..failed.clone() };
    let store = s.state.services.deploy.store.clone();
    for rollout in [&failed, &waiting] {
        store.add_rollout(rollout).await.unwrap().unwrap();
    }
    let sponsor = Sponsor {
        name: format!("Acme {HOSTILE}"),
        project: ProjectName::new("origin").unwrap(),
        hosting: true,
        domain: false,
        monthly_micros: Some(20_000_000),
        is_public: false,
        notes: String::new(),
        since: Timestamp(1),
        paused_at: None,
        until: None,
    };
    let ended = Sponsor { name: "Gone Ltd".to_owned(), until: Some(Timestamp(2)), ..sponsor.clone() };
    for sponsor in [&sponsor, &ended] {
        store.put_sponsor(sponsor).await.unwrap();
    }
    let mut browser = logged_in(&s).await;
    let project = browser.open("/projects/origin").await.is(200);
    assert!(project.contains("Acme ") && project.contains("hosting, $20.00 a month"), "{project}");
    assert!(!project.contains("Gone Ltd"));
    let inbox = browser.open("/").await.is(200);
    assert!(inbox.contains("rollout 2 waits for approval"), "{inbox}");
    for path in ["/deployments", "/deployments/test", "/deployments/test/1", "/projects/origin"] {
        let html = browser.open(path).await.is(200);
        is_clean(&html);
        assert!(html.contains("test"), "{path}: {html}");
    }
    assert!(browser.open("/deployments/test/1").await.is(200).contains("boom"));
    assert_eq!(browser.open("/deployments/nowhere").await.status, 404);
    assert_eq!(browser.open("/deployments/test/9").await.status, 404);
    browser.open("/deployments/test").await.is(200);
    let answered = browser.send_form("/deployments/test/approve", &[]).await;
    assert_eq!(answered.header("location"), "/deployments/test?notice=approved", "{answered:?}");
    let approved = store.rollout("test", 2).await.unwrap().unwrap();
    assert!(approved.approved_by.is_some_and(|by| by.is_person()));
    browser.open("/deployments/test").await.is(200);
    let suspended = browser.send_form("/deployments/test/suspend", &[("why", "a fault")]).await;
    assert_eq!(suspended.status, 303, "{suspended:?}");
    assert!(browser.open("/deployments/test").await.is(200).contains("a fault"));
    let other = browser.send_form("/deployments/test/explode", &[]).await;
    assert_eq!(other.status, 404, "{other:?}");

    // A week after its last sponsor stopped, nothing new is deployed to a target that wants it so.
    s.state.services.deploy.targets =
        s.state.services.deploy.targets.iter().map(|t| Target { suspends_unsponsored: true, ..t.clone() }).collect();
    s.router = skep::http::router(s.state.clone());
    store.put_sponsor(&Sponsor { paused_at: Some(Timestamp(2)), ..sponsor }).await.unwrap();
    let mut browser = logged_in(&s).await;
    browser.open("/deployments/test").await.is(200);
    browser.send_form("/deployments/test/resume", &[]).await;
    let html = browser.open("/deployments/test").await.is(200);
    assert!(html.contains("its hosting has not been sponsored since 1970-01-01"), "{html}");
    assert!(html.contains("skep sponsor add NAME --project origin --hosting") && html.contains("STRIPE_KEY"), "{html}");
    let refused = browser.send_form("/deployments/test/deploy", &[]).await;
    assert_eq!(refused.status, 409, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_has_the_headers_and_needs_a_session() {
    let s = service().await;
    let mut browser = logged_in(&s).await;
    let run = s.open_run("make it two").await["id"].as_str().expect("an id").to_owned();
    let mut stranger = Browser::new(&s);
    for path in [
        "/",
        "/runs",
        "/runs/new",
        "/projects",
        "/spending",
        "/agents",
        "/deployments",
        "/audit",
        "/me",
        "/people",
        "/menu",
        &format!("/runs/{run}"),
        "/live",
        "/nothing/x",
    ] {
        let refused = stranger.open(path).await;
        if path == "/nothing/x" {
            // Not an address of a page, and no page was asked for: the REST interface answers, which wants a token.
            assert_eq!(refused.status, 401);
            continue;
        }
        assert_eq!(refused.status, 303, "{path}: {refused:?}");
        assert!(refused.header("location").starts_with("/login?next="), "{path}: {refused:?}");
        // A token opens no page, however valid it is.
        let token = s.get(path).await;
        assert_eq!(token.status, 303, "{path}: {token:?}");
        if path == "/live" {
            continue;
        }
        let page = browser.open(path).await;
        assert_eq!(page.status, 200, "{path}: {page:?}");
        let policy = page.header("content-security-policy");
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.contains(part) && !policy.contains("unsafe"), "{path}: {policy}");
        }
        assert_eq!((page.header("x-content-type-options"), page.header("referrer-policy")), ("nosniff", "same-origin"));
        assert_eq!(page.header("cache-control"), "private, no-cache");
        let tag = page.header("etag").to_owned();
        let again = browser.get(path, &[("if-none-match", &tag)]).await;
        assert!(again.status == 304 || again.header("etag") != tag, "{path}: {again:?}");
        // Everything that the page loads exists here.
        for asset in page.text.split(['"']).filter(|t| t.starts_with("/assets/") || *t == "/favicon.svg") {
            let file = stranger.open(asset).await;
            assert_eq!(file.status, 200, "{asset}");
            assert!(file.text.len() <= 25 * 1024, "{asset}: {} bytes", file.text.len());
        }
    }
    // A session opens no REST route, and the cookie is out of reach of scripts and other sites.
    let rest = browser.open("/api/v1/runs").await;
    rest.is_problem(401, "no_token");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_gets_a_page_where_no_route_has_the_address() {
    let s = service().await;
    let mut browser = logged_in(&s).await;
    let accept = [("accept", "text/html,application/xhtml+xml;q=0.9"), ("sec-fetch-site", "none")];
    for path in ["/nothing", "/nothing/x", "/api/v1/nothing"] {
        let page = browser.get(path, &accept).await;
        assert_eq!(page.status, 404, "{path}: {page:?}");
        assert!(
            page.text.contains("There is no such page") && page.text.contains("href=\"/runs\""),
            "{path}: {page:?}"
        );
        assert!(page.header("content-security-policy").contains("default-src 'none'"), "{path}: {page:?}");
        let login = Browser::new(&s).get(path, &accept).await;
        assert_eq!(
            (login.status.as_u16(), login.header("location").starts_with("/login?next=")),
            (303, true),
            "{path}"
        );
        // Programs get the answer of the interface.
        Browser::new(&s).get(path, &[("accept", "application/json")]).await.is_problem(401, "no_token");
    }
    Browser::new(&s).get("/api/v1/runs", &accept).await.is_problem(401, "no_token");
    let other = Browser::new(&s).get("/nothing", &[accept[0], ("origin", "https://evil.example")]).await;
    assert_eq!(other.status, 403, "{other:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn login_links_work_once_and_sessions_end() {
    let s = service().await;
    let link = s.post("/api/v1/login-links", &json!({})).await;
    assert_eq!(link.status, 201, "{link:?}");
    let path = link.json()["path"].as_str().expect("a path").to_owned();
    let mut browser = Browser::new(&s);
    // Previews and scanners open links: that must not use them up.
    for _ in 0..2 {
        assert!(browser.open(&path).await.is(200).contains("This link logs you in"));
    }
    let opened = browser.submit(&path, &[]).await;
    assert_eq!(opened.status, 303, "{opened:?}");
    let cookie = opened.header("set-cookie").to_owned();
    for part in ["skep=", "HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="] {
        assert!(cookie.contains(part), "{part}: {cookie}");
    }
    let secret = cookie.split(['=', ';']).nth(1).expect("a value").to_owned();
    assert!(secret.len() == 64 && !path.contains(&secret), "{cookie}");
    let mut second = Browser::new(&s);
    assert!(second.open(&path).await.is(200).contains("does not work"));
    assert_eq!(second.submit(&path, &[]).await.status, 403);
    assert_eq!(second.submit("/login/link/0000", &[]).await.status, 403);

    // Behind a proxy that terminates TLS, the cookie is bound to it.
    let link = s.post("/api/v1/login-links", &json!({})).await.json();
    let path = link["path"].as_str().expect("a path").to_owned();
    let reply = second.post(&path, &[("origin", "https://localhost:7300")], "").await;
    assert!(reply.header("set-cookie").starts_with("__Host-skep=") && reply.header("set-cookie").contains("Secure"));

    // Only digests are stored, and a session that is too old, or was not used for long, is over.
    let services = &s.state.services;
    let caller = sessions::caller(services, &secret).await.expect("an answer").expect("a session");
    assert_eq!(caller.principal.as_str(), "local:tester");
    let now = services.clock.now();
    let digest = |secret: &str| {
        use sha2::Digest;
        sha2::Sha256::digest(secret).iter().map(|b| format!("{b:02x}")).collect::<String>()
    };
    let old = |secret: &str, created: u64, seen: u64, principal: &str| Session {
        digest: digest(secret),
        principal: Principal::from(principal),
        created_at: skep::domain::Timestamp(now.0 - i64::try_from(created * 1000).expect("a time")),
        seen_at: skep::domain::Timestamp(now.0 - i64::try_from(seen * 1000).expect("a time")),
        ends_at: skep::domain::Timestamp(now.0 + i64::try_from((sessions::MAX_SECS - created) * 1000).expect("a time")),
        login: LoginMethod::Link,
        agent: String::new(),
    };
    for (name, session, works) in [
        ("fresh", old("fresh", 60, 60, "local:ann"), true),
        ("idle", old("idle", sessions::IDLE_SECS + 9, sessions::IDLE_SECS + 1, "local:ann"), false),
        ("old", old("old", sessions::MAX_SECS, 1, "local:ann"), false),
        ("program", old("program", 60, 60, "token:ci"), false),
    ] {
        s.ports.sessions.add_session(&session).await.expect("stored");
        assert_eq!(sessions::caller(services, name).await.expect("an answer").is_some(), works, "{name}");
    }
    // Logging out ends it here and now.
    browser.open("/").await.is(200);
    let out = browser.send_form("/logout", &[]).await;
    assert_eq!(out.header("location"), "/login", "{out:?}");
    assert!(sessions::caller(services, &secret).await.expect("an answer").is_none());

    // Programs and callers without the right get no link.
    let program = Caller::with_all_rights(Principal::from("token:ci"), Via::Rest);
    assert_eq!(sessions::new_link(services, &program, None).await.expect_err("refused").code, "not_a_person");
    let reader = Caller { rights: [skep::service::Right::Read].into(), ..caller };
    assert_eq!(sessions::new_link(services, &reader, None).await.expect_err("refused").code, "missing_right");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_sites_can_link_but_not_act() {
    let s = service().await;
    let mut browser = logged_in(&s).await;
    let run = s.open_run("make it two").await["id"].as_str().expect("an id").to_owned();
    s.until(&run, "blocked").await;
    let page = browser.open(&format!("/q/{run}/b1")).await.is(200);
    let token = page
        .split("name=\"form_token\" value=\"")
        .nth(1)
        .and_then(|t| t.split('"').next())
        .expect("a token")
        .to_owned();
    let seen =
        page.split("name=\"seen\" value=\"").nth(1).and_then(|t| t.split('"').next()).expect("a head").to_owned();
    let body = format!("form_token={token}&answer=approve&seen={}", seen.replace(' ', "+"));
    let question = format!("/q/{run}/b1");
    for headers in [
        &[("origin", "http://evil.example")][..],
        &[("origin", "null")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")],
        &[],
    ] {
        let refused = browser.post(&question, headers, &body).await;
        assert_eq!(refused.status, 403, "{headers:?}: {refused:?}");
    }
    let own = [("origin", "http://localhost:7300")];
    for wrong in ["", "form_token=&answer=approve", &body.replace(&token, &"0".repeat(token.len()))] {
        let refused = browser.post(&question, &own, wrong).await;
        assert_eq!(refused.status, 403, "{wrong}: {refused:?}");
    }
    // Reading changes nothing, whatever the address says.
    browser.open(&format!("/q/{run}/b1?answer=approve&form_token={token}")).await.is(200);
    browser.open(&format!("/runs/{run}/cancel")).await;
    assert_eq!(s.get(&format!("/api/v1/runs/{run}")).await.json()["status"], "blocked");

    // A link on another site opens a page; a script or a frame of it does not.
    let navigate = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    let mut fresh = Browser::new(&s);
    let led = fresh.get(&format!("/runs/{run}"), &navigate).await;
    assert_eq!((led.status.as_u16(), led.header("refresh")), (200, format!("0; url=/runs/{run}").as_str()), "{led:?}");
    assert!(!led.text.contains("make it two"), "{led:?}");
    let framed = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")];
    assert_eq!(browser.get("/", &framed).await.status, 403);
    let scripted = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")];
    assert_eq!(browser.get("/", &scripted).await.status, 403);
    let foreign = Request::builder().uri("/").header("host", "evil.example").body(Body::empty()).expect("a request");
    assert_eq!(s.send(foreign).await.status, 421);

    // The token of the session works, with the proof of the browser.
    let accepted = browser.post(&question, &own, &body).await;
    assert_eq!(accepted.status, 303, "{accepted:?}");
    s.until(&run, "completed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn actions_and_questions_have_their_forms() {
    let s = service().await;
    let mut browser = logged_in(&s).await;
    let run = s.open_run("make it two").await["id"].as_str().expect("an id").to_owned();
    s.until(&run, "blocked").await;
    let page = format!("/runs/{run}");
    browser.open(&page).await.is(200);
    for (action, fields, status) in [
        ("pause", &[][..], "paused"),
        ("resume", &[], "blocked"),
        ("raise", &[("dollars", "1.50"), ("rounds", "2"), ("minutes", "5")], "blocked"),
    ] {
        let reply = browser.send_form(&format!("{page}/{action}"), fields).await;
        assert_eq!(reply.status, 303, "{action}: {reply:?}");
        let shown = browser.open(reply.header("location")).await.is(200);
        assert!(shown.contains("class=\"notice\""), "{shown}");
        assert_eq!(s.get(&format!("/api/v1{page}")).await.json()["status"], status, "{action}");
    }
    for bad in [("dollars", "much"), ("rounds", "-1"), ("dollars", "")] {
        let reply = browser.send_form(&format!("{page}/raise"), &[bad]).await;
        assert_eq!(reply.status, 422, "{bad:?}: {reply:?}");
    }
    assert_eq!(browser.send_form(&format!("{page}/dance"), &[]).await.status, 404);
    // A decline needs a reason: without one it would end the run.
    assert_eq!(browser.send_form(&format!("/q/{run}/b1"), &[("answer", "decline"), ("text", " ")]).await.status, 422);
    // An approval has one way in, which names what was seen.
    assert_eq!(browser.send_form(&format!("/q/{run}/b1"), &[("answer", "continue")]).await.status, 422);
    let cancelled = browser.send_form(&format!("{page}/cancel"), &[("why", HOSTILE)]).await;
    assert_eq!(cancelled.status, 303, "{cancelled:?}");
    s.until(&run, "cancelled").await;
    is_clean(&browser.open(&page).await.is(200));
    let retried = browser.send_form(&format!("{page}/retry"), &[]).await;
    assert!(retried.header("location").contains("notice=started"), "{retried:?}");
    let listed = browser.open("/runs?open=1&project=origin").await.is(200);
    assert!(listed.contains("make it two"), "{listed}");
    let dark = browser.send_form("/prefs", &[("theme", "dark"), ("next", "/runs")]).await;
    assert_eq!(dark.header("location"), "/runs");
    assert!(browser.open("/runs").await.is(200).contains("data-theme=\"dark\""));
    let elsewhere = browser.send_form("/prefs", &[("theme", "light"), ("next", "//evil.example")]).await;
    assert_eq!(elsewhere.header("location"), "/");
}
