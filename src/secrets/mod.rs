//! Secrets while they are in memory: texts that cannot be printed, the register of live values, and what keeps them from leaving.
//!
//! | file | duty |
//! |---|---|
//! | `registry` | which values are live in this process |
//! | `encode` | the forms a value may take on its way out |
//! | `redact` | live values replaced by their names, in whole texts and in streams |
//! | `shape` | what secrets of well-known services look like |
//! | `scan` | what goes out, searched for both |
//! | `seal` | encryption of what is kept |
//!
//! Invariant: used across layers and without rules of its own, like `telemetry` and `fault`.

mod encode;
mod redact;
mod registry;
mod scan;
mod seal;
mod shape;

pub use redact::{Redactor, redact, redact_all, redact_bytes, redact_end, redact_live};
pub use registry::{Live, VALUE_BYTES_MIN, register};
pub use scan::{Found, OutgoingScan};
pub use seal::{KEY_BYTES, Key, Sealed, Unsealable};

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
