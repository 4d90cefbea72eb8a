//! Bare repositories of trials and of their grading, written without a working copy.

use super::files::{FileContent, Tree};
use crate::platform::git::durable_fs::{make_dir, remove_path, run_blocking};
use crate::platform::git::{Git, output_tail};
use crate::ports::{PortError, PortResult};
use std::collections::BTreeSet;
use std::path::Path;

/// Branch of every repository here.
pub(super) const BRANCH: &str = "main";
/// Author and time of the base commit, which must be the same in every trial, and must not hint at an evaluation.
const COMMITTER: &str = "committer Project <project@localhost> 1767225600 +0000\n";
/// Upper bound of files that a search names.
const MAX_FOUND: usize = 20;
/// Upper bound of changed paths that are read.
const MAX_CHANGED: usize = 10_000;

/// Creates a bare repository with one commit. Returns the commit.
pub(super) async fn create(git: &Git, repo: &Path, tree: &Tree) -> PortResult<String> {
    let files = tree.iter().map(|(path, content)| (path.as_str(), content));
    import(git, repo, None, "Import the project\n", &[], files).await
}

/// Creates a bare repository whose head is `commit` of another repository, with some paths removed and some files
/// written. Objects are read from the other repository. Returns the new commit.
pub(super) async fn overlay(
    git: &Git,
    repo: &Path,
    from: (&Path, &str),
    removed: &[&str],
    files: impl Iterator<Item = (&str, &FileContent)>,
) -> PortResult<String> {
    import(git, repo, Some(from), "Add the tests\n", removed, files).await
}

async fn import(
    git: &Git,
    repo: &Path,
    from: Option<(&Path, &str)>,
    message: &str,
    removed: &[&str],
    files: impl Iterator<Item = (&str, &FileContent)>,
) -> PortResult<String> {
    let path = repo.to_owned();
    run_blocking(move || remove_path(&path).and_then(|()| make_dir(&path))).await?;
    git.call(repo).args(["init", "-q", "--bare", "--template=", "--object-format=sha1"]).output(DOING).await?;
    git.call(repo).args(["symbolic-ref", "HEAD", &format!("refs/heads/{BRANCH}")]).output(DOING).await?;
    let mut stream = format!("commit refs/heads/{BRANCH}\n{COMMITTER}").into_bytes();
    push_data(&mut stream, message.as_bytes());
    if let Some((source, commit)) = from {
        let objects = source.join("objects");
        let alternates = repo.join("objects/info/alternates");
        let Some(objects) = objects.to_str().filter(|path| !path.contains('\n')) else {
            return Err(PortError::permanent(
                format!("cannot name the objects of {}", source.display()),
                "use a data directory whose path is UTF-8 text",
            ));
        };
        let line = format!("{objects}\n").into_bytes();
        run_blocking(move || crate::platform::git::durable_fs::write_atomic(&alternates, &line)).await?;
        stream.extend_from_slice(format!("from {commit}\n").as_bytes());
    }
    removed.iter().for_each(|path| stream.extend_from_slice(format!("D {}\n", quoted(path)).as_bytes()));
    for (path, content) in files {
        let mode = if content.is_executable { "100755" } else { "100644" };
        // A folder of the same name would otherwise keep the file out.
        stream.extend_from_slice(format!("D {0}\nM {mode} inline {0}\n", quoted(path)).as_bytes());
        push_data(&mut stream, &content.bytes);
    }
    stream.extend_from_slice(b"done\n");
    git.call(repo).args(["fast-import", "--quiet", "--done"]).stdin(stream).output(DOING).await?;
    head(git, repo).await
}

const DOING: &str = "write the repository of a trial";

fn push_data(stream: &mut Vec<u8>, bytes: &[u8]) {
    stream.extend_from_slice(format!("data {}\n", bytes.len()).as_bytes());
    stream.extend_from_slice(bytes);
    stream.push(b'\n');
}

/// Quotes a path for `git fast-import`. Paths have no control characters.
fn quoted(path: &str) -> String {
    format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Returns the head of a repository.
pub(super) async fn head(git: &Git, repo: &Path) -> PortResult<String> {
    let name = format!("refs/heads/{BRANCH}");
    git.call(repo).args(["rev-parse", "--verify", &name]).output_line("read the head of a trial's repository").await
}

/// Returns whether a repository has a commit.
pub(super) async fn has_commit(git: &Git, repo: &Path, commit: &str) -> PortResult<bool> {
    let object = format!("{commit}^{{commit}}");
    Ok(git.call(repo).args(["cat-file", "-e", &object]).run("look for a trial's commit").await?.ok())
}

/// Returns the newest commit on the branches of tasks and among the saved work of a mirror, if it differs from the base.
pub(super) async fn newest_work(git: &Git, mirror: &Path, base: &str) -> PortResult<Option<String>> {
    let call = git.call(mirror).args(["for-each-ref", "--sort=-creatordate", "--format=%(objectname)"]);
    let output = call.args(["refs/heads/skep/", "refs/skep/wip/"]).output_line("find the work of a run").await?;
    Ok(output.lines().find(|sha| *sha != base).map(str::to_owned))
}

/// Creates a repository with the oracle patch applied to its tree. Returns the commit.
pub(super) async fn patched(git: &Git, repo: &Path, tree: &Tree, patch: &[u8]) -> PortResult<String> {
    apply(git, repo, tree, patch).await?.map_err(|why| {
        PortError::permanent(
            format!("the oracle patch does not apply to the base: {why}"),
            "make the patch with `git diff` between the base and its solution",
        )
    })
}

/// Creates a repository with a patch applied to its tree. Returns the commit, or why the patch does not apply.
pub(super) async fn apply(git: &Git, repo: &Path, tree: &Tree, patch: &[u8]) -> PortResult<Result<String, String>> {
    const DOING: &str = "apply a patch";
    create(git, repo, tree).await?;
    let index = repo.join("index");
    // The index is all that is needed; the working copy stays empty.
    let call = || git.call(repo).on_worktree(repo, &index);
    call().args(["read-tree", BRANCH]).output(DOING).await?;
    let applied = call().args(["apply", "--cached", "--whitespace=nowarn", "-"]).stdin(patch).run(DOING).await?;
    if !applied.ok() {
        return Ok(Err(output_tail(&applied.stderr).trim().to_owned()));
    }
    let tree = call().args(["write-tree"]).output_line(DOING).await?;
    let commit = git.call(repo).args(["commit-tree", "-p", BRANCH, "-m", "Apply the patch", &tree]);
    let commit = commit.output_line(DOING).await?;
    git.call(repo).args(["update-ref", &format!("refs/heads/{BRANCH}"), &commit]).output(DOING).await?;
    Ok(Ok(commit))
}

/// Returns the paths that differ between two commits.
pub(super) async fn changed(git: &Git, repo: &Path, base: &str, commit: &str) -> PortResult<BTreeSet<String>> {
    let call = git.call(repo).args(["diff-tree", "-r", "-z", "--name-only", "--no-renames", base, commit]);
    let output = call.output("read the changed files of a trial").await?;
    let paths = output.split(|byte| *byte == 0).filter(|path| !path.is_empty()).take(MAX_CHANGED);
    Ok(paths.map(|path| String::from_utf8_lossy(path).into_owned()).collect())
}

/// Returns the files of a commit that contain a text.
pub(super) async fn containing(git: &Git, repo: &Path, commit: &str, text: &str) -> PortResult<Vec<String>> {
    let call = git.call(repo).args(["grep", "-a", "-l", "-z", "-F", "-e", text, commit]);
    let found = call.run("search a trial's commit").await?;
    match found.code {
        Some(0) => {
            let names = found.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty()).take(MAX_FOUND);
            let path = |name: &[u8]| {
                let name = String::from_utf8_lossy(name).into_owned();
                name.split_once(':').map_or(name.clone(), |(_, path)| path.to_owned())
            };
            Ok(names.map(path).collect())
        }
        // Nothing was found.
        Some(1) => Ok(Vec::new()),
        _ => {
            Err(PortError::transient(format!("cannot search a trial's commit: {}", output_tail(&found.stderr).trim())))
        }
    }
}
