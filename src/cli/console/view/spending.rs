//! Spending, summed up by one attribute.

use super::super::state::State;
use super::super::text;
use super::{cell, good, heading, quiet};
use crate::cli::text::{count, duration, money};
use crate::http::rest::wire::Spending;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// Columns of a bar.
const BAR: u64 = 20;

/// Returns the screen.
pub fn lines(state: &State, width: u16) -> Vec<Line<'static>> {
    let mut out = vec![heading(format!(" Spending by {}", state.by.name()))];
    let Some(rows) = &state.spending else {
        out.push(Line::styled(" Fetching…", quiet()));
        return out;
    };
    if rows.is_empty() {
        out.push(Line::styled(" Nothing was spent yet.", quiet()));
        return out;
    }
    let is_wide = width >= 80;
    let key_width = if is_wide { 28 } else { 14 };
    let head = format!(" {} {} {}", cell("", key_width), cell("cost", 10), cell("tokens", 12));
    let more = if is_wide { format!(" {} {}", cell("attempts", 12), cell("time", 14)) } else { String::new() };
    out.push(Line::styled(format!("{head}{more}"), quiet()));
    let most = rows.iter().map(measure).max().unwrap_or(0).max(1);
    for row in rows {
        let key = text::line(&row.key);
        let key = if key.is_empty() { "unknown".to_owned() } else { key };
        let mut text = format!(
            " {} {} {}",
            cell(&key, key_width),
            cell(&money(row.cost_micros), 10),
            cell(&row.tokens.to_string(), 12)
        );
        if is_wide {
            text.push_str(&format!(
                " {} {}",
                cell(&count(row.attempts, "attempt"), 12),
                cell(&duration(row.wall_ms), 14)
            ));
        }
        let mut spans = vec![Span::raw(text)];
        if width >= 110 {
            let filled = measure(row).saturating_mul(BAR).div_ceil(most);
            let bar = "█".repeat(usize::try_from(filled.min(BAR)).unwrap_or(0));
            spans.push(Span::styled(format!(" {bar}"), good(state)));
        }
        out.push(Line::from(spans));
    }
    let unpriced: u64 = rows.iter().map(|row| row.unpriced).sum();
    if unpriced > 0 {
        let note = format!(" {} with a model of unknown price", count(unpriced, "attempt"));
        out.push(Line::styled(note, Style::new()));
    }
    out
}

/// Returns what a bar shows: money, or tokens where nothing costs money.
fn measure(row: &Spending) -> u64 {
    if row.cost_micros > 0 { row.cost_micros } else { row.tokens / 1_000 }
}
