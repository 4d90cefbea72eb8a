//! Secrets in memory: strings that cannot be printed, the registry of live values, redaction and scanning of output.
//!
//! | file | purpose |
//! |---|---|
//! | `registry` | the values that are live in this process |
//! | `encode` | the encodings in which a value may appear in output |
//! | `redact` | replacement of live values by their names, in texts and in streams |
//! | `shape` | formats of secrets of well-known services |
//! | `scan` | scan of outgoing commits for both |
//! | `seal` | encryption of stored secrets |
//!
//! Invariant: every layer may use this module, and it depends on none, like `fault`.

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

/// A string that is never printed: `Debug` masks it, and it has neither `Display` nor `Serialize`. Zeroed when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a string.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
    /// Returns the string, for the code that needs the value itself.
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
