//! Deployments, rollouts and sponsors.

use super::Timestamp;
use crate::domain::deployment as domain;
use crate::render;
use crate::service::deployments::DeploymentView;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Target of deployments, with what was observed of it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Deployment {
    /// Name of the target.
    #[schema(example = "test")]
    pub target: String,
    /// The project.
    pub project: String,
    /// How versions get there: `command`, `compose-ssh` or `hook`.
    #[schema(example = "compose-ssh")]
    pub kind: String,
    /// `none`, `ready`, `sponsored`, `live` or `suspended`; derived from what was observed.
    #[schema(example = "live")]
    pub status: String,
    /// Why it is suspended, if it is.
    pub suspended_why: Option<String>,
    /// How the suspension ends.
    pub suspended_fix: Option<String>,
    /// Its address.
    pub url: Option<String>,
    /// The branch whose versions are deployed; `null` for the base branch of the project.
    pub branch: Option<String>,
    /// The version that runs.
    pub sha: Option<String>,
    /// The previous version.
    pub previous: Option<String>,
    /// When it was last probed.
    pub probed_at: Option<Timestamp>,
    /// Whether the last probe was answered as expected.
    pub probe_green: Option<bool>,
    /// Number of the rollout that waits for approval.
    pub waiting: Option<u64>,
    /// Whether what lands is deployed.
    pub on_land: bool,
    /// Whether a person approves each rollout.
    pub needs_approval: bool,
    /// Secrets that somebody sets where the target runs, and where.
    pub secrets_elsewhere: BTreeMap<String, String>,
    /// Whether anyone may read its status.
    pub public: bool,
    /// Its rollouts, newest first.
    pub rollouts: Vec<Rollout>,
}

impl From<DeploymentView> for Deployment {
    fn from(view: DeploymentView) -> Deployment {
        let (suspended_why, suspended_fix) = (view.suspended_why(), view.suspended_fix());
        let waiting = view.waiting().map(|r| r.number);
        let DeploymentView { target, deployment, status, rollouts, .. } = view;
        Deployment {
            kind: target.method.kind().to_owned(),
            target: target.name,
            project: target.project.to_string(),
            status: status.name().to_owned(),
            suspended_why,
            suspended_fix,
            url: target.url,
            branch: target.branch,
            sha: deployment.sha.map(|sha| sha.to_string()),
            previous: deployment.previous.map(|sha| sha.to_string()),
            probed_at: deployment.probe.as_ref().map(|probe| probe.at.into()),
            probe_green: deployment.probe.map(|probe| probe.is_green),
            waiting,
            on_land: target.on_land,
            needs_approval: target.needs_approval,
            secrets_elsewhere: target.secrets_elsewhere,
            public: target.is_public,
            rollouts: rollouts.into_iter().map(Into::into).collect(),
        }
    }
}

/// One version on its way to a target.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Rollout {
    /// Number, counted per target.
    pub number: u64,
    /// Name of the target.
    pub target: String,
    /// The version.
    pub sha: String,
    /// The previous version.
    pub previous: Option<String>,
    /// `queued`, `checking`, `waiting`, `deploying`, `accepting`, `rolling_back`, `deployed`, `rolled_back`, `failed`,
    /// `superseded` or `declined`.
    #[schema(example = "deployed")]
    pub state: String,
    /// Whether it has ended.
    pub ended: bool,
    /// The run whose change landed, if that is why it is deployed.
    pub run: Option<String>,
    /// Who asked for it otherwise.
    pub asked_by: Option<String>,
    /// What shows that the version is fit, in words; `null` = its checks did not run yet.
    pub proof: Option<String>,
    /// Whether nothing shows it, so that a person decides.
    pub unproven: bool,
    /// Who approved it.
    pub approved_by: Option<String>,
    /// How it ended, in words.
    pub why: String,
    /// The deployment, once it was carried out.
    pub deployment: Option<RolloutStep>,
    /// The criteria, once they were tested.
    pub criteria: Vec<RolloutCriterion>,
    /// The rollback, if one was necessary.
    pub rollback: Option<RolloutStep>,
    /// The criteria after the rollback.
    pub rollback_criteria: Vec<RolloutCriterion>,
    /// When it was queued.
    pub created_at: Timestamp,
    /// When it began to change the target.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

impl From<domain::Rollout> for Rollout {
    fn from(r: domain::Rollout) -> Rollout {
        let (run, asked_by) = match &r.cause {
            domain::Cause::Landed { run } => (Some(run.to_string()), None),
            domain::Cause::Requested { by } | domain::Cause::Rollback { by } => (None, Some(by.to_string())),
        };
        let criteria = |all: Vec<domain::CriterionRecord>| all.into_iter().map(Into::into).collect();
        Rollout {
            number: r.number,
            target: r.target,
            sha: r.sha.to_string(),
            previous: r.previous.map(|sha| sha.to_string()),
            state: r.state.name().to_owned(),
            ended: r.state.is_ended(),
            run,
            asked_by,
            unproven: matches!(r.proof, Some(domain::Proof::Missing { .. })),
            proof: r.proof.as_ref().map(render::deployment::proof_words),
            approved_by: r.approved_by.map(|by| by.to_string()),
            why: r.why,
            deployment: r.deployment.map(Into::into),
            criteria: criteria(r.criteria),
            rollback: r.rollback.map(Into::into),
            rollback_criteria: criteria(r.rollback_criteria),
            created_at: r.created_at.into(),
            started_at: r.started_at.map(Into::into),
            ended_at: r.ended_at.map(Into::into),
        }
    }
}

/// What was done to a target.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RolloutStep {
    /// The version.
    pub sha: String,
    /// Whether it succeeded.
    pub passed: bool,
    /// Whether the target may have changed.
    pub changed: bool,
    /// The end of the output, and the last lines of services that failed.
    pub log: String,
    /// When it ended.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

impl From<domain::StepRecord> for RolloutStep {
    fn from(step: domain::StepRecord) -> RolloutStep {
        let domain::StepRecord { sha, passed, changed, log, at, ms } = step;
        RolloutStep { sha: sha.to_string(), passed, changed, log, at: at.into(), duration_ms: ms }
    }
}

/// What a deployed version must fulfil, and what was observed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RolloutCriterion {
    /// Its name.
    #[schema(example = "health")]
    pub name: String,
    /// The request or the command.
    pub test: String,
    /// What was expected.
    pub expected: String,
    /// What was observed.
    pub got: String,
    /// Whether it is fulfilled.
    pub passed: bool,
    /// When.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

impl From<domain::CriterionRecord> for RolloutCriterion {
    fn from(c: domain::CriterionRecord) -> RolloutCriterion {
        let domain::CriterionRecord { name, test, expected, got, passed, at, ms } = c;
        RolloutCriterion { name, test, expected, got, passed, at: at.into(), duration_ms: ms }
    }
}

/// Version to deploy.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(example = json!({"sha": "6dcd4ce23d88e2ee9568ba546c007c63d9131c1b", "approve": true}))]
pub struct NewRollout {
    /// The commit; the newest one of the branch if absent.
    pub sha: Option<String>,
    /// Whether you approve the rollout at once.
    pub approve: bool,
}

/// Version to roll back to.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(example = json!({"to": 3}))]
pub struct NewRollback {
    /// Number of a rollout that was deployed; the previous version if absent.
    pub to: Option<u64>,
}

/// Approval of a rollout.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(example = json!({"rollout": 3}))]
pub struct RolloutApproval {
    /// Number of the rollout that was seen; whichever waits if absent.
    pub rollout: Option<u64>,
}

/// Reason of a suspension or a refusal.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"why": "the database is being moved"}))]
pub struct DeploymentReason {
    /// The reason.
    pub why: String,
    /// For a refusal: number of the rollout that was seen; whichever waits if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<u64>,
}

/// Sponsor of a project.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Sponsor {
    /// Its name.
    pub name: String,
    /// The project.
    pub project: String,
    /// `active`, `paused` or `ended`.
    #[schema(example = "active")]
    pub state: String,
    /// Whether it covers hosting.
    pub hosting: bool,
    /// Whether it covers the domain.
    pub domain: bool,
    /// What it gives each month, in micro-USD.
    pub monthly_micros: Option<u64>,
    /// Whether its name may be shown to everyone.
    pub public: bool,
    /// Remarks.
    pub notes: String,
    /// Since when.
    pub since: Timestamp,
    /// Since when it is paused.
    pub paused_at: Option<Timestamp>,
    /// When it ended.
    pub until: Option<Timestamp>,
}

impl Sponsor {
    /// Returns the form of a sponsor at a time.
    pub fn of(sponsor: domain::Sponsor, now: crate::domain::Timestamp) -> Sponsor {
        Sponsor {
            state: sponsor.state(now).name().to_owned(),
            name: sponsor.name,
            project: sponsor.project.to_string(),
            hosting: sponsor.hosting,
            domain: sponsor.domain,
            monthly_micros: sponsor.monthly_micros,
            public: sponsor.is_public,
            notes: sponsor.notes,
            since: sponsor.since.into(),
            paused_at: sponsor.paused_at.map(Into::into),
            until: sponsor.until.map(Into::into),
        }
    }
}

/// Sponsor to add.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Acme", "project": "tally", "hosting": true}))]
pub struct NewSponsor {
    /// Its name.
    pub name: String,
    /// The project.
    pub project: String,
    /// Whether it covers hosting.
    #[serde(default)]
    pub hosting: bool,
    /// Whether it covers the domain.
    #[serde(default)]
    pub domain: bool,
    /// What it gives each month, in micro-USD.
    #[serde(default)]
    pub monthly_micros: Option<u64>,
    /// Whether its name may be shown to everyone.
    #[serde(default)]
    pub public: bool,
    /// Remarks.
    #[serde(default)]
    pub notes: String,
}

/// Sponsor to pause, resume or end.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Acme", "project": "tally"}))]
pub struct SponsorName {
    /// Its name.
    pub name: String,
    /// The project.
    pub project: String,
}
