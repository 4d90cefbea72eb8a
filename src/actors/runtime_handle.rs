//! The door to the runtime for everything outside it: ask for a run, tell it something.

use super::deps::Deps;
use super::intake::Ask;
use super::message::RootMsg;
use super::preview::Preview;
use super::root::Root;
use crate::domain::{Event, Refusal, Run, RunId};
use ractor::rpc::CallResult;
use ractor::{Actor, ActorRef, RpcReplyPort};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How long a caller waits for an answer. A run's own commit takes milliseconds; intake may clone a repository.
const PATIENCE: Duration = Duration::from_secs(60);
const INTAKE_PATIENCE: Duration = Duration::from_secs(600);

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum Rejected {
    /// The domain said no.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// There is no such run.
    #[error("there is no run {0}")]
    NoRun(RunId),
    /// The run is not where the caller believed.
    #[error("the run has moved on to event {seq}; look again and repeat what still fits")]
    Moved {
        /// Its last event.
        seq: u64,
    },
    /// What was asked cannot be used.
    #[error("{what}. {fix}")]
    Invalid {
        /// What is wrong.
        what: String,
        /// What to do.
        fix: String,
    },
    /// It may work later.
    #[error("{0}")]
    Away(String),
    /// Another process carries this run.
    #[error(
        "run {0} is carried by another process, or lives in another data directory; talk to the process that carries it"
    )]
    Elsewhere(RunId),
    /// The run's state cannot be used.
    #[error("{0}")]
    Quarantined(String),
}

/// A handle on the running factory.
#[derive(Clone)]
pub struct RuntimeHandle {
    root: Option<ActorRef<RootMsg>>,
}

impl RuntimeHandle {
    /// Starts the runtime: the root, its commits and its sweeper; unfinished runs go on at once.
    /// The join handle ends when the root ends, which ends the process.
    pub async fn start(deps: Deps) -> Result<(RuntimeHandle, JoinHandle<()>), ractor::SpawnErr> {
        let (root, ended) = Actor::spawn(None, Root, deps).await?;
        Ok((RuntimeHandle { root: Some(root) }, ended))
    }

    /// A factory where nobody works: for a process that only reads.
    pub fn closed() -> RuntimeHandle {
        RuntimeHandle { root: None }
    }

    /// Asks for a run: looks at the repository, pins the rules, opens it.
    pub async fn ask(&self, ask: Ask) -> Result<Run, Rejected> {
        self.call(|reply| RootMsg::Ask { ask: Box::new(ask), reply }, INTAKE_PATIENCE).await
    }

    /// Looks ahead: what a run asked for like this would begin with. Nothing is opened.
    pub async fn preview(&self, ask: Ask) -> Result<Preview, Rejected> {
        self.call(|reply| RootMsg::Preview { ask: Box::new(ask), reply }, INTAKE_PATIENCE).await
    }

    /// Tells a run something; `if_seq` = only if it is still at that event.
    pub async fn tell(&self, run: RunId, event: Event, if_seq: Option<u64>) -> Result<Run, Rejected> {
        self.call(|reply| RootMsg::Tell { run, event: Box::new(event), if_seq, reply }, PATIENCE).await
    }

    /// The factory of a root.
    pub(super) fn of(root: ActorRef<RootMsg>) -> RuntimeHandle {
        RuntimeHandle { root: Some(root) }
    }

    /// Looks at a run's change now, and lets the run hear what is new there before it gives the word back.
    pub async fn look(&self, run: RunId) {
        let Some(root) = &self.root else { return };
        // A root that is gone ends the process; what was not seen in time the sweep sees.
        let _late = root.call(|reply| RootMsg::Look { run, reply }, Some(PATIENCE)).await;
    }

    /// Carries a run on that was left where it is: its process may be gone, or what it waits for may have come.
    pub async fn carry_on(&self, run: RunId) {
        let Some(root) = &self.root else { return };
        let _stopping = root.cast(RootMsg::Asked { run }).and_then(|()| root.cast(RootMsg::Wake { run }));
        self.look(run).await;
    }

    /// The runs alive now.
    pub async fn live(&self) -> Vec<RunId> {
        let Some(root) = &self.root else { return Vec::new() };
        match root.call(|reply| RootMsg::Live { reply }, Some(PATIENCE)).await {
            Ok(CallResult::Success(runs)) => runs,
            _ => Vec::new(),
        }
    }

    /// Stops everything at once. Nothing is lost: what was begun is taken up at the next start.
    pub async fn stop(&self) {
        let Some(root) = &self.root else { return };
        // Stopping twice is fine.
        let _stopped = root.stop_and_wait(Some("stop".to_owned()), Some(Duration::from_secs(10))).await;
    }

    async fn call<F, T>(&self, message: F, patience: Duration) -> Result<T, Rejected>
    where
        F: FnOnce(RpcReplyPort<Result<T, Rejected>>) -> RootMsg,
        T: Send + 'static,
    {
        let Some(root) = &self.root else {
            return Err(Rejected::Away("this process only reads; nothing was changed".to_owned()));
        };
        match root.call(message, Some(patience)).await {
            Ok(CallResult::Success(answer)) => answer,
            Ok(CallResult::Timeout) => {
                Err(Rejected::Away("no answer yet; it may still happen: look before you repeat it".to_owned()))
            }
            _ => Err(Rejected::Away("the runtime is stopping".to_owned())),
        }
    }
}
