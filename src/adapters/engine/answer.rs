//! Structured answers of all engines: one set of strict types, validated before use.
//!
//! | step | answer |
//! |---|---|
//! | `explore` | `{"notes": "…"}` |
//! | `plan` | `{"tasks": [{"name", "title", "text", "needs", "paths"}]}` |
//! | `develop` | `{"summary": "…"}` |
//! | `review` | `{"verdict": "approve" \| "rework", "findings": [{"path", "line", "text"}], "summary": "…"}`, with `"criteria": [{"id", "met", "why"}]` if the order has criteria to judge |
//! | any | `{"question": "…"}`, optionally with `"to": "scout"`, or `{"failed": "…"}` |
//!
//! A command's report may add `"usage": {"tokens": 0, "cost_micros": 0}`; the usage of other engines is measured.
//! A refusal tells the author how to fix the answer.

use crate::domain::policy::Policy;
use crate::domain::{AskedTo, CriterionVerdict, Finding, Order, Step, TaskSpec, Verdict, plan};
use crate::platform::rooted_fs::{self, RootedDir, RootedFsError};
use crate::ports::answer_schema::example;
use crate::ports::engine::{AttemptEnv, StepOutcome};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// Upper bound of an answer, in bytes.
pub const MAX_BYTES: usize = 1024 * 1024;
/// Upper bound of one text in it, in bytes.
const MAX_TEXT_BYTES: usize = 64 * 1024;
/// Upper bound of one finding, in bytes: a longer one is a report.
const MAX_FINDING_BYTES: usize = 8 * 1024;

/// Answer as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    notes: Option<String>,
    tasks: Option<Vec<WrittenTask>>,
    summary: Option<String>,
    verdict: Option<Verdict>,
    findings: Option<Vec<WrittenFinding>>,
    criteria: Option<Vec<WrittenVerdict>>,
    question: Option<String>,
    to: Option<AskedTo>,
    failed: Option<String>,
    /// Usage that a command reports.
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenVerdict {
    id: String,
    met: bool,
    #[serde(default)]
    why: String,
}

/// Reported usage.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenUsage {
    /// Tokens.
    #[serde(default)]
    pub tokens: u64,
    /// Cost in micro-USD.
    #[serde(default)]
    pub cost_micros: u64,
}

/// Parses an answer that is only JSON (a report file).
///
/// # Errors
/// The cause, with its position.
pub fn parse(bytes: &[u8]) -> Result<Answer, String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("it has {} bytes; the limit is {MAX_BYTES}", bytes.len()));
    }
    serde_json::from_slice(bytes).map_err(|e| e.to_string())
}

/// Parses an answer from a JSON value (the arguments of a tool).
///
/// # Errors
/// The cause.
pub fn from_value(value: Value) -> Result<Answer, String> {
    serde_json::from_value(value).map_err(|e| e.to_string())
}

/// Parses the answer at the end of a driven agent's output: its last JSON block.
///
/// # Errors
/// If there is no block, or the block is invalid.
pub fn from_output(text: &str) -> Result<Answer, String> {
    let block = last_json_block(text).ok_or("the last message has no fenced ```json block")?;
    parse(block.as_bytes()).map_err(|why| format!("the last ```json block is invalid: {why}"))
}

/// Finds the last JSON block of a text: the last fenced one (```` ```json ````, or an unnamed fence with an object in
/// it); without any fence, the text from the last line that starts with `{`. An unclosed block extends to the end.
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
            // A fence is closed by at least as many backticks and nothing else.
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

/// Writes the message to the author of an invalid answer, before it tries again.
pub fn correction(step: Step, why: &str) -> String {
    format!(
        "Your answer is invalid: {}. Send the complete answer again as {}, or as {{\"question\": \"…\"}} or {{\"failed\": \"…\"}}. \
         The rest of your work is kept.",
        truncate(why, 2_000),
        example(step)
    )
}

impl Answer {
    /// Returns the question or the failure, if there is one.
    pub fn question_or_failure(self) -> Option<StepOutcome> {
        match (self.question, self.failed) {
            (Some(question), _) => {
                let question = truncate(&question, MAX_TEXT_BYTES);
                Some(StepOutcome::Asked { question, to: self.to.unwrap_or_default() })
            }
            (None, Some(why)) => Some(StepOutcome::Failed(truncate(&why, MAX_TEXT_BYTES))),
            (None, None) => None,
        }
    }

    /// Converts the answer to a step's outcome: it must have exactly the fields of the step, and they must make sense
    /// (an acyclic plan, findings on existing files).
    ///
    /// # Errors
    /// The cause, for the author.
    pub fn into_outcome(self, order: &Order, env: &AttemptEnv) -> Result<StepOutcome, String> {
        let step = order.step;
        let Answer { notes, tasks, summary, verdict, findings, criteria, question, to, failed, usage: _ } = self;
        let text = |what: &str, text: String| match text.trim().is_empty() {
            true => Err(format!("{what} is empty")),
            false => Ok(truncate(&text, MAX_TEXT_BYTES)),
        };
        if to.is_some() && question.is_none() {
            return Err("`to` is only allowed with a question".to_owned());
        }
        if criteria.is_some() && verdict.is_none() {
            return Err("`criteria` is only allowed with a verdict".to_owned());
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
                Ok(StepOutcome::Edited { summary: truncate(&summary, MAX_TEXT_BYTES) })
            }
            (Step::Review, None, None, summary, Some(verdict), findings, None, None) => {
                let (findings, summary) = (findings.unwrap_or_default(), summary.unwrap_or_default());
                let criteria = criteria_verdicts(criteria.unwrap_or_default(), verdict, order)?;
                judged(verdict, findings, &summary, criteria, order, &env.dir)
            }
            _ => Err(format!("the {} step requires {} or a question", step.name(), example(step))),
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
    // The run's policy decides again when the report arrives; here the author can still fix the plan.
    let policy = match order.bounds.max_tasks {
        0 => Policy::default(),
        max_tasks => Policy { max_tasks, ..Policy::default() },
    };
    if let Some(why) = plan::refuse(&tasks, &policy) {
        return Err(why);
    }
    match tasks.iter().find(|t| t.title.trim().is_empty() || [&t.name, &t.title].iter().any(|s| has_control(s))) {
        Some(t) => Err(format!("task {:?} has no title, or its name or title contains a control character", t.name)),
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
    criteria: Vec<CriterionVerdict>,
    order: &Order,
    dir: &Path,
) -> Result<StepOutcome, String> {
    if findings.len() > Finding::MAX {
        return Err(format!("it has {} findings; the limit is {}", findings.len(), Finding::MAX));
    }
    if verdict == Verdict::Rework && findings.is_empty() && summary.trim().is_empty() {
        return Err("a rework verdict needs at least one finding, or a summary, that says what to change".to_owned());
    }
    let tree = RootedDir::open(dir).ok();
    for finding in &findings {
        if finding.text.trim().is_empty() {
            return Err(format!("the finding on {:?} has no text", truncate(&finding.path, 200)));
        }
        let path = &finding.path;
        if !path.is_empty() && !exists(path, order, tree.as_ref()) {
            return Err(format!(
                "a finding names {:?}, which is neither in the diff nor in the tree; name files as the diff does, relative to the \
                 root, and leave `path` empty for findings on the whole change",
                truncate(path, 200)
            ));
        }
    }
    let finding =
        |f: WrittenFinding| Finding { path: f.path, line: f.line, text: truncate(&f.text, MAX_FINDING_BYTES) };
    let findings = findings.into_iter().map(finding).collect();
    Ok(StepOutcome::Judged { verdict, findings, summary: truncate(summary, MAX_TEXT_BYTES), criteria })
}

/// Checks the verdicts on acceptance criteria: exactly one for each criterion without a command, and none unmet in an
/// approval.
fn criteria_verdicts(
    given: Vec<WrittenVerdict>,
    verdict: Verdict,
    order: &Order,
) -> Result<Vec<CriterionVerdict>, String> {
    let asked: Vec<&str> = order.criteria.iter().filter(|c| c.test.is_none()).map(|c| c.id.as_str()).collect();
    if let Some(id) = asked.iter().find(|id| given.iter().filter(|v| v.id == **id).count() != 1) {
        return Err(format!("`criteria` needs exactly one entry for the acceptance criterion {id:?}"));
    }
    if let Some(other) = given.iter().find(|v| !asked.contains(&v.id.as_str())) {
        let id = truncate(&other.id, 100);
        return Err(format!(
            "`criteria` has an entry for {id:?}, which is not a criterion that you are asked to judge"
        ));
    }
    if let Some(unmet) = given.iter().find(|v| !v.met && v.why.trim().is_empty()) {
        return Err(format!("the criterion {:?} is not met: say why in `why`", unmet.id));
    }
    if let Some(unmet) = given.iter().find(|v| !v.met && verdict == Verdict::Approve) {
        return Err(format!("the criterion {:?} is not met, so the verdict must be \"rework\"", unmet.id));
    }
    let verdict =
        |v: WrittenVerdict| CriterionVerdict { id: v.id, met: v.met, why: truncate(&v.why, MAX_FINDING_BYTES) };
    Ok(given.into_iter().map(verdict).collect())
}

/// Returns whether the path is in the diff or the tree. Entries that cannot be read (links, devices) exist, too.
fn exists(path: &str, order: &Order, tree: Option<&RootedDir>) -> bool {
    if order.diff.paths().any(|p| p == path) {
        return true;
    }
    rooted_fs::check(path).is_ok()
        && tree.is_some_and(|tree| !matches!(tree.size(path), Err(RootedFsError::Missing(_))))
}

/// Truncates a text to `max_bytes`.
fn truncate(text: &str, max_bytes: usize) -> String {
    text[..text.floor_char_boundary(max_bytes)].to_owned()
}
