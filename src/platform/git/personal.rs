//! The settings with which git works in a person's hands: of the machine, of the person, of the repository, and of the
//! files they include.
//!
//! Invariant: they are data. No git runs with them.

use super::Git;
use super::local::{LocalView, Settings, read_entries};
use crate::domain::policy::glob;
use std::path::{Path, PathBuf};

/// Upper bound on a file of settings.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Upper bounds on files that include each other, as of git, and on all files that are read.
const MAX_DEPTH: usize = 10;
const MAX_FILES: usize = 200;

/// Returns the settings for a local repository of the person with this home. A file that cannot be read has none.
pub async fn personal_settings(git: &Git, view: &LocalView, home: &Path) -> Settings {
    let repository = &view.repository;
    let mut settings = Settings::new();
    // The file to read next is last.
    let mut unread = vec![
        repository.git_dir.join("config.worktree"),
        repository.common_dir.join("config"),
        home.join(".gitconfig"),
        home.join(".config/git/config"),
        PathBuf::from("/etc/gitconfig"),
    ];
    let mut entries: Vec<(PathBuf, std::vec::IntoIter<(String, String)>)> = Vec::new();
    let mut files = 0;
    loop {
        if entries.is_empty() {
            let Some(file) = unread.pop() else { return settings };
            entries.extend(read(git, file, &mut files).await);
            continue;
        }
        let Some((file, rest)) = entries.last_mut() else { return settings };
        let Some((name, value)) = rest.next() else {
            entries.pop();
            continue;
        };
        match included(&name, &value, file, repository.git_dir.as_path(), home) {
            // What an included file says counts at the place of the line that includes it.
            Some(file) if entries.len() < MAX_DEPTH => entries.extend(read(git, file, &mut files).await),
            Some(_) => {}
            None => drop(settings.insert(name.to_lowercase(), value)),
        }
    }
}

async fn read(git: &Git, file: PathBuf, files: &mut usize) -> Option<(PathBuf, std::vec::IntoIter<(String, String)>)> {
    *files += 1;
    let is_small = std::fs::metadata(&file).is_ok_and(|m| m.is_file() && m.len() <= MAX_FILE_BYTES);
    if !is_small || *files > MAX_FILES {
        return None;
    }
    let entries = read_entries(git, &file).await.ok()?;
    Some((file, entries.into_iter()))
}

/// Returns the file that an entry includes. Of the conditions, those on the git directory are understood.
fn included(name: &str, value: &str, file: &Path, git_dir: &Path, home: &Path) -> Option<PathBuf> {
    if name != "include.path" {
        let condition = name.strip_prefix("includeif.")?.strip_suffix(".path")?;
        let pattern = condition.strip_prefix("gitdir:").or_else(|| condition.strip_prefix("gitdir/i:"))?;
        if !lies_in(git_dir, pattern, file, home) {
            return None;
        }
    }
    Some(from_home(value, home).unwrap_or_else(|| file.parent().unwrap_or(Path::new("/")).join(value)))
}

/// Returns the path of `~/…`.
pub fn from_home(value: &str, home: &Path) -> Option<PathBuf> {
    value.strip_prefix("~/").map(|rest| home.join(rest))
}

fn lies_in(git_dir: &Path, pattern: &str, file: &Path, home: &Path) -> bool {
    let mut pattern = match (from_home(pattern, home), pattern.strip_prefix("./")) {
        (Some(path), _) => path.to_string_lossy().into_owned(),
        (None, Some(rest)) => file.parent().unwrap_or(Path::new("/")).join(rest).to_string_lossy().into_owned(),
        (None, None) => pattern.to_owned(),
    };
    if pattern.ends_with('/') {
        pattern.push_str("**");
    }
    if !pattern.starts_with('/') {
        pattern.insert_str(0, "**/");
    }
    let real = git_dir.canonicalize().unwrap_or_else(|_| git_dir.to_owned());
    glob(&pattern).is_ok_and(|glob| {
        let glob = glob.compile_matcher();
        glob.is_match(git_dir) || glob.is_match(real)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::git::{Identity, LocalRepository};

    #[tokio::test]
    async fn settings_of_the_person_and_of_included_files_count() {
        let tmp = tempfile::tempdir().unwrap();
        let home = tmp.path().canonicalize().unwrap();
        let git_dir = home.join("work/r/.git");
        std::fs::create_dir_all(&git_dir).unwrap();
        let put = |path: &Path, text: &str| std::fs::write(path, text).unwrap();
        put(
            &home.join(".gitconfig"),
            "[core]\n\thooksPath = ~/hooks\n[includeIf \"gitdir:~/work/\"]\n\tpath = signing\n[includeIf \"gitdir:~/other/\"]\n\tpath = none\n",
        );
        put(&home.join("signing"), "[commit]\n\tgpgsign = true\n[include]\n\tpath = ~/signing\n");
        put(&home.join("none"), "[commit]\n\tgpgsign = false\n");
        put(&git_dir.join("config"), "[include]\n\tpath = ../extra\n[user]\n\tname = A\n");
        put(&home.join("work/r/extra"), "[user]\n\tname = B\n\temail = b@example.org\n");
        let repository =
            LocalRepository { top: home.join("work/r"), git_dir: git_dir.clone(), common_dir: git_dir.clone() };
        let view = LocalView { repository, dir: git_dir.clone(), settings: Settings::new() };
        let git = Git::find(Identity::default()).await.unwrap();
        let settings = personal_settings(&git, &view, &home).await;
        let value = |name: &str| settings.get(name).map(String::as_str);
        assert_eq!(value("commit.gpgsign"), Some("true"));
        assert_eq!(value("core.hookspath"), Some("~/hooks"));
        assert_eq!((value("user.name"), value("user.email")), (Some("A"), Some("b@example.org")));
    }
}
