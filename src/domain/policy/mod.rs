//! The rules a run is born with, pinned. A configuration change affects new runs only.

mod check_files;
mod command_files;
pub mod gate;
mod patterns;
mod protected;

pub use patterns::{PathPattern, glob, require_usable};

use crate::domain::budget::Limits;
use crate::domain::budget::shared_budget::SharedLimits;
use crate::domain::change::{Concern, DiffStat, FileChange, FileKind};
use crate::domain::check::CheckSpec;
use crate::domain::memory::MemoryPolicy;
use crate::domain::order::Bounds;
use patterns::Patterns;
use serde::{Deserialize, Serialize};

/// Limits of one attempt at a step, and the number of tries before a person is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepLimits {
    /// Tries before a person is asked. Attempts lost in a restart do not count.
    pub tries: u32,
    /// Wall time of one attempt, in seconds.
    pub timeout_secs: u64,
    /// Tokens of one attempt; `None` = only the run's limit applies.
    #[serde(default)]
    pub tokens: Option<u64>,
    /// Cost of one attempt in micro-USD; `None` = only the run's limit applies.
    #[serde(default)]
    pub cost_micros: Option<u64>,
    /// Model calls in one attempt; `None` = only the run's limit applies. Time and turns stop a cheap model in a loop.
    #[serde(default)]
    pub turns: Option<u64>,
}

/// The limits of every step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StepTable {
    /// The scout's exploration.
    pub explore: StepLimits,
    /// The manager's plan.
    pub plan: StepLimits,
    /// A dev's work on a task.
    pub develop: StepLimits,
    /// A reviewer's verdict.
    pub review: StepLimits,
    /// One effect carried out by ops (checks, push, change, land).
    pub ops: StepLimits,
}

const fn step(tries: u32, minutes: u64, turns: Option<u64>) -> StepLimits {
    StepLimits { tries, timeout_secs: minutes * 60, tokens: None, cost_micros: None, turns }
}

impl Default for StepTable {
    fn default() -> Self {
        Self {
            explore: step(1, 10, Some(60)),
            plan: step(2, 10, Some(60)),
            develop: step(2, 20, Some(200)),
            review: step(2, 15, Some(80)),
            ops: step(2, 15, None),
        }
    }
}

/// Requirement on the checks at the base commit before any engine works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BaseChecks {
    /// The base is not checked.
    Off,
    /// The checks must be able to run. The change has to make every check green, whatever the base fails.
    #[default]
    Usable,
    /// The checks must be able to run. The change must not add failing tests; those of the base are not charged to it.
    NoNewFailures,
    /// Every check must be green.
    Green,
}

impl BaseChecks {
    /// Every value with its name in the configuration.
    pub const ALL: [(&'static str, BaseChecks); 4] = [
        ("off", BaseChecks::Off),
        ("usable", BaseChecks::Usable),
        ("no-new-failures", BaseChecks::NoNewFailures),
        ("green", BaseChecks::Green),
    ];

    fn is_default(&self) -> bool {
        *self == Self::default()
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
    /// Limits shared with other runs.
    pub shared: SharedLimits,
    /// Percentages of a limit at which people are notified once; empty = never.
    pub alert_percent: Vec<u8>,
    /// Tasks worked on at the same time.
    pub parallel_tasks: u32,
    /// Upper bound on the tasks of a plan.
    pub max_tasks: u32,
    /// Attempts of one step lost in a row to dead processes before a person is asked, so that a step that kills Skep is
    /// not started forever.
    pub max_lost_attempts: u32,
    /// Number of questions that attempts may ask; a further question counts as a failure.
    pub max_questions: u32,
    /// Whether a scout explores the repository before the plan.
    pub explore: bool,
    /// Requirement on the checks at the base commit before any engine works.
    #[serde(skip_serializing_if = "BaseChecks::is_default")]
    pub base_checks: BaseChecks,
    /// Whether the head is checked again if it is a commit that the checks of a task have proven.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub check_head_again: bool,
    /// Whether a person approves the plan.
    pub approve_plan: bool,
    /// Whether a person approves the merge. If not, a diff that raises a concern still needs approval.
    pub approve_merge: bool,
    /// Whether the person who asked for the run may approve it.
    pub self_approval: bool,
    /// Path patterns whose change needs a person's approval.
    pub protected_paths: Vec<String>,
    /// Path patterns of tests. Deleting a test, or removing more lines than are added, needs a person's approval.
    pub test_paths: Vec<String>,
    /// Path patterns that must not be changed.
    pub forbidden_paths: Vec<String>,
    /// Path patterns that may be changed; empty = all.
    pub allowed_paths: Vec<String>,
    /// Status contexts that must be green on the forge.
    pub required_statuses: Vec<String>,
    /// Reruns of failed CI jobs per head, where a job has also passed at this head.
    #[serde(skip_serializing_if = "is_one")]
    pub max_ci_reruns: u32,
    /// Number of changes that may land together, proven by checks of all of them at once. 1 = one by one.
    #[serde(skip_serializing_if = "is_one")]
    pub landing_batch: u32,
    /// How long CI on the base branch is watched after a run has landed there, in seconds; 0 = it is not.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub watch_landed_secs: u64,
    /// Whether cancelled CI of the base branch is started again to find which change turned it red.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub bisect_landed: bool,
    /// Number of deleted files above which a person has to approve.
    pub max_deleted: u64,
    /// Number of changed files above which a person has to approve.
    pub max_files: u64,
    /// Number of added and removed lines above which a person has to approve.
    pub max_lines: u64,
    /// What its attempts are given from memory. A policy that does not say so gives nothing.
    #[serde(default = "MemoryPolicy::off", skip_serializing_if = "MemoryPolicy::is_off")]
    pub memory: MemoryPolicy,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_one(number: &u32) -> bool {
    *number == 1
}

impl Default for Policy {
    fn default() -> Self {
        let list = |items: &[&str]| items.iter().map(|s| (*s).to_owned()).collect();
        Self {
            steps: StepTable::default(),
            limits: Limits::default(),
            shared: SharedLimits::default(),
            alert_percent: vec![50, 80, 100],
            parallel_tasks: 2,
            max_tasks: 20,
            max_lost_attempts: 3,
            max_questions: 5,
            explore: false,
            base_checks: BaseChecks::default(),
            check_head_again: false,
            approve_plan: false,
            approve_merge: true,
            self_approval: true,
            protected_paths: list(protected::PROTECTED),
            // The author of a change must not weaken its tests unseen.
            test_paths: list(&[
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
            // A nested repository or a submodule can make git run commands or hide files.
            forbidden_paths: list(&["**/.git", "**/.git/**", ".gitmodules"]),
            allowed_paths: Vec::new(),
            required_statuses: Vec::new(),
            max_ci_reruns: 1,
            landing_batch: 1,
            watch_landed_secs: 2 * 3_600,
            bisect_landed: false,
            max_deleted: 20,
            max_files: 200,
            max_lines: 5_000,
            memory: MemoryPolicy::default(),
        }
    }
}

impl Policy {
    /// Returns what a person should know about a diff before the run continues; empty = nothing.
    pub fn concerns(&self, diff: &DiffStat) -> Vec<Concern> {
        let mut found = Vec::new();
        let patterns = Patterns::restricting(&self.protected_paths);
        let protected: Vec<String> = diff.paths().filter(|p| patterns.match_any(p)).map(str::to_owned).collect();
        if !protected.is_empty() {
            found.push(Concern::Protected { paths: protected });
        }
        let deleted = diff.files.iter().filter(|f| f.kind == FileKind::Deleted).count() as u64;
        if deleted > self.max_deleted {
            found.push(Concern::Deletes { files: deleted, limit: self.max_deleted });
        }
        // A binary file has no lines, so only its deletion can be seen.
        let shrinks = |f: &&FileChange| f.kind == FileKind::Deleted || f.removed > f.added;
        let shrunk: Vec<&FileChange> = diff.files.iter().filter(shrinks).collect();
        if !shrunk.is_empty() {
            let patterns = Patterns::restricting(&self.test_paths);
            let tests: Vec<&FileChange> = shrunk.into_iter().filter(|f| patterns.match_any(&f.path)).collect();
            // The number of lines is part of the concern, so that accepting some removed lines does not accept more.
            let lines = tests.iter().map(|f| f.removed.saturating_sub(f.added)).fold(0, u64::saturating_add);
            if !tests.is_empty() {
                found.push(Concern::Tests { paths: tests.iter().map(|f| f.path.clone()).collect(), lines });
            }
        }
        if !diff.unusual.is_empty() {
            found.push(Concern::Unusual { entries: diff.unusual.clone() });
        }
        // Files that are not listed were not matched against any rule.
        let unlisted = diff.files_total > diff.files.len() as u64;
        if unlisted || diff.files_total > self.max_files || diff.lines() > self.max_lines {
            found.push(Concern::Large { files: diff.files_total, lines: diff.lines() });
        }
        found
    }

    /// Returns what the approver of a merge should know besides the concerns: changes that could make the run's checks
    /// green without proving anything.
    pub fn weakened_proof(&self, diff: &DiffStat, checks: &[CheckSpec]) -> Vec<Concern> {
        let paths = |keep: &dyn Fn(&FileChange) -> bool| -> Vec<String> {
            diff.files.iter().filter(|f| keep(f)).map(|f| f.path.clone()).collect()
        };
        let mut found = Vec::new();
        let deciding = paths(&|file| check_files::decides_checks(file, checks));
        if !deciding.is_empty() {
            found.push(Concern::Checks { paths: deciding });
        }
        let tests = Patterns::restricting(&self.test_paths);
        // A changed assertion is one line less and one more. Files that lose lines are a concern by themselves.
        let edited = |f: &FileChange| f.kind == FileKind::Modified && f.removed > 0 && f.removed <= f.added;
        let edited = paths(&|file| edited(file) && tests.match_any(&file.path));
        if !edited.is_empty() {
            found.push(Concern::TestLines { paths: edited });
        }
        found
    }

    /// Returns the first path of the diff that must not be touched, by the policy or by the paths that the plan gave the
    /// task.
    pub fn forbids(&self, diff: &DiffStat, task_paths: &[String]) -> Option<ForbiddenPath> {
        let (forbidden, allowed) = (Patterns::restricting(&self.forbidden_paths), Patterns::of(&self.allowed_paths));
        let task = Patterns::of(task_paths);
        diff.paths().find_map(|path| {
            let why = if let Some(pattern) = forbidden.position(path).and_then(|n| self.forbidden_paths.get(n)) {
                format!("forbidden_paths contains {pattern}")
            } else if !self.allowed_paths.is_empty() && !allowed.match_any(path) {
                format!("policy.allowed_paths allows only {}", listed(&self.allowed_paths))
            } else if !task_paths.is_empty() && !task.match_any(path) {
                format!("the plan allows it to change only {}", listed(task_paths))
            } else {
                return None;
            };
            Some(ForbiddenPath { path: path.to_owned(), why })
        })
    }

    /// Returns the part of the policy that an attempt should know beforehand.
    pub fn bounds(&self) -> Bounds {
        Bounds {
            max_tasks: self.max_tasks,
            allowed_paths: self.allowed_paths.clone(),
            forbidden_paths: self.forbidden_paths.clone(),
            protected_paths: self.protected_paths.clone(),
        }
    }

    /// Returns this policy made stricter by `other` (a repository's own `.skep.toml`), which can tighten but never
    /// loosen it.
    pub fn tightened(mut self, other: &Tightening) -> Policy {
        self.protected_paths.extend(other.protected_paths.iter().cloned());
        self.test_paths.extend(other.test_paths.iter().cloned());
        self.forbidden_paths.extend(other.forbidden_paths.iter().cloned());
        self.approve_plan |= other.approve_plan;
        self.approve_merge |= other.approve_merge;
        let min = |own: u64, other: Option<u64>| other.map_or(own, |o| own.min(o));
        self.max_deleted = min(self.max_deleted, other.max_deleted);
        self.max_files = min(self.max_files, other.max_files);
        self.max_lines = min(self.max_lines, other.max_lines);
        self.required_statuses.extend(other.required_statuses.iter().cloned());
        self
    }
}

/// A path that a diff must not touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForbiddenPath {
    /// The path.
    pub path: String,
    /// The rule, and what is allowed.
    pub why: String,
}

/// Upper bound on the patterns named in a sentence.
const MAX_NAMED_PATTERNS: usize = 10;

fn listed(patterns: &[String]) -> String {
    let named = patterns.iter().take(MAX_NAMED_PATTERNS).map(String::as_str).collect::<Vec<_>>().join(", ");
    match patterns.len().saturating_sub(MAX_NAMED_PATTERNS) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// Restrictions that a repository may ask for. Each field only makes the policy stricter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tightening {
    /// Additional protected paths.
    pub protected_paths: Vec<String>,
    /// Additional test paths.
    pub test_paths: Vec<String>,
    /// Additional forbidden paths.
    pub forbidden_paths: Vec<String>,
    /// Additional required statuses.
    pub required_statuses: Vec<String>,
    /// Require a person's approval of the plan.
    pub approve_plan: bool,
    /// Require a person's approval of the merge.
    pub approve_merge: bool,
    /// A lower limit on deleted files.
    pub max_deleted: Option<u64>,
    /// A lower limit on changed files.
    pub max_files: Option<u64>,
    /// A lower limit on changed lines.
    pub max_lines: Option<u64>,
}

#[cfg(test)]
impl Policy {
    /// Returns whether a person has to approve any change of this file.
    pub(crate) fn protects(&self, path: &str) -> bool {
        matches!(&self.concerns(&tests::diff(path))[..], [Concern::Protected { .. }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn diff(path: &str) -> DiffStat {
        let file = FileChange {
            path: path.to_owned(),
            kind: FileKind::Modified,
            added: 1,
            removed: 0,
            binary: false,
            blob: None,
        };
        DiffStat { files: vec![file], files_total: 1, added: 1, ..DiffStat::default() }
    }

    #[test]
    fn files_that_decide_what_runs_are_protected_in_any_case() {
        let policy = Policy::default();
        #[rustfmt::skip]
        let protected = [
            ".agents/skills/a/SKILL.md", ".aider.conf.yml", ".amazonq/rules/a.md", ".appveyor.yml", ".augment-guidelines",
            ".augment/rules/a.md", ".azure-pipelines/a.yml", ".azuredevops/a.yml", ".build.yml", ".buildkite/pipeline.yml",
            ".builds/a.yml", ".circleci/config.yml", ".cirrus.yml", ".claude/settings.json", ".cline/a.json", ".clinerules", ".clinerules/a.md",
            ".codex/config.toml", ".continue/config.yaml", ".continuerc.json", ".cursor/rules/x.mdc", ".cursorrules",
            ".devcontainer/devcontainer.json", ".drone.yml", ".envrc", ".exrc", ".factory/droids/a.md", ".forgejo/workflows/a.yml",
            ".gemini/settings.json", ".gitea/workflows/a.yml", ".githooks/pre-commit", ".github/actions/a/action.yml",
            ".github/agents/a.md", ".github/chatmodes/a.md", ".github/CONTRIBUTING.md", ".github/copilot-instructions.md",
            ".github/dependabot.yml", ".github/hooks/a.json", ".github/instructions/a.md", ".github/prompts/a.md",
            ".GitHub/Workflows/ci.yml", ".gitlab-ci-templates/a.yml", ".gitlab-ci.yml", ".gitlab/ci/a.yml", ".gitpod.yml",
            ".goosehints", ".husky/pre-commit", ".idea/workspace.xml", ".junie/guidelines.md", ".kilocode/rules/a.md",
            ".kilocodemodes", ".kiro/hooks/a", ".lefthook.yml", ".lefthook/pre-commit/a.sh", ".mcp.json", ".mergify.yml",
            ".opencode/agent/a.md", ".openhands/setup.sh", ".overcommit.yml", ".pi/settings.json", ".pre-commit-config.yaml",
            ".qwen/settings.json", ".renovaterc", ".roo/rules/a.md", ".roomodes", ".rules", ".semaphore/semaphore.yml",
            ".SKEP.toml", ".teamcity/settings.kts", ".tekton/a.yaml", ".trae/rules/a.md", ".travis.yml", ".vscode/tasks.json",
            ".windsurfrules", ".woodpecker.yml", ".woodpecker/a.yml", ".zed/tasks.json", ".zuul.yaml", "a.code-workspace",
            "a/.claude/settings.json", "a/.gitattributes", "a/Jenkinsfile.release", "AGENT.md", "agents.md", "AGENTS.override.md",
            "appveyor.yml", "azure-pipelines-1.yml", "azure-pipelines.yml", "bitbucket-pipelines.yml", "bitrise.yml", "buildspec.yml",
            "cloudbuild.yaml", "codemagic.yaml", "CONTRIBUTING.md", "CONVENTIONS.md", "CRUSH.md", "docs/CODEOWNERS",
            "docs/contributing.md", "GEMINI.md", "Jenkinsfile", "lefthook-local.yml", "lefthook.yaml", "opencode.json",
            "opencode.jsonc", "renovate.json5", "sub/Claude.md", "WARP.md",
        ];
        for path in protected {
            assert!(policy.protects(path), "{path}");
        }
        for path in [
            "src/agents/mod.rs",
            "README.md",
            "docs/rules.md",
            "src/lefthook.rs",
            "ci/a.rs",
            "src/ideas/a.rs",
            ".gitignore",
        ] {
            assert!(!policy.protects(path), "{path}");
        }
        assert!(policy.forbids(&diff(".GITMODULES"), &[]).is_some());
    }

    #[test]
    fn a_change_that_could_make_checks_green_is_shown_before_the_merge_and_stops_no_task() {
        let policy = Policy::default();
        let weakened = |path: &str, added, removed| {
            let file = FileChange {
                path: path.to_owned(),
                kind: FileKind::Modified,
                added,
                removed,
                binary: false,
                blob: None,
            };
            let diff = DiffStat { files: vec![file], files_total: 1, added, removed, ..DiffStat::default() };
            assert!(policy.concerns(&diff).is_empty(), "{path}");
            policy.weakened_proof(&diff, &[])
        };
        assert!(matches!(&weakened("package.json", 1, 1)[..], [Concern::Checks { .. }]));
        assert!(matches!(&weakened("test_calc.py", 1, 1)[..], [Concern::TestLines { .. }]));
        assert!(weakened("test_calc.py", 1, 0).is_empty(), "a new test");
        assert!(weakened("calc.py", 1, 1).is_empty());
    }
}
