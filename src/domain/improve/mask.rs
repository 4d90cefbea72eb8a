//! Masks what differs from run to run in a line: times, ids, folders, quoted text, numbers.
//!
//! The order of the masks is that of log parsers such as Drain: what would be mistaken for a part of something else is
//! masked first.

use crate::domain::is_hidden;

/// Upper bound on the characters of a masked line.
pub const MAX_CHARS: usize = 200;
/// Upper bound on the characters of a line that are read.
const MAX_READ: usize = 1_000;

const TIME: &str = "<t>";
const ID: &str = "<x>";
const NUMBER: &str = "<n>";
/// Words after which a number is a code: it says what happened.
const BEFORE_CODES: &[&str] = &["exit", "code", "status", "http", "http/1.0", "http/1.1", "http/2", "errno"];

/// Returns a line without control characters, with times as `<t>`, ids as `<x>`, URLs as their host, paths as
/// `<dir>/name`, quoted text as `'*'` and numbers as `<n>`. Codes stay: `E0308`, `TS2345`, `HTTP 404`, `exit code 101`.
pub fn mask(line: &str) -> String {
    let line: String = without_escapes(line).chars().take(MAX_READ).collect();
    let words = mask_words(&line);
    let mut masked: String = mask_quotes(&words).split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = masked.char_indices().nth(MAX_CHARS) {
        masked.truncate(end);
    }
    masked
}

/// Removes terminal escapes; other control and invisible characters become blanks.
fn without_escapes(line: &str) -> String {
    let mut clean = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => match chars.next() {
                // Control sequences end with a letter or `~`, operating system commands with a bell.
                Some('[') => while chars.next().is_some_and(|c| !c.is_ascii_alphabetic() && c != '~') {},
                Some(']') => while chars.next().is_some_and(|c| c != '\u{7}' && c != '\u{1b}') {},
                _ => {}
            },
            c if is_hidden(c) => clean.push(' '),
            c => clean.push(c),
        }
    }
    clean
}

/// Masks words: runs of letters, digits and the characters that join them.
fn mask_words(line: &str) -> String {
    let is_joined = |c: char| c.is_alphanumeric() || "_./:+-@%~\\".contains(c);
    let mut masked = String::with_capacity(line.len());
    let (mut rest, mut last_word) = (line, String::new());
    while let Some(first) = rest.chars().next() {
        let end_of = |is_end: &dyn Fn(char) -> bool| rest.find(is_end).unwrap_or(rest.len());
        let mut end = end_of(&|c| is_joined(c) != is_joined(first));
        if rest.get(..end).is_some_and(|part| part.contains("://")) {
            // A URL may contain further marks.
            end = end_of(&|c| c.is_whitespace() || "'\"`<>()".contains(c));
        }
        let (part, after) = rest.split_at(end);
        if is_joined(first) {
            masked.push_str(&mask_word(part, &last_word));
            last_word = part.trim_end_matches([':', '.']).to_ascii_lowercase();
        } else {
            masked.push_str(part);
            // `status=404` and `exit(1)` are codes as well; other marks end the relation.
            if part.chars().any(|c| !" =(".contains(c)) {
                last_word.clear();
            }
        }
        rest = after;
    }
    masked
}

fn mask_word(word: &str, before: &str) -> String {
    let core = word.trim_end_matches(['.', ':', '-', '/']);
    let tail = word.get(core.len()..).unwrap_or_default();
    if let Some((_, rest)) = core.split_once("://") {
        let host: &str = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = host.rsplit('@').next().unwrap_or_default();
        return format!("{}{tail}", host.split(':').next().unwrap_or_default());
    }
    if is_time(core) {
        return format!("{TIME}{tail}");
    }
    if is_id(core) {
        return format!("{ID}{tail}");
    }
    if BEFORE_CODES.contains(&before) && !core.is_empty() && core.bytes().all(|b| b.is_ascii_digit()) {
        return word.to_owned();
    }
    if let Some((folders, name)) = core.rsplit_once('/')
        && !folders.is_empty()
        && name.chars().any(char::is_alphanumeric)
        && !BEFORE_CODES.contains(&core.to_ascii_lowercase().as_str())
    {
        return format!("<dir>/{}{tail}", mask_numbers(name));
    }
    format!("{}{tail}", mask_numbers(core))
}

/// Returns whether a word is a date (`2026-11-21`), a time (`14:03`, `14:03:07.125`), or both joined with `T`.
fn is_time(word: &str) -> bool {
    let digits = |part: &str, lengths: std::ops::RangeInclusive<usize>| {
        lengths.contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit())
    };
    let is_date = |text: &str| {
        let parts: Vec<&str> = text.split(['-', '/']).collect();
        matches!(parts.as_slice(), [y, m, d] if digits(y, 4..=4) && digits(m, 1..=2) && digits(d, 1..=2))
    };
    let is_clock = |text: &str| {
        let text = text.split(['+', '.', 'Z']).next().unwrap_or_default();
        let parts: Vec<&str> = text.split(':').collect();
        (2..=3).contains(&parts.len()) && parts.iter().all(|p| digits(p, 2..=2))
    };
    let joined = word.split_once('T').is_some_and(|(date, clock)| is_date(date) && is_clock(clock));
    joined || is_date(word) || is_clock(word)
}

/// Returns whether a word is a UUID, or at least seven hex digits of which one is a decimal digit.
fn is_id(word: &str) -> bool {
    let word = word.strip_prefix("0x").unwrap_or(word);
    let digits = word.bytes().filter(u8::is_ascii_hexdigit).count();
    let is_uuid = word.len() == 36 && digits == 32 && word.bytes().filter(|b| *b == b'-').count() == 4;
    is_uuid || (digits >= 7 && digits == word.len() && word.bytes().any(|b| b.is_ascii_digit()) && !is_decimal(word))
}

fn is_decimal(word: &str) -> bool {
    word.bytes().all(|b| b.is_ascii_digit())
}

/// Masks numbers that are not part of a name.
fn mask_numbers(word: &str) -> String {
    let mut masked = String::with_capacity(word.len());
    let mut chars = word.chars().peekable();
    let mut before = ' ';
    while let Some(c) = chars.next() {
        if c.is_ascii_digit() && !before.is_alphanumeric() && before != '_' {
            // With its decimals, groups and further parts, as in 1.2.3.
            while chars.next_if(|next| next.is_ascii_digit() || *next == '.').is_some() {}
            masked.push_str(NUMBER);
        } else {
            masked.push(c);
        }
        before = c;
    }
    masked
}

/// Masks quoted text. A quote begins after a blank or an opening mark and ends before something that is not a letter, so
/// that an apostrophe is none.
fn mask_quotes(line: &str) -> String {
    let mut masked = String::with_capacity(line.len());
    let chars: Vec<char> = line.chars().collect();
    let opens = |at: usize| at == 0 || chars.get(at - 1).is_some_and(|c| !c.is_alphanumeric());
    let closes = |at: usize| chars.get(at + 1).is_none_or(|c| !c.is_alphanumeric());
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let end = match c {
            '\'' | '"' | '`' if opens(at) => (at + 1..chars.len()).find(|&e| chars.get(e) == Some(&c) && closes(e)),
            _ => None,
        };
        match end {
            Some(end) => {
                masked.push_str("'*'");
                at = end + 1;
            }
            None => {
                masked.push(c);
                at += 1;
            }
        }
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::{MAX_CHARS, mask};

    #[test]
    fn what_differs_is_masked_and_codes_stay() {
        for (line, masked) in [
            ("error[E0308]: mismatched types", "error[E0308]: mismatched types"),
            (
                "src/a.ts(12,5): error TS2345: Argument of type 'string'",
                "<dir>/a.ts(<n>,<n>): error TS2345: Argument of type '*'",
            ),
            ("thread 'main' panicked at src/main.rs:2:5:", "thread '*' panicked at <dir>/main.rs:<n>:<n>:"),
            ("2026-11-30T01:46:51.123Z ERROR at 14:03:07 after 12ms", "<t> ERROR at <t> after <n>ms"),
            ("run 550e8400-e29b-41d4-a716-446655440000 at 66672055ab", "run <x> at <x>"),
            ("GET https://ann:x@pypi.org:8443/simple/a?b failed: HTTP 503", "GET pypi.org failed: HTTP 503"),
            (
                "npm ERR! enoent ENOENT: no such file, open '/tmp/x/package.json'",
                "npm ERR! enoent ENOENT: no such file, open '*'",
            ),
            ("the command exited with code 101", "the command exited with code 101"),
            ("exit status 2", "exit status 2"),
            ("--- FAIL: TestSum (0.00s)", "--- FAIL: TestSum (<n>s)"),
            ("FAILED tests/test_a.py::test_2 - assert 1 == 2", "FAILED <dir>/test_a.py::test_2 - assert <n> == <n>"),
            ("can't open file, don't ask", "can't open file, don't ask"),
            ("\u{1b}[31merror\u{1b}[0m: x\u{202e}y", "error: x y"),
            ("curl: (6) Could not resolve host: pypi.org", "curl: (<n>) Could not resolve host: pypi.org"),
            ("version 1.2.3 of left-pad", "version <n> of left-pad"),
        ] {
            assert_eq!(mask(line), masked);
        }
    }

    #[test]
    fn a_masked_line_is_bounded_and_stays_as_it_is() {
        let long = mask(&"é1 ".repeat(4_000));
        assert_eq!(long.chars().count(), MAX_CHARS);
        for line in ["error: '*' at <dir>/a.rs:<n>:<n>: <t> <x>", "x <n>"] {
            assert_eq!(mask(line), line, "masking twice changes nothing");
        }
    }
}
