//! A run in words for people: the change's text, comments, questions.
//!
//! Invariant: text from outside is fenced or quoted; it can't close its fence, mention people or make links of its own.

use super::budget::Usage;
use super::change::FileKind;
use super::check::CheckSpec;
use super::engine_selection;
use super::id::Timestamp;
use super::ledger_row::Day;
use super::order::{EngineSpec, Step};
use super::report::Verdict;
use super::run::{Outcome, Review, Run};
use super::shared_budget::{BudgetScope, Level};
use super::status;
use super::task::Stage;
use std::collections::BTreeMap;

/// Text from outside as a code block whose fence it can't close.
pub fn fenced(text: &str) -> String {
    // Cleaned first: a control character between backticks must not hide how many there will be.
    let clean: String = text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
    let longest = clean.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{}\n{fence}\n", clean.trim_end())
}

/// One line of text from outside as a code span.
pub fn inline(text: &str) -> String {
    let clean: String = text.chars().filter(|c| !c.is_control() && *c != '`').collect();
    format!("`{}`", clean.trim())
}

/// The plan as a list.
pub fn plan(run: &Run) -> String {
    let mut text = format!("plan, revision {}:\n", run.plan.revision);
    for task in &run.tasks {
        let needs =
            if task.spec.needs.is_empty() { String::new() } else { format!(" (after {})", task.spec.needs.join(", ")) };
        text.push_str(&format!("{} {}: {}{needs}\n", task.id, task.spec.name, task.spec.title));
    }
    text
}

/// A reviewer's findings as plain text for the next attempt.
pub fn findings(review: &Review) -> String {
    let mut text = format!("{}\n", review.summary);
    for f in &review.findings {
        let place = match (f.path.is_empty(), f.line) {
            (true, _) => String::new(),
            (false, 0) => format!("{}: ", f.path),
            (false, line) => format!("{}:{line}: ", f.path),
        };
        text.push_str(&format!("- {place}{}\n", f.text));
    }
    text
}

/// The comment that tells a reviewer's verdict.
pub fn review_comment(run: &Run, review: &Review) -> String {
    let word = match review.verdict {
        Verdict::Approve => "approves",
        Verdict::Rework => "wants rework",
    };
    format!(
        "The reviewer (attempt {}) {word} at {}. Round {} of {}.\n\n{}",
        review.attempt,
        run.head.abbrev(),
        run.rounds,
        run.limits.rounds,
        fenced(&findings(review))
    )
}

/// A moment in UTC, to the minute: `2026-11-21 14:05 UTC`.
pub fn utc(at: Timestamp) -> String {
    let (day, minute) = (at.0.div_euclid(86_400_000), at.0.rem_euclid(86_400_000) / 60_000);
    format!("{} {:02}:{:02} UTC", date(Day(day)), minute / 60, minute % 60)
}

/// A day of the calendar: `2026-11-21`.
pub fn date(day: Day) -> String {
    // Counted in years that begin in March, so that the leap day is the last one; 719468 days before 1970 began such a year 0.
    let days = day.0.clamp(-719_468, 2_932_896) + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    format!("{:04}-{month:02}-{day_of_month:02}", year + era * 400 + i64::from(month <= 2))
}

/// What a shared budget went to.
#[derive(Clone, Debug)]
pub struct WentTo {
    /// Which budget.
    pub share: BudgetScope,
    /// By role or model: its name, tokens, micro-USD.
    pub sums: Vec<(String, u64, u64)>,
}

/// How full the shared budgets are, and what those used up went to.
pub fn short(levels: &[Level], went_to: &[WentTo]) -> String {
    let mut text = String::new();
    let mut sorted: Vec<&Level> = levels.iter().collect();
    sorted.sort_by_key(|level| level.used_up().is_none());
    for level in sorted {
        let is = if level.used_up().is_some() { "is used up" } else { "is not used up" };
        text.push_str(&format!("the {} {is}: {}\n", level.share.budget(), filling(level)));
    }
    for WentTo { share, sums } in went_to {
        text.push_str(&format!("what the {} went to:\n", share.budget()));
        for (name, tokens, cost_micros) in sums.iter().take(40) {
            text.push_str(&format!("{name}: {tokens} tokens, {cost_micros} micro-USD\n"));
        }
    }
    text
}

fn filling(level: &Level) -> String {
    let of = if level.money { "micro-USD" } else { "tokens" };
    let aside = if level.set_aside > 0 { format!(", {} set aside", level.set_aside) } else { String::new() };
    format!("of {} {of} {} are spent{aside}", level.limit, level.spent())
}

/// That a share of a budget is used that this run has in common with others.
pub fn alert_shared(run: &Run, level: &Level, share: u8) -> String {
    let (whose, raise) = match level.share {
        BudgetScope::Project => (format!("the project {}", run.project), format!("--project {}", run.project)),
        BudgetScope::Day => ("this UTC day".to_owned(), "--day".to_owned()),
    };
    format!(
        "{share} % of the budget of {whose} is spent by all its runs together: {}. More can be given with `skep budget raise {raise} \
         …`.\n",
        filling(level)
    )
}

/// What keeps the engines of a step's role from being used, and what to do about each.
pub fn cooldowns(run: &Run, step: Step) -> String {
    let mut text = String::new();
    for spec in engine_selection::order(run, step) {
        let Some(rest) = run.cooldowns.get(&spec.text()) else { continue };
        text.push_str(&format!("{}: {}\n", spec.named(), rest.why));
        match (&rest.fix, rest.until) {
            (Some(fix), _) => text.push_str(&format!("What to do: {fix}\n")),
            (None, Some(until)) => text.push_str(&format!("It is tried again at {}.\n", utc(until))),
            (None, None) => {}
        }
    }
    text
}

/// That a share of the run's budget is used.
pub fn alert(run: &Run, what: &str, share: u8) -> String {
    let spent = run.ledger.spent;
    format!(
        "{share} % of this run's {what} is used: {} s, {} tokens, {} micro-USD in {} model calls so far. More can be given with \
         `skep raise {} …`.\n",
        spent.wall_ms / 1000,
        spent.tokens,
        spent.cost_micros,
        spent.turns,
        run.id.abbrev()
    )
}

/// What was spent on what, for a question about more of it.
pub fn spending(run: &Run, what: &str) -> String {
    let spent = run.ledger.spent;
    let mut text = format!(
        "the run is out of {what}: spent {} s of {} s, {} tokens, {} micro-USD, {} model calls in {} attempts\n",
        spent.wall_ms / 1000,
        run.limits.wall_secs,
        spent.tokens,
        spent.cost_micros,
        spent.turns,
        run.counted_attempts()
    );
    text.push_str(&by_role_and_model(run));
    for a in run.attempts.iter().rev().take(10) {
        if let Some(e) = &a.ended {
            text.push_str(&format!(
                "{} {} ({}): {} s, {} tokens, {} micro-USD\n",
                a.id,
                a.step.name(),
                EngineSpec::parse(&a.engine).named(),
                e.charged.wall_ms / 1000,
                e.charged.tokens,
                e.charged.cost_micros
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
        for line in &ended.bill {
            let model = models.entry(&line.model).or_default();
            *model = model.plus(Usage::billed(std::slice::from_ref(line)));
        }
    }
    let mut text = String::new();
    for (name, used) in roles.iter().chain(models.iter().take(20)) {
        text.push_str(&format!("{name}: {} tokens, {} micro-USD\n", used.tokens, used.cost_micros));
    }
    text
}

/// What a person approves when approving the merge.
pub fn merge_request(run: &Run) -> String {
    let mut text =
        format!("{} onto {} at {}: {}\n", run.head, run.settings.base_branch, run.base.abbrev(), run.diff.summary());
    for f in run.diff.files.iter().take(40) {
        let mark = match f.kind {
            FileKind::Added => 'A',
            FileKind::Modified => 'M',
            FileKind::Deleted => 'D',
        };
        text.push_str(&format!("{mark} {} (+{} -{})\n", f.path, f.added, f.removed));
    }
    if run.diff.files_total > 40 {
        text.push_str(&format!("… and {} more\n", run.diff.files_total - 40));
    }
    for r in run.facts.results.iter().flatten() {
        let tests = r.tests.map_or_else(String::new, |t| format!(", {} tests", t.run));
        text.push_str(&format!(
            "check {}{}: {} ({} ms{tests})\n",
            r.name,
            on_runner(run, &r.name),
            if r.green { "green" } else { "red" },
            r.duration_ms
        ));
    }
    if let Some(review) = &run.facts.review {
        text.push_str(&format!("review: {}\n", review.summary));
    }
    for concern in run.concerns() {
        text.push_str(&format!("look closely: {}\n", concern.words()));
    }
    text
}

/// The text of the change: goals, plan, artifacts, how to unblock, metadata.
pub fn change_body(run: &Run) -> String {
    let mut text = String::from("## Goal\n");
    text.push_str(&fenced(&run.goal.text));
    text.push_str(&format!("\nAsked by {}.\n\n## Plan\n", inline(run.goal.asked_by.as_str())));
    for task in &run.tasks {
        let mark = if task.stage == Stage::Integrated { 'x' } else { ' ' };
        text.push_str(&format!(
            "- [{mark}] {} {} — {}, {} tries\n",
            task.id,
            inline(&task.spec.title),
            status::of_task(run, task).word(),
            task.tries
        ));
    }
    text.push_str(&format!(
        "\n## Artifacts\n- branch: {}\n- head: {}\n- base: {} at {}\n- diff: {}\n",
        inline(&run.settings.branch),
        run.head,
        inline(&run.settings.base_branch),
        run.base,
        run.diff.summary()
    ));
    for r in run.facts.results.iter().flatten() {
        let (place, word) = (on_runner(run, &r.name), if r.green { "green" } else { "red" });
        text.push_str(&format!("- check {}{place}: {word}\n", inline(&r.name)));
    }
    let id = run.id.abbrev();
    text.push_str(&format!(
        "\n## How to unblock\n- see what it waits for: `skep show {id}`\n- approve the merge: `skep approve {id}`, or approve \
         this change at its head\n- answer a question: `skep unblock {id} --answer \"…\"`, or comment `UNBLOCK #<block>` here\n\
         - stop it: `skep cancel {id}`\n"
    ));
    text.push_str(&format!(
        "\n## Metadata\n- run: `{}`\n- project: `{}`\n- round: {} of {}\n- attempts: {}\n- spent: {} s, {} tokens, {} micro-USD\n",
        run.id,
        run.project,
        run.rounds,
        run.limits.rounds,
        run.attempts.len(),
        run.ledger.spent.wall_ms / 1000,
        run.ledger.spent.tokens,
        run.ledger.spent.cost_micros
    ));
    text
}

/// Where a check runs that does not run on Skep's own machine: who approves must know what was relied on.
fn on_runner(run: &Run, check: &str) -> String {
    run.settings.checks.iter().find(|c| c.name == check).map_or_else(String::new, CheckSpec::on_runner)
}

/// The last word on the change.
pub fn result(run: &Run) -> String {
    let spent = run.ledger.spent;
    let end = match &run.outcome {
        Some(Outcome::Delivered { sha }) => format!("Delivered: {sha} is on {}.", inline(&run.settings.base_branch)),
        Some(Outcome::Cancelled { why }) => format!("Cancelled {}.", inline(why)),
        Some(Outcome::Failed { why }) => format!("Not delivered, {}.", inline(why)),
        None => "Not over.".to_owned(),
    };
    format!(
        "{end}\n\n{} tasks, {} attempts, {} rounds of rework; {} s, {} tokens, {} micro-USD.\n",
        run.tasks.len(),
        run.attempts.len(),
        run.rounds,
        spent.wall_ms / 1000,
        spent.tokens,
        spent.cost_micros
    )
}
