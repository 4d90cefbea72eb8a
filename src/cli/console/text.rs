//! Text from outside as it may be drawn: nothing moves the cursor, and hidden characters are shown as their codes.

use crate::cli::text::escape;
use anstyle_parse::{DefaultCharAccumulator, Params, Parser, Perform};
use ratatui::buffer::Buffer;

/// Longest line that is kept, in characters.
const MAX_LINE_CHARS: usize = 2_000;
/// Most lines that are kept of one text.
const MAX_LINES: usize = 50_000;

/// Returns the first line of a text that is not empty.
pub fn line(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    verbatim(line)
}

/// Returns one line of a text with every character that is not plain as its code: in a diff nothing may be left out.
pub fn verbatim(line: &str) -> String {
    let bounded: String = line.chars().take(MAX_LINE_CHARS).collect();
    escape(&bounded.replace('\t', "    "))
}

/// Returns the lines of the output of a program. Colors are dropped, a carriage return overwrites its line as on a terminal, and everything
/// that could move the cursor or hide text becomes its code.
pub fn lines(text: &str) -> Vec<String> {
    let mut page = Page::default();
    let mut parser = Parser::<DefaultCharAccumulator>::new();
    for byte in text.bytes() {
        parser.advance(&mut page, byte);
        if page.lines.len() >= MAX_LINES {
            page.lines.push(format!("… only the first {MAX_LINES} lines are shown"));
            return page.lines;
        }
    }
    // The line feed at the end of a text does not begin a line.
    if !page.line.is_empty() {
        page.end_line();
    }
    page.lines
}

#[derive(Default)]
struct Page {
    lines: Vec<String>,
    line: Vec<char>,
    column: usize,
}

impl Page {
    fn put(&mut self, c: char) {
        if self.column >= MAX_LINE_CHARS {
            return;
        }
        match self.line.get_mut(self.column) {
            Some(old) => *old = c,
            None => self.line.push(c),
        }
        self.column += 1;
    }

    fn end_line(&mut self) {
        let line: String = self.line.drain(..).collect();
        self.lines.push(escape(&line));
        self.column = 0;
    }
}

impl Perform for Page {
    fn print(&mut self, c: char) {
        self.put(c);
    }
    fn execute(&mut self, byte: u8) {
        match byte {
            b'\n' => self.end_line(),
            b'\r' => self.column = 0,
            8 => self.column = self.column.saturating_sub(1),
            b'\t' => {
                for _ in 0..4 - self.column % 4 {
                    self.put(' ');
                }
            }
            _ => {}
        }
    }
    fn csi_dispatch(&mut self, _params: &Params, _intermediates: &[u8], _ignored: bool, action: u8) {
        // Progress displays erase their line before they write it again.
        if action == b'K' {
            self.line.truncate(self.column);
        }
    }
}

/// Replaces what must not reach the terminal. Every text is cleaned before it is drawn; this is the last line of defense.
pub fn guard(buffer: &mut Buffer) {
    for cell in &mut buffer.content {
        if cell.symbol().chars().any(|c| c.is_control() || crate::render::is_hidden(c)) {
            cell.set_symbol("?");
        }
    }
}

/// Breaks lines at words, to `width` columns.
pub fn wrapped(text: &str, width: u16) -> Vec<String> {
    let width = usize::from(width.max(1));
    textwrap::wrap(text, width).into_iter().map(std::borrow::Cow::into_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escape_sequences_vanish_and_hidden_characters_are_shown() {
        assert_eq!(lines("\x1b[31mred\x1b[0m\n50%\r100%\n\ta\n"), ["red", "100%", "    a"]);
        assert_eq!(lines("\x1b]0;title\x07a\u{202e}b\u{200b}"), ["a\\u{202e}b\\u{200b}"]);
        assert_eq!(lines("a\n\nb"), ["a", "", "b"]);
        assert_eq!(line("\n  \x1b[1m first\nsecond"), "\\u{1b}[1m first");
        assert_eq!(verbatim("\tgood\revil\x1b[K"), "    good\\revil\\u{1b}[K");
        assert_eq!(lines(&"x".repeat(5_000))[0].len(), MAX_LINE_CHARS);
    }

    proptest! {
        #[test]
        fn nothing_dangerous_is_left(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for line in lines(&String::from_utf8_lossy(&bytes)) {
                prop_assert!(!line.chars().any(|c| c.is_control() || crate::render::is_hidden(c)), "{line:?}");
            }
        }
    }
}
