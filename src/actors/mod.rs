//! The runtime: which actors are alive, who supervises whom, and how facts reach `decide`.
//!
//! ```text
//! Root (dies -> the process exits)
//!  ├─ Sweeper                    leases, queued runs, due runs, updates from the forge
//!  ├─ Commits                    gathers the runs' writes into group commits
//!  ├─ a task for each base branch on which changes wait to land in batches
//!  └─ RunSupervisor, one per live run
//!      ├─ Ops                    operations: carries out effects through ports
//!      └─ Manager / Scout / Dev / Reviewer, one per attempt; death = Report::Lost
//! ```
//!
//! For each event, the RunSupervisor calls `decide` and hands one transition to Commits: the event, the new snapshot,
//! new and finished outbox rows, and the listing row. All of it is one transaction, fenced by the lease's epoch; only
//! then are the effects carried out.
//!
//! Recovery is loading, and there is no second path. Starting a run means acquiring its lease and loading its snapshot
//! and outbox. Pending effects are carried out again, and each first observes whether it is already done. Attempts cost
//! money: `Event::Orphaned` reports that their process is gone, and the domain decides whether an attempt resumes its
//! session or is lost. Repeating an action is harmless because the content and the dates of commits follow from the
//! order, pushes and merges are compare-and-swap, comments carry a hidden marker, and a change is known by its branch.
//!
//! A parked run, with nothing pending, has no actor and no memory; its workspace and slot are kept. Two things stop an
//! actor without `post_stop`: a panic and a kill. Whatever must be released is therefore released in `Drop`.
//!
//! Invariant: no product rule lives here. Actors carry facts to `domain::decide` and effects to ports.
//! Invariant: the modules import each other without a cycle.

mod attempt_locks;
mod begin;
mod check_plan;
mod checking;
mod commits;
mod deps;
mod error;
mod heartbeat;
mod intake;
mod keyed_locks;
mod landing_batch;
mod landing_lanes;
mod landing_queue;
mod measurements;
mod memories;
mod message;
mod notifications;
mod ops;
mod outcomes;
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
pub use check_plan::CheckPlan;
pub use deps::{Deps, Scope, Tuning};
pub use error::RuntimeError;
pub use intake::how_to_name;
pub use keyed_locks::KeyedLocks;
pub use landing_queue::LandingQueue;
pub use measurements::measure;
pub use notifications::{Notification, Notifications, Printer};
pub use parts::{Parts, PartsSource};
pub use preview::Preview;
pub use request::{Defaults, PlanFor, RunRequest};
pub use retry::patiently;
pub use runtime_handle::RuntimeHandle;
