//! Task specs: acceptance criteria of a goal, and what a run knows about each of them at its head.
//!
//! A spec is pinned when the run is opened. Nothing that the run writes, not even another version of the file that the
//! spec was read from, changes what the run has to meet.

use crate::domain::check::{CheckKind, CheckResult, CheckSpec};
use crate::domain::gate;
use crate::domain::id::AttemptId;
use crate::domain::order::EngineSpec;
use crate::domain::report::CriterionVerdict;
use crate::domain::run::Run;
use serde::{Deserialize, Serialize};

/// Prefix of the names of checks that test a criterion. Names of other checks contain no colon.
const CHECK_PREFIX: &str = "accept:";

/// The spec of a goal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Its name.
    pub id: String,
    /// The acceptance criteria, in the order they were written.
    pub acceptance: Vec<Criterion>,
    /// Path patterns that the change must not touch, in addition to the policy's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forbidden_paths: Vec<String>,
}

impl Spec {
    /// Upper bound on the criteria of a spec.
    pub const MAX_CRITERIA: usize = 12;

    /// Returns the checks of the criteria that have a command.
    pub fn checks(&self) -> Vec<CheckSpec> {
        self.acceptance.iter().filter_map(Criterion::check).collect()
    }
}

/// One acceptance criterion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Criterion {
    /// Its name, unique in the spec.
    pub id: String,
    /// What must be true, in words.
    pub text: String,
    /// How it is tested; `None` = by judgement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<CriterionTest>,
}

/// The command that tests a criterion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CriterionTest {
    /// The command line. It exits with 0 if the criterion is met.
    pub command: String,
    /// Its timeout in seconds.
    pub timeout_secs: u64,
}

impl Criterion {
    /// Returns the name of its check.
    pub fn check_name(&self) -> String {
        format!("{CHECK_PREFIX}{}", self.id)
    }

    /// Returns its check, if it has a command.
    pub fn check(&self) -> Option<CheckSpec> {
        let test = self.test.as_ref()?;
        Some(CheckSpec {
            name: self.check_name(),
            kind: CheckKind::Accept,
            command: test.command.clone(),
            timeout_secs: test.timeout_secs,
            junit: None,
            runner: None,
            detected: false,
        })
    }
}

/// What is known about a criterion at the run's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CriterionRecord<'a> {
    /// The criterion.
    pub criterion: &'a Criterion,
    /// Its state.
    pub state: CriterionState,
    /// Who or what established that state.
    pub by: Judge,
    /// Why it is not met, or why the reviewer considers it met; empty if nothing was said.
    pub why: &'a str,
    /// Whether its command succeeded at the base as well, before any change; `None` = unknown.
    pub met_at_base: Option<bool>,
}

/// State of a criterion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CriterionState {
    /// It was not tested or judged at this head yet.
    Pending,
    /// It is met.
    Met,
    /// It is not met.
    Unmet,
    /// It is not met, and a person decided to continue anyway.
    Waived,
}

/// Who or what decides whether a criterion is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// Its command.
    Command,
    /// The reviewer; `None` = no review of this head yet.
    Reviewer(Option<AttemptId>),
    /// The person who approves the merge, because the reviewer's engine cannot judge.
    Approver,
}

impl Run {
    /// Returns the acceptance criteria, in order; empty for a goal without a spec.
    pub fn criteria(&self) -> &[Criterion] {
        self.goal.spec.as_ref().map_or(&[], |spec| &spec.acceptance)
    }

    /// Returns the criteria that need a judgement, because they have no command.
    pub fn judged_criteria(&self) -> impl Iterator<Item = &Criterion> {
        self.criteria().iter().filter(|c| c.test.is_none())
    }

    /// Returns what is known about each criterion at the head.
    pub fn acceptance(&self) -> Vec<CriterionRecord<'_>> {
        self.criteria().iter().map(|c| if c.test.is_some() { self.tested(c) } else { self.judged(c) }).collect()
    }

    fn tested<'a>(&'a self, criterion: &'a Criterion) -> CriterionRecord<'a> {
        let name = criterion.check_name();
        let of = |results: &'a [CheckResult]| results.iter().find(|r| r.name == name);
        let result = self.facts.results.as_deref().and_then(of);
        let state = match result {
            None => CriterionState::Pending,
            Some(result) if result.green => CriterionState::Met,
            Some(result) if self.excuses(result) => CriterionState::Waived,
            Some(_) => CriterionState::Unmet,
        };
        CriterionRecord {
            criterion,
            state,
            by: Judge::Command,
            why: result.map_or("", |r| &r.why),
            met_at_base: self.baseline.as_ref().and_then(|b| of(&b.results)).map(|r| r.green),
        }
    }

    fn judged<'a>(&'a self, criterion: &'a Criterion) -> CriterionRecord<'a> {
        let record = |state, by, why| CriterionRecord { criterion, state, by, why, met_at_base: None };
        let Some(review) = &self.facts.review else {
            return record(CriterionState::Pending, Judge::Reviewer(None), "");
        };
        match review.criteria.iter().find(|c| c.id == criterion.id) {
            Some(CriterionVerdict { met, why, .. }) => {
                let state = if *met { CriterionState::Met } else { CriterionState::Unmet };
                record(state, Judge::Reviewer(Some(review.attempt)), why)
            }
            None if gate::approver(self).is_some() => record(CriterionState::Met, Judge::Approver, ""),
            None => record(CriterionState::Pending, Judge::Approver, ""),
        }
    }

    /// Returns whether a person has to judge criteria of this head: it was reviewed by an engine that cannot.
    pub fn leaves_criteria_to_approver(&self) -> bool {
        self.facts
            .review
            .as_ref()
            .is_some_and(|r| self.judged_criteria().any(|c| r.criteria.iter().all(|verdict| verdict.id != c.id)))
    }

    /// Returns the verdicts of a review on the criteria that need one: exactly one for each. An engine that cannot
    /// judge gives none; a person does.
    ///
    /// # Errors
    ///
    /// Returns why the verdicts cannot be used.
    pub fn criteria_verdicts(
        &self,
        engine: &EngineSpec,
        given: &[CriterionVerdict],
    ) -> Result<Vec<CriterionVerdict>, String> {
        if !engine.can_judge() {
            return Ok(Vec::new());
        }
        let verdict = |c: &Criterion| {
            let given = given.iter().find(|v| v.id == c.id).cloned();
            given.ok_or_else(|| format!("it does not say whether the acceptance criterion {} is met", c.id))
        };
        self.judged_criteria().map(verdict).collect()
    }

    /// Returns the red results of criteria as a text for the next attempt, each with what it demands; empty if none is
    /// red.
    pub fn unmet_criteria(&self, results: &[CheckResult]) -> String {
        let red = |c: &&Criterion| results.iter().any(|r| !r.green && r.name == c.check_name());
        let unmet = self.criteria().iter().filter(red);
        unmet.map(|c| format!("acceptance criterion {} is not met: {}\n", c.id, c.text)).collect()
    }
}
