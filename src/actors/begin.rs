//! Counts the starts of an effect before it is carried out. The count is fenced, so that a process that lost the run does
//! not act for it.

use super::deps::Deps;
use super::retry::patiently;
use crate::domain::EffectKey;
use crate::ports::leases::Lease;
use crate::ports::{PortError, PortResult};
use std::time::Duration;

/// Upper bound on starts of an effect that has no outcome yet. Beyond it a person is asked, because the effect seems to
/// kill its process.
const MAX_BEGUN: u32 = 5;

/// Counts a start.
///
/// # Errors
/// The run belongs to another process, the effect was started too often, or the store was unavailable for `patience`.
pub(super) async fn begin(deps: &Deps, lease: &Lease, key: &EffectKey, patience: Duration) -> PortResult<()> {
    crate::fault!("before-begin");
    let begun = patiently(patience, || deps.store.begin_effect(lease, key)).await?;
    crate::fault!("after-begin");
    if begun > MAX_BEGUN {
        return Err(PortError::permanent(
            format!("the effect was started {begun} times and never ended"),
            "check the logs of the last starts; unblock the run to try again",
        ));
    }
    Ok(())
}
