//! Replaces live values by their names, in whole texts and in streams with any chunking.

use super::registry::{self, Patterns};
use super::shape::{self, Sure};
use std::borrow::Cow;
use std::sync::Arc;

/// Redacts text for the journal, for people and for engines: replaces live values and certain secrets of well-known
/// services.
pub fn redact(text: &str) -> Cow<'_, str> {
    as_text(text, redact_bytes(text.as_bytes()))
}

/// Redacts text for logs and errors: like [`redact`], and also what may be a secret (`Bearer …`, the password of a
/// URL).
pub fn redact_all(text: &str) -> Cow<'_, str> {
    as_text(text, shaped(redact_live(text.as_bytes()), Sure::May))
}

/// Like [`redact`], for bytes.
pub fn redact_bytes(bytes: &[u8]) -> Cow<'_, [u8]> {
    shaped(redact_live(bytes), Sure::Yes)
}

/// Replaces only live values, for content that must stay unchanged otherwise.
pub fn redact_live(bytes: &[u8]) -> Cow<'_, [u8]> {
    let patterns = registry::now();
    if patterns.find(bytes, 0).is_none() {
        return Cow::Borrowed(bytes);
    }
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(hit) = patterns.find(bytes, at) {
        out.extend_from_slice(&bytes[at..hit.start]);
        put_name(hit.name, &mut out);
        at = hit.end;
    }
    out.extend_from_slice(&bytes[at..]);
    Cow::Owned(out)
}

/// Redacts the end of a longer text. Leaves out the first bytes if they may be the rest of a live value.
pub fn redact_end(bytes: &[u8]) -> Cow<'_, [u8]> {
    let patterns = registry::now();
    let mut start = patterns.longest().saturating_sub(1).min(bytes.len());
    let mut at = 0;
    // A value that crosses the start is removed entirely.
    while let Some(hit) = patterns.find(bytes, at).filter(|hit| hit.start < start) {
        start = start.max(hit.end);
        at = hit.end;
    }
    redact_live(&bytes[start..])
}

fn as_text<'a>(text: &'a str, redacted: Cow<'_, [u8]>) -> Cow<'a, str> {
    match redacted {
        Cow::Borrowed(_) => Cow::Borrowed(text),
        // A form that is not valid UTF-8 can only begin or end within a character.
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

fn shaped(bytes: Cow<'_, [u8]>, least: Sure) -> Cow<'_, [u8]> {
    let hits = shape::find(&bytes, least);
    if hits.is_empty() {
        return bytes;
    }
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    for hit in hits {
        out.extend_from_slice(&bytes[at..hit.start]);
        put_name(hit.rule, &mut out);
        at = hit.end;
    }
    out.extend_from_slice(&bytes[at..]);
    Cow::Owned(out)
}

fn put_name(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"[redacted:");
    out.extend_from_slice(name.as_bytes());
    out.push(b']');
}

/// Redacts live values in a stream exactly as in the whole text, with any chunking. Holds back only what may be the
/// beginning of a value. A value that becomes live later is replaced from then on.
#[derive(Debug)]
pub struct Redactor {
    patterns: Arc<Patterns>,
    held: Vec<u8>,
}

impl Default for Redactor {
    fn default() -> Self {
        Self { patterns: registry::now(), held: Vec::new() }
    }
}

impl Redactor {
    /// Adds a chunk and returns the bytes that can be written now.
    pub fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        self.patterns = registry::now();
        self.held.extend_from_slice(chunk);
        let (mut out, mut at) = (Vec::with_capacity(self.held.len()), 0);
        // Every value that begins before the first possible start of an incomplete one is complete.
        let mut until = self.patterns.begun(&self.held, at);
        while let Some(hit) = self.patterns.find(&self.held, at).filter(|hit| hit.start < until) {
            out.extend_from_slice(&self.held[at..hit.start]);
            put_name(hit.name, &mut out);
            at = hit.end;
            if until < at {
                until = self.patterns.begun(&self.held, at);
            }
        }
        out.extend_from_slice(&self.held[at..until]);
        self.held.drain(..until);
        out
    }

    /// Ends the stream and returns the remaining bytes.
    pub fn finish(self) -> Vec<u8> {
        redact_live(&self.held).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::{Secret, register};
    use proptest::prelude::*;
    use std::time::{Duration, Instant};

    #[test]
    fn live_values_are_replaced_until_the_last_guard_is_gone() {
        let value = Secret::new("correct-horse-battery");
        let one = register("PASS", &value);
        let two = register("PASS", &value);
        assert_eq!(redact("a correct-horse-battery b"), "a [redacted:PASS] b");
        assert_eq!(redact("a Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5 b"), "a [redacted:PASS] b");
        assert_eq!(redact("6a636f72726563742d686f7273652d62617474657279"), "6a[redacted:PASS]");
        assert_eq!(redact("nothing"), "nothing");
        drop(one);
        assert_eq!(redact("a correct-horse-battery b"), "a [redacted:PASS] b");
        drop(two);
        assert_eq!(redact("a correct-horse-battery b"), "a correct-horse-battery b");
        let _short = register("SHORT", &Secret::new("1234567"));
        assert_eq!(redact("1234567"), "1234567");
    }

    #[test]
    fn a_stream_holds_back_only_what_may_be_a_beginning() {
        let _live = register("PASS", &Secret::new("correct-horse-battery"));
        let mut redactor = Redactor::default();
        assert_eq!(redactor.push(b"a line\n"), b"a line\n");
        assert_eq!(redactor.push(b"a correct-horse"), b"a ");
        assert_eq!(redactor.push(b"-battery ends"), b"[redacted:PASS] ends");
        assert_eq!(redactor.push(b"correct"), b"");
        assert_eq!(redactor.finish(), b"correct");
        let cut = format!("horse-battery{}correct-horse-battery", ".".repeat(200));
        let end = redact_end(cut.as_bytes()).into_owned();
        assert!(end.ends_with(b"[redacted:PASS]") && !end.starts_with(b"horse"));
        // Wherever the cut is, no part of a value is left at the beginning.
        let flood = "correct-horse-battery\n".repeat(30);
        for cut in 0..22 {
            let end = String::from_utf8(redact_end(&flood.as_bytes()[cut..]).into_owned()).unwrap();
            assert!(end.trim_start().starts_with("[redacted:PASS]"), "{cut}: {end}");
        }
    }

    #[test]
    fn a_key_file_is_replaced_line_by_line_too() {
        let key =
            "-----BEGIN X-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n-----END X-----\n";
        let _live = register("KEY", &Secret::new(key));
        assert_eq!(redact("x MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"), "x [redacted:KEY]");
        assert_eq!(redact(&format!("<{key}>")), "<[redacted:KEY]\n>");
        let long = "0123456789abcdef".repeat(300);
        let _long = register("LONG", &Secret::new(long.clone()));
        assert!(!redact(&long).contains("0123456789"), "{}", redact(&long));
    }

    /// Texts made of parts of the values, so that borders and overlaps are the rule.
    fn parts() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            Just(b"abcabcabcabc".to_vec()),
            Just(b"abcabcab".to_vec()),
            Just(b"YWJjYWJjYWJjYWJj".to_vec()),
            Just(b"%61%62%63".to_vec()),
            Just(b"\xc3\xa9t\xc3\xa9-\xc3\xa9t\xc3\xa9".to_vec()),
            Just(b"cba".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..4),
        ];
        proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    /// `REDACT_SECS` sets how long the test runs.
    #[test]
    fn a_stream_is_redacted_like_the_whole_text_whatever_its_chunks() {
        let _live: Vec<_> = ["abcabcabcabc", "cabcabcabcabcabc", "\u{e9}t\u{e9}-\u{e9}t\u{e9}", "bcabcabca"]
            .iter()
            .enumerate()
            .map(|(n, value)| register(&format!("S{n}"), &Secret::new(*value)))
            .collect();
        let secs = std::env::var("REDACT_SECS").ok().and_then(|s| s.parse().ok()).unwrap_or(2);
        let end = Instant::now() + Duration::from_secs(secs);
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig { cases: 500, ..Default::default() });
        let mut rounds = 0;
        while Instant::now() < end || rounds == 0 {
            rounds += 1;
            let cases = (parts(), proptest::collection::vec(0..20usize, 1..8));
            let outcome = runner.run(&cases, |(text, steps)| {
                let mut redactor = Redactor::default();
                let (mut out, mut rest, mut steps) = (Vec::new(), text.as_slice(), steps.iter().cycle());
                let mut idle = 0;
                while !rest.is_empty() && idle < 10 {
                    let step = (*steps.next().unwrap_or(&1)).min(rest.len());
                    idle = if step == 0 { idle + 1 } else { 0 };
                    let (chunk, after) = rest.split_at(step);
                    out.extend(redactor.push(chunk));
                    prop_assert!(redactor.held.len() < redactor.patterns.longest().max(1));
                    rest = after;
                }
                out.extend(redactor.push(rest));
                out.extend(redactor.finish());
                prop_assert_eq!(out, redact_live(&text).into_owned());
                Ok(())
            });
            outcome.unwrap();
        }
        println!("{} cases", rounds * 500);
    }
}
