//! Client side of one conversation: handles the agent's updates and requests.

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

/// Upper bound of the tool calls whose titles are stored.
const MAX_CALLS: usize = 1_000;
/// Upper bound of the stored refusals.
const MAX_REFUSALS: usize = 8;

/// State shared by the handlers of a conversation.
#[derive(Clone)]
pub struct Client {
    pub output: Arc<OutputLog>,
    pub files: Files,
    pub terminals: Terminals,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    calls: BTreeMap<String, String>,
    refusals: Vec<String>,
    /// Number of requests for permission that were granted.
    permitted: usize,
    cost_micros: Option<u64>,
}

impl Client {
    pub fn new(output: Arc<OutputLog>, files: Files, terminals: Terminals) -> Client {
        Client { output, files, terminals, state: Arc::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the cost of the session so far in micro-USD, as the agent reports it.
    pub fn cost_micros(&self) -> Option<u64> {
        self.state().cost_micros
    }

    /// Refusals so far.
    pub fn refusals(&self) -> String {
        self.state().refusals.join("; ")
    }

    /// Returns how many requests for permission were granted.
    pub fn permitted(&self) -> usize {
        self.state().permitted
    }

    /// Handles an update of the session.
    pub fn update(&self, update: SessionUpdate) {
        match update {
            SessionUpdate::AgentMessageChunk(chunk) => self.output.push_text(&text(chunk)),
            SessionUpdate::AgentThoughtChunk(chunk) => self.output.push_reasoning(&text(chunk)),
            SessionUpdate::ToolCall(call) => {
                let fields =
                    ToolCallUpdateFields::new().title(call.title).status(call.status).raw_input(call.raw_input);
                self.tool(&call.tool_call_id.to_string(), &fields);
            }
            SessionUpdate::ToolCallUpdate(call) => self.tool(&call.tool_call_id.to_string(), &call.fields),
            SessionUpdate::Plan(plan) => self.plan(&plan),
            SessionUpdate::UsageUpdate(usage) => {
                self.output.touch();
                // Amounts in other currencies or credits are ignored.
                let cost = usage.cost.filter(|c| c.currency.eq_ignore_ascii_case("usd"));
                if let Some(cost) = cost {
                    self.state().cost_micros = Some(figures::micros(cost.amount).unwrap_or(u64::MAX));
                }
            }
            _ => self.output.touch(),
        }
    }

    /// Reports a tool call once by its title, and again if it fails. Some agents announce a call only when they ask for
    /// permission, some never report its end.
    fn tool(&self, id: &str, fields: &ToolCallUpdateFields) {
        self.output.touch();
        let failed = fields.status == Some(ToolCallStatus::Failed);
        let line = {
            let mut state = self.state();
            let known = state.calls.get(id).cloned();
            let title = fields.title.clone().filter(|t| !t.trim().is_empty());
            let new_title = title.filter(|t| known.as_ref() != Some(t));
            if let Some(title) = &new_title
                && (state.calls.len() < MAX_CALLS || known.is_some())
            {
                state.calls.insert(id.chars().take(200).collect(), title.clone());
            }
            match (new_title, known, failed) {
                (Some(title), _, false) => Some(title),
                (Some(title), _, true) | (None, Some(title), true) => Some(format!("failed: {title}")),
                (None, None, true) => Some("failed: unnamed tool".to_owned()),
                (None, _, false) => None,
            }
        };
        if let Some(line) = line {
            self.output.push_tool_call(&line);
        }
    }

    fn plan(&self, plan: &Plan) {
        let done = plan.entries.iter().filter(|e| e.status == PlanEntryStatus::Completed).count();
        let now =
            plan.entries.iter().find(|e| e.status == PlanEntryStatus::InProgress).map_or("", |e| e.content.as_str());
        self.output.push_tool_call(&format!("plan: {done} of {} steps done; {now}", plan.entries.len()));
    }

    /// Answers a permission request.
    pub fn permit(&self, ask: &RequestPermissionRequest) -> RequestPermissionResponse {
        self.tool(&ask.tool_call.tool_call_id.to_string(), &ask.tool_call.fields);
        let why = permit::refused(&ask.tool_call, self.files.step, &self.files.allowed_paths);
        let picked = match &why {
            None => permit::option(&ask.options, true).inspect(|_| self.state().permitted += 1).or_else(|| {
                self.refuse("it offered only a permanent permission, and Skep grants each request once");
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
        self.output.note(&format!("refused: {why}"));
        let mut state = self.state();
        if state.refusals.len() < MAX_REFUSALS {
            state.refusals.push(why.chars().take(300).collect());
        }
    }

    /// Serves a file to the agent.
    ///
    /// # Errors
    /// An answer for the agent.
    pub async fn read(&self, ask: ReadTextFileRequest) -> Result<ReadTextFileResponse, Error> {
        self.output.touch();
        let files = self.files.clone();
        self.served(tokio::task::spawn_blocking(move || files.read(&ask)).await).map(ReadTextFileResponse::new)
    }

    /// Writes a file for the agent.
    ///
    /// # Errors
    /// An answer for the agent.
    pub async fn write(&self, ask: WriteTextFileRequest) -> Result<WriteTextFileResponse, Error> {
        self.output.push_tool_call(&format!("write {}", ask.path.display()));
        let files = self.files.clone();
        self.served(tokio::task::spawn_blocking(move || files.write(&ask)).await).map(|()| WriteTextFileResponse::new())
    }

    fn served<T>(&self, result: Result<Result<T, String>, tokio::task::JoinError>) -> Result<T, Error> {
        let result = result.unwrap_or_else(|_| Err("the file cannot be served".to_owned()));
        result.map_err(|why| self.denied(why))
    }

    /// Creates the error that refuses a request.
    pub fn denied(&self, why: String) -> Error {
        self.refuse(&why);
        Error::invalid_params().data(why)
    }
}

fn text(chunk: ContentChunk) -> String {
    match chunk.content {
        ContentBlock::Text(text) => text.text,
        // Images and other content have no text.
        _ => String::new(),
    }
}
