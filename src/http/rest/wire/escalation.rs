//! Questions put to a person.

use super::BudgetScope;
use crate::domain::escalation;
use crate::render;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Something that a person is asked to provide or do.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Need {
    /// What.
    pub what: String,
    /// Where to create or find it, with exact scopes, and where to put it.
    pub how: String,
}

/// Effect of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnswerKind {
    /// Approves the subject.
    Approve,
    /// Declines the subject; the text says what should be different.
    Decline,
    /// Says yes: continue, or try again.
    Continue,
    /// Answers the question, or gives a hint.
    Reply,
    /// Raises the run's own budget.
    Raise,
    /// Raises a budget shared with other runs.
    RaiseShared,
    /// Drops the task and continues without it.
    Skip,
    /// Ends the run undelivered; the text says why.
    Stop,
}

/// Answer that lifts a block, or helps to.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Answer {
    /// What it does.
    pub kind: AnswerKind,
    /// Whether it requires a text.
    pub needs_text: bool,
    /// Whether a comment `UNBLOCK #b…` on the change can give it.
    pub by_comment: bool,
    /// What it does, in a few words.
    #[schema(example = "as many tries again")]
    pub effect: String,
    /// Budget to raise, for `raise`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "tokens")]
    pub budget: Option<String>,
    /// Suggested amount for `raise`: tokens, micro-USD, calls, seconds, attempts or rounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggested: Option<u64>,
    /// Budget to raise, for `raise_shared`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<BudgetScope>,
    /// Suggested tokens, for `raise_shared`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Suggested micro-USD, for `raise_shared`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_micros: Option<u64>,
}

/// Question that a run has for a person.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Escalation {
    /// Block that the answer lifts.
    #[schema(example = "b1")]
    pub block: String,
    /// Stable code.
    #[schema(example = "approve_merge")]
    pub code: String,
    /// Task it is about (`t1`), if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Reason, in a few words.
    pub reason: String,
    /// Run, by its short id and goal.
    pub run: String,
    /// What happened. May contain text from outside.
    pub why: String,
    /// What is needed.
    pub needs: Vec<Need>,
    /// Answers that lift the block.
    pub answers: Vec<Answer>,
    /// How the run resumes.
    pub resumes: String,
    /// What stays reserved in the meantime.
    pub reserved: String,
}

impl From<render::EscalationAnswer> for Answer {
    fn from(answer: render::EscalationAnswer) -> Answer {
        let mut wire = Answer {
            kind: AnswerKind::Continue,
            needs_text: answer.option.needs_text,
            by_comment: answer.by_comment,
            effect: answer.effect,
            budget: None,
            suggested: None,
            scope: None,
            tokens: None,
            cost_micros: None,
        };
        wire.kind = match answer.option.kind {
            escalation::AnswerKind::Approve => AnswerKind::Approve,
            escalation::AnswerKind::Decline => AnswerKind::Decline,
            escalation::AnswerKind::Continue => AnswerKind::Continue,
            escalation::AnswerKind::Reply => AnswerKind::Reply,
            escalation::AnswerKind::Raise { budget, suggested } => {
                (wire.budget, wire.suggested) = (Some(budget.name().to_owned()), Some(suggested));
                AnswerKind::Raise
            }
            escalation::AnswerKind::RaiseShared { scope, tokens, cost_micros } => {
                wire.scope = Some(scope.into());
                wire.tokens = Some(tokens).filter(|n| *n > 0);
                wire.cost_micros = Some(cost_micros).filter(|n| *n > 0);
                AnswerKind::RaiseShared
            }
            escalation::AnswerKind::Skip => AnswerKind::Skip,
            escalation::AnswerKind::Stop => AnswerKind::Stop,
        };
        wire
    }
}

impl From<render::Escalation> for Escalation {
    fn from(escalation: render::Escalation) -> Escalation {
        let need = |n: render::Need| Need { what: n.what, how: n.how };
        Escalation {
            block: escalation.block.to_string(),
            code: escalation.code,
            task: escalation.task.map(|task| task.to_string()),
            reason: escalation.reason,
            run: escalation.run,
            why: escalation.why,
            needs: escalation.needs.into_iter().map(need).collect(),
            answers: escalation.answers.into_iter().map(Into::into).collect(),
            resumes: escalation.resumes,
            reserved: escalation.reserved,
        }
    }
}
