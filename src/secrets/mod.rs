//! Secrets in memory: strings that cannot be printed, the registry of live values, redaction and scanning of output.
//!
//! | file | purpose |
//! |---|---|
//! | `registry` | the values that are live in this process |
//! | `encode`, `escape` | the encodings and escapes in which a value may appear in output |
//! | `file` | files that hold a secret |
//! | `name` | names of stored secrets |
//! | `redact` | replacement of live values by their names, in texts and in streams |
//! | `shape` | formats of secrets of well-known services |
//! | `scan` | scan of outgoing commits for both |
//! | `seal` | encryption of stored secrets |
//!
//! A value is *live* once this process knows it: the server's own token, secrets that the configuration names, the
//! variables in `engines.pass_env`, and values that the vault has decrypted or received. Text from outside enters and
//! leaves the process at a few points, and is redacted there:
//!
//! | file | redacted text |
//! |---|---|
//! | `actors/run.rs`, `actors/intake.rs` | every event, before it is decided upon (`domain/texts.rs` lists its texts); snapshots, comments, notes and orders are made of events |
//! | `platform/sandbox`, `adapters/runner/client.rs` | output of commands, as it arrives and before it is shortened |
//! | `adapters/engine/driven` | messages, tool calls, errors and standard error of agents |
//! | `adapters/store/blobs.rs` | every artifact |
//! | `actors/session.rs` | prompts, patches for reviewers, commit messages, live output |
//! | `actors/ops.rs` | texts for the forge, and the scan of every outgoing commit before a push |
//! | `telemetry` | log fields, span attributes, panics |
//! | `actors/root.rs` | reasons of quarantines |
//! | `service/open_work` | offers and files for outside agents |
//! | `http/rest/wire` (`engine`, `check`, `event`) | command lines, which a run keeps as they work, and events |
//! | `http/rest/artifacts.rs` | patches, and artifacts once more |
//! | `service/audit.rs` | details of audit records |
//! | `actors/memories.rs`, `service/memory.rs` | rows of memory: one that contains a secret is not stored |
//! | `service/improve` | proposals, and the issues that they are written to |
//! | `adapters/notify/form.rs` | messages to people |
//! | `adapters/oidc/client.rs` | what an identity provider says about a failure |
//! | `adapters/deploy`, `service/deployments` | what hosts and deployed versions answer, reports on changes, messages |
//! | `service/intake` | comments on issues, and replies to commands |
//! | `http/pages/changes.rs`, `service/installation.rs` | diffs and settings on pages |
//! | `http/mcp/results.rs` | results and notifications for agents |
//! | `service/error.rs`, `http/rest/problem.rs`, `cli/terminal.rs` | errors |
//! Invariant: like `fault`, this module may be used by every layer and depends on none.
//! Invariant: every layer may use this module, and it depends on none, like `fault`.

mod encode;
mod escape;
mod file;
mod name;
mod redact;
mod registry;
mod scan;
mod seal;
mod shape;

pub use file::{FileProblem, read_private};
pub use name::SecretName;
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
