//! Deployments: a version of a project on a target, how it gets there, and the word that describes the target.
//!
//! | module | duty |
//! |---|---|
//! | `target` | what the configuration says about a target |
//! | `rollout` | one version on its way to a target: the states, and which step is next |
//! | `status` | the status word, derived from what was observed |
//! | `sponsor` | who pays for hosting |
//!
//! Invariant: a target has at most one rollout in progress, and a status word is never stored.

mod rollout;
mod sponsor;
mod status;
mod target;

pub use rollout::{
    Cause, CriterionRecord, Proof, Rollout, RolloutEvent, RolloutState, RolloutStep, StepRecord, next_step, waiting,
};
pub use sponsor::{Coverage, Sponsor, SponsorState};
pub use status::{Deployment, DeploymentStatus, Hold, MAX_RED_PROBES, Probe, Suspension, suspension_due};
pub use target::{Criterion, CriterionTest, HostAddress, Method, Target, fill};
