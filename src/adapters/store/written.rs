//! The results of writes: nothing is acknowledged that did not reach the store's own file, and a store that cannot be
//! written is reported.

use super::SeaStore;
use super::error::{Operation, from_db};
use crate::ports::{PortError, PortResult};
use sea_orm::DbErr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long the result of a probe holds.
const PROBE_TTL: Duration = Duration::from_secs(1);
/// Bytes that a probe writes after a failed write: as many as a transition. A smaller write can still succeed on a full
/// disk.
const PROBE_BYTES: usize = 64 * 1024;

const PROBE: &str = "INSERT INTO write_probe (id, at, padding) VALUES (1, {now}, $1) \
    ON CONFLICT (id) DO UPDATE SET at = excluded.at, padding = excluded.padding RETURNING id";

/// Whether writes succeed.
#[derive(Debug, Default)]
pub(super) struct Writes {
    failing: AtomicBool,
    /// When the store was last probed, and what was wrong.
    probe: tokio::sync::Mutex<Option<(Instant, Option<String>)>>,
}

/// The SQLite file as it was opened. One that was removed or replaced can still be written through open connections,
/// but nobody would find what was written.
#[derive(Debug)]
pub(super) struct StoreFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl StoreFile {
    pub(super) fn of(path: &Path) -> std::io::Result<StoreFile> {
        let meta = path.metadata()?;
        Ok(StoreFile { path: path.to_owned(), device: meta.dev(), inode: meta.ino() })
    }

    fn is_in_place(&self) -> bool {
        self.path.metadata().is_ok_and(|meta| (meta.dev(), meta.ino()) == (self.device, self.inode))
    }
}

impl SeaStore {
    /// Converts the result of a write.
    pub(super) fn written<T>(&self, result: Result<T, DbErr>) -> PortResult<T> {
        match result {
            Ok(value) => self.confirmed(value),
            Err(e) => Err(self.writing(&e)),
        }
    }

    /// Returns the value of a write that the database acknowledged, if it is in the store's own file.
    pub(super) fn confirmed<T>(&self, value: T) -> PortResult<T> {
        self.require_file().map_err(|e| self.failed_write(e))?;
        if self.writes.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("{} can be written again", self.location);
        }
        Ok(value)
    }

    fn require_file(&self) -> PortResult<()> {
        match &self.file {
            Some(file) if !file.is_in_place() => Err(PortError::transient(format!(
                "{} was removed or replaced while Skep was using it; stop Skep, restore the file and start Skep again",
                self.location
            ))),
            _ => Ok(()),
        }
    }

    /// Converts an error of a write: if the connection was lost on the way, the outcome is unknown.
    pub(super) fn writing(&self, e: &DbErr) -> PortError {
        let operation = if self.is_open { Operation::Write } else { Operation::Open };
        self.failed_write(from_db(&self.location, e, operation))
    }

    /// Records the error of a write. The first one in a row is logged: every write is repeated until it succeeds.
    pub(super) fn failed_write(&self, e: PortError) -> PortError {
        if matches!(e, PortError::Transient { .. } | PortError::Unknown { .. }) {
            self.losses.record();
            if self.is_open && !self.writes.failing.swap(true, Ordering::Relaxed) {
                tracing::warn!("cannot write; nothing is acknowledged until it is possible again: {e}");
            }
        }
        e
    }

    /// Checks that the store can be written, by writing. Concurrent and repeated checks share one write.
    pub(super) async fn probe(&self) -> PortResult<()> {
        self.require_file()?;
        let mut last = self.writes.probe.lock().await;
        let known = last.as_ref().filter(|(at, _)| at.elapsed() < PROBE_TTL);
        if let Some((_, problem)) = known {
            return problem.clone().map_or(Ok(()), |what| Err(PortError::transient(what)));
        }
        let padding = if self.writes.failing.load(Ordering::Relaxed) { PROBE_BYTES } else { 0 };
        let probed = self.write(PROBE, ["x".repeat(padding).into()]).await;
        *last = Some((Instant::now(), probed.as_ref().err().map(ToString::to_string)));
        probed.map(drop)
    }
}
