//! The composition root: connects ports to adapters.
//!
//! Invariant: nothing outside this folder names a concrete adapter.

use crate::actors::{AttemptLocks, Deps, LandingQueue, Notifications, RuntimeHandle, Scope, Tuning};
use crate::adapters::checks::RemoteSessions;
use crate::adapters::deploy::Deploys;
use crate::adapters::engine::OpenEngine;
use crate::adapters::forge::local::LocalForge;
use crate::adapters::store::{self, KeySource};
use crate::adapters::workspace::GitWorkspaces;
use crate::config::{ApiKeySource, Config};
use crate::domain::improve::ImproveSettings;
use crate::domain::{CheckKind, CheckSpec, OpenWorkSettings};
use crate::http;
use crate::platform::clock::SystemClock;
use crate::platform::git::{Git, Identity, Mirrors};
use crate::platform::sandbox::Sandbox;
use crate::ports::leases::Owner;
use crate::ports::{
    Accounts, AuditLog, Channel, IdempotencyKeys, Intake, Messages, OpenWork, Outcomes, PersonalChannels,
    PersonalSettings, PortError, PortResult, Proposals, Schedules, SeenChanges, Sessions, Vault,
};
use crate::service::deployments::DeployParts;
use crate::service::landings::LandingParts;
use crate::service::metrics::Monitor;
use crate::service::schedules::settings::Schedule;
use crate::service::single_sign_on::SingleSignOn;
use crate::service::{Caller, Callers, Right, Services, Via};
use forges::{ConfiguredForges, ForgeRegistry};
use reloadable::{Reloadable, Surroundings};
use std::path::Path;
use std::sync::Arc;

mod add_forge;
mod backup;
mod configure;
mod doctor;
mod eval;
mod forges;
mod gc;
mod host;
mod identity;
mod key_reload;
mod listing;
mod metrics;
mod notify;
mod notifying_vault;
mod owner;
mod probe;
mod program;
mod prompts;
mod reload;
mod reloadable;
mod restore;
mod runners;
mod sandbox;
mod secret_registration;
mod settings;
mod verify;

pub use crate::platform::init::run_if_init;
pub use crate::platform::process::protect_memory;
pub use crate::platform::sandbox::inside::run_if_helper as run_sandbox_helper;
pub use program::Program;

/// Upper bound on queued and waiting runs.
const MAX_OPEN_RUNS: u32 = 10_000;

/// The ports, connected.
#[derive(Clone)]
pub struct Ports {
    /// Dependencies of the actors.
    pub deps: Deps,
    /// The vault for people.
    pub vault: Arc<dyn Vault>,
    /// Audit log.
    pub audit: Arc<dyn AuditLog>,
    /// Idempotency keys of requests.
    pub idempotency: Arc<dyn IdempotencyKeys>,
    /// Verified outcomes.
    pub outcomes: Arc<dyn Outcomes>,
    /// Proposals for improvement.
    pub proposals: Arc<dyn Proposals>,
    /// How failures are found and proposed.
    pub improve: Arc<ImproveSettings>,
    /// Deliveries of forges, and the runs of issues.
    pub intake: Arc<dyn Intake>,
    /// The configured schedules.
    pub schedules: Arc<[Schedule]>,
    /// What became of them.
    pub schedule_states: Arc<dyn Schedules>,
    /// People and access tokens.
    pub accounts: Arc<dyn Accounts>,
    /// Outside agents and the offers that they claim.
    pub open_work: Arc<dyn OpenWork>,
    /// Limits of open work.
    pub open_work_settings: OpenWorkSettings,
    /// Targets of deployments.
    pub deploy: DeployParts,
    /// Watches over what runs have landed.
    pub landings: LandingParts,
    /// What people saw of runs.
    pub seen_changes: Arc<dyn SeenChanges>,
    /// Login links and sessions of people.
    pub sessions: Arc<dyn Sessions>,
    /// The identity provider at which people may log in.
    pub single_sign_on: Option<SingleSignOn>,
    /// Outbox of messages to people.
    pub messages: Arc<dyn Messages>,
    /// Channels that deliver messages to people.
    pub channels: Arc<[Arc<dyn Channel>]>,
    /// How people want to get messages of their own.
    pub personal_settings: Arc<dyn PersonalSettings>,
    /// Creates their channels.
    pub personal: Arc<dyn PersonalChannels>,
    /// The parts that follow the configuration.
    reloadable: Arc<Reloadable>,
}

/// Connects every port for a data directory; commands run in `sandbox`.
///
/// # Errors
/// The database, git or the configuration cannot be used; the error names the fix.
pub async fn connect(config: &Config, data_dir: &Path, scope: Scope, sandbox: &Sandbox) -> PortResult<Ports> {
    let clock = Arc::new(SystemClock);
    let author = Identity { name: config.git.author_name.clone(), email: config.git.author_email.clone() };
    let git = Arc::new(Git::find(author).await?);
    let pass = &config.engines.pass_env;
    for name in pass.iter().filter(|name| std::env::var_os(name).is_none()) {
        tracing::warn!(name, "a variable listed in engines.pass_env is not set");
    }
    let url = config.store.database.url(data_dir);
    for name in store::migrate(url.expose()).await? {
        tracing::info!(name, "schema migrated");
    }
    let home = owner::home(data_dir)?;
    let store = Arc::new(store::connect(url.expose()).await?.at_home(&home));
    let vault: Arc<dyn Vault> = Arc::new(store.vault(key_source(config), data_dir));
    let forges = Arc::new(ConfiguredForges::new(vault.clone()));
    let mirrors = Arc::new(Mirrors::new(data_dir.to_owned(), git).with_credentials(forges.clone()));
    let forge = Arc::new(LocalForge::new(data_dir.to_owned(), mirrors.clone(), clock.clone()));
    let of_person = std::env::home_dir().filter(|home| home.is_absolute());
    let workspaces = Arc::new(GitWorkspaces::new(data_dir.to_owned(), mirrors).of_person(of_person));
    let runs_engines = scope != Scope::Nothing;
    let unusable = |why: String| PortError::permanent(why, "fix the configuration");
    let surroundings = Surroundings {
        workspaces: workspaces.clone(),
        vault,
        forges: forges.clone(),
        sandbox: sandbox.clone(),
        sessions: RemoteSessions::new(&home),
        open: Arc::new(OpenEngine::new(store.clone(), config.open, clock.clone())),
        // Loading certificates takes time that a command which starts no engine need not spend.
        proxy: runs_engines.then(settings::egress_proxy).transpose().map_err(unusable)?,
    };
    let reloadable = Reloadable::new(config, surroundings).await.map_err(unusable)?;
    if runs_engines {
        let reloadable = reloadable.clone();
        // In the background, because a runner may be unreachable.
        tokio::spawn(async move { reloadable.sweep_runners().await });
    }
    let channels = notify::channels(config).map_err(unusable)?;
    let single_sign_on = identity::single_sign_on(config).map_err(unusable)?;
    let deps = Deps {
        store: store.clone(),
        workspaces,
        parts: reloadable.clone(),
        forges: Arc::new(ForgeRegistry::new(forge, forges)),
        isolation: Arc::new(sandbox.clone()),
        clock,
        notifications: Notifications::default(),
        attempt_locks: AttemptLocks::default(),
        landing_queue: LandingQueue::default(),
        owner: Owner(uuid::Uuid::now_v7().simple().to_string()),
        tuning: Tuning {
            max_live_runs: config.runs.max_live_runs,
            max_reserved_slots: config.runs.max_reserved_slots,
            lease: config.runs.lease_ttl,
            sweep: config.runs.sweep_interval,
            max_open_runs: MAX_OPEN_RUNS,
        },
        scope,
    };
    let vault = reloadable.vault();
    let deploys = Deploys::new(config.runners.clone(), deps.workspaces.clone(), vault.clone(), &home);
    let deploy = DeployParts::new(config.deploy.clone().into(), store.clone(), Arc::new(deploys));
    Ok(Ports {
        deps,
        vault,
        audit: store.clone(),
        idempotency: store.clone(),
        outcomes: store.clone(),
        proposals: store.clone(),
        improve: Arc::new(config.improve.settings()),
        intake: store.clone(),
        schedules: config.schedules.clone().into(),
        schedule_states: store.clone(),
        accounts: store.clone(),
        open_work: store.clone(),
        open_work_settings: config.open,
        deploy,
        landings: LandingParts { store: store.clone(), wake: Arc::default() },
        seen_changes: store.clone(),
        sessions: store.clone(),
        single_sign_on,
        messages: store.clone(),
        channels,
        personal_settings: store,
        personal: Arc::new(notify::ConfiguredPersonal::new(config)),
        reloadable,
    })
}

/// Opens the vault for a process without ports; `None` if the configuration uses no secret, so that the store is left
/// alone.
async fn vault_of(config: &Config, data_dir: &Path) -> PortResult<Option<Arc<dyn Vault>>> {
    let keyed = config.providers.values().any(|keyed| matches!(keyed.source, ApiKeySource::Vault(_)));
    let forges = config.forges.values().any(|forge| forge.vault_secret().is_some());
    if !keyed && !forges && config.granted.all.engine_secrets.is_empty() {
        return Ok(None);
    }
    let url = config.store.database.url(data_dir);
    store::migrate(url.expose()).await?;
    Ok(Some(Arc::new(store::connect(url.expose()).await?.vault(key_source(config), data_dir))))
}

/// Checks the vault of a store whose schema is current, without changing anything.
async fn check_vault(config: &Config, data_dir: &Path) -> PortResult<()> {
    let url = config.store.database.url(data_dir);
    store::connect(url.expose()).await?.vault(key_source(config), data_dir).check().await
}

fn key_source(config: &Config) -> KeySource {
    match (&config.secrets.key_file, &config.secrets.key_env) {
        (Some(file), _) => KeySource::File(file.clone()),
        (None, Some((name, value))) => KeySource::Env(name.clone(), value.clone()),
        (None, None) => KeySource::DataDir,
    }
}

/// Starts the runtime over the ports.
///
/// # Errors
/// The store cannot be read.
pub async fn start(ports: &Ports) -> anyhow::Result<(RuntimeHandle, tokio::task::JoinHandle<()>)> {
    Ok(RuntimeHandle::start(ports.deps.clone()).await?)
}

/// Builds the use cases over the ports.
pub fn services(ports: &Ports, runtime: RuntimeHandle) -> Services {
    let reloadable = ports.reloadable.clone();
    let checks_from = move |lines: &[String]| {
        let timeout_secs = reloadable.check_timeout_secs();
        let check = |(n, line): (usize, &String)| CheckSpec {
            name: format!("check-{n}"),
            kind: CheckKind::Test,
            command: line.clone(),
            timeout_secs,
            junit: None,
            runner: None,
            detected: false,
        };
        (1..).zip(lines).map(check).collect()
    };
    Services {
        runtime,
        clock: ports.deps.clock.clone(),
        store: ports.deps.store.clone(),
        forges: ports.deps.forges.clone(),
        vault: ports.vault.clone(),
        workspaces: ports.deps.workspaces.clone(),
        audit: ports.audit.clone(),
        idempotency: ports.idempotency.clone(),
        outcomes: ports.outcomes.clone(),
        proposals: ports.proposals.clone(),
        improve: ports.improve.clone(),
        intake: ports.intake.clone(),
        intake_wake: Arc::default(),
        schedules: ports.schedules.clone(),
        schedule_states: ports.schedule_states.clone(),
        accounts: ports.accounts.clone(),
        open_work: ports.open_work.clone(),
        open_work_settings: ports.open_work_settings,
        deploy: ports.deploy.clone(),
        landings: ports.landings.clone(),
        seen_changes: ports.seen_changes.clone(),
        sessions: ports.sessions.clone(),
        single_sign_on: ports.single_sign_on.clone(),
        messages: ports.messages.clone(),
        channels: ports.channels.clone(),
        personal_settings: ports.personal_settings.clone(),
        personal: ports.personal.clone(),
        in_progress: Default::default(),
        notifications: ports.deps.notifications.clone(),
        checks_from: Arc::new(checks_from),
        parts: ports.deps.parts.clone(),
        sandbox: ports.deps.isolation.clone(),
        monitor: Arc::new(Monitor::new(ports.deps.tuning.max_live_runs, ports.deps.tuning.max_reserved_slots)),
        installation: None,
        started_at: std::time::Instant::now(),
    }
}

/// The person who owns this process, with every right.
fn operator() -> Caller {
    Caller::with_all_rights(owner::person(), Via::Rest)
}

/// The routes over the use cases.
///
/// # Errors
/// If the trusted proxy's header cannot be used.
pub fn routes(services: Services, config: &Config, token: &str) -> anyhow::Result<axum::Router> {
    Ok(http::router(http_state(services, config, token)?))
}

/// The state of the routes. The token's caller is the person who owns this process, with every right.
fn http_state(services: Services, config: &Config, token: &str) -> anyhow::Result<http::State> {
    let hosts = http::LOOPBACK.iter().map(|h| (*h).to_owned()).chain(config.server.allowed_hosts.iter().cloned());
    let caller = operator();
    let proxy = config.server.trusted_proxy.zip(config.auth.proxy_header.as_deref());
    let proxy = proxy.map(|(address, header)| http::TrustedProxy::new(address, header)).transpose();
    Ok(http::State {
        services,
        callers: Callers::new([(token.to_owned(), caller)]),
        agent_rights: Arc::new(
            http::mcp::RIGHTS
                .into_iter()
                .chain(config.mcp.allow.iter().filter_map(|name| Right::named(name)))
                .collect(),
        ),
        hosts: hosts.collect(),
        proxy: proxy.map_err(anyhow::Error::msg)?,
        streams: Arc::new(tokio::sync::Semaphore::new(config.server.max_streams as usize)),
    })
}
