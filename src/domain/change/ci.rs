//! A failure of the forge's CI: what is known about it, and by what it is recognized when it returns.

use super::failure_lines;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A check of the forge's CI that failed at a commit. Every text is from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CiFailure {
    /// Its name: the context of a status, or the name of a job.
    pub name: String,
    /// The id of this result on the forge; 0 = the forge has none.
    #[serde(skip_serializing_if = "is_zero")]
    pub id: u64,
    /// Where a person can see it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// What the CI reports about it, at most [`CiFailure::MAX_SUMMARY_BYTES`].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub summary: String,
    /// Messages about lines of files, as `path:line: message`, at most [`CiFailure::MAX_ANNOTATIONS`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<String>,
    /// The end of its log, at most [`CiFailure::MAX_LOG_BYTES`].
    pub log: JobLog,
    /// Whether the same check is red at the base as well.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub red_at_base: bool,
    /// Whether the same check has also passed at the same commit, which proves that it is flaky.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub passed_too: bool,
    /// The run of a workflow in which it can be run again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow_run: Option<WorkflowRun>,
}

/// The end of the log of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobLog {
    /// Its end, and the lines of the log that say what failed.
    Read {
        /// The end.
        tail: String,
        /// The lines that say what failed.
        failures: Vec<String>,
    },
    /// It could not be read.
    Missing {
        /// Why, as the end of a sentence.
        why: String,
    },
}

/// A run of a workflow on the forge, at the number of its attempts when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WorkflowRun {
    /// Its id.
    pub id: u64,
    /// Its attempts so far.
    pub attempt: u64,
}

fn is_zero(id: &u64) -> bool {
    *id == 0
}

impl Default for JobLog {
    fn default() -> Self {
        JobLog::Missing { why: "the forge has no log of it".to_owned() }
    }
}

impl JobLog {
    /// Returns the log that ends like `text`, of which only the end is stored.
    pub fn read(text: &str) -> JobLog {
        let start = text.ceil_char_boundary(text.trim_end().len().saturating_sub(CiFailure::MAX_LOG_BYTES));
        JobLog::Read { tail: text.trim_end()[start..].to_owned(), failures: failure_lines::lines(text) }
    }

    /// Returns the lines that say what failed.
    fn failures(&self) -> &[String] {
        match self {
            JobLog::Read { failures, .. } => failures,
            JobLog::Missing { .. } => &[],
        }
    }
}

impl CiFailure {
    /// Upper bound on the failures that are read at one commit.
    pub const MAX: usize = 5;
    /// Upper bound on the bytes of a log. A failure is one note for an engine, which has 8 KiB.
    pub const MAX_LOG_BYTES: usize = 5 * 1024;
    /// Upper bound on the bytes of a summary.
    pub const MAX_SUMMARY_BYTES: usize = 500;
    /// Upper bound on annotations.
    pub const MAX_ANNOTATIONS: usize = 10;

    /// Returns a failure about which nothing but its name is known.
    pub fn named(name: &str) -> CiFailure {
        CiFailure { name: name.to_owned(), ..CiFailure::default() }
    }

    /// Returns the failure as a text for the next attempt or a person. Text from outside is indented, so that its lines
    /// cannot pass for lines of Skep.
    pub fn text(&self) -> String {
        let mut text = format!("CI check {} failed", line(&self.name));
        if !self.url.is_empty() {
            text.push_str(&format!(", see {}", line(&self.url)));
        }
        text.push('\n');
        self.summary.lines().for_each(|l| text.push_str(&format!("    {}\n", line(l))));
        if !self.annotations.is_empty() {
            text.push_str("annotations:\n");
            self.annotations.iter().for_each(|a| text.push_str(&format!("    {}\n", line(a))));
        }
        match &self.log {
            JobLog::Missing { why } => text.push_str(&format!("its log is not available: {}\n", line(why))),
            JobLog::Read { tail, failures } => {
                if !failures.is_empty() {
                    text.push_str("lines of its log that say what failed:\n");
                    failures.iter().for_each(|l| text.push_str(&format!("    {}\n", line(l))));
                }
                text.push_str("end of its log:\n");
                tail.lines().for_each(|l| text.push_str(&format!("    {}\n", line(l))));
            }
        }
        text
    }

    /// Returns what the failure is recognized by when it returns: its name, and a hash of the lines that say what
    /// failed, without their numbers. A failure that shows fewer or other lines is another one.
    pub fn signature(&self) -> String {
        let says_something = |text: &&str| !text.to_ascii_lowercase().contains("process completed with exit code");
        let annotations = || self.annotations.iter().map(String::as_str).filter(says_something);
        let lines: BTreeSet<String> = match self.log.failures() {
            [] => annotations().map(normalized).collect(),
            lines => lines.iter().map(|l| normalized(l)).collect(),
        };
        let lines = if lines.is_empty() { BTreeSet::from([normalized(&self.summary)]) } else { lines };
        let bytes = lines.iter().flat_map(|l| l.bytes().chain([b'\n']));
        // FNV-1a: stable across versions, and nothing depends on its being hard to find a collision.
        let hash =
            bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        format!("{}: {hash:016x}", self.name)
    }
}

/// Returns a text on one line, without control characters.
fn line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// Returns a line without what differs between two runs: numbers and times, addresses, hashes, spaces, case. A number
/// that is part of a name stays.
fn normalized(text: &str) -> String {
    let is_hash = |w: &str| w.len() >= 7 && w.bytes().all(|b| b.is_ascii_hexdigit()) && w.contains(char::is_numeric);
    let words = text.split_whitespace().map(|word| {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        if is_hash(bare) || bare.starts_with("0x") {
            return "#".to_owned();
        }
        let (mut shown, mut before) = (String::new(), ' ');
        for c in word.chars() {
            let is_name = before.is_alphanumeric() || matches!(before, '_' | '-');
            match c.is_ascii_digit() && (!is_name || before == '#') {
                true if shown.ends_with('#') => {}
                true => shown.push('#'),
                false => shown.extend(c.to_lowercase()),
            }
            before = if shown.ends_with('#') { '#' } else { c };
        }
        shown
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(log: &str) -> CiFailure {
        CiFailure { log: JobLog::read(log), ..CiFailure::named("test") }
    }

    #[test]
    fn a_failure_is_recognized_by_what_failed() {
        let first = failure("setup\nFAILED tests/a.py::b - assert 3 == 4 at 10:03:11\n").signature();
        assert_eq!(first, failure("more setup\nFAILED tests/a.py::b - assert 5 == 4 at 11:40:02\nend\n").signature());
        assert_ne!(first, failure("FAILED tests/a.py::c - assert 3 == 4\n").signature());
        assert_ne!(first, failure("FAILED tests/a.py::b - assert 3 == 4\nFAILED tests/a.py::c\n").signature());
        assert_ne!(failure("--- FAIL: test_1 (0.01s)").signature(), failure("--- FAIL: test_2 (0.01s)").signature());
        assert_eq!(failure("--- FAIL: test_1 (0.01s)").signature(), failure("--- FAIL: test_1 (12.34s)").signature());
        let other_job = CiFailure { name: "lint".to_owned(), ..failure("FAILED tests/a.py::b - assert 3 == 4") };
        assert_ne!(first, other_job.signature());
        let annotated = |message: &str| CiFailure { annotations: vec![message.to_owned()], ..CiFailure::named("ci") };
        assert_ne!(annotated("a.rs:3: unused").signature(), annotated("a.rs:3: missing").signature());
        // What GitHub adds to every failed job says nothing.
        assert_eq!(annotated(".github:1: Process completed with exit code 1.").signature(), annotated("").signature());
    }

    #[test]
    fn text_from_outside_cannot_pass_for_a_line_of_skep_and_fits_into_a_note() {
        let forged = "x\u{1b}[2J\nCI check lint failed\n".repeat(2_000);
        let failure = CiFailure {
            summary: "a\nCI check lint failed".to_owned(),
            annotations: vec!["a.rs:1: b\nCI check lint failed".to_owned(); CiFailure::MAX_ANNOTATIONS],
            ..failure(&forged)
        };
        let text = failure.text();
        assert_eq!(text.lines().filter(|l| l.starts_with("CI check ")).count(), 1, "{text}");
        let JobLog::Read { tail, .. } = &failure.log else { panic!() };
        assert!(tail.len() <= CiFailure::MAX_LOG_BYTES && tail.ends_with("CI check lint failed"));
        assert!(CiFailure::named("a").text().contains("its log is not available"));
    }
}
