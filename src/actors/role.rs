//! The role actors: Manager, Scout, Dev, Reviewer. One per attempt, never started again: their death is a report.

use super::deps::Deps;
use super::message::{RoleMsg, RunMsg};
use super::ops::RunTarget;
use super::session::{self, Session};
use crate::domain::{Order, Report, Role};
use crate::telemetry::TraceContext;
use futures::FutureExt;
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SpawnErr};
use std::panic::AssertUnwindSafe;
use tokio::task::AbortHandle;
use tracing::Instrument;

/// What a role actor is started with.
pub struct Args {
    pub deps: Deps,
    pub target: RunTarget,
    pub run: ActorRef<RunMsg>,
    pub order: Box<Order>,
}

/// Its state: the session it carries, ended with it.
pub struct State {
    run: ActorRef<RunMsg>,
    _session: AbortOnDrop,
}

/// Why a role actor stops that has reported. Its end is told before its report is read, and is no death.
pub(super) const REPORTED: &str = "reported";

/// Ends a task when dropped. `post_stop` does not run on a panic, a kill or the parent's end; `Drop` does.
pub(super) struct AbortOnDrop(pub AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

macro_rules! roles {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        pub struct $name;

        impl Actor for $name {
            type Msg = RoleMsg;
            type State = State;
            type Arguments = Args;

            async fn pre_start(&self, me: ActorRef<RoleMsg>, args: Args) -> Result<State, ActorProcessingErr> {
                Ok(open_session(me, args))
            }

            async fn handle(&self, me: ActorRef<RoleMsg>, message: RoleMsg, s: &mut State) -> Result<(), ActorProcessingErr> {
                let RoleMsg::Ended { reported } = message;
                s.run.cast(RunMsg::Reported { reported })?;
                me.stop(Some(REPORTED.to_owned()));
                Ok(())
            }
        }
    )*};
}

roles!(
    /// Plans.
    Manager,
    /// Looks around.
    Scout,
    /// Edits.
    Dev,
    /// Judges what it did not write.
    Reviewer,
);

/// Starts the actor of the order's role under the run's supervisor.
pub(super) async fn start(args: Args, parent: ActorCell) -> Result<(ActorRef<RoleMsg>, ActorId), SpawnErr> {
    let (actor, _) = match args.order.step.role() {
        Role::Manager => Actor::spawn_linked(None, Manager, args, parent).await?,
        Role::Scout => Actor::spawn_linked(None, Scout, args, parent).await?,
        Role::Dev => Actor::spawn_linked(None, Dev, args, parent).await?,
        Role::Reviewer | Role::Ops => Actor::spawn_linked(None, Reviewer, args, parent).await?,
    };
    let id = actor.get_id();
    Ok((actor, id))
}

/// Carries the session in a task of its own, so that the actor stays ready to be stopped.
fn open_session(me: ActorRef<RoleMsg>, args: Args) -> State {
    let Args { deps, target, run, order } = args;
    let attempt = order.attempt;
    let span = TraceContext::under(
        target.traceparent.as_deref(),
        tracing::info_span!(
            "attempt",
            run = %order.run,
            project = %target.repo.project,
            %attempt,
            role = order.step.role().name(),
            step = order.step.name(),
            engine = %order.engine.kind,
            task = order.task.as_ref().map(|t| t.id.to_string()),
            outcome = tracing::field::Empty,
            otel.status_code = tracing::field::Empty,
        ),
    );
    let (counts, id) = (deps.clone(), order.run);
    let session = Session { deps, target, run: run.clone(), order };
    let task = tokio::spawn(
        async move {
            let carried = AssertUnwindSafe(session::carry(session)).catch_unwind().await;
            let reported = carried.unwrap_or_else(|panic| {
                let why = format!("it panicked: {}", panic_text(panic.as_ref()));
                session::silent(&counts, id, attempt, Report::Lost { why })
            });
            let failed = matches!(reported.report, Report::Failed { .. } | Report::Lost { .. });
            let here = tracing::Span::current();
            here.record("outcome", reported.report.name());
            if failed {
                here.record("otel.status_code", "ERROR");
            }
            // An actor that was stopped meanwhile has been reported as stopped.
            let _stopped = me.cast(RoleMsg::Ended { reported: Box::new(reported) });
        }
        .instrument(span),
    );
    State { run, _session: AbortOnDrop(task.abort_handle()) }
}

/// What a panic says.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
