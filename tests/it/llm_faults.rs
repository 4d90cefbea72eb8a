//! Faults of providers, one by one: each ends in the right thing, and what may pass is tried again.

use super::engines_contract::Place;
use super::llm::{bench, develop, engine, transcript, work};
use super::support::models::{KEY, Models, Reply, call, status};
use serde_json::json;
use skep::domain::{Order, Timestamp};
use skep::ports::engine::{Engine, EngineResult, StepOutcome};
use skep::providers::settings::{Api, Provider};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn done() -> Reply {
    call("done", json!({"summary": "made it"}))
}

fn is_done(worked: &EngineResult) -> bool {
    matches!(&worked.result, StepOutcome::Edited { summary } if summary == "made it")
}

struct Unavailable {
    why: String,
    until: Option<Timestamp>,
    fix: Option<String>,
}

fn unavailable(worked: EngineResult) -> Unavailable {
    match worked.result {
        StepOutcome::Unavailable { why, until, fix } => Unavailable { why, until, fix },
        other => panic!("expected it to be unavailable, got {other:?}"),
    }
}

async fn played(api: Api, replies: Vec<Reply>) -> (EngineResult, usize) {
    let models = Models::play(replies).await;
    let worked = work(models.provider(api), &develop(), &Place::new()).await;
    let seen = models.seen().len();
    (worked, seen)
}

#[tokio::test]
async fn what_needs_a_person_says_what_and_where_and_is_not_tried_again() {
    for api in [Api::Anthropic, Api::OpenAi, Api::OpenAiResponses, Api::Gemini, Api::Ollama] {
        let body = format!(r#"{{"error":{{"message":"invalid x-api-key {KEY}"}}}}"#);
        let (worked, seen) = played(api, vec![Reply::Status(401, vec![], body), done()]).await;
        assert!(!transcript(&worked).contains(KEY));
        let said = unavailable(worked);
        assert_eq!(
            (seen, said.fix.as_deref()),
            (1, Some("put a working key into environment variable ACME_KEY")),
            "{api:?}"
        );
        assert!(
            said.why.contains("answered 401") && said.why.contains("provider acme") && !said.why.contains(KEY),
            "{}",
            said.why
        );
        let (worked, seen) = played(api, vec![Reply::Status(404, vec![], "model not found".to_owned()), done()]).await;
        let fix = unavailable(worked).fix.unwrap();
        assert!(
            seen == 1 && fix.contains("some-model-high is not served by acme") && fix.contains("role.dev.model"),
            "{fix}"
        );
    }
    let (worked, _) =
        played(Api::OpenAi, vec![Reply::Status(429, vec![], r#"{"error":{"code":"insufficient_quota"}}"#.to_owned())])
            .await;
    assert!(unavailable(worked).fix.unwrap().starts_with("pay for"));
    let (worked, seen) =
        played(Api::OpenAi, vec![Reply::Status(400, vec![], "no tools, please".to_owned()), done()]).await;
    let said = unavailable(worked);
    assert!(seen == 1 && said.fix.is_some() && said.why.contains("no tools, please"), "{}", said.why);
    // A redirect is not followed: the key would go with it.
    let elsewhere = Models::play([done()]).await;
    let to = elsewhere.provider(Api::Anthropic).base_url;
    let (worked, _) =
        played(Api::Anthropic, vec![Reply::Status(307, vec![("location", format!("{to}messages"))], String::new())])
            .await;
    assert!(unavailable(worked).fix.unwrap().contains("base_url") && elsewhere.seen().is_empty());
}

#[tokio::test]
async fn a_quota_parks_until_its_reset_and_a_short_one_is_waited_for() {
    let now = chrono::Utc::now().timestamp_millis();
    let limited = |headers: Vec<(&'static str, String)>| {
        Reply::Status(429, headers, r#"{"error":{"type":"rate_limit_error"}}"#.to_owned())
    };
    let (worked, seen) = played(Api::Anthropic, vec![limited(vec![("retry-after", "3600".to_owned())]), done()]).await;
    let said = unavailable(worked);
    let ahead = said.until.unwrap().0 - now;
    assert!(seen == 1 && said.fix.is_none() && (3_590_000..3_700_000).contains(&ahead), "{ahead}");

    let (worked, seen) = played(Api::OpenAi, vec![limited(vec![]), done()]).await;
    let said = unavailable(worked);
    assert!(seen == 1 && said.until.is_none() && said.fix.is_none());

    let began = Instant::now();
    let (worked, seen) = played(Api::OpenAi, vec![limited(vec![("retry-after", "1".to_owned())]), done()]).await;
    assert!(is_done(&worked) && seen == 2 && began.elapsed() >= Duration::from_millis(900), "{:?}", worked.result);
    assert_eq!(worked.usage.unwrap().turns, 1, "a call that was refused costs nothing");
}

#[tokio::test]
async fn one_session_that_hits_a_quota_keeps_the_others_of_its_provider_from_asking() {
    let models =
        Models::play([Reply::Status(429, vec![("retry-after", "3600".to_owned())], String::new()), done()]).await;
    let engine = engine(models.provider(Api::Anthropic));
    let (first, second) = (Place::new(), Place::new());
    unavailable(engine.run(&develop(), &bench(&first), Arc::new(|_| {})).await.unwrap());
    let said = unavailable(engine.run(&develop(), &bench(&second), Arc::new(|_| {})).await.unwrap());
    assert!(said.until.is_some() && said.why.contains("rests"), "{}", said.why);
    assert_eq!(models.seen().len(), 1);
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let each = [Api::Anthropic, Api::OpenAi, Api::OpenAiResponses, Api::Gemini, Api::Ollama].map(async |api| {
        let faults = [status(500), status(529), Reply::Cut];
        let (worked, seen) = played(api, faults.into_iter().chain([done()]).collect()).await;
        assert!(is_done(&worked) && seen == 4, "{api:?} {seen} {:?}", worked.result);
        // Statuses cost nothing; the answer that broke off is paid for in full, since nobody told.
        let usage = worked.usage.unwrap();
        assert!(usage.turns == 2 && usage.tokens > 4_000, "{api:?} {usage:?}");
        assert!(
            transcript(&worked).contains("answered 529") && transcript(&worked).contains("broke off before its end")
        );
        let (worked, seen) = played(api, vec![Reply::Garbage, done()]).await;
        assert!(is_done(&worked) && seen == 2, "{api:?} {:?}", worked.result);
    });
    futures::future::join_all(each).await;
}

#[tokio::test]
async fn what_does_not_pass_is_said_after_four_tries() {
    let each = [
        (Api::Anthropic, status(503), "answered 503"),
        (Api::OpenAi, Reply::Cut, "broke off before its end"),
        (Api::Gemini, Reply::Cut, "broke off before its end"),
        (Api::Anthropic, Reply::Garbage, "not readable"),
    ]
    .map(async |(api, fault, part)| {
        let (worked, seen) = played(api, (0..9).map(|_| fault.clone()).collect()).await;
        let said = unavailable(worked);
        assert!(seen == 4 && said.until.is_none() && said.fix.is_none(), "{}", said.why);
        assert!(said.why.contains("4 tries") && said.why.contains(part), "{}", said.why);
    });
    futures::future::join_all(each).await;
}

#[tokio::test]
async fn silence_is_given_up_and_nobody_there_is_said() {
    let models = Models::play((0..9).map(|_| Reply::Silent)).await;
    let silent = Provider { idle_timeout: Duration::from_millis(200), ..models.provider(Api::Anthropic) };
    let said = unavailable(work(silent, &develop(), &Place::new()).await);
    assert!(said.why.contains("timed out") && models.seen().len() == 4, "{}", said.why);

    let gone = Provider { base_url: "http://127.0.0.1:1/v1/".to_owned(), ..models.provider(Api::OpenAi) };
    let said = unavailable(work(gone, &develop(), &Place::new()).await);
    assert!(said.why.contains("cannot be reached") && said.fix.is_none(), "{}", said.why);
}

#[tokio::test]
async fn errors_within_a_stream_are_the_faults_they_name() {
    let overloaded =
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"busy\"}}\n\n";
    let (worked, seen) = played(Api::Anthropic, vec![Reply::Raw(overloaded.to_owned()), done()]).await;
    assert!(is_done(&worked) && seen == 2);
    let denied =
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"authentication_error\",\"message\":\"no\"}}\n\n";
    let (worked, _) = played(Api::Anthropic, vec![Reply::Raw(denied.to_owned()), done()]).await;
    assert!(unavailable(worked).fix.unwrap().contains("ACME_KEY"));
}

#[tokio::test]
async fn an_answer_made_to_break_its_reader_breaks_only_itself() {
    let bombs = [
        // Four thousand million calls to make room for.
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":4000000000,"id":"c","function":{"name":"list","arguments":"{}"}}]}}]}"#
            .to_owned(),
        r#"{"choices":"none"}"#.to_owned(),
        format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"{}"}}}}]}}"#, "x".repeat(6_000_000)),
    ];
    for bomb in bombs {
        let (worked, seen) = played(Api::OpenAi, vec![Reply::Raw(format!("data: {bomb}\n\n")), done()]).await;
        assert!(is_done(&worked) && seen == 2, "{:?}", worked.result);
    }
    // Numbers no call can have used: charged as what was set aside, and no overflow.
    let lie = r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"done","arguments":"{\"summary\":\"made it\"}"}}]},"finish_reason":"tool_calls"}]}"#;
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":2147483647,"completion_tokens":2147483647}}"#;
    let stream = format!("data: {lie}\n\ndata: {usage}\n\ndata: [DONE]\n\n");
    let (worked, _) = played(Api::OpenAi, vec![Reply::Raw(stream)]).await;
    let tokens = worked.usage.unwrap().tokens;
    assert!(is_done(&worked) && (4_000..10_000).contains(&tokens), "{tokens}");
    // Sums that wrap in the library: a fault like any other.
    let start = r#"{"type":"message_start","message":{"usage":{"input_tokens":2147483647,"cache_read_input_tokens":2147483647,"output_tokens":-5}}}"#;
    let stream = format!("event: message_start\ndata: {start}\n\nevent: message_stop\ndata: {{}}\n\n");
    let (worked, _) = played(Api::Anthropic, vec![Reply::Raw(stream), done()]).await;
    assert!(is_done(&worked), "{:?}", worked.result);
}

#[tokio::test]
async fn too_long_a_conversation_is_shortened_once_then_said() {
    let too_long = || {
        let body = r#"{"error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#;
        Reply::Status(400, vec![], body.to_owned())
    };
    let place = Place::new();
    std::fs::write(place.tree().join("big.txt"), "a line of text\n".repeat(1_000)).unwrap();
    let models = Models::play([call("read", json!({"path": "big.txt"})), too_long(), done()]).await;
    let worked = work(models.provider(Api::Anthropic), &develop(), &place).await;
    assert!(is_done(&worked), "{:?}", worked.result);
    let sizes: Vec<usize> = models.seen().iter().map(|r| r.body.to_string().len()).collect();
    assert!(sizes[1] > 9_000 && sizes[2] < sizes[1] - 3_000, "{sizes:?}");

    let models = Models::play([call("read", json!({"path": "big.txt"})), too_long(), too_long(), done()]).await;
    let worked = work(models.provider(Api::Anthropic), &develop(), &place).await;
    assert!(
        matches!(&worked.result, StepOutcome::Failed(why) if why.contains("providers.acme.window")),
        "{:?}",
        worked.result
    );

    let small = Provider { context_window: 1_200, max_output_tokens: 300, ..models.provider(Api::Anthropic) };
    let worked = work(small, &develop(), &place).await;
    assert!(matches!(&worked.result, StepOutcome::Failed(why) if why.contains("larger window")), "{:?}", worked.result);
}

#[tokio::test]
async fn its_time_ends_it_with_its_transcript_before_the_deadline() {
    let models = Models::play([call("list", json!({})), call("run", json!({"command": "sleep 600"})), done()]).await;
    let mut order: Order = develop();
    order.caps.wall_ms = 2_000;
    let began = Instant::now();
    let worked = work(models.provider(Api::Anthropic), &order, &Place::new()).await;
    assert!(began.elapsed() < Duration::from_millis(2_000), "{:?}", began.elapsed());
    assert!(
        matches!(&worked.result, StepOutcome::Failed(why) if why.contains("its time was up (2 s, 2 turns)")),
        "{:?}",
        worked.result
    );
    assert!(transcript(&worked).contains("time was up"));
    assert_eq!(worked.usage.unwrap().turns, 2);

    let models = Models::play([Reply::Silent]).await;
    let engine: Arc<dyn Engine> = engine(models.provider(Api::Anthropic));
    let worked = engine.run(&order, &bench(&Place::new()), Arc::new(|_| {})).await.unwrap();
    assert!(
        matches!(&worked.result, StepOutcome::Failed(why) if why.contains("its time was up")),
        "{:?}",
        worked.result
    );
}
