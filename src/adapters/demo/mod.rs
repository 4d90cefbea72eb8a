//! Project of `skep demo`: a small real repository with a real failing test.

use crate::domain::EngineSpec;
use crate::platform::process::{self, Program};
use crate::ports::{PortError, PortResult};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The demo's project, in place.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its bare repository, the one the change lands in.
    pub repo: PathBuf,
    /// The branch it lands on.
    pub base: String,
    /// What is asked for.
    pub goal: String,
    /// The engine that plays the script, for every role.
    pub engine: EngineSpec,
}

/// What people must know before they are impressed.
pub const NOTICE: &str = "The agents of this demo are scripted: no model thinks here. The git repository, edits, tests, reviews and the merge are real.";

const GOAL: &str = "Amounts with one digit after the point are counted wrongly\n\n\
    A customer's invoice has a line `2.5`, and tally adds 2.05. The test \
    `one_digit_after_the_point_means_tens_of_cents` shows it. Please fix it, and make sure it stays fixed.\n";

/// The head of the sample's base branch as it is made.
const HEAD: &str = "d6c43ff4eec27fbd64178f9aecb9d3976e9a67a8";

/// A commit of the sample's history: when, what it says, the files it writes.
struct Step {
    at: u64,
    message: &'static str,
    files: Vec<(&'static str, String)>,
}

/// The history: three commits, always the same ids.
fn history() -> [Step; 3] {
    const LIB: &str = include_str!("tally/lib-1.rs");
    const SHOW: &str = include_str!("tally/show.rs");
    const TESTS: [&str; 3] =
        [include_str!("tally/total-1.rs"), include_str!("tally/total-2.rs"), include_str!("tally/total-3.rs")];
    let own = |text: &str| text.to_owned();
    [
        Step {
            at: 1_767_603_600,
            message: "Read amounts and add them up\n",
            files: vec![
                (".gitignore", own("/target\n")),
                ("Cargo.toml", own(include_str!("tally/Cargo.toml.in"))),
                ("Cargo.lock", own(include_str!("tally/Cargo.lock.in"))),
                ("src/lib.rs", own(LIB)),
                ("tests/total.rs", own(TESTS[0])),
            ],
        },
        Step {
            at: 1_767_690_000,
            message: "Show a total as text\n",
            files: vec![
                ("README.md", own(include_str!("tally/README.md"))),
                ("CHANGELOG.md", own(include_str!("tally/CHANGELOG.md"))),
                ("src/lib.rs", [LIB, SHOW].concat()),
                ("tests/total.rs", [TESTS[0], TESTS[1]].concat()),
            ],
        },
        Step {
            at: 1_767_776_400,
            message: "Show a customer's wrong invoice as a test\n\nIt fails: 2.5 is counted as 2.05.\n",
            files: vec![("tests/total.rs", TESTS.concat())],
        },
    ]
}

/// The sample's files as they are at the head of its base branch.
pub fn files() -> Vec<(&'static str, String)> {
    let mut files: Vec<(&'static str, String)> = Vec::new();
    for (path, text) in history().into_iter().flat_map(|s| s.files) {
        files.retain(|(p, _)| *p != path);
        files.push((path, text));
    }
    files
}

/// Makes the sample's bare repository in `dir`, whole or not at all.
///
/// # Errors
/// When it is there already, cannot be written, or git is missing.
pub async fn write_to(dir: &Path) -> PortResult<Sample> {
    let repo = dir.join("tally.git");
    let wrong = |what: String, fix: &str| PortError::permanent(what, fix);
    if repo.symlink_metadata().is_ok() {
        return Err(wrong(
            format!("the demo's repository {} is there already", repo.display()),
            "give the demo another data directory, or remove this one",
        ));
    }
    let failed = |e: std::io::Error| {
        PortError::permanent(
            format!("the demo's repository cannot be made in {}: {e}", dir.display()),
            "give it a folder it may write to",
        )
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    // Beside its place, then renamed: an interrupted demo leaves no half repository.
    let making = tempfile::tempdir_in(dir).map_err(failed)?;
    let bare = making.path().join("tally.git");
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

/// The sample in `dir` if it is there and nothing has landed in it yet.
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

/// The history as git's fast-import reads it: no worktree, no index, nothing of the host's configuration in the commits.
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
    let ended = process::run(&program, None).await.map_err(|e| {
        PortError::permanent(format!("git cannot be started: {e}"), "install git (2.39 or later) and put it on PATH")
    })?;
    if ended.ok() {
        return Ok(());
    }
    let said = crate::platform::terminal_text::tail(&ended.stderr, 500);
    Err(PortError::permanent(
        format!("git could not make the demo's repository: {}", said.trim()),
        "look whether git works and the disk has room",
    ))
}
