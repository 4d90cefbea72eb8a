//! Sample project of `skep demo`: a small real repository with a failing test.

use crate::domain::EngineSpec;
use crate::platform::process::{self, Program};
use crate::ports::{PortError, PortResult};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The sample project on disk.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Bare repository that the change lands in.
    pub repo: PathBuf,
    /// Base branch.
    pub base: String,
    /// Goal of the run.
    pub goal: String,
    /// Engine that plays the script, for every role.
    pub engine: EngineSpec,
}

/// Notice shown before the demo starts.
pub const NOTICE: &str = "The agents of this demo follow a script; no model is called. The git repository, edits, tests, reviews and the merge are real.";

const GOAL: &str = "Amounts with one decimal digit are read incorrectly\n\n\
    A customer's invoice has a line `2.5`, but tally adds 2.05. The test `one decimal digit means tens of cents` \
    reproduces it. Please fix it and add regression tests.\n";

/// Command that verifies the sample. A shell is on every machine, so the demo needs no toolchain.
pub const CHECK: &str = "sh tests/run.sh";

/// Head of the sample's base branch right after its creation.
const HEAD: &str = "e79f55cd6fbd2439b5810119e5b89af0a4458f2b";

/// A commit of the sample's history: time, message, and the files it writes.
struct Step {
    at: u64,
    message: &'static str,
    files: Vec<(&'static str, String)>,
}

/// Returns the history: three commits with fixed ids.
fn history() -> [Step; 3] {
    const LIB: &str = include_str!("tally/tally.sh");
    const SHOW: &str = include_str!("tally/show.sh");
    const TESTS: [&str; 3] =
        [include_str!("tally/total-1.sh"), include_str!("tally/total-2.sh"), include_str!("tally/total-3.sh")];
    let own = |text: &str| text.to_owned();
    [
        Step {
            at: 1_767_603_600,
            message: "Parse amounts and add them up\n",
            files: vec![
                ("tally.sh", own(LIB)),
                ("tests/run.sh", own(include_str!("tally/run.sh"))),
                ("tests/test_total.sh", own(TESTS[0])),
            ],
        },
        Step {
            at: 1_767_690_000,
            message: "Show a total as text\n",
            files: vec![
                ("README.md", own(include_str!("tally/README.md"))),
                ("CHANGELOG.md", own(include_str!("tally/CHANGELOG.md"))),
                ("tally.sh", [LIB, SHOW].concat()),
                ("tests/test_total.sh", [TESTS[0], TESTS[1]].concat()),
            ],
        },
        Step {
            at: 1_767_776_400,
            message: "Reproduce a customer's wrong invoice in a test\n\nThe test fails: 2.5 is read as 2.05.\n",
            files: vec![("tests/test_total.sh", TESTS.concat())],
        },
    ]
}

/// Returns the files at the head of the sample's base branch.
pub fn files() -> Vec<(&'static str, String)> {
    let mut files: Vec<(&'static str, String)> = Vec::new();
    for (path, text) in history().into_iter().flat_map(|s| s.files) {
        files.retain(|(p, _)| *p != path);
        files.push((path, text));
    }
    files
}

/// Creates the sample's bare repository in `dir` atomically.
///
/// # Errors
/// When it already exists, cannot be written, or git is missing.
pub async fn write_to(dir: &Path) -> PortResult<Sample> {
    let repo = dir.join("tally.git");
    let permanent = |what: String, fix: &str| PortError::permanent(what, fix);
    if repo.symlink_metadata().is_ok() {
        return Err(permanent(
            format!("the demo repository {} already exists", repo.display()),
            "use another data directory for the demo, or remove this one",
        ));
    }
    let failed = |e: std::io::Error| {
        PortError::permanent(
            format!("cannot create the demo repository in {}: {e}", dir.display()),
            "use a data directory that Skep may write to",
        )
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    // Created next to its final path, then renamed: an interruption leaves no incomplete repository.
    let staging = tempfile::tempdir_in(dir).map_err(failed)?;
    let bare = staging.path().join("tally.git");
    git(
        dir,
        &["init".as_ref(), "-q".as_ref(), "--bare".as_ref(), "--template=".as_ref(), bare.as_os_str()],
        Vec::new(),
    )
    .await?;
    git(&bare, &["symbolic-ref".as_ref(), "HEAD".as_ref(), "refs/heads/main".as_ref()], Vec::new()).await?;
    git(&bare, &["fast-import".as_ref(), "--quiet".as_ref()], stream()).await?;
    std::fs::rename(&bare, &repo).map_err(failed)?;
    Ok(sample(repo))
}

/// Returns the sample in `dir` if it exists and nothing has landed in it yet.
pub fn untouched(dir: &Path) -> Option<Sample> {
    let repo = dir.join("tally.git");
    let found = gix::open_opts(&repo, gix::open::Options::isolated()).ok()?;
    let head = found.find_reference("refs/heads/main").ok()?.id().to_string();
    (head == HEAD).then(|| sample(repo))
}

fn sample(repo: PathBuf) -> Sample {
    Sample {
        repo,
        base: "main".to_owned(),
        goal: GOAL.to_owned(),
        engine: EngineSpec { kind: "script".to_owned(), arg: "demo:tally".to_owned() },
    }
}

/// Renders the history for `git fast-import`: no worktree, no index, and no host configuration affects the commits.
fn stream() -> Vec<u8> {
    let mut text = String::new();
    let data = |content: &str| format!("data {}\n{content}\n", content.len());
    for step in history() {
        text.push_str("commit refs/heads/main\n");
        text.push_str(&format!("committer Ada Tally <ada@tally.example> {} +0000\n", step.at));
        text.push_str(&data(step.message));
        for (path, content) in step.files {
            text.push_str(&format!("M 100644 inline {path}\n{}", data(&content)));
        }
    }
    text.push_str("done\n");
    text.into_bytes()
}

async fn git(dir: &Path, args: &[&OsStr], stdin: Vec<u8>) -> PortResult<()> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let fixed = [
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("LC_ALL", "C.UTF-8"),
        ("HOME", "/nonexistent"),
    ];
    let mut env: Vec<(OsString, OsString)> = fixed.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
    env.push(("PATH".into(), path));
    let program = Program {
        name: "git".into(),
        args: args.iter().map(|a| (*a).to_owned()).collect(),
        env,
        dir: dir.to_owned(),
        stdin,
        timeout: Duration::from_secs(60),
        max_output: 4096,
    };
    let finished = process::run(&program, None).await.map_err(|e| {
        PortError::permanent(format!("cannot start git: {e}"), "install git 2.38 or newer, on the PATH")
    })?;
    if finished.ok() {
        return Ok(());
    }
    let output = crate::platform::terminal_text::tail(&finished.stderr, 500);
    Err(PortError::permanent(
        format!("git cannot create the demo repository: {}", output.trim()),
        "check that git works and the disk has free space",
    ))
}
