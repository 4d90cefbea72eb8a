//! The sweeper: periodically finds what nothing else reported, such as leases to renew, queued and due runs, runs left
//! behind by a dead process, and updates on the forge.

use super::deps::Deps;
use super::message::{RootMsg, SweeperMsg};
use super::task::AbortOnDrop;
use crate::domain::{Event, RunId, Timestamp};
use crate::ports::{PortResult, Repo};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Upper bound on runs handled in one sweep.
const MAX_RUNS: u64 = 1_000;
/// How long a refresh waits for the run to process an update.
const DELIVERY_PATIENCE: Duration = Duration::from_secs(30);
/// Shortest wait for a due run, in milliseconds.
const MIN_ALARM_MS: u64 = 50;
/// Concurrent observations of the forge.
const MAX_OBSERVATIONS: usize = 4;

/// The actor.
pub struct Sweeper;

/// Its state.
pub struct State {
    deps: Deps,
    root: ActorRef<RootMsg>,
    observations: Arc<Semaphore>,
    /// The sweep in progress; the next one starts only after it.
    sweep: Option<tokio::task::JoinHandle<()>>,
    /// When to check for due runs next, if that is before the next sweep.
    alarm: Option<(Timestamp, AbortOnDrop)>,
    _ticks: Vec<AbortOnDrop>,
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(sweep) = &self.sweep {
            sweep.abort();
        }
    }
}

impl Actor for Sweeper {
    type Msg = SweeperMsg;
    type State = State;
    type Arguments = (Deps, ActorRef<RootMsg>);

    async fn pre_start(
        &self,
        me: ActorRef<SweeperMsg>,
        (deps, root): (Deps, ActorRef<RootMsg>),
    ) -> Result<State, ActorProcessingErr> {
        let ticks = vec![
            every(deps.tuning.sweep, me.clone(), || SweeperMsg::Tick),
            every(deps.tuning.lease / 3, me, || SweeperMsg::Renew),
        ];
        Ok(State {
            deps,
            root,
            observations: Arc::new(Semaphore::new(MAX_OBSERVATIONS)),
            sweep: None,
            alarm: None,
            _ticks: ticks,
        })
    }

    async fn handle(
        &self,
        me: ActorRef<SweeperMsg>,
        message: SweeperMsg,
        s: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SweeperMsg::Renew => s.root.cast(RootMsg::Renew)?,
            SweeperMsg::Alarm { at } if s.alarm.as_ref().is_none_or(|(next, _)| at < *next) => {
                let wait = u64::try_from(at.0.saturating_sub(s.deps.clock.now().0)).unwrap_or(0);
                let task = tokio::spawn(async move {
                    // A minimum, so that a clock behind the store's does not cause a busy loop.
                    tokio::time::sleep(Duration::from_millis(wait.max(MIN_ALARM_MS))).await;
                    // When the actor is gone the process is ending.
                    let _stopping = me.cast(SweeperMsg::Due);
                });
                s.alarm = Some((at, AbortOnDrop(task.abort_handle())));
            }
            SweeperMsg::Alarm { .. } => {}
            SweeperMsg::Due => {
                s.alarm = None;
                let (deps, root) = (s.deps.clone(), s.root.clone());
                tokio::spawn(async move {
                    if let Err(error) = due(&deps, &root, &me).await {
                        tracing::warn!(%error, "cannot query the due runs; the next sweep tries again");
                    }
                });
            }
            SweeperMsg::Refresh { run, reply } => {
                let (deps, root, observations) = (s.deps.clone(), s.root.clone(), s.observations.clone());
                tokio::spawn(async move {
                    if let Some(event) = observe(&deps, &observations, run).await {
                        let send = |reply| RootMsg::Send { run, event, if_seq: None, reply };
                        // A run that ended in the meantime refuses; the caller reads the run again anyway.
                        let _refused = root.call(send, Some(DELIVERY_PATIENCE)).await;
                    }
                    let _gave_up = reply.send(());
                });
            }
            SweeperMsg::Tick => {
                s.root.cast(RootMsg::Admit)?;
                me.cast(SweeperMsg::Due)?;
                if s.sweep.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) {
                    let (deps, root, observations) = (s.deps.clone(), s.root.clone(), s.observations.clone());
                    s.sweep = Some(tokio::spawn(async move {
                        if let Err(error) = sweep(&deps, &root, &observations).await {
                            tracing::warn!(%error, "the sweep is incomplete; the next one tries again");
                        }
                    }));
                }
            }
        }
        Ok(())
    }
}

fn every(period: Duration, me: ActorRef<SweeperMsg>, message: impl Fn() -> SweeperMsg + Send + 'static) -> AbortOnDrop {
    let task = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            if me.cast(message()).is_err() {
                return;
            }
        }
    });
    AbortOnDrop(task.abort_handle())
}

async fn sweep(deps: &Deps, root: &ActorRef<RootMsg>, observations: &Semaphore) -> PortResult<()> {
    for run in deps.store.unfinished(&deps.owner).await? {
        // The root ignores runs that it drives already.
        let _stopping = root.cast(RootMsg::Wake { run });
    }
    let waiting = deps.store.waiting(MAX_RUNS).await?;
    futures::future::join_all(waiting.into_iter().map(|run| async move {
        if let Some(event) = observe(deps, observations, run).await {
            let _stopping = root.cast(RootMsg::Observed { run, event });
        }
    }))
    .await;
    Ok(())
}

/// Wakes the runs that are due, and sets the alarm for the next one if it is due before the next sweep.
async fn due(deps: &Deps, root: &ActorRef<RootMsg>, me: &ActorRef<SweeperMsg>) -> PortResult<()> {
    let now = deps.clock.now();
    let sweep = i64::try_from(deps.tuning.sweep.as_millis()).unwrap_or(i64::MAX);
    for (run, at) in deps.store.due(Timestamp(now.0.saturating_add(sweep)), MAX_RUNS).await? {
        // When the actors are gone the process is ending.
        if at > now {
            let _stopping = me.cast(SweeperMsg::Alarm { at });
            break;
        }
        let _stopping = root.cast(RootMsg::Due { run });
    }
    Ok(())
}

/// Observes one run's change and returns only what the run does not know, so that an observation without news writes
/// nothing.
async fn observe(deps: &Deps, observations: &Semaphore, run: RunId) -> Option<Box<Event>> {
    let _permit = observations.acquire().await.ok()?;
    let known = match deps.store.load(run).await {
        Ok(Some(known)) => known,
        Ok(None) => return None,
        Err(error) => {
            tracing::warn!(%run, %error, "cannot read a waiting run");
            return None;
        }
    };
    let change = known.change.as_ref().map(|c| c.number)?;
    let repo = Repo { project: known.project.clone(), origin: known.settings.origin.clone() };
    let forge = match deps.forges.get(&known.settings.forge) {
        Ok(forge) => forge,
        Err(error) => {
            tracing::warn!(%run, %error, "cannot observe the change of a run");
            return None;
        }
    };
    match forge.observe(&repo, change).await {
        Ok(seen) => {
            let observation = known.unread(&seen);
            known.is_news(&observation).then(|| Box::new(Event::Observed { observation }))
        }
        Err(error) => {
            tracing::debug!(%run, %error, "cannot observe the change on the forge");
            None
        }
    }
}
