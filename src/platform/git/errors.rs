//! What git says when it fails, told by what to do next; and lock files a killed git left behind.

use crate::platform::process::ProcessOutput;
use crate::ports::PortError;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// No git of ours holds a lock file this long: older ones were left by a killed process.
const STALE: Duration = Duration::from_secs(20);

/// git could not be started.
pub(super) fn start(doing: &str, error: &std::io::Error) -> PortError {
    PortError::transient(format!("cannot {doing}: {error}"))
}

/// Lines git adds whatever the cause was.
const APPENDED: &[&str] = &[
    "fatal: Could not read from remote repository.",
    "Please make sure you have the correct access rights",
    "and the repository exists.",
];

/// The end of what a program said, on one line, for people.
pub fn output_tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let useful = |l: &&str| !l.is_empty() && !l.starts_with("hint:") && !l.starts_with("warning: Skipping unknown msg");
    let mut lines: Vec<&str> = text.lines().map(str::trim).filter(useful).collect();
    // What git appends to every failure of a remote says nothing where the cause is told before it.
    if lines.iter().any(|l| !APPENDED.contains(l)) {
        lines.retain(|l| !APPENDED.contains(l));
    }
    lines.drain(..lines.len().saturating_sub(4));
    lines.join("; ").chars().filter(|c| !c.is_control()).take(500).collect()
}

/// What a person can do, by what git said. The first match counts.
const PERMANENT: &[(&str, &str)] = &[
    (
        "does not appear to be a git repository",
        "check the path or address; `git init` and a first commit make a folder one",
    ),
    ("not a git repository", "check the repository's path or address"),
    ("Repository not found", "check the address, and that Skep's credential may read it"),
    ("returned error: 404", "check the address, and that Skep's credential may read it"),
    ("Host key verification failed", "add the host's key to known_hosts of the user Skep runs as (ssh-keyscan)"),
    ("Permission denied (publickey", "give the user Skep runs as a key that this host accepts"),
    ("Authentication failed", "configure a credential for this repository"),
    ("could not read Username", "configure a credential for this repository"),
    ("could not read Password", "configure a credential for this repository"),
    ("returned error: 401", "configure a credential for this repository"),
    ("returned error: 403", "give Skep's credential the right to do this"),
    ("redirect", "use the address it redirects to"),
    ("detected dubious ownership", "let the user Skep runs as own the repository"),
    ("fsck", "the repository holds objects git takes for malformed or dangerous: repair its history first"),
    ("Permission denied", "give the user Skep runs as access to it"),
    ("Read-only file system", "make the place writable for Skep"),
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

/// The error for an unsuccessful end.
pub fn command_error(doing: &str, done: &ProcessOutput) -> PortError {
    let said = String::from_utf8_lossy(&done.stderr);
    let what = format!("cannot {doing}: {}", output_tail(&done.stderr));
    if done.code.is_none() {
        return PortError::transient(format!("cannot {doing}: git was killed"));
    }
    // A full disk or a cut line explains every other complaint.
    if let Some(why) = TRANSIENT.iter().find(|t| said.contains(**t)) {
        let advice = match *why {
            "No space left on device" | "Disk quota exceeded" => "; free some disk space",
            w if w.ends_with("File exists") => "; another git is at work there",
            _ => "",
        };
        return PortError::transient(format!("{what}{advice}"));
    }
    match PERMANENT.iter().find(|(t, _)| said.contains(t)) {
        Some((_, fix)) => PortError::permanent(what, *fix),
        None => PortError::permanent(what, "see git's message; `skep doctor` checks git and the disk"),
    }
}

/// Removes the lock file git stumbled over if it lies in our own git dir and is stale. Whether something was removed.
pub(super) fn remove_stale_lock(git_dir: &Path, stderr: &[u8]) -> bool {
    let said = String::from_utf8_lossy(stderr);
    let Some(name) = said.split("Unable to create '").nth(1).and_then(|rest| rest.split("': File exists").next())
    else {
        return false;
    };
    let lock = git_dir.join(PathBuf::from(name));
    let ours = lock.starts_with(git_dir)
        && lock.extension().is_some_and(|e| e == "lock")
        && lock.components().all(|c| !matches!(c, std::path::Component::ParentDir));
    let stale = |path: &Path| {
        let meta = std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_file)?;
        meta.modified().ok()?.elapsed().ok().filter(|age| *age > STALE)
    };
    if !ours || stale(&lock).is_none() {
        return false;
    }
    tracing::warn!(lock = %lock.display(), "removing a lock file that a killed git left behind");
    std::fs::remove_file(&lock).is_ok()
}
