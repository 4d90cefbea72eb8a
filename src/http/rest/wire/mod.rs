//! JSON forms of the REST interface: what clients send and what they receive.
//!
//! Invariant: nothing here is a domain type. Each form is made from one with `From`, so that a change to the domain or
//! to its snapshots breaks no client.

mod account;
mod agent;
mod artifact;
mod attempt;
mod audit;
mod budget;
mod change;
mod check;
mod check_plan;
mod criterion;
mod delivery;
mod deployment;
mod engine;
mod escalation;
mod event;
mod gate;
mod goal;
mod health;
mod inquiry;
mod landing_watch;
mod memory;
mod outcome;
mod preview;
mod problem;
mod project;
mod proposal;
mod review;
mod run;
mod schedule;
mod secret;
mod session;
mod task;
mod time;
mod word;
mod work;

pub use account::{AccessToken, CreatedAccessToken, NewAccessToken, NewIdentity, NewPerson, NewRole, Person};
pub use agent::{Agent, Invitation, NewAgent, RatedOutcome, Rating, RegisteredAgent, Registration};
pub use artifact::{Artifact, ArtifactKind, Log};
pub use attempt::{Attempt, Ended, Ending, Resumable, Step};
pub use audit::AuditEntry;
pub use budget::{
    Alert, Budget, BudgetScope, Limits, ModelUsage, Raise, RaiseShared, Raised, RequestedLimits, Resource,
    SharedBudget, SharedLimits, Spending, SpendingBy, Usage,
};
pub use change::{
    Change, ChangeComment, ChangeReview, ChangeState, ChangeStatus, ChangeText, DiffStat, FileChange, FileKind,
    NewStatus, StatusState,
};
pub use check::{Check, CheckKind, CheckResult, LatestTests, TestCounts};
pub use check_plan::{CheckPlan, NetworkNeed, NewCheckPlan, ProposedCheck};
pub use criterion::{Criterion, CriterionState};
pub use delivery::{CiReport, Delivery, DeliveryState};
pub use deployment::{
    Deployment, DeploymentReason, NewRollback, NewRollout, NewSponsor, Rollout, RolloutApproval, RolloutCriterion,
    RolloutStep, Sponsor, SponsorName,
};
pub use engine::{Engine, Role};
pub use escalation::{Answer, AnswerKind, Escalation, Need};
pub use event::{End, Event, Movement, Output};
pub use gate::{Gate, GateState};
pub use goal::{Goal, GoalSource};
pub use health::Health;
pub use inquiry::Inquiry;
pub use landing_watch::LandingWatch;
pub use memory::{
    ForgetMemories, ForgottenMemories, GivenMemories, GivenMemory, Memory, MemoryArm, MemoryCitation, MemoryEffect,
    NewLesson, SweepMemories, SweptMemories,
};
pub use outcome::{RebuiltOutcomes, VerifiedOutcome};
pub use preview::{Preview, Prompt};
pub use problem::Problem;
pub use project::{NewProject, Project};
pub use proposal::{DropProposal, ImprovePass, Measurement, NewImprovePass, Proposal, Rate, Signature, Symptom};
pub use review::{Finding, Review, ReviewVerdict};
pub use run::{Action, Batch, Cooldown, NewRun, OnDifference, Outcome, Run, RunSummary, STATUS_WORDS, Steps};
pub use schedule::Schedule;
pub use secret::{NewKey, NewSecret, Rekeyed, Secret, SecretScope, StoredSecret};
pub use session::{LOGIN_PATH, LoginLink, NewLoginLink};
pub use task::Task;
pub use time::Timestamp;
pub use work::{
    AbandonOffer, NewCriterionVerdict, NewFinding, NewPatch, NewWorkReview, Offer, OfferDetails, OfferedCheck,
    OfferedCriterion, OfferedFile, OfferedFiles, OfferedNote, OwnWork, SubmittedWork, WorkStatus,
};
