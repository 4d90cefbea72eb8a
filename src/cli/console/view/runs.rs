//! The list of runs.

use super::super::state::State;
use super::super::text;
use super::{cell, chosen, heading, mark, of_status, quiet, split_lines, window};
use crate::http::rest::wire::RunSummary;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

/// Draws the screen.
pub fn draw(state: &State, frame: &mut Frame<'_>, body: Rect) {
    let (head, list) = split_lines(body, 1);
    let listed = state.listed();
    let columns = Columns::of(body.width);
    let filter = match state.filter.is_empty() {
        true => String::new(),
        false => format!(" · {} of {} fit “{}”", listed.len(), state.runs.len(), text::line(&state.filter)),
    };
    frame.render_widget(Paragraph::new(heading(columns.head(&filter))), head);
    if listed.is_empty() {
        if state.is_loaded {
            let hint = " No runs. `skep run \"what should be different\"` starts one.";
            frame.render_widget(Paragraph::new(Line::styled(hint, quiet())), list);
        }
        return;
    }
    let selected = state.selected_at(&listed);
    let rows: Vec<Line<'static>> = window(listed.len(), selected, list.height)
        .filter_map(|at| Some((at, listed.get(at)?)))
        .map(|(at, row)| {
            let line = columns.row(state, row, at == selected);
            if at == selected { line.style(chosen()) } else { line }
        })
        .collect();
    frame.render_widget(Paragraph::new(rows), list);
}

struct Columns {
    project: usize,
    phase: usize,
    updated: usize,
    title: usize,
}

impl Columns {
    fn of(width: u16) -> Columns {
        let width = usize::from(width);
        let (project, phase, updated) = match width {
            0..60 => (0, 0, 0),
            60..120 => (12, 10, 0),
            _ => (18, 10, 19),
        };
        // Id and status, and a blank before each column.
        let used = 9 + 12 + [project, phase, updated].iter().map(|w| if *w > 0 { w + 1 } else { 0 }).sum::<usize>();
        Columns { project, phase, updated, title: width.saturating_sub(used + 1) }
    }

    fn head(&self, filter: &str) -> String {
        self.join(" ", "run", "status", "project", "phase", "updated", &format!("goal{filter}"))
    }

    #[allow(clippy::too_many_arguments)] // one for each column
    fn join(
        &self,
        mark: &str,
        id: &str,
        status: &str,
        project: &str,
        phase: &str,
        updated: &str,
        title: &str,
    ) -> String {
        let mut out = format!("{mark}{} {}", cell(id, 8), cell(status, 11));
        for (text, width) in [(project, self.project), (phase, self.phase), (updated, self.updated)] {
            if width > 0 {
                out.push(' ');
                out.push_str(&cell(text, width));
            }
        }
        format!("{out} {}", cell(title, self.title))
    }

    fn row(&self, state: &State, row: &RunSummary, is_selected: bool) -> Line<'static> {
        let updated = (state.time)(row.updated_at);
        let waits = match (&row.quarantined, row.blocks.is_empty(), &row.waiting_for) {
            (Some(why), ..) => format!(" · {}", text::line(why)),
            (None, false, _) => format!(" · waits for you: {}", text::line(&row.blocks.join(", "))),
            (None, true, Some(why)) => format!(" · waits: {}", text::line(why)),
            _ => String::new(),
        };
        let title = format!("{}{waits}", text::line(&row.title));
        let text = self.join(
            mark(is_selected),
            row.short_id(),
            &row.status,
            &text::line(&row.project),
            &row.phase,
            &updated,
            &title,
        );
        // The status word has its color, the rest is plain.
        let style = of_status(state, &row.status);
        let at = |n: usize| text.char_indices().nth(n).map_or(text.len(), |(at, _)| at);
        let (start, end) = (at(10), at(21));
        Line::from(vec![
            Span::raw(text.get(..start).unwrap_or_default().to_owned()),
            Span::styled(text.get(start..end).unwrap_or_default().to_owned(), style),
            Span::raw(text.get(end..).unwrap_or_default().to_owned()),
        ])
    }
}
