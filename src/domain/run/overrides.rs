//! Overrides: engines, checks and limits that a person gives a run in place of its own.

use crate::domain::block::BlockKind;
use crate::domain::budget::BudgetKind;
use crate::domain::budget::requested_limits::RequestedLimits;
use crate::domain::check::CheckSpec;
use crate::domain::order::{EngineSpec, Role};
use crate::domain::run::Run;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Settings asked for in place of a run's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrides {
    /// Engines by role; the roles not named keep theirs.
    #[serde(default)]
    pub engines: BTreeMap<Role, EngineSpec>,
    /// Checks, which replace the run's unless empty.
    #[serde(default)]
    pub checks: Vec<CheckSpec>,
    /// Limits; those not named stay.
    #[serde(default, skip_serializing_if = "RequestedLimits::is_empty")]
    pub limits: RequestedLimits,
}

/// Handling of an open run of the same goal whose settings differ from those requested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDifference {
    /// It is refused.
    #[default]
    Refuse,
    /// The run continues with its own settings.
    Keep,
    /// The run continues with the settings of the request.
    Apply,
}

/// A setting that was asked for and is another in the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The engine of a role.
    Engine {
        /// The role.
        role: Role,
        /// The run's engine, if it has one.
        own: Option<EngineSpec>,
        /// The engine asked for.
        asked: EngineSpec,
    },
    /// The check commands.
    Checks {
        /// The run's commands.
        own: Vec<String>,
        /// The commands asked for.
        asked: Vec<String>,
    },
    /// The limit of a budget.
    Limit {
        /// What it limits.
        budget: BudgetKind,
        /// The run's limit; `None` = unlimited.
        own: Option<u64>,
        /// The limit asked for.
        asked: u64,
    },
    /// The branch to land on. A run cannot change it.
    Base {
        /// The run's branch.
        own: String,
        /// The branch asked for.
        asked: String,
    },
}

impl Overrides {
    /// Returns whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.engines.is_empty() && self.checks.is_empty() && self.limits.is_empty()
    }

    /// Returns what differs from a run's own settings; `base` is the branch asked for, if any.
    pub fn differences(&self, run: &Run, base: Option<&str>) -> Vec<Difference> {
        let (own, mut found) = (&run.settings, Vec::new());
        for (role, asked) in &self.engines {
            let engine = own.engines.get(role);
            if engine != Some(asked) {
                found.push(Difference::Engine { role: *role, own: engine.cloned(), asked: asked.clone() });
            }
        }
        let (has, asked) = (commands(&own.checks), commands(&self.checks));
        if !asked.is_empty() && has != asked {
            found.push(Difference::Checks { own: has, asked });
        }
        // A limit counts as it was given; a raise since then is not a difference.
        let given = own.limits.over(run.limits);
        for (budget, asked) in self.limits.amounts() {
            let limit = given.of(budget);
            if limit != Some(asked) {
                found.push(Difference::Limit { budget, own: limit, asked });
            }
        }
        if let Some(asked) = base.filter(|asked| *asked != own.base_branch) {
            found.push(Difference::Base { own: own.base_branch.clone(), asked: asked.to_owned() });
        }
        found
    }

    /// Returns whether these settings are a reason to try again what this block stopped.
    pub fn reopen(&self, block: &BlockKind) -> bool {
        match block {
            BlockKind::Tries { .. } | BlockKind::Rounds => !self.engines.is_empty() || !self.checks.is_empty(),
            BlockKind::Engine { role, .. } => self.engines.contains_key(role),
            BlockKind::StepTime { step, .. } => self.engines.contains_key(&step.role()),
            BlockKind::Environment { .. } => !self.checks.is_empty(),
            BlockKind::NothingChanged => self.engines.contains_key(&Role::Dev),
            _ => false,
        }
    }
}

/// Returns the commands that prove a change. What prepares the checkout or belongs to the spec is not asked for by name.
fn commands(checks: &[CheckSpec]) -> Vec<String> {
    checks.iter().filter(|c| c.proves_tasks()).map(|c| c.command.clone()).collect()
}
