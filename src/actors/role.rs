//! The role actors: Manager, Scout, Dev, Reviewer. There is one per attempt, never restarted: its death becomes a
//! report.

use super::deps::Deps;
use super::message::{RoleMsg, RunMsg};
use super::session::{self, PromptDigest, Session};
use super::target::RunTarget;
use super::task::{AbortOnDrop, panic_text};
use crate::domain::{Order, Report, Role};
use crate::telemetry::TraceContext;
use futures::FutureExt;
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SpawnErr};
use std::panic::AssertUnwindSafe;
use tracing::Instrument;

/// What a role actor is started with.
pub struct Args {
    pub deps: Deps,
    pub target: RunTarget,
    pub run: ActorRef<RunMsg>,
    pub order: Box<Order>,
    pub prompt_digest: PromptDigest,
}

/// Its state. The session ends with it.
pub struct State {
    run: ActorRef<RunMsg>,
    _session: AbortOnDrop,
}

/// Stop reason of a role actor that has reported. The supervisor sees its end before it reads the report; it is not a
/// death.
pub(super) const REPORTED: &str = "reported";

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
    /// Plans the tasks.
    Manager,
    /// Explores the repository.
    Scout,
    /// Edits the code of one task.
    Dev,
    /// Reviews what others wrote.
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

/// Runs the session in a task of its own, so that the actor can be stopped at any time.
fn open_session(me: ActorRef<RoleMsg>, args: Args) -> State {
    let Args { deps, target, run, order, prompt_digest } = args;
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
    let (usage_deps, run_id, digest) = (deps.clone(), order.run, prompt_digest.clone());
    let session = Session { deps, target, run: run.clone(), order, prompt_digest };
    let task = tokio::spawn(
        async move {
            let outcome = AssertUnwindSafe(session::carry(session)).catch_unwind().await;
            let reported = outcome.unwrap_or_else(|panic| {
                let why = format!("it panicked: {}", panic_text(panic.as_ref()));
                session::without_result(&usage_deps, run_id, attempt, Report::Lost { why }, &digest)
            });
            let failed = matches!(reported.report, Report::Failed { .. } | Report::Lost { .. });
            let current = tracing::Span::current();
            current.record("outcome", reported.report.name());
            if failed {
                current.record("otel.status_code", "ERROR");
            }
            // An actor that was stopped in the meantime has been reported as stopped.
            let _stopped = me.cast(RoleMsg::Ended { reported: Box::new(reported) });
        }
        .instrument(span),
    );
    State { run, _session: AbortOnDrop(task.abort_handle()) }
}
