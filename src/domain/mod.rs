//! The product, pure: what a run is and what may happen to it.
//!
//! Invariant: no clock, no randomness, no I/O, no async. Time comes in as [`Timestamp`], ids are counted, never drawn.
//! May use: std, serde, thiserror, and two libraries without effects (`uuid` as a type, `globset`).

pub mod artifact;
pub mod attempt;
pub mod block;
pub mod budget;
pub mod change;
pub mod check;
pub mod decide;
pub mod describe;
pub mod effect;
pub mod engine_selection;
pub mod escalation;
pub mod event;
pub mod gate;
pub mod goal;
pub mod id;
pub mod inquiry;
pub mod ledger_row;
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
pub use check::{CheckKind, CheckResult, CheckSpec, Scope};
pub use decide::{Decision, decide, open};
pub use effect::{Effect, EffectOutcome, EffectRef, Failure, SecretFound};
pub use engine_selection::{Choice, Cooldown, Wait};
pub use event::{Event, Opened};
pub use goal::{Goal, GoalSource};
pub use id::{AttemptId, BlockId, ChangeNumber, Digest, EffectKey, Principal, RunId, Sha, TaskId, Timestamp};
pub use inquiry::Inquiry;
pub use ledger_row::{Charge, Day, Part};
pub use order::{EngineSpec, Note, Order, Role, Step};
pub use plan::{Plan, TaskSpec};
pub use policy::{Policy, StepLimits, StepTable, Tightening};
pub use project::{Project, ProjectName};
pub use refusal::Refusal;
pub use report::{AskedTo, Finding, Report, Reported, Verdict};
pub use run::{Outcome, Phase, Run, Settings};
pub use shared_budget::{BudgetScope, Level, SharedBudget, SharedLimits};
pub use task::{Stage, Task};
