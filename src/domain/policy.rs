//! The rules a run is born with, pinned. A change of configuration touches new runs only.

use super::budget::Limits;
use super::change::{Concern, DiffStat, FileChange, FileKind};
use super::order::Bounds;
use super::shared_budget::SharedLimits;
use globset::{Glob, GlobBuilder, GlobMatcher};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Limits of one attempt at a step, and how many attempts it gets before a person is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepLimits {
    /// Attempts before a person is asked. A restart's losses do not count.
    pub tries: u32,
    /// Wall time of one attempt, in seconds.
    pub wall_secs: u64,
    /// Tokens of one attempt; `None` = the run's limit alone.
    #[serde(default)]
    pub tokens: Option<u64>,
    /// Cost of one attempt in micro-USD; `None` = the run's limit alone.
    #[serde(default)]
    pub cost_micros: Option<u64>,
    /// Calls of a model in one attempt; `None` = the run's limit alone. Time and turns are what stops a cheap model in a loop.
    #[serde(default)]
    pub turns: Option<u64>,
}

/// The limits of every step (mission M2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StepTable {
    /// A scout's look around.
    pub explore: StepLimits,
    /// The manager's plan.
    pub plan: StepLimits,
    /// A dev's work on a task.
    pub develop: StepLimits,
    /// A reviewer's verdict.
    pub review: StepLimits,
    /// One act of ops (checks, push, change, land).
    pub ops: StepLimits,
}

const fn step(tries: u32, minutes: u64, turns: Option<u64>) -> StepLimits {
    StepLimits { tries, wall_secs: minutes * 60, tokens: None, cost_micros: None, turns }
}

impl Default for StepTable {
    fn default() -> Self {
        Self {
            explore: step(1, 2, Some(60)),
            plan: step(2, 2, Some(60)),
            develop: step(2, 20, Some(200)),
            review: step(2, 15, Some(80)),
            ops: step(2, 15, None),
        }
    }
}

/// The policy of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Limits per step.
    pub steps: StepTable,
    /// Limits of the whole run.
    pub limits: Limits,
    /// Limits it shares with other runs.
    pub shared: SharedLimits,
    /// Shares of a limit, in percent, at which people are told once; empty = never.
    pub alerts: Vec<u8>,
    /// Tasks worked on at the same time.
    pub width: u32,
    /// The most tasks a plan may have.
    pub max_tasks: u32,
    /// Losses of one step by dead processes before a person is asked (a step that kills Skep must not do so for ever).
    pub max_losses: u32,
    /// Questions attempts may put to people before a question counts as a failure.
    pub max_questions: u32,
    /// Whether a scout looks around before the plan.
    pub explore: bool,
    /// Whether a person approves the plan.
    pub approve_plan: bool,
    /// Whether a person approves the merge. When off, a diff that raises a concern still asks.
    pub approve_merge: bool,
    /// Whether the person who asked for the run may approve it.
    pub self_approval: bool,
    /// Path patterns whose change needs a person's approval of its own.
    pub protected: Vec<String>,
    /// Path patterns of tests: what deletes them, or takes more out of one than it puts in, needs a person.
    pub tests: Vec<String>,
    /// Path patterns that must not be changed at all.
    pub forbidden: Vec<String>,
    /// Path patterns that may be changed; empty = all.
    pub allowed: Vec<String>,
    /// Status contexts that must be green on the forge.
    pub required_statuses: Vec<String>,
    /// Deleting more files than this needs a person.
    pub max_deleted: u64,
    /// Changing more files than this needs a person.
    pub max_files: u64,
    /// Adding and removing more lines than this needs a person.
    pub max_lines: u64,
}

impl Default for Policy {
    fn default() -> Self {
        let list = |items: &[&str]| items.iter().map(|s| (*s).to_owned()).collect();
        Self {
            steps: StepTable::default(),
            limits: Limits::default(),
            shared: SharedLimits::default(),
            alerts: vec![50, 80, 100],
            width: 2,
            max_tasks: 20,
            max_losses: 3,
            max_questions: 5,
            explore: false,
            approve_plan: false,
            approve_merge: true,
            self_approval: true,
            // CI, ownership and the rules agents read decide what is proven and by whom: a person looks (M12).
            protected: list(&[
                ".skep.toml",
                ".github/workflows/**",
                ".gitlab-ci.yml",
                ".gitea/**",
                ".forgejo/**",
                "**/CODEOWNERS",
                "**/AGENTS.md",
                "**/CLAUDE.md",
            ]),
            // Whoever writes the code must not make the proof of it weaker unseen.
            tests: list(&[
                "**/tests/**",
                "**/test/**",
                "**/__tests__/**",
                "spec/**",
                "**/*_test.*",
                "**/test_*",
                "**/*.test.*",
                "**/*.spec.*",
                "**/*_spec.*",
            ]),
            // A nested repository or a submodule can make git run or hide things.
            forbidden: list(&["**/.git", "**/.git/**", ".gitmodules"]),
            allowed: Vec::new(),
            required_statuses: Vec::new(),
            max_deleted: 20,
            max_files: 200,
            max_lines: 5_000,
        }
    }
}

/// Reads one path pattern: `*` stays within a folder, `**` crosses folders.
pub fn glob(pattern: &str) -> Result<Glob, String> {
    if pattern.len() > 256 {
        return Err(format!("path pattern of {} bytes is longer than 256", pattern.len()));
    }
    GlobBuilder::new(pattern)
        .literal_separator(true)
        .build()
        .map_err(|e| format!("path pattern {pattern:?} is not usable: {}", e.kind()))
}

/// The most patterns kept compiled. Each takes some ten kilobytes.
const COMPILED_MAX: usize = 256;

/// What patterns compile to; `None` = to nothing. Runs have the same few patterns, and compiling one costs as much as matching it
/// against thousands of paths.
static COMPILED: Mutex<BTreeMap<String, Option<Arc<GlobMatcher>>>> = Mutex::new(BTreeMap::new());

fn compiled(pattern: &str) -> Option<Arc<GlobMatcher>> {
    let known = || COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(matcher) = known().get(pattern) {
        return matcher.clone();
    }
    let matcher = glob(pattern).ok().map(|glob| Arc::new(glob.compile_matcher()));
    let mut known = known();
    if known.len() >= COMPILED_MAX {
        known.clear();
    }
    known.insert(pattern.to_owned(), matcher.clone());
    matcher
}

/// The patterns of a list.
struct Patterns(Vec<Option<Arc<GlobMatcher>>>);

impl Patterns {
    fn of(patterns: &[String]) -> Self {
        Self(patterns.iter().map(|p| compiled(p)).collect())
    }
    /// A pattern that does not compile matches everything: a broken rule must not open a door.
    fn match_any(&self, path: &str) -> bool {
        self.0.iter().any(|g| g.as_ref().is_none_or(|g| g.is_match(path)))
    }
}

impl Policy {
    /// What a person should know about a diff before it goes on; empty = nothing.
    pub fn concerns(&self, diff: &DiffStat) -> Vec<Concern> {
        let mut found = Vec::new();
        let patterns = Patterns::of(&self.protected);
        let protected: Vec<String> = diff.paths().filter(|p| patterns.match_any(p)).map(str::to_owned).collect();
        if !protected.is_empty() {
            found.push(Concern::Protected { paths: protected });
        }
        let deleted = diff.files.iter().filter(|f| f.kind == FileKind::Deleted).count() as u64;
        if deleted > self.max_deleted {
            found.push(Concern::Deletes { files: deleted, most: self.max_deleted });
        }
        // A binary file has no lines: only that it went can be told.
        let weaker = |f: &&FileChange| f.kind == FileKind::Deleted || f.removed > f.added;
        let weaker: Vec<&FileChange> = diff.files.iter().filter(weaker).collect();
        if !weaker.is_empty() {
            let patterns = Patterns::of(&self.tests);
            let tests: Vec<&FileChange> = weaker.into_iter().filter(|f| patterns.match_any(&f.path)).collect();
            // The lines are told, so that a yes to some of them is no yes to more.
            let lines = tests.iter().map(|f| f.removed.saturating_sub(f.added)).fold(0, u64::saturating_add);
            if !tests.is_empty() {
                found.push(Concern::Tests { paths: tests.iter().map(|f| f.path.clone()).collect(), lines });
            }
        }
        // Files that are not listed were compared with no rule.
        let unlisted = diff.files_total > diff.files.len() as u64;
        if unlisted || diff.files_total > self.max_files || diff.lines() > self.max_lines {
            found.push(Concern::Large { files: diff.files_total, lines: diff.lines() });
        }
        found
    }

    /// The first path of the diff that may not be touched at all, by the policy or by the task's own paths.
    pub fn forbids(&self, diff: &DiffStat, task_paths: &[String]) -> Option<String> {
        let (forbidden, allowed) = (Patterns::of(&self.forbidden), Patterns::of(&self.allowed));
        let task = Patterns::of(task_paths);
        diff.paths()
            .find(|p| {
                forbidden.match_any(p)
                    || (!self.allowed.is_empty() && !allowed.match_any(p))
                    || (!task_paths.is_empty() && !task.match_any(p))
            })
            .map(str::to_owned)
    }

    /// What an attempt is told of it beforehand.
    pub fn bounds(&self) -> Bounds {
        Bounds {
            max_tasks: self.max_tasks,
            allowed: self.allowed.clone(),
            forbidden: self.forbidden.clone(),
            protected: self.protected.clone(),
        }
    }

    /// This policy made stricter by `other` (a repository's own `.skep.toml`): it can tighten, never loosen.
    pub fn tightened(mut self, other: &Tightening) -> Policy {
        self.protected.extend(other.protected.iter().cloned());
        self.tests.extend(other.tests.iter().cloned());
        self.forbidden.extend(other.forbidden.iter().cloned());
        self.approve_plan |= other.approve_plan;
        self.approve_merge |= other.approve_merge;
        let min = |mine: u64, theirs: Option<u64>| theirs.map_or(mine, |t| mine.min(t));
        self.max_deleted = min(self.max_deleted, other.max_deleted);
        self.max_files = min(self.max_files, other.max_files);
        self.max_lines = min(self.max_lines, other.max_lines);
        self.required_statuses.extend(other.required_statuses.iter().cloned());
        self
    }
}

/// What a repository may ask for: each field only ever makes the policy stricter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tightening {
    /// More protected paths.
    pub protected: Vec<String>,
    /// More paths of tests.
    pub tests: Vec<String>,
    /// More forbidden paths.
    pub forbidden: Vec<String>,
    /// More required statuses.
    pub required_statuses: Vec<String>,
    /// Ask for a person's approval of the plan.
    pub approve_plan: bool,
    /// Ask for a person's approval of the merge.
    pub approve_merge: bool,
    /// A lower limit on deleted files.
    pub max_deleted: Option<u64>,
    /// A lower limit on changed files.
    pub max_files: Option<u64>,
    /// A lower limit on changed lines.
    pub max_lines: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_patterns_stay_compiled_and_each_matches_as_before() {
        for n in 0..COMPILED_MAX * 3 {
            let patterns = Patterns::of(&[format!("folder-{n}/*"), format!("**/{n}.rs")]);
            assert!(patterns.match_any(&format!("folder-{n}/a")) && patterns.match_any(&format!("a/b/{n}.rs")));
            assert!(!patterns.match_any(&format!("folder-{n}/a/b")));
            assert!(COMPILED.lock().unwrap().len() <= COMPILED_MAX);
        }
        assert!(Patterns::of(&["[".to_owned()]).match_any("any"), "a broken rule must not open a door");
        assert!(Patterns::of(&["[".to_owned()]).match_any("any"), "nor when it is known");
    }
}
