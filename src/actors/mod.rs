//! The runtime: which actors are alive, who supervises whom, and how facts reach `decide`.
//!
//! ```text
//! Root (dies -> the process exits)
//!  ├─ Sweeper                    leases, queued runs, due runs, updates from the forge
//!  ├─ Commits                    gathers the runs' writes into group commits
//!  └─ RunSupervisor, one per live run
//!      ├─ Ops                    operations: carries out effects through ports
//!      └─ Manager / Scout / Dev / Reviewer, one per attempt; death = Report::Lost
//! ```
//!
//! Invariant: no product rule lives here. Actors carry facts to `domain::decide` and effects to ports.
//! Invariant: the modules import each other without a cycle.

mod attempt_locks;
mod commits;
mod deps;
mod error;
mod intake;
mod message;
mod notifications;
mod ops;
mod parts;
mod preview;
mod request;
mod retry;
mod role;
mod root;
mod run;
mod runtime_handle;
mod session;
mod sweeper;
mod target;
mod task;

pub use attempt_locks::AttemptLocks;
pub use deps::{Deps, Scope, Tuning};
pub use error::RuntimeError;
pub use notifications::{Notification, Notifications};
pub use parts::{Parts, PartsSource};
pub use preview::Preview;
pub use request::{Defaults, RunRequest};
pub use runtime_handle::RuntimeHandle;
