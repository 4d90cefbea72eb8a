//! The tools: each parses its arguments, calls one use case, and returns a form.
//!
//! The description says when a tool is the wrong one, because a model chooses by it.

use super::form::{self, RunView};
use super::task;
use crate::domain::{Answer as BlockAnswer, Role, Run, Timestamp};
use crate::ports::ledger::SpendingBy;
use crate::render;
use crate::service::actions::{self, Target};
use crate::service::budgets::{self, SpendingQuery};
use crate::service::idempotency::IdempotencyKey;
use crate::service::runs::{self, OpenRun, RunQuery};
use crate::service::watch::{self, Seen};
use crate::service::{Caller, ServiceError, Services, artifacts, projects};
use rmcp::model::{Tool, ToolAnnotations};
use rmcp::schemars::{self, JsonSchema};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest wait of `wait_for_run`. Clients give up on a call after a minute at most.
const MAX_WAIT: Duration = Duration::from_secs(25);
/// Maximum number of rows and lines of one result.
const MAX_ROWS: u64 = 100;
const DEFAULT_LINES: usize = 200;

/// What a tool returns.
pub enum Answer {
    /// A form.
    Value(Value),
    /// A run that was opened, or reused.
    Started(Box<Run>),
}

impl Answer {
    /// Returns the value for clients without tasks.
    pub fn value(self, caller: &Caller, at: Timestamp) -> Value {
        match self {
            Answer::Value(value) => value,
            Answer::Started(run) => json(&RunView::of(&run, caller, at)),
        }
    }
}

/// Why a tool was not carried out.
pub enum CallError {
    /// No tool has this name.
    NoTool,
    /// The arguments do not match its schema.
    Arguments(String),
    /// The use case refused.
    Refused(ServiceError),
}

impl From<ServiceError> for CallError {
    fn from(error: ServiceError) -> CallError {
        CallError::Refused(error)
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListRuns {
    /// Only runs of this project.
    project: Option<String>,
    /// Only runs with this status: pending, planning, planned, running, paused, blocked, failed, cancelled, completed
    /// or quarantined.
    status: Option<String>,
    /// Only runs that have not ended.
    #[serde(default)]
    open: bool,
    /// Maximum number of rows, 1 to 100; 20 if absent.
    limit: Option<u64>,
    /// Only runs older than this one: `next_before` of the page before.
    before: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RunOnly {
    /// Id of the run, whole or shortened.
    run: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RunEvents {
    /// Id of the run, whole or shortened.
    run: String,
    /// Only events after this number.
    #[serde(default)]
    after: u64,
    /// Maximum number of events, 1 to 100; 50 if absent.
    limit: Option<u64>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RunDiff {
    /// Id of the run, whole or shortened.
    run: String,
    /// Only the latest patch of this task, such as `t1`.
    task: Option<String>,
    /// First line, counted from 1; 1 if absent.
    first_line: Option<usize>,
    /// Maximum number of lines; 200 if absent.
    lines: Option<usize>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RunOutput {
    /// Id of the run, whole or shortened.
    run: String,
    /// The attempt (`a1`), or the name of a check (`cargo-test`). The newest output of the run if absent.
    of: Option<String>,
    /// First line, counted from 1; if absent, the last lines are returned.
    first_line: Option<usize>,
    /// Maximum number of lines; 200 if absent.
    lines: Option<usize>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListQuestions {
    /// Only questions of this project's runs.
    project: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum By {
    Project,
    Role,
    Model,
    Day,
    Run,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GetSpending {
    /// What to sum up by.
    by: By,
    /// Only this project.
    project: Option<String>,
    /// Only this UTC day: `2026-11-21`, or `today`.
    day: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StartRun {
    /// Project; give either this or `repo`.
    project: Option<String>,
    /// Repository, an absolute path or a URL; it becomes a project the first time.
    repo: Option<String>,
    /// What should be different when the run is done, and how to tell that it is.
    goal: String,
    /// Branch to land on; the project's if absent.
    base: Option<String>,
    /// Engines by role (manager, dev, reviewer, ops, scout), as `KIND` or `KIND:ARG`; the project's if absent.
    #[serde(default)]
    engines: BTreeMap<String, String>,
    /// Check commands; the project's if empty.
    #[serde(default)]
    checks: Vec<String>,
    /// A unique string for this request, such as a UUID. The same key with the same request returns the same run, so
    /// a call whose answer was lost can be repeated.
    key: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CancelRun {
    /// Id of the run, whole or shortened.
    run: String,
    /// Reason, for the record.
    why: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RetryRun {
    /// Id of the run, whole or shortened.
    run: String,
    /// Hint for the next try.
    hint: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum AnswerWord {
    /// Go on, or try again.
    Yes,
    /// End the run undelivered; for an approval: decline it. `text` says why.
    No,
    /// Answer the question, or give a hint: `text`.
    Text,
    /// Drop the task and go on without it.
    Skip,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AnswerQuestion {
    /// Id of the run, whole or shortened.
    run: String,
    /// The block that is answered, such as `b1`.
    block: String,
    /// Kind of the answer.
    answer: AnswerWord,
    /// The text, for `text` and `no`.
    text: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WaitForRun {
    /// Id of the run, whole or shortened.
    run: String,
    /// `seq` of the run as you know it: the call returns as soon as the run is past it, and at once if it waits for an
    /// answer or has ended.
    #[serde(default)]
    seq: u64,
    /// Seconds to wait, at most 25; 25 if absent.
    seconds: Option<u64>,
}

/// Returns all tools.
pub fn all() -> Vec<Tool> {
    use form::{Events, Part, Preview, Projects, Questions, RunList, Spending};
    let read = || ToolAnnotations::new().read_only(true).open_world(false);
    let act = || ToolAnnotations::new().read_only(false).destructive(false).idempotent(true).open_world(false);
    vec![
        tool::<Nothing, Projects>("list_projects", "Projects", read(), "Lists the projects, with their repositories."),
        tool::<ListRuns, RunList>(
            "list_runs",
            "Runs",
            read(),
            "Lists runs, newest first. To see what waits for an answer, use list_questions.",
        ),
        tool::<RunOnly, RunView>(
            "get_run",
            "A run",
            read(),
            "Shows a run: what it is doing, its tasks, attempts, checks, gates, questions and outcome. To wait for a \
             change, use wait_for_run instead of calling this repeatedly.",
        ),
        tool::<RunEvents, Events>(
            "get_run_events",
            "Events of a run",
            read(),
            "Lists the events of a run in order. For its current state, use get_run.",
        ),
        tool::<RunDiff, Part>(
            "get_run_diff",
            "Diff of a run",
            read(),
            "Returns lines of the unified diff of a run, or of one of its tasks.",
        ),
        tool::<RunOutput, Part>(
            "get_run_output",
            "Output of a run",
            read(),
            "Returns lines of the output of an attempt or a check: the last ones, unless first_line is given.",
        ),
        tool::<ListQuestions, Questions>(
            "list_questions",
            "Questions",
            read(),
            "Lists the questions of all open runs. Those with person_only are answered by a person in Skep itself.",
        ),
        tool::<GetSpending, Spending>("get_spending", "Spending", read(), "Returns what runs cost, summed up."),
        tool::<StartRun, Preview>(
            "preview_run",
            "Preview a run",
            read(),
            "Returns what start_run would start with. Nothing is opened or spent.",
        ),
        tool::<StartRun, RunView>(
            "start_run",
            "Start a run",
            act(),
            "Opens a run on a goal. It works on its own from then on and spends money; use preview_run to look first. \
             Give a key, so that the call can be repeated.",
        ),
        tool::<RunOnly, RunView>(
            "pause_run",
            "Pause a run",
            act(),
            "Pauses a run: nothing new starts, and what is in progress finishes. To end it for good, use cancel_run.",
        ),
        tool::<RunOnly, RunView>("resume_run", "Resume a run", act(), "Resumes a paused run."),
        tool::<RetryRun, RunView>(
            "retry_run",
            "Retry a run",
            act(),
            "Gives a run that used up its tries as many again, or opens a new run for one that ended undelivered.",
        ),
        tool::<CancelRun, RunView>(
            "cancel_run",
            "Cancel a run",
            ToolAnnotations::new().read_only(false).destructive(true).idempotent(true).open_world(false),
            "Ends a run for good. Work that has not landed is not delivered.",
        ),
        tool::<AnswerQuestion, RunView>(
            "answer_question",
            "Answer a question",
            act(),
            "Answers a question of a run. Questions with person_only are refused: ask the person.",
        ),
        tool::<WaitForRun, RunView>(
            "wait_for_run",
            "Wait for a run",
            read(),
            "Waits until a run moves, asks something or ends, at most 25 seconds, and returns it. Call it again with \
             the new seq until the run has an outcome or a question.",
        ),
    ]
}

fn tool<In: JsonSchema + 'static, Out: JsonSchema + 'static>(
    name: &'static str,
    title: &str,
    hints: ToolAnnotations,
    description: &'static str,
) -> Tool {
    Tool::new(name, description, serde_json::Map::new())
        .with_title(title)
        .with_input_schema::<In>()
        .with_output_schema::<Out>()
        .with_annotations(hints)
}

/// Calls a tool.
///
/// # Errors
/// If there is no such tool, the arguments do not match its schema, or the use case refuses.
pub async fn call(s: &Services, caller: &Caller, name: &str, arguments: Value) -> Result<Answer, CallError> {
    match name {
        "list_projects" => {
            let Nothing {} = parse(arguments)?;
            let projects = projects::list(s, caller).await?.into_iter().map(|p| form::Project {
                project: p.name.to_string(),
                repo: p.repo,
                base: p.base.unwrap_or_default(),
            });
            Ok(value(&form::Projects { projects: projects.collect() }))
        }
        "list_runs" => {
            let ListRuns { project, status, open, limit, before } = parse(arguments)?;
            let query = RunQuery { project, status, open, limit: Some(limit.unwrap_or(20).min(MAX_ROWS)), before };
            let page = runs::list(s, caller, &query).await?;
            let next_before = page.next_before.map(|run| run.to_string());
            Ok(value(&form::RunList { runs: page.rows.into_iter().map(Into::into).collect(), next_before }))
        }
        "get_run" => {
            let RunOnly { run } = parse(arguments)?;
            view(s, caller, &runs::show(s, caller, &run).await?)
        }
        "get_run_events" => {
            let RunEvents { run, after, limit } = parse(arguments)?;
            let rows = runs::events(s, caller, &run, after, Some(limit.unwrap_or(50).min(MAX_ROWS))).await?;
            let last = rows.last().map_or(after, |row| row.seq);
            let events = rows.into_iter().map(|row| form::Event {
                seq: row.seq,
                at: render::utc(row.at),
                event: row.name.replace('_', " "),
            });
            Ok(value(&form::Events { events: events.collect(), last }))
        }
        "get_run_diff" => {
            let RunDiff { run, task, first_line, lines } = parse(arguments)?;
            let file = artifacts::patch(s, caller, &run, task.as_deref()).await?;
            let text = String::from_utf8_lossy(&file.bytes);
            let lines = lines.unwrap_or(DEFAULT_LINES);
            Ok(value(&form::Part::of(&file.name, &text, first_line.unwrap_or(1), lines)))
        }
        "get_run_output" => {
            let RunOutput { run, of, first_line, lines } = parse(arguments)?;
            let (from, text) = output(s, caller, &run, of.as_deref()).await?;
            let lines = lines.unwrap_or(DEFAULT_LINES);
            let first = first_line.unwrap_or_else(|| (text.lines().count() + 1).saturating_sub(lines));
            Ok(value(&form::Part::of(&from, &text, first, lines)))
        }
        "list_questions" => {
            let ListQuestions { project } = parse(arguments)?;
            questions(s, caller, project).await
        }
        "get_spending" => {
            let GetSpending { by, project, day } = parse(arguments)?;
            let by = match by {
                By::Project => SpendingBy::Project,
                By::Role => SpendingBy::Role,
                By::Model => SpendingBy::Model,
                By::Day => SpendingBy::Day,
                By::Run => SpendingBy::Run,
            };
            let query = SpendingQuery { by, project, run: None, day, limit: Some(MAX_ROWS) };
            let rows = budgets::spending(s, caller, &query).await?;
            Ok(value(&form::Spending { rows: rows.into_iter().map(Into::into).collect() }))
        }
        "preview_run" => {
            let (request, _) = open_run(parse(arguments)?)?;
            let preview = runs::preview(s, caller, request).await?;
            Ok(value(&form::Preview::from(preview)))
        }
        "start_run" => {
            let (request, key) = open_run(parse(arguments)?)?;
            let key = key.as_deref().map(IdempotencyKey::parse).transpose()?;
            let opened = runs::open(s, caller, request, key.as_ref()).await?;
            Ok(Answer::Started(Box::new(opened.run)))
        }
        "wait_for_run" => wait_for_run(s, caller, parse(arguments)?).await,
        _ => act(s, caller, name, arguments).await,
    }
}

/// Calls a tool that acts on a run.
async fn act(s: &Services, caller: &Caller, name: &str, arguments: Value) -> Result<Answer, CallError> {
    let run = match name {
        "pause_run" => {
            let RunOnly { run } = parse(arguments)?;
            actions::pause(s, caller, &Target { run: &run, if_seq: None }).await?
        }
        "resume_run" => {
            let RunOnly { run } = parse(arguments)?;
            actions::resume(s, caller, &Target { run: &run, if_seq: None }).await?
        }
        "retry_run" => {
            let RetryRun { run, hint } = parse(arguments)?;
            actions::retry(s, caller, &Target { run: &run, if_seq: None }, None, hint, None).await?.run
        }
        "cancel_run" => {
            let CancelRun { run, why } = parse(arguments)?;
            actions::cancel(s, caller, &Target { run: &run, if_seq: None }, why).await?
        }
        "answer_question" => {
            let AnswerQuestion { run: id, block, answer, text } = parse(arguments)?;
            let answer = match (answer, text) {
                (AnswerWord::Yes, _) => BlockAnswer::Yes,
                (AnswerWord::Skip, _) => BlockAnswer::Skip,
                (AnswerWord::No, text) => BlockAnswer::No { why: text.unwrap_or_default() },
                (AnswerWord::Text, Some(text)) => BlockAnswer::Text { text },
                (AnswerWord::Text, None) => {
                    return Err(CallError::Arguments("`text` is missing: the answer `text` needs it".to_owned()));
                }
            };
            let run = runs::show(s, caller, &id).await?;
            task::give(s, caller, &Target { run: &id, if_seq: None }, &run, &block, answer).await?
        }
        _ => return Err(CallError::NoTool),
    };
    view(s, caller, &run)
}

fn open_run(start: StartRun) -> Result<(OpenRun, Option<String>), CallError> {
    let StartRun { project, repo, goal, base, engines, checks, key } = start;
    let role = |name: String| {
        serde_json::from_value::<Role>(Value::String(name.clone())).map_err(|_| {
            CallError::Arguments(format!("engines: {} is not a role", crate::service::error::shown(&name)))
        })
    };
    let engines =
        engines.into_iter().map(|(name, engine)| Ok((role(name)?, engine))).collect::<Result<_, CallError>>()?;
    let reuse_open_run = false;
    Ok((OpenRun { project, repo, goal, base, engines, checks, reuse_open_run, ..OpenRun::default() }, key))
}

async fn questions(s: &Services, caller: &Caller, project: Option<String>) -> Result<Answer, CallError> {
    let query = RunQuery { project, status: None, open: true, limit: Some(500), before: None };
    let page = runs::list(s, caller, &query).await?;
    let waiting = page.rows.iter().filter(|row| !row.blocks.is_empty()).take(MAX_ROWS as usize);
    let mut questions = Vec::new();
    for row in waiting {
        // A run that cannot be read has no question to answer; the others still have.
        if let Ok(run) = runs::show(s, caller, &row.run.to_string()).await {
            questions.extend(form::questions(&run, caller));
        }
    }
    Ok(value(&form::Questions { questions }))
}

/// Returns the output of an attempt or a check, with its source.
async fn output(s: &Services, caller: &Caller, run: &str, of: Option<&str>) -> Result<(String, String), CallError> {
    let logs = artifacts::logs(s, caller, run).await?;
    let is_it = |log: &&artifacts::Log| match of {
        None => true,
        Some(of) => log.attempt.is_some_and(|a| a.to_string() == of) || log.artifact.name.starts_with(of),
    };
    let Some(log) = logs.iter().rev().find(is_it) else {
        let what = "the run has no such output".to_owned();
        return Err(ServiceError::not_found("no_output", what, "Leave out `of`, or look at get_run").into());
    };
    let file = artifacts::bytes(s, caller, run, &log.artifact.digest.0).await?;
    let text = String::from_utf8_lossy(&file.bytes);
    // Escape sequences mean nothing to a model.
    let plain: String = text.chars().filter(|c| *c == '\n' || *c == '\t' || !c.is_control()).collect();
    Ok((file.name, plain))
}

async fn wait_for_run(s: &Services, caller: &Caller, wait: WaitForRun) -> Result<Answer, CallError> {
    let WaitForRun { run: id, seq, seconds } = wait;
    let is_over = |run: &Run| run.seq > seq || run.ended() || !run.blocks.is_empty();
    let run = runs::show(s, caller, &id).await?;
    if is_over(&run) {
        return view(s, caller, &run);
    }
    let longest = seconds.map_or(MAX_WAIT, Duration::from_secs).min(MAX_WAIT);
    let mut watch = watch::watch(s, caller, &id, run.seq).await?;
    let moved = async {
        loop {
            match watch.next().await {
                Some(Seen::Output { .. }) => {}
                Some(Seen::Row(_) | Seen::End { .. }) | None => break,
            }
        }
    };
    // Whether it moved or the time is over, the run as it is now is the answer.
    let _elapsed = tokio::time::timeout(longest, moved).await;
    view(s, caller, &runs::show(s, caller, &id).await?)
}

fn view(s: &Services, caller: &Caller, run: &Run) -> Result<Answer, CallError> {
    Ok(value(&RunView::of(run, caller, s.clock.now())))
}

fn value(form: &impl serde::Serialize) -> Answer {
    Answer::Value(json(form))
}

fn json(form: &impl serde::Serialize) -> Value {
    serde_json::to_value(form).unwrap_or_default()
}

fn parse<T: DeserializeOwned>(arguments: Value) -> Result<T, CallError> {
    serde_json::from_value(arguments).map_err(|e| CallError::Arguments(e.to_string()))
}
