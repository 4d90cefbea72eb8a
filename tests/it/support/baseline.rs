//! A factory floor: a person's machine whose roles think with a scripted server, what that costs, and the usual story of a change.

use super::cli::{Beside, Cli, Said, ended};
use super::models::{KEY, Models, Reply, Request, Served, call, calls};
use serde_json::{Value, json};
use skep::providers::settings::Api;
use std::process::Stdio;

/// The provider's name in the configuration of each API.
pub fn name_of(api: Api) -> &'static str {
    match api {
        Api::Anthropic => "anthropic",
        Api::OpenAi => "openai",
        Api::OpenAiResponses => "openai-responses",
        Api::Gemini => "gemini",
        Api::Ollama => "ollama",
    }
}

/// All roles on models of `acme`: `strong` plans, `cheap` edits, `judge` reviews.
pub const ROLES: &str = "[role.manager]\nengine = \"llm:acme/strong\"\n[role.dev]\nengine = \"llm:acme/cheap\"\n\
                         [role.reviewer]\nengine = \"llm:acme/judge\"\n";

/// A run of the usual story on `tool.git`.
pub const RUN: &[&str] = &["run", "--repo", "tool.git", "--goal", "a.txt says b", "--check", "grep b a.txt", "--yes"];

/// The machine and the server.
pub struct Floor {
    pub desk: Cli,
    pub models: Models,
}

impl Floor {
    /// A machine with the provider `acme`, its key in the file `key`, prices for all its models, and `tool.git` where `a.txt` says a.
    /// `more` is the rest of the configuration.
    pub fn new(models: Models, api: Api, more: &str) -> Floor {
        let desk = Cli::new();
        std::fs::create_dir(desk.path("data")).unwrap();
        let floor = Floor { desk, models };
        floor.put_key(KEY);
        let prices = "version = \"2030-01-01\"\n[[model]]\nmatch = [\"acme/*\", \"spare/*\"]\ninput = 1.0\ncached = 0.1\n\
                      cache_write = 1.25\noutput = 10.0\n";
        std::fs::write(floor.desk.path("prices.toml"), prices).unwrap();
        let file = floor.desk.path("prices.toml");
        let provider = floor.provider("acme", api, "");
        floor.configure(&format!("{provider}[prices]\nfile = {file:?}\n{more}"));
        floor.desk.repo("tool", &[("a.txt", "a\n")]);
        floor
    }

    /// The table of a provider that is the scripted server.
    pub fn provider(&self, name: &str, api: Api, more: &str) -> String {
        let base = self.models.provider(api).base_url;
        let key = self.desk.path("key");
        let api = name_of(api);
        format!("[providers.{name}]\napi = \"{api}\"\nbase_url = \"{base}\"\nkey_file = {key:?}\n{more}")
    }

    pub fn put_key(&self, key: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.desk.path("key");
        std::fs::write(&path, key).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Writes the whole configuration.
    pub fn configure(&self, text: &str) {
        std::fs::write(self.desk.path("data/skep.toml"), text).unwrap();
    }

    /// Runs a command to its end. The scripted server runs in this very test: its threads go on meanwhile.
    #[track_caller]
    pub fn does(&self, args: &[&str]) -> Said {
        let command = self.desk.skep(args);
        tokio::task::block_in_place(|| ended(command))
    }

    /// A command beside the test, its log in the file `log`.
    pub fn beside(&self, args: &[&str]) -> Beside {
        let log = std::fs::File::options().create(true).append(true).open(self.desk.path("log")).unwrap();
        let mut command = self.desk.skep(args);
        Beside(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    /// A service beside the test, once it answers.
    pub fn serve(&self) -> Beside {
        let service = self.beside(&["serve", "--listen", "127.0.0.1:0"]);
        let sign = self.desk.path("data/service.json");
        let pid = u64::from(service.0.id());
        let is_up = || serde_json::from_slice::<Value>(&std::fs::read(&sign).ok()?).ok()?["pid"].as_u64();
        tokio::task::block_in_place(|| self.desk.until("the service answers", || is_up() == Some(pid)));
        service
    }

    /// What the service on the machine answers to a GET.
    pub async fn get(&self, path: &str) -> Value {
        let sign: Value = serde_json::from_slice(&std::fs::read(self.desk.path("data/service.json")).unwrap()).unwrap();
        let token = std::fs::read_to_string(self.desk.path("data/token")).unwrap();
        let url = format!("http://{}{path}", sign["address"].as_str().unwrap());
        let client = super::provider::client();
        client.get(url).bearer_auth(token.trim()).send().await.unwrap().json().await.unwrap()
    }

    /// Polls until it is so.
    #[track_caller]
    pub fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        tokio::task::block_in_place(|| self.desk.until(what, is_so));
    }

    /// The newest run as `show --json` gives it.
    #[track_caller]
    pub fn show(&self) -> Value {
        tokio::task::block_in_place(|| self.desk.show(&self.desk.newest()))
    }

    /// All runs as `runs --json` gives them.
    #[track_caller]
    pub fn runs(&self) -> Vec<Value> {
        self.does(&["runs", "--json"]).ends(0).json()["runs"].as_array().unwrap().clone()
    }

    /// What `a.txt` says on the base branch.
    pub fn landed(&self) -> String {
        super::cli::git(&self.desk.path("tool.git"), &["show", "main:a.txt"]).trim().to_owned()
    }

    /// Processes that still work for this machine, however they were started.
    pub fn strays(&self) -> Vec<String> {
        let mark = self.desk.dir.path().to_string_lossy().into_owned();
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

/// Tokens and micro-USD of these answers, by the price file.
pub fn priced<'a>(served: impl IntoIterator<Item = &'a Served>) -> (u64, u64) {
    served.into_iter().fold((0, 0), |(tokens, micros), s| {
        // Hundredths of a micro-USD: 1.00, 0.10, 1.25 and 10.00 a token.
        let exact = (s.input - s.cached - s.written) * 100 + s.cached * 10 + s.written * 125 + s.output * 1000;
        (tokens + s.input + s.output, micros + exact.div_ceil(100))
    })
}

/// A plan of one task.
pub fn plan() -> Reply {
    call(
        "done",
        json!({"tasks": [{"name": "say", "title": "Say b", "text": "a.txt must say b", "needs": [], "paths": []}]}),
    )
}

/// A yes of the reviewer.
pub fn approval() -> Reply {
    call("done", json!({"verdict": "approve", "summary": "right", "findings": []}))
}

/// The dev's turns: two calls at once, an edit, the end.
pub fn edits(turn: usize) -> Reply {
    match turn {
        0 => calls(&[("read", json!({"path": "a.txt"})), ("list", json!({}))]),
        1 => call("edit", json!({"path": "a.txt", "edits": [{"old": "a", "new": "b"}]})),
        _ => call("done", json!({"summary": "a.txt says b"})),
    }
}

/// The usual story, by the model that is asked.
pub fn usual(request: &Request) -> Reply {
    match (request.model(), request.turn()) {
        ("strong", 0) => call("read", json!({"path": "a.txt"})),
        ("strong", _) => plan(),
        ("judge", _) => approval(),
        (_, turn) => edits(turn),
    }
}

/// The roles, with a dev that is driven over ACP and takes its conversation up again after its process is gone.
pub fn resuming() -> String {
    driven("acp").replace("\"{model}\"]", "\"{model}\", \"resumes\"]")
}

/// The roles, with a dev that is driven ("acp" or "cli") and reaches the same server through the gate.
pub fn driven(way: &str) -> String {
    let roles = ROLES.replace("llm:acme/cheap", &format!("{way}:robot/cheap"));
    let source = toml::Value::String(include_str!("../driven/thinking_agent.py").to_owned());
    format!(
        "{roles}[agents.robot]\nprotocol = \"{way}\"\ncommand = [\"python3\", \"{{home}}/agent.py\", \"{way}\", \"{{model}}\"]\n\
         provider = \"acme\"\n[agents.robot.env]\nBASE_URL = \"{{proxy_url}}/llm/acme/v1\"\n\
         [agents.robot.files]\n\"agent.py\" = {source}\n"
    )
}
