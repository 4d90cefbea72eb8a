//! A run's supervisor, the only writer of its run: it passes each event to `decide`, makes the decision durable in one
//! write, and only then has the effects carried out.

use super::deps::Deps;
use super::error::RuntimeError;
use super::heartbeat;
use super::measurements;
use super::message::{CommitsMsg, OpsMsg, Reply, RoleMsg, RootMsg, RunMsg};
use super::ops::{self, Ops};
use super::outcomes;
use super::retry::patiently;
use super::role;
use super::session::{self, PromptDigest};
use super::target::RunTarget;
use crate::domain::{
    AttemptId, BudgetScope, Effect, EffectKey, EffectOutcome, Event, Proof, Refusal, Report, Run, RunId, decide,
};
use crate::ports::journal::Transition;
use crate::ports::leases::Lease;
use crate::ports::{PortError, PortResult};
use crate::render;
use crate::secrets::redact;
use crate::telemetry::TraceContext;
use ractor::rpc::CallResult;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tracing::Instrument;

mod load;

/// Deaths of a run's operations actor before its supervisor dies too.
const MAX_OPS_DEATHS: u32 = 3;
/// How long the supervisor waits for an unavailable store before it gives up and is restarted.
const STORE_PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// Stop reason of a supervisor that lost its lease. Nothing durable is dropped; its children end with it.
pub(super) const FENCED: &str = "fenced";

/// The actor.
pub struct RunSupervisor;

/// What it is started with.
pub struct Args {
    pub deps: Deps,
    pub run: RunId,
    pub root: ActorRef<RootMsg>,
    pub commits: ActorRef<CommitsMsg>,
    /// Whether the run has a slot, so that effects may be carried out.
    pub go: bool,
}

/// Its state.
pub struct State {
    args: Args,
    /// Number of messages from the root handled so far.
    handled: u64,
    held: Option<Held>,
}

/// Actor at work on an attempt.
struct Worker {
    attempt: AttemptId,
    actor: ActorRef<RoleMsg>,
    prompt_digest: PromptDigest,
}

/// What the supervisor holds once it has the lease.
struct Held {
    lease: Lease,
    /// Shared with the transition that is being written.
    run: Arc<Run>,
    /// What its events have proven; `None` = some of them were not seen here, so its journal is read at the end.
    proof: Option<Proof>,
    /// Effects decided but not yet started: key, effect, and whether it may have been started before.
    waiting: Vec<(EffectKey, Effect, bool)>,
    /// Effects handed to the operations actor.
    acting: HashMap<EffectKey, Effect>,
    ops: ActorRef<OpsMsg>,
    ops_deaths: u32,
    roles: HashMap<ActorId, Worker>,
}

impl Actor for RunSupervisor {
    type Msg = RunMsg;
    type State = State;
    type Arguments = Args;

    async fn pre_start(&self, _me: ActorRef<RunMsg>, args: Args) -> Result<State, ActorProcessingErr> {
        Ok(State { args, handled: 0, held: None })
    }

    async fn post_stop(&self, _me: ActorRef<RunMsg>, s: &mut State) -> Result<(), ActorProcessingErr> {
        crate::fault!("before-give-back");
        let Some(held) = &s.held else { return Ok(()) };
        // What is interrupted here has not failed, so it does not count towards the starts that are given up.
        for worker in held.roles.values() {
            heartbeat::record_stop(&s.args.deps.workspaces.meter_file(s.args.run, worker.attempt));
        }
        let store = &s.args.deps.store;
        for key in held.acting.keys() {
            if let Err(error) = store.withdraw_effect(&held.lease, key).await {
                tracing::debug!(run = %held.run.id, %key, %error, "an interrupted effect counts as a start");
            }
        }
        if let Err(error) = store.release(&held.lease).await {
            // The lease expires by itself.
            tracing::debug!(run = %held.run.id, %error, "cannot release the lease");
        }
        Ok(())
    }

    async fn handle(&self, me: ActorRef<RunMsg>, message: RunMsg, s: &mut State) -> Result<(), ActorProcessingErr> {
        if matches!(message, RunMsg::Load | RunMsg::Go | RunMsg::Admit | RunMsg::Nudge | RunMsg::Deliver { .. }) {
            s.handled += 1;
        }
        if let RunMsg::Load = message {
            load::load(&me, s).await?;
        } else if s.held.is_none() {
            // The run could not be leased: callers get the reason, then the actor stops.
            turn_away(s, message);
        } else {
            handle(&me, s, message).await?;
        }
        report_idle(s);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<RunMsg>,
        event: SupervisionEvent,
        s: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let failed = matches!(event, SupervisionEvent::ActorFailed(..));
        let (cell, why) = match event {
            SupervisionEvent::ActorFailed(cell, error) => (cell, error.to_string()),
            SupervisionEvent::ActorTerminated(cell, _, reason) => (cell, reason.unwrap_or_default()),
            _ => return Ok(()),
        };
        let Some(held) = &mut s.held else { return Ok(()) };
        if cell.get_id() == held.ops.get_id() {
            return restart_ops(&me, s, &why).await;
        }
        if why == role::REPORTED {
            return Ok(());
        }
        // A role actor that ends without a report is a fact for the domain, never restarted.
        if let Some(Worker { attempt, prompt_digest, .. }) = held.roles.remove(&cell.get_id()) {
            // One that ended normally has reported already: the domain then refuses this second report.
            match failed {
                true => tracing::warn!(run = %held.run.id, %attempt, why, "a role actor died"),
                false => tracing::debug!(run = %held.run.id, %attempt, "a role actor ended"),
            }
            let report = Report::Lost { why: format!("its actor died: {why}") };
            let reported = session::without_result(&s.args.deps, s.args.run, attempt, report, &prompt_digest);
            me.cast(RunMsg::Reported { reported: Box::new(reported) })?;
        }
        Ok(())
    }
}

async fn handle(me: &ActorRef<RunMsg>, s: &mut State, message: RunMsg) -> Result<(), ActorProcessingErr> {
    match message {
        RunMsg::Load | RunMsg::Nudge => {}
        RunMsg::Go => s.args.go = true,
        RunMsg::Admit => {
            s.args.go = true;
            // Refused if the run was admitted already (the queue was read twice): nothing to do.
            note_refusal(apply(me, s, Event::Admitted).await?);
        }
        RunMsg::Deliver { event, if_seq, reply } => deliver(me, s, *event, if_seq, reply).await?,
        RunMsg::EffectFinished { key, outcome } => {
            if let Some(held) = &mut s.held {
                held.acting.remove(&key);
            }
            note_refusal(apply(me, s, Event::EffectFinished { key, outcome: *outcome }).await?);
        }
        RunMsg::SessionOpened { attempt, session } => {
            note_refusal(apply(me, s, Event::SessionOpened { attempt, session }).await?);
        }
        RunMsg::Reported { reported } => {
            if let Some(held) = &mut s.held {
                held.roles.retain(|_, worker| worker.attempt != reported.attempt);
            }
            note_refusal(apply(me, s, Event::Reported(reported)).await?);
        }
        RunMsg::Fenced => {
            me.stop(Some(FENCED.to_owned()));
            return Ok(());
        }
    }
    carry_out(me, s).await
}

fn note_refusal(outcome: Result<(), Refusal>) {
    if let Err(refusal) = outcome {
        tracing::debug!(%refusal, "a late fact was refused");
    }
}

async fn deliver(
    me: &ActorRef<RunMsg>,
    s: &mut State,
    event: Event,
    if_seq: Option<u64>,
    reply: Option<Reply>,
) -> Result<(), ActorProcessingErr> {
    let seq = s.held.as_ref().map_or(0, |h| h.run.seq);
    let answer = match if_seq {
        Some(expected) if expected != seq => Err(RuntimeError::Moved { seq }),
        _ => apply(me, s, event).await?.map_err(RuntimeError::from),
    };
    let answer =
        answer.and_then(|()| s.held.as_ref().map(|h| Run::clone(&h.run)).ok_or(RuntimeError::NoRun(s.args.run)));
    if let Some(reply) = reply {
        // A caller that gave up finds the event in the journal.
        let _gave_up = reply.send(answer);
    }
    Ok(())
}

/// Applies one event: decides, writes, then adopts the new state. The outer error ends the actor (the store is gone).
async fn apply(me: &ActorRef<RunMsg>, s: &mut State, event: Event) -> Result<Result<(), Refusal>, ActorProcessingErr> {
    let Some(held) = &mut s.held else { return Ok(Ok(())) };
    let event = redacted(event);
    let at = s.args.deps.clock.now();
    let span = TraceContext::under(
        held.run.traceparent.as_deref(),
        tracing::info_span!(
            "commit",
            run = %held.run.id,
            event = event.name(),
            seq = held.run.seq + 1,
            project = %held.run.project,
            phase = tracing::field::Empty,
            otel.status_code = tracing::field::Empty,
        ),
    );
    let decision = match decide(&held.run, &event, at) {
        Ok(decision) => decision,
        Err(refusal) => return Ok(Err(refusal)),
    };
    span.record("phase", decision.run.phase.name());
    let run = Arc::new(decision.run);
    if let Some(proof) = &mut held.proof {
        proof.read(&held.run, &event, &run, at);
    }
    held.proof.take_if(|proof| proof.is_too_large());
    let outcomes = match run.ended() {
        true => outcomes::of_ending(&s.args.deps, &run, held.proof.take(), (&event, at), STORE_PATIENCE).await?,
        false => Vec::new(),
    };
    let transition = Arc::new(Transition {
        lease: held.lease.clone(),
        at,
        event,
        run: run.clone(),
        effects: decision.effects.clone(),
        finished: decision.finished,
        ledger_rows: decision.ledger_rows,
        outcomes,
    });
    crate::fault!("before-commit");
    let written = write(&s.args.commits, &transition).instrument(span.clone()).await;
    crate::fault!("after-commit");
    if written.is_err() {
        span.record("otel.status_code", "ERROR");
    }
    match written {
        Ok(()) => {}
        Err(PortError::Fenced { .. }) => {
            me.stop(Some(FENCED.to_owned()));
            return Ok(Ok(()));
        }
        Err(error) => return Err(format!("cannot write a transition: {error}").into()),
    }
    measurements::measure(&held.run, &run, &transition.event, at);
    if held.run.phase != run.phase {
        tracing::info!(run = %held.run.id, from = held.run.phase.name(), to = run.phase.name(), "phase");
    }
    for alert in run.alerts.iter().filter(|a| !held.run.alerts.contains(a)) {
        let scope = alert.scope.map_or("run", BudgetScope::name);
        let (budget, percent) = (alert.budget.name(), alert.percent);
        tracing::warn!(run = %held.run.id, scope, budget, percent, "budget threshold reached");
    }
    match run.wake_at() {
        Some(at) if held.run.wake_at() != Some(at) => {
            if let Some(wait) = &run.wait {
                tracing::info!(run = %held.run.id, until = wait.until.0, why = %wait.reason, "waiting for a time");
            }
            s.args.root.cast(RootMsg::Alarm { at })?;
        }
        _ => {}
    }
    s.args.deps.landing_queue.update(&run);
    held.run = run;
    held.waiting.extend(decision.effects.into_iter().map(|(key, effect)| (key, effect, false)));
    Ok(Ok(()))
}

/// Redacts the event. Everything a run holds, orders and reports derives from its events, so what is redacted from them
/// appears nowhere.
fn redacted(mut event: Event) -> Event {
    event.clean_texts(&mut |text| {
        if let Cow::Owned(clean) = redact(text) {
            *text = clean;
        }
    });
    event
}

/// Writes a transition, waiting for an unavailable store: until it is written nothing else may happen to this run.
async fn write(commits: &ActorRef<CommitsMsg>, transition: &Arc<Transition>) -> PortResult<()> {
    patiently(STORE_PATIENCE, || {
        let transition = transition.clone();
        async {
            match commits.call(|reply| CommitsMsg::Commit { transition, reply }, None).await {
                Ok(CallResult::Success(outcome)) => outcome,
                _ => Err(PortError::permanent("the commits actor is gone", "restart Skep")),
            }
        }
    })
    .await
}

/// Starts the decided effects, if the run has its slot.
async fn carry_out(me: &ActorRef<RunMsg>, s: &mut State) -> Result<(), ActorProcessingErr> {
    let Some(held) = &mut s.held else { return Ok(()) };
    if !s.args.go {
        return Ok(());
    }
    for (key, effect, again) in std::mem::take(&mut held.waiting) {
        match effect {
            Effect::Start { order } => {
                crate::fault!("before-start");
                let (attempt, prompt_digest) = (order.attempt, PromptDigest::default());
                let args = role::Args {
                    deps: s.args.deps.clone(),
                    target: RunTarget::of(&held.run),
                    run: me.clone(),
                    order,
                    prompt_digest: prompt_digest.clone(),
                };
                let (actor, id) = role::start(args, me.get_cell()).await?;
                held.roles.insert(id, Worker { attempt, actor, prompt_digest });
                crate::fault!("after-start");
            }
            Effect::Stop => stop_work(me, &s.args.deps, held, key)?,
            effect => {
                held.acting.insert(key.clone(), effect.clone());
                let text = render::effect_text(&held.run, &effect);
                held.ops.cast(OpsMsg::Act { key, effect: Box::new(effect), text, again })?;
            }
        }
    }
    Ok(())
}

/// Ends every session and check. Each of them still ends with its own event.
fn stop_work(me: &ActorRef<RunMsg>, deps: &Deps, held: &mut Held, key: EffectKey) -> Result<(), ActorProcessingErr> {
    for Worker { attempt, actor, prompt_digest } in std::mem::take(&mut held.roles).into_values() {
        actor.kill();
        let reported = session::without_result(deps, held.run.id, attempt, Report::Stopped, &prompt_digest);
        me.cast(RunMsg::Reported { reported: Box::new(reported) })?;
    }
    held.ops.cast(OpsMsg::StopChecks)?;
    me.cast(RunMsg::EffectFinished { key, outcome: Box::new(EffectOutcome::Stopped) })?;
    Ok(())
}

/// Restarts the operations actor with the effects its predecessor was carrying out. Every effect observes before it
/// acts, so carrying one out twice is harmless.
async fn restart_ops(me: &ActorRef<RunMsg>, s: &mut State, why: &str) -> Result<(), ActorProcessingErr> {
    let deps = s.args.deps.clone();
    let Some(held) = &mut s.held else { return Ok(()) };
    held.ops_deaths += 1;
    if held.ops_deaths >= MAX_OPS_DEATHS {
        return Err(format!("its operations actor died {} times, most recently: {why}", held.ops_deaths).into());
    }
    let args = ops::Args { deps, lease: held.lease.clone(), target: RunTarget::of(&held.run), run: me.clone() };
    held.ops = Actor::spawn_linked(None, Ops, args, me.get_cell()).await?.0;
    for (key, effect) in held.acting.drain() {
        held.waiting.push((key, effect, true));
    }
    carry_out(me, s).await
}

fn turn_away(s: &State, message: RunMsg) {
    if let RunMsg::Deliver { reply: Some(reply), .. } = message {
        let (store, run) = (s.args.deps.store.clone(), s.args.run);
        tokio::spawn(async move {
            let answer = match store.load(run).await {
                Ok(Some(_)) => RuntimeError::Elsewhere(run),
                Ok(None) => RuntimeError::NoRun(run),
                Err(PortError::Permanent { what, .. }) => RuntimeError::Quarantined(what),
                Err(error) => error.into(),
            };
            // A caller that gave up needs no answer.
            let _gave_up = reply.send(Err(answer));
        });
    }
}

/// Notifies the root when there is nothing to do, so that a waiting run costs nothing.
fn report_idle(s: &State) {
    let (idle, ended) = match &s.held {
        None => (true, false),
        Some(held) => (held.run.parked() && held.waiting.is_empty() && held.roles.is_empty(), held.run.ended()),
    };
    if idle {
        // The root is gone only when the process ends.
        let _stopping = s.args.root.cast(RootMsg::Idle { run: s.args.run, handled: s.handled, ended });
    }
}
