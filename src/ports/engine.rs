//! What thinks: an LLM loop, a driven agent, a plain command, a script. One live conversation = one session.

use super::PortResult;
use super::prompts::Prompt;
use crate::domain::{
    ArtifactKind, AskedTo, BudgetKind, EngineSpec, Finding, Metered, ModelUse, Order, ProjectName, TaskSpec, Timestamp,
    Usage, Verdict,
};
use async_trait::async_trait;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What an engine is told while it works, besides its order.
#[derive(Clone, Debug)]
pub struct AttemptEnv {
    /// Its worktree: the place it may edit (`Develop`), or may read (the other steps).
    pub dir: PathBuf,
    /// A folder for caches, kept between attempts of one run (build outputs go here, not into the worktree).
    pub cache: PathBuf,
    /// A folder outside the worktree for the order's file and scratch, removed afterwards.
    pub scratch: PathBuf,
    /// The patch from base to head, for `Review`; empty otherwise. Capped.
    pub patch: String,
    /// A file outside every sandbox that an engine which counts writes its count to, before each call and after it.
    pub meter: PathBuf,
    /// The project, for what is set per project (egress, places).
    pub project: ProjectName,
    /// What the engine is told, rendered; `None` for engines that do not ask for one ([`Engine::reads_prompt`]).
    pub prompt: Option<Prompt>,
}

/// A sign of life, for people who watch. Lossy by design.
#[derive(Clone, Debug)]
pub enum EngineEvent {
    /// A line of output or thought.
    Said(String),
    /// What it thinks, where it tells.
    Thought(String),
    /// A tool or command it used.
    Did(String),
    /// What it has used so far, all calls together.
    Spent(Usage),
    /// The secrets of the vault it is given, by name.
    Given(Vec<String>),
    /// The name of its conversation, which it can take up again in another process ([`Order::resume`]).
    Session(String),
}

/// Where signs of life go.
pub type Sink = Arc<dyn Fn(EngineEvent) + Send + Sync>;

/// What an engine brought back.
#[derive(Clone, Debug)]
pub struct EngineResult {
    /// Its result.
    pub result: StepOutcome,
    /// What it used, apart from wall time (measured by the caller); `None` = not known.
    pub usage: Option<Usage>,
    /// Which models that was.
    pub usage_by_model: Vec<ModelUse>,
    /// Its session's name, where it has one.
    pub session: Option<String>,
    /// What to keep: kind, name, bytes (capped).
    pub files: Vec<(ArtifactKind, String, Vec<u8>)>,
}

/// A result by step.
#[derive(Clone, Debug)]
pub enum StepOutcome {
    /// `Explore`: notes for the manager.
    Notes(String),
    /// `Plan`: the tasks.
    Tasks(Vec<TaskSpec>),
    /// `Develop`: it says it is done. What it did is read from the worktree, never from here.
    Edited {
        /// What it says it did.
        summary: String,
    },
    /// `Review`: a verdict on the order's head.
    Judged {
        /// The verdict.
        verdict: Verdict,
        /// The findings.
        findings: Vec<Finding>,
        /// In a sentence or two.
        summary: String,
    },
    /// It needs an answer first.
    Asked {
        /// What it needs to know.
        question: String,
        /// Who should answer.
        to: AskedTo,
    },
    /// It failed.
    Failed(String),
    /// What it was given did not suffice for its next call.
    BudgetExhausted {
        /// The part of the reservation that is used up.
        budget: BudgetKind,
        /// In words.
        why: String,
    },
    /// The conversation of [`Order::resume`] could not be taken up, so nothing was done.
    NotResumed(String),
    /// It cannot be used now; says nothing about the work (see [`crate::domain::Report::Unavailable`]).
    Unavailable {
        /// What happened, to which engine.
        why: String,
        /// When it can be used again, where that is known.
        until: Option<Timestamp>,
        /// What a person has to do first; `None` = waiting helps.
        fix: Option<String>,
    },
}

/// An engine.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Whether it is told its order in words: a [`Prompt`] is rendered for it and kept as an artifact before it starts.
    fn reads_prompt(&self) -> bool {
        false
    }
    /// Does one order. Dropping the future ends the session and every process it started.
    async fn run(&self, order: &Order, env: &AttemptEnv, sink: Sink) -> PortResult<EngineResult>;
}

/// The engines there are.
#[async_trait]
pub trait Engines: Send + Sync {
    /// Looks at what people may have changed for them, such as keys. Called before each attempt.
    async fn refresh(&self) {}
    /// The engine for a spec, or why there is none (unknown kind, bad argument), with the kinds there are.
    fn get(&self, spec: &EngineSpec) -> Result<Arc<dyn Engine>, String>;
    /// What was counted in a file ([`AttemptEnv::meter`]) of an attempt that cannot tell itself; `None` = nothing was, or it cannot be read.
    fn metered(&self, _file: &Path) -> Option<Metered> {
        None
    }
    /// What sending `tokens` tokens once costs with a spec's model, in micro-USD; `None` = no price is known, or it has no model.
    fn input_cost(&self, _spec: &EngineSpec, _tokens: u64) -> Option<u64> {
        None
    }
}
