//! The outcomes of effects.

use crate::domain::batch::{BatchProof, RedInBatch};
use crate::domain::budget::Usage;
use crate::domain::budget::shared_budget::{Level, SharedBudget, SharedSpending};
use crate::domain::change::{ChangeRef, CiFailure, DiffStat, Observation};
use crate::domain::check::{CheckResult, Reused, Scope};
use crate::domain::id::Sha;
use serde::{Deserialize, Serialize};

/// The outcome of an effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectOutcome {
    /// The checks ran (green or red).
    Checked {
        /// One result per check.
        results: Vec<CheckResult>,
        /// Wall time of all checks together, in milliseconds.
        wall_ms: u64,
        /// What was checked; absent in older journals.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scope: Option<Scope>,
        /// Where the results come from, if the checks did not run for them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reused: Option<Reused>,
        /// Digest of the environment they ran in; `None` = unknown.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        environment: Option<String>,
    },
    /// The worst case is reserved.
    Reserved {
        /// The caps, cut to what the shared budgets have left.
        caps: Usage,
        /// Fill levels of the shared budgets with it.
        #[serde(default)]
        levels: Vec<Level>,
    },
    /// Shared budgets are exhausted; nothing was reserved.
    BudgetExhausted {
        /// All exhausted budgets.
        budgets: Vec<SharedBudget>,
        /// Fill levels of all shared budgets of the run.
        #[serde(default)]
        levels: Vec<Level>,
        /// Spending from the exhausted budgets.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        spending: Vec<SharedSpending>,
        /// Whether a part of each is only reserved for attempts in progress, whose unused part comes back.
        #[serde(default)]
        reserved: bool,
    },
    /// The task's commits are on the run's branch.
    Integrated {
        /// The new head.
        head: Sha,
        /// The diff from the run's base to it.
        diff: DiffStat,
    },
    /// The run's commits are on the new base.
    Rebased {
        /// The new head.
        head: Sha,
        /// The diff from the new base to it.
        diff: DiffStat,
    },
    /// The commits conflict with the branch or base they were to go onto.
    Conflict {
        /// The paths in conflict.
        paths: Vec<String>,
    },
    /// The run's branch on the forge points at the commit.
    Pushed,
    /// The push was held back: the commits contain a secret, or something that looks like one.
    PushHeld {
        /// The findings.
        found: Vec<SecretFound>,
    },
    /// The change is open and up to date.
    ChangeOpened {
        /// The change.
        change: ChangeRef,
    },
    /// The comment is on the change.
    Commented,
    /// The status is set.
    StatusSet,
    /// The forge was read.
    Observed {
        /// What was read.
        observation: Observation,
    },
    /// The failures of CI were read.
    CiInspected {
        /// What is known about each.
        failures: Vec<CiFailure>,
    },
    /// The failed jobs were started again, or had been already.
    CiRerun,
    /// The commit is on the base branch.
    Landed {
        /// The commit on the base branch.
        sha: Sha,
        /// What proved it, if it landed together with others or on a base that had moved.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        batch: Option<Box<BatchProof>>,
    },
    /// The base or the head moved; nothing was landed.
    Stale {
        /// What was found.
        why: String,
    },
    /// The merge queue put the change back: it does not go with what landed before it.
    PutBack {
        /// The reason.
        why: String,
        /// The red checks, if they are the reason.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        red: Option<Box<RedInBatch>>,
    },
    /// The change is closed.
    ChangeClosed,
    /// The workspace is released.
    Released,
    /// Attempts and checks were stopped.
    Stopped,
    /// The effect failed.
    Failed {
        /// The failure.
        failure: Failure,
    },
}

impl EffectOutcome {
    /// Returns the name of the outcome, which is the journal name of its event.
    pub fn name(&self) -> &'static str {
        match self {
            EffectOutcome::Checked { .. } => "checked",
            EffectOutcome::Reserved { .. } => "reserved",
            EffectOutcome::BudgetExhausted { .. } => "budget_exhausted",
            EffectOutcome::Integrated { .. } => "integrated",
            EffectOutcome::Rebased { .. } => "rebased",
            EffectOutcome::Conflict { .. } => "conflict",
            EffectOutcome::Pushed => "pushed",
            EffectOutcome::PushHeld { .. } => "push_held",
            EffectOutcome::ChangeOpened { .. } => "change_opened",
            EffectOutcome::Commented => "commented",
            EffectOutcome::StatusSet => "status_set",
            EffectOutcome::Observed { .. } => "observed",
            EffectOutcome::CiInspected { .. } => "ci_inspected",
            EffectOutcome::CiRerun => "ci_rerun",
            EffectOutcome::Landed { .. } => "landed",
            EffectOutcome::Stale { .. } => "stale",
            EffectOutcome::PutBack { .. } => "put_back",
            EffectOutcome::ChangeClosed => "change_closed",
            EffectOutcome::Released => "released",
            EffectOutcome::Stopped => "stopped",
            EffectOutcome::Failed { .. } => "failed",
        }
    }
}

/// Reason why an effect failed, after the retries its kind allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What failed, to what, and why.
    pub what: String,
    /// What a person can do about it.
    pub fix: String,
}

/// A secret in commits that are about to be pushed, without its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretFound {
    /// File, line and commit.
    pub location: String,
    /// The secret's name, or the kind of secret it looks like.
    pub what: String,
    /// Identifies exactly this finding, so that a person can allow it.
    pub fingerprint: String,
}

impl SecretFound {
    /// Returns the findings as a list for the next attempt.
    pub fn list(found: &[SecretFound]) -> String {
        found.iter().map(|f| format!("- {} at {}\n", f.what, f.location)).collect()
    }
}
