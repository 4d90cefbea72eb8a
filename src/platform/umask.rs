//! The modes of new files: private for Skep itself, as usual for the programs that it starts.

use rustix::fs::Mode;
use std::sync::OnceLock;

/// The umask of this process before it was made private.
static INHERITED: OnceLock<Mode> = OnceLock::new();

/// Makes all files that this process creates readable by its own user only. Programs that it starts keep the umask that
/// it was started with: what they write into a person's repository is readable for whom that person wants it to be, and
/// tests find the modes that they expect.
pub fn private_by_default() {
    let before = rustix::process::umask(Mode::RWXG | Mode::RWXO);
    INHERITED.get_or_init(|| before);
}

/// Returns the umask of the programs that this process starts; `None` = its own.
pub fn inherited() -> Option<Mode> {
    INHERITED.get().copied()
}
