//! An agent that speaks the Agent Client Protocol: one session over standard input and output, one prompt, its answer mended at most twice.
//!
//! A session that the agent can take up again outlives this process: its name is told, and an order that names it goes on there.
//!
//! | the agent | gets |
//! |---|---|
//! | asks for permission | what its step may do inside its workspace, once (see [`permit`]) |
//! | reads or writes files by the client | its worktree, capped, no links (see [`files`]) |
//! | asks for a terminal | a command in a sandbox of its own (see [`terminal`]) |
//! | asks for anything else | "no such method" |
//! | says nothing, goes on for too long, spends too much | `session/cancel`, then the end |
//!
//! Its end: its input is closed, then SIGTERM, then SIGKILL, each to all it started.

use super::answer;
use super::driven::figures;
use super::driven::output_log::OutputLog;
use super::driven::{self, Driven, GRACE, Own, Ready, Stop};
use super::model_access::{self, ModelAccessProvider};
use super::settings::{Protocol, Settings};
use crate::domain::Order;
use crate::platform::process::InteractiveProcess;
use crate::platform::sandbox::Sandbox;
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
use permit::Rooms;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use terminal::{Room, Terminals};
use tokio::sync::Notify;

mod begin;
mod client;
mod connection;
mod files;
mod permit;
mod pipes;
mod terminal;

/// How long it may take to begin: to start, and to open a session.
const START: Duration = Duration::from_secs(120);
/// How long its pipes may stay open after it is gone.
const DRAIN: Duration = Duration::from_secs(1);
/// How long calls of a model that it still makes when it has answered may take.
const LAST_CALLS: Duration = Duration::from_secs(10);
/// How often an answer that cannot be used is asked for again.
const MENDS: usize = 2;

/// What an agent is told that is taken up again, before its order.
const AGAIN: &str = "Your process was ended in the middle of your work on the order below, and has been started again. The worktree and this \
                     conversation are as they were left; a command or an edit that was under way then may be half done, so look before you \
                     go on. Do not start over what is done. The order was and is:\n\n";

/// The engine.
#[derive(Clone, Debug)]
pub struct AcpEngine {
    driven: Driven,
    model_access: ModelAccessProvider,
}

/// Why a conversation ended without a result.
enum Broken {
    /// We stopped it.
    Stopped(Stop),
    /// It is gone.
    Gone,
    /// It answered with an error.
    Refused(protocol::Error),
    /// It cannot be talked to as configured.
    Wrong { why: String, fix: String },
}

impl From<protocol::Error> for Broken {
    fn from(error: protocol::Error) -> Broken {
        if protocol::is_incoming_transport_closed(&error) { Broken::Gone } else { Broken::Refused(error) }
    }
}

/// What is known of the session, whatever becomes of the conversation.
#[derive(Default)]
struct Known {
    session: Option<String>,
    tokens: Option<u64>,
}

/// One conversation's surroundings.
struct Talked<'a> {
    order: &'a Order,
    env: &'a AttemptEnv,
    client: &'a Client,
    sink: &'a Sink,
    known: &'a Mutex<Known>,
}

type Watch<'a, 'w> = &'a mut Pin<&'w mut (dyn Future<Output = Stop> + Send)>;

impl AcpEngine {
    /// The agent `arg` (`AGENT` or `AGENT/MODEL`) names.
    ///
    /// # Errors
    /// When there is none, or its table is wrong.
    pub fn new(
        arg: &str,
        settings: &Settings,
        sandbox: Sandbox,
        model_access: ModelAccessProvider,
    ) -> Result<Self, String> {
        Ok(Self { driven: Driven::find(arg, Protocol::Acp, settings, sandbox)?, model_access })
    }

    async fn converse(
        &self,
        cx: &ConnectionTo<Agent>,
        ready: &Ready,
        talked: &Talked<'_>,
        watch: Watch<'_, '_>,
    ) -> Result<StepOutcome, Broken> {
        let began = tokio::time::timeout(START, async {
            tokio::select! {
                began = self.begin(cx, talked) => began,
                stop = &mut *watch => Err(Broken::Stopped(stop)),
            }
        });
        let session = began.await.unwrap_or_else(|_| {
            let why = format!("it opened no session within {} s", START.as_secs());
            Err(Broken::Wrong { why, fix: self.driven.way_in() })
        })?;
        let mut told = match &talked.order.resume {
            Some(_) => format!("{AGAIN}{}", ready.prompt),
            None => ready.prompt.clone(),
        };
        let mut mended = 0;
        loop {
            talked.client.heard.turn();
            let turn = self.prompt(cx, &session, told, watch).await?;
            if let Some(usage) = &turn.usage {
                // Agents disagree whether it is the turn's, the session's or the last call's: the largest is the nearest.
                let mut known = talked.known.lock().unwrap_or_else(PoisonError::into_inner);
                known.tokens = known.tokens.max(Some(usage.total_tokens));
            }
            if let Some(work) = self.cut_short(turn.stop_reason, talked.client) {
                return Ok(work);
            }
            match driven::answer(talked.order, talked.env, &talked.client.heard) {
                Ok(work) => return Ok(work),
                Err(why) if mended < MENDS => {
                    mended += 1;
                    talked.client.heard.note(&format!("its answer could not be used: {why}"));
                    told = answer::correction(talked.order.step, &why);
                }
                Err(why) => {
                    let agent = &self.driven.agent.name;
                    return Ok(StepOutcome::Failed(format!("the answer of the agent {agent} cannot be used: {why}")));
                }
            }
        }
    }

    /// One turn. When it has to be stopped it is told so and may end it in good order.
    async fn prompt(
        &self,
        cx: &ConnectionTo<Agent>,
        session: &SessionId,
        text: String,
        watch: Watch<'_, '_>,
    ) -> Result<PromptResponse, Broken> {
        let request = PromptRequest::new(session.clone(), vec![ContentBlock::Text(TextContent::new(text))]);
        let turn = cx.send_request(request).block_task();
        tokio::pin!(turn);
        tokio::select! {
            done = &mut turn => Ok(done?),
            stop = watch => {
                if cx.send_notification(CancelNotification::new(session.clone())).is_ok() {
                    let _ended = tokio::time::timeout(GRACE, &mut turn).await;
                }
                Err(Broken::Stopped(stop))
            }
        }
    }

    /// What a turn that did not come to its own end comes to; `None` = it did.
    fn cut_short(&self, reason: StopReason, client: &Client) -> Option<StepOutcome> {
        let agent = &self.driven.agent.name;
        let refusals = client.refusals();
        let how = match reason {
            StopReason::EndTurn => return None,
            StopReason::MaxTokens => "its answer reached the largest size its model may give".to_owned(),
            StopReason::MaxTurnRequests => "it reached its own limit of model calls for one turn".to_owned(),
            StopReason::Refusal => "its model refused to go on".to_owned(),
            // Nobody cancelled: some agents end so when a permission is refused.
            StopReason::Cancelled if refusals.is_empty() => "it cancelled its turn by itself".to_owned(),
            StopReason::Cancelled => format!("it gave up when it was refused: {refusals}"),
            other => format!("it ended its turn for the reason {other:?}"),
        };
        Some(StepOutcome::Failed(format!("the agent {agent} did not finish: {how}")))
    }

    fn refused(&self, error: &protocol::Error) -> StepOutcome {
        let name = &self.driven.agent.name;
        let said = said(error);
        if error.code == ErrorCode::AUTH_REQUIRED {
            let why = format!("the agent {name} wants a login first: {said}");
            return StepOutcome::Unavailable { why, until: None, fix: Some(self.driven.way_in()) };
        }
        self.driven
            .unavailable(&said)
            .unwrap_or_else(|| StepOutcome::Failed(format!("the agent {name} answered with an error: {said}")))
    }
}

#[async_trait]
impl Engine for AcpEngine {
    fn reads_prompt(&self) -> bool {
        true
    }

    async fn run(&self, order: &Order, env: &AttemptEnv, sink: Sink) -> PortResult<EngineResult> {
        let deadline = Driven::deadline(order);
        let model_access =
            match self.model_access.open(&self.driven.agent, &self.driven.sandbox, order, env, &sink).await {
                Ok(model_access) => model_access,
                // What it used before is charged where it cannot go on.
                Err(error) if order.resume.is_some() => return Err(error),
                Err(error) => return Ok(model_access::not_given(error)),
            };
        let ready = self.driven.ready(order, env, &model_access)?;
        let vars = ready.env();
        let job = ready.job(env, &vars, model_access.place());
        // Dropped last, after its group is gone: then only what left the group is still there.
        let (talk, strays) = self.driven.sandbox.spawn(&job).map_err(|e| PortError::transient(e.to_string()))?;
        let InteractiveProcess { stdin, stdout, handle: mut end } = talk;
        let heard = Arc::new(OutputLog::new(sink.clone()));
        let rooms = Rooms::new(&env.dir, &[&env.scratch]);
        let room = Room {
            sandbox: self.driven.sandbox.clone(),
            dir: env.dir.clone(),
            cache: env.cache.clone(),
            scratch: env.scratch.clone(),
            gate: model_access.place().cloned(),
            env: model_access.env(),
            rooms: rooms.clone(),
            deadline,
        };
        let terminals = Terminals::new(room, heard.clone());
        let files = Files { dir: env.dir.clone(), rooms, step: order.step };
        let client = Client::new(heard.clone(), files, terminals.clone());
        let known = Mutex::new(Known::default());

        let broken = {
            let talked = Talked { order, env, client: &client, sink: &sink, known: &known };
            let spent_out = || model_access.spent_out().or_else(|| figures::over(order, None, client.cost_micros()));
            let watch = self.driven.watch(&heard, deadline, &model_access, spent_out);
            tokio::pin!(watch);
            let mut watch: Pin<&mut (dyn Future<Output = Stop> + Send)> = watch;
            let transport = pipes::open(stdin, stdout, heard.clone());
            let (came_to, over) = (Mutex::new(None), Notify::new());
            let conversation = connection::connect(transport, client.clone(), async |cx: ConnectionTo<Agent>| {
                let done = self.converse(&cx, &ready, &talked, &mut watch).await;
                if done.is_ok() {
                    // Some still give the session a title.
                    model_access.at_rest(LAST_CALLS).await;
                }
                *came_to.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
                over.notify_one();
                Ok(())
            });
            tokio::pin!(conversation);
            // The connection ends once all it was told is written: an agent that reads no more is not waited for.
            let deaf = async {
                over.notified().await;
                tokio::time::sleep(DRAIN).await;
            };
            let ended = tokio::select! {
                ended = &mut conversation => ended.err(),
                _ended = end.wait() => tokio::time::timeout(DRAIN, &mut conversation).await.ok().and_then(Result::err),
                () = deaf => None,
            };
            let came_to = came_to.lock().unwrap_or_else(PoisonError::into_inner).take();
            came_to.unwrap_or_else(|| Err(ended.map_or(Broken::Gone, Broken::from)))
        };
        // Its input is closed now.
        terminals.end().await;
        let ended = driven::end(end, &heard).await;
        drop(strays);
        if let Some(refused) = model_access.refused() {
            heard.note(&format!("Skep: {refused}"));
        }

        let result = broken.unwrap_or_else(|broken| match broken {
            Broken::Stopped(stop) => stop.work(&self.driven.agent, order),
            Broken::Gone => self.driven.fell(&ended, ""),
            Broken::Refused(error) => self.refused(&error),
            Broken::Wrong { why, fix } => {
                let why = format!("the agent {} cannot be used: {why}", self.driven.agent.name);
                StepOutcome::Unavailable { why, until: None, fix: Some(fix) }
            }
        });
        let known = known.into_inner().unwrap_or_else(PoisonError::into_inner);
        let result = match result {
            StepOutcome::Failed(why) | StepOutcome::Unavailable { why, .. }
                if order.resume.is_some() && known.session.is_none() =>
            {
                StepOutcome::NotResumed(why)
            }
            result => result,
        };
        let own = Own { session: known.session, figures: (known.tokens, client.cost_micros()) };
        Ok(self.driven.worked(order, &model_access, &heard, own, result).await)
    }
}

/// An error in words that can be shown.
fn said(error: &protocol::Error) -> String {
    let more = error.data.as_ref().map(|d| d.as_str().map_or_else(|| d.to_string(), str::to_owned));
    let said = format!("{} {}", error.message, more.unwrap_or_default());
    driven::tail(said.trim().as_bytes(), driven::TAIL_BYTES_MAX)
}
