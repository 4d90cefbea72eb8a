//! The isolation policy from the configuration: the level, the limits, and extra paths that commands may see.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Isolation level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Separate namespaces by bubblewrap (selected parts of the file system, no network, no other processes), a system
    /// call filter, and Landlock.
    #[default]
    Strict,
    /// Landlock and a system call filter alone: names and owners of files outside are visible, their content is not.
    Landlock,
    /// Limits only.
    None,
}

impl Level {
    /// Returns its name in configuration and output.
    pub fn name(self) -> &'static str {
        match self {
            Level::Strict => "strict",
            Level::Landlock => "landlock",
            Level::None => "none",
        }
    }

    /// Returns the level with this name.
    pub fn named(name: &str) -> Option<Level> {
        [Level::Strict, Level::Landlock, Level::None].into_iter().find(|l| l.name() == name)
    }
}

/// Resource limits of one command. 0 = unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory: private data of each process, and resident memory of all processes of a command together,
    /// including their memory file systems.
    pub memory: u64,
    /// Processes and threads: of each command at `strict` (Linux 5.14 or later) and where it has a control group;
    /// otherwise of all processes of the user commands run as.
    pub processes: u64,
    /// Bytes of one written file.
    pub file: u64,
    /// Open files of one process.
    pub open_files: u64,
    /// Bytes of the working directory, cache and scratch directory together.
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

/// Rules for every command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The level that must be enforced; Skep never falls back to a weaker one.
    pub level: Level,
    /// Whether running without isolation was accepted; required for [`Level::None`].
    pub accept_no_isolation: bool,
    /// User and group of commands when Skep runs as root; `None` = [`UNPRIVILEGED`].
    pub user: Option<(u32, u32)>,
    /// Limits of each command.
    pub limits: Limits,
    /// Additional paths commands may read (toolchains in unusual places).
    pub readable: Vec<PathBuf>,
    /// Paths that commands must never read, even if a directory around them is shown: the data directory, the
    /// configuration, and files with secrets.
    pub hidden: Vec<PathBuf>,
    /// Skep's data directory, which contains the directories of commands. At `landlock`, as root, the directories in
    /// it that lead to a command's are opened for its group to pass through.
    pub data_dir: Option<PathBuf>,
}

/// Default user and group id of commands: from the range that no distribution assigns.
pub const UNPRIVILEGED: (u32, u32) = (65_533, 65_533);

/// Why commands cannot be started at the configured level, and the fix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct SandboxError {
    /// The missing part, and why it matters.
    pub what: String,
    /// The exact fix, and the weaker level with its disadvantages.
    pub fix: String,
}

/// Returns the error for the level `none` without explicit acceptance.
pub fn not_accepted() -> SandboxError {
    SandboxError {
        what: "the sandbox is switched off (level none) and this was not accepted: commands would run with all rights of Skep's user".into(),
        fix: "set the level to strict, or accept it with sandbox.accept_no_isolation = true".into(),
    }
}

/// Returns the error for a missing launcher.
pub fn bubblewrap_missing() -> SandboxError {
    SandboxError {
        what: "bubblewrap is not installed; sandbox level strict needs it to isolate the commands of agents and checks".into(),
        fix: "install it: `apt-get install bubblewrap` (0.8 or later; the package has the same name on all distributions). The weaker level needs no package: \
              sandbox.level = \"landlock\" (kernel 6.12 or later; commands then see the names and owners of all files)"
            .into(),
    }
}

/// Returns the error for a missing executable of Skep itself.
pub fn executable_replaced() -> SandboxError {
    SandboxError {
        what: "Skep's executable was replaced or removed while Skep is running, and it is needed to start commands"
            .into(),
        fix: "restart Skep".into(),
    }
}
