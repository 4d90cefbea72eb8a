//! Structured answers of every engine: one set of strict types, checked for sense before anything is believed.
//!
//! | step | answer |
//! |---|---|
//! | `explore` | `{"notes": "…"}` |
//! | `plan` | `{"tasks": [{"name", "title", "text", "needs", "paths"}]}` |
//! | `develop` | `{"summary": "…"}` |
//! | `review` | `{"verdict": "approve" \| "rework", "findings": [{"path", "line", "text"}], "summary": "…"}` |
//! | any | `{"question": "…"}`, perhaps with `"to": "scout"`, or `{"failed": "…"}` |
//!
//! A command's report may add `"usage": {"tokens": 0, "cost_micros": 0}`; what others use is measured, not asked.
//! An answer that is refused is refused in words its author can mend it by.

use crate::domain::policy::Policy;
use crate::domain::{AskedTo, Finding, Order, Step, TaskSpec, Verdict, plan};
use crate::platform::rooted_fs::{self, RootedDir, RootedFsError};
use crate::ports::answer_schema::example;
use crate::ports::engine::{AttemptEnv, StepOutcome};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// The largest answer read, in bytes.
pub const BYTES_MAX: usize = 1024 * 1024;
/// The longest text kept of it, in bytes.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// The longest finding: a longer one is no finding but a report.
const FINDING_BYTES_MAX: usize = 8 * 1024;

/// An answer as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    notes: Option<String>,
    tasks: Option<Vec<WrittenTask>>,
    summary: Option<String>,
    verdict: Option<Verdict>,
    findings: Option<Vec<WrittenFinding>>,
    question: Option<String>,
    to: Option<AskedTo>,
    failed: Option<String>,
    /// What a command says it spent.
    pub usage: Option<WrittenUsage>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTask {
    name: String,
    title: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    needs: Vec<String>,
    #[serde(default)]
    paths: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFinding {
    #[serde(default)]
    path: String,
    #[serde(default)]
    line: u64,
    text: String,
}

/// What it says it spent.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenUsage {
    /// Tokens.
    #[serde(default)]
    pub tokens: u64,
    /// Micro-USD.
    #[serde(default)]
    pub cost_micros: u64,
}

/// Reads an answer that is nothing but JSON (a report file).
///
/// # Errors
/// What is wrong, with the place.
pub fn parse(bytes: &[u8]) -> Result<Answer, String> {
    if bytes.len() > BYTES_MAX {
        return Err(format!("it has {} bytes; at most {BYTES_MAX} are read", bytes.len()));
    }
    serde_json::from_slice(bytes).map_err(|e| e.to_string())
}

/// Reads an answer that came as a value (the arguments of a tool).
///
/// # Errors
/// What is wrong.
pub fn from_value(value: Value) -> Result<Answer, String> {
    serde_json::from_value(value).map_err(|e| e.to_string())
}

/// Reads the answer at the end of a driven agent's words: its last JSON block.
///
/// # Errors
/// That there is none, or what is wrong with it.
pub fn from_words(text: &str) -> Result<Answer, String> {
    let block = last_json_block(text).ok_or("its last message has no fenced ```json block")?;
    parse(block.as_bytes()).map_err(|why| format!("its last ```json block is not usable: {why}"))
}

/// The last JSON block of a text: the last fenced one (```` ```json ````, or a fence of any other name with an object in it); where
/// nothing is fenced, what begins at the last line with `{`. A block that was never closed goes to the end.
pub fn last_json_block(text: &str) -> Option<&str> {
    let mut found = None;
    let mut open: Option<(usize, &str, bool)> = None;
    let mut bare = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let (start, trimmed) = (at, line.trim());
        at += line.len();
        let ticks = trimmed.len() - trimmed.trim_start_matches('`').len();
        match open {
            None if ticks >= 3 => {
                let name = trimmed[ticks..].trim();
                open = Some((at, &trimmed[..ticks], name.is_empty() || name.eq_ignore_ascii_case("json")));
            }
            None if line.starts_with('{') => bare = Some(start),
            None => {}
            // A fence is closed by at least as many ticks and nothing else.
            Some((from, fence, fits)) if ticks >= fence.len() && ticks == trimmed.len() => {
                found = object(&text[from..start]).filter(|_| fits).or(found);
                open = None;
            }
            Some(_) => {}
        }
    }
    if let Some((from, _, true)) = open {
        found = object(&text[from..]).or(found);
    }
    found.or_else(|| bare.and_then(|from| object(&text[from..])))
}

fn object(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|t| t.starts_with('{'))
}

/// What the author of an answer that could not be used is told, once, before it tries again.
pub fn correction(step: Step, why: &str) -> String {
    format!(
        "Your answer could not be used: {}. Answer once more, whole, with {}, or with {{\"question\": \"…\"}} or {{\"failed\": \"…\"}}. \
         Nothing else of your work is lost.",
        cut(why, 2_000),
        example(step)
    )
}

impl Answer {
    /// The question or the failure in it.
    pub fn trouble(self) -> Option<StepOutcome> {
        match (self.question, self.failed) {
            (Some(question), _) => {
                let question = cut(&question, TEXT_BYTES_MAX);
                Some(StepOutcome::Asked { question, to: self.to.unwrap_or_default() })
            }
            (None, Some(why)) => Some(StepOutcome::Failed(cut(&why, TEXT_BYTES_MAX))),
            (None, None) => None,
        }
    }

    /// Its result for an order: it has exactly what the step's answer must have, and it makes sense there (a plan without a circle,
    /// findings on files there are).
    ///
    /// # Errors
    /// What is wrong with it, for its author.
    pub fn work(self, order: &Order, env: &AttemptEnv) -> Result<StepOutcome, String> {
        let step = order.step;
        let Answer { notes, tasks, summary, verdict, findings, question, to, failed, usage: _ } = self;
        let text = |what: &str, text: String| match text.trim().is_empty() {
            true => Err(format!("its {what} is empty")),
            false => Ok(cut(&text, TEXT_BYTES_MAX)),
        };
        if to.is_some() && question.is_none() {
            return Err("`to` belongs to a question".to_owned());
        }
        match (step, notes, tasks, summary, verdict, findings, question, failed) {
            (_, None, None, None, None, None, Some(question), None) => {
                Ok(StepOutcome::Asked { question: text("question", question)?, to: to.unwrap_or_default() })
            }
            (_, None, None, None, None, None, None, Some(why)) => Ok(StepOutcome::Failed(text("failed", why)?)),
            (Step::Explore, Some(notes), None, None, None, None, None, None) => {
                Ok(StepOutcome::Notes(text("notes", notes)?))
            }
            (Step::Plan, None, Some(tasks), None, None, None, None, None) => {
                planned(tasks, order).map(StepOutcome::Tasks)
            }
            (Step::Develop, None, None, Some(summary), None, None, None, None) => {
                Ok(StepOutcome::Edited { summary: cut(&summary, TEXT_BYTES_MAX) })
            }
            (Step::Review, None, None, summary, Some(verdict), findings, None, None) => {
                let (findings, summary) = (findings.unwrap_or_default(), summary.unwrap_or_default());
                judged(verdict, findings, &summary, order, &env.dir)
            }
            _ => Err(format!("the {} step needs {} or a question", step.name(), example(step))),
        }
    }
}

fn planned(tasks: Vec<WrittenTask>, order: &Order) -> Result<Vec<TaskSpec>, String> {
    let task = |t: WrittenTask| TaskSpec {
        name: t.name,
        text: if t.text.is_empty() { t.title.clone() } else { t.text },
        title: t.title,
        needs: t.needs,
        paths: t.paths,
    };
    let tasks: Vec<TaskSpec> = tasks.into_iter().map(task).collect();
    // The run's own policy decides again when the report comes in; here its author can still mend it.
    let policy = match order.bounds.max_tasks {
        0 => Policy::default(),
        max_tasks => Policy { max_tasks, ..Policy::default() },
    };
    if let Some(why) = plan::refuse(&tasks, &policy) {
        return Err(why);
    }
    match tasks.iter().find(|t| t.title.trim().is_empty() || [&t.name, &t.title].iter().any(|s| has_control(s))) {
        Some(t) => Err(format!("task {:?} has no title, or a control character in its name or title", t.name)),
        None => Ok(tasks),
    }
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

fn judged(
    verdict: Verdict,
    findings: Vec<WrittenFinding>,
    summary: &str,
    order: &Order,
    dir: &Path,
) -> Result<StepOutcome, String> {
    if findings.len() > Finding::MAX {
        return Err(format!("it has {} findings; at most {} are taken", findings.len(), Finding::MAX));
    }
    if verdict == Verdict::Rework && findings.is_empty() && summary.trim().is_empty() {
        return Err("a rework verdict needs at least one finding, or a summary, that says what to change".to_owned());
    }
    let tree = RootedDir::open(dir).ok();
    for finding in &findings {
        if finding.text.trim().is_empty() {
            return Err(format!("the finding on {:?} has no text", cut(&finding.path, 200)));
        }
        let path = &finding.path;
        if !path.is_empty() && !exists(path, order, tree.as_ref()) {
            return Err(format!(
                "a finding is on {:?}, which is neither in the diff nor a file of the tree; name files as the diff does, relative to \
                 the root, and leave `path` empty for the change as a whole",
                cut(path, 200)
            ));
        }
    }
    let finding = |f: WrittenFinding| Finding { path: f.path, line: f.line, text: cut(&f.text, FINDING_BYTES_MAX) };
    let findings = findings.into_iter().map(finding).collect();
    Ok(StepOutcome::Judged { verdict, findings, summary: cut(summary, TEXT_BYTES_MAX) })
}

/// Whether the diff or the tree has the path. What cannot be read (a link, a device) is there all the same.
fn exists(path: &str, order: &Order, tree: Option<&RootedDir>) -> bool {
    if order.diff.paths().any(|p| p == path) {
        return true;
    }
    rooted_fs::check(path).is_ok()
        && tree.is_some_and(|tree| !matches!(tree.size(path), Err(RootedFsError::Missing(_))))
}

/// Text cut to `most` bytes.
fn cut(text: &str, most: usize) -> String {
    text[..text.floor_char_boundary(most)].to_owned()
}
