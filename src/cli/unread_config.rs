//! A `skep.toml` where people expect that it is read: beside their code. Only that of the data directory is, because
//! the file names programs that Skep starts, and a repository must not bring its own.

use super::context::CliContext;
use super::exit::Stop;
use super::text::shell_quoted;
use std::path::{Path, PathBuf};

const NAME: &str = "skep.toml";

/// A configuration file that is not read.
#[derive(Debug, PartialEq, Eq)]
pub struct UnreadConfig {
    /// Which file it is.
    pub detail: String,
    /// What to do.
    pub fix: String,
}

/// Returns the `skep.toml` of the current folder, of the repository around it or of the repository `repo` if it is not
/// read.
pub fn unread_config(cli: &CliContext<'_>, repo: Option<&str>) -> Option<UnreadConfig> {
    let sources = &cli.host.sources;
    // Who names a file has one in mind, and a service elsewhere has its own.
    if sources.file.is_some() || cli.host.server.is_some() {
        return None;
    }
    let here = std::env::current_dir().ok()?;
    found(&here, repo.map(Path::new), &sources.data_dir.join(NAME))
}

/// Adds the unread file to the error of a run that has no engine.
pub fn explained(cli: &CliContext<'_>, repo: Option<&str>, stop: Stop) -> Stop {
    let Stop::Error(mut error) = stop else { return stop };
    if let Some(problem) = error.problems.iter_mut().find(|p| p.code == "no_engine")
        && let Some(UnreadConfig { detail, fix }) = unread_config(cli, repo)
    {
        problem.fix = format!("{detail}: {fix}. Otherwise: {}", problem.fix);
    }
    Stop::Error(error)
}

fn found(here: &Path, repo: Option<&Path>, read: &Path) -> Option<UnreadConfig> {
    let root = here.ancestors().find(|folder| folder.join(".git").exists());
    let folders = [Some(here), root, repo.filter(|repo| repo.is_absolute())];
    let files: Vec<PathBuf> = folders.into_iter().flatten().map(|folder| folder.join(NAME)).collect();
    let used = read.canonicalize().ok();
    let file = files.into_iter().find(|file| file.is_file() && file.canonicalize().ok() != used)?;
    let name = match file.parent() == Some(here) {
        true => format!("./{NAME}"),
        false => file.display().to_string(),
    };
    let quoted = shell_quoted(&name);
    Some(UnreadConfig {
        detail: format!("{name} is not read"),
        fix: format!("move it to {}, or pass --config {quoted}", read.display()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_beside_the_code_is_named_and_the_one_in_use_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (data, repo) = (dir.path().join("data"), dir.path().join("repo"));
        let below = repo.join("src");
        for folder in [&data, &below, &repo.join(".git")] {
            std::fs::create_dir_all(folder).unwrap();
        }
        let read = data.join(NAME);
        assert_eq!(found(&below, None, &read), None);
        std::fs::write(repo.join(NAME), "").unwrap();
        let here = found(&repo, None, &read).unwrap();
        assert_eq!(here.detail, "./skep.toml is not read");
        assert_eq!(here.fix, format!("move it to {}, or pass --config ./skep.toml", read.display()));
        let above = found(&below, None, &read).unwrap();
        assert!(above.detail.starts_with(&repo.display().to_string()), "{above:?}");
        assert_eq!(found(&data, Some(&repo), &read), Some(above), "a repository that is named");
        std::fs::write(&read, "").unwrap();
        assert_eq!(found(&data, None, &read), None, "the one in use");
    }
}
