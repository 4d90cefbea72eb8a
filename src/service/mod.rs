//! Use cases: one function each, called by REST, the command line and every other surface.
//!
//! Each function takes the [`Caller`], checks the right it needs, and writes the audit record of what it did.
//!
//! Invariant: no surface reaches the runtime or the store except through here, and nothing here knows about HTTP.

pub mod actions;
pub mod agents;
pub mod artifacts;
pub mod audit;
pub mod budgets;
pub mod caller;
pub mod changes;
pub mod checks;
pub mod ci;
pub mod deployments;
pub mod error;
pub mod health;
pub mod host;
pub mod idempotency;
pub mod improve;
pub mod inbox;
pub mod input;
pub mod installation;
pub mod intake;
pub mod landings;
pub mod memory;
pub mod messages;
pub mod metrics;
mod moved_runs;
pub mod open_work;
pub mod outcomes;
pub mod people;
pub mod projects;
pub mod ratings;
pub mod results;
pub mod reverts;
pub mod runs;
pub mod schedules;
mod secret_text;
pub mod secrets;
pub mod seen;
pub mod sessions;
pub mod single_sign_on;
mod specs;
pub mod tokens;
pub mod watch;

pub use caller::{Caller, Callers, Right, Via};
pub use error::{ErrorKind, ServiceError, ServiceResult};

use crate::actors::{Notifications, PartsSource, RuntimeHandle};
use crate::domain::improve::ImproveSettings;
use crate::domain::{CheckSpec, OpenWorkSettings};
use crate::ports::{
    Accounts, AuditLog, Channel, Clock, Forges, IdempotencyKeys, Intake, Isolation, Messages, OpenWork, Outcomes,
    PersonalChannels, PersonalSettings, Proposals, Schedules, SeenChanges, Sessions, Store, Vault, Workspaces,
};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Notify;

/// Builds checks from command lines.
pub type ChecksFrom = Arc<dyn Fn(&[String]) -> Vec<CheckSpec> + Send + Sync>;

/// Ports and runtime that the use cases work with.
#[derive(Clone)]
pub struct Services {
    /// Runtime of the runs.
    pub runtime: RuntimeHandle,
    /// Clock.
    pub clock: Arc<dyn Clock>,
    /// Store: runs, journals, artifacts, projects and the ledger.
    pub store: Arc<dyn Store>,
    /// Forges, by name.
    pub forges: Arc<dyn Forges>,
    /// Vault.
    pub vault: Arc<dyn Vault>,
    /// Git workspaces, to inspect repositories and diffs.
    pub workspaces: Arc<dyn Workspaces>,
    /// Audit log.
    pub audit: Arc<dyn AuditLog>,
    /// People and access tokens.
    pub accounts: Arc<dyn Accounts>,
    /// Outside agents and the offers that they claim.
    pub open_work: Arc<dyn OpenWork>,
    /// Limits of open work.
    pub open_work_settings: OpenWorkSettings,
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
    /// Wakes the worker that applies deliveries.
    pub intake_wake: Arc<Notify>,
    /// The configured schedules, by name.
    pub schedules: Arc<[schedules::settings::Schedule]>,
    /// What became of them.
    pub schedule_states: Arc<dyn Schedules>,
    /// Targets of deployments.
    pub deploy: deployments::DeployParts,
    /// Watches over what runs have landed.
    pub landings: landings::LandingParts,
    /// What people saw of runs.
    pub seen_changes: Arc<dyn SeenChanges>,
    /// Login links and sessions of people.
    pub sessions: Arc<dyn Sessions>,
    /// The identity provider at which people may log in.
    pub single_sign_on: Option<single_sign_on::SingleSignOn>,
    /// Outbox of messages to people.
    pub messages: Arc<dyn Messages>,
    /// Channels that deliver messages to people.
    pub channels: Arc<[Arc<dyn Channel>]>,
    /// How people want to get messages of their own.
    pub personal_settings: Arc<dyn PersonalSettings>,
    /// Creates their channels.
    pub personal: Arc<dyn PersonalChannels>,
    /// Requests with an idempotency key that are in progress in this process.
    pub in_progress: idempotency::InProgress,
    /// Notifications about runs, for watchers.
    pub notifications: Notifications,
    /// Builds checks from command lines.
    pub checks_from: ChecksFrom,
    /// The configured parts, for the defaults of new projects.
    pub parts: Arc<dyn PartsSource>,
    /// Sandbox of commands.
    pub sandbox: Arc<dyn Isolation>,
    /// What was last read from the store for metrics.
    pub monitor: Arc<metrics::Monitor>,
    /// The installation, for its settings pages; `None` in a process that serves no pages.
    pub installation: Option<Arc<installation::Installation>>,
    /// Start of the service.
    pub started_at: Instant,
}
