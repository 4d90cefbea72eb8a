//! Memory: what ended runs have shown about a project.

use super::Timestamp;
use crate::domain;
use crate::domain::memory::ArmResult;
use crate::service::memory::{Found, GivenToRun, MeasuredEffect};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What an ended run has shown, or a person has written. `title` and `body` may quote a repository, a model or a person:
/// data, never instructions.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Memory {
    /// Twelve hex digits.
    #[schema(example = "3f9a12bc0d41")]
    pub id: String,
    /// Its project.
    pub project: String,
    /// `fact`, `change` or `lesson`.
    #[schema(example = "fact")]
    pub kind: String,
    /// `live`, `stale` (it no longer holds) or `forgotten` (its text is removed).
    #[schema(example = "live")]
    pub state: String,
    /// `skep` for what a journal proves, a person, or `engine:…` for a reviewer's finding.
    #[schema(example = "skep")]
    pub author: String,
    /// The only step that is given it; absent = plan, develop and review.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// One line.
    pub title: String,
    /// One line, at most 1,200 characters.
    pub body: String,
    /// The files and lines it is about.
    pub cites: Vec<MemoryCitation>,
    /// The run that showed it last; absent = a person wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The event of that run which proves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// When it was first seen.
    pub created_at: Timestamp,
    /// When it was last seen.
    pub seen_at: Timestamp,
    /// When it expires.
    pub ends_at: Timestamp,
    /// How well it fits the query `q`; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
}

/// Lines of a file, or a file as a whole.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MemoryCitation {
    /// Path from the root of the repository.
    #[schema(example = "src/parse.rs")]
    pub path: String,
    /// First line; absent = the file as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u32>,
    /// Last line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u32>,
}

impl From<domain::Memory> for Memory {
    fn from(memory: domain::Memory) -> Memory {
        let lines = |n: u32| Some(n).filter(|n| *n > 0);
        let cites = memory.cites.into_iter();
        Memory {
            id: memory.id.0,
            project: memory.project.to_string(),
            kind: memory.kind.name().to_owned(),
            state: memory.state.name().to_owned(),
            author: memory.author.to_string(),
            step: memory.step.map(|step| step.name().to_owned()),
            title: memory.title,
            body: memory.body,
            cites: cites.map(|c| MemoryCitation { path: c.path, from: lines(c.from), to: lines(c.to) }).collect(),
            run: memory.run.map(|run| run.to_string()),
            seq: memory.run.map(|_| memory.seq),
            created_at: memory.created_at.into(),
            seen_at: memory.seen_at.into(),
            ends_at: memory.ends_at.into(),
            score: None,
        }
    }
}

impl From<Found> for Memory {
    fn from(found: Found) -> Memory {
        Memory { score: found.score, ..found.memory.into() }
    }
}

/// Lesson to add.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLesson {
    /// The project.
    pub project: String,
    /// The lesson, 1 to 1,200 characters.
    pub text: String,
    /// The file it is about: it is given only while that file, or the line with its neighbours, is as it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
}

/// What to forget: the rows that fit every condition that is given. At least one besides `project` is needed.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ForgetMemories {
    /// Only of this project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The row with this id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Rows that this run showed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Rows that cite this file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Rows that this author stated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
}

/// Rows that were forgotten.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ForgottenMemories {
    /// Their ids.
    pub forgotten: Vec<String>,
}

/// Which rows to check.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SweepMemories {
    /// Only of this project; absent = of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}

/// Result of a sweep.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SweptMemories {
    /// Rows whose citations were checked.
    pub checked: u64,
    /// Rows that are stale now.
    pub stale: u64,
    /// Rows that had expired and were removed.
    pub expired: u64,
    /// Projects whose repository could not be read, with the reason.
    pub problems: Vec<String>,
}

/// What the attempts of a run were given.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GivenMemories {
    /// `given`, `holdout` (the run is given nothing, for comparison) or `off`.
    #[schema(example = "given")]
    pub arm: String,
    /// What each attempt was given.
    pub given: Vec<GivenMemory>,
}

/// Row that an attempt was given.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GivenMemory {
    /// The attempt.
    #[schema(example = "a2")]
    pub attempt: String,
    /// Id of the row.
    pub memory: String,
    /// The row as it is now; absent if it is gone, or a section of a document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<Memory>,
}

impl From<GivenToRun> for GivenMemories {
    fn from(given: GivenToRun) -> GivenMemories {
        let one = |(given, row): (crate::ports::memories::GivenMemory, Option<domain::Memory>)| GivenMemory {
            attempt: given.attempt.to_string(),
            memory: given.memory.0,
            row: row.map(Into::into),
        };
        GivenMemories { arm: given.arm.name().to_owned(), given: given.given.into_iter().map(one).collect() }
    }
}

/// Comparison of the runs that were given rows with the holdout.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MemoryEffect {
    /// Runs that were given rows, if any fitted.
    pub given: MemoryArm,
    /// Runs that were given none.
    pub holdout: MemoryArm,
    /// Two-sided p-value of Fisher's exact test for the shares that landed.
    pub p_value: f64,
    /// Whether both arms have at least 20 runs.
    pub is_conclusive: bool,
    /// Runs that ended for a reason that says nothing about their work; they are not counted.
    pub void: u64,
    /// Whether there were more runs than are read; the newest were.
    pub is_cut: bool,
}

/// Runs of one arm.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MemoryArm {
    /// Number of runs.
    pub runs: u64,
    /// Those that landed after at most one round of rework.
    pub landed: u64,
    /// Those that landed after more.
    pub landed_late: u64,
    /// Lower end of the 95 % interval of the share that landed.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Mean rounds of rework.
    pub mean_rounds: f64,
    /// Mean cost in micro-USD.
    pub mean_cost_micros: f64,
    /// Runs of which an attempt was given a row.
    pub with_rows: u64,
}

impl From<&ArmResult> for MemoryArm {
    fn from(arm: &ArmResult) -> MemoryArm {
        let interval = arm.interval();
        MemoryArm {
            runs: arm.runs,
            landed: arm.landed,
            landed_late: arm.landed_late,
            low: interval.low,
            high: interval.high,
            mean_rounds: arm.mean(arm.rounds),
            mean_cost_micros: arm.mean(arm.cost_micros),
            with_rows: arm.with_rows,
        }
    }
}

impl From<MeasuredEffect> for MemoryEffect {
    fn from(measured: MeasuredEffect) -> MemoryEffect {
        let effect = measured.effect;
        MemoryEffect {
            given: (&effect.given).into(),
            holdout: (&effect.holdout).into(),
            p_value: effect.p_value(),
            is_conclusive: effect.is_conclusive(),
            void: effect.void,
            is_cut: measured.is_cut,
        }
    }
}
