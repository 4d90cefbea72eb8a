//! Sandboxes as the product creates them, for tests that start commands within this process.

use skep::platform::sandbox::{Policy, Sandbox};
use std::path::Path;

/// Creates a sandbox of the default level, `strict`.
pub fn strict() -> Sandbox {
    with_policy(&Policy::default())
}

/// Creates a sandbox with a policy. The test binary is not Skep, so the helper is named explicitly.
pub fn with_policy(policy: &Policy) -> Sandbox {
    Sandbox::isolated(policy, &[], Some(Path::new(env!("CARGO_BIN_EXE_skep"))))
        .expect("bubblewrap is missing; install it with `apt-get install bubblewrap`")
}
