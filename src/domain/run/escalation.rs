//! The answers that lift a block, as data. Every surface renders them in its own way.

use super::block::{Block, BlockKind, Subject};
use crate::domain::budget::BudgetKind;
use crate::domain::budget::shared_budget::{BudgetScope, BudgetUnit, SharedBudget};
use serde::{Deserialize, Serialize};

/// One answer that lifts a block, or helps to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerOption {
    /// What the answer does.
    #[serde(flatten)]
    pub kind: AnswerKind,
    /// Whether the answer requires a text.
    pub needs_text: bool,
}

/// Effect of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AnswerKind {
    /// Approves the subject.
    Approve,
    /// Declines the subject; the text says what should be different.
    Decline,
    /// Says yes: continue, try again, or grant a fresh set, depending on the block.
    Continue,
    /// Answers the question, or gives a hint for the next try.
    Reply,
    /// Raises the run's own budget by the suggested amount.
    Raise {
        /// The budget.
        budget: BudgetKind,
        /// The suggested amount, in the budget's unit: tokens, micro-USD, calls, seconds, attempts or rounds.
        suggested: u64,
    },
    /// Raises a shared budget by the suggested amounts. Answer [`AnswerKind::Continue`] afterwards.
    RaiseShared {
        /// The budget.
        scope: BudgetScope,
        /// Suggested tokens; 0 = not exhausted.
        tokens: u64,
        /// Suggested micro-USD; 0 = not exhausted.
        cost_micros: u64,
    },
    /// Drops the task and continues without it, or continues although the checks fail.
    Skip,
    /// Ends the run undelivered; the text says why.
    Stop,
}

/// Returns the answers to a block, the most likely one first.
pub fn answers(block: &Block) -> Vec<AnswerOption> {
    use AnswerKind::{Approve, Continue, Decline, Raise, Reply, Skip, Stop};
    let kinds = match &block.kind {
        BlockKind::Approval(Subject::Diff { .. }) => vec![Approve, Decline, Skip],
        BlockKind::Approval(Subject::Plan { .. } | Subject::Merge { .. }) => vec![Approve, Decline],
        BlockKind::Tries { task: Some(_), .. } => vec![Continue, Reply, Skip, Stop],
        BlockKind::Tries { task: None, .. } | BlockKind::Rounds => vec![Continue, Reply, Stop],
        BlockKind::StepTime { task, .. } => {
            let more = Raise { budget: BudgetKind::StepTime, suggested: suggested(BudgetKind::StepTime) };
            let skip = task.is_some().then_some(Skip);
            [more, Continue, Reply].into_iter().chain(skip).chain([Stop]).collect()
        }
        BlockKind::Environment { .. } | BlockKind::Ci { .. } => vec![Continue, Skip, Reply, Stop],
        BlockKind::SharedBudget { budgets } => raises(budgets).into_iter().chain([Continue, Stop]).collect(),
        BlockKind::Budget(budget) => vec![Raise { budget: *budget, suggested: suggested(*budget) }, Stop],
        BlockKind::Question { .. } => vec![Reply],
        BlockKind::NothingChanged => vec![Reply, Continue, Stop],
        BlockKind::SecretFound { .. } => vec![Continue, Reply, Stop],
        BlockKind::Engine { .. } | BlockKind::Effect(_) | BlockKind::ChangeClosed | BlockKind::ForeignPush { .. } => {
            vec![Continue, Stop]
        }
    };
    kinds.into_iter().map(|kind| AnswerOption { needs_text: kind.needs_text(), kind }).collect()
}

impl AnswerKind {
    fn needs_text(&self) -> bool {
        matches!(self, AnswerKind::Decline | AnswerKind::Reply | AnswerKind::Stop)
    }
}

/// Returns whether a comment `UNBLOCK #b…` on the change may give this answer to the block: only a yes or a text, and
/// no approval, because a comment may be about an older head.
pub fn by_comment(block: &Block, option: &AnswerOption) -> bool {
    !block.kind.is_approval() && matches!(option.kind, AnswerKind::Continue | AnswerKind::Reply)
}

/// Returns a suggested raise of the run's own budget, in the budget's unit.
fn suggested(budget: BudgetKind) -> u64 {
    match budget {
        BudgetKind::Tokens => 100_000,
        BudgetKind::Cost => 1_000_000,
        BudgetKind::Turns => 100,
        BudgetKind::Time => 3_600,
        BudgetKind::StepTime => 600,
        BudgetKind::Attempts => 10,
        BudgetKind::Rounds => 1,
    }
}

/// Returns a raise for each exhausted scope.
fn raises(budgets: &[SharedBudget]) -> Vec<AnswerKind> {
    let raise = |scope: BudgetScope| {
        let amount = |unit: BudgetUnit| {
            budgets
                .iter()
                .filter(|b| (b.scope, b.unit) == (scope, unit))
                .map(SharedBudget::suggested)
                .max()
                .unwrap_or(0)
        };
        let (tokens, cost_micros) = (amount(BudgetUnit::Tokens), amount(BudgetUnit::Cost));
        (tokens > 0 || cost_micros > 0).then_some(AnswerKind::RaiseShared { scope, tokens, cost_micros })
    };
    [BudgetScope::Project, BudgetScope::Day].into_iter().filter_map(raise).collect()
}
