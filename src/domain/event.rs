//! The facts of the journal. What comes in, comes in as one of these.

use super::block::Answer;
use super::budget::{Metered, Raise};
use super::effect::EffectOutcome;
use super::goal::Goal;
use super::id::{AttemptId, BlockId, EffectKey, Principal, RunId, Sha};
use super::project::ProjectName;
use super::report::Reported;
use super::run::Settings;
use serde::{Deserialize, Serialize};

/// A fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Somebody asked for a run: always the first event.
    Opened(Box<Opened>),
    /// The run got a slot.
    Admitted,
    /// An attempt ended.
    Reported(Box<Reported>),
    /// An effect ended.
    EffectFinished {
        /// Which.
        key: EffectKey,
        /// How.
        done: EffectOutcome,
    },
    /// The sweep saw something new on the forge.
    Observed {
        /// All of it.
        observation: super::change::Observation,
    },
    /// A person answered a block.
    Answered {
        /// Which block; the oldest open one when not named.
        block: Option<BlockId>,
        /// The answer.
        answer: Answer,
        /// Who.
        by: Principal,
    },
    /// A person gave more budget, asked or not.
    Raised {
        /// How much.
        raise: Raise,
        /// Who.
        by: Principal,
    },
    /// A person paused the run.
    Paused {
        /// Who.
        by: Principal,
    },
    /// A person let it go on.
    Resumed {
        /// Who.
        by: Principal,
    },
    /// A person cancelled it.
    CancelRequested {
        /// Who.
        by: Principal,
        /// Why.
        why: String,
    },
    /// The time has come that the run waits for.
    Due,
    /// An attempt's engine has opened a conversation that can be taken up again should this process end.
    SessionOpened {
        /// The attempt.
        attempt: AttemptId,
        /// The conversation's name with the engine.
        session: String,
    },
    /// The process that carried these attempts is gone.
    Orphaned {
        /// The attempts begun and not reported.
        attempts: Vec<AttemptId>,
        /// What was counted of them while they ran, where something was.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        metered: Vec<(AttemptId, Metered)>,
    },
}

/// What a run is born with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Its id, drawn at intake.
    pub id: RunId,
    /// Its project.
    pub project: ProjectName,
    /// Its goal.
    pub goal: Goal,
    /// Its rules, pinned.
    pub settings: Settings,
    /// The head of the base branch at intake.
    pub base: Sha,
    /// The W3C trace context of the request, `00-…`.
    #[serde(default)]
    pub traceparent: Option<String>,
}

impl Event {
    /// Its name in the journal.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Opened(_) => "opened",
            Event::Admitted => "admitted",
            Event::Reported(_) => "reported",
            Event::EffectFinished { .. } => "done",
            Event::Observed { .. } => "observed",
            Event::Answered { .. } => "answered",
            Event::Raised { .. } => "raised",
            Event::Paused { .. } => "paused",
            Event::Resumed { .. } => "resumed",
            Event::CancelRequested { .. } => "cancel_requested",
            Event::Due => "due",
            Event::SessionOpened { .. } => "session_opened",
            Event::Orphaned { .. } => "orphaned",
        }
    }
}
