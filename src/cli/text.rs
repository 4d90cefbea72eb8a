//! Text for the terminal: escaping of foreign text, tables, times, shell quoting.

use crate::http::rest::wire::{Timestamp, Usage};
use crate::render;
pub use crate::render::{count, duration, money};
use crate::telemetry::is_unsafe_to_print;
use chrono::{Local, TimeZone};
use comfy_table::{ContentArrangement, Table, presets};

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
            c if is_unsafe_to_print(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// Returns the first non-empty line, escaped and truncated to `max_chars` characters.
pub fn brief(text: &str, max_chars: usize) -> String {
    escape(&render::brief(text, max_chars))
}

/// Breaks a line at words, to `width` columns; what follows the first line is indented like its text: leading blanks, a
/// mark (`  | `, `  ✓ `) and the name of a field (`  landed    `) are kept to the left.
pub fn wrap(line: &str, indent: usize, width: u16) -> String {
    let blank = " ".repeat(indent.min(usize::from(width) / 2));
    let quoted = line.trim_start().starts_with("| ");
    let rest = if quoted { line.chars().take_while(|c| *c != '|').chain("| ".chars()).collect() } else { blank };
    let options = textwrap::Options::new(usize::from(width)).subsequent_indent(&rest);
    textwrap::wrap(line, options).join("\n")
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

/// Formats the time between two timestamps.
pub fn between(from: Timestamp, to: Timestamp) -> String {
    duration(u64::try_from(to.0.saturating_sub(from.0)).unwrap_or(0))
}

/// Formats usage: `3 m 5 s, 1200 tokens, $0.02`.
pub fn usage(usage: Usage) -> String {
    render::usage(usage.into())
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
    fn the_terminal_and_logs_hide_what_the_pages_hide() {
        for c in ('\0'..=char::MAX).filter(|c| !matches!(c, '\n' | '\t')) {
            assert_eq!(crate::render::is_hidden(c), is_unsafe_to_print(c), "{:04x}", u32::from(c));
        }
    }

    #[test]
    fn long_lines_break_at_words_and_keep_their_margin() {
        assert_eq!(wrap("  ✓ one two three", 4, 14), "  ✓ one two\n    three");
        assert_eq!(wrap("  | one two three", 4, 14), "  | one two\n  | three");
        assert_eq!(wrap("short", 4, 80), "short");
        assert!(wrap(&"x".repeat(100), 4, 40).lines().all(|l| l.len() <= 40), "a word longer than the line is cut");
        assert_eq!(wrap("  漢字 漢字 漢字", 2, 12), "  漢字 漢字\n  漢字", "wide characters count twice");
    }

    #[test]
    fn lines_and_tables_read_well() {
        assert_eq!(brief("\n  first \x1b line\nsecond", 72), "first \\u{1b} line");
        assert_eq!(brief("abcdef", 3), "abc…");
        let text = super::table(&["id", "goal"], vec![vec!["1".into(), "a\nb".into()]], None);
        assert_eq!(text.lines().map(str::trim_end).collect::<Vec<_>>(), ["ID  GOAL", "1   a\\nb"]);
    }
}
