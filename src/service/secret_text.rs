//! Random secrets as text, and their digests.

use super::{ServiceError, ServiceResult};
use sha2::{Digest, Sha256};

/// Returns this many random bytes, in hex.
///
/// # Errors
/// `unavailable` if the system has no random bytes.
pub(super) fn random(bytes: usize) -> ServiceResult<String> {
    let mut buffer = vec![0; bytes];
    getrandom::fill(&mut buffer).map_err(|e| {
        ServiceError::unavailable(format!("no random bytes: {e}"), "Check this machine's kernel: getrandom fails")
    })?;
    Ok(hex(&buffer))
}

/// Returns the SHA-256 of a text, in hex.
pub(super) fn digest(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
