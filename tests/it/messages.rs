//! Messages to people: once, only when needed, signed, and never waited for.

mod personal;

use crate::support::baseline::{Baseline, usual};
use crate::support::cli::{BackgroundProcess, ended};
use crate::support::models::Models;
use crate::support::provider::{self, Arrived, Scripted, answer};
use crate::support::rest::{Service, service};
use axum::http::Method;
use serde_json::{Value, json};
use skep::adapters::notify::Webhook;
use skep::adapters::notify::settings::{BuiltIn, Template, WebhookSettings};
use skep::domain::{ChannelRules, Message, MessageEvent, RunId, Timestamp};
use skep::platform::clock::SystemClock;
use skep::ports::clock::Clock;
use skep::ports::messages::{Channel, MessageState};
use skep::providers::settings::Api;
use skep::secrets::Secret;
use skep::service::Services;
use skep::service::messages::{Progress, pass};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn rules(delay_secs: u64, remind_secs: &[u64]) -> ChannelRules {
    ChannelRules {
        events: MessageEvent::ALL.into_iter().filter(|event| *event != MessageEvent::Digest).collect(),
        projects: Vec::new(),
        delay_secs,
        remind_secs: remind_secs.to_vec(),
        digest_minute: 0,
    }
}

fn channel(name: &str, url: &str, rules: ChannelRules) -> Arc<dyn Channel> {
    let settings = WebhookSettings {
        url: Secret::new(url),
        template: Template::BuiltIn(BuiltIn::Json),
        signing_secret: Some(Secret::new(SECRET)),
        token: Some(Secret::new("a-token")),
        rules,
    };
    Arc::new(Webhook::new(name, settings, Some("https://skep.example".to_owned())).expect("a channel"))
}

fn with(s: &Service, channels: &[Arc<dyn Channel>]) -> Services {
    Services { channels: channels.into(), ..s.state.services.clone() }
}

/// A sink that accepts everything.
async fn sink() -> Scripted {
    Scripted::always(200, "text/plain", "ok").await
}

fn url(sink: &Scripted) -> String {
    format!("http://{}/hook", sink.at)
}

fn header(arrived: &Arrived, name: &str) -> String {
    arrived.headers[name].to_str().expect("ASCII").to_owned()
}

fn ids(sink: &Scripted) -> Vec<String> {
    sink.asked().iter().map(|arrived| header(arrived, "webhook-id")).collect()
}

/// Computes the signature with another implementation.
fn signature(arrived: &Arrived) -> String {
    let program = "import sys, hmac, base64, hashlib\n\
        key = base64.b64decode(sys.argv[1][6:])\n\
        signed = sys.argv[2].encode() + b'.' + sys.argv[3].encode() + b'.' + sys.argv[4].encode()\n\
        print('v1,' + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode())";
    let (id, time) = (header(arrived, "webhook-id"), header(arrived, "webhook-timestamp"));
    let body = String::from_utf8(arrived.body.to_vec()).expect("text");
    let output = Command::new("python3").args(["-c", program, SECRET, &id, &time, &body]).output().expect("python3");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

async fn blocked(s: &Service) -> String {
    let run = s.open_run("Append two @channel <!here>").await;
    let id = run["id"].as_str().expect("an id").to_owned();
    s.until(&id, "blocked").await;
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_is_sent_once_whatever_restarts() {
    let (s, sink) = (service().await, sink().await);
    let services = with(&s, &[channel("team", &url(&sink), rules(0, &[]))]);
    let mut progress = Progress::default();
    pass(&services, &mut progress).await.unwrap();
    assert!(sink.asked().is_empty(), "nothing is asked yet");
    let id = blocked(&s).await;
    for _ in 0..2 {
        // A worker that starts again remembers nothing.
        for mut progress in [Progress::default(), Progress::default()] {
            pass(&services, &mut progress).await.unwrap();
        }
    }
    let whole = s.get(&format!("/api/v1/runs/{id}")).await.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(ids(&sink), [format!("{whole}.b1.question.1")]);
    let arrived = &sink.asked()[0];
    assert_eq!(header(arrived, "webhook-signature"), signature(arrived));
    assert_eq!(header(arrived, "authorization"), "Bearer a-token");
    let body = arrived.json();
    assert_eq!(body["event"], "question");
    assert_eq!(body["url"], format!("https://skep.example/q/{whole}/b1"));
    assert!(body["title"].as_str().unwrap().starts_with("Append two"), "{body}");
    let page = s.state.services.store.load(whole.parse_id()).await.unwrap().unwrap();
    assert_eq!(page.blocks[0].id.to_string(), "b1", "the link names the question");
}

trait ParseId {
    fn parse_id(&self) -> RunId;
}

impl ParseId for String {
    fn parse_id(&self) -> RunId {
        RunId::try_from(self.clone()).expect("a run's id")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_answered_before_its_message_causes_none_and_the_end_follows() {
    let s = service().await;
    let status = Arc::new(AtomicU16::new(500));
    let now = status.clone();
    let sink = Scripted::start(move |_| {
        let status = now.load(Ordering::SeqCst);
        Box::pin(async move { answer(status, "text/plain", "") })
    })
    .await;
    let services = with(&s, &[channel("team", &url(&sink), rules(0, &[]))]);
    pass(&services, &mut Progress::default()).await.unwrap();
    let id = blocked(&s).await;
    pass(&services, &mut Progress::default()).await.unwrap();
    assert_eq!(sink.asked().len(), 1, "it failed");
    let question = ids(&sink).remove(0);
    let later = Timestamp(services.clock.now().0 + 60_000);
    let due = services.messages.due("team", later, 10).await.unwrap();
    assert_eq!((due.len(), due[0].tries), (1, 1));
    assert!(services.messages.due("team", services.clock.now(), 10).await.unwrap().is_empty(), "not at once");

    assert_eq!(s.post(&format!("/api/v1/runs/{id}/actions/cancel"), &json!({"text": "no"})).await.status, 200);
    s.until(&id, "cancelled").await;
    status.store(204, Ordering::SeqCst);
    services.messages.postpone("team", &question, "", services.clock.now()).await.unwrap();
    pass(&services, &mut Progress::default()).await.unwrap();
    pass(&services, &mut Progress::default()).await.unwrap();
    let ids = ids(&sink);
    assert_eq!(ids.len(), 2, "{ids:?}");
    assert!(ids[1].ends_with(".end.failed.1"), "{ids:?}");
}

fn about(n: usize, event: MessageEvent) -> Message {
    Message {
        key: format!("{n}.end.{}.1", event.name()),
        event,
        run: (event != MessageEvent::Broken).then(|| format!("{n:032x}").parse_id()),
        block: None,
        project: "tool".to_owned(),
        title: format!("Goal {n}"),
        summary: "It ended.".to_owned(),
        needs: Vec::new(),
        cost_micros: 0,
        path: "/".to_owned(),
        at: Timestamp(0),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_messages_become_one_and_a_minute_has_ten() {
    let (s, sink) = (service().await, sink().await);
    let services = with(&s, &[channel("team", &url(&sink), rules(0, &[]))]);
    let now = services.clock.now();
    for n in 0..500 {
        assert!(services.messages.put("team", &about(n, MessageEvent::Failed), now).await.unwrap());
    }
    assert!(!services.messages.put("team", &about(0, MessageEvent::Failed), now).await.unwrap());
    pass(&services, &mut Progress::default()).await.unwrap();
    assert_eq!(sink.asked().len(), 1);
    assert_eq!(sink.asked()[0].json()["summary"], "500 runs ended without a delivery.");
    for n in 0..30 {
        services.messages.put("team", &about(n, MessageEvent::Broken), now).await.unwrap();
    }
    let mut progress = Progress::default();
    for _ in 0..3 {
        pass(&services, &mut progress).await.unwrap();
    }
    assert_eq!(sink.asked().len(), 10);
    assert_eq!(services.messages.due("team", now, 100).await.unwrap().len(), 21, "the others wait");
    // What was settled is never stored again, until it is forgotten.
    services.messages.settle("team", "29.end.broken.1", MessageState::Sent, "", now).await.unwrap();
    assert!(!services.messages.put("team", &about(29, MessageEvent::Broken), now).await.unwrap());
    services.messages.forget(Timestamp(now.0 + 3_600_000)).await.unwrap();
    assert_eq!(services.messages.due("team", now, 100).await.unwrap().len(), 20, "what is pending stays");
    assert!(services.messages.put("team", &about(29, MessageEvent::Broken), now).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_channel_delays_no_other_and_redirects_are_not_followed() {
    let (s, sink) = (service().await, sink().await);
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let target = url(&sink);
    let redirecting = Scripted::start(move |_| {
        let mut response = answer(307, "text/plain", "");
        response.headers_mut().insert("location", format!("{target}/stolen").parse().unwrap());
        Box::pin(async move { response })
    })
    .await;
    let gone = format!("http://{gone}/secret-path");
    let all = [
        channel("dead", &gone, rules(0, &[])),
        channel("moved", &url(&redirecting), rules(0, &[])),
        channel("team", &url(&sink), rules(0, &[])),
        channel("later", &url(&sink), rules(3_600, &[])),
    ];
    let services = with(&s, &all);
    blocked(&s).await;
    pass(&services, &mut Progress::default()).await.unwrap();
    assert_eq!(sink.asked().len(), 1, "only the channel that is alive, and only its own address");
    assert_eq!(redirecting.asked().len(), 1);
    let error = all[0].send(&about(1, MessageEvent::Failed)).await.unwrap_err();
    assert!(!error.is_final && !error.what.contains("secret-path"), "{error}");
    assert!(services.messages.due("later", Timestamp(i64::MAX), 10).await.unwrap().is_empty());
}

/// A clock that stands still.
#[derive(Debug)]
struct StoppedClock(Timestamp);

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        self.0
    }

    fn new_run_id(&self) -> RunId {
        SystemClock.new_run_id()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_makes_one_message_and_a_quiet_day_none() {
    let (s, sink) = (service().await, sink().await);
    let start = s.state.services.clock.now();
    let minute = u32::try_from(start.0.div_euclid(60_000).rem_euclid(1_440)).unwrap();
    let daily =
        ChannelRules { events: vec![MessageEvent::Digest], digest_minute: (minute + 5) % 1_440, ..rules(0, &[]) };
    let elsewhere = ChannelRules { projects: vec!["another".to_owned()], ..daily.clone() };
    let all = [channel("team", &url(&sink), daily), channel("others", &url(&sink), elsewhere)];
    let at = |time: Timestamp| Services { clock: Arc::new(StoppedClock(time)), ..with(&s, &all) };
    pass(&at(start), &mut Progress::default()).await.unwrap();
    let ended = s.open_run("A run that is cancelled").await["id"].as_str().unwrap().to_owned();
    assert_eq!(s.post(&format!("/api/v1/runs/{ended}/actions/cancel"), &json!({"text": "no"})).await.status, 200);
    s.until(&ended, "cancelled").await;
    blocked(&s).await;

    let end = Timestamp((start.0.div_euclid(60_000) + 5) * 60_000);
    for _ in 0..2 {
        pass(&at(Timestamp(end.0 + 1_000)), &mut Progress::default()).await.unwrap();
    }
    assert_eq!(sink.asked().len(), 1, "one channel, one message");
    let digest = sink.asked()[0].json();
    assert_eq!(
        digest["summary"], "0 runs were delivered, 1 ended without a delivery; 1 run waits for people.",
        "{digest}"
    );
    assert_eq!(digest["event"], "digest");
    assert!(digest["needs"][0].as_str().unwrap().contains("Append two"), "{digest}");
}

/// Starts the service, aborting at a fault point if one is named, and waits until it answers or has ended.
fn serve(baseline: &Baseline, fault: Option<&str>) -> BackgroundProcess {
    let log = std::fs::File::options().create(true).append(true).open(baseline.cli.path("log")).unwrap();
    let mut command = baseline.cli.skep(&["serve", "--listen", "127.0.0.1:0"]);
    if let Some(fault) = fault {
        command.env("SKEP_FAULT", fault);
    }
    let mut service = BackgroundProcess(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
    let sign = baseline.cli.path("data/service.json");
    let pid = u64::from(service.0.id());
    let mut ended = false;
    for _ in 0..600 {
        let text = std::fs::read(&sign).unwrap_or_default();
        let is_up = serde_json::from_slice::<Value>(&text).is_ok_and(|sign| sign["pid"].as_u64() == Some(pid));
        ended = service.0.try_wait().unwrap().is_some();
        if is_up || ended {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(fault.is_some() || !ended, "the service ended");
    service
}

async fn post(baseline: &Baseline, path: &str, body: Value) -> Value {
    let sign: Value = serde_json::from_slice(&std::fs::read(baseline.cli.path("data/service.json")).unwrap()).unwrap();
    let token = std::fs::read_to_string(baseline.cli.path("data/token")).unwrap();
    let url = format!("http://{}{path}", sign["address"].as_str().unwrap());
    let request = provider::client().request(Method::POST, url).bearer_auth(token.trim()).json(&body);
    request.send().await.unwrap().json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_killed_around_a_message_sends_it_and_under_one_id() {
    for fault in skep::fault::MESSAGE_POINTS {
        let sink = sink().await;
        let file = |baseline: &Baseline| baseline.cli.path("hook");
        let baseline = Baseline::new(Models::responding(usual).await, Api::Anthropic, "");
        let address = file(&baseline);
        std::fs::write(&address, url(&sink)).unwrap();
        std::fs::set_permissions(&address, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        baseline.configure(&format!(
            "[role.dev]\nengine = \"command:echo b > a.txt\"\n[notify.team]\nkind = \"webhook\"\nurl_file = {address:?}\n\
             delay = \"0s\"\n"
        ));
        let first = RefCell::new(tokio::task::block_in_place(|| serve(&baseline, Some(fault))));
        let run = json!({"repo": baseline.cli.path("tool.git"), "goal": "a.txt says b", "checks": ["grep b a.txt"]});
        let run = post(&baseline, "/api/v1/runs", run).await;
        assert!(run["id"].is_string(), "{run}");
        baseline.until("the service aborted", || first.borrow_mut().0.try_wait().unwrap().is_some());
        let before = sink.asked().len();
        assert_eq!(before, usize::from(*fault == "after-message"), "{fault}");
        let _second = tokio::task::block_in_place(|| serve(&baseline, None));
        baseline.until("the message arrived", || sink.asked().len() > before);
        let tested = baseline.run(&["notify", "test", "team"]);
        tested.exits_with(0);
        let ids: Vec<String> = ids(&sink);
        let (questions, tests): (Vec<&String>, Vec<&String>) = ids.iter().partition(|id| id.contains(".question."));
        assert_eq!(tests.len(), 1, "{ids:?}");
        assert_eq!(questions.len(), before + 1, "{fault}: {ids:?}");
        assert_eq!(questions.iter().collect::<BTreeSet<_>>().len(), 1, "{fault}: {ids:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_channel_is_named_with_the_known_ones() {
    let baseline = Baseline::new(Models::responding(usual).await, Api::Anthropic, "");
    baseline.configure("[notify.team]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:9/x\"\n");
    let command = baseline.cli.skep(&["notify", "test", "other"]);
    let output = tokio::task::block_in_place(|| ended(command));
    output.exits_with(2).one_error("there is no channel other; known: team", "docs/notifications.md");
    baseline.run(&["notify", "test", "team"]).exits_with(3);
}
