//! The questions that wait for a person: the list, and the selected one with its answers.

use super::super::act;
use super::super::selection::Question;
use super::super::state::State;
use super::super::text;
use super::{WIDE, cell, chosen, heading, mark, part, quiet, split_columns, split_lines, warn, window, wrap_into};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

/// Returns where the list and the question are.
pub fn areas(state: &State, body: Rect) -> (Rect, Rect) {
    if body.width >= WIDE {
        return split_columns(body, body.width * 2 / 5);
    }
    let questions = u16::try_from(state.questions().len()).unwrap_or(u16::MAX);
    split_lines(body, questions.clamp(1, (body.height / 3).max(1)).saturating_add(1))
}

/// Draws the screen.
pub fn draw(state: &State, frame: &mut Frame<'_>, body: Rect) {
    let (list, text) = areas(state, body);
    let questions = state.questions();
    if questions.is_empty() {
        frame.render_widget(Paragraph::new(empty(state)), body);
        return;
    }
    let selected = state.question_at(&questions);
    let is_wide = body.width >= WIDE;
    // Side by side, a question has two lines; above its text, one, and a blank line follows the list.
    let height = if is_wide { list.height / 2 } else { list.height.saturating_sub(1) };
    let rows: Vec<Line<'static>> = window(questions.len(), selected, height)
        .filter_map(|at| Some((at, questions.get(at)?)))
        .flat_map(|(at, question)| row(question, list.width, is_wide, at == selected))
        .collect();
    frame.render_widget(Paragraph::new(rows), list);
    part(frame, text, lines(state, text.width), state.scroll);
}

fn empty(state: &State) -> Vec<Line<'static>> {
    if !state.is_loaded {
        return Vec::new();
    }
    let mut lines = vec![Line::default()];
    if state.waiting().is_empty() {
        lines.push(Line::raw(" Nothing waits for you."));
        lines.push(Line::styled(" Questions of runs appear here. 2 shows all runs.", quiet()));
    } else if !state.filter.is_empty() {
        lines.push(Line::raw(format!(" No question fits the filter “{}”.", text::line(&state.filter))));
        lines.push(Line::styled(" Esc clears it.", quiet()));
    } else {
        lines.push(Line::styled(" Fetching the questions…", quiet()));
    }
    lines
}

fn row(question: &Question<'_>, width: u16, is_wide: bool, is_selected: bool) -> Vec<Line<'static>> {
    let Question { run, asked } = question;
    let (title, reason) = (text::line(&run.goal.title), text::line(&asked.reason));
    let texts = match is_wide {
        true => vec![format!("{}{title}", mark(is_selected)), format!(" {} · {reason}", run.short_id)],
        false => vec![format!("{}{title} · {reason}", mark(is_selected))],
    };
    let style = if is_selected { chosen() } else { Style::new() };
    texts.into_iter().map(|text| Line::styled(cell(&text, usize::from(width)), style)).collect()
}

/// Returns the selected question.
pub fn lines(state: &State, width: u16) -> Vec<Line<'static>> {
    let questions = state.questions();
    let mut out = Vec::new();
    if let Some(question) = questions.get(state.question_at(&questions)) {
        of_question(state, *question, width, &mut out);
    }
    out
}

/// Appends a question: why it is asked, what is needed, the answers.
pub fn of_question(state: &State, question: Question<'_>, width: u16, out: &mut Vec<Line<'static>>) {
    let Question { run, asked } = question;
    let title = format!("{} · {}", text::line(&run.project), text::line(&run.goal.title));
    wrap_into(out, &title, "", heading("").style, width);
    wrap_into(out, &text::line(&asked.reason), "", warn(state), width);
    out.push(Line::default());
    for need in &asked.needs {
        let need = format!("{}: {}", text::line(&need.what), text::line(&need.how));
        wrap_into(out, &need, "  ", Style::new(), width);
    }
    let why = text::lines(asked.why.trim_end());
    if !why.is_empty() {
        out.push(heading("What happened"));
        for line in &why {
            wrap_into(out, line, "  ", Style::new(), width);
        }
    }
    out.push(heading("Answers"));
    for (key, words) in act::keys(asked) {
        out.push(Line::raw(format!("  {key}  {words}")));
    }
    wrap_into(out, &text::line(&asked.resumes), "", quiet(), width);
    wrap_into(out, &text::line(&asked.reserved), "", quiet(), width);
}
