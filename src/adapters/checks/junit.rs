//! Counts the test cases of a JUnit XML report. The report is untrusted: no DTD, no entities, bounded nesting.

use crate::domain::check::TestCounts;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// Upper bound on the size of a report, in bytes.
pub const MAX_BYTES: u64 = 8 * 1024 * 1024;
/// Upper bound on the nesting of elements; real reports have five levels.
const MAX_DEPTH: usize = 64;

/// Counts the test cases of a report.
///
/// # Errors
/// When the report is malformed or hostile: a text that completes the sentence "the report …".
pub fn count(bytes: &[u8]) -> Result<TestCounts, String> {
    let mut reader = Reader::from_reader(bytes);
    let mut counter = Counter::default();
    loop {
        let at = reader.buffer_position();
        match reader.read_event() {
            Err(e) => return Err(format!("is not well-formed XML at byte {at}: {e}")),
            Ok(Event::DocType(_)) => return Err("has a document type declaration, which is not allowed".to_owned()),
            Ok(Event::Start(e)) => counter.open(&e, false)?,
            Ok(Event::Empty(e)) => counter.open(&e, true)?,
            Ok(Event::End(_)) => counter.close(),
            Ok(Event::Eof) => break,
            // Text is skipped, so references in it are never resolved.
            Ok(_) => {}
        }
    }
    counter.total()
}

#[derive(Default)]
struct Counter {
    depth: usize,
    has_root: bool,
    counts: TestCounts,
    /// Depth of the current test case.
    case: Option<usize>,
    failed: bool,
    skipped: bool,
    /// Sum of failures and errors in the root element's attributes.
    claimed: u64,
}

impl Counter {
    fn open(&mut self, e: &BytesStart<'_>, empty: bool) -> Result<(), String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("is nested deeper than {MAX_DEPTH} levels"));
        }
        let name = e.local_name();
        let name = name.as_ref();
        if self.depth == 1 {
            if !matches!(name, b"testsuites" | b"testsuite") || self.has_root {
                return Err(
                    "is not a JUnit report: its root must be a single testsuites or testsuite element".to_owned()
                );
            }
            self.has_root = true;
        }
        match name {
            b"testsuites" | b"testsuite" if self.depth == 1 => {
                self.claimed = number(e, "failures")?.saturating_add(number(e, "errors")?);
            }
            b"testcase" if self.case.is_none() => {
                (self.case, self.failed, self.skipped) = (Some(self.depth), false, false);
                self.counts.run += 1;
            }
            b"failure" | b"error" => match self.case {
                Some(_) => self.failed = true,
                // A failure outside of any case, such as a failed fixture, counts too.
                None => self.counts.failed += 1,
            },
            b"skipped" if self.case.is_some() => self.skipped = true,
            _ => {}
        }
        if empty {
            self.close();
        }
        Ok(())
    }

    fn close(&mut self) {
        if self.case == Some(self.depth) {
            self.case = None;
            self.counts.failed += u64::from(self.failed);
            self.counts.skipped += u64::from(self.skipped && !self.failed);
        }
        self.depth = self.depth.saturating_sub(1);
    }

    fn total(mut self) -> Result<TestCounts, String> {
        if !self.has_root {
            return Err("is empty".to_owned());
        }
        if self.depth != 0 {
            return Err("ends prematurely".to_owned());
        }
        // Some tools only write the sum, others only list the cases: the higher number counts.
        self.counts.failed = self.counts.failed.max(self.claimed);
        Ok(self.counts)
    }
}

/// Reads a count from an attribute; 0 if it is missing.
fn number(e: &BytesStart<'_>, name: &str) -> Result<u64, String> {
    let attribute = e.try_get_attribute(name).map_err(|e| format!("has a malformed attribute: {e}"))?;
    let Some(attribute) = attribute else { return Ok(0) };
    let text = String::from_utf8_lossy(&attribute.value);
    text.trim()
        .parse()
        .map_err(|_| format!("has {name}={:?}, which is not a count", text.chars().take(40).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(xml: &str) -> Result<(u64, u64, u64), String> {
        count(xml.as_bytes()).map(|c| (c.run, c.failed, c.skipped))
    }

    #[test]
    fn counts_cases_failures_errors_and_skips() {
        let xml = r#"<?xml version="1.0"?><testsuites><testsuite name="a" failures="1">
            <testcase name="1"/><testcase name="2"><failure message="&lt;x&gt;">text &amp; more</failure></testcase>
            <testcase name="3"><skipped/></testcase></testsuite>
            <testsuite><testcase><error/><failure/></testcase></testsuite></testsuites>"#;
        assert_eq!(counts(xml), Ok((4, 2, 1)));
    }

    #[test]
    fn takes_the_higher_of_listed_and_claimed_failures() {
        assert_eq!(counts(r#"<testsuite failures="2" errors="1"><testcase/></testsuite>"#), Ok((1, 3, 0)));
        assert_eq!(counts("<testsuite><error>fixture</error></testsuite>"), Ok((0, 1, 0)));
    }

    #[test]
    fn hostile_reports_are_rejected_quickly() {
        let bomb = r#"<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><testsuites>&b;</testsuites>"#;
        assert!(counts(bomb).unwrap_err().contains("document type"));
        assert!(counts(&"<testsuite>".repeat(500_000)).unwrap_err().contains("nested deeper"));
        assert!(counts("").unwrap_err().contains("empty"));
        assert!(counts("<testsuite><testcase></testsuite>").unwrap_err().contains("not well-formed"));
        assert!(counts("<testsuite><testcase>").unwrap_err().contains("prematurely"));
        assert!(counts("<html/>").unwrap_err().contains("not a JUnit report"));
        assert!(counts("<testsuite/><testsuite/>").unwrap_err().contains("not a JUnit report"));
        assert!(counts(r#"<testsuite failures="-1"/>"#).unwrap_err().contains("not a count"));
        assert_eq!(counts("<testsuite>&undefined;<testcase/></testsuite>"), Ok((1, 0, 0)));
        assert!(count(b"\xff\xfe<\0t\0").is_err());
    }
}
