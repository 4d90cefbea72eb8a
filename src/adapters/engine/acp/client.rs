//! The client's side of one conversation: what the agent tells and asks, and how it is answered.

use super::super::driven::figures;
use super::super::driven::output_log::OutputLog;
use super::files::Files;
use super::permit;
use super::terminal::Terminals;
use agent_client_protocol::Error;
use agent_client_protocol::v1::schema::{
    ContentBlock, ContentChunk, Plan, PlanEntryStatus, ReadTextFileRequest, ReadTextFileResponse,
    RequestPermissionOutcome, RequestPermissionRequest, RequestPermissionResponse, SelectedPermissionOutcome,
    SessionUpdate, ToolCallStatus, ToolCallUpdateFields, WriteTextFileRequest, WriteTextFileResponse,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The most tool calls whose titles are remembered.
const CALLS_MAX: usize = 1_000;
/// The most refusals remembered.
const REFUSALS_MAX: usize = 8;

/// What the conversation's handlers share.
#[derive(Clone)]
pub struct Client {
    pub heard: Arc<OutputLog>,
    pub files: Files,
    pub terminals: Terminals,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    calls: BTreeMap<String, String>,
    refusals: Vec<String>,
    cost_micros: Option<u64>,
}

impl Client {
    pub fn new(heard: Arc<OutputLog>, files: Files, terminals: Terminals) -> Client {
        Client { heard, files, terminals, state: Arc::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it says the session has cost so far, in micro-USD.
    pub fn cost_micros(&self) -> Option<u64> {
        self.state().cost_micros
    }

    /// What it was refused.
    pub fn refusals(&self) -> String {
        self.state().refusals.join("; ")
    }

    /// An update of the session.
    pub fn update(&self, update: SessionUpdate) {
        match update {
            SessionUpdate::AgentMessageChunk(chunk) => self.heard.words(&words(chunk)),
            SessionUpdate::AgentThoughtChunk(chunk) => self.heard.thoughts(&words(chunk)),
            SessionUpdate::ToolCall(call) => {
                let fields =
                    ToolCallUpdateFields::new().title(call.title).status(call.status).raw_input(call.raw_input);
                self.tool(&call.tool_call_id.to_string(), &fields);
            }
            SessionUpdate::ToolCallUpdate(call) => self.tool(&call.tool_call_id.to_string(), &call.fields),
            SessionUpdate::Plan(plan) => self.plan(&plan),
            SessionUpdate::UsageUpdate(usage) => {
                self.heard.alive();
                // Another currency, or credits, is no figure of ours.
                let cost = usage.cost.filter(|c| c.currency.eq_ignore_ascii_case("usd"));
                if let Some(cost) = cost {
                    self.state().cost_micros = Some(figures::micros(cost.amount).unwrap_or(u64::MAX));
                }
            }
            _ => self.heard.alive(),
        }
    }

    /// A tool call is told once by its title, and again when it fails. Some agents tell of it only when they ask for permission; some
    /// never tell of its end.
    fn tool(&self, id: &str, fields: &ToolCallUpdateFields) {
        self.heard.alive();
        let failed = fields.status == Some(ToolCallStatus::Failed);
        let told = {
            let mut state = self.state();
            let known = state.calls.get(id).cloned();
            let title = fields.title.clone().filter(|t| !t.trim().is_empty());
            let fresh = title.filter(|t| known.as_ref() != Some(t));
            if let Some(title) = &fresh
                && (state.calls.len() < CALLS_MAX || known.is_some())
            {
                state.calls.insert(id.chars().take(200).collect(), title.clone());
            }
            match (fresh, known, failed) {
                (Some(title), _, false) => Some(title),
                (Some(title), _, true) | (None, Some(title), true) => Some(format!("failed: {title}")),
                (None, None, true) => Some("failed: a tool".to_owned()),
                (None, _, false) => None,
            }
        };
        if let Some(told) = told {
            self.heard.did(&told);
        }
    }

    fn plan(&self, plan: &Plan) {
        let done = plan.entries.iter().filter(|e| e.status == PlanEntryStatus::Completed).count();
        let now =
            plan.entries.iter().find(|e| e.status == PlanEntryStatus::InProgress).map_or("", |e| e.content.as_str());
        self.heard.did(&format!("plan: {done} of {} done; {now}", plan.entries.len()));
    }

    /// Answers a request for permission.
    pub fn permit(&self, ask: &RequestPermissionRequest) -> RequestPermissionResponse {
        self.tool(&ask.tool_call.tool_call_id.to_string(), &ask.tool_call.fields);
        let why = permit::refused(&ask.tool_call, self.files.step, &self.files.rooms);
        let picked = match &why {
            None => permit::option(&ask.options, true).or_else(|| {
                self.refuse("it asked for a permission that holds for always");
                permit::option(&ask.options, false)
            }),
            Some(why) => {
                self.refuse(why);
                permit::option(&ask.options, false)
            }
        };
        RequestPermissionResponse::new(match picked {
            Some(id) => RequestPermissionOutcome::Selected(SelectedPermissionOutcome::new(id)),
            None => RequestPermissionOutcome::Cancelled,
        })
    }

    fn refuse(&self, why: &str) {
        self.heard.note(&format!("refused: {why}"));
        let mut state = self.state();
        if state.refusals.len() < REFUSALS_MAX {
            state.refusals.push(why.chars().take(300).collect());
        }
    }

    /// Reads a file for the agent.
    ///
    /// # Errors
    /// As an answer for the agent.
    pub async fn read(&self, ask: ReadTextFileRequest) -> Result<ReadTextFileResponse, Error> {
        self.heard.alive();
        let files = self.files.clone();
        self.served(tokio::task::spawn_blocking(move || files.read(&ask)).await).map(ReadTextFileResponse::new)
    }

    /// Writes a file for the agent.
    ///
    /// # Errors
    /// As an answer for the agent.
    pub async fn write(&self, ask: WriteTextFileRequest) -> Result<WriteTextFileResponse, Error> {
        self.heard.did(&format!("write {}", ask.path.display()));
        let files = self.files.clone();
        self.served(tokio::task::spawn_blocking(move || files.write(&ask)).await).map(|()| WriteTextFileResponse::new())
    }

    fn served<T>(&self, done: Result<Result<T, String>, tokio::task::JoinError>) -> Result<T, Error> {
        let done = done.unwrap_or_else(|_| Err("the file could not be served".to_owned()));
        done.map_err(|why| self.denied(why))
    }

    /// An answer for the agent that says no.
    pub fn denied(&self, why: String) -> Error {
        self.refuse(&why);
        Error::invalid_params().data(why)
    }
}

fn words(chunk: ContentChunk) -> String {
    match chunk.content {
        ContentBlock::Text(text) => text.text,
        // Pictures and the like are no words.
        _ => String::new(),
    }
}
