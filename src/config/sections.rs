//! Types of the configuration's tables, with the defaults of config/default.toml (a test compares them).

use super::heuristics;
use super::models::{Keyed, SandboxSettings};
use crate::adapters::engine::settings::{Agent, CHECKS_PER_SESSION, PARTIAL_EXIT_CODES};
use crate::adapters::forge::settings::ForgeSettings;
use crate::adapters::notify::settings::ChannelSettings;
use crate::adapters::oidc::settings::OidcSettings;
use crate::adapters::runner::settings::Runner;
use crate::domain::deployment::Target;
use crate::domain::improve::{ImproveSettings, Rule, Threshold};
use crate::domain::{EngineSpec, OpenWorkSettings, Policy, Role};
use crate::platform::access::settings::ProjectGrants;
use crate::secrets::Secret;
use crate::service::schedules::settings::Schedule;
use crate::telemetry::settings::Telemetry;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// The REST API.
    pub server: Server,
    /// How people log in.
    pub auth: Auth,
    /// Model Context Protocol.
    pub mcp: Mcp,
    /// The database.
    pub store: Store,
    /// Concurrency and intervals of runs.
    pub runs: Runs,
    /// What a service removes by itself.
    pub retention: Retention,
    /// Policy of new projects: `[policy]`, `[limits]`, `[steps.*]` and `[budget]` together.
    pub policy: Policy,
    /// Engine of each role. A missing role has none.
    pub engines: Engines,
    /// Model providers by name; empty in [`Config::default`], filled by the reference.
    pub providers: BTreeMap<String, Keyed>,
    /// Coding agents by name; empty in [`Config::default`], filled by the reference.
    pub agents: BTreeMap<String, Agent>,
    /// Price file that overrides the built-in prices.
    pub prices: Option<PathBuf>,
    /// Folder of prompts that override the built-in ones.
    pub prompts: Option<PathBuf>,
    /// Source of the vault key.
    pub secrets: Secrets,
    /// The sandbox of commands.
    pub sandbox: SandboxSettings,
    /// Runners other than this machine, by name: `[runners.*]`.
    pub runners: BTreeMap<String, Runner>,
    /// Forges other than the local one, by name: `[forges.*]`.
    pub forges: BTreeMap<String, ForgeSettings>,
    /// Goals that become runs at certain times, by name: `[schedules.*]`.
    pub schedules: Vec<Schedule>,
    /// Targets of deployments, by name: `[deploy.*]`.
    pub deploy: Vec<Target>,
    /// Channels for messages, by name: `[notify.*]`.
    pub notify: BTreeMap<String, ChannelSettings>,
    /// Hosts, secrets and runners granted to the commands of each project: `[egress]`, parts of `[checks]` and
    /// `[engines]`, and `[project.*]`.
    pub granted: ProjectGrants,
    /// Limits of open work: `[open]`.
    pub open: OpenWorkSettings,
    /// How `skep improve` finds recurring failures.
    pub improve: Improve,
    /// Identity of Skep in git.
    pub git: Git,
    /// Settings of checks.
    pub checks: Checks,
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// The configuration file and the files with secrets that it names. No command may read them.
    pub private_files: Vec<PathBuf>,
}

/// `[server]`
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Address of the pages for people, without a trailing slash; `None` = the listen address, if it is loopback.
    pub public_url: Option<String>,
    /// Additional host names accepted in requests.
    pub allowed_hosts: Vec<String>,
    /// Address of the TLS-terminating reverse proxy.
    pub trusted_proxy: Option<IpAddr>,
    /// File of the bearer token; `None` = in the data directory.
    pub token_file: Option<PathBuf>,
    /// Maximum number of open event streams.
    pub max_streams: u32,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7377)),
            public_url: None,
            allowed_hosts: Vec::new(),
            trusted_proxy: None,
            token_file: None,
            max_streams: 64,
        }
    }
}

impl Server {
    /// Returns the address under which people reach the pages, if it is known.
    pub fn pages(&self) -> Option<String> {
        let local = self.listen.ip().is_loopback().then(|| format!("http://{}", self.listen));
        self.public_url.clone().or(local)
    }
}

/// `[auth]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Auth {
    /// Name of the header in which the trusted proxy names the person who is logged in there.
    pub proxy_header: Option<String>,
    /// The OpenID Connect provider.
    pub oidc: Option<OidcSettings>,
}

/// `[mcp]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mcp {
    /// Names of rights that agents have beyond reading and steering runs: `approve`, `budget`.
    pub allow: Vec<String>,
}

/// `[secrets]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets {
    /// File with the vault key.
    pub key_file: Option<PathBuf>,
    /// Environment variable with the vault key, and its value.
    pub key_env: Option<(String, Secret)>,
}

/// The database of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Database {
    /// `skep.db` in the data directory.
    #[default]
    InDataDir,
    /// A URL (`sqlite:` or `postgres:`), which may contain a password.
    Url(Secret),
}

impl Database {
    /// Returns the URL to connect to.
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
    /// Returns whether the database is SQLite.
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
    /// The database.
    pub database: Database,
}

/// `[runs]`
#[derive(Clone, Debug, PartialEq)]
pub struct Runs {
    /// Maximum number of active runs.
    pub max_live_runs: u32,
    /// Maximum number of parked runs that keep their workers.
    pub max_reserved_slots: u32,
    /// Interval of the sweep.
    pub sweep_interval: Duration,
    /// Lifetime of a lease without renewal.
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

/// `[retention]`
#[derive(Clone, Debug, PartialEq)]
pub struct Retention {
    /// Interval at which a service frees disk space; `None` = never.
    pub interval: Option<Duration>,
    /// How long ago the runs ended whose logs are removed; `None` = none are.
    pub logs: Option<Duration>,
    /// How long no check has filled a cache that is removed.
    pub caches: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3_600);
        Self { interval: Some(day), logs: None, caches: day * 30 }
    }
}

/// `[role.*]` and `[engines]`
#[derive(Clone, Debug, PartialEq)]
pub struct Engines {
    /// Engine of each role, with its model appended.
    pub roles: BTreeMap<Role, EngineSpec>,
    /// Engines to use instead, in order, if a role's engine is unavailable.
    pub fallbacks: BTreeMap<Role, Vec<EngineSpec>>,
    /// Names of environment variables passed to engine commands.
    pub pass_env: Vec<String>,
    /// Exit codes of engine commands after which the checks decide whether what changed is good.
    pub partial_exit_codes: Vec<i32>,
    /// How often the checks run in a session of an `llm` engine.
    pub checks_per_session: u32,
}

impl Default for Engines {
    fn default() -> Self {
        let direct = || EngineSpec { kind: "direct".into(), arg: String::new() };
        let roles = BTreeMap::from([(Role::Manager, direct()), (Role::Reviewer, direct())]);
        let partial_exit_codes = PARTIAL_EXIT_CODES.to_vec();
        let checks_per_session = CHECKS_PER_SESSION;
        Self { roles, fallbacks: BTreeMap::new(), pass_env: Vec::new(), partial_exit_codes, checks_per_session }
    }
}

/// `[git]`
#[derive(Clone, Debug, PartialEq)]
pub struct Git {
    /// Name of the author and committer.
    pub author_name: String,
    /// E-mail address of the author and committer.
    pub author_email: String,
    /// Prefix of branch names.
    pub branch_prefix: String,
}

impl Default for Git {
    fn default() -> Self {
        Self { author_name: "Skep".into(), author_email: "skep@localhost".into(), branch_prefix: "skep".into() }
    }
}

/// `[improve]`
#[derive(Clone, Debug, PartialEq)]
pub struct Improve {
    /// How far back a pass reads.
    pub window: Duration,
    /// Percentage of the attempts at a step from which a failure is proposed.
    pub share_percent: u64,
    /// Maximum number of open proposals.
    pub most: u32,
    /// The user's own rules.
    pub own_rules: Vec<Rule>,
}

impl Default for Improve {
    fn default() -> Self {
        Self { window: Duration::from_secs(14 * 24 * 3_600), share_percent: 5, most: 3, own_rules: Vec::new() }
    }
}

impl Improve {
    /// Returns the settings of the use case, with the built-in rules under the user's own.
    pub fn settings(&self) -> ImproveSettings {
        ImproveSettings {
            window_ms: i64::try_from(self.window.as_millis()).unwrap_or(i64::MAX),
            threshold: Threshold { share_percent: self.share_percent, ..Threshold::default() },
            most: self.most,
            rules: heuristics::rules(&self.own_rules),
        }
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
