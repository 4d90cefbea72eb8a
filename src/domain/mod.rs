//! The product, pure: what a run is and what may happen to it.
//!
//! Invariant: no clock, no randomness, no I/O, no async. Time comes in as [`At`], ids are counted, never drawn.
//! May use: std, serde, thiserror, and two libraries without effects (`uuid` as a type, `globset`).

pub mod artifact;
pub mod attempt;
pub mod block;
pub mod budget;
pub mod change;
pub mod charge;
pub mod check;
pub mod choice;
pub mod decide;
pub mod describe;
pub mod effect;
pub mod escalation;
pub mod event;
pub mod gate;
pub mod goal;
pub mod id;
pub mod inquiry;
pub mod order;
pub mod plan;
pub mod policy;
pub mod project;
pub mod refusal;
pub mod report;
pub mod run;
pub mod shared_budget;
pub mod slots;
pub mod status;
pub mod task;
pub mod texts;

pub use artifact::{ArtifactKind, ArtifactRef};
pub use attempt::{Attempt, Ended, Ending, Resumable};
pub use block::{Answer, Block, BlockKind, Subject};
pub use budget::{Alert, Ledger, Limits, Metered, ModelUse, Raise, Usage};
pub use change::{ChangeRef, ChangeState, Concern, DiffStat, FileChange, FileKind, Observation, StatusState};
pub use charge::{Charge, Day, Part};
pub use check::{CheckKind, CheckResult, CheckSpec, Scope};
pub use choice::{Choice, Rest, Wait};
pub use decide::{Decision, decide, open};
pub use effect::{Done, Effect, Failure, SecretFound, Tag};
pub use event::{Event, Opened};
pub use goal::{Goal, GoalSource};
pub use id::{At, AttemptId, BlockId, ChangeNumber, Digest, EffectKey, Principal, RunId, Sha, TaskId};
pub use inquiry::Inquiry;
pub use order::{EngineSpec, Note, Order, Role, Step};
pub use plan::{Plan, TaskSpec};
pub use policy::{Policy, StepLimits, StepTable, Tightening};
pub use project::{Project, ProjectName};
pub use refusal::Refusal;
pub use report::{AskedTo, Finding, Report, Reported, Verdict};
pub use run::{Outcome, Phase, Run, Settings};
pub use shared_budget::{Level, Share, SharedBudget, SharedLimits};
pub use task::{Stage, Task};
