//! Root: knows which runs are alive and who may start. Its death ends the process.

use super::commits::Commits;
use super::deps::{Deps, Scope};
use super::intake::{self, Ask};
use super::message::{CommitsMsg, Reply, RootMsg, RunMsg, SweeperMsg};
use super::preview;
use super::run::{Args, FENCED, RunSupervisor};
use super::runtime_handle::{Rejected, RuntimeHandle};
use super::sweeper::Sweeper;
use crate::domain::slots::Slots;
use crate::domain::{Event, RunId};
use crate::ports::store::Lease;
use crate::secrets::redact;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Supervisor deaths of one run before it is put aside.
const CRASHES_MOST: u32 = 3;
/// Intakes at the same time: each may clone a repository.
const INTAKES: usize = 4;
/// Queued runs looked at in one go.
const QUEUE_LOOK: u64 = 64;

/// The actor.
pub struct Root;

/// Its state.
pub struct State {
    deps: Deps,
    commits: ActorRef<CommitsMsg>,
    sweeper: ActorRef<SweeperMsg>,
    runs: HashMap<RunId, Entry>,
    /// Runs whose block was lifted while every slot was in use: first served when one is free.
    returning: VecDeque<RunId>,
    crashes: HashMap<RunId, u32>,
    intakes: Arc<Semaphore>,
    looking: bool,
    look_again: bool,
    /// The runs carried on; `None` = all.
    asked: Option<HashSet<RunId>>,
}

struct Entry {
    actor: ActorRef<RunMsg>,
    /// Messages sent to it, to tell whether an "idle" is still true.
    sent: u64,
    /// Whether it may carry out effects.
    go: bool,
    lease: Option<Lease>,
}

impl State {
    /// From now on this run is carried on, if the scope allows it.
    fn carry(&mut self, run: RunId) {
        if let (Scope::Asked, Some(asked)) = (self.deps.scope, &mut self.asked) {
            asked.insert(run);
        }
    }
}

impl Entry {
    fn send(&mut self, message: RunMsg) {
        self.sent += 1;
        // If it is dying, its end comes as a supervision event.
        let _dying = self.actor.cast(message);
    }
}

impl Actor for Root {
    type Msg = RootMsg;
    type State = State;
    type Arguments = Deps;

    async fn pre_start(&self, me: ActorRef<RootMsg>, deps: Deps) -> Result<State, ActorProcessingErr> {
        let (commits, _) = Actor::spawn_linked(None, Commits, deps.clone(), me.get_cell()).await?;
        let (sweeper, _) = Actor::spawn_linked(None, Sweeper, (deps.clone(), me.clone()), me.get_cell()).await?;
        let asked = (deps.scope != Scope::All).then(HashSet::new);
        for run in deps.store.unfinished(&deps.owner).await? {
            me.cast(RootMsg::Wake { run })?;
        }
        me.cast(RootMsg::Admit)?;
        sweeper.cast(SweeperMsg::Due)?;
        Ok(State {
            deps,
            commits,
            sweeper,
            runs: HashMap::new(),
            returning: VecDeque::new(),
            crashes: HashMap::new(),
            intakes: Arc::new(Semaphore::new(INTAKES)),
            looking: false,
            look_again: false,
            asked,
        })
    }

    async fn handle(&self, me: ActorRef<RootMsg>, message: RootMsg, s: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            RootMsg::Ask { ask, reply } => take_in(&me, s, *ask, reply),
            RootMsg::Preview { ask, reply } => {
                let (deps, intakes) = (s.deps.clone(), s.intakes.clone());
                tokio::spawn(async move {
                    let answer = match intakes.acquire().await {
                        Ok(_turn) => preview::look_ahead(&deps, *ask).await,
                        Err(_) => Err(Rejected::Away("the runtime is stopping".to_owned())),
                    };
                    // A caller that gave up needs no answer.
                    let _gave_up = reply.send(answer);
                });
            }
            RootMsg::Tell { run, event, if_seq, reply } => {
                s.carry(run);
                let message = RunMsg::Tell { event, if_seq, reply: Some(reply) };
                deliver(&me, s, run, message).await?;
            }
            RootMsg::Seen { run, event } => {
                deliver(&me, s, run, RunMsg::Tell { event, if_seq: None, reply: None }).await?;
            }
            RootMsg::Wake { run } if s.asked.as_ref().is_none_or(|asked| asked.contains(&run)) => {
                deliver(&me, s, run, RunMsg::Nudge).await?;
            }
            RootMsg::Wake { .. } => {}
            RootMsg::Due { run } if s.asked.as_ref().is_none_or(|asked| asked.contains(&run)) => {
                let message = RunMsg::Tell { event: Box::new(Event::Due), if_seq: None, reply: None };
                deliver(&me, s, run, message).await?;
            }
            RootMsg::Due { .. } => {}
            RootMsg::Alarm { at } => s.sweeper.cast(SweeperMsg::Alarm { at })?,
            RootMsg::Asked { run } => {
                s.carry(run);
                look_for_queued(&me, s);
            }
            RootMsg::Look { run, reply } => s.sweeper.cast(SweeperMsg::Look { run, reply })?,
            RootMsg::Taken { lease } => {
                if let Some(entry) = s.runs.get_mut(&lease.run) {
                    entry.lease = Some(lease);
                }
            }
            RootMsg::Idle { run, handled, ended } => idle(&me, s, run, handled, ended)?,
            RootMsg::Queued { runs, waiting } => admit(&me, s, runs, waiting).await?,
            RootMsg::LostLeases { runs } => {
                for run in runs {
                    lost(s, run);
                }
            }
            RootMsg::Admit => look_for_queued(&me, s),
            RootMsg::Renew => renew(&me, s),
            RootMsg::Live { reply } => {
                let live = s.runs.keys().copied().collect();
                // A caller that gave up waiting needs no answer.
                let _gave_up = reply.send(live);
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<RootMsg>,
        event: SupervisionEvent,
        s: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(cell, error) => died(&me, s, &cell, &error.to_string()).await,
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                died(&me, s, &cell, reason.as_deref().unwrap_or("ended")).await
            }
            _ => Ok(()),
        }
    }
}

fn slots(s: &State, waiting: u32) -> Slots {
    let live = s.runs.values().filter(|e| e.go).count();
    Slots {
        max: s.deps.tuning.max_live_runs,
        max_reserved: s.deps.tuning.max_reserved_slots,
        live: u32::try_from(live).unwrap_or(u32::MAX),
        waiting,
    }
}

/// Looks at the repository and opens the run, in a task of its own: cloning takes as long as it takes.
fn take_in(me: &ActorRef<RootMsg>, s: &State, ask: Ask, reply: Reply) {
    let (me, deps, commits, intakes) = (me.clone(), s.deps.clone(), s.commits.clone(), s.intakes.clone());
    tokio::spawn(async move {
        let answer = open(&me, &deps, &commits, &intakes, ask).await;
        // A caller that gave up finds the run in the list.
        let _gave_up = reply.send(answer);
    });
}

async fn open(
    me: &ActorRef<RootMsg>,
    deps: &Deps,
    commits: &ActorRef<CommitsMsg>,
    intakes: &Semaphore,
    ask: Ask,
) -> Result<crate::domain::Run, Rejected> {
    let _turn = intakes.acquire().await.map_err(|_| Rejected::Away("the runtime is stopping".to_owned()))?;
    let opened = match intake::prepare(deps, ask).await? {
        Ok(opened) => opened,
        Err(open_already) => {
            let run = open_already.id;
            RuntimeHandle::of(me.clone()).carry_on(run).await;
            let now = deps.store.load(run).await.map_err(intake::rejected)?;
            return Ok(now.unwrap_or(open_already));
        }
    };
    let queued = deps.store.queued(u64::from(deps.tuning.max_open_runs) + 1).await.map_err(intake::rejected)?;
    if queued.len() > deps.tuning.max_open_runs as usize {
        return Err(Rejected::Away(format!(
            "{} runs wait for a slot already, the most allowed; try again when some have ended",
            queued.len()
        )));
    }
    let transition = intake::opening(deps, opened)?;
    let run = transition.run.clone();
    let write = |reply| CommitsMsg::Commit { transition: Box::new(transition.clone()), reply };
    crate::fault!("before-open");
    match commits.call(write, None).await {
        Ok(ractor::rpc::CallResult::Success(Ok(()))) => {}
        Ok(ractor::rpc::CallResult::Success(Err(error))) => return Err(intake::rejected(error)),
        _ => return Err(Rejected::Away("the runtime is stopping".to_owned())),
    }
    crate::fault!("after-open");
    // A run that was written is carried on by whoever sees it; this process should see it at once.
    let _stopping = me.cast(RootMsg::Asked { run: run.id });
    Ok(*run)
}

/// Sends a message to a run, waking it first if it is parked.
async fn deliver(me: &ActorRef<RootMsg>, s: &mut State, run: RunId, message: RunMsg) -> Result<(), ActorProcessingErr> {
    if !s.runs.contains_key(&run) {
        // What a waiting run does after its answer needs a slot; its own was reserved.
        let go = s.deps.scope != Scope::Nothing && slots(s, 0).readmits();
        if !go {
            s.returning.push_back(run);
        }
        wake(me, s, run, go).await?;
    }
    if let Some(entry) = s.runs.get_mut(&run) {
        entry.send(message);
    }
    Ok(())
}

async fn wake(me: &ActorRef<RootMsg>, s: &mut State, run: RunId, go: bool) -> Result<(), ActorProcessingErr> {
    let args = Args { deps: s.deps.clone(), run, root: me.clone(), commits: s.commits.clone(), go };
    let (actor, _) = Actor::spawn_linked(None, RunSupervisor, args, me.get_cell()).await?;
    let mut entry = Entry { actor, sent: 0, go, lease: None };
    entry.send(RunMsg::Load);
    s.runs.insert(run, entry);
    Ok(())
}

/// A run has nothing to do: it is let go, unless a message is on its way to it.
fn idle(
    me: &ActorRef<RootMsg>,
    s: &mut State,
    run: RunId,
    handled: u64,
    ended: bool,
) -> Result<(), ActorProcessingErr> {
    if s.runs.get(&run).is_none_or(|e| e.sent != handled) {
        return Ok(());
    }
    if let Some(entry) = s.runs.remove(&run) {
        entry.actor.stop(Some("idle".to_owned()));
    }
    if ended {
        s.crashes.remove(&run);
    }
    slot_free(me, s)
}

fn slot_free(me: &ActorRef<RootMsg>, s: &mut State) -> Result<(), ActorProcessingErr> {
    while s.deps.scope != Scope::Nothing && slots(s, 0).readmits() {
        let Some(run) = s.returning.pop_front() else { break };
        if let Some(entry) = s.runs.get_mut(&run) {
            entry.go = true;
            entry.send(RunMsg::Go);
        }
    }
    me.cast(RootMsg::Admit)?;
    Ok(())
}

/// Asks the store for queued runs, one look at a time.
fn look_for_queued(me: &ActorRef<RootMsg>, s: &mut State) {
    if s.deps.isolation.broken().is_some() {
        // Whoever found that has said so; the sweep asks again.
        return;
    }
    if s.looking {
        s.look_again = true;
        return;
    }
    s.looking = true;
    let (me, store) = (me.clone(), s.deps.store.clone());
    let limit = if s.asked.is_some() { u64::from(s.deps.tuning.max_open_runs) } else { QUEUE_LOOK };
    tokio::spawn(async move {
        let look = async {
            let waiting = store.counts().await?.waiting;
            store.queued(limit).await.map(|runs| (runs, waiting))
        };
        let (runs, waiting) = look.await.unwrap_or_else(|error| {
            tracing::warn!(%error, "could not look for queued runs; the sweep looks again");
            (Vec::new(), u32::MAX)
        });
        let _stopping = me.cast(RootMsg::Queued { runs, waiting });
    });
}

async fn admit(
    me: &ActorRef<RootMsg>,
    s: &mut State,
    runs: Vec<RunId>,
    waiting: u32,
) -> Result<(), ActorProcessingErr> {
    s.looking = false;
    for run in runs {
        if s.runs.contains_key(&run) || s.asked.as_ref().is_some_and(|asked| !asked.contains(&run)) {
            continue;
        }
        if !slots(s, waiting).admits() {
            break;
        }
        wake(me, s, run, true).await?;
        if let Some(entry) = s.runs.get_mut(&run) {
            entry.send(RunMsg::Admit);
        }
    }
    if std::mem::take(&mut s.look_again) {
        look_for_queued(me, s);
    }
    Ok(())
}

fn renew(me: &ActorRef<RootMsg>, s: &State) {
    let leases: Vec<Lease> = s.runs.values().filter_map(|e| e.lease.clone()).collect();
    if leases.is_empty() {
        return;
    }
    let (me, store, secs) = (me.clone(), s.deps.store.clone(), s.deps.tuning.lease.as_secs());
    tokio::spawn(async move {
        match store.renew(&leases, secs).await {
            Ok(runs) if runs.is_empty() => {}
            Ok(runs) => {
                let _stopping = me.cast(RootMsg::LostLeases { runs });
            }
            Err(error) => tracing::warn!(%error, "leases could not be lengthened; every write checks them anyway"),
        }
    });
}

/// Another process has the run: it is dropped here at once.
fn lost(s: &mut State, run: RunId) {
    if let Some(entry) = s.runs.remove(&run) {
        tracing::warn!(%run, "the lease is another's; this process lets go");
        entry.actor.kill();
    }
}

/// A child died. The commits and the sweeper are needed by all: their death ends the process. A run's supervisor is started again,
/// but not for ever.
async fn died(me: &ActorRef<RootMsg>, s: &mut State, cell: &ActorCell, why: &str) -> Result<(), ActorProcessingErr> {
    if cell.get_id() == s.commits.get_id() || cell.get_id() == s.sweeper.get_id() {
        return Err(format!("a permanent actor died: {why}").into());
    }
    let Some(run) = s.runs.iter().find(|(_, e)| e.actor.get_id() == cell.get_id()).map(|(run, _)| *run) else {
        return Ok(());
    };
    s.runs.remove(&run);
    if why == FENCED {
        tracing::warn!(%run, "a write was fenced; this process lets go");
        return slot_free(me, s);
    }
    let crashes = s.crashes.entry(run).or_default();
    *crashes += 1;
    tracing::error!(%run, crashes = *crashes, why, "a run's supervisor died");
    if *crashes >= CRASHES_MOST {
        let reason = format!("its supervisor died {crashes} times, the last time: {why}");
        if let Err(error) = s.deps.store.quarantine(run, &redact(&reason)).await {
            tracing::error!(%run, %error, "could not put the run aside");
        }
    } else {
        deliver(me, s, run, RunMsg::Nudge).await?;
    }
    slot_free(me, s)
}
