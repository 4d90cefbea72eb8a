//! The heartbeat of an attempt: a file that is touched while its process lives, so that a restart knows until when the
//! attempt worked.

use super::task::AbortOnDrop;
use crate::domain::Timestamp;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// Time between two beats: the error of the measured time.
const INTERVAL: Duration = Duration::from_secs(1);

/// Touches the heartbeat file beside the attempt's meter file until the guard is dropped. A missing beat only makes the
/// measured time less exact, so failures are ignored.
pub(super) fn start(meter: &Path) -> AbortOnDrop {
    let (file, stopped) = (path(meter), stop_path(meter));
    let beat = async move {
        // Of an earlier process.
        let _missing = tokio::fs::remove_file(stopped).await;
        let mut tick = tokio::time::interval(INTERVAL);
        loop {
            tick.tick().await;
            let _ignored = tokio::fs::write(&file, b"").await;
        }
    };
    AbortOnDrop(tokio::spawn(beat).abort_handle())
}

/// Records that the attempt ends because this process is stopped on purpose. A failure only makes the next process take
/// it for a loss.
pub(super) fn record_stop(meter: &Path) {
    if let Err(error) = std::fs::write(stop_path(meter), b"") {
        tracing::debug!(%error, "cannot record that an attempt was stopped");
    }
}

/// Returns whether the attempt's process was stopped on purpose.
pub(super) fn was_stopped(meter: &Path) -> bool {
    stop_path(meter).exists()
}

/// Returns when the attempt's process was last seen alive; `None` = unknown.
pub(super) fn last_seen(meter: &Path) -> Option<Timestamp> {
    let since = std::fs::metadata(path(meter)).ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    // The process may have lived on until just before its next beat.
    let ms = (since + INTERVAL).as_millis();
    i64::try_from(ms).ok().map(Timestamp)
}

fn path(meter: &Path) -> PathBuf {
    meter.with_extension("alive")
}

fn stop_path(meter: &Path) -> PathBuf {
    meter.with_extension("stopped")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_beat_is_seen_until_the_guard_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let meter = dir.path().join("a1.meter");
        assert_eq!(last_seen(&meter), None);
        let guard = start(&meter);
        let seen = loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if let Some(seen) = last_seen(&meter) {
                break seen;
            }
        };
        drop(guard);
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        assert_eq!(last_seen(&meter), Some(seen), "nothing beats after the guard");
        assert!(!was_stopped(&meter));
        record_stop(&meter);
        assert!(was_stopped(&meter));
        // It is started again.
        let _guard = start(&meter);
        while was_stopped(&meter) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
