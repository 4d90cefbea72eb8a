//! A run as a task of the tasks extension (SEP-2663): the task's id is the run's id, and its state is read from the
//! store at each request, so it survives a restart.

use super::form;
use super::results;
use super::run_view::RunBrief;
use crate::domain::{Answer, Block, Outcome, Run, Timestamp};
use crate::render;
use crate::service::actions::{self, NewSettings, Target};
use crate::service::{Caller, ServiceError, ServiceResult, Services, runs};
use rmcp::model::{
    BooleanSchema, CallToolResult, DetailedTask, ElicitRequest, ElicitRequestParams, ElicitationSchema, InputRequest,
    InputRequests, InputResponses, PrimitiveSchemaDefinition, StringSchema, Task, TaskPayload, TaskStatus,
};
use serde_json::Value;

/// How often a client should ask, in milliseconds.
const POLL_MS: u64 = 5_000;

/// Returns the task of a run.
pub fn of(run: &Run, caller: &Caller, at: Timestamp) -> Task {
    let status = match &run.outcome {
        Some(Outcome::Cancelled { .. }) if run.ended() => TaskStatus::Cancelled,
        Some(_) if run.ended() => TaskStatus::Completed,
        _ if run.blocks.iter().any(|b| takes_form(run, caller, b)) => TaskStatus::InputRequired,
        _ => TaskStatus::Working,
    };
    Task::new(run.id.to_string(), status, iso(run.opened_at), iso(at))
        .with_status_message(results::clean(&render::now(run, at)))
        .with_poll_interval_ms(POLL_MS)
}

/// Returns the task of a run with its questions or its result.
pub fn detailed(run: &Run, caller: &Caller, at: Timestamp) -> DetailedTask {
    let task = of(run, caller, at);
    let payload = match task.status {
        TaskStatus::Cancelled => TaskPayload::Cancelled,
        TaskStatus::InputRequired => TaskPayload::InputRequired { input_requests: requests(run, caller) },
        TaskStatus::Completed => TaskPayload::Completed { result: result(run, caller, at) },
        _ => TaskPayload::Working,
    };
    DetailedTask::new(task, payload)
}

/// Returns the result of `start_run`, once the run has ended.
fn result(run: &Run, caller: &Caller, at: Timestamp) -> rmcp::model::JsonObject {
    let view = serde_json::to_value(RunBrief::of(run, caller, at)).unwrap_or_default();
    let mut result: CallToolResult = results::success(view);
    if !matches!(run.outcome, Some(Outcome::Delivered { .. } | Outcome::Unchanged)) {
        result.is_error = Some(true);
    }
    match serde_json::to_value(result) {
        Ok(Value::Object(fields)) => fields.into_iter().collect(),
        _ => rmcp::model::JsonObject::new(),
    }
}

/// Returns whether the client is asked by a form: only what a hint or a yes answers. Approvals and budgets have tools.
fn takes_form(run: &Run, caller: &Caller, block: &Block) -> bool {
    form::questions(run, caller)
        .into_iter()
        .filter(|q| q.block == block.id.to_string())
        .flat_map(|q| q.answers)
        .any(|a| matches!(a.answer.as_deref(), Some("yes" | "text")))
}

/// Returns the questions that the client may answer, as forms.
fn requests(run: &Run, caller: &Caller) -> InputRequests {
    let form = |block: &Block| {
        let escalation = render::escalation(run, block);
        let needs: Vec<String> = escalation.needs.iter().map(|n| format!("{}: {}", n.what, n.how)).collect();
        let message = format!("{}. {}", escalation.reason, needs.join(". "));
        let text = StringSchema::new().title("Answer").description("The answer or a hint; may be empty to continue");
        let skip = BooleanSchema::new().title("Skip").description("Drop the task and go on without it");
        let mut schema = ElicitationSchema::builder().property("text", PrimitiveSchemaDefinition::String(text));
        if block.kind.task().is_some() {
            schema = schema.property("skip", PrimitiveSchemaDefinition::Boolean(skip));
        }
        let (requested_schema, message) = (schema.build_unchecked(), results::clean(&message));
        let params = ElicitRequestParams::FormElicitationParams { meta: None, message, requested_schema };
        (block.id.to_string(), InputRequest::Elicitation(ElicitRequest::new(params)))
    };
    run.blocks.iter().filter(|b| takes_form(run, caller, b)).map(form).collect()
}

/// Gives the answers of a client. Unknown keys, and questions that were answered in the meantime, are ignored, as the
/// extension demands.
///
/// # Errors
/// Those of answering a question.
pub async fn answer(s: &Services, caller: &Caller, id: &str, responses: &InputResponses) -> ServiceResult<()> {
    let run = runs::show(s, caller, id).await?;
    for (key, response) in responses {
        let Some(block) = run.blocks.iter().find(|b| b.id.to_string() == *key) else { continue };
        if response.get("action").and_then(Value::as_str) != Some("accept") {
            continue;
        }
        let content = response.get("content");
        let is_skip = content.and_then(|c| c.get("skip")).and_then(Value::as_bool) == Some(true);
        let text = content.and_then(|c| c.get("text")).and_then(Value::as_str).unwrap_or_default();
        let answer = match text.trim() {
            _ if is_skip => Answer::Skip,
            "" => Answer::Yes,
            _ => Answer::Text { text: text.to_owned() },
        };
        give(s, caller, id, &block.id.to_string(), answer).await?;
    }
    Ok(())
}

/// Answers a question of a run, except that an approval is not given without what it is about ([`approve`]).
///
/// # Errors
/// `person_only`, `use_approve`, and those of answering a question.
///
/// [`approve`]: actions::approve_seen
pub async fn give(s: &Services, caller: &Caller, id: &str, block: &str, answer: Answer) -> ServiceResult<Run> {
    let run = runs::show(s, caller, id).await?;
    let asked = run.blocks.iter().find(|b| b.id.to_string() == block.trim_start_matches('#'));
    if let Some(asked) = asked {
        if !caller.has(actions::right_to_answer(&asked.kind, &answer), &run.project) {
            return Err(person_only(&run, asked));
        }
        if asked.kind.is_approval() && !matches!(answer, Answer::No { .. } | Answer::Skip) {
            let detail = format!("question {} asks for an approval", asked.id);
            let fix = "Call the tool `approve` with the `subject` of the question, after looking at the diff";
            return Err(ServiceError::conflict("use_approve", detail, fix));
        }
    }
    let target = Target { run: id, if_seq: None };
    actions::answer(s, caller, &target, Some(block), answer, &NewSettings::default()).await
}

/// Returns the refusal of an answer that an agent may not give.
pub fn person_only(run: &Run, block: &Block) -> ServiceError {
    let (short, code) = (run.id.abbrev(), block.kind.code());
    ServiceError::forbidden(
        "person_only",
        format!("this answer to the question {} (`{code}`) of run {short} is for a person, not for an agent", block.id),
        format!("Ask the person to answer it in Skep: `skep show {short}`"),
    )
}

/// Writes a point in time as RFC 3339.
fn iso(at: Timestamp) -> String {
    chrono::DateTime::from_timestamp_millis(at.0).unwrap_or_default().to_rfc3339()
}
