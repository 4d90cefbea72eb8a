//! The steps of a rollout. Each may be repeated after a crash: it is stored once it was carried out.

use super::{change, worker};
use crate::actors::patiently;
use crate::domain::deployment::{
    Cause, Criterion, CriterionRecord, CriterionTest, Probe, Proof, Rollout, RolloutEvent, RolloutState, RolloutStep,
    StepRecord, Target, fill,
};
use crate::domain::{CheckResult, Message, MessageEvent, RunId, Sha};
use crate::ports::deployments::{DeployOrder, DeployResult, Observed};
use crate::ports::forge::{DeploymentReport, DeploymentStage};
use crate::ports::{PortError, PortResult, Repo};
use crate::render;
use crate::secrets::redact_all;
use crate::service::{ErrorKind, Services, checks};
use std::time::{Duration, Instant};

/// Wait between two tests of a criterion.
const TEST_INTERVAL: Duration = Duration::from_secs(1);
/// Earlier rollouts that are searched for a proof of the same version.
const MAX_EARLIER: u64 = 50;
/// Longest observation that is kept, in characters.
const MAX_GOT_CHARS: usize = 4_000;

/// Carries out the next step of a target.
pub(super) async fn carry_out(s: &Services, target: &Target, open: &[Rollout], step: &RolloutStep) -> PortResult<()> {
    let of = |number: u64| {
        let found = open.iter().find(|rollout| rollout.number == number);
        found.ok_or_else(|| PortError::transient(format!("rollout {number} of {} is gone", target.name)))
    };
    match step {
        RolloutStep::Supersede { number, by } => {
            apply(s, target, of(*number)?, RolloutEvent::Superseded { by: *by }).await
        }
        RolloutStep::Prove(number) => prove(s, target, of(*number)?).await,
        RolloutStep::Ask(number) => {
            let rollout = of(*number)?;
            let proof = rollout.proof.as_ref().map(render::deployment::proof_words).unwrap_or_default();
            let sha = rollout.sha.abbrev();
            let summary = format!("Deployment {number} of {} waits for approval: {sha}. {proof}.", target.name);
            let needs = vec![format!("`skep deploy approve {0}` or `skep deploy decline {0}`", target.name)];
            let key = format!("deploy.{}.{number}.approval", target.name);
            notify(s, target, MessageEvent::Question, key, summary, needs).await?;
            apply(s, target, rollout, RolloutEvent::ApprovalRequested).await
        }
        RolloutStep::Start(number) => {
            let previous = super::observed(s, target).await?.sha;
            apply(s, target, of(*number)?, RolloutEvent::Started { previous }).await?;
            show_on_forge(s, target, of(*number)?, DeploymentStage::Started, "deploying").await;
            crate::fault!("after-rollout-start");
            Ok(())
        }
        RolloutStep::Deploy(number) => {
            let rollout = of(*number)?;
            let order = order(s, target, rollout.id, &rollout.sha, rollout.previous.clone()).await?;
            let record = deploy(s, &order).await;
            crate::fault!("after-rollout-deploy");
            apply(s, target, rollout, RolloutEvent::Deployed(record)).await
        }
        RolloutStep::Test(number) => {
            let rollout = of(*number)?;
            let order = order(s, target, rollout.id, &rollout.sha, rollout.previous.clone()).await?;
            let criteria = test_all(s, &order).await;
            crate::fault!("after-rollout-test");
            apply(s, target, rollout, RolloutEvent::Tested(criteria)).await
        }
        RolloutStep::RollBack(number) => {
            let rollout = of(*number)?;
            let previous = rollout.previous.clone().unwrap_or_else(|| rollout.sha.clone());
            let order = order(s, target, rollout.id, &previous, None).await?;
            let record = deploy(s, &order).await;
            let criteria = if record.passed { test_all(s, &order).await } else { Vec::new() };
            crate::fault!("after-rollout-back");
            apply(s, target, rollout, RolloutEvent::RolledBack(record, criteria)).await
        }
    }
}

/// Finds out whether the version of a rollout is fit: what landed and what ran before is; else the checks of the project
/// run at it.
async fn prove(s: &Services, target: &Target, rollout: &Rollout) -> PortResult<()> {
    let by = match &rollout.cause {
        Cause::Requested { by } => by,
        Cause::Landed { run } => {
            return apply(s, target, rollout, RolloutEvent::Proven(Proof::Run { run: *run })).await;
        }
        Cause::Rollback { .. } => return apply(s, target, rollout, RolloutEvent::Proven(Proof::Deployed)).await,
    };
    let earlier = s.deploy.store.rollouts(&target.name, MAX_EARLIER).await?;
    let proofs = earlier.into_iter().filter(|r| r.sha == rollout.sha).filter_map(|r| r.proof);
    if let Some(proof) = proofs.into_iter().find(|proof| matches!(proof, Proof::Run { .. } | Proof::Checks { .. })) {
        return apply(s, target, rollout, RolloutEvent::Proven(proof)).await;
    }
    if rollout.state == RolloutState::Queued {
        return apply(s, target, rollout, RolloutEvent::CheckingStarted).await;
    }
    let checking = checks::run_at(s, &target.project, target.branch.as_deref(), &rollout.sha, by);
    let results = meanwhile(checking, || worker::probe_if_due(s, target)).await;
    crate::fault!("after-rollout-checks");
    let event = match results {
        Ok(results) => judged(&results),
        Err(error) if error.kind == ErrorKind::Unavailable => return Err(PortError::transient(error.detail)),
        Err(error) => RolloutEvent::Proven(Proof::Missing { why: error.detail }),
    };
    if let RolloutEvent::Red { why } = &event {
        let summary = format!("Deployment {} of {} failed: {why}.", rollout.number, target.name);
        let needs = vec![format!("`skep check` shows what fails; `skep deploy {}` tries again", target.name)];
        let key = format!("deploy.{}.{}.red", target.name, rollout.number);
        notify(s, target, MessageEvent::Failed, key, summary, needs).await?;
    }
    apply(s, target, rollout, event).await
}

/// Returns what follows from the results of the checks. What only the environment lacks says nothing about the version.
fn judged(results: &[CheckResult]) -> RolloutEvent {
    let red: Vec<&CheckResult> = results.iter().filter(|check| !check.green).collect();
    let words = |check: &CheckResult| format!("{} is red: {}", check.name, check.why.trim_end_matches('.'));
    let missing = |why: String| RolloutEvent::Proven(Proof::Missing { why });
    match red.iter().find(|check| check.fault.is_none()).or(red.first()) {
        Some(check) if check.fault.is_none() => {
            RolloutEvent::Red { why: format!("{}; nothing was deployed", words(check)) }
        }
        Some(check) => missing(format!("the checks cannot run here; {}", words(check))),
        None if results.is_empty() => missing("the project has no checks".to_owned()),
        None => {
            let names = results.iter().map(|check| check.name.clone()).collect();
            RolloutEvent::Proven(Proof::Checks { names })
        }
    }
}

/// Waits for what takes long, and repeats something short in the meantime, each time after the wait that it returns.
async fn meanwhile<T, F: Future<Output = PortResult<Duration>>>(
    long: impl Future<Output = T>,
    short: impl Fn() -> F,
) -> T {
    let mut long = std::pin::pin!(long);
    loop {
        let wait = short().await.unwrap_or(TEST_INTERVAL);
        if let Ok(result) = tokio::time::timeout(wait.max(TEST_INTERVAL), &mut long).await {
            return result;
        }
    }
}

/// Returns the order to bring a version to a target.
pub(super) async fn order(
    s: &Services,
    target: &Target,
    id: RunId,
    sha: &Sha,
    keep_sha: Option<Sha>,
) -> PortResult<DeployOrder> {
    let project = s.store.project(&target.project).await?.ok_or_else(|| {
        let what = format!("there is no project {}", target.project);
        PortError::permanent(what, format!("fix deploy.{}.project in the configuration", target.name))
    })?;
    Ok(DeployOrder {
        target: target.clone(),
        repo: Repo { project: project.name, origin: project.repo },
        sha: sha.clone(),
        keep_sha,
        id,
        checks: s.parts.current().checks.clone(),
    })
}

/// Deploys a version. While the host cannot be reached it is tried again, until the limit of the target.
async fn deploy(s: &Services, order: &DeployOrder) -> StepRecord {
    let began = Instant::now();
    let limit = Duration::from_secs(order.target.timeout_secs);
    let result = match patiently(limit, || s.deploy.deployer.deploy(order)).await {
        Ok(result) => result,
        Err(PortError::Permanent { what, fix }) => {
            DeployResult { passed: false, changed: false, log: format!("{what}. To fix it, {fix}") }
        }
        Err(error) => DeployResult { passed: false, changed: true, log: error.to_string() },
    };
    let DeployResult { passed, changed, log } = result;
    let log = redact_all(&log).into_owned();
    StepRecord { sha: order.sha.clone(), passed, changed, log, at: s.clock.now(), ms: ms(began) }
}

fn ms(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

async fn test_all(s: &Services, order: &DeployOrder) -> Vec<CriterionRecord> {
    let mut records = Vec::new();
    for criterion in &order.target.criteria {
        records.push(test(s, order, criterion).await);
    }
    records
}

/// Tests a criterion: a request until it is answered as expected, a command once.
async fn test(s: &Services, order: &DeployOrder, criterion: &Criterion) -> CriterionRecord {
    let began = Instant::now();
    let limit = Duration::from_secs(criterion.within_secs);
    let is_request = matches!(criterion.test, CriterionTest::Http { .. });
    let observed = loop {
        let observed = match s.deploy.deployer.test(order, criterion).await {
            Ok(observed) if observed.passed || !is_request => break observed,
            Ok(observed) => observed,
            Err(PortError::Permanent { what, .. }) => break Observed { passed: false, got: what },
            Err(error) => Observed { passed: false, got: error.to_string() },
        };
        if began.elapsed() + TEST_INTERVAL > limit {
            break observed;
        }
        tokio::time::sleep(TEST_INTERVAL).await;
    };
    let filled = |text: &str| fill(text, &order.target.name, &order.sha);
    let (test, expected) = match &criterion.test {
        CriterionTest::Http { path, status, body } => {
            let url = order.target.url.as_deref().unwrap_or_default();
            let body = body.as_ref().map(|body| format!(" with {}", filled(body))).unwrap_or_default();
            (format!("GET {url}{}", filled(path)), format!("{status}{body}"))
        }
        CriterionTest::Command { command } => (filled(command), "exit 0".to_owned()),
    };
    let got = redact_all(&observed.got).chars().take(MAX_GOT_CHARS).collect();
    let (name, passed) = (criterion.name.clone(), observed.passed);
    CriterionRecord { name, test, expected, got, passed, at: s.clock.now(), ms: ms(began) }
}

/// Applies an event to a rollout as it is stored now, and does what follows from its end first: a crash in between leads
/// to the same step again.
async fn apply(s: &Services, target: &Target, rollout: &Rollout, event: RolloutEvent) -> PortResult<()> {
    let writing = s.deploy.writing.lock().await;
    let stored = s.deploy.store.rollout(&target.name, rollout.number).await?;
    let stored = stored.ok_or_else(|| PortError::transient(format!("rollout {} is gone", rollout.number)))?;
    let next = match stored.after(event, target, s.clock.now()) {
        Ok(next) => next,
        Err(why) => {
            // A person answered in the meantime.
            tracing::info!(target = target.name, why, "a step of a rollout is not needed any more");
            return Ok(());
        }
    };
    if !next.state.is_ended() || next.started_at.is_none() {
        return s.deploy.store.put_rollout(&next).await;
    }
    drop(writing);
    end(s, target, &next).await?;
    let _writing = s.deploy.writing.lock().await;
    s.deploy.store.put_rollout(&next).await
}

/// Does what follows from the end of a rollout that changed the target.
async fn end(s: &Services, target: &Target, rollout: &Rollout) -> PortResult<()> {
    let order = order(s, target, rollout.id, &rollout.sha, None).await?;
    if let Err(error) = s.deploy.deployer.release(&order).await {
        tracing::warn!(target = target.name, %error, "the lock of a target stays on its host until it expires");
    }
    let was_deployed = rollout.deployment.as_ref().is_some_and(|step| step.passed);
    let now_there = match rollout.state {
        RolloutState::Deployed => Some(&rollout.sha),
        RolloutState::RolledBack => rollout.previous.as_ref(),
        // The version was deployed, is red, and was left there.
        RolloutState::Failed if was_deployed && rollout.rollback.is_none() => Some(&rollout.sha),
        _ => None,
    };
    let criteria = if rollout.rollback.is_some() { &rollout.rollback_criteria } else { &rollout.criteria };
    let tested = target.probe().and_then(|probe| criteria.iter().find(|c| c.name == probe.name)).cloned();
    change(s, target, |deployment| {
        if let Some(sha) = now_there.filter(|sha| deployment.sha.as_ref() != Some(sha)) {
            deployment.previous = deployment.sha.replace(sha.clone());
        }
        if let Some(tested) = tested {
            deployment.probe = Some(Probe::after(None, tested.passed, tested.got, tested.at));
        }
        // The files of the target may have changed.
        deployment.observed_at = None;
    })
    .await?;
    comment(s, target, rollout).await;
    let stage = match rollout.state {
        RolloutState::Deployed => DeploymentStage::Succeeded,
        _ => DeploymentStage::Failed,
    };
    show_on_forge(s, target, rollout, stage, &rollout.why).await;
    if matches!(rollout.state, RolloutState::Failed | RolloutState::RolledBack) {
        let word = rollout.state.name().replace('_', " ");
        let summary = format!("Deployment {} of {} {word}: {}.", rollout.number, target.name, rollout.why);
        let needs = vec![format!("`skep deploy report {} {}` shows what was observed", target.name, rollout.number)];
        let key = format!("deploy.{}.{}.ended", target.name, rollout.number);
        notify(s, target, MessageEvent::Failed, key, summary, needs).await?;
    }
    crate::fault!("before-rollout-end");
    Ok(())
}

/// Writes the acceptance report to the change that landed. The report itself is stored anyway.
async fn comment(s: &Services, target: &Target, rollout: &Rollout) {
    let Cause::Landed { run } = &rollout.cause else { return };
    let written = async {
        let Some(run) = s.store.load(*run).await? else { return Ok(()) };
        let Some(change) = &run.change else { return Ok(()) };
        let repo = Repo { project: run.project.clone(), origin: run.settings.origin.clone() };
        let text = redact_all(&render::deployment::report(rollout, target)).into_owned();
        let marker = format!("skep:{}", rollout.key);
        s.forges.get(&run.settings.forge)?.ensure_comment(&repo, change.number, &marker, &text).await
    };
    if let Err(error) = written.await {
        tracing::warn!(target = target.name, %error, "the acceptance report is not on the change");
    }
}

/// Shows how far a rollout is on the forge, where the target wants that. Nothing depends on it.
async fn show_on_forge(s: &Services, target: &Target, rollout: &Rollout, stage: DeploymentStage, text: &str) {
    if !target.is_on_forge {
        return;
    }
    let shown = async {
        let Some(project) = s.store.project(&target.project).await? else { return Ok(()) };
        let repo = Repo { project: project.name.clone(), origin: project.repo.clone() };
        let branch = match target.branch.as_ref().or(project.base.as_ref()) {
            Some(branch) => branch.clone(),
            None => s.workspaces.fetch(&repo, None).await?.0,
        };
        let text = redact_all(text);
        let key = format!("{}.{}", target.name, rollout.id);
        let (environment, url) = (target.name.as_str(), target.url.as_deref());
        let report =
            DeploymentReport { key: &key, environment, sha: &rollout.sha, branch: &branch, stage, url, text: &text };
        s.forges.get(&project.forge)?.report_deployment(&repo, &report).await
    };
    if let Err(error) = shown.await {
        tracing::warn!(target = target.name, %error, "the forge does not show how far a deployment is");
    }
}

/// Notifies people by the channels that want it.
pub(super) async fn notify(
    s: &Services,
    target: &Target,
    event: MessageEvent,
    key: String,
    summary: String,
    needs: Vec<String>,
) -> PortResult<()> {
    let project = target.project.as_str();
    let at = s.clock.now();
    let message = Message {
        key,
        event,
        run: None,
        block: None,
        project: project.to_owned(),
        title: format!("Deployment to {}", target.name),
        summary: redact_all(&summary).into_owned(),
        needs,
        cost_micros: 0,
        path: format!("/deployments/{}", target.name),
        at,
    };
    for channel in s.channels.iter().filter(|channel| channel.rules().wants(event, project)) {
        s.messages.put(channel.name(), &message, at).await?;
    }
    Ok(())
}
