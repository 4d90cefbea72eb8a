//! The checks at `done`: when a model says that its work is finished, the project's checks run in its worktree, and what
//! fails goes back to it while it still knows what it did.
//!
//! Invariant: what is found here proves nothing. Commands of the model ran in this worktree before; the proof is the
//! checks in a fresh checkout afterwards.

use crate::adapters::engine::llm::progress::Progress;
use crate::adapters::engine::llm::tools::{self, Executed, Tools, truncate_middle};
use crate::domain::change::failure_lines;
use crate::domain::check::{self, CheckKind, CheckResult, CheckSpec};
use crate::domain::{Order, Step};
use crate::platform::rooted_fs::{RootedDir, RootedFsError};
use crate::platform::terminal_text;
use crate::ports::engine::EngineEvent;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Share of the session's time that must be left, and the part of what is left that the checks may use.
const MIN_TIME_LEFT: f64 = 0.2;
const SHARE_OF_TIME: f64 = 0.5;
/// Upper bound of the text for the model, and of the end of one check's output, in bytes.
const MAX_TEXT_BYTES: usize = 16 * 1024;
const MAX_TAIL_BYTES: usize = 4 * 1024;
/// Changed files whose content is compared, and the bytes read of one and of all of them. A larger change is not
/// compared.
const MAX_FILES: usize = 2_000;
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// New folders of checks that are removed.
const MAX_FOLDERS: usize = 50;
/// Files named in a message.
const MAX_NAMED: usize = 20;
/// Lists the changed files; `normal` names a new folder once, `all` names its files.
const STATUS: &str = "GIT_OPTIONAL_LOCKS=0 git -c core.fsmonitor=false status --porcelain=v1 -z --no-renames \
                      --ignore-submodules=all --untracked-files=";
/// Time limit of a command that lists or removes files.
const FILES_LIMIT: Duration = Duration::from_secs(20);
/// Exit codes of the shell for a command that cannot be executed, or was not found.
const NOT_STARTED: [i32; 2] = [126, 127];

/// Changed files of a worktree that git does not ignore.
type Changes = BTreeMap<String, Changed>;

/// A changed file.
#[derive(PartialEq, Eq)]
struct Changed {
    is_new: bool,
    /// Digest of its content.
    digest: [u8; 32],
}

/// The checks of one session.
pub(super) struct DoneChecks {
    left: u32,
    /// Setup checks that have not run here yet, then the checks.
    setup: Vec<CheckSpec>,
    checks: Vec<CheckSpec>,
    at_base: Vec<CheckResult>,
    /// The changes of the worktree when the checks last ended.
    checked: Option<Changes>,
    /// Checks whose failure at the base the model knows about.
    known: BTreeSet<String>,
}

/// What one check did.
enum Ran {
    Green,
    Red(Box<CheckResult>),
    /// It could not do its work here; why.
    Unable(String),
}

impl DoneChecks {
    /// Creates the checks of a session, which run at most `most` times. A check that runs on another machine or receives
    /// secrets is left to the proof.
    pub fn new(order: &Order, tools: &Tools, most: u32) -> DoneChecks {
        let runs_here = order.step == Step::Develop && !tools.lacks_check_secrets();
        let of_kind = |kinds: &[CheckKind]| -> Vec<CheckSpec> {
            let chosen = order.checks.iter().filter(|c| runs_here && c.runner.is_none() && kinds.contains(&c.kind));
            chosen.cloned().collect()
        };
        let (setup, checks) = (of_kind(&[CheckKind::Setup]), of_kind(&[CheckKind::Test, CheckKind::Lint]));
        let at_base = order.results.clone();
        DoneChecks { left: most, setup, checks, at_base, checked: None, known: BTreeSet::new() }
    }

    /// Returns whether any check may run.
    pub fn may_run(&self) -> bool {
        self.left > 0 && !self.checks.is_empty()
    }

    /// Runs the checks, if that is still allowed and something changed since they last ran. Returns what the model has
    /// to handle first; `None` = its result stands.
    pub async fn run(&mut self, tools: &Tools, progress: &Progress, left: Duration, whole: Duration) -> Option<String> {
        if !self.may_run() || left.as_secs_f64() < whole.as_secs_f64() * MIN_TIME_LEFT {
            return None;
        }
        // Without knowing the change, what the checks write cannot be told from it.
        let before = changes(tools).await?;
        // An empty change needs no check, and a model that changes nothing more stands by its work.
        if before.is_empty() || self.checked.as_ref() == Some(&before) {
            return None;
        }
        self.left -= 1;
        let deadline = Instant::now() + left.mul_f64(SHARE_OF_TIME);
        let red = self.red(tools, progress, deadline).await;
        remove_new_folders(tools, &before).await;
        let mut after = changes(tools).await;
        if let Some(after) = &mut after {
            remove_new(tools, &before, after).await;
        }
        let written =
            after.as_ref().map_or_else(|| vec!["too many to list".to_owned()], |after| written(&before, after));
        self.checked = after;
        self.message(red?, written)
    }

    /// Runs the checks and returns the red ones; `None` = they cannot run here.
    async fn red(&mut self, tools: &Tools, progress: &Progress, deadline: Instant) -> Option<Vec<CheckResult>> {
        for spec in std::mem::take(&mut self.setup) {
            if let Ran::Red(_) | Ran::Unable(_) = ran(tools, progress, &spec, deadline).await {
                // Without it, the other checks would fail for reasons of this worktree.
                self.left = 0;
                return None;
            }
        }
        let mut red = Vec::new();
        for spec in &self.checks {
            if let Ran::Red(result) = ran(tools, progress, spec, deadline).await {
                red.push(*result);
            }
        }
        Some(red)
    }

    /// Words what the model has to handle. A failure that the base shows as well is mentioned once.
    fn message(&mut self, red: Vec<CheckResult>, written: Vec<String>) -> Option<String> {
        let of_base = |r: &CheckResult| self.at_base.iter().any(|base| r.adds_nothing_to(base));
        let (old, new): (Vec<CheckResult>, Vec<CheckResult>) = red.into_iter().partition(of_base);
        let old: Vec<CheckResult> = old.into_iter().filter(|r| self.known.insert(r.name.clone())).collect();
        if new.is_empty() && old.is_empty() && written.is_empty() {
            return None;
        }
        let mut text = "Not finished yet. Skep ran the checks of the project in your working copy.\n".to_owned();
        if !new.is_empty() {
            text.push_str(&format!("\n{}", check::failures(&new)));
        }
        if !old.is_empty() {
            text.push_str("\nThese failed in the same way before your change. If your task is to make them pass, it is not done:\n");
            text.push_str(&check::failures(&old));
        }
        let mut text = truncate_middle(&text, MAX_TEXT_BYTES);
        if !written.is_empty() {
            let names: Vec<&str> = written.iter().map(String::as_str).take(MAX_NAMED).collect();
            let more = written.len().saturating_sub(MAX_NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            text.push_str(&format!(
                "\nThe checks changed these files, which would become part of your change: {}{more}. Restore what does not \
                 belong to it.\n",
                names.join(", ")
            ));
        }
        text.push_str(
            "\nFix what your change broke, then call done again. If what is left has nothing to do with your task, say so in \
             the summary and call done again without another change.",
        );
        Some(text)
    }
}

/// Runs one check until `deadline` at the latest, and shows how it ended.
async fn ran(tools: &Tools, progress: &Progress, spec: &CheckSpec, deadline: Instant) -> Ran {
    progress.send(EngineEvent::Did(format!("check {}: {}", spec.name, spec.command)));
    let (left, own) =
        (deadline.saturating_duration_since(Instant::now()), Duration::from_secs(spec.timeout_secs.max(1)));
    let ran = match left.is_zero() {
        true => Ran::Unable("the session has no time left for it".to_owned()),
        false => match tools.execute(&spec.command, own.min(left)).await {
            Ok(executed) => judged(spec, &executed, left < own),
            Err(why) => Ran::Unable(why),
        },
    };
    let how = match &ran {
        Ran::Green => "green".to_owned(),
        Ran::Red(result) => format!("red: {}", result.why),
        Ran::Unable(why) => format!("left to the checks after the session: {why}"),
    };
    progress.send(EngineEvent::Did(format!("check {}: {how}", spec.name)));
    ran
}

/// Judges how a check ended. `was_short` = it had less time than it may use.
fn judged(spec: &CheckSpec, executed: &Executed, was_short: bool) -> Ran {
    let ended = &executed.output;
    if ended.ok() {
        return Ran::Green;
    }
    let printed = terminal_text::sanitize(&ended.stdout);
    let tail = terminal_text::tail(&ended.stdout, MAX_TAIL_BYTES);
    if let Some(why) = executed.access.network_note(&tail, true) {
        return Ran::Unable(why);
    }
    let why = match (ended.timed_out, &ended.stop_reason, ended.code) {
        (true, ..) if was_short => return Ran::Unable("the session has no time left for it".to_owned()),
        (_, Some(why), _) => return Ran::Unable(why.to_string()),
        (_, _, Some(code)) if NOT_STARTED.contains(&code) => return Ran::Unable(format!("exit code {code}")),
        (true, ..) => format!("it was still running after {} s", spec.timeout_secs),
        (_, _, Some(code)) => format!("exit code {code}"),
        (_, _, None) => format!("it was killed by signal {}", ended.signal.unwrap_or_default()),
    };
    Ran::Red(Box::new(CheckResult {
        name: spec.name.clone(),
        kind: spec.kind,
        green: false,
        exit_code: if ended.timed_out { None } else { ended.code },
        duration_ms: u64::try_from(ended.took.as_millis()).unwrap_or(u64::MAX),
        why,
        failures: failure_lines::lines(&printed),
        tail,
        tests: None,
        artifacts: Vec::new(),
        secrets: Vec::new(),
        fault: None,
    }))
}

/// Returns the changed files of the worktree, and whether they are new; `None` = unknown, as without git.
async fn status(tools: &Tools, untracked: &str) -> Option<Vec<(String, bool)>> {
    let Executed { output, .. } = tools.execute(&format!("{STATUS}{untracked}"), FILES_LIMIT).await.ok()?;
    if !output.ok() || output.truncated {
        return None;
    }
    let text = String::from_utf8(output.stdout).ok()?;
    let parsed = |line: &str| Some((line.get(3..)?.to_owned(), line.starts_with("??")));
    Some(text.split('\0').filter_map(parsed).collect())
}

/// Returns the changes of the worktree; `None` = unknown, also because it is very large.
async fn changes(tools: &Tools) -> Option<Changes> {
    let paths = status(tools, "all").await?;
    let tree = tools.tree();
    tokio::task::spawn_blocking(move || digests(&tree, paths)).await.ok()?
}

/// Reads the contents of files.
fn digests(tree: &RootedDir, paths: Vec<(String, bool)>) -> Option<Changes> {
    let (mut found, mut bytes) = (Changes::new(), 0);
    for (path, is_new) in paths.into_iter().take(MAX_FILES + 1) {
        let mut hash = Sha256::new();
        match tree.read(&path, MAX_FILE_BYTES) {
            Ok(content) => {
                bytes += content.len();
                hash.update(&content);
            }
            Err(RootedFsError::Missing(_)) => hash.update("missing"),
            // A link, or a large file.
            Err(_) => hash.update(tree.size(&path).unwrap_or_default().to_le_bytes()),
        }
        found.insert(path, Changed { is_new, digest: hash.finalize().into() });
        if bytes > MAX_BYTES {
            return None;
        }
    }
    (found.len() <= MAX_FILES).then_some(found)
}

/// Removes the new folders that the checks have written, such as installed packages.
async fn remove_new_folders(tools: &Tools, before: &Changes) {
    let listed = status(tools, "normal").await.unwrap_or_default();
    let is_written = |(path, is_new): &(String, bool)| {
        *is_new && path.ends_with('/') && !before.keys().any(|known| known.starts_with(path.as_str()))
    };
    for (folder, _) in listed.iter().filter(|entry| is_written(entry)).take(MAX_FOLDERS) {
        let line = format!("rm -rf -- {}", tools::quoted(folder));
        if let Err(error) = tools.execute(&line, FILES_LIMIT).await {
            tracing::debug!(%error, "a folder that a check has written stays in the worktree");
        }
    }
}

/// Removes the new files that the checks have written. In the proof, they are not part of the change either.
async fn remove_new(tools: &Tools, before: &Changes, after: &mut Changes) {
    let is_written = |(path, changed): &(&String, &Changed)| changed.is_new && !before.contains_key(*path);
    let new: Vec<String> = after.iter().filter(is_written).map(|(path, _)| path.clone()).collect();
    after.retain(|path, _| !new.contains(path));
    let tree = tools.tree();
    let remove = move || {
        for path in &new {
            if let Err(error) = tree.remove(path) {
                tracing::debug!(%error, "a file that a check has written stays in the worktree");
            }
        }
    };
    let _joined = tokio::task::spawn_blocking(remove).await;
}

/// Returns the files that changed between two states.
fn written(before: &Changes, after: &Changes) -> Vec<String> {
    let changed = after.iter().filter(|(path, changed)| before.get(*path) != Some(*changed)).map(|(path, _)| path);
    let restored = before.keys().filter(|path| !after.contains_key(*path));
    changed.chain(restored).cloned().collect()
}
