//! Problems of a configuration: key, source, kind of value, cause and fix.
//!
//! Invariant: a problem never contains the value itself, because a pasted secret must not end up in a log.

use std::fmt;

/// Cause of a problem with a key that does not exist.
pub(super) const UNKNOWN_KEY: &str = "unknown key";

/// A problem with one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key in dotted form, or the file if it cannot be read.
    pub at: String,
    /// Source of the value: a file with the line, or an environment variable.
    pub source: String,
    /// Kind of the value (`text`, `whole number`, …); empty if there is none.
    pub found: String,
    /// Cause.
    pub why: String,
    /// The fix, in the imperative.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.why == UNKNOWN_KEY {
            return write!(f, "unknown key `{}` ({}); {}", self.at, self.source, self.fix);
        }
        write!(f, "{} ({}", self.at, self.source)?;
        if !self.found.is_empty() {
            write!(f, ", {}", self.found)?;
        }
        write!(f, "): {}; {}", self.why, self.fix)
    }
}

/// All problems of a configuration, in the order of the reference. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0.len();
        write!(f, "the configuration has {n} problem{}:", if n == 1 { "" } else { "s" })?;
        for problem in &self.0 {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

/// Makes an external name (a key, a path) safe to print: escapes control characters and truncates it to 100 characters.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::new();
    for (n, c) in text.chars().enumerate() {
        if n == 100 {
            out.push('…');
            break;
        }
        if crate::telemetry::is_unsafe_to_print(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}
