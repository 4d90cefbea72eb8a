//! The handle to the runtime for everything outside it: open a run, send it an event, refresh it.

use super::check_plan::CheckPlan;
use super::deps::Deps;
use super::error::RuntimeError;
use super::message::RootMsg;
use super::preview::Preview;
use super::request::{PlanFor, RunRequest};
use super::root::{self, Root};
use crate::domain::{Event, Run, RunId};
use ractor::rpc::CallResult;
use ractor::{Actor, ActorRef, RpcReplyPort};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How long a caller waits for an answer: a run's own commit takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same for a new run: its intake may have to clone a repository.
const INTAKE_PATIENCE: Duration = Duration::from_secs(600);

/// A handle to the running runtime.
#[derive(Clone)]
pub struct RuntimeHandle {
    root: Option<ActorRef<RootMsg>>,
}

impl RuntimeHandle {
    /// Starts the runtime: the root, its commits and its sweeper. Unfinished runs resume at once.
    /// The join handle ends when the root ends, which ends the process.
    pub async fn start(deps: Deps) -> Result<(RuntimeHandle, JoinHandle<()>), ractor::SpawnErr> {
        let (root, ended) = Actor::spawn(None, Root, deps).await?;
        Ok((RuntimeHandle { root: Some(root) }, ended))
    }

    /// Returns a handle without a runtime, for a process that only reads.
    pub fn closed() -> RuntimeHandle {
        RuntimeHandle { root: None }
    }

    /// Opens a run: inspects the repository, pins the rules, writes the first event.
    pub async fn open(&self, request: RunRequest) -> Result<Run, RuntimeError> {
        self.call(|reply| RootMsg::Open { request: Box::new(request), reply }, INTAKE_PATIENCE).await
    }

    /// Returns what a run of this request would start with. Opens nothing.
    pub async fn preview(&self, request: RunRequest) -> Result<Preview, RuntimeError> {
        self.call(|reply| RootMsg::Preview { request: Box::new(request), reply }, INTAKE_PATIENCE).await
    }

    /// Returns the checks of a repository. Opens nothing and runs nothing.
    pub async fn plan_checks(&self, request: RunRequest, of: PlanFor) -> Result<CheckPlan, RuntimeError> {
        let request = Box::new(request);
        self.call(|reply| RootMsg::PlanChecks { request, of, reply }, INTAKE_PATIENCE).await
    }

    /// Sends an event to a run; with `if_seq`, only if the run is still at that event.
    pub async fn send(&self, run: RunId, event: Event, if_seq: Option<u64>) -> Result<Run, RuntimeError> {
        self.call(|reply| RootMsg::Send { run, event: Box::new(event), if_seq, reply }, PATIENCE).await
    }

    /// Observes a run's change on the forge and delivers any update to the run before it returns.
    pub async fn refresh(&self, run: RunId) {
        let Some(root) = &self.root else { return };
        root::refresh(root, run, PATIENCE).await;
    }

    /// Resumes a stalled run: its process may be gone, or what it waits for may have happened.
    pub async fn resume(&self, run: RunId) {
        let Some(root) = &self.root else { return };
        root::resume(root, run, PATIENCE).await;
    }

    /// Returns the live runs.
    pub async fn live(&self) -> Vec<RunId> {
        let Some(root) = &self.root else { return Vec::new() };
        match root.call(|reply| RootMsg::Live { reply }, Some(PATIENCE)).await {
            Ok(CallResult::Success(runs)) => runs,
            _ => Vec::new(),
        }
    }

    /// Stops everything at once. Nothing is lost: what was in progress is resumed at the next start.
    pub async fn stop(&self) {
        let Some(root) = &self.root else { return };
        // Stopping twice is fine.
        let _stopped = root.stop_and_wait(Some("stop".to_owned()), Some(Duration::from_secs(10))).await;
    }

    async fn call<F, T>(&self, message: F, patience: Duration) -> Result<T, RuntimeError>
    where
        F: FnOnce(RpcReplyPort<Result<T, RuntimeError>>) -> RootMsg,
        T: Send + 'static,
    {
        let Some(root) = &self.root else {
            return Err(RuntimeError::Unavailable("this process is read-only; nothing was changed".to_owned()));
        };
        match root.call(message, Some(patience)).await {
            Ok(CallResult::Success(answer)) => answer,
            Ok(CallResult::Timeout) => Err(RuntimeError::Unavailable(
                "no answer in time; the request may still be carried out: check before repeating it".to_owned(),
            )),
            _ => Err(RuntimeError::Unavailable("the runtime is stopping".to_owned())),
        }
    }
}
