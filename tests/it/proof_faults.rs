//! Faults of providers during whole runs: each ends in a wait, a fallback, a retry, or a question that a person can act
//! on.

use crate::support::baseline::{Baseline, ROLES, RUN, usual};
use crate::support::models::{KEY, Models, Reply, Request, call, status};
use serde_json::{Value, json};
use skep::providers::settings::Api;
use std::sync::Mutex;

/// No merge approval, so that every question is about engines.
const NO_MERGE_QUESTION: &str = "[policy]\napprove_merge = false\n";

/// Standard story in which the next calls of a model fail first.
fn with_faults(faults: Vec<(&'static str, Reply)>) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    let faults = Mutex::new(faults);
    move |request| {
        let mut faults = faults.lock().unwrap();
        match faults.iter().position(|(model, _)| *model == request.model()) {
            Some(at) => faults.remove(at).1,
            None => usual(request),
        }
    }
}

fn refused(header: &'static str, value: &str) -> Reply {
    Reply::Status(429, vec![(header, value.to_owned())], r#"{"error":{"message":"slow down"}}"#.to_owned())
}

/// How the attempts ended, oldest first: step, engine, ending.
fn ends(run: &Value) -> Vec<String> {
    let attempts = run["attempts"].as_array().unwrap().iter();
    let text = |v: &Value| v.as_str().unwrap_or("-").to_owned();
    attempts.map(|a| format!("{} {} {}", text(&a["step"]), text(&a["engine"]), text(&a["ended"]["ending"]))).collect()
}

#[track_caller]
fn question<'a>(run: &'a Value, code: &str) -> &'a str {
    let asked = run["escalations"].as_array().unwrap();
    assert_eq!((asked.len(), asked[0]["code"].as_str()), (1, Some(code)), "{asked:?}");
    asked[0]["why"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_is_asked_for_by_its_place_and_the_run_continues_with_the_right_one() {
    let checks_key = |request: &Request| match format!("{:?}", request.headers).contains(KEY) {
        true => usual(request),
        false => status(401),
    };
    for serves in [false, true] {
        let baseline =
            Baseline::new(Models::responding(checks_key).await, Api::OpenAi, &format!("{ROLES}{NO_MERGE_QUESTION}"));
        baseline.put_key("sk-old-and-revoked-0815");
        let _service = serves.then(|| baseline.serve());
        baseline.run(RUN).exits_with(4).prints("put a working key into");
        let run = baseline.show();
        let (why, place) = (question(&run, "engine"), baseline.cli.path("key"));
        assert!(why.contains("acme/strong") && why.contains("401"), "{why}");
        assert!(why.contains("put a working key into") && why.contains(place.to_str().unwrap()), "{why}");
        assert!(!run.to_string().contains("0815"));
        assert_eq!(run["budget"]["spent"]["tokens"], 0, "a refused call costs nothing");

        baseline.put_key(KEY);
        let id = run["short_id"].as_str().unwrap();
        baseline.run(&["unblock", id, "--follow"]).exits_with(0);
        assert_eq!(baseline.landed(), "b");
        assert_eq!(
            ends(&baseline.show()),
            [
                "plan llm:acme/strong unavailable",
                "plan llm:acme/strong succeeded",
                "develop llm:acme/cheap succeeded",
                "review llm:acme/judge succeeded"
            ]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_the_vault_is_asked_for_used_and_never_written() {
    let checks_key = |request: &Request| match format!("{:?}", request.headers).contains(KEY) {
        true => usual(request),
        false => status(401),
    };
    let baseline =
        Baseline::new(Models::responding(checks_key).await, Api::OpenAi, &format!("{ROLES}{NO_MERGE_QUESTION}"));
    let text = std::fs::read_to_string(baseline.cli.path("data/skep.toml")).unwrap();
    let named = text.lines().map(|l| if l.starts_with("key_file") { "key_secret = \"acme\"" } else { l });
    baseline.configure(&named.collect::<Vec<_>>().join("\n"));
    let _service = baseline.serve();
    baseline.run(RUN).exits_with(4).prints("skep secret set acme");
    let key = baseline.cli.path("key");
    baseline.run(&["secret", "set", "acme", "--from-file", key.to_str().unwrap()]).exits_with(0);
    baseline.run(&["unblock", baseline.show()["short_id"].as_str().unwrap(), "--follow"]).exits_with(0);
    assert_eq!(baseline.landed(), "b");
    let store = std::fs::read(baseline.cli.path("data/skep.db")).unwrap();
    assert!(!store.windows(KEY.len()).any(|w| w == KEY.as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_a_command_finds_is_in_no_log_no_journal_and_no_conversation() {
    // The dev reads the key file with a command, which a weak sandbox allows. The output is redacted anyway.
    let finds = |request: &Request| match (request.model(), request.turn()) {
        ("cheap", 0) => call("run", json!({"command": "cat \"$(dirname \"$PWD\")\"/../../../key; true"})),
        ("cheap", 1) => call("run", json!({"command": format!("echo {KEY}; echo {KEY} | base64")})),
        ("cheap", turn) => crate::support::baseline::edits(turn - 1),
        _ => usual(request),
    };
    let baseline = Baseline::new(Models::responding(finds).await, Api::Anthropic, ROLES);
    baseline.run(RUN).exits_with(0);
    let reported = baseline
        .models
        .seen()
        .iter()
        .filter(|r| r.body["messages"].to_string().contains("redacted:key of acme"))
        .count();
    assert!(reported > 0);
    for file in ["data/skep.db", "data/skep.db-wal"] {
        let bytes = std::fs::read(baseline.cli.path(file)).unwrap_or_default();
        assert!(!bytes.windows(KEY.len()).any(|w| w == KEY.as_bytes()), "{file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_model_is_named_with_the_setting_that_chose_it() {
    let missing = r#"{"error":{"message":"The model `cheap` does not exist","code":"model_not_found"}}"#;
    let faults = vec![("cheap", Reply::Status(404, vec![], missing.to_owned()))];
    let baseline = Baseline::new(
        Models::responding(with_faults(faults)).await,
        Api::OpenAi,
        &format!("{ROLES}{NO_MERGE_QUESTION}"),
    );
    baseline.run(RUN).exits_with(4);
    let run = baseline.show();
    let why = question(&run, "engine");
    for part in ["acme does not serve the model cheap", "role.dev.model", "providers.acme.base_url"] {
        assert!(why.contains(part), "{part} in {why}");
    }
    // The server now serves the model.
    baseline.run(&["unblock", run["short_id"].as_str().unwrap(), "--follow"]).exits_with(0);
    assert_eq!(baseline.landed(), "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_waited_out_without_using_a_try_and_shown_meanwhile() {
    let faults = vec![("cheap", refused("retry-after", "5"))];
    // The attempt would time out before the quota resets, so the run is parked.
    let more = format!("{ROLES}{NO_MERGE_QUESTION}[steps.develop]\ntimeout = \"4s\"\ntries = 1\n");
    let baseline = Baseline::new(Models::responding(with_faults(faults)).await, Api::Anthropic, &more);
    let _service = baseline.serve();
    baseline.run(&[RUN, &["--detach"]].concat()).exits_with(0);
    baseline.until("it waits", || baseline.cli.show(&baseline.cli.newest())["wake_at"].is_i64());
    let listed = baseline.run(&["runs"]).exits_with(0).out;
    assert!(listed.contains("until ") && listed.contains("answered 429"), "{listed}");
    let waiting = baseline.show();
    assert_eq!(
        (&waiting["escalations"], &waiting["pending_effects"]),
        (&serde_json::json!([]), &serde_json::json!([]))
    );
    let (calls, began) = (baseline.models.seen().len(), std::time::Instant::now());
    baseline.until("it goes on by itself", || baseline.cli.show(&baseline.cli.newest())["outcome"].is_object());
    assert!(began.elapsed().as_millis() > 1_500, "the run waited for the reset");
    assert!(baseline.models.seen().len() > calls);
    let run = baseline.show();
    assert_eq!(baseline.landed(), "b");
    assert_eq!((&run["tasks"][0]["tries"], &run["cooldowns"]), (&1.into(), &serde_json::json!({})), "{run}");
    assert_eq!(ends(&run)[1..3], ["develop llm:acme/cheap unavailable", "develop llm:acme/cheap succeeded"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_quota_is_waited_out_within_the_attempt() {
    let faults =
        vec![("cheap", refused("retry-after", "1")), ("cheap", refused("x-ratelimit-reset-requests", "900ms"))];
    let baseline = Baseline::new(Models::responding(with_faults(faults)).await, Api::OpenAi, ROLES);
    baseline.run(RUN).exits_with(0);
    assert!(ends(&baseline.show()).iter().all(|e| e.ends_with("succeeded")));
}

/// Story in which the dev's model fails until the fallback takes over, and the reviewer's fails once.
async fn falls_back(what: &'static str, fault: Reply, times: usize) {
    let mut faults = vec![("cheap", fault.clone()); times];
    if times > 1 {
        faults.push(("judge", fault.clone()));
    }
    let began = matches!(fault, Reply::Cut | Reply::Garbage | Reply::Silent);
    let baseline = Baseline::new(Models::responding(with_faults(faults)).await, Api::OpenAi, "");
    let text = std::fs::read_to_string(baseline.cli.path("data/skep.toml")).unwrap();
    let text = text.replace("[prices]", "idle_timeout = \"1s\"\nmax_output_tokens = 300\n[prices]");
    let roles = ROLES.replace("acme/cheap\"\n", "acme/cheap\"\nfallback = [\"llm:spare/second\"]\n");
    baseline.configure(&format!("{text}{roles}{}", baseline.provider("spare", Api::OpenAi, "")));
    baseline.run(RUN).exits_with(0);
    assert_eq!(baseline.landed(), "b", "{what}");
    let run = baseline.show();
    assert_eq!(
        ends(&run),
        [
            "plan llm:acme/strong succeeded",
            "develop llm:acme/cheap unavailable",
            "develop llm:spare/second succeeded",
            "review llm:acme/judge succeeded"
        ],
        "{what}"
    );
    assert_eq!(run["tasks"][0]["tries"], 1, "{what}: no try was used");
    let asked = baseline.models.seen().iter().filter(|r| r.model() == "cheap").count();
    assert_eq!(asked, times, "{what}");
    // The usage of an interrupted answer is unknown, so the worst case is charged. Refused calls cost nothing.
    let (tokens, _) = crate::support::baseline::priced(&baseline.models.served());
    let spent = run["budget"]["spent"]["tokens"].as_u64().unwrap();
    assert_eq!(spent > tokens, began, "{what}: {spent} of {tokens}");
    let shown = &run["cooldowns"]["llm:acme/cheap"];
    assert!(shown["until"].is_i64() && shown["why"].as_str().unwrap().contains("acme"), "{what}: {shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lasting_faults_fall_back_and_transient_ones_are_retried() {
    let stories = [
        ("429 without a reset", status(429), 1),
        ("500", status(500), 4),
        ("529", status(529), 4),
        ("cut", Reply::Cut, 4),
        ("garbage", Reply::Garbage, 4),
        ("idle_timeout", Reply::Silent, 4),
    ];
    let all = stories.map(|(what, fault, times)| tokio::spawn(falls_back(what, fault, times)));
    for one in futures::future::join_all(all).await {
        one.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_fallback_the_run_waits_and_asks_no_one() {
    let faults = vec![("strong", status(429))];
    let baseline = Baseline::new(Models::responding(with_faults(faults)).await, Api::OpenAi, ROLES);
    let _service = baseline.serve();
    baseline.run(&[RUN, &["--detach"]].concat()).exits_with(0);
    baseline.until("it waits", || baseline.cli.show(&baseline.cli.newest())["wake_at"].is_i64());
    let run = baseline.show();
    let ahead = run["wake_at"].as_i64().unwrap() - chrono::Utc::now().timestamp_millis();
    assert!((20_000..=60_000).contains(&ahead), "{ahead}");
    assert_eq!(run["escalations"], serde_json::json!([]));
    assert!(run["waiting_for"].as_str().unwrap().contains("acme/strong"), "{}", run["waiting_for"]);
}
