//! Calls of tools: each parses its arguments, calls one use case, and returns a form.

use super::arguments::{
    AnswerQuestion, AnswerWord, Approve, By, CancelRun, GetDeployment, GetSpending, ListQuestions, ListRuns, Nothing,
    RaiseBudget, RetryRun, RunDiff, RunEvents, RunOnly, RunOutput, SearchMemory, StartRun, parse,
};
use super::form;
use super::results::Part;
use super::run_view::{RunBrief, RunView};
use super::tools::CallError;
use super::{task, wait, work};
use crate::domain::{Answer as BlockAnswer, Run};
use crate::ports::ledger::SpendingBy;
use crate::service::actions::{self, NewSettings, Retry, Target};
use crate::service::budgets::{self, SpendingQuery};
use crate::service::idempotency::IdempotencyKey;
use crate::service::memory::{self, MemoryQuery};
use crate::service::runs::{self, RunQuery};
use crate::service::{Caller, ServiceError, Services, artifacts, deployments, projects};
use rmcp::RoleServer;
use rmcp::service::RequestContext;
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Maximum number of rows of one result.
pub(super) const MAX_ROWS: u64 = 100;
/// Maximum number of runs whose questions are listed.
const MAX_ASKING: usize = 50;
/// Open runs that are searched for questions in one call.
const MAX_SEARCHED: u64 = 500;
const DEFAULT_LINES: usize = 200;
/// Maximum number of rows of memory of one result.
const MAX_FOUND: u64 = 5;
/// Maximum number of outputs that a refusal names.
const MAX_NAMED: usize = 20;

/// What a tool returns.
pub enum Answer {
    /// A form.
    Value(Value),
    /// A run that was opened, or found by its key.
    Started(Box<Run>),
}

/// A call in progress.
pub struct Call<'a> {
    /// Use cases.
    pub services: &'a Services,
    /// The agent.
    pub caller: &'a Caller,
    /// The request, for cancellation and progress.
    pub request: &'a RequestContext<RoleServer>,
    /// Permits for calls that wait.
    pub streams: &'a Arc<Semaphore>,
    /// Trace context of the request.
    pub traceparent: Option<String>,
}

impl Call<'_> {
    /// Carries out a call of a tool.
    ///
    /// # Errors
    /// If there is no such tool, the arguments do not match its schema, or the use case refuses.
    pub async fn carry_out(&self, tool: &str, arguments: Value) -> Result<Answer, CallError> {
        match tool {
            "wait_for_run" => self.brief(&wait::wait_for_run(self, parse(arguments)?).await?),
            "start_run" => self.start(parse(arguments)?).await,
            "preview_run" => {
                let start: StartRun = parse(arguments)?;
                let (request, _) = start.into_request(None)?;
                value(&form::Preview::from(runs::preview(self.services, self.caller, request).await?))
            }
            "pause_run" | "resume_run" | "retry_run" | "cancel_run" | "answer_question" | "approve"
            | "raise_budget" => self.brief(&self.act(tool, arguments).await?),
            _ if tool.starts_with("work_") => work::call(self, tool, arguments).await,
            _ => self.read(tool, arguments).await,
        }
    }

    fn brief(&self, run: &Run) -> Result<Answer, CallError> {
        value(&RunBrief::of(run, self.caller, self.services.clock.now()))
    }

    async fn start(&self, start: StartRun) -> Result<Answer, CallError> {
        let (request, key) = start.into_request(self.traceparent.clone())?;
        let key = key.as_deref().map(IdempotencyKey::parse).transpose()?;
        let opened = runs::open(self.services, self.caller, request, key.as_ref()).await?;
        Ok(Answer::Started(Box::new(opened.run)))
    }

    async fn act(&self, tool: &str, arguments: Value) -> Result<Run, CallError> {
        let (s, caller) = (self.services, self.caller);
        let run = match tool {
            "pause_run" => {
                let RunOnly { run } = parse(arguments)?;
                actions::pause(s, caller, &target(&run)).await?
            }
            "resume_run" => {
                let RunOnly { run } = parse(arguments)?;
                actions::resume(s, caller, &target(&run)).await?
            }
            "retry_run" => {
                let RetryRun { run, hint } = parse(arguments)?;
                let how = Retry { block: None, hint, more: None, settings: &NewSettings::default() };
                actions::retry(s, caller, &target(&run), how, self.traceparent.clone()).await?.run
            }
            "cancel_run" => {
                let CancelRun { run, why } = parse(arguments)?;
                actions::cancel(s, caller, &target(&run), why).await?
            }
            "approve" => {
                let Approve { run, block, subject } = parse(arguments)?;
                actions::approve_seen(s, caller, &target(&run), &block, &subject).await?
            }
            "raise_budget" => {
                let asked: RaiseBudget = parse(arguments)?;
                let (run, raise) = asked.into_raise();
                actions::raise(s, caller, &target(&run), raise).await?
            }
            "answer_question" => {
                let AnswerQuestion { run, block, answer, text } = parse(arguments)?;
                let answer = match (answer, text) {
                    (AnswerWord::Yes, _) => BlockAnswer::Yes,
                    (AnswerWord::Skip, _) => BlockAnswer::Skip,
                    (AnswerWord::No, text) => BlockAnswer::No { why: text.unwrap_or_default() },
                    (AnswerWord::Text, Some(text)) => BlockAnswer::Text { text },
                    (AnswerWord::Text, None) => {
                        return Err(CallError::Arguments("`text` is missing: the answer `text` needs it".to_owned()));
                    }
                };
                task::give(s, caller, &run, &block, answer).await?
            }
            _ => return Err(CallError::NoTool),
        };
        Ok(run)
    }

    async fn read(&self, tool: &str, arguments: Value) -> Result<Answer, CallError> {
        let (s, caller) = (self.services, self.caller);
        match tool {
            "list_projects" => {
                let Nothing {} = parse(arguments)?;
                let projects = projects::list(s, caller).await?.into_iter().map(|p| form::Project {
                    project: p.name.to_string(),
                    repo: p.repo,
                    base: p.base.unwrap_or_default(),
                });
                value(&form::Projects { projects: projects.collect() })
            }
            "list_runs" => {
                let ListRuns { project, status, open, limit, before } = parse(arguments)?;
                let query = RunQuery { project, status, open, limit: Some(limit.unwrap_or(20).min(MAX_ROWS)), before };
                let page = runs::list(s, caller, &query).await?;
                let next_before = page.next_before.map(|run| run.to_string());
                value(&form::RunList { runs: page.rows.into_iter().map(Into::into).collect(), next_before })
            }
            "get_run" => {
                let RunOnly { run } = parse(arguments)?;
                value(&RunView::of(&runs::show(s, caller, &run).await?, caller, s.clock.now()))
            }
            "get_run_events" => {
                let RunEvents { run, after, limit } = parse(arguments)?;
                let rows = runs::events(s, caller, &run, after, Some(limit.unwrap_or(50).min(MAX_ROWS))).await?;
                let last = rows.last().map_or(after, |row| row.seq);
                value(&form::Events { events: rows.into_iter().map(Into::into).collect(), last })
            }
            "get_run_diff" => {
                let RunDiff { run, task, first_line, lines } = parse(arguments)?;
                let file = artifacts::patch(s, caller, &run, task.as_deref()).await?;
                let diff = String::from_utf8_lossy(&file.bytes);
                let first = first_line.unwrap_or(1);
                let part = Part::of(&file.name, &diff, first, lines.unwrap_or(DEFAULT_LINES));
                value(&if first == 1 { part.with_files(&diff) } else { part })
            }
            "get_run_output" => self.output(parse(arguments)?).await,
            "list_questions" => self.questions(parse(arguments)?).await,
            "search_memory" => {
                let SearchMemory { project, text } = parse(arguments)?;
                let query = MemoryQuery {
                    project: Some(project),
                    q: Some(text),
                    limit: Some(MAX_FOUND),
                    ..MemoryQuery::default()
                };
                let found = memory::list(s, caller, &query).await?;
                value(&form::Memories {
                    memories: found.iter().filter_map(|found| form::memory(&found.memory)).collect(),
                })
            }
            "get_spending" => {
                let GetSpending { by, project, run, day } = parse(arguments)?;
                let by = match by {
                    By::Project => SpendingBy::Project,
                    By::Role => SpendingBy::Role,
                    By::Model => SpendingBy::Model,
                    By::Day => SpendingBy::Day,
                    By::Run => SpendingBy::Run,
                };
                let query = SpendingQuery { by, project, run, day, limit: Some(MAX_ROWS) };
                let rows = budgets::spending(s, caller, &query).await?;
                value(&form::Spending { rows: rows.into_iter().map(Into::into).collect() })
            }
            "get_deployment" => {
                let GetDeployment { project } = parse(arguments)?;
                let all = deployments::list(s, caller).await?.into_iter();
                let is_asked = |view: &deployments::DeploymentView| {
                    project.as_ref().is_none_or(|project| view.target.project.as_str() == project)
                };
                value(&form::Deployments { deployments: all.filter(is_asked).map(Into::into).collect() })
            }
            _ => Err(CallError::NoTool),
        }
    }

    /// Returns the questions of open runs, page by page.
    async fn questions(&self, list: ListQuestions) -> Result<Answer, CallError> {
        let ListQuestions { project, limit, before } = list;
        let query = RunQuery { project, status: None, open: true, limit: Some(MAX_SEARCHED), before };
        let page = runs::list(self.services, self.caller, &query).await?;
        let mut asking = page.rows.iter().filter(|row| !row.blocks.is_empty() && row.quarantined.is_none());
        let shown: Vec<_> = asking.by_ref().take(limit.unwrap_or(10).clamp(1, MAX_ASKING)).collect();
        let is_cut = asking.next().is_some();
        let mut questions = Vec::new();
        for row in &shown {
            let run = runs::show(self.services, self.caller, &row.run.to_string()).await?;
            questions.extend(form::questions(&run, self.caller));
        }
        let next = if is_cut { shown.last().map(|row| row.run) } else { page.next_before };
        value(&form::Questions { questions, next_before: next.map(|run| run.to_string()) })
    }

    /// Returns lines of the output of an attempt or a check.
    async fn output(&self, asked: RunOutput) -> Result<Answer, CallError> {
        let RunOutput { run, of, first_line, lines } = asked;
        let logs = artifacts::logs(self.services, self.caller, &run).await?;
        let is_it = |log: &&artifacts::Log| match of.as_deref() {
            None => log.artifact.size > 0,
            Some(of) => log.attempt.is_some_and(|a| a.to_string() == of) || log.artifact.name.starts_with(of),
        };
        let Some(log) = logs.iter().rev().find(is_it) else {
            let name = |log: &artifacts::Log| match log.attempt {
                Some(attempt) => format!("{} ({attempt})", log.artifact.name),
                None => log.artifact.name.clone(),
            };
            let names: Vec<String> = logs.iter().rev().take(MAX_NAMED).map(name).collect();
            let fix = match names.is_empty() {
                true => "Wait until an attempt or a check of the run has ended".to_owned(),
                false => format!("Leave out `of`, or name an output or its attempt: {}", names.join(", ")),
            };
            return Err(ServiceError::not_found("no_output", "the run has no such output", fix).into());
        };
        let file = artifacts::bytes(self.services, self.caller, &run, &log.artifact.digest.0).await?;
        let text = without_escapes(&String::from_utf8_lossy(&file.bytes));
        let lines = lines.unwrap_or(DEFAULT_LINES).max(1);
        let first = first_line.unwrap_or_else(|| (text.lines().count() + 1).saturating_sub(lines));
        value(&Part::of(&file.name, &text, first, lines))
    }
}

fn target(run: &str) -> Target<'_> {
    Target { run, if_seq: None }
}

/// Returns a form as an answer.
pub(super) fn value(form: &impl serde::Serialize) -> Result<Answer, CallError> {
    // The forms consist of plain values, which always serialize.
    Ok(Answer::Value(serde_json::to_value(form).unwrap_or_default()))
}

/// Removes the control sequences of terminals (ECMA-48), which mean nothing to a model.
fn without_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' if chars.next_if_eq(&'[').is_some() => {
                // Parameters and intermediates up to the final character.
                while chars.next_if(|c| (' '..='?').contains(c)).is_some() {}
                let _last = chars.next_if(|c| ('@'..='~').contains(c));
            }
            '\r' if chars.peek() == Some(&'\n') => {}
            c => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_are_removed_and_other_control_characters_stay_to_be_shown() {
        assert_eq!(without_escapes("\u{1b}[1;31mred\u{1b}[0m\r\nend\u{7}"), "red\nend\u{7}");
        assert_eq!(without_escapes("\u{1b}]0;title\u{7}x\u{1b}["), "\u{1b}]0;title\u{7}x");
    }
}
