//! What a person decided about isolation: the level, the limits, what else commands may see.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How strong the walls are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Namespaces of its own by bubblewrap: a file system of chosen parts, no network, no other process; system call filter; Landlock.
    #[default]
    Strict,
    /// Landlock and a system call filter alone: it sees the names and owners of files outside, not their content.
    Landlock,
    /// Limits only.
    None,
}

impl Level {
    /// Its name in configuration and output.
    pub fn name(self) -> &'static str {
        match self {
            Level::Strict => "strict",
            Level::Landlock => "landlock",
            Level::None => "none",
        }
    }

    /// The level of a name.
    pub fn named(name: &str) -> Option<Level> {
        [Level::Strict, Level::Landlock, Level::None].into_iter().find(|l| l.name() == name)
    }
}

/// What one command may use. 0 = not limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory: of its private data for each process, and resident for all of a command's processes together, with what they
    /// keep in memory file systems.
    pub memory: u64,
    /// Processes and threads: of each command at `strict` (Linux 5.14 or later) and where it has a control group; else of all processes
    /// of the user commands run as.
    pub processes: u64,
    /// Bytes of one file it writes.
    pub file: u64,
    /// Open files of a process.
    pub open_files: u64,
    /// Bytes of its working folder, cache and scratch folder together.
    pub workspace: u64,
    /// Bytes of `/tmp` and of `/dev/shm`, each, at `strict`.
    pub tmp: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        const GIB: u64 = 1 << 30;
        Limits { memory: 8 * GIB, processes: 4096, file: 4 * GIB, open_files: 4096, workspace: 20 * GIB, tmp: GIB / 4 }
    }
}

/// The rules for every command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The level that must hold; a weaker one is never taken instead.
    pub level: Level,
    /// Whether a person accepted to run without isolation: needed for [`Level::None`].
    pub accept_no_isolation: bool,
    /// The user and group commands run as when Skep runs as root; `None` = [`UNPRIVILEGED`].
    pub user: Option<(u32, u32)>,
    /// Limits of each command.
    pub limits: Limits,
    /// More paths commands may read (toolchains outside the usual places).
    pub readable: Vec<PathBuf>,
    /// Skep's data directory, where the folders of commands are: at `landlock`, as root, the folders in it that lead to a command's
    /// are opened for its group to pass through.
    pub data_dir: Option<PathBuf>,
}

/// The user and group number taken when nobody named one: from the range that no distribution gives to anybody.
pub const UNPRIVILEGED: (u32, u32) = (65_533, 65_533);

/// Why commands cannot be started behind the wanted walls, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Refused {
    /// What is missing, and why it matters.
    pub what: String,
    /// The exact fix, and the weaker level with its price.
    pub fix: String,
}
