//! Sweeper: the periodic look that finds what nobody told us: leases due, queued runs, runs left behind, news on the forge.

use super::deps::Deps;
use super::message::{RootMsg, SweeperMsg};
use super::role::AbortOnDrop;
use crate::domain::{Event, RunId, Timestamp};
use crate::ports::{PortResult, Repo};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Waiting runs looked at in one sweep.
const LOOKS: u64 = 1_000;
/// How long a run may take to hear what a look found.
const LOOK_PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);
/// The shortest wait for a due run, in milliseconds.
const ALARM_LEAST_MS: u64 = 50;
/// Looks at the forge at the same time.
const AT_ONCE: usize = 4;

/// The actor.
pub struct Sweeper;

/// Its state.
pub struct State {
    deps: Deps,
    root: ActorRef<RootMsg>,
    turns: Arc<Semaphore>,
    /// The sweep under way; a new one waits for it.
    sweep: Option<tokio::task::JoinHandle<()>>,
    /// When to look for due runs next, where that is before the next sweep.
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
        Ok(State { deps, root, turns: Arc::new(Semaphore::new(AT_ONCE)), sweep: None, alarm: None, _ticks: ticks })
    }

    async fn handle(
        &self,
        me: ActorRef<SweeperMsg>,
        message: SweeperMsg,
        s: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SweeperMsg::Renew => s.root.cast(RootMsg::Renew)?,
            SweeperMsg::Alarm { at } if s.alarm.as_ref().is_none_or(|(known, _)| at < *known) => {
                let wait = u64::try_from(at.0.saturating_sub(s.deps.clock.now().0)).unwrap_or(0);
                let task = tokio::spawn(async move {
                    // At least a little, so that a clock that runs behind the store's is no busy loop.
                    tokio::time::sleep(std::time::Duration::from_millis(wait.max(ALARM_LEAST_MS))).await;
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
                        tracing::warn!(%error, "due runs could not be looked for; the sweep looks again");
                    }
                });
            }
            SweeperMsg::Look { run, reply } => {
                let (deps, root, turns) = (s.deps.clone(), s.root.clone(), s.turns.clone());
                tokio::spawn(async move {
                    if let Some(event) = look(&deps, &turns, run).await {
                        let tell = |reply| RootMsg::Tell { run, event, if_seq: None, reply };
                        // A run that ended meanwhile refuses; whoever waits looks at the run himself.
                        let _refused = root.call(tell, Some(LOOK_PATIENCE)).await;
                    }
                    let _gave_up = reply.send(());
                });
            }
            SweeperMsg::Tick => {
                s.root.cast(RootMsg::Admit)?;
                me.cast(SweeperMsg::Due)?;
                if s.sweep.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) {
                    let (deps, root, turns) = (s.deps.clone(), s.root.clone(), s.turns.clone());
                    s.sweep = Some(tokio::spawn(async move {
                        if let Err(error) = sweep(&deps, &root, &turns).await {
                            tracing::warn!(%error, "the sweep did not see everything; it looks again");
                        }
                    }));
                }
            }
        }
        Ok(())
    }
}

fn every(
    period: std::time::Duration,
    me: ActorRef<SweeperMsg>,
    message: impl Fn() -> SweeperMsg + Send + 'static,
) -> AbortOnDrop {
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

async fn sweep(deps: &Deps, root: &ActorRef<RootMsg>, turns: &Semaphore) -> PortResult<()> {
    for run in deps.store.unfinished(&deps.owner).await? {
        // The root knows whether it carries it already.
        let _stopping = root.cast(RootMsg::Wake { run });
    }
    let waiting = deps.store.waiting(LOOKS).await?;
    futures::future::join_all(waiting.into_iter().map(|run| async move {
        if let Some(event) = look(deps, turns, run).await {
            let _stopping = root.cast(RootMsg::Seen { run, event });
        }
    }))
    .await;
    Ok(())
}

/// Wakes the runs that are due, and sets the alarm for the next one where that is before the next sweep.
async fn due(deps: &Deps, root: &ActorRef<RootMsg>, me: &ActorRef<SweeperMsg>) -> PortResult<()> {
    let now = deps.clock.now();
    let sweep = i64::try_from(deps.tuning.sweep.as_millis()).unwrap_or(i64::MAX);
    for (run, at) in deps.store.due(Timestamp(now.0.saturating_add(sweep)), LOOKS).await? {
        // When the actors are gone the process is ending.
        if at > now {
            let _stopping = me.cast(SweeperMsg::Alarm { at });
            break;
        }
        let _stopping = root.cast(RootMsg::Due { run });
    }
    Ok(())
}

/// Looks at one run's change, and gives only what the run does not know: a look that finds nothing writes nothing.
async fn look(deps: &Deps, turns: &Semaphore, run: RunId) -> Option<Box<Event>> {
    let _turn = turns.acquire().await.ok()?;
    let known = match deps.store.load(run).await {
        Ok(Some(known)) => known,
        Ok(None) => return None,
        Err(error) => {
            tracing::warn!(%run, %error, "a waiting run could not be read");
            return None;
        }
    };
    let change = known.change.as_ref().map(|c| c.number)?;
    let repo = Repo { project: known.project.clone(), origin: known.settings.origin.clone() };
    match deps.forge.observe(&repo, change).await {
        Ok(observation) => known.is_news(&observation).then(|| Box::new(Event::Observed { observation })),
        Err(error) => {
            tracing::debug!(%run, %error, "the forge could not be looked at");
            None
        }
    }
}
