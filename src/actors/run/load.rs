//! Resumes a run: acquires its lease, loads snapshot and outbox, and reports the attempts whose process is gone.

use super::super::heartbeat;
use super::super::message::{RootMsg, RunMsg};
use super::super::ops::{self, Ops};
use super::super::retry::patiently;
use super::super::session;
use super::super::target::RunTarget;
use super::{Held, State, apply, carry_out, note_refusal};
use crate::domain::{AttemptId, Effect, EffectKey, Event, Order, Proof};
use crate::ports::journal::PendingEffect;
use crate::ports::leases::LeasedRun;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::collections::HashMap;
use std::time::Duration;

/// Acquires the lease, loads the run, and settles the attempts of an earlier process.
pub(super) async fn load(me: &ActorRef<RunMsg>, s: &mut State) -> Result<(), ActorProcessingErr> {
    let deps = s.args.deps.clone();
    let secs = deps.tuning.lease.as_secs();
    let leased = patiently(Duration::from_secs(60), || deps.store.acquire(s.args.run, &deps.owner, secs)).await;
    let LeasedRun { lease, run, pending } = match leased {
        Ok(Some(taken)) => taken,
        Ok(None) => {
            tracing::debug!(run = %s.args.run, "another process carries this run");
            return Ok(());
        }
        Err(error) => {
            tracing::error!(run = %s.args.run, %error, "cannot load the run");
            return Ok(());
        }
    };
    crate::fault!("after-take");
    s.args.root.cast(RootMsg::Leased { lease: lease.clone() })?;
    let args = ops::Args { deps: deps.clone(), lease: lease.clone(), target: RunTarget::of(&run), run: me.clone() };
    let (ops, _) = Actor::spawn_linked(None, Ops, args, me.get_cell()).await?;
    let (mut begun, mut waiting) = (Vec::new(), Vec::new());
    for PendingEffect { key, effect, .. } in pending {
        match effect {
            Effect::Start { order } => begun.push((key, order)),
            effect => waiting.push((key, effect, true)),
        }
    }
    s.held = Some(Held {
        lease,
        proof: Proof::opened(&run),
        run: (*run).into(),
        waiting,
        acting: HashMap::new(),
        ops,
        ops_deaths: 0,
        roles: HashMap::new(),
    });
    if !begun.is_empty() {
        orphaned(me, s, begun).await?;
        crate::fault!("after-orphan");
    }
    carry_out(me, s).await
}

/// Reports that the process of these attempts is gone, then resumes those that the run has not given up.
async fn orphaned(
    me: &ActorRef<RunMsg>,
    s: &mut State,
    begun: Vec<(EffectKey, Box<Order>)>,
) -> Result<(), ActorProcessingErr> {
    let seq = s.held.as_ref().map(|held| held.run.seq);
    let attempts: Vec<AttemptId> = begun.iter().map(|(_, order)| order.attempt).collect();
    let deps = s.args.deps.clone();
    let usage_of = |id: &AttemptId| Some((*id, session::metered(&s.args.deps, s.args.run, *id)?));
    let metered = attempts.iter().filter_map(usage_of).collect();
    let seen = |id: &AttemptId| Some((*id, heartbeat::last_seen(&deps.workspaces.meter_file(s.args.run, *id))?));
    let alive = attempts.iter().filter_map(seen).collect();
    let was_stopped = |id: &AttemptId| heartbeat::was_stopped(&deps.workspaces.meter_file(s.args.run, *id));
    let stopped = attempts.iter().copied().filter(was_stopped).collect();
    note_refusal(apply(me, s, Event::Orphaned { attempts, metered, alive, stopped }).await?);
    // If the event was not written, nothing has changed.
    let Some(held) = s.held.as_mut().filter(|held| Some(held.run.seq) != seq) else { return Ok(()) };
    for (key, order) in begun {
        let resumable = held.run.attempt(order.attempt).and_then(|a| a.resumable.as_ref());
        if let Some(resumable) = resumable.filter(|_| held.run.pending.contains_key(&key)) {
            tracing::info!(run = %held.run.id, attempt = %order.attempt, resumes = resumable.resumes, "resuming an attempt");
            let order = Box::new(order.resumed(resumable));
            held.waiting.push((key, Effect::Start { order }, true));
        }
    }
    Ok(())
}
