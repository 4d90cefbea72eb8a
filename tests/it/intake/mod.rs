//! Intake from forges: webhooks, commands, labels and sweeps, on the real ports against the doubles of the forges.

mod ci;
mod commands;
mod gitlab;
mod issues;
mod shuffled;
mod webhooks;

use crate::support::forge_server::{ForgeServer, REPO};
use crate::support::forgejo::Forgejo;
use crate::support::github::GitHub;
use crate::support::gitlab::GitLab;
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

/// A kind of forge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    GitHub,
    Forgejo,
    GitLab,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::GitHub, Kind::Forgejo, Kind::GitLab];

    /// Returns the name of the forge.
    pub fn name(self) -> &'static str {
        match self {
            Kind::GitHub => "github",
            Kind::Forgejo => "forgejo",
            Kind::GitLab => "gitlab",
        }
    }

    /// Starts its double.
    pub fn start(self) -> Double {
        match self {
            Kind::GitHub => Double::GitHub(GitHub::start()),
            Kind::Forgejo => Double::Forgejo(Forgejo::start()),
            Kind::GitLab => Double::GitLab(GitLab::start()),
        }
    }

    /// Returns the payload of an event of the tests' repository as this kind of forge writes it.
    pub fn payload(self, event: &str, mut body: Value) -> Value {
        match self {
            Kind::GitHub | Kind::Forgejo => body["repository"] = json!({ "full_name": REPO }),
            Kind::GitLab => body = gitlab::payload(event, body),
        }
        body
    }

    /// Returns the headers of a webhook with a body. The signature is written as GitHub does.
    pub fn headers(self, id: &str, event: &str, body: &[u8], signature: Option<&str>) -> Vec<(&'static str, String)> {
        let (id, event) = (id.to_owned(), event.to_owned());
        let plain = signature.map(|text| text.trim_start_matches("sha256=").to_owned());
        let signature = signature.map(str::to_owned);
        match self {
            Kind::GitHub => {
                let signature = signature.map(|text| ("x-hub-signature-256", text));
                signature.into_iter().chain([("x-github-delivery", id), ("x-github-event", event)]).collect()
            }
            // Forgejo sends those of Gitea and of GitHub as well.
            Kind::Forgejo => {
                let first = [("x-forgejo-delivery", id.clone()), ("x-forgejo-event", event.clone())];
                let others = [("x-gitea-delivery", id), ("x-gitea-event", event.clone()), ("x-github-event", event)];
                let plain = plain
                    .into_iter()
                    .flat_map(|text| ["x-forgejo-signature", "x-gitea-signature"].map(|n| (n, text.clone())));
                let signature = signature.map(|text| ("x-hub-signature-256", text));
                first.into_iter().chain(others).chain(plain).chain(signature).collect()
            }
            Kind::GitLab => gitlab::headers(id, event, body, signature),
        }
    }
}

/// A running double of a forge.
pub enum Double {
    GitHub(GitHub),
    Forgejo(Forgejo),
    GitLab(GitLab),
}

impl std::ops::Deref for Double {
    type Target = ForgeServer;

    fn deref(&self) -> &ForgeServer {
        match self {
            Double::GitHub(github) => github,
            Double::Forgejo(forgejo) => forgejo,
            Double::GitLab(gitlab) => gitlab,
        }
    }
}

impl Double {
    /// Returns the settings of a forge at its address.
    fn settings(&self, intake: Intake) -> ForgeSettings {
        match self {
            Double::GitHub(github) => {
                let settings = github.settings(github.token_account());
                ForgeSettings::GitHub(skep::adapters::forge::settings::GitHub { intake, ..settings })
            }
            Double::Forgejo(forgejo) => {
                ForgeSettings::Forgejo(skep::adapters::forge::settings::Forgejo { intake, ..forgejo.settings() })
            }
            Double::GitLab(gitlab) => {
                ForgeSettings::GitLab(skep::adapters::forge::settings::GitLab { intake, ..gitlab.settings() })
            }
        }
    }
}

/// A service with a project on the double of a forge.
pub struct World {
    _tmp: tempfile::TempDir,
    pub kind: Kind,
    pub forge: Double,
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

/// Returns the payload by which a forge reports that a comment was written.
pub fn comment_hook(number: u64, id: u64, text: &str) -> Value {
    json!({ "action": "created", "issue": { "number": number }, "comment": { "id": id, "body": text } })
}

impl World {
    /// A world on GitHub that learns everything by webhooks.
    pub async fn new() -> World {
        World::on(Kind::GitHub).await
    }

    /// A world that learns everything by webhooks.
    pub async fn on(kind: Kind) -> World {
        World::with(kind, Duration::ZERO, 8).await
    }

    /// A world that sweeps once, and where every run waits for a slot.
    pub async fn idle(kind: Kind) -> World {
        World::with(kind, Duration::from_secs(86_400), 0).await
    }

    /// A world that sweeps in every pass.
    pub async fn sweeping(kind: Kind) -> World {
        World::with(kind, Duration::from_nanos(1), 8).await
    }

    async fn with(kind: Kind, poll_interval: Duration, max_live_runs: u32) -> World {
        let tmp = tempfile::tempdir().unwrap();
        let forge = kind.start();
        forge.push("main", &[("greet.txt", "helo\n")]);
        let secret = |name: &str, text: &str| SecretSource::File(forge.private_file(name, text));
        let webhook_secrets = vec![secret("webhook", SECRET), secret("webhook.previous", PREVIOUS_SECRET)];
        let mut config = Config::default();
        config.forges.insert("quiet".to_owned(), forge.settings(Intake::default()));
        let (label, mention) = (Some("skep".to_owned()), Some("skep-bot".to_owned()));
        let intake = Intake { label, mention, poll_interval, webhook_secrets };
        config.forges.insert(kind.name().to_owned(), forge.settings(intake));
        config.store.database = Database::InDataDir;
        config.runs.max_live_runs = max_live_runs;
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
            detected: false,
        };
        let project = Project {
            name: ProjectName::new("calc").unwrap(),
            repo: format!("{}/{REPO}.git", forge.url),
            forge: ForgeName(kind.name().to_owned()),
            base: None,
            branch_prefix: "skep".to_owned(),
            checks: vec![check],
            engines: [(Role::Dev, EngineSpec::parse("command: sed -i s/helo/hello/ greet.txt"))].into(),
            policy: Some(policy),
        };
        services.store.put_project(&project, false).await.unwrap();
        let caller = Caller::with_all_rights(Principal::from("local:tester"), Via::Rest);
        let router = router(State {
            proxy: None,
            services: services.clone(),
            callers: Callers::new([(TOKEN.to_owned(), caller)]),
            agent_rights: Arc::new(skep::http::mcp::RIGHTS.into()),
            hosts: LOOPBACK.iter().map(|h| (*h).to_owned()).collect(),
            streams: Arc::new(tokio::sync::Semaphore::new(4)),
        });
        World { _tmp: tmp, kind, forge, services, router, progress: Progress::default(), sent: 0 }
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
        let mut request = Request::post(format!("/webhooks/{}", self.kind.name()))
            .header("host", "localhost:7377")
            .header("content-length", body.len());
        for (name, value) in self.kind.headers(id, event, body, signature) {
            request = request.header(name, value);
        }
        self.request(request.body(Body::from(body.to_vec())).unwrap()).await.0
    }

    /// Sends a signed webhook.
    pub async fn hook(&mut self, event: &str, body: Value) -> StatusCode {
        self.sent += 1;
        let body = self.kind.payload(event, body).to_string().into_bytes();
        let id = format!("delivery-{}", self.sent);
        self.send(&id, event, &body, Some(&signature(SECRET, &body))).await
    }

    /// Labels an issue, and lets the forge report it.
    pub async fn label(&mut self, number: u64, by: &str, label: &str) {
        self.forge.state().label(number, by, label);
        self.report_label(number, by, label).await;
    }

    pub async fn report_label(&mut self, number: u64, by: &str, label: &str) {
        let (event, body) = self.label_hook(number, by, label);
        assert_eq!(self.hook(event, body).await, StatusCode::ACCEPTED);
    }

    /// Returns the event and the payload by which the forge reports that a label was set.
    pub fn label_hook(&self, number: u64, by: &str, label: &str) -> (&'static str, Value) {
        let state = self.forge.state();
        let is_issue = state.issues.iter().any(|issue| issue.number == number);
        let (event, part) = if is_issue { ("issues", "issue") } else { ("pull_request", "pull_request") };
        let labels = state.labels.iter().filter(|(of, _)| *of == number);
        let labels: Vec<Value> = labels.map(|(_, name)| json!({ "name": name })).collect();
        let about = json!({ "number": number, "labels": labels, "head": { "ref": "x" } });
        let mut body = match self.kind {
            Kind::GitHub => json!({ "action": "labeled", "label": { "name": label } }),
            Kind::Forgejo => json!({ "action": "label_updated", "number": number }),
            Kind::GitLab => json!({ "action": "update", "label": { "name": label } }),
        };
        body["sender"] = json!({ "login": by });
        body[part] = about;
        (event, body)
    }

    /// Comments, and lets the forge report it.
    pub async fn comment(&mut self, number: u64, by: &str, text: &str) -> u64 {
        let id = self.forge.state().post_comment(number, by, text);
        self.report_comment(number, id, text).await;
        id
    }

    pub async fn report_comment(&mut self, number: u64, id: u64, text: &str) {
        let mut body = comment_hook(number, id, text);
        body["is_pull"] = self.forge.state().pulls.iter().any(|pull| pull.number == number).into();
        assert_eq!(self.hook("issue_comment", body).await, StatusCode::ACCEPTED);
    }

    /// Applies what was reported.
    pub async fn pass(&mut self) {
        Box::pin(pass(&self.services, &mut self.progress)).await.unwrap();
    }

    /// Sweeps, and applies what was reported.
    pub async fn sweep(&mut self) {
        self.progress = Progress::default();
        self.pass().await;
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
        let state = self.forge.state();
        let mut replies = state.comments.iter().filter(|c| c.body.ends_with(&marker));
        let reply = replies.next().map(|c| c.body.clone());
        assert!(replies.next().is_none(), "it was replied twice");
        reply
    }

    pub async fn deliveries(&self) -> Vec<Delivery> {
        self.services.intake.deliveries(&ForgeName(self.kind.name().to_owned()), None, 500).await.unwrap()
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
