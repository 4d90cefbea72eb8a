//! Secrets while they are in memory: a text that cannot be printed or serialised.
//!
//! Invariant: used across layers and without rules of its own, like `telemetry` and `fault`.

use std::fmt;
use zeroize::Zeroize;

/// A text that is never shown: not by `Debug`, and it has no `Display` and no `Serialize`. Wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
    /// The text itself, for the one place that uses it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
