//! What templates are told of an order: numbers and names as they are, every text from outside as [`Outside`], all of it capped.

use super::outside::{Outside, boundary};
use crate::domain::{CheckResult, DiffStat, FileKind, Order};
use crate::ports::answer_schema;
use minijinja::{Value, context};
use std::sync::Arc;

/// The most bytes of a whole prompt.
pub(super) const PROMPT_BYTES_MAX: usize = 512 * 1024;
/// Of these, for the templates' own words and the blocks' marks.
const OWN_BYTES: usize = 96 * 1024;
const GOAL_BYTES: usize = 32 * 1024;
const NOTE_BYTES: usize = 8 * 1024;
const PATCH_BYTES: usize = 256 * 1024;
const FILE_BYTES: usize = 16 * 1024;
const LIST_BYTES: usize = 16 * 1024;
/// The most notes; the oldest are left out.
const NOTES_MOST: usize = 24;
/// What is left out when nothing is left would be a block without a word.
const LEAST_BYTES: usize = 256;

/// A file of the repository that says how to work in it.
pub(super) struct Instruction {
    /// Where it is.
    pub path: &'static str,
    /// What it says, at the base commit.
    pub text: String,
}

/// Counts what goes in.
struct Room {
    left: usize,
    texts: Vec<Arc<Outside>>,
}

impl Room {
    /// The text, as far as it fits.
    fn take(&mut self, text: &str, most: usize) -> Value {
        let outside = Arc::new(Outside::new(text, most.min(self.left.max(LEAST_BYTES))));
        self.left = self.left.saturating_sub(outside.len());
        self.texts.push(Arc::clone(&outside));
        Value::from_dyn_object(outside)
    }

    /// A list as lines; empty lists print nothing and are false.
    fn lines(&mut self, lines: impl IntoIterator<Item = String>) -> Value {
        let mut text = String::new();
        for line in lines {
            text.push_str(&line.replace('\n', " "));
            text.push('\n');
            // Enough to be cut anyway.
            if text.len() > 2 * LIST_BYTES {
                break;
            }
        }
        self.take(&text, LIST_BYTES)
    }
}

/// What a role's system text is told: nothing of the order, so that it is the same for all of them and a provider may cache it.
pub(super) fn role(order: &Order) -> Value {
    context! {
        role => order.step.role().name(),
        step => order.step.name(),
        answer => context! {
            example => answer_schema::example(order.step),
            schema => serde_json::to_string_pretty(&answer_schema::schema(order.step)).unwrap_or_default(),
        },
    }
}

/// What a step's text is told. What matters most takes its room first.
pub(super) fn step(order: &Order, patch: &str, instructions: &[Instruction]) -> Value {
    let mut room = Room { left: PROMPT_BYTES_MAX - OWN_BYTES, texts: Vec::new() };
    let goal = room.take(&order.goal, GOAL_BYTES);
    let question = room.take(order.question.as_deref().unwrap_or_default(), GOAL_BYTES);
    let task = order.task.as_ref().map(|task| {
        context! {
            name => room.take(&task.spec.name, NOTE_BYTES),
            title => room.take(&task.spec.title, NOTE_BYTES),
            text => room.take(&task.spec.text, GOAL_BYTES),
            paths => room.lines(task.spec.paths.iter().cloned()),
        }
    });
    let patch = room.take(patch, PATCH_BYTES);
    let skipped = order.notes.len().saturating_sub(NOTES_MOST);
    let notes: Vec<Value> = order.notes[skipped..]
        .iter()
        .map(|n| context! { from => name(n.source.name()), text => room.take(&n.text, NOTE_BYTES) })
        .collect();
    let results = room.lines(order.results.iter().map(result));
    let failures = match order.results.iter().any(|r| !r.green) {
        true => room.take(&crate::domain::check::failures(&order.results), 2 * FILE_BYTES),
        false => room.take("", FILE_BYTES),
    };
    let concerns = room.lines(order.concerns.iter().cloned());
    let checks = room.lines(order.checks.iter().map(|c| format!("{}: {}", c.name, c.command)));
    let bounds = context! {
        max_tasks => order.bounds.max_tasks,
        allowed => room.lines(order.bounds.allowed_paths.iter().cloned()),
        forbidden => room.lines(order.bounds.forbidden_paths.iter().cloned()),
        protected => room.lines(order.bounds.protected_paths.iter().cloned()),
    };
    let diff = context! {
        files => room.lines(changes(&order.diff)),
        total => order.diff.files_total,
        added => order.diff.added,
        removed => order.diff.removed,
    };
    let instructions: Vec<Value> =
        instructions.iter().map(|i| context! { path => i.path, text => room.take(&i.text, FILE_BYTES) }).collect();
    let caps = context! {
        minutes => order.caps.wall_ms.div_ceil(60_000),
        tokens => order.caps.tokens,
        turns => order.caps.turns,
    };
    let boundary = boundary(&seed(order), &room.texts);
    context! {
        try_number => order.try_number,
        round => order.round,
        boundary, goal, question, task, notes, results, failures, concerns, checks, bounds, diff, patch, instructions, caps,
        ..role(order)
    }
}

/// The run and the attempt: the same texts are marked otherwise in another attempt.
fn seed(order: &Order) -> Vec<u8> {
    format!("{}/{}/{}/{}", order.run, order.attempt, order.base.as_str(), order.head.as_str()).into_bytes()
}

/// A word of ours that came through a snapshot: letters only.
fn name(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(40).collect()
}

fn result(r: &CheckResult) -> String {
    let how = if r.green { "green" } else { "red" };
    let tests = r.tests.map(|t| format!(", {} tests, {} failed, {} skipped", t.run, t.failed, t.skipped));
    format!("{}: {how}{}", r.name, tests.unwrap_or_default())
}

fn changes(diff: &DiffStat) -> impl Iterator<Item = String> + '_ {
    diff.files.iter().map(|f| {
        let kind = match f.kind {
            FileKind::Added => "A",
            FileKind::Modified => "M",
            FileKind::Deleted => "D",
        };
        let size = if f.binary { "binary".to_owned() } else { format!("+{} -{}", f.added, f.removed) };
        format!("{kind} {} {size}", f.path)
    })
}
