//! Output of commands: colors become classes, every other escape sequence is dropped.

use super::hidden::push_char;
use anstyle_parse::{DefaultCharAccumulator, Params, Parser, Perform};
use maud::{Markup, PreEscaped};

/// Style of a run of characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Style {
    /// One of 16 colors.
    color: Option<u8>,
    bold: bool,
    dim: bool,
    italic: bool,
    underline: bool,
}

/// Returns the lines of an output, each as markup. A carriage return overwrites its line, as on a terminal.
pub fn lines(bytes: &[u8]) -> Vec<Markup> {
    let mut screen = Screen::default();
    let mut parser = Parser::<DefaultCharAccumulator>::new();
    for byte in bytes {
        parser.advance(&mut screen, *byte);
    }
    screen.end_line();
    // The newline at the end of the output does not begin a line.
    if screen.lines.len() > 1 && bytes.last() == Some(&b'\n') {
        screen.lines.pop();
    }
    screen.lines
}

#[derive(Default)]
struct Screen {
    lines: Vec<Markup>,
    line: Vec<(char, Style)>,
    /// Where the next character goes.
    column: usize,
    style: Style,
}

impl Screen {
    fn put(&mut self, c: char) {
        let cell = (c, self.style);
        match self.line.get_mut(self.column) {
            Some(old) => *old = cell,
            None => self.line.push(cell),
        }
        self.column += 1;
    }

    fn end_line(&mut self) {
        let mut out = String::with_capacity(self.line.len() + 16);
        let mut style = Style::default();
        for (c, own) in self.line.drain(..) {
            if own != style {
                close(&mut out, style);
                open(&mut out, own);
                style = own;
            }
            push_char(&mut out, c);
        }
        close(&mut out, style);
        self.lines.push(PreEscaped(out));
        self.column = 0;
    }

    /// Applies `ESC [ … m`.
    fn select(&mut self, params: &Params) {
        let mut rest = params.iter().flat_map(|group| group.iter().copied());
        while let Some(n) = rest.next() {
            match n {
                0 => self.style = Style::default(),
                1 => self.style.bold = true,
                2 => self.style.dim = true,
                3 => self.style.italic = true,
                4 => self.style.underline = true,
                22 => (self.style.bold, self.style.dim) = (false, false),
                23 => self.style.italic = false,
                24 => self.style.underline = false,
                30..=37 => self.style.color = u8::try_from(n - 30).ok(),
                90..=97 => self.style.color = u8::try_from(n - 90 + 8).ok(),
                39 => self.style.color = None,
                38 | 48 => {
                    let color = match rest.next() {
                        Some(5) => rest.next().map(indexed),
                        Some(2) => Some(nearest([rest.next(), rest.next(), rest.next()].map(|c| c.unwrap_or(0)))),
                        _ => None,
                    };
                    // Backgrounds are dropped: with any text color they could hide it.
                    if n == 38 {
                        self.style.color = color;
                    }
                }
                _ => {}
            }
        }
        if params.is_empty() {
            self.style = Style::default();
        }
    }
}

impl Perform for Screen {
    fn print(&mut self, c: char) {
        self.put(c);
    }
    fn execute(&mut self, byte: u8) {
        match byte {
            b'\n' => self.end_line(),
            b'\r' => self.column = 0,
            b'\t' => self.put('\t'),
            8 => self.column = self.column.saturating_sub(1),
            // Bells and the like have no place on a page.
            _ => {}
        }
    }
    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], _ignored: bool, action: u8) {
        match action {
            b'm' if intermediates.is_empty() => self.select(params),
            // Progress displays erase their line before they write it again.
            b'K' => self.line.truncate(self.column),
            _ => {}
        }
    }
}

fn open(out: &mut String, style: Style) {
    if style == Style::default() {
        return;
    }
    out.push_str("<span class=\"");
    if let Some(color) = style.color {
        out.push_str(&format!("f{color} "));
    }
    for (on, class) in [(style.bold, "b "), (style.dim, "d "), (style.italic, "i "), (style.underline, "u ")] {
        if on {
            out.push_str(class);
        }
    }
    out.push_str("\">");
}

fn close(out: &mut String, style: Style) {
    if style != Style::default() {
        out.push_str("</span>");
    }
}

/// Returns the nearest of the 16 colors to one of the 256.
fn indexed(n: u16) -> u8 {
    match n {
        0..=15 => u8::try_from(n).unwrap_or(7),
        16..=231 => {
            let level = |l: u16| if l == 0 { 0 } else { 55 + l * 40 };
            let n = n - 16;
            nearest([level(n / 36), level(n / 6 % 6), level(n % 6)])
        }
        _ => nearest([8 + n.saturating_sub(232).min(23) * 10; 3]),
    }
}

/// Returns the nearest of the 16 colors: with only these, the contrast holds on light and dark pages.
fn nearest([r, g, b]: [u16; 3]) -> u8 {
    let max = r.max(g).max(b);
    let on = |c: u16| u8::from(u32::from(c) * 2 > u32::from(max) && c > 48);
    let bright = if max > 200 { 8 } else { 0 };
    (on(r) + 2 * on(g) + 4 * on(b)) + bright
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> Vec<String> {
        lines(text.as_bytes()).into_iter().map(|line| line.into_string()).collect()
    }

    #[test]
    fn colors_become_classes_and_other_sequences_vanish() {
        let text = "\u{1b}[1;31merror\u{1b}[0m: <b>\n\u{1b}]0;title\u{7}50%\r100%\n\u{1b}[2Jx\u{1b}[38;5;196my\n";
        let expected = [
            "<span class=\"f1 b \">error</span>: &lt;b&gt;".to_owned(),
            "100%".to_owned(),
            "x<span class=\"f9 \">y</span>".to_owned(),
        ];
        assert_eq!(shown(text), expected);
    }

    proptest! {
        #[test]
        fn any_bytes_are_shown(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            for line in lines(&bytes) {
                let line = line.into_string();
                prop_assert_eq!(line.matches('<').count(), 2 * line.matches("<span").count());
            }
        }
    }
}
