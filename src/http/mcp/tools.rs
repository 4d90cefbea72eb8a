//! The tools: names, descriptions, schemas and hints.
//!
//! The description says when a tool is the wrong one, because a model chooses by it.

use super::arguments::{
    AnswerQuestion, Approve, CancelRun, GetDeployment, GetSpending, ListQuestions, ListRuns, Nothing, RaiseBudget,
    RetryRun, RunDiff, RunEvents, RunOnly, RunOutput, SearchMemory, StartRun, WaitForRun,
};
use super::form::{Deployments, Events, Memories, Preview, Projects, Questions, RunList, Spending};
use super::results::Part;
use super::run_view::{RunBrief, RunView};
use super::work;
use crate::service::{Caller, Right, ServiceError};
use rmcp::model::{Tool, ToolAnnotations};
use rmcp::schemars::JsonSchema;
use serde_json::Value;
use std::sync::Arc;

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

/// Returns the tools that a caller can use.
pub fn of(caller: &Caller) -> Vec<Tool> {
    let given = |(right, tools): (Right, Vec<Tool>)| caller.has_somewhere(right).then_some(tools);
    all().into_iter().filter_map(given).flatten().collect()
}

/// Returns whether a call that may have been carried out can be sent again without doing more than once.
pub fn is_repeatable(name: &str) -> bool {
    let is_it = |tool: &&Tool| tool.name == name;
    let all: Vec<Tool> = all().into_iter().flat_map(|(_, tools)| tools).collect();
    let hints = all.iter().find(is_it).and_then(|tool| tool.annotations.as_ref());
    hints.is_some_and(|hints| hints.read_only_hint == Some(true) || hints.idempotent_hint == Some(true))
}

/// Returns all tools by the right that each needs.
fn all() -> [(Right, Vec<Tool>); 5] {
    [
        (Right::Read, reading()),
        (Right::Run, acting()),
        (Right::Approve, vec![approve()]),
        (Right::Budget, vec![raise()]),
        (Right::Work, work::tools()),
    ]
}

fn reading() -> Vec<Tool> {
    let hints = || ToolAnnotations::new().read_only(true).open_world(false);
    vec![
        tool::<Nothing, Projects>("list_projects", "Projects", hints(), "Lists the projects, with their repositories."),
        tool::<ListRuns, RunList>(
            "list_runs",
            "Runs",
            hints(),
            "Lists runs, newest first. To see what waits for an answer, use list_questions.",
        ),
        tool::<RunOnly, RunView>(
            "get_run",
            "A run",
            hints(),
            "Shows a run: what it is doing, its tasks, attempts, checks, gates, questions, costs and outcome. To wait \
             for a change, use wait_for_run instead of calling this repeatedly.",
        ),
        tool::<RunEvents, Events>(
            "get_run_events",
            "Events of a run",
            hints(),
            "Lists the events of a run in order. For its current state, use get_run.",
        ),
        tool::<RunDiff, Part>(
            "get_run_diff",
            "Diff of a run",
            hints(),
            "Returns lines of the unified diff of a run, or of one of its tasks, and where each file begins.",
        ),
        tool::<RunOutput, Part>(
            "get_run_output",
            "Output of a run",
            hints(),
            "Returns lines of the output of an attempt or a check: the last ones, unless first_line is given. An output \
             is available when its attempt or check has ended.",
        ),
        tool::<ListQuestions, Questions>(
            "list_questions",
            "Questions",
            hints(),
            "Lists the questions of all open runs. Those with person_only are answered by a person in Skep itself.",
        ),
        tool::<SearchMemory, Memories>(
            "search_memory",
            "Memory",
            hints(),
            "Finds what earlier runs in a project have shown that fits a text. It may be out of date: check it.",
        ),
        tool::<GetSpending, Spending>("get_spending", "Spending", hints(), "Returns what runs cost, summed up."),
        tool::<GetDeployment, Deployments>(
            "get_deployment",
            "Deployments",
            hints(),
            "Returns where projects are deployed. Deploying is not possible over this protocol.",
        ),
        tool::<WaitForRun, RunBrief>(
            "wait_for_run",
            "Wait for a run",
            hints(),
            "Waits until a run moves, or asks something or ends, and returns it in brief. Call it again with the new seq until \
             the run has an outcome or a question. Clients that send a progress token are notified of each event.",
        ),
    ]
}

fn acting() -> Vec<Tool> {
    let hints = || ToolAnnotations::new().read_only(false).destructive(false).idempotent(true).open_world(false);
    vec![
        tool::<StartRun, Preview>(
            "preview_run",
            "Preview a run",
            ToolAnnotations::new().read_only(true).open_world(true),
            "Returns what start_run would start with. Nothing is opened or spent.",
        ),
        tool::<StartRun, RunBrief>(
            "start_run",
            "Start a run",
            // Repeatable only with a key.
            hints().idempotent(false).open_world(true),
            "Opens a run on a goal. It works on its own from then on and spends money; use preview_run to look first. \
             Give a key, so that the call can be repeated.",
        ),
        tool::<RunOnly, RunBrief>(
            "pause_run",
            "Pause a run",
            hints(),
            "Pauses a run: nothing new starts, and what is in progress finishes. To end it for good, use cancel_run.",
        ),
        tool::<RunOnly, RunBrief>(
            "resume_run",
            "Resume a run",
            hints(),
            "Resumes a run that was paused, or that nobody carries because the process that did has ended.",
        ),
        tool::<RetryRun, RunBrief>(
            "retry_run",
            "Retry a run",
            hints(),
            "Gives a run that used up its tries as many again, or opens a new run for one that ended undelivered.",
        ),
        tool::<CancelRun, RunBrief>(
            "cancel_run",
            "Cancel a run",
            hints().destructive(true),
            "Ends a run for good. Work that has not landed is not delivered.",
        ),
        tool::<AnswerQuestion, RunBrief>(
            "answer_question",
            "Answer a question",
            // An answer may end the run or drop a task.
            hints().destructive(true),
            "Answers a question of a run. Its `answers` name what can be given; for a person_only question, ask the \
             person.",
        ),
    ]
}

fn approve() -> Tool {
    tool::<Approve, RunBrief>(
        "approve",
        "Approve",
        // An approved change lands on the base branch.
        ToolAnnotations::new().read_only(false).destructive(true).idempotent(true).open_world(true),
        "Gives an approval that a run asks for, in the name of the person whose token you use. Look at get_run_diff \
         first; nothing is approved if the subject has changed since. To decline, use answer_question.",
    )
}

fn raise() -> Tool {
    tool::<RaiseBudget, RunBrief>(
        "raise_budget",
        "Raise a budget",
        ToolAnnotations::new().read_only(false).destructive(false).idempotent(false).open_world(false),
        "Adds to the limits of a run, which spends more money by it. Each call adds again.",
    )
}

fn tool<In: JsonSchema + 'static, Out: JsonSchema + 'static>(
    name: &'static str,
    title: &str,
    hints: ToolAnnotations,
    description: &'static str,
) -> Tool {
    let mut tool = Tool::new(name, description, serde_json::Map::new())
        .with_title(title)
        .with_input_schema::<In>()
        .with_output_schema::<Out>()
        .with_annotations(hints);
    // Clients check results against this schema; nobody reads it, and each byte of it may be in a model's context.
    if let Some(schema) = &mut tool.output_schema {
        Arc::make_mut(schema).values_mut().for_each(remove_descriptions);
    }
    tool
}

fn remove_descriptions(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            // A property of that name would be an object.
            fields.retain(|name, value| name != "description" || !value.is_string());
            fields.values_mut().for_each(remove_descriptions);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_descriptions),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_add_or_open_are_not_repeated() {
        for name in ["get_run", "wait_for_run", "cancel_run", "answer_question", "approve", "retry_run"] {
            assert!(is_repeatable(name), "{name}");
        }
        for name in ["start_run", "raise_budget", "unknown"] {
            assert!(!is_repeatable(name), "{name}");
        }
    }
}
