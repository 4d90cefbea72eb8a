//! Deployments: what is stored about them, and how a version gets to a target.

use super::PortResult;
use super::checks::Checks;
use super::workspace::Repo;
use crate::domain::deployment::{Criterion, Deployment, Rollout, Sponsor, Target};
use crate::domain::{ProjectName, RunId, Sha};
use async_trait::async_trait;
use std::sync::Arc;

/// Stored deployments of one data directory, which one process uses at a time.
#[async_trait]
pub trait Deployments: Send + Sync {
    /// Returns what was observed of a target; `None` = it was not seen yet.
    async fn deployment(&self, target: &str) -> PortResult<Option<Deployment>>;
    /// Stores what was observed.
    async fn put_deployment(&self, deployment: &Deployment) -> PortResult<()>;
    /// Stores a new rollout, whose number is set, and returns it; `None` = there is one with this key.
    async fn add_rollout(&self, rollout: &Rollout) -> PortResult<Option<Rollout>>;
    /// Replaces a rollout.
    async fn put_rollout(&self, rollout: &Rollout) -> PortResult<()>;
    /// Returns the rollouts of a target that have not ended, oldest first.
    async fn open_rollouts(&self, target: &str) -> PortResult<Vec<Rollout>>;
    /// Returns the rollouts of a target, newest first, at most `limit`.
    async fn rollouts(&self, target: &str, limit: u64) -> PortResult<Vec<Rollout>>;
    /// Returns a rollout.
    async fn rollout(&self, target: &str, number: u64) -> PortResult<Option<Rollout>>;
    /// Stores a sponsor, replacing one of the same project and name.
    async fn put_sponsor(&self, sponsor: &Sponsor) -> PortResult<()>;
    /// Returns the sponsors, by project and name.
    async fn sponsors(&self) -> PortResult<Vec<Sponsor>>;
    /// Removes the sponsors of a project.
    async fn remove_sponsors(&self, project: &ProjectName) -> PortResult<()>;
}

/// A version to bring to a target.
#[derive(Clone)]
pub struct DeployOrder {
    /// The target.
    pub target: Target,
    /// The repository.
    pub repo: Repo,
    /// The version.
    pub sha: Sha,
    /// Another version whose release stays on the host, besides the last ones.
    pub keep_sha: Option<Sha>,
    /// Names the checkout.
    pub id: RunId,
    /// Runs the commands of targets without a runner.
    pub checks: Arc<dyn Checks>,
}

/// What came of a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeployResult {
    /// Whether it succeeded.
    pub passed: bool,
    /// Whether the target may have changed.
    pub changed: bool,
    /// The end of the output, redacted.
    pub log: String,
}

/// What a test of a criterion observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Whether it is fulfilled.
    pub passed: bool,
    /// What was observed, redacted.
    pub got: String,
}

/// Brings versions to targets. Every call may be repeated after a crash.
#[async_trait]
pub trait Deployer: Send + Sync {
    /// Deploys a version.
    ///
    /// # Errors
    /// If it is unknown what came of it, or the host cannot be reached.
    async fn deploy(&self, order: &DeployOrder) -> PortResult<DeployResult>;
    /// Tests a criterion once.
    ///
    /// # Errors
    /// If it cannot be tested.
    async fn test(&self, order: &DeployOrder, criterion: &Criterion) -> PortResult<Observed>;
    /// Gives up what the rollout holds on the host, and removes its checkout.
    ///
    /// # Errors
    /// If the host cannot be reached.
    async fn release(&self, order: &DeployOrder) -> PortResult<()>;
}
