//! A run's operations actor: carries out effects through the ports. Each observes before it acts, so that carrying one
//! out twice has one result.

use super::begin::begin;
use super::checking::check;
use super::deps::Deps;
use super::landing_batch;
use super::landing_lanes::Joining;
use super::message::{OpsMsg, RunMsg};
use super::retry::patiently;
use super::target::RunTarget;
use super::task::{AbortOnDrop, panic_text};
use crate::domain::{
    BudgetScope, Day, DiffStat, Effect, EffectKey, EffectOutcome, Failure, Level, Reused, Scope, Sha, SharedBudget,
    SharedSpending, Timestamp,
};
use crate::ports::forge::{ChangeText, Landing};
use crate::ports::leases::Lease;
use crate::ports::ledger::{Reservation, ReserveOutcome, SpendingBy, SpendingFilter};
use crate::ports::workspace::Moved;
use crate::ports::{PortError, PortResult, Trust};
use crate::render::EffectText;
use crate::secrets::redact;
use crate::telemetry::TraceContext;
use futures::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tracing::Instrument;

mod proof;

/// The actor.
pub struct Ops;

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
    /// The tasks in progress, and how each is stopped.
    acts: HashMap<EffectKey, (AbortOnDrop, Stop)>,
}

/// How an effect in progress is stopped.
enum Stop {
    /// It is not: it ends by itself.
    Never,
    /// A check is ended at any time.
    Check,
    /// A landing is ended only while it waits for its turn (true).
    Landing(Arc<AtomicBool>),
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
            OpsMsg::Act { key, effect, text, again } => {
                let waits = Arc::new(AtomicBool::new(true));
                let stop = match *effect {
                    Effect::Check { .. } => Stop::Check,
                    Effect::Land { .. } => Stop::Landing(waits.clone()),
                    _ => Stop::Never,
                };
                let act = act(
                    me,
                    s.args.deps.clone(),
                    s.args.lease.clone(),
                    s.args.target.clone(),
                    key.clone(),
                    Ordered { effect, text, waits },
                    again,
                );
                let task = tokio::spawn(act);
                s.acts.insert(key, (AbortOnDrop(task.abort_handle()), stop));
            }
            OpsMsg::Ended { key, outcome } => {
                s.acts.remove(&key);
                s.args.run.cast(RunMsg::EffectFinished { key, outcome })?;
            }
            OpsMsg::Fenced => s.args.run.cast(RunMsg::Fenced)?,
            OpsMsg::StopChecks => {
                let stopped = |(key, (_, stop)): (&EffectKey, &(AbortOnDrop, Stop))| match stop {
                    Stop::Never => None,
                    Stop::Check => {
                        let failure = Failure { what: "the checks were stopped".to_owned(), fix: String::new() };
                        Some((key.clone(), EffectOutcome::Failed { failure }))
                    }
                    Stop::Landing(waits) => waits.swap(false, Ordering::AcqRel).then(|| {
                        (key.clone(), EffectOutcome::Stale { why: "it was stopped before it landed".to_owned() })
                    }),
                };
                for (key, outcome) in s.acts.iter().filter_map(stopped).collect::<Vec<_>>() {
                    s.acts.remove(&key);
                    s.args.run.cast(RunMsg::EffectFinished { key, outcome: Box::new(outcome) })?;
                }
            }
        }
        Ok(())
    }
}

/// An effect with the text it puts on the forge.
struct Ordered {
    effect: Box<Effect>,
    text: Option<EffectText>,
    /// Whether a landing still waits for its turn. Whoever sets it to false decides: the landing begins, or is stopped.
    waits: Arc<AtomicBool>,
}

/// Carries out one effect and reports its outcome to the actor.
async fn act(
    me: ActorRef<OpsMsg>,
    deps: Deps,
    lease: Lease,
    target: RunTarget,
    key: EffectKey,
    ordered: Ordered,
    again: bool,
) {
    let effect_ref = ordered.effect.effect_ref();
    let span = TraceContext::under(
        target.traceparent.as_deref(),
        tracing::info_span!(
            "act",
            otel.name = effect_ref.name(),
            otel.status_code = tracing::field::Empty,
            run = %target.run,
            project = %target.repo.project,
            act = effect_ref.name(),
            %key
        ),
    );
    let attempt = AssertUnwindSafe(carry_out(&deps, &lease, &target, &key, &ordered, again));
    let outcome = match attempt.catch_unwind().instrument(span.clone()).await {
        Ok(outcome) => outcome,
        Err(panic) => Err(PortError::permanent(
            format!("the effect {} panicked: {}", effect_ref.name(), panic_text(panic.as_ref())),
            "report this as a bug; unblock the run to try again",
        )),
    };
    if outcome.is_err() {
        span.record("otel.status_code", "ERROR");
    }
    let message = match outcome {
        Ok(outcome) => OpsMsg::Ended { key, outcome: Box::new(outcome) },
        Err(PortError::Fenced { .. }) => OpsMsg::Fenced,
        Err(error) => {
            tracing::warn!(run = %target.run, act = effect_ref.name(), %error, "an effect failed");
            let failure = Failure { what: error.to_string(), fix: error.fix().to_owned() };
            OpsMsg::Ended { key, outcome: Box::new(EffectOutcome::Failed { failure }) }
        }
    };
    // A run that was dropped in the meantime resumes the effect at its next start.
    let _gone = me.cast(message);
}

async fn carry_out(
    deps: &Deps,
    lease: &Lease,
    target: &RunTarget,
    key: &EffectKey,
    ordered: &Ordered,
    again: bool,
) -> PortResult<EffectOutcome> {
    if let Effect::Land { change, head, base, batch } = &*ordered.effect {
        deps.landing_queue.turn(target.run, &target.repo.origin, &target.base_branch).await;
        if *batch > 1 {
            let joining = Joining {
                target: target.clone(),
                lease: lease.clone(),
                key: key.clone(),
                change: *change,
                head: head.clone(),
                base: base.clone(),
                limit: *batch,
                waits: ordered.waits.clone(),
            };
            return patiently(target.patience, || landing_batch::land(deps, joining.clone())).await;
        }
        if !ordered.waits.swap(false, Ordering::AcqRel) {
            return Ok(EffectOutcome::Stale { why: "it was stopped before it landed".to_owned() });
        }
    }
    if again || matches!(*ordered.effect, Effect::Land { .. }) {
        begin(deps, lease, key, target.patience).await?;
    }
    crate::fault!("before-act");
    let outcome = patiently(target.patience, || once(deps, lease, target, key, ordered)).await?;
    crate::fault!("after-act");
    Ok(outcome)
}

/// Carries out an effect once.
async fn once(
    deps: &Deps,
    lease: &Lease,
    target: &RunTarget,
    key: &EffectKey,
    ordered: &Ordered,
) -> PortResult<EffectOutcome> {
    let Ordered { effect, text, .. } = ordered;
    let RunTarget { repo, branch, base_branch, .. } = target;
    let ws = &deps.workspaces;
    let forge = || deps.forges.get(&target.forge);
    match &**effect {
        Effect::Reserve { attempt, role, engine, caps, shared, alert_percent, round, at } => {
            let reservation = Reservation {
                lease: lease.clone(),
                attempt: *attempt,
                project: repo.project.clone(),
                role: *role,
                engine: engine.clone(),
                caps: *caps,
                shared: *shared,
                alert_percent: alert_percent.clone(),
                round: *round,
                at: *at,
            };
            match deps.store.reserve(&reservation).await? {
                ReserveOutcome::Reserved { caps, levels } => Ok(EffectOutcome::Reserved { caps, levels }),
                ReserveOutcome::Exhausted { levels, reserved } => {
                    exhausted(deps, target, levels, reserved > 0, *at).await
                }
            }
        }
        Effect::Check { scope, sha, checks, known } => {
            let environment = deps.parts().checks.environment(&repo.project, checks);
            let (results, wall_ms, reused) = if !known.is_empty() {
                (known.clone(), 0, Some(Reused::Task))
            } else if let (Scope::Base, Some(environment)) = (scope, &environment)
                && let Some((run, results)) = proof::of_base(deps, target, sha, checks, environment).await
            {
                (results, 0, Some(Reused::Run(run)))
            } else {
                let (name, trust) = match scope {
                    Scope::Task(task) => (format!("check-{task}"), Trust::Unproven),
                    Scope::Head => ("check-head".to_owned(), Trust::Unproven),
                    Scope::Base => ("check-base".to_owned(), Trust::Base),
                };
                let (results, wall_ms) = check(deps, target, (&name, trust), sha, checks).await?;
                (results, wall_ms, None)
            };
            Ok(EffectOutcome::Checked { results, wall_ms, scope: Some(*scope), reused, environment })
        }
        Effect::Integrate { from, head, onto, base, .. } => {
            let moved = moved(deps, target, base, from, head, onto).await?;
            Ok(moved.map_or_else(conflict, |(head, diff)| EffectOutcome::Integrated { head, diff }))
        }
        Effect::Rebase { from, head, onto } => {
            ws.fetch(repo, Some(base_branch)).await?;
            let moved = moved(deps, target, onto, from, head, onto).await?;
            Ok(moved.map_or_else(conflict, |(head, diff)| EffectOutcome::Rebased { head, diff }))
        }
        Effect::Push { sha, expected, allowed_secrets } => {
            // The secret that a commit contains may have been used by a process that has ended.
            deps.parts.remember_secrets().await?;
            let mut found = ws.scan_outgoing(repo, sha).await?;
            found.retain(|f| !allowed_secrets.contains(&f.fingerprint));
            if !found.is_empty() {
                return Ok(EffectOutcome::PushHeld { found });
            }
            let to = forge()?.push_target(repo).await?;
            ws.push(&to, sha, branch, expected.as_ref()).await?;
            Ok(EffectOutcome::Pushed)
        }
        // The texts are redacted once more: secrets may have become known since their events were redacted.
        Effect::EnsureChange { after, head, draft } => {
            let Some(EffectText::Change { title, body }) = text else { return Err(no_text()) };
            let (title, body) = (&*redact(title), &*redact(body));
            let text = ChangeText { after: *after, branch, base_branch, head, draft: *draft, title, body };
            Ok(EffectOutcome::ChangeOpened { change: forge()?.ensure_change(repo, text).await? })
        }
        Effect::Comment { change, thread, .. } => {
            let Some(EffectText::Comment(text)) = text else { return Err(no_text()) };
            let (marker, text) = (format!("skep:{}:{key}", target.run), redact(text));
            match thread {
                Some(thread) => forge()?.ensure_reply(repo, *change, *thread, &marker, &text).await?,
                None => forge()?.ensure_comment(repo, *change, &marker, &text).await?,
            }
            Ok(EffectOutcome::Commented)
        }
        Effect::SetStatus { change, sha, status, state } => {
            let Some(EffectText::Status(text)) = text else { return Err(no_text()) };
            forge()?.set_status(repo, *change, sha, status.context(), *state, &redact(text)).await?;
            Ok(EffectOutcome::StatusSet)
        }
        Effect::Observe { change } => {
            Ok(EffectOutcome::Observed { observation: forge()?.observe(repo, *change).await? })
        }
        Effect::InspectCi { change, head, base, checks } => {
            Ok(EffectOutcome::CiInspected { failures: forge()?.inspect_ci(repo, *change, head, base, checks).await? })
        }
        Effect::RerunCi { runs, .. } => {
            forge()?.rerun_ci(repo, runs).await?;
            Ok(EffectOutcome::CiRerun)
        }
        Effect::Land { change, head, base, .. } => match forge()?.land(repo, *change, head, base).await? {
            Landing::Landed(sha) => Ok(EffectOutcome::Landed { sha, batch: None }),
            Landing::LandedInBatch(sha, proof) => Ok(EffectOutcome::Landed { sha, batch: Some(proof) }),
            Landing::Stale(why) => Ok(EffectOutcome::Stale { why }),
        },
        Effect::Close { change } => {
            forge()?.close(repo, *change).await?;
            Ok(EffectOutcome::ChangeClosed)
        }
        Effect::Release => {
            ws.release(repo, target.run, branch).await?;
            Ok(EffectOutcome::Released)
        }
        Effect::Start { .. } | Effect::Stop => {
            Err(PortError::permanent("this effect is not an operation", "report this as a bug"))
        }
    }
}

/// The outcome of a conflict.
fn conflict(paths: Vec<String>) -> EffectOutcome {
    EffectOutcome::Conflict { paths }
}

fn no_text() -> PortError {
    PortError::permanent("the effect was ordered without its text", "report this as a bug")
}

/// Returns the outcome for exhausted shared budgets: which, and their spending by role and by model.
async fn exhausted(
    deps: &Deps,
    target: &RunTarget,
    levels: Vec<Level>,
    reserved: bool,
    at: Timestamp,
) -> PortResult<EffectOutcome> {
    let budgets: Vec<SharedBudget> = levels.iter().filter_map(Level::exhausted).collect();
    let mut spending = Vec::new();
    for scope in [BudgetScope::Project, BudgetScope::Day] {
        if !budgets.iter().any(|b| b.scope == scope) {
            continue;
        }
        for by in [SpendingBy::Role, SpendingBy::Model] {
            let filter = SpendingFilter {
                by,
                run: None,
                projects: (scope == BudgetScope::Project).then(|| target.repo.project.clone()).into(),
                day: (scope == BudgetScope::Day).then(|| Day::of(at)),
                limit: 20,
            };
            let rows = deps.store.spending(&filter).await?.into_iter();
            spending.extend(rows.map(|row| SharedSpending {
                scope,
                name: row.key,
                tokens: row.tokens,
                cost_micros: row.cost_micros,
            }));
        }
    }
    Ok(EffectOutcome::BudgetExhausted { budgets, levels, spending, reserved })
}

/// Moves commits onto another one. Returns the new head with its diff from the base, or the paths in conflict.
async fn moved(
    deps: &Deps,
    target: &RunTarget,
    base: &Sha,
    from: &Sha,
    head: &Sha,
    onto: &Sha,
) -> PortResult<Result<(Sha, DiffStat), Vec<String>>> {
    match deps.workspaces.rebase(&target.repo, from, head, onto, &target.branch).await? {
        Moved::Clean(head) => {
            let (diff, _) = deps.workspaces.diff(&target.repo, base, &head).await?;
            Ok(Ok((head, diff)))
        }
        Moved::Conflict(paths) => Ok(Err(paths)),
    }
}
