//! Engines: an LLM loop, an external agent, a plain command, a script. A session is one live conversation with one.

use super::PortResult;
use super::prompts::Prompt;
use crate::domain::{
    ArtifactKind, AskedTo, BudgetKind, CriterionVerdict, EngineSpec, Finding, Metered, ModelUse, Order, ProjectName,
    TaskSpec, Timestamp, Usage, Verdict,
};
use async_trait::async_trait;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Environment of an attempt, in addition to its order.
#[derive(Clone, Debug)]
pub struct AttemptEnv {
    /// The worktree, to edit (`Develop`) or to read (the other steps).
    pub dir: PathBuf,
    /// The folder of its home and caches, for this attempt alone (build outputs go here, not into the worktree).
    pub cache: PathBuf,
    /// A folder outside the worktree for the order's file and temporary files; removed afterwards.
    pub scratch: PathBuf,
    /// The patch from base to head for `Review`, capped; empty otherwise.
    pub patch: String,
    /// The meter file, outside every sandbox: a metering engine writes its usage there before and after each call.
    pub meter: PathBuf,
    /// The project, for settings per project (egress, runners).
    pub project: ProjectName,
    /// The project's working copy, if its origin is a folder of this machine.
    pub origin: Option<PathBuf>,
    /// The rendered prompt; `None` for engines that read none ([`Engine::reads_prompt`]).
    pub prompt: Option<Prompt>,
}

/// Progress of a session, for people who watch. Lossy by design.
#[derive(Clone, Debug)]
pub enum EngineEvent {
    /// A line of output.
    Said(String),
    /// A line of reasoning, if the engine reports it.
    Thought(String),
    /// A tool call or command.
    Did(String),
    /// Usage so far, over all calls.
    Spent(Usage),
    /// Names of the vault secrets it received.
    Given(Vec<String>),
    /// The name of its conversation, which can be resumed in another process ([`Order::resume`]).
    Session(String),
}

/// Receives the progress of a session.
pub type Sink = Arc<dyn Fn(EngineEvent) + Send + Sync>;

/// Result of a session.
#[derive(Clone, Debug)]
pub struct EngineResult {
    /// The outcome of the step.
    pub result: StepOutcome,
    /// Usage without wall time, which the caller measures; `None` = unknown.
    pub usage: Option<Usage>,
    /// Usage by model.
    pub usage_by_model: Vec<ModelUse>,
    /// The session's name, if it has one.
    pub session: Option<String>,
    /// Files to store: kind, name, bytes (capped).
    pub files: Vec<(ArtifactKind, String, Vec<u8>)>,
}

/// Outcome of a step.
#[derive(Clone, Debug)]
pub enum StepOutcome {
    /// `Explore`: notes for the manager.
    Notes(String),
    /// `Plan`: the tasks.
    Tasks(Vec<TaskSpec>),
    /// `Develop`: the engine reports that it is done. Its changes are read from the worktree, never from here.
    Edited {
        /// Its own summary.
        summary: String,
    },
    /// `Develop`: the engine ended with a failure that may come from work it left undone, such as a linter's. If it
    /// changed something, the checks decide.
    EditedInPart {
        /// A summary of what it did.
        summary: String,
        /// The failure, if nothing changed.
        why: String,
    },
    /// `Review`: a verdict on the order's head.
    Judged {
        /// The verdict.
        verdict: Verdict,
        /// The findings.
        findings: Vec<Finding>,
        /// A summary in a sentence or two.
        summary: String,
        /// The verdicts on the acceptance criteria that have no command.
        criteria: Vec<CriterionVerdict>,
    },
    /// The engine needs an answer first.
    Asked {
        /// The question.
        question: String,
        /// Who should answer.
        to: AskedTo,
    },
    /// The attempt failed.
    Failed(String),
    /// The reservation did not suffice for the next call.
    BudgetExhausted {
        /// The part of the reservation that is used up.
        budget: BudgetKind,
        /// In words.
        why: String,
    },
    /// The conversation of [`Order::resume`] could not be resumed, so nothing was done.
    NotResumed(String),
    /// The engine cannot be used now; this says nothing about the work (see [`crate::domain::Report::Unavailable`]).
    Unavailable {
        /// What happened to which engine.
        why: String,
        /// When it can be used again, if known.
        until: Option<Timestamp>,
        /// What a person has to do first; `None` = waiting helps.
        fix: Option<String>,
    },
}

/// An engine.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Returns whether it reads its order as text: if so, a [`Prompt`] is rendered and stored as an artifact before it
    /// starts.
    fn reads_prompt(&self) -> bool {
        false
    }
    /// Returns whether it starts commands: if so, their home and caches are filled before it starts.
    fn runs_commands(&self) -> bool {
        true
    }
    /// Carries out one order. Dropping the future ends the session and every process it started.
    async fn run(&self, order: &Order, env: &AttemptEnv, sink: Sink) -> PortResult<EngineResult>;
}

/// The engines by spec.
pub trait Engines: Send + Sync {
    /// Returns the engine of a spec; the error says why there is none (unknown kind, bad argument) and lists the kinds.
    fn get(&self, spec: &EngineSpec) -> Result<Arc<dyn Engine>, String>;
    /// Returns why a spec cannot be used on this machine now, and what to do; `None` = no problem is known. Asked before
    /// a run starts.
    fn unready(&self, _spec: &EngineSpec) -> Option<(String, String)> {
        None
    }
    /// Reads the meter file ([`AttemptEnv::meter`]) of an attempt that did not report its usage; `None` = empty or
    /// unreadable.
    fn metered(&self, _file: &Path) -> Option<Metered> {
        None
    }
    /// Returns the cost of sending `tokens` tokens once to a spec's model, in micro-USD; `None` = no known price, or no
    /// model.
    fn input_cost(&self, _spec: &EngineSpec, _tokens: u64) -> Option<u64> {
        None
    }
}
