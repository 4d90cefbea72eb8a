//! Faults of providers, one by one: each is handled correctly, and transient ones are retried.

use super::engines_contract::AttemptDirs;
use super::llm::{attempt_env, develop, engine, transcript, work};
use super::support::models::{KEY, Models, Reply, call, status};
use serde_json::json;
use skep::domain::{BudgetKind, Order, Timestamp};
use skep::ports::engine::{Engine, EngineResult, StepOutcome};
use skep::providers::settings::{Api, Provider};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn done() -> Reply {
    call("done", json!({"summary": "made it"}))
}

fn is_done(run_result: &EngineResult) -> bool {
    matches!(&run_result.result, StepOutcome::Edited { summary } if summary == "made it")
}

struct Unavailable {
    why: String,
    until: Option<Timestamp>,
    fix: Option<String>,
}

fn unavailable(run_result: EngineResult) -> Unavailable {
    match run_result.result {
        StepOutcome::Unavailable { why, until, fix } => Unavailable { why, until, fix },
        other => panic!("expected it to be unavailable, got {other:?}"),
    }
}

async fn played(api: Api, replies: Vec<Reply>) -> (EngineResult, usize) {
    let models = Models::play(replies).await;
    let run_result = work(models.provider(api), &develop(), &AttemptDirs::new()).await;
    let seen = models.seen().len();
    (run_result, seen)
}

#[tokio::test]
async fn a_fault_that_needs_a_person_names_the_fix_and_is_not_retried() {
    for api in [Api::Anthropic, Api::OpenAi, Api::OpenAiResponses, Api::Gemini, Api::Ollama] {
        let body = format!(r#"{{"error":{{"message":"invalid x-api-key {KEY}"}}}}"#);
        let (run_result, seen) = played(api, vec![Reply::Status(401, vec![], body), done()]).await;
        assert!(!transcript(&run_result).contains(KEY));
        let fault = unavailable(run_result);
        assert_eq!(
            (seen, fault.fix.as_deref()),
            (1, Some("put a working key into environment variable ACME_KEY")),
            "{api:?}"
        );
        assert!(
            fault.why.contains("answered 401") && fault.why.contains("provider acme") && !fault.why.contains(KEY),
            "{}",
            fault.why
        );
        let (run_result, seen) =
            played(api, vec![Reply::Status(404, vec![], "model not found".to_owned()), done()]).await;
        let fix = unavailable(run_result).fix.unwrap();
        assert!(
            seen == 1
                && fix.contains("acme does not serve the model some-model-high")
                && fix.contains("role.dev.model"),
            "{fix}"
        );
    }
    let (run_result, _) =
        played(Api::OpenAi, vec![Reply::Status(429, vec![], r#"{"error":{"code":"insufficient_quota"}}"#.to_owned())])
            .await;
    assert!(unavailable(run_result).fix.unwrap().starts_with("add credit"));
    let (run_result, seen) =
        played(Api::OpenAi, vec![Reply::Status(400, vec![], "no tools, please".to_owned()), done()]).await;
    let fault = unavailable(run_result);
    assert!(seen == 1 && fault.fix.is_some() && fault.why.contains("no tools, please"), "{}", fault.why);
    // A redirect is not followed, because the key would be sent along.
    let elsewhere = Models::play([done()]).await;
    let to = elsewhere.provider(Api::Anthropic).base_url;
    let (run_result, _) =
        played(Api::Anthropic, vec![Reply::Status(307, vec![("location", format!("{to}messages"))], String::new())])
            .await;
    assert!(unavailable(run_result).fix.unwrap().contains("base_url") && elsewhere.seen().is_empty());
}

#[tokio::test]
async fn a_quota_parks_until_its_reset_and_a_short_cooldown_is_waited_out() {
    let now = chrono::Utc::now().timestamp_millis();
    let limited = |headers: Vec<(&'static str, String)>| {
        Reply::Status(429, headers, r#"{"error":{"type":"rate_limit_error"}}"#.to_owned())
    };
    let (run_result, seen) =
        played(Api::Anthropic, vec![limited(vec![("retry-after", "3600".to_owned())]), done()]).await;
    let fault = unavailable(run_result);
    let ahead = fault.until.unwrap().0 - now;
    assert!(seen == 1 && fault.fix.is_none() && (3_590_000..3_700_000).contains(&ahead), "{ahead}");

    let (run_result, seen) = played(Api::OpenAi, vec![limited(vec![]), done()]).await;
    let fault = unavailable(run_result);
    assert!(seen == 1 && fault.until.is_none() && fault.fix.is_none());

    let began = Instant::now();
    let (run_result, seen) = played(Api::OpenAi, vec![limited(vec![("retry-after", "1".to_owned())]), done()]).await;
    assert!(
        is_done(&run_result) && seen == 2 && began.elapsed() >= Duration::from_millis(900),
        "{:?}",
        run_result.result
    );
    assert_eq!(run_result.usage.unwrap().turns, 1, "a call that was refused costs nothing");
}

#[tokio::test]
async fn a_quota_cools_down_all_sessions_of_the_provider() {
    let models =
        Models::play([Reply::Status(429, vec![("retry-after", "3600".to_owned())], String::new()), done()]).await;
    let engine = engine(models.provider(Api::Anthropic));
    let (first, second) = (AttemptDirs::new(), AttemptDirs::new());
    unavailable(engine.run(&develop(), &attempt_env(&first), Arc::new(|_| {})).await.unwrap());
    let fault = unavailable(engine.run(&develop(), &attempt_env(&second), Arc::new(|_| {})).await.unwrap());
    assert!(fault.until.is_some() && fault.why.contains("cooling down"), "{}", fault.why);
    assert_eq!(models.seen().len(), 1);
}

#[tokio::test]
async fn transient_faults_are_retried() {
    let each = [Api::Anthropic, Api::OpenAi, Api::OpenAiResponses, Api::Gemini, Api::Ollama].map(async |api| {
        let faults = [status(500), status(529), Reply::Cut];
        let (run_result, seen) = played(api, faults.into_iter().chain([done()]).collect()).await;
        assert!(is_done(&run_result) && seen == 4, "{api:?} {seen} {:?}", run_result.result);
        // Error responses cost nothing. The answer that broke off is charged in full, because no usage was reported.
        let usage = run_result.usage.unwrap();
        assert!(usage.turns == 2 && usage.tokens > 4_000, "{api:?} {usage:?}");
        assert!(
            transcript(&run_result).contains("answered 529")
                && transcript(&run_result).contains("the answer broke off")
        );
        let (run_result, seen) = played(api, vec![Reply::Garbage, done()]).await;
        assert!(is_done(&run_result) && seen == 2, "{api:?} {:?}", run_result.result);
    });
    futures::future::join_all(each).await;
}

#[tokio::test]
async fn lasting_faults_are_reported_after_four_tries() {
    let each = [
        (Api::Anthropic, status(503), "answered 503"),
        (Api::OpenAi, Reply::Cut, "broke off"),
        (Api::Gemini, Reply::Cut, "broke off"),
        (Api::Anthropic, Reply::Garbage, "unreadable"),
    ]
    .map(async |(api, fault, part)| {
        let (run_result, seen) = played(api, (0..9).map(|_| fault.clone()).collect()).await;
        let fault = unavailable(run_result);
        assert!(seen == 4 && fault.until.is_none() && fault.fix.is_none(), "{}", fault.why);
        assert!(fault.why.contains("4 tries") && fault.why.contains(part), "{}", fault.why);
    });
    futures::future::join_all(each).await;
}

#[tokio::test]
async fn silent_and_unreachable_providers_are_reported() {
    let models = Models::play((0..9).map(|_| Reply::Silent)).await;
    let silent = Provider { idle_timeout: Duration::from_millis(200), ..models.provider(Api::Anthropic) };
    let fault = unavailable(work(silent, &develop(), &AttemptDirs::new()).await);
    assert!(fault.why.contains("timed out") && models.seen().len() == 4, "{}", fault.why);

    let gone = Provider { base_url: "http://127.0.0.1:1/v1/".to_owned(), ..models.provider(Api::OpenAi) };
    let fault = unavailable(work(gone, &develop(), &AttemptDirs::new()).await);
    assert!(fault.why.contains("cannot be reached") && fault.fix.is_none(), "{}", fault.why);
}

#[tokio::test]
async fn errors_within_a_stream_are_classified() {
    let overloaded =
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"busy\"}}\n\n";
    let (run_result, seen) = played(Api::Anthropic, vec![Reply::Raw(overloaded.to_owned()), done()]).await;
    assert!(is_done(&run_result) && seen == 2);
    let denied =
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"authentication_error\",\"message\":\"no\"}}\n\n";
    let (run_result, _) = played(Api::Anthropic, vec![Reply::Raw(denied.to_owned()), done()]).await;
    assert!(unavailable(run_result).fix.unwrap().contains("ACME_KEY"));
}

#[tokio::test]
async fn a_malicious_answer_fails_only_its_own_call() {
    let bombs = [
        // An index that would require allocating four billion calls.
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":4000000000,"id":"c","function":{"name":"list","arguments":"{}"}}]}}]}"#
            .to_owned(),
        r#"{"choices":"none"}"#.to_owned(),
        format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"{}"}}}}]}}"#, "x".repeat(6_000_000)),
    ];
    for bomb in bombs {
        let (run_result, seen) = played(Api::OpenAi, vec![Reply::Raw(format!("data: {bomb}\n\n")), done()]).await;
        assert!(is_done(&run_result) && seen == 2, "{:?}", run_result.result);
    }
    // Usage that no call can have had: the reservation is charged instead, and nothing overflows.
    let lie = r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"done","arguments":"{\"summary\":\"made it\"}"}}]},"finish_reason":"tool_calls"}]}"#;
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":2147483647,"completion_tokens":2147483647}}"#;
    let stream = format!("data: {lie}\n\ndata: {usage}\n\ndata: [DONE]\n\n");
    let (run_result, _) = played(Api::OpenAi, vec![Reply::Raw(stream)]).await;
    let tokens = run_result.usage.unwrap().tokens;
    assert!(is_done(&run_result) && (4_000..10_000).contains(&tokens), "{tokens}");
    // Numbers whose sum overflows in the library count as a fault like any other.
    let start = r#"{"type":"message_start","message":{"usage":{"input_tokens":2147483647,"cache_read_input_tokens":2147483647,"output_tokens":-5}}}"#;
    let stream = format!("event: message_start\ndata: {start}\n\nevent: message_stop\ndata: {{}}\n\n");
    let (run_result, _) = played(Api::Anthropic, vec![Reply::Raw(stream), done()]).await;
    assert!(is_done(&run_result), "{:?}", run_result.result);
}

#[tokio::test]
async fn an_overlong_conversation_is_shortened_once_then_reported() {
    let too_long = || {
        let body = r#"{"error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#;
        Reply::Status(400, vec![], body.to_owned())
    };
    let dirs = AttemptDirs::new();
    std::fs::write(dirs.tree().join("big.txt"), "a line of text\n".repeat(1_000)).unwrap();
    let models = Models::play([call("read", json!({"path": "big.txt"})), too_long(), done()]).await;
    let run_result = work(models.provider(Api::Anthropic), &develop(), &dirs).await;
    assert!(is_done(&run_result), "{:?}", run_result.result);
    let sizes: Vec<usize> = models.seen().iter().map(|r| r.body.to_string().len()).collect();
    assert!(sizes[1] > 9_000 && sizes[2] < sizes[1] - 3_000, "{sizes:?}");

    let models = Models::play([call("read", json!({"path": "big.txt"})), too_long(), too_long(), done()]).await;
    let run_result = work(models.provider(Api::Anthropic), &develop(), &dirs).await;
    assert!(
        matches!(&run_result.result, StepOutcome::Failed(why) if why.contains("providers.acme.context_window")),
        "{:?}",
        run_result.result
    );

    let small = Provider { context_window: 1_200, max_output_tokens: 300, ..models.provider(Api::Anthropic) };
    let run_result = work(small, &develop(), &dirs).await;
    assert!(
        matches!(&run_result.result, StepOutcome::Failed(why) if why.contains("larger context window")),
        "{:?}",
        run_result.result
    );
}

#[tokio::test]
async fn the_time_limit_ends_a_session_with_its_transcript() {
    let models = Models::play([call("list", json!({})), call("run", json!({"command": "sleep 600"})), done()]).await;
    let mut order: Order = develop();
    order.caps.wall_ms = 2_000;
    let began = Instant::now();
    let run_result = work(models.provider(Api::Anthropic), &order, &AttemptDirs::new()).await;
    assert!(began.elapsed() < Duration::from_millis(2_000), "{:?}", began.elapsed());
    assert!(
        matches!(&run_result.result, StepOutcome::BudgetExhausted { budget: BudgetKind::Time, why } if why.contains("the time limit was reached (2 s, 2 turns)")),
        "{:?}",
        run_result.result
    );
    assert!(transcript(&run_result).contains("time limit was reached"));
    assert_eq!(run_result.usage.unwrap().turns, 2);

    let models = Models::play([Reply::Silent]).await;
    let engine: Arc<dyn Engine> = engine(models.provider(Api::Anthropic));
    let run_result = engine.run(&order, &attempt_env(&AttemptDirs::new()), Arc::new(|_| {})).await.unwrap();
    assert!(
        matches!(&run_result.result, StepOutcome::BudgetExhausted { budget: BudgetKind::Time, why } if why.contains("the time limit was reached")),
        "{:?}",
        run_result.result
    );
}
