//! Counts from a JUnit XML report, taken as hostile: no DTD, no entities, bounded depth.

use crate::domain::check::TestCounts;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// The largest report read.
pub const BYTES_MAX: u64 = 8 * 1024 * 1024;
/// The deepest nesting followed; real reports have five levels.
const DEPTH_MAX: usize = 64;

/// Counts test cases, or says why the report cannot be trusted.
///
/// # Errors
/// In words that finish the sentence "the report …".
pub fn count(bytes: &[u8]) -> Result<TestCounts, String> {
    let mut reader = Reader::from_reader(bytes);
    let mut tally = Tally::default();
    loop {
        let at = reader.buffer_position();
        match reader.read_event() {
            Err(e) => return Err(format!("is not well-formed XML at byte {at}: {e}")),
            Ok(Event::DocType(_)) => return Err("has a document type declaration, which is refused".to_owned()),
            Ok(Event::Start(e)) => tally.open(&e, false)?,
            Ok(Event::Empty(e)) => tally.open(&e, true)?,
            Ok(Event::End(_)) => tally.close(),
            Ok(Event::Eof) => break,
            // Text is never read, so references in it are never resolved.
            Ok(_) => {}
        }
    }
    tally.total()
}

#[derive(Default)]
struct Tally {
    depth: usize,
    suites: bool,
    counts: TestCounts,
    /// The depth of the test case we are in.
    case: Option<usize>,
    failed: bool,
    skipped: bool,
    /// What the outermost suites claim about failures and errors.
    claimed: u64,
}

impl Tally {
    fn open(&mut self, e: &BytesStart<'_>, empty: bool) -> Result<(), String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("is nested deeper than {DEPTH_MAX} levels"));
        }
        let name = e.local_name();
        let name = name.as_ref();
        if self.depth == 1 {
            if !matches!(name, b"testsuites" | b"testsuite") || self.suites {
                return Err("is not a JUnit report (its root must be one testsuites or testsuite)".to_owned());
            }
            self.suites = true;
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
                // A suite that broke outside its cases (a failed fixture) is a failure too.
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
        if !self.suites {
            return Err("is empty".to_owned());
        }
        if self.depth != 0 {
            return Err("ends in the middle".to_owned());
        }
        // Whichever is worse: some tools only sum up, others only list.
        self.counts.failed = self.counts.failed.max(self.claimed);
        Ok(self.counts)
    }
}

/// A count in an attribute; 0 when it is not there.
fn number(e: &BytesStart<'_>, name: &str) -> Result<u64, String> {
    let found = e.try_get_attribute(name).map_err(|e| format!("has a broken attribute: {e}"))?;
    let Some(found) = found else { return Ok(0) };
    let text = String::from_utf8_lossy(&found.value);
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
    fn the_worse_of_listed_and_claimed_counts() {
        assert_eq!(counts(r#"<testsuite failures="2" errors="1"><testcase/></testsuite>"#), Ok((1, 3, 0)));
        assert_eq!(counts("<testsuite><error>fixture</error></testsuite>"), Ok((0, 1, 0)));
    }

    #[test]
    fn hostile_reports_are_refused_quickly() {
        let bomb = r#"<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><testsuites>&b;</testsuites>"#;
        assert!(counts(bomb).unwrap_err().contains("document type"));
        assert!(counts(&"<testsuite>".repeat(500_000)).unwrap_err().contains("nested deeper"));
        assert!(counts("").unwrap_err().contains("empty"));
        assert!(counts("<testsuite><testcase></testsuite>").unwrap_err().contains("not well-formed"));
        assert!(counts("<testsuite><testcase>").unwrap_err().contains("middle"));
        assert!(counts("<html/>").unwrap_err().contains("not a JUnit report"));
        assert!(counts("<testsuite/><testsuite/>").unwrap_err().contains("not a JUnit report"));
        assert!(counts(r#"<testsuite failures="-1"/>"#).unwrap_err().contains("not a count"));
        assert_eq!(counts("<testsuite>&undefined;<testcase/></testsuite>"), Ok((1, 0, 0)));
        assert!(count(b"\xff\xfe<\0t\0").is_err());
    }
}
