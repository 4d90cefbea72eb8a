//! `show`: prints a run in full, or its diff.

use super::activity;
use super::client::{Client, encode, with_query};
use super::escalation::{self, Form};
use super::exit::{ExitStatus, Stop};
use super::run_log;
use super::terminal::{Style, Terminal};
use super::text::{brief, duration, moment, money, short_sha, table, usage};
use crate::http::rest::wire::{
    Artifact, Budget, BudgetScope, Check, CheckResult, CriterionState, Engine, GateState, ReviewVerdict, Run,
};
use serde_json::json;

/// `skep show`.
pub async fn show(client: &Client, terminal: &Terminal, run: &str, patch: Option<String>) -> Result<ExitStatus, Stop> {
    let path = format!("/runs/{}", encode(run));
    if let Some(task) = patch {
        let task = Some(task).filter(|t| !t.is_empty());
        return self::patch(client, terminal, run, task).await;
    }
    let view: Run = client.get(&path).await?;
    let stored: Vec<Artifact> = client.get(&format!("{path}/artifacts")).await?;
    if terminal.json {
        let mut object = serde_json::to_value(&view).unwrap_or_default();
        object["artifacts"] = json!(stored);
        terminal.object(&object)?;
        return Ok(ExitStatus::Success);
    }
    head(terminal, &view)?;
    tasks(terminal, &view)?;
    acceptance(terminal, &view)?;
    review(terminal, &view)?;
    attempts(terminal, &view)?;
    inquiries(terminal, &view)?;
    gates(terminal, &view)?;
    budget(terminal, &view.budget, view.rounds)?;
    artifacts(terminal, &stored)?;
    for escalation in &view.escalations {
        escalation::print(terminal, &view, escalation, Form::Full)?;
    }
    Ok(ExitStatus::Success)
}

/// Prints a diff: bytes into a pipe (for `git apply`), escaped on a terminal.
pub async fn patch(client: &Client, terminal: &Terminal, run: &str, task: Option<String>) -> Result<ExitStatus, Stop> {
    let path = with_query(&format!("/runs/{}/patch", encode(run)), &[("task", task.clone())]);
    let bytes = client.bytes(&path).await?;
    if terminal.json {
        terminal.object(&json!({ "run": run, "task": task, "patch": String::from_utf8_lossy(&bytes) }))?;
    } else if bytes.is_empty() {
        terminal.print("No changes yet.")?;
    } else {
        terminal.diff(&bytes)?;
    }
    Ok(ExitStatus::Success)
}

fn head(terminal: &Terminal, view: &Run) -> Result<(), Stop> {
    terminal.line(Style::Bold, &format!("run {}: {}", view.short_id, view.goal.title))?;
    let line = |name: &str, text: &str| terminal.line(Style::Plain, &format!("  {name:<9} {text}"));
    let paused = view.paused_by.as_ref().map(|by| format!(", paused by {by}")).unwrap_or_default();
    line("status", &format!("{} ({}{paused})", view.status, view.phase))?;
    if let Some(outcome) = &view.outcome {
        line("outcome", &run_log::outcome(outcome))?;
    }
    if let Some(batch) = &view.batch {
        line("landed", &batch.words)?;
    }
    if let Some(watch) = &view.after_landing {
        line("base CI", &watch.words)?;
    }
    if view.outcome.is_none() {
        line("now", &view.now)?;
    }
    line("id", &view.id)?;
    line("started", &format!("{} by {}", moment(view.opened_at), view.goal.asked_by))?;
    line("project", &format!("{} ({})", view.project, view.repo))?;
    line("branch", &format!("{} onto {} at {}", view.branch, view.base_branch, short_sha(&view.base)))?;
    if !view.diff.is_empty() {
        line(
            "diff",
            &terminal.with_options(&format!(
                "{}; `skep show {} --patch` prints it",
                view.diff.summary(),
                view.short_id
            )),
        )?;
    }
    if let Some(number) = view.change {
        let url = view.change_url.as_deref().unwrap_or_default();
        line("change", &terminal.with_options(&format!("{}#{number}: `{url}`", view.project)))?;
    }
    if !view.results.is_empty() {
        line("checks", &results(&view.results, &view.checks))?;
    }
    for (engine, cooldown) in &view.cooldowns {
        let until = cooldown.until.map_or("a person fixes it".to_owned(), moment);
        let engine = Engine::parse(engine).named();
        line("cooldown", &format!("{engine} until {until}: {}", brief(&cooldown.why, 120)))?;
    }
    if !view.pending_effects.is_empty() {
        let words: Vec<&str> = view.pending_effects.iter().map(|name| activity::words(name)).collect();
        line("at work", &words.join(", "))?;
    }
    if let Some(trace) = &view.trace_id {
        line("trace", trace)?;
    }
    let text = view.goal.text.trim();
    if text.lines().count() > 1 {
        section(terminal, "Goal")?;
        for text in text.lines() {
            terminal.line(Style::Plain, &format!("  | {text}"))?;
        }
    }
    Ok(())
}

fn tasks(terminal: &Terminal, view: &Run) -> Result<(), Stop> {
    if view.tasks.is_empty() {
        return Ok(());
    }
    section(terminal, &format!("Plan (revision {})", view.plan_revision))?;
    let rows = view.tasks.iter().map(|t| {
        let diff = if t.diff.is_empty() { String::new() } else { t.diff.summary() };
        let tries = format!("{}/{}", t.tries, t.tries_allowed);
        vec![
            t.id.clone(),
            activity::task_status(&t.status).to_owned(),
            tries,
            diff,
            t.needs.join(", "),
            brief(&t.title, 100),
        ]
    });
    terminal.print(&table(&["task", "status", "tries", "diff", "needs", "title"], rows.collect(), terminal.width))?;
    for task in view.tasks.iter().filter(|t| t.results.iter().any(|r| !r.green)) {
        terminal.line(Style::Plain, &format!("  {}: {}", task.id, results(&task.results, &view.checks)))?;
    }
    Ok(())
}

fn acceptance(terminal: &Terminal, view: &Run) -> Result<(), Stop> {
    if view.acceptance.is_empty() {
        return Ok(());
    }
    let spec = view.goal.spec.as_deref().unwrap_or_default();
    section(terminal, &format!("Acceptance (spec {spec}, at {})", short_sha(&view.head)))?;
    for criterion in &view.acceptance {
        let (style, mark) = match criterion.state {
            CriterionState::Met => (Style::Green, '✓'),
            CriterionState::Unmet => (Style::Red, '✗'),
            CriterionState::Waived => (Style::Yellow, '✗'),
            CriterionState::Pending => (Style::Yellow, '·'),
        };
        terminal.line(style, &format!("  {mark} {}: {}", criterion.id, criterion.text))?;
        terminal.line(Style::Dim, &format!("    {}", brief(&criterion.words, 200)))?;
    }
    Ok(())
}

fn review(terminal: &Terminal, view: &Run) -> Result<(), Stop> {
    let Some(review) = &view.review else { return Ok(()) };
    let verdict = match review.verdict {
        ReviewVerdict::Approve => "approved",
        ReviewVerdict::Rework => "requested changes",
    };
    section(terminal, &format!("Review ({} {verdict} {})", review.attempt, short_sha(&view.head)))?;
    for text in review.summary.lines() {
        terminal.line(Style::Plain, &format!("  {text}"))?;
    }
    for finding in &review.findings {
        for (i, text) in finding.words.lines().enumerate() {
            let mark = if i == 0 { "-" } else { " " };
            terminal.line(Style::Plain, &format!("  {mark} {text}"))?;
        }
    }
    Ok(())
}

fn attempts(terminal: &Terminal, view: &Run) -> Result<(), Stop> {
    if view.attempts.is_empty() {
        return Ok(());
    }
    section(terminal, "Attempts")?;
    let rows = view.attempts.iter().map(|a| {
        let (ending, used, why) = match &a.ended {
            None => ("active".to_owned(), format!("reserved: {}", usage(a.reserved)), String::new()),
            Some(e) => (e.ending.name().to_owned(), usage(e.charged), brief(&e.why, 100)),
        };
        let task = a.task.clone().unwrap_or_default();
        let (engine, round) = (Engine::parse(&a.engine).named(), a.round.to_string());
        vec![a.id.clone(), a.step.name().to_owned(), task, round, engine, ending, used, why]
    });
    terminal.print(&table(
        &["attempt", "step", "task", "round", "engine", "result", "used", "summary"],
        rows.collect(),
        terminal.width,
    ))?;
    for (id, ended) in view.attempts.iter().filter_map(|a| Some((&a.id, a.ended.as_ref()?))) {
        if !ended.secrets.is_empty() {
            terminal.line(Style::Plain, &format!("  {id} had access to the secrets {}", ended.secrets.join(", ")))?;
        }
    }
    Ok(())
}

fn inquiries(terminal: &Terminal, view: &Run) -> Result<(), Stop> {
    if view.inquiries.is_empty() {
        return Ok(());
    }
    section(terminal, "Questions to the scout")?;
    let rows = view.inquiries.iter().map(|i| {
        let asked_by = i.task.as_ref().map_or_else(|| i.asked_by.clone(), |task| format!("{} ({task})", i.asked_by));
        let answer = i.answer.as_deref().map(|text| brief(text, 160)).unwrap_or_default();
        vec![asked_by, brief(&i.question, 160), i.scouts.join(", "), i.state.clone(), answer]
    });
    terminal.print(&table(&["asked by", "question", "explored by", "state", "answer"], rows.collect(), terminal.width))
}

fn gates(terminal: &Terminal, view: &Run) -> Result<(), Stop> {
    section(terminal, "Merge gates")?;
    for gate in &view.gates {
        let (style, word) = match gate.state {
            GateState::Open => (Style::Green, "✓ passed"),
            GateState::Shut => (Style::Red, "✗ closed"),
            GateState::Wait => (Style::Yellow, "· waits"),
        };
        let why = gate.why.as_deref().unwrap_or_default();
        terminal.line(style, format!("  {:<9} {word:<8} {}", gate.name, brief(why, 120)).trim_end())?;
    }
    Ok(())
}

fn budget(terminal: &Terminal, budget: &Budget, rounds: u32) -> Result<(), Stop> {
    section(terminal, "Budget")?;
    let (spent, reserved, limits) = (budget.spent, budget.reserved, budget.limits);
    let unlimited = || "no limit".to_owned();
    let row = |name: &str, a: String, b: String, c: String| vec![name.to_owned(), a, b, c];
    let none = String::new;
    let rows = vec![
        row(
            "time",
            duration(spent.wall_ms),
            duration(reserved.wall_ms),
            duration(limits.timeout_secs.saturating_mul(1000)),
        ),
        row(
            "cost",
            money(spent.cost_micros),
            money(reserved.cost_micros),
            limits.cost_micros.map_or_else(unlimited, money),
        ),
        row(
            "tokens",
            spent.tokens.to_string(),
            reserved.tokens.to_string(),
            limits.tokens.map_or_else(unlimited, |t| t.to_string()),
        ),
        row(
            "turns",
            spent.turns.to_string(),
            reserved.turns.to_string(),
            limits.turns.map_or_else(unlimited, |t| t.to_string()),
        ),
        row("rounds", rounds.to_string(), none(), limits.rounds.to_string()),
        row("attempts", budget.attempts.to_string(), none(), limits.attempts.to_string()),
    ];
    terminal.print(&table(&["budget", "spent", "reserved", "limit"], rows, terminal.width))?;
    for alert in &budget.alerts {
        let scope = alert.scope.map_or("run", BudgetScope::name);
        terminal.line(
            Style::Yellow,
            &format!("  {} % of the {scope} budget ({}) was used by {}", alert.percent, alert.budget, moment(alert.at)),
        )?;
    }
    Ok(())
}

fn artifacts(terminal: &Terminal, artifacts: &[Artifact]) -> Result<(), Stop> {
    if artifacts.is_empty() {
        return Ok(());
    }
    section(terminal, "Artifacts (print them with `skep logs`)")?;
    let rows = artifacts.iter().map(|a| {
        let digest = a.digest.get(..12).unwrap_or(&a.digest).to_owned();
        vec![digest, a.kind.name().to_owned(), a.size.to_string(), a.name.clone()]
    });
    terminal.print(&table(&["digest", "kind", "bytes", "name"], rows.collect(), terminal.width))
}

fn section(terminal: &Terminal, title: &str) -> Result<(), Stop> {
    terminal.print("")?;
    terminal.line(Style::Bold, title)
}

fn results(results: &[CheckResult], checks: &[Check]) -> String {
    let each = results.iter().map(|r| {
        let runner = checks.iter().find(|c| c.name == r.name).map_or_else(String::new, on_runner);
        let word = if r.green { "passed" } else { "failed" };
        let why = if r.green || r.why.is_empty() { String::new() } else { format!(", {}", brief(&r.why, 100)) };
        format!("{}{runner} {word} ({}{why})", r.name, duration(r.duration_ms))
    });
    each.collect::<Vec<_>>().join("; ")
}

/// Returns where a check runs, if not on Skep's own machine: ` on box`.
pub fn on_runner(check: &Check) -> String {
    check.runner.as_ref().map_or_else(String::new, |runner| format!(" on {runner}"))
}
