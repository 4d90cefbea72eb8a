//! What the product needs of the world: small traits over domain types.
//!
//! Invariant: no adapter's type appears here, and nothing here does I/O.

pub mod answer_schema;
pub mod audit;
pub mod checks;
pub mod clock;
pub mod engine;
pub mod error;
pub mod forge;
pub mod idempotency;
pub mod isolation;
pub mod prompts;
pub mod store;
pub mod vault;
pub mod workspace;

pub use audit::AuditLog;
pub use checks::{Checks, RepoRules};
pub use clock::Clock;
pub use engine::{Engine, EngineEvent, EngineResult, Engines, Sink};
pub use error::{PortError, PortResult};
pub use forge::{Change, Comment, Forge, HumanActions, Review};
pub use idempotency::IdempotencyKeys;
pub use isolation::Isolation;
pub use prompts::{Prompt, Prompts};
pub use store::Store;
pub use vault::{SecretName, SecretRow, Vault};
pub use workspace::{Commit, Moved, Repo, Workspaces};
