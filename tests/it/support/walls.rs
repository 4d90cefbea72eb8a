//! The walls the product has, for tests that start commands within this process.

use skep::platform::sandbox::{Policy, Sandbox};
use std::path::Path;

/// A sandbox of the default level. The test binary is not Skep: its program is named.
pub fn sandbox() -> Sandbox {
    with(&Policy::default())
}

/// A sandbox of a policy.
pub fn with(policy: &Policy) -> Sandbox {
    Sandbox::walled(policy, &[], Some(Path::new(env!("CARGO_BIN_EXE_skep"))))
        .expect("bubblewrap; scripts/test installs it")
}
