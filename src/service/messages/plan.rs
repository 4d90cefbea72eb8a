//! Which messages a run gives rise to.

use crate::domain::{Alert, Block, BudgetScope, ChannelRules, Message, MessageEvent, Outcome, Run, Timestamp};
use crate::ports::run_index::RunRow;
use crate::render;

/// Messages that are due, and when to look again.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub due: Vec<Message>,
    pub next: Option<Timestamp>,
}

/// Plans the messages about a run for a channel that is known since `since`. `ended_at` is when the run ended, if it
/// did.
pub(super) fn of_run(
    run: &Run,
    ended_at: Option<Timestamp>,
    rules: &ChannelRules,
    since: Timestamp,
    now: Timestamp,
) -> Plan {
    let mut plan = Plan::default();
    let project = run.project.as_str();
    if rules.wants(MessageEvent::Question, project) && !run.ended() {
        for block in &run.blocks {
            // A question that is older than the channel still waits.
            let (number, next) = rules.question_due(block.since.max(since), now);
            plan.due.extend(number.map(|number| question(run, block, number)));
            plan.next = plan.next.into_iter().chain(next).min();
        }
    }
    if rules.wants(MessageEvent::Budget, project) {
        plan.due.extend(run.alerts.iter().filter(|alert| alert.at >= since).map(|alert| budget(run, alert)));
    }
    if let (Some(outcome), Some(at)) = (&run.outcome, ended_at.filter(|at| *at >= since)) {
        let is_delivered = is_delivered(outcome);
        let wanted = |event| rules.wants(event, project);
        let event = match is_delivered {
            false if wanted(MessageEvent::Failed) => Some(MessageEvent::Failed),
            _ => Some(MessageEvent::Ended).filter(|event| wanted(*event)),
        };
        plan.due.extend(event.map(|event| {
            let key = format!("{}.end.{}.1", run.id, event.name());
            about(run, key, event, sentence(&render::outcome(outcome)), at)
        }));
    }
    plan
}

/// Returns whether a run ended with what was asked for.
pub(super) fn is_delivered(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Delivered { .. } | Outcome::Unchanged)
}

fn about(run: &Run, key: String, event: MessageEvent, summary: String, at: Timestamp) -> Message {
    Message {
        key,
        event,
        run: Some(run.id),
        block: None,
        project: run.project.as_str().to_owned(),
        title: run.goal.title().to_owned(),
        summary,
        needs: Vec::new(),
        cost_micros: run.ledger.spent.cost_micros,
        path: format!("/runs/{}", run.id),
        at,
    }
}

fn question(run: &Run, block: &Block, number: usize) -> Message {
    let escalation = render::escalation(run, block);
    let key = format!("{}.b{}.question.{number}", run.id, block.id.0);
    let message = about(run, key, MessageEvent::Question, sentence(&escalation.reason), block.since);
    Message {
        block: Some(block.id.0),
        needs: escalation.needs.into_iter().map(|need| sentence(&need.what)).collect(),
        path: format!("/q/{}/{}", run.id, block.id),
        ..message
    }
}

fn budget(run: &Run, alert: &Alert) -> Message {
    let scope = alert.scope.map_or("run", BudgetScope::name);
    let key = format!("{}.{scope}-{}-{}.budget.1", run.id, alert.budget.name(), alert.percent);
    about(run, key, MessageEvent::Budget, render::alert(run, alert), alert.at)
}

/// Returns the message about a run whose data cannot be used.
pub(super) fn quarantined(row: &RunRow) -> Message {
    let why = row.quarantined.as_deref().unwrap_or("its data cannot be used");
    Message {
        run: Some(row.run),
        project: row.project.clone(),
        title: row.title.clone(),
        path: format!("/runs/{}", row.run),
        ..broken(
            format!("{}.q{}.broken.1", row.run, row.seq),
            format!("The run is quarantined: {why}."),
            row.updated_at,
        )
    }
}

/// Returns a message to the operator.
pub(super) fn broken(key: String, summary: String, at: Timestamp) -> Message {
    Message {
        key,
        event: MessageEvent::Broken,
        run: None,
        block: None,
        project: String::new(),
        title: String::new(),
        summary,
        needs: Vec::new(),
        cost_micros: 0,
        path: "/".to_owned(),
        at,
    }
}

/// Returns one message for several about the same kind of event.
pub(super) fn folded(messages: &[Message]) -> Option<Message> {
    let first = messages.first()?;
    let n = messages.len() as u64;
    let summary = match first.event {
        MessageEvent::Question => format!("{n} questions wait for people."),
        MessageEvent::Failed => format!("{n} runs ended without a delivery."),
        MessageEvent::Ended => format!("{n} runs ended."),
        MessageEvent::Budget => format!("{n} budgets reached an alert threshold."),
        MessageEvent::Broken => format!("{n} problems need the operator."),
        MessageEvent::Digest => format!("{n} days ended."),
    };
    let key = format!("{}.and-{}", first.key, n - 1);
    let needs = messages.iter().map(|message| format!("{}: {}", message.title, message.summary)).take(3).collect();
    Some(Message { event: first.event, needs, ..broken(key, summary, first.at) })
}

/// Makes a reason a sentence.
pub(super) fn sentence(text: &str) -> String {
    let mut chars = text.trim().chars();
    let Some(first) = chars.next() else { return String::new() };
    let text: String = first.to_uppercase().chain(chars).collect();
    if text.ends_with(['.', '?', '!']) { text } else { format!("{text}.") }
}
