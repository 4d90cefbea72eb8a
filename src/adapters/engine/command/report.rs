//! The report a command may write: JSON, strict, exactly one result that suits its step.
//!
//! | step | result |
//! |---|---|
//! | `explore` | `{"notes": "…"}` |
//! | `plan` | `{"tasks": [{"name", "title", "text", "needs", "paths"}]}` |
//! | `develop` | `{"summary": "…"}` |
//! | `review` | `{"verdict": "approve" \| "rework", "findings": [{"path", "line", "text"}], "summary": "…"}` |
//! | any | `{"question": "…"}` or `{"failed": "…"}` |
//!
//! Any of them may add `"usage": {"tokens": 0, "cost_micros": 0}`.

use crate::domain::{Finding, Step, TaskSpec, Verdict};
use crate::ports::engine::Work;
use serde::Deserialize;

/// Its name in the scratch folder.
pub const FILE: &str = "report.json";
/// The largest report read.
pub const BYTES_MAX: u64 = 1024 * 1024;
/// The longest text in it.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// A report as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    notes: Option<String>,
    tasks: Option<Vec<WrittenTask>>,
    summary: Option<String>,
    verdict: Option<Verdict>,
    findings: Option<Vec<WrittenFinding>>,
    question: Option<String>,
    failed: Option<String>,
    /// What it spent.
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

/// Reads a report.
///
/// # Errors
/// What is wrong, with the place.
pub fn parse(bytes: &[u8]) -> Result<Written, String> {
    serde_json::from_slice(bytes).map_err(|e| e.to_string())
}

/// What a step's report must have.
pub fn expected(step: Step) -> &'static str {
    match step {
        Step::Explore => r#"{"notes": "…"}"#,
        Step::Plan => r#"{"tasks": [{"name": "…", "title": "…", "text": "…"}]}"#,
        Step::Develop => r#"{"summary": "…"}"#,
        Step::Review => {
            r#"{"verdict": "approve" or "rework", "findings": [{"path": "…", "line": 1, "text": "…"}], "summary": "…"}"#
        }
    }
}

impl Written {
    /// The question or the failure in it.
    pub fn trouble(self) -> Option<Work> {
        match (self.question, self.failed) {
            (Some(question), _) => Some(Work::Asked(cut(question))),
            (None, Some(why)) => Some(Work::Failed(cut(why))),
            (None, None) => None,
        }
    }

    /// Its result for a step.
    ///
    /// # Errors
    /// When it has not exactly what the step's report must have.
    pub fn work(self, step: Step) -> Result<Work, String> {
        let Written { notes, tasks, summary, verdict, findings, question, failed, usage: _ } = self;
        let wrong = || format!("the {} step needs {} or a question", step.name(), expected(step));
        match (step, notes, tasks, summary, verdict, findings, question, failed) {
            (_, None, None, None, None, None, Some(question), None) if !question.trim().is_empty() => {
                Ok(Work::Asked(cut(question)))
            }
            (_, None, None, None, None, None, None, Some(why)) => Ok(Work::Failed(cut(why))),
            (Step::Explore, Some(notes), None, None, None, None, None, None) => Ok(Work::Notes(cut(notes))),
            (Step::Plan, None, Some(tasks), None, None, None, None, None) => {
                let task = |t: WrittenTask| TaskSpec {
                    name: t.name,
                    text: if t.text.is_empty() { t.title.clone() } else { t.text },
                    title: t.title,
                    needs: t.needs,
                    paths: t.paths,
                };
                Ok(Work::Tasks(tasks.into_iter().map(task).collect()))
            }
            (Step::Develop, None, None, Some(summary), None, None, None, None) => {
                Ok(Work::Edited { summary: cut(summary) })
            }
            (Step::Review, None, None, summary, Some(verdict), findings, None, None) => {
                let findings = findings.unwrap_or_default();
                if findings.len() > Finding::MOST {
                    return Err(format!("it has {} findings; at most {} are taken", findings.len(), Finding::MOST));
                }
                if verdict == Verdict::Rework && findings.is_empty() {
                    return Err("a rework verdict needs at least one finding that says what to change".to_owned());
                }
                let finding = |f: WrittenFinding| Finding { path: f.path, line: f.line, text: cut(f.text) };
                let findings = findings.into_iter().map(finding).collect();
                Ok(Work::Judged { verdict, findings, summary: cut(summary.unwrap_or_default()) })
            }
            _ => Err(wrong()),
        }
    }
}

/// Text cut to the cap.
fn cut(mut text: String) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
