//! One run: what it is doing, and its parts as tabs.

use super::super::selection::Question;
use super::super::state::{JournalLine, OpenRun, State, Tab};
use super::super::text;
use super::{
    WIDE, bad, cell, chosen, clock, good, heading, inbox, mark, of_status, part, quiet, split_lines, warn, window,
    wrap_into,
};
use crate::cli::activity::{check_name, task_status};
use crate::cli::run_log;
use crate::cli::terminal::Mark;
use crate::cli::text::{between, count, duration, money, short_sha};
use crate::http::rest::wire::{Attempt, Ending, Engine, GateState, Run};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

/// Lines above the content: title, state, tabs.
const HEAD: u16 = 3;
/// Most lines of the end of the output of a failed check.
const MAX_TAIL: usize = 12;
/// Most failures of a check.
const MAX_FAILURES: usize = 10;

/// Returns where the content of a tab is.
pub fn content(body: Rect) -> Rect {
    split_lines(body, HEAD).1
}

/// Returns the number of lines of the tabs that are too long to be laid out as a whole.
pub fn long_len(state: &State) -> usize {
    match &state.open {
        Some(open) if open.tab == Tab::Output => open.log.as_ref().map_or(open.output.len(), |log| log.lines.len()),
        Some(open) => journal(open).count(),
        None => 0,
    }
}

fn journal(open: &OpenRun) -> impl DoubleEndedIterator<Item = &JournalLine> {
    open.journal.iter().filter(|line| open.shows_all || line.words.is_some())
}

/// Draws the screen.
pub fn draw(state: &State, frame: &mut Frame<'_>, body: Rect) {
    let Some(open) = &state.open else {
        let hint = " Select a run in the inbox (1) or the list (2) and press Enter.";
        frame.render_widget(Paragraph::new(Line::styled(hint, quiet())), body);
        return;
    };
    let (head, content) = split_lines(body, HEAD);
    let mut lines = match &open.run {
        None => vec![Line::styled(format!(" {}: fetching…", text::line(&open.id)), quiet()), Line::default()],
        Some(run) => {
            let title = format!(" {} {} · {}", run.short_id, text::line(&run.project), text::line(&run.goal.title));
            let status = Span::styled(format!(" {}", run.status), of_status(state, &run.status));
            let now = Span::raw(format!(" · {} · {}", run.phase, text::line(&run.now)));
            vec![heading(title), Line::from(vec![status, now])]
        }
    };
    lines.push(tabs(open));
    frame.render_widget(Paragraph::new(lines), head);
    match (open.tab, &open.run) {
        (Tab::Output, _) => output(open, frame, content),
        (Tab::Events, _) => events(state, open, frame, content),
        (Tab::Attempts, Some(run)) => attempts(state, open, run, frame, content),
        _ => part(frame, content, super::lines(state, content.width), state.scroll),
    }
}

fn tabs(open: &OpenRun) -> Line<'static> {
    let tab = |tab: Tab| {
        let style = if tab == open.tab { chosen() } else { quiet() };
        Span::styled(format!(" {} ", tab.name()), style)
    };
    Line::from(Tab::ALL.into_iter().map(tab).collect::<Vec<_>>())
}

/// Returns the lines of the tabs that are short.
pub fn lines(state: &State, width: u16) -> Vec<Line<'static>> {
    let mut out = Vec::new();
    if let Some((open, run)) = state.open.as_ref().and_then(|open| Some((open, open.run.as_deref()?))) {
        match open.tab {
            Tab::Plan => plan(state, run, width, &mut out),
            Tab::Budget => budget(state, run, width, &mut out),
            Tab::Gates => gates(state, run, width, &mut out),
            Tab::Attempts | Tab::Output | Tab::Events => {}
        }
    }
    out
}

fn plan(state: &State, run: &Run, width: u16, out: &mut Vec<Line<'static>>) {
    if let Some(outcome) = &run.outcome {
        let style = of_status(state, &run.status);
        wrap_into(out, &text::line(&run_log::outcome(outcome)), " ", style, width);
        out.push(Line::default());
    }
    // Failures first.
    let failed: Vec<_> = run.results.iter().filter(|result| !result.green).collect();
    for result in failed {
        let why = text::line(&result.why);
        wrap_into(out, &format!("✗ {}: {why}", text::line(&result.name)), " ", bad(state), width);
        for failure in result.failures.iter().take(MAX_FAILURES) {
            wrap_into(out, &text::line(failure), "   ", Style::new(), width);
        }
        let tail = text::lines(&result.tail);
        for line in tail.iter().skip(tail.len().saturating_sub(MAX_TAIL)) {
            wrap_into(out, line, "   │ ", quiet(), width);
        }
        out.push(Line::default());
    }
    for asked in &run.escalations {
        inbox::of_question(state, Question { run, asked }, width, out);
        out.push(Line::default());
    }
    for notice in &run.notices {
        wrap_into(out, &text::line(notice), " ! ", warn(state), width);
    }
    if run.tasks.is_empty() {
        out.push(Line::styled(" There is no plan yet.", quiet()));
    }
    for task in &run.tasks {
        let tries = if task.tries > 1 { format!(" · {}", count(task.tries.into(), "try")) } else { String::new() };
        let diff = match task.diff.files_total {
            0 => String::new(),
            n => format!(" · {} +{} -{}", count(n, "file"), task.diff.added, task.diff.removed),
        };
        let needs = match task.needs.is_empty() {
            true => String::new(),
            false => format!(" · after {}", text::line(&task.needs.join(", "))),
        };
        let status = cell(task_status(&task.status), 13);
        let first = format!("{} {status} {}{tries}{diff}{needs}", cell(&task.id, 3), text::line(&task.title));
        wrap_into(out, &first, " ", of_status(state, &task.status), width);
    }
    out.push(Line::default());
    let branch = format!("branch {} at {}, onto {}", run.branch, short_sha(&run.head), run.base_branch);
    wrap_into(out, &text::line(&branch), " ", quiet(), width);
    if let Some(url) = &run.change_url {
        wrap_into(out, &text::line(url), " ", quiet(), width);
    }
}

fn budget(state: &State, run: &Run, width: u16, out: &mut Vec<Line<'static>>) {
    let budget = &run.budget;
    let limit = |limit: Option<String>| limit.unwrap_or_else(|| "not limited".to_owned());
    out.push(Line::styled(
        format!(" {} {} {} {}", cell("", 10), cell("spent", 16), cell("reserved", 16), "limit"),
        quiet(),
    ));
    let (spent, reserved, limits) = (&budget.spent, &budget.reserved, &budget.limits);
    let rows = [
        ("money", money(spent.cost_micros), money(reserved.cost_micros), limit(limits.cost_micros.map(money))),
        ("tokens", spent.tokens.to_string(), reserved.tokens.to_string(), limit(limits.tokens.map(|n| n.to_string()))),
        ("calls", spent.turns.to_string(), reserved.turns.to_string(), limit(limits.turns.map(|n| n.to_string()))),
        (
            "time",
            duration(spent.wall_ms),
            duration(reserved.wall_ms),
            duration(limits.timeout_secs.saturating_mul(1_000)),
        ),
        ("attempts", budget.attempts.to_string(), String::new(), limits.attempts.to_string()),
        ("rounds", run.rounds.to_string(), String::new(), limits.rounds.to_string()),
    ];
    for (name, spent, reserved, limit) in rows {
        out.push(Line::raw(format!(" {} {} {} {limit}", cell(name, 10), cell(&spent, 16), cell(&reserved, 16))));
    }
    for alert in &budget.alerts {
        let text =
            format!("{} % of {} was reached at {}", alert.percent, text::line(&alert.budget), (state.time)(alert.at));
        wrap_into(out, &text, " ! ", warn(state), width);
    }
    for (engine, cooldown) in &run.cooldowns {
        let until = match cooldown.until {
            Some(until) => format!("until {}", (state.time)(until)),
            None => "until a person has answered".to_owned(),
        };
        let text = format!("{} is not used {until}: {}", text::line(engine), text::line(&cooldown.why));
        wrap_into(out, &text, " ! ", warn(state), width);
    }
}

fn gates(state: &State, run: &Run, width: u16, out: &mut Vec<Line<'static>>) {
    for gate in &run.gates {
        let (sign, style) = match gate.state {
            GateState::Open => ("✓", good(state)),
            GateState::Shut => ("✗", bad(state)),
            GateState::Wait => ("·", quiet()),
        };
        let why = gate.why.as_ref().map(|why| format!(": {}", text::line(why))).unwrap_or_default();
        wrap_into(out, &format!("{sign} {}{why}", text::line(&gate.name)), " ", style, width);
    }
    out.push(Line::default());
    out.push(heading(" Checks"));
    for check in &run.checks {
        let result = run.results.iter().find(|result| result.name == check.name);
        let (sign, style, after) = match result {
            Some(result) if result.green => ("✓", good(state), format!(" · {}", duration(result.duration_ms))),
            Some(result) => ("✗", bad(state), format!(" · {}", text::line(&result.why))),
            None => ("·", quiet(), String::new()),
        };
        let name = text::line(&check_name(check));
        wrap_into(out, &format!("{sign} {name}: {}{after}", text::line(&check.command)), " ", style, width);
    }
    if !run.acceptance.is_empty() {
        out.push(Line::default());
        out.push(heading(" Acceptance"));
        for criterion in &run.acceptance {
            wrap_into(out, &text::line(&criterion.words), "  ", Style::new(), width);
        }
    }
}

fn attempts(state: &State, open: &OpenRun, run: &Run, frame: &mut Frame<'_>, area: Rect) {
    if run.attempts.is_empty() {
        frame.render_widget(Paragraph::new(Line::styled(" There is no attempt yet.", quiet())), area);
        return;
    }
    // The list, and what the selected attempt reported.
    let (list, detail) = split_lines(area, area.height.saturating_sub((area.height / 3).max(2)));
    let rows: Vec<Line<'static>> = window(run.attempts.len(), open.attempt, list.height)
        .filter_map(|at| Some((at, run.attempts.get(at)?)))
        .map(|(at, attempt)| {
            let (text, style) = of_attempt(state, attempt);
            let text = format!("{}{text}", mark(at == open.attempt));
            let style = if at == open.attempt { chosen() } else { style };
            Line::styled(cell(&text, usize::from(area.width)), style)
        })
        .collect();
    frame.render_widget(Paragraph::new(rows), list);
    let mut lines = vec![Line::styled("─".repeat(usize::from(area.width)), quiet())];
    if let Some(ended) = run.attempts.get(open.attempt).and_then(|a| a.ended.as_ref()) {
        for line in text::lines(&ended.why) {
            wrap_into(&mut lines, &line, " ", Style::new(), area.width);
        }
    }
    part(frame, detail, lines, 0);
}

fn of_attempt(state: &State, attempt: &Attempt) -> (String, Style) {
    let engine = text::line(&Engine::parse(&attempt.engine).named());
    let task = attempt.task.clone().unwrap_or_default();
    let (ending, style, usage) = match &attempt.ended {
        None => (format!("since {}", clock(state, attempt.started_at)), Style::new(), String::new()),
        Some(ended) => {
            let style = match ended.ending {
                Ending::Succeeded => good(state),
                Ending::Asked | Ending::Stopped | Ending::NotStarted => quiet(),
                Ending::Failed | Ending::Lost | Ending::Unavailable => bad(state),
            };
            let usage = format!(
                "{} · {} tokens · {}",
                between(attempt.started_at, ended.at),
                ended.charged.tokens,
                money(ended.charged.cost_micros)
            );
            (ended.ending.name().replace('_', " "), style, usage)
        }
    };
    let who = format!("{} {}", cell(&attempt.id, 4), cell(attempt.step.role(), 9));
    let (engine_width, ending_width) = if state.size.0 < WIDE { (12, 14) } else { (24, 26) };
    let (engine, ending) = (cell(&engine, engine_width), cell(&ending, ending_width));
    (format!("{who} {} {engine} {ending} {usage}", cell(&task, 3)), style)
}

fn output(open: &OpenRun, frame: &mut Frame<'_>, area: Rect) {
    let height = usize::from(area.height);
    let of_range = |len: usize| {
        let end = len.saturating_sub(open.from_end);
        end.saturating_sub(height)..end
    };
    let lines: Vec<Line<'static>> = match &open.log {
        Some(log) => {
            let (head, area) = split_lines(area, 1);
            let hint = format!(" {} · f follows the live output", log.title);
            frame.render_widget(Paragraph::new(Line::styled(hint, quiet())), head);
            let end = log.lines.len().saturating_sub(open.from_end);
            let start = end.saturating_sub(usize::from(area.height));
            let visible = log.lines.get(start..end).unwrap_or_default();
            let lines: Vec<Line<'static>> = visible.iter().map(|line| Line::raw(format!(" {line}"))).collect();
            frame.render_widget(Paragraph::new(lines), area);
            return;
        }
        None if open.output.is_empty() => {
            vec![Line::styled(" Nothing is printed at the moment. l shows the newest log.", quiet())]
        }
        None => open.output.range(of_range(open.output.len())).map(|line| Line::raw(format!(" {line}"))).collect(),
    };
    frame.render_widget(Paragraph::new(lines), area);
}

fn events(state: &State, open: &OpenRun, frame: &mut Frame<'_>, area: Rect) {
    let newest = journal(open).rev().skip(open.from_end).take(usize::from(area.height));
    let mut lines: Vec<Line<'static>> = newest.map(|line| event(state, line)).collect();
    lines.reverse();
    frame.render_widget(Paragraph::new(lines), area);
}

fn event(state: &State, line: &JournalLine) -> Line<'static> {
    let (sign, style) = match line.mark {
        Mark::Good => ("✓", good(state)),
        Mark::Bad => ("✗", bad(state)),
        Mark::Again => ("!", warn(state)),
        Mark::Note => ("·", quiet()),
    };
    let words = line.words.clone().unwrap_or_else(|| line.name.clone());
    Line::from(vec![
        Span::styled(format!(" {:>4}  {}  ", line.seq, clock(state, line.at)), quiet()),
        Span::styled(format!("{sign} "), style),
        Span::raw(words),
    ])
}
