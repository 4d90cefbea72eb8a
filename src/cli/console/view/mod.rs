//! Draws the state of the console.
//!
//! Invariant: pure. The same state in a window of the same size draws the same cells.

mod dialog;
mod diff;
mod inbox;
mod run;
mod runs;
mod service;
mod spending;

use super::state::{Link, Screen, State, Tab};
use super::{act, text};
use crate::http::rest::wire::Timestamp;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

/// Smallest window that is drawn.
const MIN_SIZE: (u16, u16) = (40, 10);
/// Columns from which a list and its text stand side by side.
const WIDE: u16 = 100;

/// Draws everything.
pub fn draw(state: &State, frame: &mut Frame<'_>) {
    let window = frame.area();
    if window.width < MIN_SIZE.0 || window.height < MIN_SIZE.1 {
        let lines = vec![Line::raw("The window is too small."), Line::raw("80x24 is comfortable, 40x10 the least.")];
        frame.render_widget(Paragraph::new(lines), window);
        return;
    }
    let areas = Areas::of(state, window);
    frame.render_widget(Paragraph::new(header(state)), areas.header);
    if let Some(area) = areas.banner {
        frame.render_widget(Paragraph::new(banner(state)), area);
    }
    match state.screen {
        Screen::Inbox => inbox::draw(state, frame, areas.body),
        Screen::Runs => runs::draw(state, frame, areas.body),
        Screen::Run => run::draw(state, frame, areas.body),
        Screen::Diff => diff::draw(state, frame, areas.body),
        Screen::Spending | Screen::Service => {
            let lines = lines(state, areas.body.width);
            part(frame, areas.body, lines, state.scroll);
        }
    }
    if matches!(state.link, Link::Lost { .. }) {
        frame.buffer_mut().set_style(areas.body, Style::new().add_modifier(Modifier::DIM));
    }
    frame.render_widget(Paragraph::new(footer(state, areas.footer.width)), areas.footer);
    if let Some(dialog) = &state.dialog {
        dialog::draw(state, dialog, frame, window);
    }
    text::guard(frame.buffer_mut());
}

/// Returns how far the text of the screen can be scrolled.
pub fn max_scroll(state: &State) -> usize {
    let (columns, rows) = state.size;
    if columns < MIN_SIZE.0 || rows < MIN_SIZE.1 {
        return 0;
    }
    let body = Areas::of(state, Rect::new(0, 0, columns, rows)).body;
    let (len, height) = match (state.screen, state.open.as_ref().map(|open| open.tab)) {
        (Screen::Inbox, _) => {
            let (_, area) = inbox::areas(state, body);
            (lines(state, area.width).len(), area.height)
        }
        (Screen::Run, Some(Tab::Output | Tab::Events)) => (run::long_len(state), run::content(body).height),
        (Screen::Run, Some(Tab::Attempts) | None) | (Screen::Runs, _) => return 0,
        (Screen::Run, Some(_)) => (lines(state, body.width).len(), run::content(body).height),
        (Screen::Diff, _) => (diff::len(state), diff::areas(state, body).1.height),
        (Screen::Spending | Screen::Service, _) => (lines(state, body.width).len(), body.height),
    };
    len.saturating_sub(usize::from(height))
}

/// Returns how many lines of a file the screen of changes shows.
pub fn diff_height(state: &State) -> usize {
    let (columns, rows) = state.size;
    if columns < MIN_SIZE.0 || rows < MIN_SIZE.1 {
        return 1;
    }
    let body = Areas::of(state, Rect::new(0, 0, columns, rows)).body;
    usize::from(diff::areas(state, body).1.height).max(1)
}

/// Returns the text of a screen that is short enough to be laid out as a whole.
fn lines(state: &State, width: u16) -> Vec<Line<'static>> {
    match state.screen {
        Screen::Inbox => inbox::lines(state, width),
        Screen::Run => run::lines(state, width),
        Screen::Spending => spending::lines(state, width),
        Screen::Service => service::lines(state, width),
        Screen::Runs | Screen::Diff => Vec::new(),
    }
}

struct Areas {
    header: Rect,
    banner: Option<Rect>,
    body: Rect,
    footer: Rect,
}

impl Areas {
    fn of(state: &State, window: Rect) -> Areas {
        let row = |y: u16| Rect { y: window.y + y, height: 1, ..window };
        let top = if state.is_up() { 1 } else { 2 };
        Areas {
            header: row(0),
            banner: (!state.is_up()).then(|| row(1)),
            body: Rect { y: window.y + top, height: window.height - top - 1, ..window },
            footer: row(window.height - 1),
        }
    }
}

fn header(state: &State) -> Line<'static> {
    let waiting = state.waiting().len();
    let is_narrow = state.size.0 < 70;
    let mut spans = Vec::new();
    for (n, screen) in Screen::ALL.into_iter().enumerate() {
        let mut name = match is_narrow && screen != state.screen {
            true => format!(" {} ", n + 1),
            false => format!(" {} {} ", n + 1, screen.name()),
        };
        if screen == Screen::Inbox && waiting > 0 {
            name = format!("{}({waiting}) ", name);
        }
        let style = if screen == state.screen { chosen() } else { Style::new() };
        spans.push(Span::styled(name, style));
    }
    Line::from(spans)
}

fn banner(state: &State) -> Line<'static> {
    match &state.link {
        Link::Connecting => Line::styled(" Connecting…", quiet()),
        Link::Lost { why } => {
            Line::styled(format!(" Reconnecting… What you see is the last known state. {why}"), warn(state))
        }
        Link::Up { .. } => Line::default(),
    }
}

/// Returns the line at the bottom: a sentence about what just happened, or the keys that matter now.
fn footer(state: &State, width: u16) -> Line<'static> {
    if let Some(notice) = &state.notice {
        let style = if notice.is_error { bad(state) } else { good(state) };
        return Line::styled(format!(" {}", notice.text), style);
    }
    let mut keys: Vec<(String, &str)> = Vec::new();
    if let Some(question) = state.asked() {
        keys.extend(act::keys(question.asked).into_iter().map(|(key, words)| (key.to_string(), words)));
    }
    let of_screen: &[(&str, &str)] = match state.screen {
        Screen::Inbox => &[("v", "changes"), ("Enter", "run"), ("n", "new run")],
        Screen::Runs => &[("Enter", "open"), ("/", "filter"), ("n", "new run")],
        Screen::Run => &[("[ ]", "tab"), ("v", "changes"), ("f", "output"), ("C", "cancel")],
        Screen::Diff => &[("n p", "file"), ("c", "comment"), ("v", "viewed")],
        Screen::Spending => &[("b", "by")],
        Screen::Service => &[],
    };
    keys.extend(of_screen.iter().map(|(key, words)| ((*key).to_owned(), *words)));
    keys.push(("q".to_owned(), "quit"));
    // The help names the keys that have no room, so it always has.
    let help = " ? keys";
    let (mut spans, mut used) = (Vec::new(), help.len());
    for (key, words) in keys {
        let len = key.chars().count() + words.len() + 4;
        if used + len > usize::from(width) {
            break;
        }
        used += len;
        spans.push(Span::styled(format!(" {key}"), Style::new().add_modifier(Modifier::BOLD)));
        spans.push(Span::raw(format!(" {words}  ")));
    }
    spans.push(Span::styled(help, quiet()));
    Line::from(spans)
}

/// Draws the part of a text that fits.
fn part(frame: &mut Frame<'_>, area: Rect, lines: Vec<Line<'static>>, first: usize) {
    let visible: Vec<Line<'static>> = lines.into_iter().skip(first).take(usize::from(area.height)).collect();
    frame.render_widget(Paragraph::new(visible), area);
}

/// Returns the rows of a list that fit, so that the selected one is among them.
fn window(len: usize, selected: usize, height: u16) -> std::ops::Range<usize> {
    let height = usize::from(height);
    let first = selected.saturating_sub(height / 2).min(len.saturating_sub(height));
    first..(first + height).min(len)
}

/// Splits off the left columns; the second area begins after a blank column.
fn split_columns(area: Rect, left: u16) -> (Rect, Rect) {
    let left = left.min(area.width);
    let rest = area.width.saturating_sub(left + 1);
    (Rect { width: left, ..area }, Rect { x: area.right() - rest, width: rest, ..area })
}

/// Splits off the upper lines.
fn split_lines(area: Rect, upper: u16) -> (Rect, Rect) {
    let upper = upper.min(area.height);
    (Rect { height: upper, ..area }, Rect { y: area.y + upper, height: area.height - upper, ..area })
}

/// Appends a text that is wrapped at words, each line after an indent.
fn wrap_into(out: &mut Vec<Line<'static>>, text: &str, indent: &str, style: Style, width: u16) {
    let room = width.saturating_sub(u16::try_from(indent.chars().count()).unwrap_or(0));
    for line in text::wrapped(text, room) {
        out.push(Line::styled(format!("{indent}{line}"), style));
    }
}

/// Returns the text of a cell, cut or padded to a width in columns.
fn cell(text: &str, width: usize) -> String {
    let (mut out, mut used) = (String::new(), 0);
    for c in text.chars() {
        let columns = textwrap::core::display_width(c.encode_utf8(&mut [0; 4]));
        if used + columns > width {
            // The last column says that something is left out.
            while used + 1 > width {
                match out.pop() {
                    Some(last) => used -= textwrap::core::display_width(last.encode_utf8(&mut [0; 4])),
                    None => return out,
                }
            }
            out.push('…');
            used += 1;
            break;
        }
        out.push(c);
        used += columns;
    }
    out.extend(std::iter::repeat_n(' ', width.saturating_sub(used)));
    out
}

/// Returns the first character of a row: the selected one is marked where nothing is reversed, too.
fn mark(is_selected: bool) -> &'static str {
    if is_selected { "›" } else { " " }
}

/// Returns a time without its date where there is no room for it.
fn clock(state: &State, at: Timestamp) -> String {
    let whole = (state.time)(at);
    match whole.rsplit_once(' ') {
        Some((_, time)) if state.size.0 < WIDE => time.to_owned(),
        _ => whole,
    }
}

fn heading(text: impl Into<String>) -> Line<'static> {
    Line::styled(text.into(), Style::new().add_modifier(Modifier::BOLD))
}

fn chosen() -> Style {
    Style::new().add_modifier(Modifier::REVERSED)
}

fn quiet() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn colored(state: &State, color: Color) -> Style {
    if state.color { Style::new().fg(color) } else { Style::new() }
}

fn good(state: &State) -> Style {
    colored(state, Color::Green)
}

fn bad(state: &State) -> Style {
    colored(state, Color::Red)
}

fn warn(state: &State) -> Style {
    colored(state, Color::Yellow)
}

/// Returns the style of a status word.
fn of_status(state: &State, status: &str) -> Style {
    match status {
        "completed" => good(state),
        "failed" | "quarantined" => bad(state),
        "blocked" => warn(state),
        "cancelled" | "paused" => quiet(),
        _ => Style::new(),
    }
}
