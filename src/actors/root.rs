//! Root: knows which runs are live and decides which may start. Its death ends the process.

use super::check_plan;
use super::commits::Commits;
use super::deps::{Deps, Scope};
use super::error::RuntimeError;
use super::intake::{self, Intake};
use super::keyed_locks::KeyedLocks;
use super::message::{CommitsMsg, Reply, RootMsg, RunMsg, SweeperMsg};
use super::preview;
use super::request::RunRequest;
use super::run::{Args, FENCED, RunSupervisor};
use super::sweeper::Sweeper;
use crate::domain::slots::Slots;
use crate::domain::{Event, Run, RunId};
use crate::ports::leases::Lease;
use crate::secrets::redact;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Supervisor deaths of one run before the run is quarantined.
const MAX_CRASHES: u32 = 3;
/// Concurrent intakes: each may clone a repository.
const MAX_INTAKES: usize = 4;
/// Queued runs read from the store at a time.
const QUEUE_PAGE: u64 = 64;

/// How long a run that is stopped may take to end what it is doing; then it is killed.
const RUN_STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an intake waits for the refresh of a run it resumes.
const REFRESH_PATIENCE: Duration = Duration::from_secs(60);

/// The actor.
pub struct Root;

/// Its state.
pub struct State {
    deps: Deps,
    commits: ActorRef<CommitsMsg>,
    sweeper: ActorRef<SweeperMsg>,
    runs: HashMap<RunId, Entry>,
    /// Runs whose block was lifted while every slot was in use; they get the next free slots.
    returning: VecDeque<RunId>,
    crashes: HashMap<RunId, u32>,
    intakes: Arc<Semaphore>,
    /// Requests that could lead to the same run are taken in one after the other.
    same_run: KeyedLocks<String>,
    /// A query for queued runs is under way.
    querying: bool,
    /// Another query is wanted once it has ended.
    query_again: bool,
    /// The runs this process drives; `None` = all.
    requested: Option<HashSet<RunId>>,
}

struct Entry {
    actor: ActorRef<RunMsg>,
    /// Number of messages sent to it, to detect an outdated `Idle`.
    sent: u64,
    /// Whether it has a slot and may carry out effects.
    go: bool,
    lease: Option<Lease>,
}

impl State {
    /// Drives this run from now on, if the scope allows it.
    fn carry(&mut self, run: RunId) {
        if let (Scope::Asked, Some(requested)) = (self.deps.scope, &mut self.requested) {
            requested.insert(run);
        }
    }
}

impl State {
    /// Returns whether this process drives the run.
    fn carries(&self, run: RunId) -> bool {
        self.requested.as_ref().is_none_or(|requested| requested.contains(&run))
    }
}

impl Entry {
    fn send(&mut self, message: RunMsg) {
        self.sent += 1;
        // If it is dying, its end arrives as a supervision event.
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
        let requested = (deps.scope != Scope::All).then(HashSet::new);
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
            intakes: Arc::new(Semaphore::new(MAX_INTAKES)),
            same_run: KeyedLocks::default(),
            querying: false,
            query_again: false,
            requested,
        })
    }

    /// Stops the runs, which would otherwise be killed: they record the stop and release their leases.
    async fn post_stop(&self, _me: ActorRef<RootMsg>, s: &mut State) -> Result<(), ActorProcessingErr> {
        let stops =
            s.runs.values().map(|entry| entry.actor.stop_and_wait(Some("stop".to_owned()), Some(RUN_STOP_TIMEOUT)));
        for late in futures::future::join_all(stops).await.into_iter().filter_map(Result::err) {
            tracing::debug!(error = %late, "a run did not stop in time");
        }
        Ok(())
    }

    async fn handle(&self, me: ActorRef<RootMsg>, message: RootMsg, s: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            RootMsg::Open { request, reply } => take_in(&me, s, *request, reply),
            RootMsg::Preview { request, reply } => {
                let (deps, intakes) = (s.deps.clone(), s.intakes.clone());
                tokio::spawn(async move {
                    let answer = match intakes.acquire().await {
                        Ok(_permit) => preview::preview(&deps, *request).await,
                        Err(_) => Err(stopping()),
                    };
                    // A caller that gave up needs no answer.
                    let _gave_up = reply.send(answer);
                });
            }
            RootMsg::PlanChecks { request, of, reply } => {
                let (deps, intakes) = (s.deps.clone(), s.intakes.clone());
                tokio::spawn(async move {
                    let answer = match intakes.acquire().await {
                        Ok(_permit) => check_plan::plan(&deps, *request, of).await,
                        Err(_) => Err(stopping()),
                    };
                    // A caller that gave up needs no answer.
                    let _gave_up = reply.send(answer);
                });
            }
            RootMsg::Send { run, event, if_seq, reply } => {
                s.carry(run);
                let message = RunMsg::Deliver { event, if_seq, reply: Some(reply) };
                deliver(&me, s, run, message).await?;
            }
            RootMsg::Observed { run, event } => {
                deliver(&me, s, run, RunMsg::Deliver { event, if_seq: None, reply: None }).await?;
            }
            RootMsg::Wake { run } if s.carries(run) => {
                deliver(&me, s, run, RunMsg::Nudge).await?;
            }
            RootMsg::Wake { .. } => {}
            RootMsg::Due { run } if s.carries(run) => {
                let message = RunMsg::Deliver { event: Box::new(Event::Due), if_seq: None, reply: None };
                deliver(&me, s, run, message).await?;
            }
            RootMsg::Due { .. } => {}
            RootMsg::Alarm { at } => s.sweeper.cast(SweeperMsg::Alarm { at })?,
            RootMsg::Requested { run } => {
                s.carry(run);
                query_queued(&me, s);
            }
            RootMsg::Refresh { run, reply } => s.sweeper.cast(SweeperMsg::Refresh { run, reply })?,
            RootMsg::Leased { lease } => {
                if let Some(entry) = s.runs.get_mut(&lease.run) {
                    entry.lease = Some(lease);
                }
            }
            RootMsg::Idle { run, handled, ended } => idle(&me, s, run, handled, ended)?,
            RootMsg::Queued { runs, waiting } => admit(&me, s, runs, waiting).await?,
            RootMsg::LostLeases { runs } => {
                for run in runs {
                    drop_lost(s, run);
                }
            }
            RootMsg::Admit => query_queued(&me, s),
            RootMsg::Renew => renew(&me, s),
            RootMsg::Live { reply } => {
                let live = s.runs.keys().copied().collect();
                // A caller that gave up needs no answer.
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

/// Observes a run's change and waits until any update is in the journal.
pub(super) async fn refresh(root: &ActorRef<RootMsg>, run: RunId, patience: Duration) {
    // Without a root the process ends. What is not observed in time is observed by the sweep.
    let _late = root.call(|reply| RootMsg::Refresh { run, reply }, Some(patience)).await;
}

/// Drives a run from now on, and refreshes it.
pub(super) async fn resume(root: &ActorRef<RootMsg>, run: RunId, patience: Duration) {
    let _stopping = root.cast(RootMsg::Requested { run }).and_then(|()| root.cast(RootMsg::Wake { run }));
    refresh(root, run, patience).await;
}

fn stopping() -> RuntimeError {
    RuntimeError::Unavailable("the runtime is stopping".to_owned())
}

/// Inspects the repository and opens the run in a task of its own, because cloning may take long.
fn take_in(me: &ActorRef<RootMsg>, s: &State, request: RunRequest, reply: Reply) {
    let (me, deps, commits, intakes) = (me.clone(), s.deps.clone(), s.commits.clone(), s.intakes.clone());
    let same_run = s.same_run.clone();
    tokio::spawn(async move {
        let key = match request.id {
            Some(id) if !request.carry_on => id.to_string(),
            _ => request.goal.key(),
        };
        // Before the permit, so that those that wait here do not hold up other intakes.
        let _turn = same_run.lock(key).await;
        let answer = open(&me, &deps, &commits, &intakes, request).await;
        // A caller that gave up finds the run in the list.
        let _gave_up = reply.send(answer);
    });
}

async fn open(
    me: &ActorRef<RootMsg>,
    deps: &Deps,
    commits: &ActorRef<CommitsMsg>,
    intakes: &Semaphore,
    request: RunRequest,
) -> Result<Run, RuntimeError> {
    // The caller of an earlier request with this id may be gone while its run was opened.
    if let Some(id) = request.id
        && let Some(run) = deps.store.load(id).await?
    {
        return Ok(run);
    }
    let prepared = {
        // Held only for the work on the repository: during the commit it would keep other requests out of the batch.
        let _permit = intakes.acquire().await.map_err(|_| stopping())?;
        intake::prepare(deps, request).await?
    };
    let opened = match prepared {
        Intake::New(opened) => *opened,
        Intake::Existing(run) => {
            resume(me, run.id, REFRESH_PATIENCE).await;
            let now = deps.store.load(run.id).await?;
            return Ok(now.unwrap_or(*run));
        }
    };
    let queued = deps.store.queue_length().await?;
    if queued > u64::from(deps.tuning.max_open_runs) {
        return Err(RuntimeError::Unavailable(format!(
            "{queued} runs are queued, which is the maximum; try again when some have ended"
        )));
    }
    let transition = Arc::new(intake::opening(deps, opened)?);
    let write = |reply| CommitsMsg::Commit { transition: transition.clone(), reply };
    crate::fault!("before-open");
    match commits.call(write, None).await {
        Ok(ractor::rpc::CallResult::Success(Ok(()))) => {}
        Ok(ractor::rpc::CallResult::Success(Err(error))) => return Err(error.into()),
        _ => return Err(stopping()),
    }
    crate::fault!("after-open");
    // Any process may start a stored run; this one should do so at once.
    let _stopping = me.cast(RootMsg::Requested { run: transition.run.id });
    Ok(Run::clone(&transition.run))
}

/// Sends a message to a run, waking it first if it is parked.
async fn deliver(me: &ActorRef<RootMsg>, s: &mut State, run: RunId, message: RunMsg) -> Result<(), ActorProcessingErr> {
    if !s.runs.contains_key(&run) {
        // A waiting run needs a slot after its answer; its own was kept reserved.
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

/// Drops a run that has nothing to do, unless a message is on its way to it.
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

/// Queries the store for queued runs, one query at a time.
fn query_queued(me: &ActorRef<RootMsg>, s: &mut State) {
    if s.deps.isolation.broken().is_some() {
        // The broken sandbox was logged when it was tested; the sweep tries again.
        return;
    }
    if s.querying {
        s.query_again = true;
        return;
    }
    s.querying = true;
    let (me, store) = (me.clone(), s.deps.store.clone());
    let limit = if s.requested.is_some() { u64::from(s.deps.tuning.max_open_runs) } else { QUEUE_PAGE };
    tokio::spawn(async move {
        let query = async {
            let waiting = store.counts().await?.waiting;
            store.queued(limit).await.map(|runs| (runs, waiting))
        };
        let (runs, waiting) = query.await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot query the queued runs; the next sweep tries again");
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
    s.querying = false;
    for run in runs {
        if s.runs.contains_key(&run) || !s.carries(run) {
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
    if std::mem::take(&mut s.query_again) {
        query_queued(me, s);
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
            Err(error) => tracing::warn!(%error, "cannot renew the leases; every write still checks them"),
        }
    });
}

/// Drops a run that another process has taken over.
fn drop_lost(s: &mut State, run: RunId) {
    if let Some(entry) = s.runs.remove(&run) {
        tracing::warn!(%run, "the lease was lost to another owner; this process drops the run");
        entry.actor.kill();
    }
}

/// Handles the death of a child. Every run needs the commits and the sweeper: their death ends the process. A run's
/// supervisor is restarted a limited number of times.
async fn died(me: &ActorRef<RootMsg>, s: &mut State, cell: &ActorCell, why: &str) -> Result<(), ActorProcessingErr> {
    if cell.get_id() == s.commits.get_id() || cell.get_id() == s.sweeper.get_id() {
        return Err(format!("a permanent actor died: {why}").into());
    }
    let Some(run) = s.runs.iter().find(|(_, e)| e.actor.get_id() == cell.get_id()).map(|(run, _)| *run) else {
        return Ok(());
    };
    s.runs.remove(&run);
    if why == FENCED {
        tracing::warn!(%run, "a write was fenced; this process drops the run");
        return slot_free(me, s);
    }
    let crashes = s.crashes.entry(run).or_default();
    *crashes += 1;
    tracing::error!(%run, crashes = *crashes, why, "a run's supervisor died");
    if *crashes >= MAX_CRASHES {
        let reason = format!("its supervisor died {crashes} times, most recently: {why}");
        if let Err(error) = s.deps.store.quarantine(run, &redact(&reason)).await {
            tracing::error!(%run, %error, "cannot quarantine the run");
        }
    } else {
        deliver(me, s, run, RunMsg::Nudge).await?;
    }
    slot_free(me, s)
}
