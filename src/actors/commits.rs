//! Commits: gathers what is waiting to be written into one transaction; a lone write goes alone.

use super::deps::Deps;
use super::message::CommitsMsg;
use super::notifications::News;
use crate::ports::PortResult;
use crate::ports::store::Transition;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

/// The most transitions in one transaction.
const BATCH: usize = 256;

/// The actor.
pub struct Commits;

/// Its state.
pub struct State {
    deps: Deps,
    queue: Vec<(Transition, RpcReplyPort<PortResult<()>>)>,
    busy: bool,
}

impl Actor for Commits {
    type Msg = CommitsMsg;
    type State = State;
    type Arguments = Deps;

    async fn pre_start(&self, _me: ActorRef<CommitsMsg>, deps: Deps) -> Result<State, ActorProcessingErr> {
        Ok(State { deps, queue: Vec::new(), busy: false })
    }

    async fn handle(
        &self,
        me: ActorRef<CommitsMsg>,
        message: CommitsMsg,
        s: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            CommitsMsg::Commit { transition, reply } => s.queue.push((*transition, reply)),
            CommitsMsg::Flushed => s.busy = false,
        }
        if s.busy || s.queue.is_empty() {
            return Ok(());
        }
        s.busy = true;
        let batch: Vec<_> = s.queue.drain(..s.queue.len().min(BATCH)).collect();
        let deps = s.deps.clone();
        // In a task of its own, so that the next batch gathers while this one is written.
        tokio::spawn(async move {
            let _flushed = Flushed(me);
            let (transitions, replies): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            let moved: Vec<_> = transitions.iter().map(|t| (t.run.id, t.run.seq)).collect();
            crate::fault!("before-flush");
            let outcomes = deps.store.commit(transitions).await;
            crate::fault!("after-flush");
            for ((outcome, reply), (run, seq)) in outcomes.into_iter().zip(replies).zip(moved) {
                if outcome.is_ok() {
                    deps.notifications.tell(News::Moved { run, seq });
                }
                // A supervisor that is gone has lost its run; the next owner reads what was written.
                let _gone = reply.send(outcome);
            }
        });
        Ok(())
    }
}

/// Says that the batch is through, however its task ended.
struct Flushed(ActorRef<CommitsMsg>);

impl Drop for Flushed {
    fn drop(&mut self) {
        // When the actor is gone the process is ending.
        let _stopping = self.0.cast(CommitsMsg::Flushed);
    }
}
