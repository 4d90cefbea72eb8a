//! Budget alerts and spending summaries.

use super::quantity::{budget_word, count, duration, money, usage};
use crate::domain::{Alert, BudgetKind, BudgetScope, BudgetUnit, EngineSpec, Level, Run, SharedSpending, Usage};
use std::collections::BTreeMap;

/// Upper bound on the models listed in a summary.
const MAX_MODELS: usize = 20;
/// Upper bound on the attempts listed in a summary.
const MAX_ATTEMPTS: usize = 10;

/// Returns the notice that the run's own budget reached a threshold.
pub fn alert(run: &Run, alert: &Alert) -> String {
    format!(
        "{} % of this run's budget is used ({}). Spent so far: {}.\n",
        alert.percent,
        budget_word(alert.budget),
        usage(run.ledger.spent)
    )
}

/// Returns the notice that a shared budget reached a threshold.
pub fn shared_alert(run: &Run, level: &Level, percent: u8) -> String {
    let whose = match level.scope {
        BudgetScope::Project => format!("project {}", run.project),
        BudgetScope::Day => "this UTC day".to_owned(),
    };
    format!("{percent} % of the budget of {whose} is spent, all runs together: {}.\n", fill(level))
}

/// Returns the fill level of a shared budget: `$4.00 of $5.00 spent, $0.50 reserved`.
fn fill(level: &Level) -> String {
    let amount = |n: u64| match level.unit {
        BudgetUnit::Tokens => count(n, "token"),
        BudgetUnit::Cost => money(n),
    };
    let reserved = if level.reserved > 0 { format!(", {} reserved", amount(level.reserved)) } else { String::new() };
    format!("{} of {} spent{reserved}", amount(level.spent()), amount(level.limit))
}

/// Returns the fill levels of shared budgets, exhausted ones first, and the spending from them.
pub(super) fn shared(levels: &[Level], spending: &[SharedSpending]) -> String {
    let mut text = String::new();
    let mut sorted: Vec<&Level> = levels.iter().collect();
    sorted.sort_by_key(|level| level.exhausted().is_none());
    for level in sorted {
        let state = if level.exhausted().is_some() { "is exhausted" } else { "has budget left" };
        text.push_str(&format!("the {} budget {state}: {}\n", level.scope.name(), fill(level)));
    }
    for scope in [BudgetScope::Project, BudgetScope::Day] {
        let mut rows = spending.iter().filter(|row| row.scope == scope).peekable();
        if rows.peek().is_some() {
            text.push_str(&format!("spent from the {} budget:\n", scope.name()));
        }
        for row in rows {
            text.push_str(&spent_line(&row.name, row.tokens, row.cost_micros));
        }
    }
    text
}

fn spent_line(name: &str, tokens: u64, cost_micros: u64) -> String {
    format!("{name}: {}, {}\n", count(tokens, "token"), money(cost_micros))
}

/// Returns a summary of a run's spending for the question about more `budget`: totals, by role and model, and the last
/// attempts.
pub fn spending(run: &Run, budget: Option<BudgetKind>) -> String {
    let subject = budget.map_or_else(String::new, |b| format!("the run's budget is exhausted ({}); ", budget_word(b)));
    let mut text = format!(
        "{subject}spent {} of {}, {}, {}, {} in {}\n",
        duration(run.ledger.spent.wall_ms),
        duration(run.limits.timeout_secs.saturating_mul(1000)),
        count(run.ledger.spent.tokens, "token"),
        money(run.ledger.spent.cost_micros),
        count(run.ledger.spent.turns, "model call"),
        count(run.counted_attempts() as u64, "attempt")
    );
    text.push_str(&by_role_and_model(run));
    for a in run.attempts.iter().rev().take(MAX_ATTEMPTS) {
        if let Some(e) = &a.ended {
            text.push_str(&format!(
                "{} {} ({}): {}, {}, {}\n",
                a.id,
                a.step.name(),
                EngineSpec::parse(&a.engine).named(),
                duration(e.charged.wall_ms),
                count(e.charged.tokens, "token"),
                money(e.charged.cost_micros)
            ));
        }
    }
    text
}

fn by_role_and_model(run: &Run) -> String {
    let mut roles: BTreeMap<&str, Usage> = BTreeMap::new();
    let mut models: BTreeMap<&str, Usage> = BTreeMap::new();
    for (attempt, ended) in run.attempts.iter().filter_map(|a| Some((a, a.ended.as_ref()?))) {
        let role = roles.entry(attempt.step.role().name()).or_default();
        *role = role.plus(ended.charged);
        for used in &ended.usage_by_model {
            let model = models.entry(&used.model).or_default();
            *model = model.plus(Usage::of_models(std::slice::from_ref(used)));
        }
    }
    let rows = roles.iter().chain(models.iter().take(MAX_MODELS));
    rows.map(|(name, used)| spent_line(name, used.tokens, used.cost_micros)).collect()
}
