//! Conversation of a session: the order, a digest of dropped turns, and turns that pair calls with results.

use genai::chat::ContentPart;
use serde_json::Value;

/// Tool call, as the model made it.
#[derive(Clone, Debug)]
pub struct Call {
    /// Id, unique in the conversation.
    pub id: String,
    /// Name of the tool.
    pub tool: String,
    /// Arguments; always a JSON object.
    pub args: Value,
    /// Why the arguments are unusable, if the model did not write a JSON object.
    pub invalid: Option<String>,
    /// Signatures that the provider expects back with the call.
    pub signatures: Option<Vec<String>>,
}

/// Result of a tool call.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Id of the call.
    pub id: String,
    /// Name of the tool.
    pub tool: String,
    /// Description for people and for the digest: `read src/a.rs`.
    pub what: String,
    /// Text for the model.
    pub text: String,
    /// Whether the call succeeded.
    pub ok: bool,
    /// Files that were changed.
    pub changed: Vec<String>,
}

/// One turn: the model's answer and the results of its calls.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    /// Text of the answer.
    pub text: String,
    /// Tool calls.
    pub calls: Vec<Call>,
    /// Parts that the provider expects back before the text (signed reasoning).
    pub reasoning_parts: Vec<ContentPart>,
    /// Results, one per call, in the same order.
    pub results: Vec<Outcome>,
    /// Message from Skep in place of results.
    pub nudge: Option<String>,
}

/// Conversation.
#[derive(Clone, Debug)]
pub struct History {
    /// Order: goal, task, notes, failing checks. Never dropped or shortened.
    pub order: String,
    /// Digest of the dropped turns.
    pub digest: Digest,
    /// Turns, oldest first.
    pub turns: Vec<Turn>,
}

/// Digest of dropped turns, made by rule and not by a model.
#[derive(Clone, Debug, Default)]
pub struct Digest {
    changed: std::collections::BTreeSet<String>,
    steps: std::collections::VecDeque<String>,
    unlisted: usize,
    /// Commands that failed when they last ran, with the end of their output; newest last.
    failed: Vec<(String, String)>,
}

/// Upper bounds of the digest: lines, bytes per line, changed files.
const MAX_STEPS: usize = 60;
const MAX_STEP_BYTES: usize = 160;
const MAX_CHANGED: usize = 60;
/// Upper bounds of failed commands: stored, shown with output, bytes of output.
const MAX_FAILED: usize = 8;
const MAX_FAILED_SHOWN: usize = 3;
pub const MAX_FAILED_BYTES: usize = 1_500;

impl Digest {
    /// Returns whether no turn was dropped.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.unlisted == 0
    }

    /// Adds a dropped turn.
    pub fn add(&mut self, turn: &Turn) {
        for outcome in &turn.results {
            let room = MAX_CHANGED.saturating_sub(self.changed.len());
            self.changed
                .extend(outcome.changed.iter().take(room).map(|p| super::tools::truncate_middle(p, MAX_STEP_BYTES)));
            if outcome.tool == super::tools::RUN {
                self.failed.retain(|(what, _)| *what != outcome.what);
                if !outcome.ok {
                    let end = super::tools::truncate_middle(&outcome.text, MAX_FAILED_BYTES);
                    self.failed.push((outcome.what.clone(), end));
                    self.failed.drain(..self.failed.len().saturating_sub(MAX_FAILED));
                }
            }
            let how = if outcome.ok { "" } else { " (failed)" };
            self.steps.push_back(format!("{}{how}", super::tools::truncate_middle(&outcome.what, MAX_STEP_BYTES)));
            if self.steps.len() > MAX_STEPS {
                self.steps.pop_front();
                self.unlisted += 1;
            }
        }
    }

    /// Renders the digest for the model; empty if no turn was dropped.
    pub fn render(&self) -> String {
        if self.is_empty() {
            return String::new();
        }
        let mut text = "Earlier turns of this session were removed to save space. Your steps in them:\n".to_owned();
        if self.unlisted > 0 {
            text.push_str(&format!("- {} earlier steps, not listed\n", self.unlisted));
        }
        for step in &self.steps {
            text.push_str(&format!("- {}\n", step.replace('\n', " ")));
        }
        if !self.changed.is_empty() {
            let changed: Vec<&str> = self.changed.iter().map(String::as_str).collect();
            text.push_str(&format!("Files you changed: {}\n", changed.join(", ")));
        }
        let (named, shown) = self.failed.split_at(self.failed.len().saturating_sub(MAX_FAILED_SHOWN));
        for (what, _) in named {
            text.push_str(&format!("Failed when last run: {}\n", what.replace('\n', " ")));
        }
        for (what, end) in shown {
            text.push_str(&format!("Failed when last run: {}\n{end}\n", what.replace('\n', " ")));
        }
        text
    }
}

impl History {
    /// Starts a conversation with its order.
    pub fn new(order: String) -> History {
        History { order, digest: Digest::default(), turns: Vec::new() }
    }

    /// Returns the first message: the order and the digest.
    pub fn opening(&self) -> String {
        match self.digest.is_empty() {
            true => self.order.clone(),
            false => format!("{}\n\n{}", self.order, self.digest.render()),
        }
    }
}
