//! A run as a task of the tasks extension (SEP-2663): the task's id is the run's id, and its state is read from the
//! store at each request, so it survives a restart.

use super::form;
use crate::domain::{Answer, BlockKind, Outcome, Run, RunId, Timestamp};
use crate::render;
use crate::service::actions::{self, Target};
use crate::service::{Caller, Right, ServiceError, ServiceResult, Services, runs};
use rmcp::model::{
    BooleanSchema, CallToolResult, DetailedTask, ElicitRequest, ElicitRequestParams, ElicitationSchema, InputRequest,
    InputRequests, InputResponses, PrimitiveSchemaDefinition, StringSchema, Task, TaskPayload, TaskStatus,
};
use serde_json::Value;

/// How often a client should ask, in milliseconds.
const POLL_MS: u64 = 5_000;

/// Returns whether an agent with the rights of `caller` may answer a question of this kind. Repaired engines, pushes by
/// others and secrets are for people in any case: an agent cannot see what they are about.
pub fn may_answer(caller: &Caller, kind: &BlockKind) -> bool {
    match kind {
        BlockKind::Approval(_) => caller.rights.contains(&Right::Approve),
        BlockKind::Budget(_) | BlockKind::SharedBudget { .. } => caller.rights.contains(&Right::Budget),
        BlockKind::Engine { .. } | BlockKind::ForeignPush { .. } | BlockKind::SecretFound { .. } => false,
        BlockKind::Tries { .. }
        | BlockKind::Rounds
        | BlockKind::Question { .. }
        | BlockKind::NothingChanged
        | BlockKind::Effect(_)
        | BlockKind::ChangeClosed => true,
    }
}

/// Returns the task of a run.
pub fn of(run: &Run, caller: &Caller, at: Timestamp) -> Task {
    let status = match &run.outcome {
        Some(Outcome::Cancelled { .. }) => TaskStatus::Cancelled,
        Some(_) if run.ended() => TaskStatus::Completed,
        _ if run.blocks.iter().any(|b| takes_form(caller, &b.kind)) => TaskStatus::InputRequired,
        _ => TaskStatus::Working,
    };
    Task::new(run.id.to_string(), status, iso(run.opened_at), iso(at))
        .with_status_message(render::now(run, at))
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
    let value = serde_json::to_value(form::RunView::of(run, caller, at)).unwrap_or_default();
    let value = form::bounded(value);
    let result = match run.outcome {
        Some(Outcome::Delivered { .. }) => CallToolResult::structured(value),
        _ => CallToolResult::structured_error(value),
    };
    match serde_json::to_value(result) {
        Ok(Value::Object(fields)) => fields.into_iter().collect(),
        _ => rmcp::model::JsonObject::new(),
    }
}

/// Returns whether the client is asked by a form. Approvals and budgets are answered by their tools, if at all.
fn takes_form(caller: &Caller, kind: &BlockKind) -> bool {
    let by_tool = matches!(kind, BlockKind::Approval(_) | BlockKind::Budget(_) | BlockKind::SharedBudget { .. });
    !by_tool && may_answer(caller, kind)
}

/// Returns the questions that the client may answer, as forms.
fn requests(run: &Run, caller: &Caller) -> InputRequests {
    let form = |block: &crate::domain::Block| {
        let escalation = render::escalation(run, block);
        let needs: Vec<String> = escalation.needs.iter().map(|n| format!("{}: {}", n.what, n.how)).collect();
        let message = format!("{}. {}", escalation.reason, needs.join(". "));
        let text = StringSchema::new().title("Answer").description("The answer or a hint; may be empty to continue");
        let skip = BooleanSchema::new().title("Skip").description("Drop the task and go on without it");
        let mut schema = ElicitationSchema::builder().property("text", PrimitiveSchemaDefinition::String(text));
        if block.kind.task().is_some() {
            schema = schema.property("skip", PrimitiveSchemaDefinition::Boolean(skip));
        }
        let requested_schema = schema.build_unchecked();
        let params = ElicitRequestParams::FormElicitationParams { meta: None, message, requested_schema };
        (block.id.to_string(), InputRequest::Elicitation(ElicitRequest::new(params)))
    };
    run.blocks.iter().filter(|b| takes_form(caller, &b.kind)).map(form).collect()
}

/// Gives the answers of a client. Unknown keys, and questions that were answered in the meantime, are ignored, as the
/// extension demands.
///
/// # Errors
/// Those of answering a question.
pub async fn answer(s: &Services, caller: &Caller, id: &str, responses: &InputResponses) -> ServiceResult<()> {
    let run = runs::show(s, caller, id).await?;
    let target = Target { run: id, if_seq: None };
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
        give(s, caller, &target, &run, &block.id.to_string(), answer).await?;
    }
    Ok(())
}

/// Answers a question of a run, unless only a person may.
///
/// # Errors
/// `person_only`, and those of answering a question.
pub async fn give(
    s: &Services,
    caller: &Caller,
    target: &Target<'_>,
    run: &Run,
    block: &str,
    answer: Answer,
) -> ServiceResult<Run> {
    let asked = run.blocks.iter().find(|b| b.id.to_string() == block.trim_start_matches('#'));
    if let Some(asked) = asked.filter(|b| !may_answer(caller, &b.kind)) {
        return Err(person_only(run.id, asked.kind.code()));
    }
    actions::answer(s, caller, target, Some(block), answer).await
}

fn person_only(run: RunId, code: &str) -> ServiceError {
    let short = run.abbrev();
    ServiceError::forbidden(
        "person_only",
        format!("the question `{code}` of run {short} is for a person, not for an agent"),
        format!("Ask the person to answer it in Skep: `skep show {short}`"),
    )
}

/// Writes a point in time as RFC 3339.
fn iso(at: Timestamp) -> String {
    chrono::DateTime::from_timestamp_millis(at.0).unwrap_or_default().to_rfc3339()
}
