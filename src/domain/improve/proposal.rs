//! A proposal, its states, and the measurement of its effect.

use super::{ChangeKind, Rule, RunRecord, Signature, Symptom, fisher};
use crate::domain::id::{Principal, RunId, Timestamp};
use crate::domain::project::ProjectName;
use serde::{Deserialize, Serialize};

const DAY_MS: i64 = 24 * 3_600_000;

/// A proposal to change what makes runs of a project fail in the same way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Its id: a digest of the project and the signature.
    pub id: String,
    /// The project.
    pub project: ProjectName,
    /// The signature of the failures.
    pub signature: Signature,
    /// The rule that recognized it; `None` = no rule did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Group of causes; `unclassified` without a rule.
    pub class: String,
    /// The kind of change.
    pub kind: ChangeKind,
    /// What recurs and what it means, in one sentence.
    pub title: String,
    /// What to change.
    pub change: String,
    /// Its state.
    pub state: ProposalState,
    /// How often it failed when it was proposed.
    pub found: Rate,
    /// Number of runs with it when it was proposed.
    pub runs: u64,
    /// What the failed attempts had cost when it was proposed, in micro-USD.
    pub lost_micros: u64,
    /// Some of the runs.
    #[serde(default)]
    pub samples: Vec<RunId>,
    /// When it was proposed.
    pub created_at: Timestamp,
    /// Who accepted or dropped it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<Principal>,
    /// When it was accepted or dropped, or its measurement ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<Timestamp>,
    /// Why it was dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The measurement, once it was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measurement: Option<Measurement>,
    /// The address of its issue on the forge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issue: Option<String>,
}

/// State of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProposalState {
    /// It waits for a person.
    Open,
    /// A person accepted it; its effect is measured.
    Testing,
    /// The failure has become rarer.
    Kept,
    /// The effect is not distinguishable from chance.
    Unclear,
    /// The failure has become more frequent.
    Worse,
    /// A person dropped it.
    Dropped,
}

impl ProposalState {
    /// Returns the name used in the store and JSON.
    pub fn name(self) -> &'static str {
        match self {
            ProposalState::Open => "open",
            ProposalState::Testing => "testing",
            ProposalState::Kept => "kept",
            ProposalState::Unclear => "unclear",
            ProposalState::Worse => "worse",
            ProposalState::Dropped => "dropped",
        }
    }
}

/// How often a step ended with a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Ends with the failure.
    pub hits: u64,
    /// All ends of the step.
    pub ends: u64,
}

impl Rate {
    /// Returns whether it is lower than another one. Without any end, a rate is not lower than another.
    pub fn is_below(self, other: Rate) -> bool {
        u128::from(self.hits) * u128::from(other.ends) < u128::from(other.hits) * u128::from(self.ends)
    }

    /// Counts the ends of a signature's step in a project from `from` to before `until`, at most `most` of them.
    pub fn of(
        records: &[RunRecord],
        (project, signature): (&ProjectName, &Signature),
        (from, until): (Timestamp, Timestamp),
        most: usize,
    ) -> Rate {
        let mut ends: Vec<(Timestamp, bool)> = records
            .iter()
            .filter(|record| record.project == *project)
            .flat_map(|record| &record.ends)
            .filter(|end| end.at >= from && end.at < until)
            .filter(|end| end.step == signature.step || end.failures.contains(signature))
            .map(|end| (end.at, end.failures.contains(signature)))
            .collect();
        ends.sort();
        ends.truncate(most);
        Rate { hits: ends.iter().filter(|(_, is_hit)| *is_hit).count() as u64, ends: ends.len() as u64 }
    }
}

/// Measured effect of an accepted proposal: how often the step failed before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measurement {
    /// When it was accepted, which is when the measurement began.
    pub since: Timestamp,
    /// Before, over one window.
    pub before: Rate,
    /// After, so far.
    pub after: Rate,
}

impl Measurement {
    /// Ends of the step after which the measurement ends.
    pub const MAX_ENDS: u64 = 30;
    /// Time after which the measurement ends, in milliseconds.
    pub const MAX_MS: i64 = 28 * DAY_MS;
    /// Probability below which a difference is not taken for chance.
    pub const SIGNIFICANCE: f64 = 0.05;

    /// Returns the probability that chance alone makes at least such a difference.
    pub fn p_value(&self) -> f64 {
        let Measurement { before, after, .. } = self;
        let missed = |rate: &Rate| rate.ends.saturating_sub(rate.hits);
        fisher::p_value(before.hits, missed(before), after.hits, missed(after))
    }

    /// Returns the end of the measurement, if it is over.
    pub fn verdict(&self, now: Timestamp) -> Option<ProposalState> {
        let is_over = self.after.ends >= Self::MAX_ENDS || now.0.saturating_sub(self.since.0) >= Self::MAX_MS;
        is_over.then(|| match self.p_value() < Self::SIGNIFICANCE {
            true if self.after.is_below(self.before) => ProposalState::Kept,
            true => ProposalState::Worse,
            false => ProposalState::Unclear,
        })
    }
}

impl Proposal {
    /// How long a decided proposal silences its failure, in milliseconds.
    pub const SILENCE_MS: i64 = 90 * DAY_MS;
    /// Upper bound on the characters of a reason.
    pub const MAX_WHY_CHARS: usize = 500;

    /// Returns the open proposal for a symptom.
    pub fn of(id: String, symptom: &Symptom, rule: Option<&Rule>, at: Timestamp) -> Proposal {
        let Symptom { project, signature, .. } = symptom;
        let fill = |text: &str| Rule::fill(text, project.as_str(), signature);
        let unknown =
            || format!("The step {} of {} fails in the same way in several runs.", signature.step, project.as_str());
        let look = "No rule knows this failure. Look at the runs, remove the cause, or write a rule for it.";
        Proposal {
            id,
            project: project.clone(),
            rule: rule.map(|r| r.id.clone()),
            class: rule.map_or_else(|| "unclassified".to_owned(), |r| r.class.clone()),
            kind: rule.map_or(ChangeKind::Look, |r| r.kind),
            title: rule.map_or_else(unknown, |r| fill(&r.say)),
            change: rule.map_or_else(|| look.to_owned(), |r| fill(&r.change)),
            signature: signature.clone(),
            state: ProposalState::Open,
            found: Rate { hits: symptom.hits, ends: symptom.ends },
            runs: symptom.runs,
            lost_micros: symptom.lost_micros,
            samples: symptom.samples.clone(),
            created_at: at,
            decided_by: None,
            decided_at: None,
            why: None,
            measurement: None,
            issue: None,
        }
    }

    /// Returns the proposal to undo this one, which made its failure more frequent.
    pub fn reversal(&self, id: String, at: Timestamp) -> Proposal {
        let measured = self.measurement.unwrap_or(Measurement { since: at, before: self.found, after: self.found });
        Proposal {
            id,
            rule: self.rule.clone(),
            kind: ChangeKind::Revert,
            title: format!("The change that proposal {} led to made its failure more frequent.", self.id),
            change: format!("Undo what was changed for it: {}", self.change),
            state: ProposalState::Open,
            found: measured.after,
            created_at: at,
            decided_by: None,
            decided_at: None,
            why: None,
            measurement: None,
            issue: None,
            ..self.clone()
        }
    }

    /// Returns whether its failure must not be proposed again at `now`.
    pub fn silences(&self, now: Timestamp) -> bool {
        match self.state {
            ProposalState::Open | ProposalState::Testing => true,
            _ => self.decided_at.is_some_and(|at| now.0.saturating_sub(at.0) < Self::SILENCE_MS),
        }
    }
}
