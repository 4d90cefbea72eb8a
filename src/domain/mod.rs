//! The product rules, pure: what a run is, and what may happen to it.
//!
//! | module | contents |
//! |---|---|
//! | `decide` | the one function that moves a run |
//! | `run` | the run, its tasks, attempts, blocks, orders and reports |
//! | `budget` | limits, usage, the ledger, and budgets that runs share |
//! | `policy` | the rules a run is born with, and the gates before landing |
//! | `change` | the change on the forge, its diff, and the checks |
//! | `batch` | the landing of several changes at once |
//! | `goal`, `spec` | what was asked, and the criteria that decide whether it was delivered |
//! | `effect`, `event` | actions on the world, and the facts of the journal |
//! | `outcome` | what a journal proves about the attempts of its run |
//! | `landing_watch` | whether CI turned red with what a run has landed |
//! | `deployment` | targets, rollouts, and the status derived from what was observed |
//! | `memory` | what ended runs have shown, for the attempts of later ones |
//! | `eval` | what trials of a variant showed, and whether it replaces another |
//! | `access`, `login_rules` | people and their roles, and who may log in from an identity provider |
//! | `open_work`, `rating` | steps offered to outside agents, and ratings from verified outcomes |
//! | `command`, `delivery` | commands in comments, and what forges report |
//!
//! Invariant: no clock, no randomness, no I/O, no async. Time comes in as [`Timestamp`]; ids are counted, never drawn.
//! Invariant: no Markdown and no shell commands. Text for people is made in `render`.
//! May use: std, serde, thiserror, and four libraries without side effects (`uuid` as a type, `globset`, `sha2`,
//! `skillratings`).

pub mod access;
pub mod artifact;
pub mod batch;
pub mod budget;
pub mod change;
pub mod command;
pub mod decide;
pub mod delivery;
pub mod deployment;
pub mod effect;
pub mod eval;
pub mod event;
pub mod goal;
mod hidden;
pub mod id;
pub mod improve;
pub mod landing_watch;
pub mod login_rules;
pub mod memory;
pub mod message;
pub mod notice;
pub mod open_work;
pub mod outcome;
pub mod policy;
pub mod project;
pub mod rating;
pub mod refusal;
pub mod run;
pub mod spec;
pub mod texts;

pub use budget::requested_limits::RequestedLimits;
pub use budget::{ledger_row, shared_budget};
pub use change::check;
pub use policy::gate;
pub use run::{
    attempt, baseline, block, engine_selection, escalation, inquiry, order, overrides, plan, report, slots, status,
    task,
};

pub use access::{AccessRole, PersonName};
pub use artifact::{ArtifactKind, ArtifactRef};
pub use attempt::{Attempt, Ended, Ending, Resumable};
pub use baseline::Baseline;
pub use batch::{BatchProof, LandingPlan, RedInBatch};
pub use block::{Answer, Block, BlockKind, CiDoubt, Subject};
pub use budget::{Alert, BudgetKind, Ledger, Limits, MAX_AMOUNT, Metered, ModelUse, Raise, Usage};
pub use change::{
    ChangeRef, ChangeRequest, ChangeState, CiFailure, Concern, DiffStat, FileChange, FileKind, JobLog, LineComment,
    Observation, StatusState, WorkflowRun,
};
pub use check::{CheckKind, CheckResult, CheckSpec, Fault, Reused, Scope};
pub use command::Command;
pub use decide::{Decision, decide, open};
pub use delivery::{CommandTarget, DeliveryState, Fact};
pub use effect::{CommentSubject, Effect, EffectKind, EffectOutcome, EffectRef, Failure, OwnStatus, SecretFound};
pub use engine_selection::{Choice, Cooldown, Wait, WaitReason};
pub use escalation::{AnswerKind, AnswerOption};
pub use event::{Event, Opened};
pub use goal::{Goal, GoalSource};
pub use hidden::is_hidden;
pub use id::{AttemptId, BlockId, ChangeNumber, Digest, EffectKey, Principal, RunId, Sha, TaskId, Timestamp};
pub use inquiry::Inquiry;
pub use landing_watch::{CommitCi, LandingWatch, WatchState};
pub use ledger_row::{Day, LedgerPart, LedgerRow};
pub use login_rules::{Admission, Claims, LoginRules};
pub use memory::{Memory, MemoryId, MemoryKind, MemoryPolicy, MemoryState};
pub use message::{ChannelRules, Message, MessageEvent};
pub use notice::Notice;
pub use open_work::{Agent, Offer, OfferState, OpenWorkSettings, Submission};
pub use order::{EngineSpec, Note, NoteSource, Order, Role, Step};
pub use outcome::{Evidence, OutcomeRow, OutcomeWord, Proof, outcomes};
pub use overrides::{Difference, OnDifference, Overrides};
pub use plan::{Plan, TaskSpec};
pub use policy::{BaseChecks, Policy, StepLimits, StepTable, Tightening};
pub use project::{ForgeName, Project, ProjectName, ProjectSet};
pub use refusal::Refusal;
pub use report::{AskedTo, CriterionVerdict, Finding, Report, Reported, Verdict};
pub use run::{Outcome, Phase, Run, Settings};
pub use shared_budget::{BudgetScope, BudgetUnit, Level, SharedBudget, SharedLimits, SharedSpending};
pub use spec::{Criterion, CriterionState, CriterionTest, Judge, Spec};
pub use task::{Stage, Task};
