//! The files `suite.toml` and `task.toml`: their keys, and what a value must be.

use crate::domain::eval::gate::GateRules;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// `suite.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SuiteFile {
    /// Name.
    pub name: String,
    /// What it measures, in a sentence.
    #[serde(default)]
    pub description: String,
    /// Trials per task and variant, unless the command names a number.
    #[serde(default = "one")]
    pub trials: u32,
    /// Limits of every task that states none itself.
    #[serde(default)]
    pub limits: LimitsTable,
    /// Rules of the gate.
    #[serde(default)]
    pub gate: GateRules,
}

fn one() -> u32 {
    1
}

/// `task.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskFile {
    /// Title, for lists.
    pub title: String,
    /// Goal of the run, as a person would write it.
    pub goal: String,
    /// Kind of work.
    pub kind: TaskKind,
    /// Programming language.
    pub language: String,
    /// Commands that verify a change, and that the run may see.
    pub checks: Vec<String>,
    /// Where the code comes from.
    pub source: SourceTable,
    /// The base as an archive, in place of the folder `base`.
    pub base: Option<ArchiveTable>,
    /// The hidden tests.
    pub hidden: HiddenTable,
    /// Limits of the run.
    #[serde(default)]
    pub limits: LimitsTable,
}

/// Kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TaskKind {
    Bug,
    Feature,
    Refactor,
    Test,
    Docs,
    Dependency,
}

impl TaskKind {
    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            TaskKind::Bug => "bug",
            TaskKind::Feature => "feature",
            TaskKind::Refactor => "refactor",
            TaskKind::Test => "test",
            TaskKind::Docs => "docs",
            TaskKind::Dependency => "dependency",
        }
    }
}

/// `[source]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceTable {
    /// SPDX expression of the license.
    pub license: String,
    /// Who wrote the code, and where it was published: a package with its version, or "written for this suite".
    pub origin: String,
}

/// `[base]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ArchiveTable {
    /// Name of a tar archive in the task's folder.
    pub archive: String,
    /// Its SHA-256, in hex.
    pub sha256: String,
}

/// `[hidden]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HiddenTable {
    /// Command that runs the hidden tests, from the root of the repository.
    pub command: String,
    /// Text that its output must contain, such as the number of tests that ran.
    pub expect: String,
    /// Text that every hidden file contains and nothing else does. Finding it elsewhere proves a leak.
    pub canary: String,
    /// Time limit.
    #[serde(default = "minute")]
    pub timeout: String,
    /// Files of the base that are set back before grading, because they decide what the tests test.
    #[serde(default)]
    pub restore: Vec<String>,
}

fn minute() -> String {
    "60s".to_owned()
}

/// `[limits]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsTable {
    /// Working time, such as `20m`.
    pub time: Option<String>,
    /// Cost, such as `1 USD`.
    pub cost: Option<String>,
    /// Tokens.
    pub tokens: Option<u64>,
    /// Model calls.
    pub turns: Option<u64>,
    /// Rounds of rework.
    pub rounds: Option<u32>,
}

impl LimitsTable {
    /// Returns the limits of `self`, and those of `other` where `self` has none.
    pub fn or(&self, other: &LimitsTable) -> LimitsTable {
        LimitsTable {
            time: self.time.clone().or_else(|| other.time.clone()),
            cost: self.cost.clone().or_else(|| other.cost.clone()),
            tokens: self.tokens.or(other.tokens),
            turns: self.turns.or(other.turns),
            rounds: self.rounds.or(other.rounds),
        }
    }
}

/// Parses a file.
///
/// # Errors
/// What is wrong, with its line, and the fix.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, (String, String)> {
    let error = match toml::from_str(text) {
        Ok(file) => return Ok(file),
        Err(error) => error,
    };
    let line = error.span().map_or(1, |span| text.get(..span.start).unwrap_or_default().matches('\n').count() + 1);
    let message: String = error.message().chars().filter(|c| !c.is_control()).take(300).collect();
    let mut names = message.split('`').skip(1).step_by(2);
    if message.starts_with("unknown field")
        && let Some(unknown) = names.next()
    {
        let distance = |name: &&str| (strsim::normalized_damerau_levenshtein(unknown, name) * 1_000.0) as u64;
        let nearest = names.clone().max_by_key(distance).filter(|name| distance(name) >= 600);
        let fix = match nearest {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("the keys here are {}", names.collect::<Vec<_>>().join(", ")),
        };
        return Err((format!("line {line}: unknown key `{unknown}`"), fix));
    }
    Err((format!("line {line}: {message}"), "docs/evaluating.md describes the keys".to_owned()))
}

/// Returns whether a text is a short name: lower-case letters, digits and hyphens.
pub(super) fn is_name(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=40).contains(&text.len()) && text.bytes().all(is_plain) && !text.starts_with('-') && !text.ends_with('-')
}
