//! Ops: a run's hands. Carries out effects through the ports; every act looks before it acts, so twice is once.

use super::deps::Deps;
use super::message::{OpsMsg, RunMsg};
use super::retry::patiently;
use super::role::{AbortOnDrop, panic_text};
use crate::domain::{
    BudgetScope, CheckSpec, Day, Effect, EffectKey, EffectOutcome, Failure, Level, Run, RunId, Scope, Sha,
    SharedBudget, Timestamp, describe,
};
use crate::ports::forge::{ChangeText, Landing};
use crate::ports::store::{Lease, Reservation, Room, SpendingBy, SpendingFilter};
use crate::ports::workspace::Moved;
use crate::ports::{PortError, PortResult, Repo};
use crate::secrets::redact;
use crate::telemetry::TraceContext;
use futures::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tracing::Instrument;

/// Begun this often and never ended: the act seems to kill its process, a person is asked.
const BEGUN_MOST: u32 = 5;

/// The actor.
pub struct Ops;

/// Where a run's acts go.
#[derive(Clone)]
pub struct RunTarget {
    pub run: RunId,
    pub repo: Repo,
    pub branch: String,
    pub base_branch: String,
    /// How long an act may be tried again before a person is asked.
    pub patience: Duration,
    pub traceparent: Option<String>,
}

impl RunTarget {
    pub fn of(run: &Run) -> RunTarget {
        RunTarget {
            run: run.id,
            repo: Repo { project: run.project.clone(), origin: run.settings.origin.clone() },
            branch: run.settings.branch.clone(),
            base_branch: run.settings.base_branch.clone(),
            patience: Duration::from_secs(run.settings.policy.steps.ops.wall_secs),
            traceparent: run.traceparent.clone(),
        }
    }
}

/// What it is started with.
pub struct Args {
    pub deps: Deps,
    pub lease: Lease,
    pub target: RunTarget,
    pub run: ActorRef<RunMsg>,
}

/// Its state.
pub struct State {
    args: Args,
    acts: HashMap<EffectKey, (AbortOnDrop, bool)>,
}

impl Actor for Ops {
    type Msg = OpsMsg;
    type State = State;
    type Arguments = Args;

    async fn pre_start(&self, _me: ActorRef<OpsMsg>, args: Args) -> Result<State, ActorProcessingErr> {
        Ok(State { args, acts: HashMap::new() })
    }

    async fn handle(&self, me: ActorRef<OpsMsg>, message: OpsMsg, s: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            OpsMsg::Act { key, effect, again } => {
                let is_check = matches!(*effect, Effect::Check { .. });
                let act = act(
                    me,
                    s.args.deps.clone(),
                    s.args.lease.clone(),
                    s.args.target.clone(),
                    key.clone(),
                    effect,
                    again,
                );
                let task = tokio::spawn(act);
                s.acts.insert(key, (AbortOnDrop(task.abort_handle()), is_check));
            }
            OpsMsg::Ended { key, done } => {
                s.acts.remove(&key);
                s.args.run.cast(RunMsg::EffectFinished { key, done })?;
            }
            OpsMsg::Fenced => s.args.run.cast(RunMsg::Fenced)?,
            OpsMsg::StopChecks => {
                let checks: Vec<EffectKey> =
                    s.acts.iter().filter(|(_, (_, is_check))| *is_check).map(|(k, _)| k.clone()).collect();
                for key in checks {
                    s.acts.remove(&key);
                    let failure = Failure { what: "the checks were stopped".to_owned(), fix: String::new() };
                    s.args
                        .run
                        .cast(RunMsg::EffectFinished { key, done: Box::new(EffectOutcome::Failed { failure }) })?;
                }
            }
        }
        Ok(())
    }
}

/// One act from its order to its end, told to the actor.
async fn act(
    me: ActorRef<OpsMsg>,
    deps: Deps,
    lease: Lease,
    target: RunTarget,
    key: EffectKey,
    effect: Box<Effect>,
    again: bool,
) {
    let tag = effect.effect_ref();
    let span = TraceContext::under(
        target.traceparent.as_deref(),
        tracing::info_span!(
            "act",
            otel.name = tag.name(),
            otel.status_code = tracing::field::Empty,
            run = %target.run,
            project = %target.repo.project,
            act = tag.name(),
            %key
        ),
    );
    let carried = AssertUnwindSafe(carry_out(&deps, &lease, &target, &key, &effect, again));
    let outcome = match carried.catch_unwind().instrument(span.clone()).await {
        Ok(outcome) => outcome,
        Err(panic) => Err(PortError::permanent(
            format!("the act {} panicked: {}", tag.name(), panic_text(panic.as_ref())),
            "report this as a defect; unblock to try again",
        )),
    };
    if outcome.is_err() {
        span.record("otel.status_code", "ERROR");
    }
    let message = match outcome {
        Ok(done) => OpsMsg::Ended { key, done: Box::new(done) },
        Err(PortError::Fenced { .. }) => OpsMsg::Fenced,
        Err(error) => {
            tracing::warn!(run = %target.run, act = tag.name(), %error, "an act does not succeed");
            let failure = Failure { what: error.to_string(), fix: error.fix().to_owned() };
            OpsMsg::Ended { key, done: Box::new(EffectOutcome::Failed { failure }) }
        }
    };
    // A run that was let go meanwhile takes the act up again at its next start.
    let _gone = me.cast(message);
}

async fn carry_out(
    deps: &Deps,
    lease: &Lease,
    target: &RunTarget,
    key: &EffectKey,
    effect: &Effect,
    again: bool,
) -> PortResult<EffectOutcome> {
    if again || matches!(effect, Effect::Land { .. }) {
        // Counted before it is carried out; fenced, so a process that lost the run does not act for it.
        crate::fault!("before-begin");
        let begun = patiently(target.patience, || deps.store.begin(lease, key)).await?;
        crate::fault!("after-begin");
        if begun > BEGUN_MOST {
            return Err(PortError::permanent(
                format!("the act was begun {begun} times and never ended"),
                "look at the log of the last starts; unblock to try again",
            ));
        }
    }
    crate::fault!("before-act");
    let done = patiently(target.patience, || once(deps, lease, target, key, effect)).await?;
    crate::fault!("after-act");
    Ok(done)
}

/// One try at an act.
async fn once(
    deps: &Deps,
    lease: &Lease,
    target: &RunTarget,
    key: &EffectKey,
    effect: &Effect,
) -> PortResult<EffectOutcome> {
    let RunTarget { repo, branch, base_branch, .. } = target;
    let ws = &deps.workspaces;
    match effect {
        Effect::Reserve { attempt, role, engine, caps, shared, alerts, round, at } => {
            let ask = Reservation {
                lease: lease.clone(),
                attempt: *attempt,
                project: repo.project.clone(),
                role: *role,
                engine: engine.clone(),
                caps: *caps,
                shared: *shared,
                alerts: alerts.clone(),
                round: *round,
                at: *at,
            };
            match deps.store.reserve(&ask).await? {
                Room::Reserved { caps, levels } => Ok(EffectOutcome::Reserved { caps, levels }),
                Room::Short { levels, set_aside } => short(deps, target, &levels, set_aside > 0, *at).await,
            }
        }
        Effect::Check { scope, sha, checks } => check(deps, target, *scope, sha, checks).await,
        Effect::Integrate { from, head, onto, base, .. } => moved(deps, target, base, from, head, onto).await,
        Effect::Rebase { from, head, onto } => {
            ws.fetch(repo, Some(base_branch)).await?;
            moved(deps, target, onto, from, head, onto).await
        }
        Effect::Push { sha, expected, passes } => {
            let mut found = ws.scan_outgoing(repo, sha).await?;
            found.retain(|f| !passes.contains(&f.mark));
            if !found.is_empty() {
                return Ok(EffectOutcome::Held { found });
            }
            ws.push(repo, sha, branch, expected.as_ref()).await?;
            Ok(EffectOutcome::Ok)
        }
        Effect::EnsureChange { after, head, draft, title, body } => {
            // What became live since these texts were made is not in the journal's cleaning.
            let (title, body) = (&*redact(title), &*redact(body));
            let text = ChangeText { after: *after, branch, base_branch, head, draft: *draft, title, body };
            Ok(EffectOutcome::Ensured { change: deps.forge.ensure_change(repo, text).await? })
        }
        Effect::Comment { change, text } => {
            let marker = format!("skep:{}:{key}", target.run);
            deps.forge.ensure_comment(repo, *change, &marker, &redact(text)).await?;
            Ok(EffectOutcome::Ok)
        }
        Effect::SetStatus { change, sha, context, state, text } => {
            deps.forge.set_status(repo, *change, sha, context, *state, &redact(text)).await?;
            Ok(EffectOutcome::Ok)
        }
        Effect::Observe { change } => {
            Ok(EffectOutcome::Observed { observation: deps.forge.observe(repo, *change).await? })
        }
        Effect::Land { change, head, base } => match deps.forge.land(repo, *change, head, base).await? {
            Landing::Landed(sha) => Ok(EffectOutcome::Landed { sha }),
            Landing::Stale(why) => Ok(EffectOutcome::Stale { why }),
        },
        Effect::Close { change } => {
            deps.forge.close(repo, *change).await?;
            Ok(EffectOutcome::Ok)
        }
        Effect::Release => {
            ws.release(repo, target.run, branch).await?;
            Ok(EffectOutcome::Ok)
        }
        Effect::Start { .. } | Effect::Stop => {
            Err(PortError::permanent("this act is not for a run's hands", "report this as a defect"))
        }
    }
}

/// Shared budgets have nothing left: tells what each went to, by role and by model.
async fn short(
    deps: &Deps,
    target: &RunTarget,
    levels: &[Level],
    set_aside: bool,
    at: Timestamp,
) -> PortResult<EffectOutcome> {
    let of: Vec<SharedBudget> = levels.iter().filter_map(Level::used_up).collect();
    let mut went_to = Vec::new();
    for share in
        [BudgetScope::Project, BudgetScope::Day].into_iter().filter(|share| of.iter().any(|b| b.share == *share))
    {
        let mut sums = Vec::new();
        for by in [SpendingBy::Role, SpendingBy::Model] {
            let filter = SpendingFilter {
                by,
                run: None,
                project: (share == BudgetScope::Project).then(|| target.repo.project.clone()),
                day: (share == BudgetScope::Day).then(|| Day::of(at)),
                limit: 20,
            };
            sums.extend(deps.store.spending(&filter).await?.into_iter().map(|s| (s.key, s.tokens, s.cost_micros)));
        }
        went_to.push(describe::WentTo { share, sums });
    }
    Ok(EffectOutcome::Short { of, why: describe::short(levels, &went_to), levels: levels.to_vec(), set_aside })
}

/// Moves commits onto another one, and tells how the run's branch then differs from its base.
async fn moved(
    deps: &Deps,
    target: &RunTarget,
    base: &Sha,
    from: &Sha,
    head: &Sha,
    onto: &Sha,
) -> PortResult<EffectOutcome> {
    match deps.workspaces.rebase(&target.repo, from, head, onto, &target.branch).await? {
        Moved::Clean(head) => {
            let (diff, _) = deps.workspaces.diff(&target.repo, base, &head).await?;
            Ok(EffectOutcome::Moved { head, diff })
        }
        Moved::Conflict(paths) => Ok(EffectOutcome::Conflict { paths }),
    }
}

/// Runs the checks on exactly this commit in a fresh checkout.
async fn check(
    deps: &Deps,
    target: &RunTarget,
    scope: Scope,
    sha: &Sha,
    specs: &[CheckSpec],
) -> PortResult<EffectOutcome> {
    let name = match scope {
        Scope::Task(task) => format!("check-{task}"),
        Scope::Head => "check-head".to_owned(),
    };
    let started = tokio::time::Instant::now();
    let dir = deps.workspaces.check_dir(&target.repo, target.run, &name, sha).await?;
    let (cache, _) = deps.workspaces.scratch_dirs(target.run, &name);
    let checked = deps.checks.run(&target.repo.project, &dir, &cache, specs).await?;
    crate::fault!("after-check");
    let mut results = Vec::with_capacity(checked.len());
    for one in checked {
        let mut result = one.result;
        for (kind, name, bytes) in &one.files {
            result.artifacts.push(deps.store.put_artifact(target.run, *kind, name, bytes).await?);
        }
        results.push(result);
    }
    deps.workspaces.remove_dir(&target.repo, target.run, &name).await?;
    let wall_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(EffectOutcome::Checked { results, wall_ms })
}
