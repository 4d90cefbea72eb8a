//! What is in front of the screen: the keys, a text that is written, an act that waits for a yes.

use super::super::keys;
use super::super::state::{Act, Dialog, Field, State};
use super::super::text;
use super::{cell, heading, quiet, warn, wrap_into};
use crate::http::rest::wire::NewRun;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph};

/// Most lines of a written text that a question repeats.
const MAX_TEXT_LINES: usize = 6;

/// Draws a dialog over the window.
pub fn draw(state: &State, dialog: &Dialog, frame: &mut Frame<'_>, window: Rect) {
    let width = window.width.saturating_sub(4).min(90);
    let inner = width.saturating_sub(2);
    let (title, lines) = match dialog {
        Dialog::Keys => (" Keys ", all_keys(state, inner)),
        Dialog::Write(field, _) => (" Write ", writing(field, inner)),
        Dialog::Confirm(act) => (" Are you sure? ", question(state, act, inner)),
        Dialog::Start(new) => (" Are you sure? ", new_run(new, inner)),
    };
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_add(2).min(window.height);
    let area =
        Rect { x: window.x + (window.width - width) / 2, y: window.y + (window.height - height) / 2, width, height };
    // What matters, the field or the keys that answer, is at the end.
    let hidden = lines.len().saturating_sub(usize::from(height.saturating_sub(2)));
    let skipped = if matches!(dialog, Dialog::Keys) { 0 } else { hidden };
    let visible: Vec<Line<'static>> = lines.into_iter().skip(skipped).collect();
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(visible).block(Block::bordered().title(title)), area);
}

fn all_keys(state: &State, width: u16) -> Vec<Line<'static>> {
    let of_screen = keys::of_screen(state.screen);
    let row = |(key, words): &(&str, &str)| format!("{} {words}", cell(key, 13));
    let mut lines = Vec::new();
    if !of_screen.is_empty() {
        lines.push(heading(state.screen.name()));
    }
    let rows: Vec<String> = of_screen.iter().map(row).collect();
    let everywhere: Vec<String> = keys::EVERYWHERE.iter().map(row).collect();
    for (n, rows) in [rows, everywhere].into_iter().enumerate() {
        if n == 1 {
            lines.push(heading("Everywhere"));
        }
        // Two columns where there is room.
        let columns = if width >= 74 { 2 } else { 1 };
        let half = rows.len().div_ceil(columns);
        for at in 0..half {
            let right = rows.get(at + half).filter(|_| columns == 2).map_or("", String::as_str);
            let left = rows.get(at).map_or("", String::as_str);
            let column = usize::from(width) / columns;
            lines.push(Line::raw(format!("{}{right}", cell(left, column))));
        }
    }
    lines.push(Line::styled("Any key closes this.", quiet()));
    lines
}

fn writing(field: &Field, width: u16) -> Vec<Line<'static>> {
    let mut lines = vec![heading(field.label.clone())];
    wrap_into(&mut lines, &format!("{}▏", text::verbatim(&field.text)), "", Style::new(), width);
    let optional = if field.is_optional { " (may be empty)" } else { "" };
    lines.push(Line::styled(format!("Enter continues{optional}, Esc leaves it"), quiet()));
    lines
}

fn question(state: &State, act: &Act, width: u16) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let bold = Style::new().add_modifier(Modifier::BOLD);
    wrap_into(&mut lines, &format!("Do you want to {}?", act.what), "", bold, width);
    if let Some(written) = &act.body.text {
        let mut quoted = Vec::new();
        for line in written.lines() {
            wrap_into(&mut quoted, &text::verbatim(line), "  ", Style::new(), width);
        }
        lines.push(Line::styled("You write:", quiet()));
        let more = quoted.len() > MAX_TEXT_LINES;
        lines.extend(quoted.into_iter().take(MAX_TEXT_LINES));
        if more {
            lines.push(Line::styled("  …", quiet()));
        }
    }
    wrap_into(&mut lines, &format!("You saw: {}", act.seen.words()), "", warn(state), width);
    lines.push(Line::default());
    lines.push(Line::styled("n no   y yes", bold));
    lines
}

fn new_run(new: &NewRun, width: u16) -> Vec<Line<'static>> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let place = new.project.as_deref().or(new.repo.as_deref()).unwrap_or_default();
    let mut lines = Vec::new();
    wrap_into(&mut lines, &format!("Do you want to start a run on {}?", text::verbatim(place)), "", bold, width);
    wrap_into(&mut lines, &text::verbatim(&new.goal), "  ", Style::new(), width);
    let how = "It works with the engines, checks and limits of the project; `skep run` can choose others.";
    wrap_into(&mut lines, how, "", quiet(), width);
    lines.push(Line::default());
    lines.push(Line::styled("n no   y yes", bold));
    lines
}
