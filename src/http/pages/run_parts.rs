//! The parts of a run's overview.

use super::look;
use super::parts::{chart, plan as graph, timeline};
use super::visit::Visit;
use crate::domain::gate::{self, Gate};
use crate::domain::{
    Attempt, BlockKind, BudgetKind, CheckResult, CriterionState, Ending, EngineSpec, LandingWatch, Outcome, Phase, Run,
    Scope, Usage, WatchState, status,
};
use crate::render;
use maud::{Markup, html};

/// Lines of a red check's output.
const TAIL_LINES: usize = 30;
/// Attempts in the table; the newest are listed.
const MAX_ATTEMPTS: usize = 100;
/// Tasks in the table.
const MAX_TASKS: usize = 200;

/// Returns why the run is not done: the red checks with the end of their output, else the last failed attempt. Nothing
/// if nothing failed last.
pub fn failure(run: &Run) -> Markup {
    // A question about used-up tries or rounds shows the failure itself.
    let is_asked = run.blocks.iter().any(|b| {
        use BlockKind::{Environment, Rounds, StepTime, Tries};
        matches!(b.kind, Tries { .. } | StepTime { .. } | Environment { .. } | Rounds)
    });
    if is_asked || matches!(run.outcome, Some(Outcome::Delivered { .. } | Outcome::Unchanged)) {
        return html! {};
    }
    let at_head = run.facts.results.iter().flatten();
    let of_tasks = run.tasks.iter().filter(|t| !t.over()).flat_map(|t| &t.results);
    let red: Vec<&CheckResult> = at_head.chain(of_tasks).filter(|r| !r.green).take(5).collect();
    if !red.is_empty() {
        return html! {
            section.failure aria-labelledby="failure" {
                h2 id="failure" { "Why it is not done" }
                @for result in red { (red_check(run, result)) }
            }
        };
    }
    // What is tried again is not what it fails for.
    if run.live_attempts().next().is_some() {
        return html! {};
    }
    let ended = run.attempts.iter().rev().find_map(|a| Some((a, a.ended.as_ref()?)));
    match ended {
        Some((attempt, end)) if matches!(end.ending, Ending::Failed | Ending::Lost | Ending::Unavailable) => html! {
            section.failure aria-labelledby="failure" {
                h2 id="failure" { "Why it is not done" }
                p { strong { (attempt.id) " " (attempt.step.name()) } " " (ending(end.ending)) }
                (look::failure(&end.why, &reported(attempt, end.ending)))
            }
        },
        _ => html! {},
    }
}

fn red_check(run: &Run, result: &CheckResult) -> Markup {
    let all: Vec<&str> = result.tail.trim_end().lines().collect();
    let tail = all[all.len().saturating_sub(TAIL_LINES)..].join("\n");
    html! {
        p { (look::status("red")) " " strong { (look::line(&result.name)) } ": " (look::line(&result.why)) }
        @if !tail.is_empty() { (look::fenced(&tail)) }
        @if let Some(log) = result.artifacts.first() {
            p { a href={ "/runs/" (run.id) "/output/" (log.digest) } { "The whole output" } }
        }
    }
}

/// Returns whose words an attempt's reason is in.
fn reported(attempt: &Attempt, ending: Ending) -> String {
    match ending {
        Ending::Lost | Ending::Stopped | Ending::Unavailable | Ending::NotStarted => "What happened".to_owned(),
        _ => format!("Reported by the {}", attempt.step.role().name()),
    }
}

/// Returns an ending in words.
pub fn ending(ending: Ending) -> &'static str {
    match ending {
        Ending::Succeeded => "succeeded",
        Ending::Failed => "failed",
        Ending::Asked => "asked a question",
        Ending::Lost => "was lost with its process",
        Ending::Stopped => "was stopped",
        Ending::Unavailable => "found its engine unavailable",
        Ending::NotStarted => "was not started",
    }
}

/// Returns the plan: graph and table.
pub fn plan(run: &Run) -> Markup {
    let nodes: Vec<graph::Node> = run
        .tasks
        .iter()
        .map(|task| graph::Node {
            id: task.id.to_string(),
            name: task.spec.name.clone(),
            title: task.spec.title.clone(),
            needs: task.spec.needs.clone(),
            status: status::of_task(run, task).word(),
        })
        .collect();
    html! {
        section aria-labelledby="plan" {
            h2 id="plan" { "Plan" @if run.plan.revision > 0 { span.quiet { " revision " (run.plan.revision) } } }
            @if run.tasks.is_empty() { (look::empty("There is no plan yet.", html! { "The manager writes it first." })) }
            @else {
                @if let Some(graph) = graph::graph(&nodes) { (graph) }
                table.list {
                    caption.hidden-title { "Tasks in plan order" }
                    thead { tr { th scope="col" { "Task" } th scope="col" { "Status" } th scope="col" { "Needs" }
                        th scope="col" { "Tries" } th scope="col" { "Changes" } } }
                    tbody { @for task in run.tasks.iter().take(MAX_TASKS) {
                        tr {
                            td.wide data-th="Task" { details { summary { code { (task.id) } " " (look::line(&task.spec.title)) }
                                (look::quoted(&task.spec.text, &format!("From the {}", task.origin.name()))) } }
                            td data-th="Status" { (look::status(status::of_task(run, task).word())) }
                            td data-th="Needs" { @if task.spec.needs.is_empty() { span.quiet { "nothing" } } @else { (look::line(&task.spec.needs.join(", "))) } }
                            td data-th="Tries" { (task.tries) " of " (task.tries_allowed) }
                            td data-th="Changes" { @if task.head.is_some() {
                                a href={ "/runs/" (run.id) "/changes?task=" (task.id) } { "+" (task.diff.added) " −" (task.diff.removed) }
                            } @else { span.quiet { "none yet" } } }
                        }
                    } }
                }
                @if run.tasks.len() > MAX_TASKS { p.quiet { (run.tasks.len() - MAX_TASKS) " more tasks are not listed." } }
            }
        }
    }
}

/// Returns the attempts: timeline and table.
pub fn attempts(visit: &Visit, run: &Run) -> Markup {
    html! {
        section aria-labelledby="attempts" {
            h2 id="attempts" { "Attempts" @if !run.attempts.is_empty() { span.count { (run.attempts.len()) } } }
            @if run.attempts.is_empty() { (look::empty("No attempt has started.", html! { "The first one starts with a free slot." })) }
            @else {
                @if let Some(timeline) = timeline::timeline(run, visit.at()) { (timeline) }
                (attempts_table(visit, run, MAX_ATTEMPTS))
            }
        }
    }
}

/// Returns the newest attempts as a table.
pub fn attempts_table(visit: &Visit, run: &Run, max: usize) -> Markup {
    html! {
        table.list {
            caption.hidden-title { "Attempts, newest first" }
            thead { tr { th scope="col" { "Attempt" } th scope="col" { "Engine" } th scope="col" { "Outcome" }
                th.num scope="col" { "Time" } th.num scope="col" { "Tokens" } th.num scope="col" { "Cost" } } }
            tbody { @for attempt in run.attempts.iter().rev().take(max) { (attempt_row(visit, attempt)) } }
        }
        @if run.attempts.len() > max { p.quiet { (run.attempts.len() - max) " older attempts are not listed." } }
    }
}

fn attempt_row(visit: &Visit, attempt: &Attempt) -> Markup {
    let charged = attempt.ended.as_ref().map(|e| e.charged);
    let time = charged.map_or_else(|| render::elapsed(attempt.started_at, visit.at()), |c| render::duration(c.wall_ms));
    html! {
        tr {
            td data-th="Attempt" { code { (attempt.id) } " " (attempt.step.name()) @if let Some(task) = attempt.task { " " code { (task) } } }
            td data-th="Engine" { (look::line(&EngineSpec::parse(&attempt.engine).named())) }
            td.wide data-th="Outcome" {
                @match &attempt.ended {
                    None => (look::status("running")),
                    Some(end) if end.why.trim().is_empty() => (ending(end.ending)),
                    Some(end) => details { summary { (look::line(&format!("{}: {}", ending(end.ending), render::brief(&end.why, 80)))) }
                        (look::quoted(&end.why, &reported(attempt, end.ending))) },
                }
            }
            td.num data-th="Time" { (time) }
            td.num data-th="Tokens" { @if let Some(c) = charged { (look::number(c.tokens)) } @else { "…" } }
            td.num data-th="Cost" { @if let Some(c) = charged { (render::money(c.cost_micros)) } @else { "…" } }
        }
    }
}

/// Returns the gates before landing, in words.
pub fn gates(run: &Run) -> Markup {
    // Before there is work to review, and after the end, gates have nothing to say.
    if run.phase < Phase::Reviewing || run.ended() {
        return html! {};
    }
    // Gates with the same reason are one line. What is not open comes first.
    let mut groups: Vec<(&str, String, Vec<&str>)> = Vec::new();
    for (name, gate) in gate::all(run) {
        let (word, why) = match gate {
            Gate::Open => ("open", String::new()),
            Gate::Shut(why) => ("shut", render::brief(&why, 160)),
            Gate::Wait(why) => ("waiting", render::brief(&why, 160)),
        };
        match groups.iter_mut().find(|(w, y, _)| *w == word && *y == why) {
            Some((_, _, names)) => names.push(name),
            None => groups.push((word, why, vec![name])),
        }
    }
    groups.sort_by_key(|(word, ..)| match *word {
        "shut" => 0,
        "waiting" => 1,
        _ => 2,
    });
    html! {
        section.side aria-labelledby="gates" {
            h2 id="gates" { "Gates" }
            ul.plain.gates { @for (word, why, names) in &groups {
                li { (look::status(word)) div { (names.join(", ")) @if !why.is_empty() { div.quiet { (look::line(why)) } } } }
            } }
        }
    }
}

/// Returns the acceptance criteria with their states at the head; nothing without a spec.
pub fn acceptance(run: &Run) -> Markup {
    let records = run.acceptance();
    let word = |state| match state {
        CriterionState::Met => "green",
        CriterionState::Unmet | CriterionState::Waived => "red",
        CriterionState::Pending => "pending",
    };
    html! {
        @if !records.is_empty() {
            section.side aria-labelledby="acceptance" {
                h2 id="acceptance" { "Acceptance" }
                ul.plain { @for record in &records { li {
                    (look::status(word(record.state))) " " (look::line(&record.criterion.text))
                    " " span.quiet { (look::line(&record.criterion.id)) ": " (look::line(&render::criterion_state(record))) }
                } } }
            }
        }
    }
}

/// Returns the newest check results at the head.
pub fn checks(run: &Run) -> Markup {
    let results: Vec<&CheckResult> = run.facts.results.iter().flatten().collect();
    html! {
        section.side aria-labelledby="checks" {
            h2 id="checks" { "Checks" }
            @if results.is_empty() {
                p.quiet { "They have not run at this head." }
                ul.plain { @for check in &run.settings.checks { li { code { (look::line(&check.command)) } } } }
            }
            @else {
                ul.plain { @for result in &results { li {
                    (look::status(if result.green { "green" } else { "red" })) " "
                    @match result.artifacts.first() {
                        Some(log) => a href={ "/runs/" (run.id) "/output/" (log.digest) } { (look::line(&result.name)) },
                        None => (look::line(&result.name)),
                    }
                    span.quiet { " " (render::duration(result.duration_ms))
                        @if let Some(tests) = result.tests { ", " (tests.run.saturating_sub(tests.failed + tests.skipped)) " of " (render::count(tests.run, "test")) " passed" } }
                } } }
                @if results.iter().all(|r| r.green) && !run.proves(Scope::Head, run.facts.results.as_deref().unwrap_or_default()) {
                    p { "A check that was ordered did not run." }
                }
            }
        }
    }
}

/// Returns the budget: a meter for each limit.
pub fn budget(visit: &Visit, run: &Run) -> Markup {
    let (spent, limits) = (run.ledger.spent, run.limits);
    let reserved = run.ledger.reserved.values().fold(Usage::default(), |sum, r| sum.plus(*r));
    let attempts = run.counted_attempts() as u64;
    html! {
        section.side aria-labelledby="budget" {
            h2 id="budget" { "Budget" }
            (level(BudgetKind::Cost, spent.cost_micros, reserved.cost_micros, limits.cost_micros, &render::money))
            (level(BudgetKind::Time, spent.wall_ms, running_ms(visit, run), Some(limits.timeout_secs.saturating_mul(1000)), &render::duration))
            (level(BudgetKind::Tokens, spent.tokens, reserved.tokens, limits.tokens, &look::number))
            (level(BudgetKind::Turns, spent.turns, 0, limits.turns, &look::number))
            (level(BudgetKind::Attempts, attempts, 0, Some(limits.attempts.into()), &look::number))
            (level(BudgetKind::Rounds, run.rounds.into(), 0, Some(limits.rounds.into()), &look::number))
        }
    }
}

/// Returns the time of attempts in progress.
fn running_ms(visit: &Visit, run: &Run) -> u64 {
    run.live_attempts().map(|a| a.elapsed_ms(visit.at())).sum()
}

fn level(kind: BudgetKind, used: u64, reserved: u64, limit: Option<u64>, amount: &dyn Fn(u64) -> String) -> Markup {
    html! {
        div.level {
            span { (look::sentence(render::budget_word(kind))) }
            span.num {
                (amount(used))
                @if let Some(limit) = limit { " of " (amount(limit)) } @else { span.quiet { ", no limit" } }
            }
            @if let Some(limit) = limit { (chart::meter(used, reserved, limit)) }
        }
    }
}

/// What became of CI on the base branch since the run has landed.
pub fn after_landing(watch: &LandingWatch) -> Markup {
    html! {
        p.now {
            (look::line(&look::sentence(&render::landing_watch::words(watch)))) "."
            @if let WatchState::Blamed { revert, error: None, .. } = &watch.state {
                " " a href={ "/runs/" (revert) } { "Open the revert" } "."
            }
        }
    }
}

/// Returns what the run was born with.
pub fn facts(visit: &Visit, run: &Run) -> Markup {
    let settings = &run.settings;
    html! {
        section.side aria-labelledby="facts" {
            h2 id="facts" { "Facts" }
            (look::quoted(&run.goal.text, &format!("Goal, by {}", run.goal.asked_by)))
            dl.facts {
                dt { "Repository" } dd { (look::outside(&settings.origin)) }
                dt { "Branch" } dd { code { (look::line(&settings.branch)) } " onto " code { (look::line(&settings.base_branch)) } }
                dt { "Base" } dd { (look::sha(&run.base)) }
                dt { "Head" } dd { (look::sha(&run.head)) }
                @if let Some(change) = &run.change { dt { "Change" } dd { "#" (change.number) " " (look::outside(&change.url)) } }
                @if let Some(proof) = &run.batch { dt { "Landed" } dd { (render::batch(proof)) } }
                dt { "Engines" } dd { (look::engines(&settings.engines)) }
                dt { "Started" } dd { (render::utc(run.opened_at)) " (" (look::ago(run.opened_at, visit.at())) ")" }
                dt { "Run" } dd { code { (run.id) } ", event " (run.seq) }
            }
        }
    }
}
