//! What a killed git leaves behind: lock files and temporary objects. They are removed once no git is at work there.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Maximum number of bytes read from the arguments or the environment of a process.
const PROCESS_TEXT_MAX: u64 = 1024 * 1024;
/// Upper bound on temporary files removed at once.
const MAX_TEMPORARY: usize = 10_000;

/// Returns whether a git process works in one of these folders, as far as this user can see: it names the folder in its
/// arguments or environment, or stands in it. A git of another user that cannot be inspected counts as at work if
/// `others` is set.
pub(super) fn is_git_at_work(folders: &[&Path], others: bool) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return true };
    processes.flatten().map(|entry| entry.path()).any(|process| {
        let name = std::fs::read(process.join("comm")).unwrap_or_default();
        name.starts_with(b"git") && !is_zombie(&process) && works_in(&process, folders, others)
    })
}

/// Returns whether a process has ended and is only kept for its parent.
fn is_zombie(process: &Path) -> bool {
    let stat = std::fs::read_to_string(process.join("stat")).unwrap_or_default();
    stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
}

fn works_in(process: &Path, folders: &[&Path], others: bool) -> bool {
    let names = |text: &[u8]| {
        folders.iter().any(|dir| {
            let dir = dir.as_os_str().as_bytes();
            !dir.is_empty() && text.windows(dir.len()).any(|part| part == dir)
        })
    };
    let read = |file: &str| -> std::io::Result<Vec<u8>> {
        let mut text = Vec::new();
        std::fs::File::open(process.join(file))?.take(PROCESS_TEXT_MAX).read_to_end(&mut text)?;
        Ok(text)
    };
    if std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| folders.iter().any(|dir| cwd.starts_with(dir)))
        || read("cmdline").is_ok_and(|text| names(&text))
    {
        return true;
    }
    match read("environ") {
        Ok(text) => names(&text),
        // It may have ended meanwhile; otherwise it belongs to another user.
        Err(e) => others && e.kind() == std::io::ErrorKind::PermissionDenied,
    }
}

/// Returns the lock files that a message of git reports as existing.
pub(super) fn reported_locks(message: &str) -> BTreeSet<PathBuf> {
    let pieces = message.split("Unable to create '").skip(1);
    pieces
        .filter_map(|rest| rest.split_once(".lock': File exists"))
        .map(|(name, _)| format!("{name}.lock").into())
        .collect()
}

/// Removes those of the reported locks that lie below `root`, which only Skep writes to. Does nothing while a git is at
/// work there. Returns whether it removed one.
pub(super) fn remove_locks(root: &Path, message: &str) -> bool {
    let plain = |path: &Path| path.components().all(|c| !matches!(c, std::path::Component::ParentDir));
    let found: Vec<PathBuf> = reported_locks(message)
        .into_iter()
        .map(|lock| root.join(lock))
        .filter(|lock| lock.starts_with(root) && plain(lock))
        .filter(|lock| std::fs::symlink_metadata(lock).is_ok_and(|meta| meta.is_file()))
        .collect();
    // Looked for first: whoever creates a lock later is at work now, or will find it gone and create another.
    if found.is_empty() || is_git_at_work(&[root], false) {
        return false;
    }
    let mut removed = false;
    for lock in found {
        tracing::warn!(lock = %lock.display(), "removing a lock file that a killed git left");
        removed |= std::fs::remove_file(&lock).is_ok();
    }
    removed
}

/// Removes temporary objects of killed git processes from a git directory that only Skep writes to. Does nothing while
/// a git is at work there.
pub(super) fn remove_temporary_objects(git_dir: &Path) {
    let objects = git_dir.join("objects");
    let listed = temporary_in(&objects);
    // A git that starts after the listing owns none of these files, and one that started before is seen.
    if listed.is_empty() || is_git_at_work(&[git_dir], false) {
        return;
    }
    tracing::info!(files = listed.len(), dir = %objects.display(), "removing temporary files of killed git processes");
    for path in listed {
        // What cannot be removed now is found again at the next fetch.
        let _left = super::durable_fs::remove_path(&path);
    }
}

/// Lists temporary files and folders directly in `objects` and in its folders.
fn temporary_in(objects: &Path) -> Vec<PathBuf> {
    let entries = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten();
    let is_temporary = |name: &std::ffi::OsStr| {
        let name = name.as_bytes();
        [&b"tmp_"[..], b"incoming-", b".tmp-"].iter().any(|start| name.starts_with(start))
    };
    let mut found = Vec::new();
    for entry in entries(objects) {
        if is_temporary(&entry.file_name()) {
            found.push(entry.path());
        } else if entry.file_type().is_ok_and(|t| t.is_dir()) {
            found.extend(entries(&entry.path()).filter(|e| is_temporary(&e.file_name())).map(|e| e.path()));
        }
        if found.len() >= MAX_TEMPORARY {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_read_from_messages() {
        let message = "remote: error: cannot lock ref 'refs/heads/a': Unable to create '/o/.git/refs/heads/a.lock': \
                       File exists.\n\nfatal: Unable to create './packed-refs.lock': File exists.\nUnable to create 'x'";
        let locks: Vec<_> = reported_locks(message).into_iter().collect();
        assert_eq!(locks, [Path::new("/o/.git/refs/heads/a.lock"), Path::new("./packed-refs.lock")]);
    }

    #[test]
    fn only_what_nobody_uses_is_removed() {
        let tmp = tempfile::tempdir().unwrap();
        let root = tmp.path().join("m.git");
        for (name, stays) in [
            ("refs/heads/a.lock", false),
            ("packed-refs.lock", false),
            ("objects/pack/tmp_pack_x", false),
            ("objects/tmp_objdir-incoming-x/ab/cd", false),
            ("objects/ab/tmp_obj_x", false),
            ("objects/pack/pack-1.pack", true),
            ("refs/heads/a", true),
        ] {
            std::fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            std::fs::write(root.join(name), "").unwrap();
            let message = format!("Unable to create '{}': File exists.", root.join(name).display());
            remove_locks(&root, &message);
            remove_temporary_objects(&root);
            assert_eq!(root.join(name).exists(), stays, "{name}");
        }
        let outside = tmp.path().join("o.lock");
        std::fs::write(&outside, "").unwrap();
        for path in [outside.display().to_string(), format!("{}/../o.lock", root.display())] {
            assert!(!remove_locks(&root, &format!("Unable to create '{path}': File exists.")));
        }
        assert!(outside.exists());
    }
}
