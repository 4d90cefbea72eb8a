//! The service, what runs wait for, and how its engines have done.

use super::super::state::{Link, State};
use super::super::text;
use super::{bad, cell, good, heading, quiet, warn, wrap_into};
use crate::cli::text::{count, duration};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// Most rows of each list.
const MAX_ROWS: usize = 200;

/// Returns the screen.
pub fn lines(state: &State, width: u16) -> Vec<Line<'static>> {
    let mut out = vec![heading(" Service")];
    let field = |name: &str, value: String, style: Style| {
        Line::from(vec![Span::styled(format!("  {}", cell(name, 12)), quiet()), Span::styled(value, style)])
    };
    if let Link::Up { driver, pages } = &state.link {
        out.push(field("runs", format!("{} works on the runs", driver.trim_end_matches(',')), Style::new()));
        if let Some(pages) = pages {
            out.push(field("address", text::line(pages), Style::new()));
        }
    }
    if let Some(health) = &state.health {
        let style = if health.status == "ok" { good(state) } else { bad(state) };
        out.push(field("status", text::line(&health.status), style));
        let store = if health.store { ("can be written", good(state)) } else { ("cannot be written", bad(state)) };
        out.push(field("store", store.0.to_owned(), store.1));
        out.push(field("sandbox", text::line(&health.sandbox), Style::new()));
        out.push(field("version", text::line(&health.version), Style::new()));
        out.push(field("live runs", health.live.to_string(), Style::new()));
        out.push(field("up for", duration(health.uptime_secs.saturating_mul(1_000)), Style::new()));
    }
    let waits: Vec<_> = state.runs.iter().filter_map(|r| Some((r, r.wake_at?, r.waiting_for.as_ref()?))).collect();
    if !waits.is_empty() {
        out.push(Line::default());
        out.push(heading(format!(" Waiting on a timer: {}", count(waits.len() as u64, "run"))));
        for (run, until, why) in waits.into_iter().take(MAX_ROWS) {
            let text = format!("{} until {}: {}", run.short_id(), (state.time)(until), text::line(why));
            wrap_into(&mut out, &text, "  ", warn(state), width);
        }
    }
    out.push(Line::default());
    out.push(heading(" Ratings of engines"));
    match &state.ratings {
        None => out.push(Line::styled("  Fetching…", quiet())),
        Some(ratings) if ratings.is_empty() => {
            out.push(Line::styled("  No engine has proven results yet.", quiet()));
        }
        Some(ratings) => {
            for r in ratings.iter().take(MAX_ROWS) {
                let name = cell(&text::line(&r.player), if width >= 80 { 36 } else { 14 });
                let results = format!("{} won, {} drawn, {} lost", r.won, r.drawn, r.lost);
                let rating = match r.established {
                    true => format!("{:.0} ± {:.0}", r.rating, r.deviation * 2.0),
                    false => "too few".to_owned(),
                };
                let style = if r.established { Style::new() } else { quiet() };
                out.push(Line::styled(
                    format!("  {name} {} {} {results}", cell(r.role.name(), 9), cell(&rating, 12)),
                    style,
                ));
            }
        }
    }
    out
}
