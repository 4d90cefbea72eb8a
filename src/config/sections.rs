//! The configuration's tables as types, with the same defaults as config/default.toml (a test holds them together).

use super::models::{Keyed, Walls};
use crate::adapters::engine::settings::Agent;
use crate::adapters::runner::settings::Runner;
use crate::domain::{EngineSpec, Policy, Role};
use crate::platform::access::ProjectGrants;
use crate::secrets::Secret;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// The REST interface.
    pub server: Server,
    /// The database.
    pub store: Store,
    /// How many runs, how often, how long.
    pub runs: Runs,
    /// The policy new projects get: `[policy]`, `[limits]`, `[steps.*]` and `[budget]` together.
    pub policy: Policy,
    /// The engine of each role; a role that is missing has none.
    pub engines: Engines,
    /// Where models are served, by name; empty in [`Config::default`], filled by the reference.
    pub providers: BTreeMap<String, Keyed>,
    /// Agents that are driven, by name; empty in [`Config::default`], filled by the reference.
    pub agents: BTreeMap<String, Agent>,
    /// What models cost: a file over the built-in one.
    pub prices: Option<PathBuf>,
    /// Prompts of a person's own: a folder over the built-in ones.
    pub prompts: Option<PathBuf>,
    /// Where the vault's key is.
    pub secrets: Secrets,
    /// The walls commands run in.
    pub sandbox: Walls,
    /// Where checks may run besides this machine, by name: `[runners.*]`.
    pub runners: BTreeMap<String, Runner>,
    /// What commands of runs are given, by project: `[egress]`, a part of `[checks]`, and `[project.*]`.
    pub granted: ProjectGrants,
    /// Who Skep is in git.
    pub git: Git,
    /// How checks are run.
    pub checks: Checks,
    /// Logs and traces.
    pub telemetry: Telemetry,
}

/// `[server]`
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Host names a request may name besides the usual.
    pub allowed_hosts: Vec<String>,
    /// The TLS-terminating proxy in front.
    pub trusted_proxy: Option<IpAddr>,
    /// Where the token is; `None` = in the data directory.
    pub token_file: Option<PathBuf>,
    /// The most event streams.
    pub max_streams: u32,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7377)),
            allowed_hosts: Vec::new(),
            trusted_proxy: None,
            token_file: None,
            max_streams: 64,
        }
    }
}

/// `[secrets]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets {
    /// The file of the vault's key.
    pub key_file: Option<PathBuf>,
    /// The variable that holds it, and its value.
    pub key_env: Option<(String, Secret)>,
}

/// Which database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Database {
    /// `skep.db` in the data directory.
    #[default]
    InDataDir,
    /// By URL (`sqlite:` or `postgres:`), which may hold a password.
    Url(Secret),
}

impl Database {
    /// The URL to connect to.
    pub fn url(&self, data_dir: &Path) -> Secret {
        match self {
            Database::Url(url) => url.clone(),
            Database::InDataDir => {
                let path = data_dir.join("skep.db");
                let mut url = String::from("sqlite:");
                for c in path.to_string_lossy().chars() {
                    match c {
                        '%' => url.push_str("%25"),
                        '?' => url.push_str("%3F"),
                        '#' => url.push_str("%23"),
                        c => url.push(c),
                    }
                }
                Secret::new(url)
            }
        }
    }
    /// Whether it is SQLite.
    pub fn is_sqlite(&self) -> bool {
        match self {
            Database::InDataDir => true,
            Database::Url(url) => url.expose().starts_with("sqlite:"),
        }
    }
}

/// `[store]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Store {
    /// Which database.
    pub database: Database,
}

/// `[runs]`
#[derive(Clone, Debug, PartialEq)]
pub struct Runs {
    /// Runs worked on at once.
    pub max_live_runs: u32,
    /// Parked runs that keep their workers.
    pub max_reserved_slots: u32,
    /// How often the sweep looks.
    pub sweep_interval: Duration,
    /// How long a lease lives.
    pub lease_ttl: Duration,
}

impl Default for Runs {
    fn default() -> Self {
        Self {
            max_live_runs: 10,
            max_reserved_slots: 8,
            sweep_interval: Duration::from_secs(30),
            lease_ttl: Duration::from_secs(30),
        }
    }
}

/// `[role.*]` and `[engines]`
#[derive(Clone, Debug, PartialEq)]
pub struct Engines {
    /// By role, the model appended.
    pub roles: BTreeMap<Role, EngineSpec>,
    /// What takes over, in order, when a role's engine cannot be used.
    pub fallbacks: BTreeMap<Role, Vec<EngineSpec>>,
    /// Names of environment variables that engine commands may see.
    pub pass_env: Vec<String>,
}

impl Default for Engines {
    fn default() -> Self {
        let direct = || EngineSpec { kind: "direct".into(), arg: String::new() };
        let roles = BTreeMap::from([(Role::Manager, direct()), (Role::Reviewer, direct())]);
        Self { roles, fallbacks: BTreeMap::new(), pass_env: Vec::new() }
    }
}

/// `[git]`
#[derive(Clone, Debug, PartialEq)]
pub struct Git {
    /// Author and committer.
    pub author_name: String,
    /// Their address.
    pub author_email: String,
    /// What branch names start with.
    pub branch_prefix: String,
}

impl Default for Git {
    fn default() -> Self {
        Self { author_name: "Skep".into(), author_email: "skep@localhost".into(), branch_prefix: "skep".into() }
    }
}

/// `[checks]`
#[derive(Clone, Debug, PartialEq)]
pub struct Checks {
    /// Time limit of one check, in seconds.
    pub timeout_secs: u64,
}

impl Default for Checks {
    fn default() -> Self {
        Self { timeout_secs: 600 }
    }
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    #[default]
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[telemetry]`
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// Where traces go, without `/v1/traces`; `None` = nowhere.
    pub otlp_endpoint: Option<String>,
    /// Headers for it.
    pub otlp_headers: Vec<(String, Secret)>,
    /// How long a stop waits for the last traces.
    pub flush_timeout: Duration,
    /// The form of log lines.
    pub log_format: LogFormat,
    /// A level or directives.
    pub log_level: String,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            otlp_endpoint: None,
            otlp_headers: Vec::new(),
            flush_timeout: Duration::from_secs(3),
            log_format: LogFormat::Auto,
            log_level: "info".into(),
        }
    }
}
