//! Queues what landed, carries out rollouts, and probes what is deployed: one task for each target.

use super::sponsors::coverage;
use super::{change, head, observed, queued, steps};
use crate::domain::deployment::{Cause, Coverage, Deployment, Method, Probe, Target, next_step, suspension_due};
use crate::domain::{Evidence, MessageEvent, OutcomeRow, OutcomeWord, Sha, Timestamp};
use crate::ports::outcomes::OutcomeFilter;
use crate::ports::{PortError, PortResult};
use crate::render;
use crate::service::moved_runs::MovedRuns;
use crate::service::{ErrorKind, ServiceResult, Services};
use std::time::Duration;
use tokio::task::JoinSet;

/// Longest wait; everything the worker waits for also wakes it, except what another process did.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Wait after a failure of the store or the repository.
const RETRY: Duration = Duration::from_secs(10);
/// Outcomes that are read at once.
const MAX_OUTCOMES: u64 = 500;
/// A landing may be stored this much later than one with a later time, in milliseconds.
const LATE_MS: i64 = 600_000;
/// Seconds between two looks at the repository.
const OBSERVE_SECS: u64 = 600;

/// Looks after the targets until the process ends.
pub async fn run(s: Services) {
    let mut targets = JoinSet::new();
    for target in s.deploy.targets.iter().cloned() {
        targets.spawn(follow(s.clone(), target));
    }
    while let Some(ended) = targets.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "the worker of a deployment target has stopped; restart Skep");
        }
    }
}

async fn follow(s: Services, target: Target) {
    let mut branch = target.branch.clone();
    let mut moved = MovedRuns::new(&s.notifications);
    loop {
        // Created first, so that a call during the pass is not missed.
        let woken = s.deploy.wake.notified();
        let wait = match pass(&s, &target, &mut branch).await {
            Ok(wait) => wait,
            Err(error) => {
                tracing::warn!(target = target.name, %error, "deployments are delayed; retrying");
                RETRY
            }
        };
        tokio::select! {
            () = woken => {}
            () = moved.wait(), if target.on_land => {}
            () = tokio::time::sleep(wait) => {}
        }
        // The pass looks for what landed, whichever runs they are.
        moved.take();
    }
}

/// Does what is due for a target, and returns how long to wait.
async fn pass(s: &Services, target: &Target, branch: &mut Option<String>) -> ServiceResult<Duration> {
    let deployment = match s.deploy.store.deployment(&target.name).await? {
        Some(deployment) => deployment,
        None => change(s, target, |_| ()).await?,
    };
    if target.on_land {
        queue_landed(s, target, &deployment, branch).await?;
    }
    loop {
        let open = s.deploy.store.open_rollouts(&target.name).await?;
        let is_held = is_held(s, target).await?;
        let Some(step) = next_step(&open, target, is_held) else { break };
        steps::carry_out(s, target, &open, &step).await?;
    }
    observe(s, target).await?;
    Ok(probe_if_due(s, target).await?)
}

/// Returns whether new versions are kept from a target, and notifies people before its sponsors' end suspends it.
async fn is_held(s: &Services, target: &Target) -> PortResult<bool> {
    let (deployment, coverage) = (observed(s, target).await?, coverage(s, &target.project).await?);
    if let Some(due) = suspension_due(target, coverage)
        && let Coverage::Lapsed { since } = coverage
    {
        let (name, project) = (&target.name, &target.project);
        let summary = format!(
            "Nobody has sponsored the hosting of {name} since {}; it is suspended from {}.",
            render::utc(since),
            render::utc(due)
        );
        let needs = vec![format!("`skep sponsor add NAME --project {project} --hosting` adds a sponsor")];
        steps::notify(
            s,
            target,
            MessageEvent::Question,
            format!("deploy.{name}.unsponsored.{}", since.0),
            summary,
            needs,
        )
        .await?;
    }
    Ok(deployment.hold(target, coverage, s.clock.now()).is_some())
}

/// Probes a target if that is due, and returns how long to wait for the next time.
pub(super) async fn probe_if_due(s: &Services, target: &Target) -> PortResult<Duration> {
    let deployment = observed(s, target).await?;
    let Some(sha) = deployment.sha.clone().filter(|_| target.probe().is_some()) else { return Ok(MAX_WAIT) };
    let now = s.clock.now();
    let due = deployment.probe.as_ref().map_or(now, |probe| probe.at.plus_secs(target.probe_secs));
    if due <= now {
        probe(s, target, &sha).await?;
        return Ok(MAX_WAIT.min(Duration::from_secs(target.probe_secs)));
    }
    let left = u64::try_from(due.0.saturating_sub(now.0)).unwrap_or(0);
    Ok(MAX_WAIT.min(Duration::from_millis(left)))
}

/// Queues a rollout for each change that landed since the target is known, the oldest first.
async fn queue_landed(
    s: &Services,
    target: &Target,
    deployment: &Deployment,
    branch: &mut Option<String>,
) -> ServiceResult<()> {
    let from = Timestamp(deployment.landed_until.0 - LATE_MS).max(deployment.since);
    let mut landed: Vec<OutcomeRow> = Vec::new();
    for word in [OutcomeWord::Landed, OutcomeWord::LandedLate] {
        let mut filter = OutcomeFilter {
            project: Some(target.project.clone()),
            word: Some(word),
            since: Some(from),
            limit: MAX_OUTCOMES,
            ..OutcomeFilter::default()
        };
        loop {
            let rows = s.outcomes.list_outcomes(&filter).await?;
            let is_last = rows.len() < MAX_OUTCOMES as usize;
            filter.before = rows.last().map(|row| row.run);
            landed.extend(rows.into_iter().filter(|row| row.attempt.is_none()));
            if is_last {
                break;
            }
        }
    }
    landed.sort_by_key(|row| (row.at, row.run));
    let Some(last) = landed.last().map(|row| row.at) else { return Ok(()) };
    // A fetch for each look would be one every few seconds; the default branch of a repository hardly changes.
    let branch = match branch {
        Some(branch) => branch.clone(),
        None => branch.insert(head(s, target).await?.1).clone(),
    };
    for row in &landed {
        let Evidence::Commit(sha) = &row.evidence else { continue };
        let base = match s.store.load(row.run).await {
            Ok(run) => run.map(|run| run.settings.base_branch.clone()),
            // One run that cannot be read must not stop a target.
            Err(PortError::Permanent { what, .. }) => {
                tracing::warn!(target = target.name, run = %row.run, "cannot tell what a run landed on: {what}");
                None
            }
            Err(other) => return Err(other.into()),
        };
        if base.as_ref() != Some(&branch) {
            continue;
        }
        let cause = Cause::Landed { run: row.run };
        let mut rollout = queued(target, s.clock.new_run_id(), sha.clone(), cause, s.clock.now());
        rollout.key = format!("{}.rollout.{}", row.run, target.name);
        let _writing = s.deploy.writing.lock().await;
        if let Some(rollout) = s.deploy.store.add_rollout(&rollout).await? {
            tracing::info!(target = target.name, number = rollout.number, run = %row.run, "what landed is deployed");
            crate::fault!("after-rollout-queued");
        }
    }
    if last > deployment.landed_until {
        change(s, target, |deployment| deployment.landed_until = last).await?;
    }
    Ok(())
}

/// Observes whether the branch has what the target needs, if that was not done lately.
async fn observe(s: &Services, target: &Target) -> ServiceResult<Deployment> {
    let deployment = observed(s, target).await?;
    let now = s.clock.now();
    // What is missing may be there soon: a project that is added, or a file that is pushed.
    let secs = if deployment.is_whole == Some(true) { OBSERVE_SECS } else { MAX_WAIT.as_secs() / 2 };
    if deployment.observed_at.is_some_and(|at| now < at.plus_secs(secs)) {
        return Ok(deployment);
    }
    let is_whole = match head(s, target).await {
        Ok((repo, _, sha)) => match &target.method {
            Method::Compose { file, .. } => s.workspaces.read_at(&repo, &sha, file).await?.is_some(),
            Method::Command { .. } | Method::Hook { .. } => true,
        },
        Err(error) => {
            tracing::warn!(target = target.name, %error, "the repository of a target cannot be read");
            if error.kind == ErrorKind::Unavailable {
                // Nothing was observed: what is known of the target stays.
                return Ok(deployment);
            }
            false
        }
    };
    let changed = |deployment: &mut Deployment| {
        (deployment.is_whole, deployment.observed_at) = (Some(is_whole), Some(now));
    };
    Ok(change(s, target, changed).await?)
}

/// Probes a deployed version, and stores what was observed.
pub(super) async fn probe(s: &Services, target: &Target, sha: &Sha) -> PortResult<()> {
    let Some(criterion) = target.probe() else { return Ok(()) };
    let order = steps::order(s, target, s.clock.new_run_id(), sha, None).await?;
    let observed = s.deploy.deployer.test(&order, criterion).await?;
    let at = s.clock.now();
    let mut went_down = false;
    let after = change(s, target, |deployment| {
        // A rollout that ended meanwhile has tested another version.
        if deployment.sha.as_ref() == Some(sha) {
            let was_down = deployment.is_down();
            // What stopped answering is resumed by a person, or by a green rollout.
            if !(was_down && observed.passed) {
                let next = Probe::after(deployment.probe.as_ref(), observed.passed, observed.got.clone(), at);
                deployment.probe = Some(next);
            }
            went_down = !was_down && deployment.is_down();
        }
    });
    let after = after.await?;
    if went_down {
        let why = after.probe.map(|probe| probe.got).unwrap_or_default();
        let summary = format!("{} does not answer as expected: {why}.", target.name);
        let needs = vec![format!(
            "Look at the host, then `skep deploy resume {}`, or roll back to a good version",
            target.name
        )];
        let key = format!("deploy.{}.down.{}", target.name, at.0);
        steps::notify(s, target, MessageEvent::Question, key, summary, needs).await?;
    }
    Ok(())
}
