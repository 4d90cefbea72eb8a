//! Intake from GitHub: webhooks, commands, labels and sweeps, on the real ports against the double of GitHub.

mod ci;
mod commands;
mod issues;
mod webhooks;

use crate::support::github::{GitHub, REPO};
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use ring::hmac;
use serde_json::{Value, json};
use skep::actors::Scope;
use skep::adapters::forge::settings::{ForgeSettings, Intake, SecretSource};
use skep::app;
use skep::config::{Config, Database};
use skep::domain::{BaseChecks, CheckKind, CheckSpec, DeliveryState, EngineSpec, ForgeName, Principal};
use skep::domain::{Policy, Project, ProjectName, Role, Run};
use skep::http::{LOOPBACK, State, router};
use skep::ports::intake::Delivery;
use skep::ports::run_index::{RunFilter, RunRow};
use skep::service::intake::{Progress, pass};
use skep::service::{Caller, Callers, Services, Via};
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

pub const SECRET: &str = "webhook-secret-5b1f07c2d9e4";
pub const PREVIOUS_SECRET: &str = "webhook-secret-previous-88aa21";
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A service with a project on the double of GitHub.
pub struct World {
    _tmp: tempfile::TempDir,
    pub github: GitHub,
    pub services: Services,
    pub router: axum::Router,
    progress: Progress,
    sent: u64,
}

/// Signs a body as GitHub does.
pub fn signature(secret: &str, body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body);
    tag.as_ref().iter().fold("sha256=".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

impl World {
    /// A world that is told everything by webhooks.
    pub async fn new() -> World {
        World::with_poll_interval(Duration::ZERO).await
    }

    /// A world that sweeps in every pass.
    pub async fn sweeping() -> World {
        World::with_poll_interval(Duration::from_nanos(1)).await
    }

    async fn with_poll_interval(poll_interval: Duration) -> World {
        let tmp = tempfile::tempdir().unwrap();
        let github = GitHub::start();
        github.push("main", &[("greet.txt", "helo\n")]);
        let secret = |name: &str, text: &str| SecretSource::File(github.private_file(name, text));
        let webhook_secrets = vec![secret("webhook", SECRET), secret("webhook.previous", PREVIOUS_SECRET)];
        let mut settings = github.settings(github.token_account());
        let mut config = Config::default();
        config.forges.insert("quiet".to_owned(), ForgeSettings::GitHub(settings.clone()));
        settings.intake = Intake { label: Some("skep".to_owned()), poll_interval, webhook_secrets };
        config.forges.insert("github".to_owned(), ForgeSettings::GitHub(settings));
        config.store.database = Database::InDataDir;
        let data = tmp.path().join("data");
        std::fs::create_dir_all(&data).unwrap();
        let sandbox = crate::support::sandbox::strict();
        let ports = app::connect(&config, &data, Scope::All, &sandbox).await.unwrap();
        let (runtime, _) = app::start(&ports).await.unwrap();
        let services = app::services(&ports, runtime);
        let policy = Policy { base_checks: BaseChecks::Off, ..Policy::default() };
        let check = CheckSpec {
            name: "greeting".to_owned(),
            kind: CheckKind::Test,
            command: "grep -q hello greet.txt".to_owned(),
            timeout_secs: 60,
            junit: None,
            runner: None,
        };
        let project = Project {
            name: ProjectName::new("calc").unwrap(),
            repo: format!("{}/{REPO}.git", github.url),
            forge: ForgeName("github".to_owned()),
            base: None,
            branch_prefix: "skep".to_owned(),
            checks: vec![check],
            engines: [(Role::Dev, EngineSpec::parse("command: sed -i s/helo/hello/ greet.txt"))].into(),
            policy: Some(policy),
        };
        services.store.put_project(&project, false).await.unwrap();
        let caller = Caller::with_all_rights(Principal::from("local:tester"), Via::Rest);
        let router = router(State {
            services: services.clone(),
            callers: Callers::new([(TOKEN.to_owned(), caller)]),
            agent_rights: Arc::new(skep::http::mcp::RIGHTS.into()),
            hosts: LOOPBACK.iter().map(|h| (*h).to_owned()).collect(),
            streams: Arc::new(tokio::sync::Semaphore::new(4)),
        });
        World { _tmp: tmp, github, services, router, progress: Progress::default(), sent: 0 }
    }

    /// Sends a request, and returns the status and the text of the response.
    pub async fn request(&self, request: Request<Body>) -> (StatusCode, String) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 8 << 20).await.unwrap();
        (parts.status, String::from_utf8_lossy(&body).into_owned())
    }

    /// Sends a webhook with this signature.
    pub async fn send(&self, id: &str, event: &str, body: &[u8], signature: Option<&str>) -> StatusCode {
        let mut request = Request::post("/webhooks/github")
            .header("host", "localhost:7377")
            .header("content-length", body.len())
            .header("x-github-delivery", id)
            .header("x-github-event", event);
        if let Some(signature) = signature {
            request = request.header("x-hub-signature-256", signature);
        }
        self.request(request.body(Body::from(body.to_vec())).unwrap()).await.0
    }

    /// Sends a signed webhook.
    pub async fn hook(&mut self, event: &str, mut body: Value) -> StatusCode {
        self.sent += 1;
        body["repository"] = json!({ "full_name": REPO });
        let body = body.to_string().into_bytes();
        let id = format!("delivery-{}", self.sent);
        self.send(&id, event, &body, Some(&signature(SECRET, &body))).await
    }

    /// Labels an issue, and lets GitHub report it.
    pub async fn label(&mut self, number: u64, by: &str, label: &str) {
        self.github.state().label(number, by, label);
        self.report_label(number, by, label).await;
    }

    pub async fn report_label(&mut self, number: u64, by: &str, label: &str) {
        let event =
            if self.github.state().issues.iter().any(|i| i.number == number) { "issues" } else { "pull_request" };
        let mut body = json!({ "action": "labeled", "label": { "name": label }, "sender": { "login": by } });
        match event {
            "issues" => body["issue"] = json!({ "number": number }),
            _ => body["pull_request"] = json!({ "number": number, "head": { "ref": "x" } }),
        }
        assert_eq!(self.hook(event, body).await, StatusCode::ACCEPTED);
    }

    /// Comments, and lets GitHub report it.
    pub async fn comment(&mut self, number: u64, by: &str, text: &str) -> u64 {
        let id = self.github.state().post_comment(number, by, text);
        self.report_comment(number, id, text).await;
        id
    }

    pub async fn report_comment(&mut self, number: u64, id: u64, text: &str) {
        let body = json!({ "action": "created", "issue": { "number": number }, "comment": { "id": id, "body": text } });
        assert_eq!(self.hook("issue_comment", body).await, StatusCode::ACCEPTED);
    }

    /// Applies what was reported.
    pub async fn pass(&mut self) {
        pass(&self.services, &mut self.progress).await.unwrap();
    }

    /// Applies what was reported, and compares every issue with its run.
    pub async fn settle(&mut self) {
        self.progress.compare_all();
        self.pass().await;
    }

    /// Comments, applies the command, and returns the reply.
    pub async fn command(&mut self, number: u64, by: &str, text: &str) -> String {
        let id = self.comment(number, by, text).await;
        self.pass().await;
        self.reply(id).unwrap_or_else(|| panic!("no reply to {text:?}"))
    }

    /// Returns the reply to a comment.
    pub fn reply(&self, comment: u64) -> Option<String> {
        let marker = format!("<!-- skep:intake:reply:{comment} -->");
        let state = self.github.state();
        let mut replies = state.comments.iter().filter(|c| c.body.ends_with(&marker));
        let reply = replies.next().map(|c| c.body.clone());
        assert!(replies.next().is_none(), "it was replied twice");
        reply
    }

    pub async fn deliveries(&self) -> Vec<Delivery> {
        self.services.intake.deliveries(&ForgeName("github".to_owned()), None, 500).await.unwrap()
    }

    /// Returns the state and the reason of the newest delivery.
    pub async fn last(&self) -> (DeliveryState, String) {
        let last = self.deliveries().await.remove(0);
        (last.state, last.reason)
    }

    pub async fn runs(&self) -> Vec<RunRow> {
        self.services.store.list(&RunFilter { limit: 100, ..RunFilter::default() }).await.unwrap()
    }

    /// Returns the only run.
    pub async fn run(&self) -> Run {
        let runs = self.runs().await;
        assert_eq!(runs.len(), 1, "{runs:?}");
        self.services.store.load(runs[0].run).await.unwrap().unwrap()
    }

    /// Waits until the only run fits.
    pub async fn until(&self, what: &str, fits: impl Fn(&Run) -> bool) -> Run {
        for _ in 0..900 {
            let run = self.run().await;
            if fits(&run) {
                return run;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the run never {what}: {:?}", self.run().await);
    }

    /// Waits until the only run asks for the approval of its merge.
    pub async fn until_approval(&self) -> Run {
        self.until("asks for an approval", |run| run.blocks.iter().any(|b| b.kind.is_approval())).await
    }
}

/// Replaces commit ids, times and amounts by fixed words.
pub fn shown(text: &str) -> String {
    let is_id = |word: &str| word.len() >= 7 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| is_id(word));
    let ids: std::collections::BTreeSet<&str> = words.collect();
    let text = ids.iter().rev().fold(text.to_owned(), |text, id| text.replace(id, "ID"));
    let no_digits = |c: char| if c.is_ascii_digit() { 'N' } else { c };
    text.chars().map(no_digits).collect::<String>().replace("NN", "N").replace("NN", "N")
}
