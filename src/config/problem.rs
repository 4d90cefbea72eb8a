//! What is wrong with a configuration, told so that it can be mended: key, source, kind of value, reason, fix.
//!
//! Invariant: a problem never carries the value itself; a pasted secret must not end up in a log.

use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key in dotted form, or the file when it could not be read at all.
    pub at: String,
    /// Where the value came from.
    pub source: String,
    /// The kind of value that was found (`text`, `number`, …); empty when there was none.
    pub found: String,
    /// What is wrong with it.
    pub why: String,
    /// What to write or do instead.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.at, self.source)?;
        if !self.found.is_empty() {
            write!(f, ", {}", self.found)?;
        }
        write!(f, "): {}; {}", self.why, self.fix)
    }
}

/// Everything that is wrong, in the order of the reference. Never empty.
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

/// A name from outside (a key, a path) made safe to print: control characters escaped, cut to 100 characters.
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
