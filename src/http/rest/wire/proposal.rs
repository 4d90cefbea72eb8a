//! Recurring failures, and proposals for what to change about them.

use super::Timestamp;
use crate::domain::improve;
use crate::service::improve::{FoundSymptom, Pass};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Pass to carry out.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewImprovePass {
    /// How far back to read, in seconds, from an hour to 366 days; the configured window if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 1209600)]
    pub since_secs: Option<u64>,
    /// Only this project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Whether nothing is stored or written.
    #[serde(default)]
    pub dry_run: bool,
    /// Whether open proposals are also written to the issues of their projects.
    #[serde(default)]
    pub as_issue: bool,
}

/// Result of a pass.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ImprovePass {
    /// Start of the window.
    pub since: Timestamp,
    /// Runs read.
    pub runs: u64,
    /// Runs that could not be read.
    pub unreadable: u64,
    /// Whether there were more runs than a pass reads; the oldest were left out.
    pub is_cut: bool,
    /// Failures in the window.
    pub failures: u64,
    /// Those that no rule recognizes.
    pub unclassified: u64,
    /// What recurs, the most expensive and frequent first, at most 50.
    pub symptoms: Vec<Symptom>,
    /// New proposals.
    pub proposed: Vec<Proposal>,
    /// Proposals whose measurement ended.
    pub measured: Vec<Proposal>,
    /// Proposals whose issue was written or updated.
    pub published: Vec<Proposal>,
    /// Why proposals could not be published.
    pub problems: Vec<String>,
}

/// Failures with the same signature in a project.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Symptom {
    /// The project.
    pub project: String,
    /// The signature.
    pub signature: Signature,
    /// The rule that recognizes it; absent = none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Whether it recurs enough to be proposed.
    pub exceeds: bool,
    /// How often the step ended with it.
    pub rate: Rate,
    /// Number of runs with it.
    pub runs: u64,
    /// What the failed attempts cost, in micro-USD.
    pub lost_micros: u64,
    /// The newest runs with it, at most 8.
    pub samples: Vec<String>,
    /// When it was first seen.
    pub first_at: Timestamp,
    /// When it was last seen.
    pub last_at: Timestamp,
}

/// What failures have in common.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Signature {
    /// The step: `explore`, `plan`, `develop`, `review`, `check`, `ci` or `ops`.
    #[schema(example = "develop")]
    pub step: String,
    /// How it ended.
    #[schema(example = "network")]
    pub ending: String,
    /// The check, CI job or engine; may be empty.
    #[schema(example = "test")]
    pub tool: String,
    /// The line that says what failed, with `<t>` for times, `<x>` for ids, `<n>` for numbers, `<dir>` for folders and
    /// `'*'` for quoted text; at most 200 characters.
    pub line: String,
}

/// How often a step ended with a failure.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct Rate {
    /// Ends with the failure.
    pub hits: u64,
    /// All ends of the step.
    pub ends: u64,
}

/// Measured effect of an accepted proposal.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct Measurement {
    /// When it was accepted.
    pub since: Timestamp,
    /// Before, over one window.
    pub before: Rate,
    /// After, over at most 30 ends.
    pub after: Rate,
    /// Probability that chance alone makes at least such a difference (Fisher's exact test, two-sided).
    pub p_value: f64,
}

/// Proposal for what to change about a recurring failure.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Proposal {
    /// Its id.
    #[schema(example = "3f9a12bc0d41")]
    pub id: String,
    /// The project.
    pub project: String,
    /// `open`, `testing`, `kept`, `unclear`, `worse` or `dropped`.
    #[schema(example = "open")]
    pub state: String,
    /// The signature of the failures.
    pub signature: Signature,
    /// The rule that recognized it; absent = none did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Group of causes; `unclassified` without a rule.
    pub class: String,
    /// `prompt`, `config`, `budget`, `check`, `tool`, `engine`, `doc`, `look` or `revert`.
    #[schema(example = "config")]
    pub kind: String,
    /// What recurs and what it means.
    pub title: String,
    /// What to change.
    pub change: String,
    /// How often the step ended with it when it was proposed.
    pub found: Rate,
    /// Number of runs with it when it was proposed.
    pub runs: u64,
    /// What the failed attempts had cost when it was proposed, in micro-USD.
    pub lost_micros: u64,
    /// Some of the runs.
    pub samples: Vec<String>,
    /// When it was proposed.
    pub created_at: Timestamp,
    /// Who accepted or dropped it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// When it was accepted or dropped, or its measurement ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<Timestamp>,
    /// Why it was dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The measurement, once it was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measurement: Option<Measurement>,
    /// Address of its issue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issue: Option<String>,
}

/// Reason to drop a proposal.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DropProposal {
    /// Why, in at most 500 characters.
    pub why: String,
}

impl From<improve::Signature> for Signature {
    fn from(signature: improve::Signature) -> Signature {
        let improve::Signature { step, ending, tool, line } = signature;
        Signature { step, ending, tool, line }
    }
}

impl From<improve::Rate> for Rate {
    fn from(rate: improve::Rate) -> Rate {
        Rate { hits: rate.hits, ends: rate.ends }
    }
}

impl From<improve::Measurement> for Measurement {
    fn from(measurement: improve::Measurement) -> Measurement {
        let improve::Measurement { since, before, after } = measurement;
        Measurement { since: since.into(), before: before.into(), after: after.into(), p_value: measurement.p_value() }
    }
}

impl From<improve::Proposal> for Proposal {
    fn from(proposal: improve::Proposal) -> Proposal {
        Proposal {
            id: proposal.id,
            project: proposal.project.to_string(),
            state: proposal.state.name().to_owned(),
            signature: proposal.signature.into(),
            rule: proposal.rule,
            class: proposal.class,
            kind: proposal.kind.name().to_owned(),
            title: proposal.title,
            change: proposal.change,
            found: proposal.found.into(),
            runs: proposal.runs,
            lost_micros: proposal.lost_micros,
            samples: proposal.samples.iter().map(ToString::to_string).collect(),
            created_at: proposal.created_at.into(),
            decided_by: proposal.decided_by.map(|by| by.to_string()),
            decided_at: proposal.decided_at.map(Into::into),
            why: proposal.why,
            measurement: proposal.measurement.map(Into::into),
            issue: proposal.issue,
        }
    }
}

impl From<FoundSymptom> for Symptom {
    fn from(found: FoundSymptom) -> Symptom {
        let FoundSymptom { symptom, rule, exceeds } = found;
        Symptom {
            project: symptom.project.to_string(),
            signature: symptom.signature.into(),
            rule,
            exceeds,
            rate: Rate { hits: symptom.hits, ends: symptom.ends },
            runs: symptom.runs,
            lost_micros: symptom.lost_micros,
            samples: symptom.samples.iter().map(ToString::to_string).collect(),
            first_at: symptom.first_at.into(),
            last_at: symptom.last_at.into(),
        }
    }
}

impl From<Pass> for ImprovePass {
    fn from(pass: Pass) -> ImprovePass {
        let proposals = |all: Vec<improve::Proposal>| all.into_iter().map(Into::into).collect();
        ImprovePass {
            since: pass.since.into(),
            runs: pass.runs,
            unreadable: pass.unreadable,
            is_cut: pass.is_cut,
            failures: pass.failures,
            unclassified: pass.unclassified,
            symptoms: pass.symptoms.into_iter().map(Into::into).collect(),
            proposed: proposals(pass.proposed),
            measured: proposals(pass.measured),
            published: proposals(pass.published),
            problems: pass.problems,
        }
    }
}
