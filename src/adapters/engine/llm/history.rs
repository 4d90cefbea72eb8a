//! The conversation of a session: the order, what was summarised away, and turns in which calls and results fit together.

use genai::chat::ContentPart;
use serde_json::Value;

/// A call of a tool, as the model made it.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its id, unique in the conversation.
    pub id: String,
    /// The tool's name.
    pub tool: String,
    /// The arguments: always a JSON object.
    pub args: Value,
    /// Why the arguments are none, when the model did not write a JSON object.
    pub broken: Option<String>,
    /// What its provider wants to see again with it.
    pub signed: Option<Vec<String>>,
}

/// What a call gave back.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The call's id.
    pub id: String,
    /// The tool's name.
    pub tool: String,
    /// What was done, for people and for the summary: `read src/a.rs`.
    pub what: String,
    /// What the model is told.
    pub text: String,
    /// Whether it did what was asked.
    pub ok: bool,
    /// The files it changed.
    pub changed: Vec<String>,
}

/// One turn: what the model said, and what it was told then.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    /// Its text.
    pub text: String,
    /// Its calls.
    pub calls: Vec<Call>,
    /// What its provider wants to see again (signed thoughts), before the text.
    pub kept: Vec<ContentPart>,
    /// The results: one for each call, in the order of the calls.
    pub results: Vec<Outcome>,
    /// What Skep told it instead of results.
    pub told: Option<String>,
}

/// The conversation.
#[derive(Clone, Debug)]
pub struct History {
    /// The order: goal, task, notes, failing checks. Never dropped, never cut.
    pub order: String,
    /// What was done in turns that are no longer here.
    pub digest: Digest,
    /// The turns, oldest first.
    pub turns: Vec<Turn>,
}

/// What was done in turns that were dropped, by rule and not by a model.
#[derive(Clone, Debug, Default)]
pub struct Digest {
    changed: std::collections::BTreeSet<String>,
    steps: std::collections::VecDeque<String>,
    unlisted: usize,
    /// The ends of what commands said that failed when they last ran, newest last.
    red: Vec<(String, String)>,
}

/// Lines of the digest, the longest of them, and changed files named.
const STEPS_MAX: usize = 60;
const STEP_BYTES_MAX: usize = 160;
const CHANGED_MAX: usize = 60;
/// Failed commands kept, those whose output is shown, and bytes of it.
const RED_MAX: usize = 8;
const RED_SHOWN: usize = 3;
pub const RED_BYTES_MAX: usize = 1_500;

impl Digest {
    /// Whether nothing was dropped.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.unlisted == 0
    }

    /// Takes a turn in.
    pub fn take(&mut self, turn: &Turn) {
        for outcome in &turn.results {
            let room = CHANGED_MAX.saturating_sub(self.changed.len());
            self.changed.extend(outcome.changed.iter().take(room).map(|p| super::tools::middle_cut(p, STEP_BYTES_MAX)));
            if outcome.tool == super::tools::RUN {
                self.red.retain(|(what, _)| *what != outcome.what);
                if !outcome.ok {
                    let end = super::tools::middle_cut(&outcome.text, RED_BYTES_MAX);
                    self.red.push((outcome.what.clone(), end));
                    self.red.drain(..self.red.len().saturating_sub(RED_MAX));
                }
            }
            let how = if outcome.ok { "" } else { " (failed)" };
            self.steps.push_back(format!("{}{how}", super::tools::middle_cut(&outcome.what, STEP_BYTES_MAX)));
            if self.steps.len() > STEPS_MAX {
                self.steps.pop_front();
                self.unlisted += 1;
            }
        }
    }

    /// The digest in words for the model; empty when nothing was dropped.
    pub fn words(&self) -> String {
        if self.is_empty() {
            return String::new();
        }
        let mut text = "Earlier turns of this session were dropped to save room. What you did in them:\n".to_owned();
        if self.unlisted > 0 {
            text.push_str(&format!("- {} more steps before these\n", self.unlisted));
        }
        for step in &self.steps {
            text.push_str(&format!("- {}\n", step.replace('\n', " ")));
        }
        if !self.changed.is_empty() {
            let changed: Vec<&str> = self.changed.iter().map(String::as_str).collect();
            text.push_str(&format!("Files you changed: {}\n", changed.join(", ")));
        }
        let (named, shown) = self.red.split_at(self.red.len().saturating_sub(RED_SHOWN));
        for (what, _) in named {
            text.push_str(&format!("Failed when it last ran then: {}\n", what.replace('\n', " ")));
        }
        for (what, end) in shown {
            text.push_str(&format!("Failed when it last ran then: {}\n{end}\n", what.replace('\n', " ")));
        }
        text
    }
}

impl History {
    /// A conversation that begins with its order.
    pub fn new(order: String) -> History {
        History { order, digest: Digest::default(), turns: Vec::new() }
    }

    /// The first message: the order, and what was summarised.
    pub fn opening(&self) -> String {
        match self.digest.is_empty() {
            true => self.order.clone(),
            false => format!("{}\n\n{}", self.order, self.digest.words()),
        }
    }
}
