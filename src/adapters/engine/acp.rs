//! Agent that speaks the Agent Client Protocol: one session over standard input and output, one prompt, at most two
//! corrections of the answer.
//!
//! A resumable session outlives this process: its id is reported, and an order that names it continues there.
//!
//! | the agent | Skep's response |
//! |---|---|
//! | asks for permission | what its step allows inside its workspace, once (see [`permit`]) |
//! | reads or writes files through the client | its worktree, bounded, no links (see [`files`]) |
//! | asks for a terminal | a command in a separate sandbox (see [`terminal`]) |
//! | asks for anything else | "no such method" |
//! | is idle, runs too long or spends too much | `session/cancel`, then shutdown |
//!
//! At shutdown, the agent's input is closed, then SIGTERM and finally SIGKILL are sent to all processes it started.

use super::answer;
use super::driven::figures;
use super::driven::output_log::OutputLog;
use super::driven::{self, AgentReport, DrivenAgent, GRACE, Interruption, PreparedAgent};
use super::model_access::{self, ModelAccessProvider};
use crate::domain::Order;
use crate::platform::process::InteractiveProcess;
use crate::ports::engine::{AttemptEnv, Engine, EngineResult, Sink, StepOutcome};
use crate::ports::{PortError, PortResult};
use agent_client_protocol::v1::ConnectionTo;
use agent_client_protocol::v1::schema::{
    CancelNotification, ContentBlock, PromptRequest, PromptResponse, SessionId, StopReason, TextContent,
};
use agent_client_protocol::{self as protocol, Agent, ErrorCode};
use async_trait::async_trait;
use client::Client;
use files::Files;
use permit::AllowedPaths;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use terminal::{TerminalEnv, Terminals};
use tokio::sync::Notify;

mod begin;
mod client;
mod connection;
mod files;
mod permit;
mod pipes;
mod terminal;
mod tolerate;

/// Time limit for starting and opening a session.
const START: Duration = Duration::from_secs(120);
/// Time that the agent's pipes may stay open after its exit.
const DRAIN: Duration = Duration::from_secs(1);
/// Time limit for model calls that are in flight after the agent's answer.
const LAST_CALLS: Duration = Duration::from_secs(10);
/// Upper bound of the corrections of an invalid answer.
const MAX_CORRECTIONS: usize = 2;

/// Message to a resumed agent, before its order.
const RESUMED: &str = "Your process was interrupted while you worked on the order below, and has been restarted. The worktree and this \
                       conversation are unchanged. A command or edit that was in progress may be incomplete: check before you \
                       continue. Do not repeat finished work. The order:\n\n";

/// Engine `acp`.
#[derive(Clone, Debug)]
pub struct AcpEngine {
    driven: DrivenAgent,
    model_access: ModelAccessProvider,
}

/// Reason that a conversation ended without a result.
enum ConversationError {
    /// Skep stopped the agent.
    Stopped(Interruption),
    /// The agent exited.
    Gone,
    /// The agent answered with an error.
    Error(protocol::Error),
    /// The agent cannot be used as configured.
    Unusable { why: String, fix: String },
}

impl From<protocol::Error> for ConversationError {
    fn from(error: protocol::Error) -> ConversationError {
        if protocol::is_incoming_transport_closed(&error) {
            ConversationError::Gone
        } else {
            ConversationError::Error(error)
        }
    }
}

/// Session data that is known even if the conversation fails.
#[derive(Default)]
struct KnownSession {
    session: Option<String>,
    tokens: Option<u64>,
    /// Whether the agent answered Skep's first message.
    greeted: bool,
    /// Whether it was sent its order.
    prompted: bool,
}

/// Context of one conversation.
struct Conversation<'a> {
    order: &'a Order,
    env: &'a AttemptEnv,
    client: &'a Client,
    sink: &'a Sink,
    known: &'a Mutex<KnownSession>,
}

impl Conversation<'_> {
    fn known(&self) -> MutexGuard<'_, KnownSession> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds the refused requests to the summary of an agent that was permitted nothing: it probably changed nothing.
fn with_refusals(outcome: StepOutcome, client: &Client) -> StepOutcome {
    match (outcome, client.refusals()) {
        (StepOutcome::Edited { summary }, refusals) if !refusals.is_empty() && client.permitted() == 0 => {
            StepOutcome::Edited { summary: format!("Skep refused its requests for permission ({refusals}); {summary}") }
        }
        (outcome, _) => outcome,
    }
}

type Watch<'a, 'w> = &'a mut Pin<&'w mut (dyn Future<Output = Interruption> + Send)>;

impl AcpEngine {
    /// Creates the engine of an agent.
    pub fn new(driven: DrivenAgent, model_access: ModelAccessProvider) -> Self {
        Self { driven, model_access }
    }

    async fn converse(
        &self,
        cx: &ConnectionTo<Agent>,
        ready: &PreparedAgent,
        conversation: &Conversation<'_>,
        watch: Watch<'_, '_>,
    ) -> Result<StepOutcome, ConversationError> {
        let opening = tokio::time::timeout(START, async {
            tokio::select! {
                session = self.begin(cx, conversation) => session,
                stop = &mut *watch => Err(ConversationError::Stopped(stop)),
            }
        });
        let session = opening.await.unwrap_or_else(|_| {
            let why = format!("it did not open a session within {} s", START.as_secs());
            Err(ConversationError::Unusable { why, fix: self.driven.access_fix() })
        })?;
        let mut text = match &conversation.order.resume {
            Some(_) => format!("{RESUMED}{}", ready.prompt),
            None => ready.prompt.clone(),
        };
        let mut corrections = 0;
        loop {
            conversation.client.output.start_turn();
            conversation.known().prompted = true;
            let turn = self.prompt(cx, &session, text, watch).await?;
            if let Some(usage) = &turn.usage {
                // Agents report the usage of the turn, the session or the last call. The largest is closest to the
                // truth.
                let mut known = conversation.known();
                known.tokens = known.tokens.max(Some(usage.total_tokens));
            }
            if let Some(outcome) = self.cut_short(turn.stop_reason, conversation.client) {
                return Ok(outcome);
            }
            match driven::answer(conversation.order, conversation.env, &conversation.client.output) {
                Ok(outcome) => return Ok(with_refusals(outcome, conversation.client)),
                Err(why) if corrections < MAX_CORRECTIONS => {
                    corrections += 1;
                    conversation.client.output.note(&format!("invalid answer: {why}"));
                    text = answer::correction(conversation.order.step, &why);
                }
                Err(why) => {
                    let agent = &self.driven.agent.name;
                    return Ok(StepOutcome::Failed(format!("the answer of the agent {agent} is invalid: {why}")));
                }
            }
        }
    }

    /// Runs one turn. If it has to be stopped, the agent is asked to cancel and may end cleanly.
    async fn prompt(
        &self,
        cx: &ConnectionTo<Agent>,
        session: &SessionId,
        text: String,
        watch: Watch<'_, '_>,
    ) -> Result<PromptResponse, ConversationError> {
        let request = PromptRequest::new(session.clone(), vec![ContentBlock::Text(TextContent::new(text))]);
        let turn = cx.send_request(request).block_task();
        tokio::pin!(turn);
        tokio::select! {
            done = &mut turn => Ok(done?),
            stop = watch => {
                if cx.send_notification(CancelNotification::new(session.clone())).is_ok() {
                    let _ended = tokio::time::timeout(GRACE, &mut turn).await;
                }
                Err(ConversationError::Stopped(stop))
            }
        }
    }

    /// Returns the outcome of a turn that did not end normally; `None` = it did.
    fn cut_short(&self, reason: StopReason, client: &Client) -> Option<StepOutcome> {
        let agent = &self.driven.agent.name;
        let refusals = client.refusals();
        let how = match reason {
            StopReason::EndTurn => return None,
            StopReason::MaxTokens => "its answer reached the model's output limit".to_owned(),
            StopReason::MaxTurnRequests => "it reached its own limit of model calls for one turn".to_owned(),
            StopReason::Refusal => "its model refused to continue".to_owned(),
            // Skep did not cancel: some agents end this way when a permission is refused.
            StopReason::Cancelled if refusals.is_empty() => "it cancelled its own turn".to_owned(),
            StopReason::Cancelled => format!("it gave up after a refusal: {refusals}"),
            other => format!("it ended its turn with the reason {other:?}"),
        };
        Some(StepOutcome::Failed(format!("the agent {agent} did not finish: {how}")))
    }

    fn refused(&self, error: &protocol::Error) -> StepOutcome {
        let name = &self.driven.agent.name;
        let message = error_message(error);
        if error.code == ErrorCode::AUTH_REQUIRED {
            let why = format!("the agent {name} requires a login: {message}");
            return StepOutcome::Unavailable { why, until: None, fix: Some(self.driven.login_fix()) };
        }
        self.driven
            .unavailable(&message)
            .unwrap_or_else(|| StepOutcome::Failed(format!("the agent {name} answered with an error: {message}")))
    }
}

#[async_trait]
impl Engine for AcpEngine {
    fn reads_prompt(&self) -> bool {
        true
    }

    async fn run(&self, order: &Order, env: &AttemptEnv, sink: Sink) -> PortResult<EngineResult> {
        let deadline = DrivenAgent::deadline(order);
        let model_access =
            match self.model_access.open(&self.driven.agent, &self.driven.sandbox, order, env, &sink).await {
                Ok(model_access) => model_access,
                // For a resumed attempt, the error is returned, so that its earlier usage is charged.
                Err(error) if order.resume.is_some() => return Err(error),
                Err(error) => return Ok(model_access::access_denied(error)),
            };
        let ready = self.driven.ready(order, env, &model_access)?;
        let vars = ready.env();
        let job = ready.job(env, &vars, model_access.place());
        // Dropped last: once the process group is gone, only processes that left it remain.
        let (talk, reaper) = self.driven.sandbox.spawn(&job).map_err(|e| PortError::transient(e.to_string()))?;
        let InteractiveProcess { stdin, stdout, handle: mut end } = talk;
        let output = Arc::new(OutputLog::new(sink.clone()));
        let allowed_paths = AllowedPaths::new(&env.dir, &[&env.scratch]);
        let terminal_env = TerminalEnv {
            sandbox: self.driven.sandbox.clone(),
            dir: env.dir.clone(),
            cache: env.cache.clone(),
            origin: env.origin.clone(),
            scratch: env.scratch.clone(),
            gate: model_access.place().cloned(),
            variables: model_access.env(),
            allowed_paths: allowed_paths.clone(),
            deadline,
        };
        let terminals = Terminals::new(terminal_env, output.clone());
        let files = Files { dir: env.dir.clone(), allowed_paths, step: order.step };
        let client = Client::new(output.clone(), files, terminals.clone());
        let known = Mutex::new(KnownSession::default());

        let broken = {
            let context = Conversation { order, env, client: &client, sink: &sink, known: &known };
            let exhausted = || model_access.exhausted().or_else(|| figures::over(order, None, client.cost_micros()));
            let watch = self.driven.watch(&output, deadline, &model_access, exhausted);
            tokio::pin!(watch);
            let mut watch: Pin<&mut (dyn Future<Output = Interruption> + Send)> = watch;
            let transport = pipes::open(stdin, stdout, output.clone());
            let (outcome, over) = (Mutex::new(None), Notify::new());
            let conversation = connection::connect(transport, client.clone(), async |cx: ConnectionTo<Agent>| {
                let result = self.converse(&cx, &ready, &context, &mut watch).await;
                if result.is_ok() {
                    // Some agents still call a model to give the session a title.
                    model_access.wait_idle(LAST_CALLS).await;
                }
                *outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                over.notify_one();
                Ok(())
            });
            tokio::pin!(conversation);
            // The connection ends once everything is written. An agent that no longer reads is not waited for.
            let unread = async {
                over.notified().await;
                tokio::time::sleep(DRAIN).await;
            };
            let ended = tokio::select! {
                ended = &mut conversation => ended.err(),
                _ended = end.wait() => tokio::time::timeout(DRAIN, &mut conversation).await.ok().and_then(Result::err),
                () = unread => None,
            };
            let outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
            outcome.unwrap_or_else(|| Err(ended.map_or(ConversationError::Gone, ConversationError::from)))
        };
        // The agent's input is closed now.
        terminals.end().await;
        let ended = driven::end(end, &output).await;
        drop(reaper);
        if let Some(refused) = model_access.refused() {
            output.note(&format!("Skep: {refused}"));
        }

        let known = known.into_inner().unwrap_or_else(PoisonError::into_inner);
        let result = broken.unwrap_or_else(|broken| match broken {
            ConversationError::Stopped(stop) => stop.into_outcome(&self.driven.agent, order),
            ConversationError::Gone if !known.greeted => self.driven.never_ready(&ended, &output.stray_lines()),
            ConversationError::Gone => self.driven.failure(&ended, &output.stray_lines()),
            ConversationError::Error(error) => self.refused(&error),
            ConversationError::Unusable { why, fix } => {
                let why = format!("the agent {} cannot be used: {why}", self.driven.agent.name);
                StepOutcome::Unavailable { why, until: None, fix: Some(fix) }
            }
        });
        let result = match result {
            StepOutcome::Failed(why) | StepOutcome::Unavailable { why, .. }
                if order.resume.is_some() && known.session.is_none() =>
            {
                StepOutcome::NotResumed(why)
            }
            result => result,
        };
        let usage = (known.tokens, client.cost_micros());
        let own = AgentReport { session: known.session, usage, idle: !known.prompted };
        Ok(self.driven.finish(order, &model_access, &output, own, result).await)
    }
}

/// Returns the message of an error, redacted and bounded.
fn error_message(error: &protocol::Error) -> String {
    let more = error.data.as_ref().map(|d| d.as_str().map_or_else(|| d.to_string(), str::to_owned));
    let message = format!("{} {}", error.message, more.unwrap_or_default());
    driven::tail(message.trim().as_bytes(), driven::MAX_TAIL_BYTES)
}
