//! Sanitizes hostile bytes for display: removes escape sequences, control characters and bidirectional overrides.

/// Returns `bytes` as text that is safe on a page or a terminal: the only remaining control characters are newline and
/// tab.
pub fn sanitize(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\t' => out.push(c),
            // A carriage return overwrites the line (progress bars): a newline shows both versions.
            '\r' => {
                if chars.peek() != Some(&'\n') {
                    out.push('\n');
                }
            }
            '\u{1b}' => skip_escape(&mut chars),
            '\u{9b}' => skip_control_sequence(&mut chars),
            c if c.is_control() || changes_direction(c) => {}
            c => out.push(c),
        }
    }
    out
}

/// Returns the last whole lines of [`sanitize`]`(bytes)` that fit into `max_bytes` (the end of a line if no whole line
/// fits).
pub fn tail(bytes: &[u8], max_bytes: usize) -> String {
    // Escape sequences take space, too; four times as much is enough for honest output and bounds the work for any
    // other.
    let text = sanitize(&bytes[bytes.len().saturating_sub(max_bytes.saturating_mul(4))..]);
    if text.len() <= max_bytes {
        return text;
    }
    let end = &text[text.ceil_char_boundary(text.len() - max_bytes)..];
    match end.split_once('\n') {
        Some((_, lines)) if !lines.trim().is_empty() => lines.to_owned(),
        _ => end.to_owned(),
    }
}

/// Returns the last line that is not blank, truncated to `max_chars` characters.
pub fn last_line(text: &str, max_chars: usize) -> Option<String> {
    text.lines().rev().map(str::trim).find(|l| !l.is_empty()).map(|l| l.chars().take(max_chars).collect())
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Skips the rest of an escape sequence after ESC.
fn skip_escape(chars: &mut Chars<'_>) {
    match chars.peek() {
        Some('[') => {
            chars.next();
            skip_control_sequence(chars);
        }
        // A string (title, link) ends with BEL or ESC \. An unterminated one must not swallow the rest of the output.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            for _ in 0..512 {
                match chars.peek() {
                    None | Some('\n') => return,
                    Some('\u{7}') => {
                        chars.next();
                        return;
                    }
                    Some('\u{1b}') => {
                        chars.next();
                        if chars.peek() == Some(&'\\') {
                            chars.next();
                        }
                        return;
                    }
                    Some(_) => {
                        chars.next();
                    }
                }
            }
        }
        _ => {
            while chars.next_if(|c| matches!(c, '\u{20}'..='\u{2f}')).is_some() {}
            chars.next_if(|c| matches!(c, '\u{30}'..='\u{7e}'));
        }
    }
}

/// Skips parameters and the final byte of a control sequence.
fn skip_control_sequence(chars: &mut Chars<'_>) {
    while chars.next_if(|c| matches!(c, '\u{20}'..='\u{3f}')).is_some() {}
    chars.next_if(|c| matches!(c, '\u{40}'..='\u{7e}'));
}

/// Returns whether a character changes the reading direction.
fn changes_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_controls_are_removed_and_text_stays() {
        let raw = b"\x1b[31mred\x1b[0m \x1b]0;title\x07a\0b\x08\r\n10%\r20%\n\xff\xe2\x80\xaeevil\x1b(B\x9b";
        assert_eq!(sanitize(raw), "red ab\n10%\n20%\n\u{fffd}evil\u{fffd}");
    }

    #[test]
    fn an_unterminated_title_does_not_hide_the_output() {
        assert!(sanitize(format!("\x1b]0;{}\nstill here", "x".repeat(400)).as_bytes()).contains("still here"));
        assert!(sanitize(format!("\x1b]0;{} still here", "x".repeat(4000)).as_bytes()).contains("still here"));
    }

    #[test]
    fn the_tail_consists_of_whole_lines_within_the_limit() {
        let long: String = (0..1000).map(|i| format!("line {i} ü\n")).collect();
        let end = tail(long.as_bytes(), 100);
        assert!(end.len() <= 100 && end.starts_with("line ") && end.ends_with("line 999 ü\n"), "{end:?}");
        assert_eq!(tail("üüüü".as_bytes(), 3), "ü");
    }
}
