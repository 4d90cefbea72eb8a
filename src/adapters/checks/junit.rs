//! Counts the test cases of a JUnit XML report. The report is untrusted: no DTD, no entities, bounded nesting.

use crate::domain::check::TestCounts;
use crate::platform::terminal_text;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// Upper bound on the size of a report, in bytes. Large suites write tens of megabytes, most of it captured output.
pub const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Upper bounds on the names of failed cases, and on the length of one.
const MAX_NAMES: usize = 50;
const MAX_NAME_CHARS: usize = 200;
/// Upper bound on the nesting of elements; real reports have five levels.
const MAX_DEPTH: usize = 64;

/// What a report says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The counts.
    pub counts: TestCounts,
    /// Names of the first failed cases.
    pub failed: Vec<String>,
}

/// Reads a report.
///
/// # Errors
/// When the report is malformed or hostile: a text that completes the sentence "the report …".
pub fn read(bytes: &[u8]) -> Result<Report, String> {
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
    names: Vec<String>,
    /// Depth of the current test case.
    case: Option<usize>,
    case_name: String,
    failed: bool,
    skipped: bool,
    /// The suites around the current element.
    suites: Vec<Suite>,
}

/// A suite that is being read. Some tools only write the sum, others only list the cases, and a suite may contain
/// others: the higher number counts, for each suite by itself.
struct Suite {
    depth: usize,
    /// Failures and errors in its attributes.
    claimed: u64,
    /// Failures found within it.
    listed: u64,
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
            b"testsuites" | b"testsuite" if self.case.is_none() => {
                let claimed = number(e, "failures")?.saturating_add(number(e, "errors")?);
                self.suites.push(Suite { depth: self.depth, claimed, listed: 0 });
            }
            b"testcase" if self.case.is_none() => {
                (self.case, self.failed, self.skipped) = (Some(self.depth), false, false);
                self.case_name = case_name(e);
                self.counts.run += 1;
            }
            b"failure" | b"error" => match self.case {
                Some(_) => self.failed = true,
                // A failure outside of any case, such as a failed fixture, counts too.
                None => self.count_failed(1),
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
            if self.failed {
                self.count_failed(1);
                if self.names.len() < MAX_NAMES && !self.case_name.is_empty() {
                    self.names.push(std::mem::take(&mut self.case_name));
                }
            }
            self.counts.skipped += u64::from(self.skipped && !self.failed);
        }
        if let Some(suite) = self.suites.pop_if(|suite| suite.depth == self.depth) {
            self.count_failed(suite.claimed.max(suite.listed));
        }
        self.depth = self.depth.saturating_sub(1);
    }

    /// Adds failures to the suite around them, or to the report.
    fn count_failed(&mut self, failures: u64) {
        let sum = self.suites.last_mut().map_or(&mut self.counts.failed, |suite| &mut suite.listed);
        *sum = sum.saturating_add(failures);
    }

    fn total(self) -> Result<Report, String> {
        if !self.has_root {
            return Err("is empty".to_owned());
        }
        if self.depth != 0 {
            return Err("ends prematurely".to_owned());
        }
        Ok(Report { counts: self.counts, failed: self.names })
    }
}

/// Returns the name of a case with its class, as people search for it.
fn case_name(e: &BytesStart<'_>) -> String {
    let attribute = |name: &str| {
        let attribute = e.try_get_attribute(name).ok().flatten();
        attribute.map_or_else(String::new, |a| terminal_text::sanitize(&a.value).trim().to_owned())
    };
    let (class, name) = (attribute("classname"), attribute("name"));
    let name = if class.is_empty() || name.starts_with(&class) { name } else { format!("{class}.{name}") };
    name.replace(['\n', '\t'], " ").chars().take(MAX_NAME_CHARS).collect()
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
        read(xml.as_bytes()).map(|r| (r.counts.run, r.counts.failed, r.counts.skipped))
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
        let inner =
            r#"<testsuites><testsuite failures="2"><testcase/></testsuite><testsuite errors="1"/></testsuites>"#;
        assert_eq!(counts(inner), Ok((1, 3, 0)), "suites within");
        let both = r#"<testsuites failures="1"><testsuite failures="1"><testsuite failures="1"><testcase><failure/>
            </testcase></testsuite></testsuite></testsuites>"#;
        assert_eq!(counts(both), Ok((1, 1, 0)), "each level repeats the same failure");
    }

    #[test]
    fn failed_cases_are_named() {
        let xml = r#"<testsuite><testcase classname="a.B" name="t1"><failure/></testcase><testcase name="ok"/>
            <testcase classname="a" name="a t2"><error/></testcase><testcase><failure/></testcase></testsuite>"#;
        assert_eq!(read(xml.as_bytes()).unwrap().failed, ["a.B.t1", "a t2"]);
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
        assert!(read(b"\xff\xfe<\0t\0").is_err());
    }
}
