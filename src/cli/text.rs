//! Text for the terminal: escaping of foreign text, tables, times, shell quoting.

use crate::http::rest::wire::{Timestamp, Usage};
use crate::telemetry::is_unsafe_to_print;
use chrono::{Local, TimeZone};
use comfy_table::{ContentArrangement, Table, presets};

/// Returns whether a character must be printed as its code point.
fn is_hidden(c: char) -> bool {
    // Also the Arabic letter mark, which reverses text, and tag characters, which hide a second text in the first.
    is_unsafe_to_print(c) || matches!(c, '\u{61c}' | '\u{e0000}'..='\u{e007f}')
}

/// Escapes one line of foreign text: whatever could move the cursor, forge a line or hide text becomes its code point.
pub fn escape(text: &str) -> String {
    escaped(text, false)
}

/// Escapes several lines of foreign text; line feeds and tabs stay.
pub fn escape_lines(text: &str) -> String {
    escaped(text, true)
}

fn escaped(text: &str, lines: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\t' if lines => out.push(c),
            '\r' if lines && chars.peek() == Some(&'\n') => {}
            c if is_hidden(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// Returns the first non-empty line, escaped and truncated to `max_chars` characters.
pub fn brief(text: &str, max_chars: usize) -> String {
    let line = text.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or("");
    let cut: String = line.chars().take(max_chars).collect();
    let more = if line.chars().count() > max_chars { "…" } else { "" };
    escape(&format!("{}{more}", cut.trim_end()))
}

/// Lays out a table without borders. Cells are escaped; the last column gets the rest of `width`.
pub fn table(header: &[&str], rows: Vec<Vec<String>>, width: Option<u16>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.iter().map(|h| h.to_uppercase()).collect::<Vec<_>>());
    for row in rows {
        table.add_row(row.iter().map(|cell| escape(cell)).collect::<Vec<_>>());
    }
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table.trim_fmt().lines().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// Formats a date and time in the local time zone.
pub fn moment(at: Timestamp) -> String {
    match Local.timestamp_millis_opt(at.0).single() {
        Some(time) => time.format("%Y-%m-%d %H:%M:%S").to_string(),
        None => "unknown".to_owned(),
    }
}

/// Formats a time of day in the local time zone.
pub fn time_of_day(at: Timestamp) -> String {
    match Local.timestamp_millis_opt(at.0).single() {
        Some(time) => time.format("%H:%M:%S").to_string(),
        None => "unknown".to_owned(),
    }
}

/// Formats a duration: `340 ms`, `4.2 s`, `2 m 13 s`, `2 h 10 m`.
pub fn span(ms: u64) -> String {
    let secs = ms / 1000;
    match secs {
        0 => format!("{ms} ms"),
        1..=59 => format!("{secs}.{} s", ms % 1000 / 100),
        60..=3599 => format!("{} m {} s", secs / 60, secs % 60),
        _ => format!("{} h {} m", secs / 3600, secs % 3600 / 60),
    }
}

/// Formats the time between two timestamps.
pub fn between(from: Timestamp, to: Timestamp) -> String {
    span(u64::try_from(to.0.saturating_sub(from.0)).unwrap_or(0))
}

/// Formats usage: `3 m 5 s, 1200 tokens, $0.02`; zero amounts are left out, except the time.
pub fn usage(usage: Usage) -> String {
    let mut parts = vec![span(usage.wall_ms)];
    if usage.tokens > 0 {
        parts.push(count(usage.tokens, "token"));
    }
    if usage.cost_micros > 0 {
        parts.push(money_text(usage.cost_micros));
    }
    if usage.turns > 0 {
        parts.push(count(usage.turns, "model call"));
    }
    parts.join(", ")
}

/// Formats an amount of micro-dollars: `$1.23`. Amounts below ten cents show two significant digits: `$0.0042`.
pub fn money_text(micros: u64) -> String {
    let digits = micros.checked_ilog10().map_or(0, |log| log + 1);
    // Micro-dollars in the last digit shown.
    let unit = if micros >= 100_000 { 10_000 } else { 10_u64.pow(digits.saturating_sub(2)) };
    let rounded = micros.saturating_add(unit / 2) / unit * unit;
    let fraction = format!("{:06}", rounded % 1_000_000);
    let shown = fraction.trim_end_matches('0').len().max(2);
    format!("${}.{}", rounded / 1_000_000, &fraction[..shown])
}

/// Formats a count with its noun: `1 task`, `2 tasks`.
pub fn count(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

/// Abbreviates a commit id.
pub fn short_sha(sha: &str) -> &str {
    sha.get(..10).unwrap_or(sha)
}

/// Quotes a path for a POSIX shell.
pub fn shell_quoted(path: &str) -> String {
    // Only a NUL byte cannot be quoted, and no path holds one.
    shlex::try_quote(path).map_or_else(|_| path.to_owned(), std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_shown_not_obeyed() {
        let table = [
            ("plain ü 🐝", "plain ü 🐝"),
            ("\x1b[2J\x1b]0;owned\x07", "\\u{1b}[2J\\u{1b}]0;owned\\u{7}"),
            ("a\rb", "a\\rb"),
            ("safe\u{202e}txt.exe", "safe\\u{202e}txt.exe"),
            ("\u{61c}\u{2066}\u{200b}\u{9b}31m", "\\u{61c}\\u{2066}\\u{200b}\\u{9b}31m"),
            ("x\u{e0041}", "x\\u{e0041}"),
            ("two\nlines\tand", "two\\nlines\\tand"),
        ];
        for (text, shown) in table {
            assert_eq!(escape(text), shown);
        }
        assert_eq!(escape_lines("a\tb\r\nc\rd\n"), "a\tb\nc\\rd\n");
    }

    #[test]
    fn spans_and_tables_read_well() {
        for (micros, text) in [(0, "$0.00"), (4_256, "$0.0043"), (50_000, "$0.05"), (1_234_567, "$1.23")] {
            assert_eq!(money_text(micros), text);
        }
        assert_eq!(span(340), "340 ms");
        assert_eq!(span(4_250), "4.2 s");
        assert_eq!(span(185_000), "3 m 5 s");
        assert_eq!(span(7_800_000), "2 h 10 m");
        assert_eq!(brief("\n  first \x1b line\nsecond", 72), "first \\u{1b} line");
        assert_eq!(brief("abcdef", 3), "abc…");
        let text = super::table(&["id", "goal"], vec![vec!["1".into(), "a\nb".into()]], None);
        assert_eq!(text.lines().map(str::trim_end).collect::<Vec<_>>(), ["ID  GOAL", "1   a\\nb"]);
    }
}
