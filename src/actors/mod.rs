//! The runtime: who is alive, who watches whom, and how facts reach `decide`.
//!
//! ```text
//! Root (dies -> the process exits)
//!  ├─ Sweeper                    leases, queued runs, the forge's news
//!  ├─ Commits                    gathers the runs' writes into group commits
//!  └─ RunSupervisor, one per live run
//!      ├─ Ops                    the hands: carries out effects through ports
//!      └─ Manager / Scout / Dev / Reviewer, one per attempt; death = Report::Lost
//! ```
//!
//! Invariant: no rule of the product stands here. Actors carry facts to `domain::decide` and effects to ports.

mod attempt_locks;
mod commits;
mod deps;
pub mod intake;
mod message;
pub mod notifications;
mod ops;
pub mod preview;
mod retry;
mod role;
mod root;
mod run;
mod runtime_handle;
mod session;
mod sweeper;

pub use attempt_locks::AttemptLocks;
pub use deps::{Deps, Scope, Tuning};
pub use intake::{Ask, Defaults, DefaultsNow};
pub use notifications::{News, Notifications};
pub use preview::Preview;
pub use runtime_handle::{Rejected, RuntimeHandle};
