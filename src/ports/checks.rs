//! Running a project's checks on a checkout.

use super::PortResult;
use crate::domain::{ArtifactKind, CheckResult, CheckSpec};
use async_trait::async_trait;
use std::path::Path;

/// A result with the bytes to keep; the caller stores them and fills in the references.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The result, its `artifacts` still empty.
    pub result: CheckResult,
    /// Output and report: kind, name, bytes (capped).
    pub files: Vec<(ArtifactKind, String, Vec<u8>)>,
}

/// Runs checks. A red check is a result; only "could not run at all" is an error.
#[async_trait]
pub trait Checks: Send + Sync {
    /// Runs `specs` in order in the checkout at `dir`, with `cache` as a writable folder kept between checks of one run.
    /// A red setup check stops the rest: they are reported red, not run. Dropping the future ends the commands.
    async fn run(&self, dir: &Path, cache: &Path, specs: &[CheckSpec]) -> PortResult<Vec<Checked>>;
}
