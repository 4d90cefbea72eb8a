//! Trying a port's call again: how often, how long between, and when to give up.

use crate::ports::{PortError, PortResult};
use std::time::Duration;
use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);
/// Waiting that people are told of: shorter hiccups are nobody's business.
const WORTH_TELLING: Duration = Duration::from_secs(3);

/// Repeats a call while it fails in a way that may pass, for at most `patience`. The call must look before it acts: after an unknown
/// outcome it is simply made again.
pub async fn patiently<T, F, Fut>(patience: Duration, mut call: F) -> PortResult<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = PortResult<T>>,
{
    let end = Instant::now() + patience;
    let mut pause = FIRST;
    let mut told = false;
    loop {
        let error = match call().await {
            Ok(value) => return Ok(value),
            Err(error @ (PortError::Permanent { .. } | PortError::Fenced { .. })) => return Err(error),
            Err(error) => error,
        };
        let wait = match &error {
            PortError::Transient { after: Some(after), .. } => (*after).min(patience),
            _ => pause,
        };
        if Instant::now() + wait > end {
            return Err(error);
        }
        if wait >= WORTH_TELLING && !told {
            told = true;
            tracing::error!("waits and tries again by itself: {error}");
        }
        tracing::debug!(%error, wait_ms = wait.as_millis() as u64, "will try again");
        tokio::time::sleep(wait).await;
        pause = (pause * 2).min(LONGEST);
    }
}
