//! Reads from a checkout what names the hosts that its checks need.
//!
//! Invariant: the checkout is from outside. No link in it is followed, and what is read only proposes hosts to a person.

use super::{MAX_FILE_BYTES, wanted};
use crate::platform::rooted_fs::{EntryKind, RootedDir};
use std::collections::BTreeMap;
use std::path::Path;

/// Upper bounds on the entries of a folder, and on the folders that are listed.
const MAX_ENTRIES: usize = 2_000;
const MAX_FOLDERS: usize = 300;
/// Folders with packages and results, where lock files are those of others.
const LEFT_OUT: &[&str] = &[".git", ".venv", "build", "dist", "node_modules", "target", "vendor", "venv"];

/// Returns the paths of a checkout that name hosts, and their texts.
pub fn read(dir: &Path) -> (Vec<String>, BTreeMap<String, Vec<u8>>) {
    let Ok(root) = RootedDir::open(dir) else { return Default::default() };
    let (mut folders, mut paths, mut listed) = (vec![String::new()], Vec::new(), 0);
    while let Some(folder) = folders.pop().filter(|_| listed < MAX_FOLDERS) {
        listed += 1;
        // A folder that is gone or cannot be read names nothing.
        let Ok((entries, _)) = root.entries(folder.trim_end_matches('/'), MAX_ENTRIES) else { continue };
        for entry in entries {
            let path = format!("{folder}{}", entry.name);
            match entry.kind {
                EntryKind::File => paths.push(path),
                EntryKind::Directory if path.matches('/').count() < 2 && !LEFT_OUT.contains(&entry.name.as_str()) => {
                    folders.push(format!("{path}/"));
                }
                _ => {}
            }
        }
    }
    paths.sort();
    let paths = wanted(&paths);
    let files = paths.iter().filter_map(|path| Some((path.clone(), root.read(path, MAX_FILE_BYTES).ok()?))).collect();
    (paths, files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_files_of_a_checkout_are_found_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["go.sum", "web/package-lock.json", "node_modules/a/package-lock.json", "a/b/c/d/go.sum", "x.txt"] {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "text").unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("Cargo.lock")).unwrap();
        let (paths, files) = read(dir.path());
        assert_eq!(paths, ["go.sum", "web/package-lock.json"]);
        assert_eq!(files["go.sum"], b"text");
        assert!(read(Path::new("/nowhere")).0.is_empty());
    }
}
