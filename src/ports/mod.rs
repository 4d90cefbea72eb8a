//! What the product needs from the outside world: small traits over domain types.
//!
//! Invariant: no adapter's type appears here, and nothing here does I/O.

pub mod accounts;
pub mod answer_schema;
pub mod audit;
pub mod blobs;
pub mod checks;
pub mod clock;
pub mod engine;
pub mod error;
pub mod forge;
pub mod forge_issues;
pub mod idempotency;
pub mod intake;
pub mod isolation;
pub mod journal;
pub mod leases;
pub mod ledger;
pub mod messages;
pub mod outcomes;
pub mod projects;
pub mod prompts;
pub mod proposals;
pub mod run_index;
pub mod schedules;
pub mod sessions;
pub mod store;
pub mod vault;
pub mod workspace;

pub use accounts::Accounts;
pub use audit::AuditLog;
pub use blobs::Blobs;
pub use checks::{Checks, RepoRules, Trust};
pub use clock::Clock;
pub use engine::{Engine, EngineEvent, EngineResult, Engines, Sink};
pub use error::{PortError, PortResult};
pub use forge::{Change, Comment, Forge, Forges, GitCredential, GitCredentials, HumanActions, Review};
pub use forge_issues::ForgeIssues;
pub use idempotency::IdempotencyKeys;
pub use intake::Intake;
pub use isolation::Isolation;
pub use journal::Journal;
pub use leases::Leases;
pub use ledger::Ledger;
pub use messages::{Channel, Messages};
pub use outcomes::Outcomes;
pub use projects::Projects;
pub use prompts::{Prompt, Prompts};
pub use proposals::Proposals;
pub use run_index::RunIndex;
pub use schedules::Schedules;
pub use sessions::Sessions;
pub use store::Store;
pub use vault::{SecretName, SecretRow, Vault};
pub use workspace::{Commit, Moved, Repo, Workspaces};
