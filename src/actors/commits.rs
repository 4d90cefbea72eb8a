//! The commits actor: gathers the transitions that wait to be written and writes them in one transaction.

use super::deps::Deps;
use super::message::CommitsMsg;
use super::notifications::Notification;
use crate::ports::journal::Transition;
use crate::ports::{PortError, PortResult};
use crate::telemetry::metrics;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use std::sync::Arc;
use std::time::Instant;

/// Upper bound on transitions in one transaction.
const MAX_BATCH: usize = 256;
/// Batches in progress: one is encoded while another is written. They never have a run in common, because a run waits for
/// the result of its transition.
const MAX_FLUSHES: usize = 2;

/// The actor.
pub struct Commits;

/// Its state.
pub struct State {
    deps: Deps,
    queue: Vec<(Arc<Transition>, RpcReplyPort<PortResult<()>>)>,
    flushes: usize,
}

impl Actor for Commits {
    type Msg = CommitsMsg;
    type State = State;
    type Arguments = Deps;

    async fn pre_start(&self, _me: ActorRef<CommitsMsg>, deps: Deps) -> Result<State, ActorProcessingErr> {
        Ok(State { deps, queue: Vec::new(), flushes: 0 })
    }

    async fn handle(
        &self,
        me: ActorRef<CommitsMsg>,
        message: CommitsMsg,
        s: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            CommitsMsg::Commit { transition, reply } => s.queue.push((transition, reply)),
            CommitsMsg::Flushed => s.flushes -= 1,
        }
        if s.flushes >= MAX_FLUSHES || s.queue.is_empty() {
            return Ok(());
        }
        s.flushes += 1;
        let batch: Vec<_> = s.queue.drain(..s.queue.len().min(MAX_BATCH)).collect();
        let deps = s.deps.clone();
        // A separate task, so that the next batch gathers while this one is written.
        tokio::spawn(async move {
            let _flushed = Flushed(me);
            let (transitions, replies): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            let positions: Vec<_> = transitions.iter().map(|t| (t.run.id, t.run.seq)).collect();
            crate::fault!("before-flush");
            let began = Instant::now();
            let results = deps.store.commit(transitions).await;
            measure(began, &results);
            crate::fault!("after-flush");
            for ((result, reply), (run, seq)) in results.into_iter().zip(replies).zip(positions) {
                if result.is_ok() {
                    deps.notifications.send(Notification::Moved { run, seq });
                }
                // A supervisor that is gone has lost its run; the next owner reads what was written.
                let _gone = reply.send(result);
            }
        });
        Ok(())
    }
}

/// Measures a batch. A transition that was fenced belongs to another process, and is not a failure of the store.
fn measure(began: Instant, results: &[PortResult<()>]) {
    let failed = results.iter().any(|result| !matches!(result, Ok(()) | Err(PortError::Fenced { .. })));
    let result = if failed { "failed" } else { "committed" };
    metrics().commit.duration(began.elapsed(), &[("result", result)]);
    metrics().commit_size.record(results.len() as f64, &[]);
}

/// Reports the end of a batch, however its task ended.
struct Flushed(ActorRef<CommitsMsg>);

impl Drop for Flushed {
    fn drop(&mut self) {
        // When the actor is gone the process is ending.
        let _stopping = self.0.cast(CommitsMsg::Flushed);
    }
}
