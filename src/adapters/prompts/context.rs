//! Values of an order that templates can use: numbers and names as they are, untrusted text as [`Outside`]. All of it
//! is bounded.

use super::outside::{Outside, boundary};
use crate::domain::memory::Citation;
use crate::domain::{CheckResult, Criterion, DiffStat, FileKind, Memory, Order};
use crate::ports::answer_schema;
use minijinja::{Value, context};
use std::sync::Arc;

/// Upper bound of a prompt, in bytes.
pub(super) const MAX_PROMPT_BYTES: usize = 512 * 1024;
/// Bytes reserved for the templates' own text and the markers of blocks.
const TEMPLATE_BYTES: usize = 96 * 1024;
const GOAL_BYTES: usize = 32 * 1024;
const NOTE_BYTES: usize = 8 * 1024;
const PATCH_BYTES: usize = 256 * 1024;
const FILE_BYTES: usize = 16 * 1024;
const LIST_BYTES: usize = 16 * 1024;
/// Upper bound of the notes; the oldest are omitted.
const MAX_NOTES: usize = 24;
/// Minimum size of a block, which it gets even if no room is left.
const MIN_BLOCK_BYTES: usize = 256;

/// Instruction file of the repository.
pub(super) struct Instruction {
    /// Path.
    pub path: &'static str,
    /// Text at the base commit.
    pub text: String,
}

/// What a prompt says about the repository at the base commit.
#[derive(Default)]
pub(super) struct About {
    /// Its instruction files.
    pub instructions: Vec<Instruction>,
    /// Its layout, in lines.
    pub layout: Vec<String>,
    /// What earlier runs have shown.
    pub memories: Vec<Memory>,
}

/// Remaining room of a prompt.
struct Budget {
    left: usize,
    texts: Vec<Arc<Outside>>,
}

impl Budget {
    /// Adds a text, truncated to what fits.
    fn take(&mut self, text: &str, max_bytes: usize) -> Value {
        let outside = Arc::new(Outside::new(text, max_bytes.min(self.left.max(MIN_BLOCK_BYTES))));
        self.left = self.left.saturating_sub(outside.len());
        self.texts.push(Arc::clone(&outside));
        Value::from_dyn_object(outside)
    }

    /// Adds a list as lines. An empty list prints nothing and is false.
    fn lines(&mut self, lines: impl IntoIterator<Item = String>) -> Value {
        let mut text = String::new();
        for line in lines {
            text.push_str(&line.replace('\n', " "));
            text.push('\n');
            // The rest would be truncated anyway.
            if text.len() > 2 * LIST_BYTES {
                break;
            }
        }
        self.take(&text, LIST_BYTES)
    }
}

/// Values of a role's system prompt: nothing of the order, so that it is identical for all orders and a provider can
/// cache it.
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

/// Values of a step's prompt. The most important values are added first, while there is most room.
pub(super) fn step(order: &Order, patch: &str, about: &About) -> Value {
    let mut budget = Budget { left: MAX_PROMPT_BYTES - TEMPLATE_BYTES, texts: Vec::new() };
    let goal = budget.take(&order.goal, GOAL_BYTES);
    let question = budget.take(order.question.as_deref().unwrap_or_default(), GOAL_BYTES);
    let task = order.task.as_ref().map(|task| {
        context! {
            name => budget.take(&task.spec.name, NOTE_BYTES),
            title => budget.take(&task.spec.title, NOTE_BYTES),
            text => budget.take(&task.spec.text, GOAL_BYTES),
            paths => budget.lines(task.spec.paths.iter().cloned()),
        }
    });
    let patch = budget.take(patch, PATCH_BYTES);
    let skipped = order.notes.len().saturating_sub(MAX_NOTES);
    let notes: Vec<Value> = order.notes[skipped..]
        .iter()
        .map(|n| context! { from => name(n.source.name()), text => budget.take(&n.text, NOTE_BYTES) })
        .collect();
    let results = budget.lines(order.results.iter().map(result));
    let failures = match order.results.iter().any(|r| !r.green) {
        true => budget.take(&crate::domain::check::failures(&order.results), 2 * FILE_BYTES),
        false => budget.take("", FILE_BYTES),
    };
    let excused = budget.lines(order.excused.iter().cloned());
    let concerns = budget.lines(order.concerns.iter().cloned());
    let (tested, judged): (Vec<&Criterion>, Vec<&Criterion>) = order.criteria.iter().partition(|c| c.test.is_some());
    let tested = budget.lines(tested.into_iter().map(|c| {
        let command = c.test.as_ref().map_or("", |t| t.command.as_str());
        format!("{}: {} (test: {command})", c.id, c.text)
    }));
    let judged = budget.lines(judged.into_iter().map(|c| format!("{}: {}", c.id, c.text)));
    let criteria = context! { tested, judged, any => !order.criteria.is_empty() };
    let checks = budget.lines(order.checks.iter().map(|c| format!("{}: {}", c.name, c.command)));
    let bounds = context! {
        max_tasks => order.bounds.max_tasks,
        allowed => budget.lines(order.bounds.allowed_paths.iter().cloned()),
        forbidden => budget.lines(order.bounds.forbidden_paths.iter().cloned()),
        protected => budget.lines(order.bounds.protected_paths.iter().cloned()),
    };
    let diff = context! {
        files => budget.lines(changes(&order.diff)),
        total => order.diff.files_total,
        added => order.diff.added,
        removed => order.diff.removed,
    };
    let instructions: Vec<Value> = about
        .instructions
        .iter()
        .map(|i| context! { path => i.path, text => budget.take(&i.text, FILE_BYTES) })
        .collect();
    let memories: Vec<Value> = about
        .memories
        .iter()
        .map(|m| context! { id => name(m.id.as_str()), text => budget.take(&memory(m), NOTE_BYTES) })
        .collect();
    let layout = budget.lines(about.layout.iter().cloned());
    let caps = context! {
        minutes => order.caps.wall_ms.div_ceil(60_000),
        tokens => order.caps.tokens,
        turns => order.caps.turns,
    };
    let boundary = boundary(&seed(order), &budget.texts);
    context! {
        try_number => order.try_number,
        round => order.round,
        continues => order.continues.is_some(),
        boundary, goal, question, task, criteria, notes, memories, results, failures, excused, concerns, checks, bounds, diff, patch, instructions, layout, caps,
        ..role(order)
    }
}

/// Returns the seed of the boundary, from the run and the attempt: the same texts get other markers in another attempt.
fn seed(order: &Order) -> Vec<u8> {
    format!("{}/{}/{}/{}", order.run, order.attempt, order.base.as_str(), order.head.as_str()).into_bytes()
}

/// Reduces an internal word that came through a snapshot to its letters, digits and hyphens.
fn name(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(40).collect()
}

/// Returns a row with its source: its kind, who stated it, in which run and where it can be checked.
fn memory(m: &Memory) -> String {
    let run = m.run.map(|run| format!(", run {}", run.abbrev())).unwrap_or_default();
    let places: Vec<String> = m.cites.iter().map(Citation::text).collect();
    let places = if places.is_empty() { String::new() } else { format!(", {}", places.join(", ")) };
    format!("{} by {}{run}{places}\n{}\n{}\n", m.kind.name(), m.author, m.title, m.body)
}

fn result(r: &CheckResult) -> String {
    let status = if r.green { "passed" } else { "failed" };
    let tests = r.tests.map(|t| format!(", {} tests, {} failed, {} skipped", t.run, t.failed, t.skipped));
    format!("{}: {status}{}", r.name, tests.unwrap_or_default())
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
