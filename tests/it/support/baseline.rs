//! A complete installation whose roles use models of a scripted server, with prices, and the standard story of a
//! change.

use super::cli::{BackgroundProcess, Cli, CommandOutput, ended};
use super::models::{KEY, Models, Reply, Request, Served, call, calls};
use serde_json::{Value, json};
use skep::providers::settings::Api;
use std::process::Stdio;

/// Name of each API in the configuration.
pub fn name_of(api: Api) -> &'static str {
    match api {
        Api::Anthropic => "anthropic",
        Api::OpenAi => "openai",
        Api::OpenAiResponses => "openai-responses",
        Api::Gemini => "gemini",
        Api::Ollama => "ollama",
    }
}

/// All roles with models of `acme`: `strong` plans, `cheap` edits, `judge` reviews.
pub const ROLES: &str = "[role.manager]\nengine = \"llm:acme/strong\"\n[role.dev]\nengine = \"llm:acme/cheap\"\n\
                         [role.reviewer]\nengine = \"llm:acme/judge\"\n";

/// Arguments for a run of the standard story on `tool.git`.
pub const RUN: &[&str] = &["run", "--repo", "tool.git", "--goal", "a.txt says b", "--check", "grep b a.txt", "--yes"];

/// Installation and model server.
pub struct Baseline {
    pub cli: Cli,
    pub models: Models,
}

impl Baseline {
    /// Creates an installation with the provider `acme`, its key in the file `key`, prices for all its models, and the
    /// repository `tool.git`, whose `a.txt` contains "a". `more` is appended to the configuration.
    pub fn new(models: Models, api: Api, more: &str) -> Baseline {
        let cli = Cli::new();
        std::fs::create_dir(cli.path("data")).unwrap();
        let baseline = Baseline { cli, models };
        baseline.put_key(KEY);
        let prices = "version = \"2030-01-01\"\n[[model]]\nmatch = [\"acme/*\", \"spare/*\"]\ninput = 1.0\ncached = 0.1\n\
                      cache_write = 1.25\noutput = 10.0\n";
        std::fs::write(baseline.cli.path("prices.toml"), prices).unwrap();
        let file = baseline.cli.path("prices.toml");
        let provider = baseline.provider("acme", api, "");
        baseline.configure(&format!("{provider}[prices]\nfile = {file:?}\n{more}"));
        baseline.cli.repo("tool", &[("a.txt", "a\n")]);
        baseline
    }

    /// Configuration table of a provider that is the scripted server.
    pub fn provider(&self, name: &str, api: Api, more: &str) -> String {
        let base = self.models.provider(api).base_url;
        let key = self.cli.path("key");
        let api = name_of(api);
        format!("[providers.{name}]\napi = \"{api}\"\nbase_url = \"{base}\"\nkey_file = {key:?}\n{more}")
    }

    pub fn put_key(&self, key: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.cli.path("key");
        std::fs::write(&path, key).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Writes the whole configuration.
    pub fn configure(&self, text: &str) {
        std::fs::write(self.cli.path("data/skep.toml"), text).unwrap();
    }

    /// Runs a command to its end. The scripted server runs in the same test, on other threads.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> CommandOutput {
        let command = self.cli.skep(args);
        tokio::task::block_in_place(|| ended(command))
    }

    /// Starts a command in the background, with its log in the file `log`.
    pub fn spawn(&self, args: &[&str]) -> BackgroundProcess {
        let log = std::fs::File::options().create(true).append(true).open(self.cli.path("log")).unwrap();
        let mut command = self.cli.skep(args);
        BackgroundProcess(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    /// Starts the service in the background and waits until it answers.
    pub fn serve(&self) -> BackgroundProcess {
        let service = self.spawn(&["serve", "--listen", "127.0.0.1:0"]);
        let sign = self.cli.path("data/service.json");
        let pid = u64::from(service.0.id());
        let is_up = || serde_json::from_slice::<Value>(&std::fs::read(&sign).ok()?).ok()?["pid"].as_u64();
        tokio::task::block_in_place(|| self.cli.until("the service answers", || is_up() == Some(pid)));
        service
    }

    /// Response of the service to a GET.
    pub async fn get(&self, path: &str) -> Value {
        let sign: Value = serde_json::from_slice(&std::fs::read(self.cli.path("data/service.json")).unwrap()).unwrap();
        let token = std::fs::read_to_string(self.cli.path("data/token")).unwrap();
        let url = format!("http://{}{path}", sign["address"].as_str().unwrap());
        let client = super::provider::client();
        client.get(url).bearer_auth(token.trim()).send().await.unwrap().json().await.unwrap()
    }

    /// Polls until a condition holds.
    #[track_caller]
    pub fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        tokio::task::block_in_place(|| self.cli.until(what, is_so));
    }

    /// Newest run, from `show --json`.
    #[track_caller]
    pub fn show(&self) -> Value {
        tokio::task::block_in_place(|| self.cli.show(&self.cli.newest()))
    }

    /// All runs, from `runs --json`.
    #[track_caller]
    pub fn runs(&self) -> Vec<Value> {
        self.run(&["runs", "--json"]).exits_with(0).json()["runs"].as_array().unwrap().clone()
    }

    /// Content of `a.txt` on the base branch.
    pub fn landed(&self) -> String {
        super::cli::git(&self.cli.path("tool.git"), &["show", "main:a.txt"]).trim().to_owned()
    }

    /// Processes that still belong to this installation.
    pub fn processes(&self) -> Vec<String> {
        let mark = self.cli.dir.path().to_string_lossy().into_owned();
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let found = processes.filter_map(|p| {
            let pid: u32 = p.file_name().to_str()?.parse().ok()?;
            let read = |name: &str| std::fs::read(p.path().join(name)).unwrap_or_default();
            let line = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            let is_here = line.contains(&mark) || String::from_utf8_lossy(&read("environ")).contains(&mark);
            (is_here && pid != std::process::id()).then(|| format!("{pid} {line}"))
        });
        found.collect()
    }
}

/// Tokens of the answers, and their cost in micro-USD by the price file.
pub fn priced<'a>(served: impl IntoIterator<Item = &'a Served>) -> (u64, u64) {
    served.into_iter().fold((0, 0), |(tokens, micros), s| {
        // Computed in hundredths of a micro-USD: 1.00, 0.10, 1.25 and 10.00 micro-USD per token.
        let exact = (s.input - s.cached - s.written) * 100 + s.cached * 10 + s.written * 125 + s.output * 1000;
        (tokens + s.input + s.output, micros + exact.div_ceil(100))
    })
}

/// Plan with one task.
pub fn plan() -> Reply {
    call(
        "done",
        json!({"tasks": [{"name": "say", "title": "Say b", "text": "a.txt must say b", "needs": [], "paths": []}]}),
    )
}

/// Approval of the reviewer.
pub fn approval() -> Reply {
    call("done", json!({"verdict": "approve", "summary": "right", "findings": []}))
}

/// Turns of the dev: two parallel calls, an edit, the end.
pub fn edits(turn: usize) -> Reply {
    match turn {
        0 => calls(&[("read", json!({"path": "a.txt"})), ("list", json!({}))]),
        1 => call("edit", json!({"path": "a.txt", "edits": [{"old": "a", "new": "b"}]})),
        _ => call("done", json!({"summary": "a.txt says b"})),
    }
}

/// Standard story, by model.
pub fn usual(request: &Request) -> Reply {
    match (request.model(), request.turn()) {
        ("strong", 0) => call("read", json!({"path": "a.txt"})),
        ("strong", _) => plan(),
        ("judge", _) => approval(),
        (_, turn) => edits(turn),
    }
}

/// Roles with a dev that is driven over ACP and can resume its session after its process died.
pub fn resuming() -> String {
    driven("acp").replace("\"{model}\"]", "\"{model}\", \"resumes\"]")
}

/// Roles with a dev that is driven ("acp" or "cli") and reaches the same server through the egress proxy.
pub fn driven(protocol: &str) -> String {
    let roles = ROLES.replace("llm:acme/cheap", &format!("{protocol}:robot/cheap"));
    let source = toml::Value::String(include_str!("../driven/thinking_agent.py").to_owned());
    format!(
        "{roles}[agents.robot]\nprotocol = \"{protocol}\"\ncommand = [\"python3\", \"{{home}}/agent.py\", \"{protocol}\", \"{{model}}\"]\n\
         provider = \"acme\"\n[agents.robot.env]\nBASE_URL = \"{{proxy_url}}/llm/acme/v1\"\n\
         [agents.robot.files]\n\"agent.py\" = {source}\n"
    )
}
