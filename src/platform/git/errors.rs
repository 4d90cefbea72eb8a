//! Maps failures of git to errors with a fix, by git's message. Also removes lock files that a killed git left behind.

use crate::platform::process::ProcessOutput;
use crate::ports::PortError;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Age at which a lock file counts as left behind by a killed process. No git that Skep runs holds one this long.
const STALE_AFTER: Duration = Duration::from_secs(20);

/// Creates the error for a git that cannot be started.
pub(super) fn start_error(doing: &str, error: &std::io::Error) -> PortError {
    PortError::transient(format!("cannot {doing}: {error}"))
}

/// Lines git appends regardless of the cause.
const BOILERPLATE: &[&str] = &[
    "fatal: Could not read from remote repository.",
    "Please make sure you have the correct access rights",
    "and the repository exists.",
];

/// Returns the end of a program's output on one line, for people.
pub fn output_tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let is_useful =
        |l: &&str| !l.is_empty() && !l.starts_with("hint:") && !l.starts_with("warning: Skipping unknown msg");
    let mut lines: Vec<&str> = text.lines().map(str::trim).filter(is_useful).collect();
    // Boilerplate adds nothing if a cause precedes it.
    if lines.iter().any(|l| !BOILERPLATE.contains(l)) {
        lines.retain(|l| !BOILERPLATE.contains(l));
    }
    lines.drain(..lines.len().saturating_sub(4));
    lines.join("; ").chars().filter(|c| !c.is_control()).take(500).collect()
}

/// Parts of git's messages with their fix. The first match counts.
const PERMANENT: &[(&str, &str)] = &[
    (
        "does not appear to be a git repository",
        "check the path or address; `git init` and a first commit turn a folder into a repository",
    ),
    ("not a git repository", "check the repository's path or address"),
    ("Repository not found", "check the address, and that Skep's credential has read access"),
    ("returned error: 404", "check the address, and that Skep's credential has read access"),
    ("Host key verification failed", "add the host's key to known_hosts of the user Skep runs as (ssh-keyscan)"),
    ("Permission denied (publickey", "give the user Skep runs as a key that this host accepts"),
    ("Authentication failed", "configure a credential for this repository"),
    ("could not read Username", "configure a credential for this repository"),
    ("could not read Password", "configure a credential for this repository"),
    ("returned error: 401", "configure a credential for this repository"),
    ("returned error: 403", "give Skep's credential permission to do this"),
    ("redirect", "use the address that it redirects to"),
    ("detected dubious ownership", "make the user Skep runs as the owner of the repository"),
    ("fsck", "git considers objects of the repository malformed or dangerous: repair its history first"),
    ("Permission denied", "give the user Skep runs as access to it"),
    ("Read-only file system", "make the file system writable"),
    ("mismatched algorithms", "repositories with SHA-256 objects are not supported yet"),
];

const TRANSIENT: &[&str] = &[
    "No space left on device",
    "Disk quota exceeded",
    "Could not resolve host",
    "Temporary failure in name resolution",
    "Name or service not known",
    "Failed to connect",
    "Couldn't connect",
    "Connection refused",
    "Connection timed out",
    "Connection reset",
    "Operation timed out",
    "Network is unreachable",
    "No route to host",
    "early EOF",
    "unexpected disconnect",
    "remote end hung up",
    "returned error: 5",
    "returned error: 429",
    "Cannot allocate memory",
    "Resource temporarily unavailable",
    ".lock': File exists",
    "cannot lock ref",
];

/// Creates the error for a git command that failed while `doing` something.
pub fn command_error(doing: &str, finished: &ProcessOutput) -> PortError {
    let message = String::from_utf8_lossy(&finished.stderr);
    let what = format!("cannot {doing}: {}", output_tail(&finished.stderr));
    if finished.code.is_none() {
        return PortError::transient(format!("cannot {doing}: git was killed"));
    }
    // A full disk or a lost connection explains every other message.
    if let Some(why) = TRANSIENT.iter().find(|t| message.contains(**t)) {
        let advice = match *why {
            "No space left on device" | "Disk quota exceeded" => "; free some disk space",
            w if w.ends_with("File exists") => "; another git process is running there",
            _ => "",
        };
        return PortError::transient(format!("{what}{advice}"));
    }
    match PERMANENT.iter().find(|(t, _)| message.contains(t)) {
        Some((_, fix)) => PortError::permanent(what, *fix),
        None => PortError::permanent(what, "see the message of git; `skep doctor` checks git and the disk"),
    }
}

/// Removes the lock file that made git fail, if it is stale and inside our own git directory. Returns whether it did.
pub(super) fn remove_stale_lock(git_dir: &Path, stderr: &[u8]) -> bool {
    let message = String::from_utf8_lossy(stderr);
    let Some(name) = message.split("Unable to create '").nth(1).and_then(|rest| rest.split("': File exists").next())
    else {
        return false;
    };
    let lock = git_dir.join(PathBuf::from(name));
    let is_ours = lock.starts_with(git_dir)
        && lock.extension().is_some_and(|e| e == "lock")
        && lock.components().all(|c| !matches!(c, std::path::Component::ParentDir));
    let stale_age = |path: &Path| {
        let meta = std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_file)?;
        meta.modified().ok()?.elapsed().ok().filter(|age| *age > STALE_AFTER)
    };
    if !is_ours || stale_age(&lock).is_none() {
        return false;
    }
    tracing::warn!(lock = %lock.display(), "removing a stale lock file left by a killed git");
    std::fs::remove_file(&lock).is_ok()
}
