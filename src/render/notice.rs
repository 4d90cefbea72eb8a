//! Notices about a repository, each in one line.

use super::quantity::count;
use crate::domain::{Notice, Run};

/// The repository's file of rules for Skep.
const RULES_FILE: &str = ".skep.toml";

/// Returns what a person should know when a run starts.
pub fn notices(run: &Run) -> Vec<String> {
    let is_shown = |n: &&Notice| match n {
        Notice::Ignored { .. } | Notice::Remote { .. } => false,
        Notice::Unfinished { branch, .. } => *branch == run.settings.base_branch,
        _ => true,
    };
    run.settings.notices.iter().filter(is_shown).map(line).collect()
}

/// Returns what a person should know when they approve the merge.
pub(super) fn at_merge(run: &Run) -> Vec<String> {
    let matters = |n: &&Notice| match n {
        Notice::Hooks { .. } | Notice::Unsigned => true,
        Notice::Unfinished { branch, .. } => *branch == run.settings.base_branch,
        _ => false,
    };
    run.settings.notices.iter().filter(matters).map(line).collect()
}

/// Returns what may explain a failed check that printed `output`.
pub(super) fn at_failure(run: &Run, output: &str) -> Vec<String> {
    let name = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let matters = |n: &&Notice| match n {
        Notice::Ignored { paths } => paths.iter().any(|path| output.contains(&name(path))),
        Notice::Submodules { .. } | Notice::Filters { .. } | Notice::Shallow => true,
        Notice::Uncommitted { paths, .. } => paths.iter().any(|path| output.contains(path.trim_end_matches('/'))),
        Notice::Hooks { .. } | Notice::Unsigned | Notice::Unfinished { .. } | Notice::Remote { .. } => false,
    };
    run.settings.notices.iter().filter(matters).map(line).collect()
}

/// Returns the remote of a local repository, to which a person publishes what landed.
pub fn remote(run: &Run) -> Option<&str> {
    run.settings.notices.iter().find_map(|n| match n {
        Notice::Remote { name } => Some(name.as_str()),
        _ => None,
    })
}

fn line(notice: &Notice) -> String {
    match notice {
        Notice::Uncommitted { files, paths } => {
            let rules = match paths.iter().any(|path| path == RULES_FILE) {
                true => format!("; {RULES_FILE} is read at the base commit"),
                false => String::new(),
            };
            format!("{} not part of this run: {}{rules}", files_are(*files), listed(paths, *files))
        }
        Notice::Unfinished { branch, operation } => format!(
            "a {operation} of {branch} is under way in the working copy: finish or abort it before the change lands"
        ),
        Notice::Ignored { paths } => format!(
            "only committed files are in the worktrees of a run; git ignores {}",
            listed(paths, paths.len() as u64)
        ),
        Notice::Hooks { names } => format!("Skep does not run the hooks that git would run here: {}", names.join(", ")),
        Notice::Unsigned => {
            "git is set to sign commits here (commit.gpgsign), but Skep does not sign its commits".to_owned()
        }
        Notice::Submodules { paths } => {
            format!("submodules are empty in the worktrees of a run: {}", listed(paths, paths.len() as u64))
        }
        Notice::Filters { names } => format!(
            "files kept by {} are in the worktrees in the form that git stores, and cannot be changed",
            names.join(" and ")
        ),
        Notice::Shallow => "the repository is a shallow clone: its history ends early".to_owned(),
        Notice::Remote { name } => format!("the repository has the remote {name}"),
    }
}

fn files_are(files: u64) -> String {
    format!("{} {}", count(files, "uncommitted file"), if files == 1 { "is" } else { "are" })
}

/// Lists the first paths, and how many more there are.
fn listed(paths: &[String], total: u64) -> String {
    let shown = &paths[..paths.len().min(5)];
    match total.saturating_sub(shown.len() as u64) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_what_is_meant_and_how_much() {
        let paths: Vec<String> = (1..=7).map(|n| format!("f{n}")).collect();
        let text = line(&Notice::Uncommitted { files: 9, paths: paths.clone() });
        assert_eq!(text, "9 uncommitted files are not part of this run: f1, f2, f3, f4, f5 and 4 more");
        let text = line(&Notice::Uncommitted { files: 1, paths: paths[..1].to_vec() });
        assert_eq!(text, "1 uncommitted file is not part of this run: f1");
        let text = line(&Notice::Uncommitted { files: 1, paths: vec![".skep.toml".to_owned()] });
        assert!(text.ends_with(": .skep.toml; .skep.toml is read at the base commit"), "{text}");
        assert!(line(&Notice::Submodules { paths }).ends_with("f5 and 2 more"));
    }
}
