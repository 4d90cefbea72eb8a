//! Retries a port's call: how often, with what pauses, and when to give up.

use crate::ports::{PortError, PortResult};
use std::time::Duration;
use tokio::time::Instant;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// Pauses from this length on are logged as an error, once per call; shorter ones are noise.
const LOGGED_PAUSE: Duration = Duration::from_secs(3);

/// Repeats a call while its error may be temporary, for at most `patience`. The call must observe before it acts: after
/// an unknown outcome it is simply made again.
pub async fn patiently<T, F, Fut>(patience: Duration, mut call: F) -> PortResult<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = PortResult<T>>,
{
    let deadline = Instant::now() + patience;
    let mut pause = FIRST_PAUSE;
    let mut logged = false;
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
        if Instant::now() + wait > deadline {
            return Err(error);
        }
        if wait >= LOGGED_PAUSE && !logged {
            logged = true;
            tracing::error!("retrying automatically: {error}");
        }
        tracing::debug!(%error, wait_ms = wait.as_millis() as u64, "will retry");
        tokio::time::sleep(wait).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}
