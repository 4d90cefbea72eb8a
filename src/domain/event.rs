//! The facts of the journal. Everything that reaches a run arrives as one of these events.

use super::block::Answer;
use super::budget::{Metered, Raise};
use super::change::Observation;
use super::effect::EffectOutcome;
use super::goal::Goal;
use super::id::{AttemptId, BlockId, EffectKey, Principal, RunId, Sha, Timestamp};
use super::overrides::Overrides;
use super::project::ProjectName;
use super::report::Reported;
use super::run::Settings;
use serde::{Deserialize, Serialize};

/// An event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run was opened. Always the first event.
    Opened(Box<Opened>),
    /// The run was given a slot.
    Admitted,
    /// An attempt ended.
    Reported(Box<Reported>),
    /// An effect ended.
    EffectFinished {
        /// Its key.
        key: EffectKey,
        /// Its outcome.
        outcome: EffectOutcome,
    },
    /// The sweep found news on the forge.
    Observed {
        /// What was read.
        observation: Observation,
    },
    /// A person answered a block.
    Answered {
        /// The block; `None` = the oldest open one.
        block: Option<BlockId>,
        /// The answer.
        answer: Answer,
        /// The person.
        by: Principal,
    },
    /// A person raised the run's budget.
    Raised {
        /// The additional amounts.
        raise: Raise,
        /// The person.
        by: Principal,
    },
    /// A person gave the run other engines or checks.
    SettingsChanged {
        /// The engines and checks.
        overrides: Overrides,
        /// The person.
        by: Principal,
    },
    /// A person paused the run.
    Paused {
        /// The person.
        by: Principal,
    },
    /// A person resumed the run.
    Resumed {
        /// The person.
        by: Principal,
    },
    /// A person cancelled the run.
    CancelRequested {
        /// The person.
        by: Principal,
        /// The reason.
        why: String,
    },
    /// The time that the run waited for has come.
    Due,
    /// An attempt's engine opened a session that can be resumed if this process ends.
    SessionOpened {
        /// The attempt.
        attempt: AttemptId,
        /// The engine's name for the session.
        session: String,
    },
    /// The process that ran these attempts is gone.
    Orphaned {
        /// Attempts started and not reported.
        attempts: Vec<AttemptId>,
        /// Usage metered while they ran, where it is known.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        metered: Vec<(AttemptId, Metered)>,
        /// When their process was last seen at work, where it is known.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        alive: Vec<(AttemptId, Timestamp)>,
        /// Those whose process was stopped on purpose. Their loss says nothing about them, so it is not counted.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        stopped: Vec<AttemptId>,
    },
}

/// Initial data of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Its id, drawn at intake.
    pub id: RunId,
    /// Its project.
    pub project: ProjectName,
    /// Its goal.
    pub goal: Goal,
    /// Its settings, pinned.
    pub settings: Settings,
    /// The head of the base branch at intake.
    pub base: Sha,
    /// The W3C trace context of the request, `00-…`.
    #[serde(default)]
    pub traceparent: Option<String>,
}

impl Event {
    /// Returns the journal name: for the end of an effect, the name of its outcome.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Opened(_) => "opened",
            Event::Admitted => "admitted",
            Event::Reported(_) => "reported",
            Event::EffectFinished { outcome, .. } => outcome.name(),
            Event::Observed { .. } => "observed",
            Event::Answered { .. } => "answered",
            Event::Raised { .. } => "raised",
            Event::SettingsChanged { .. } => "settings_changed",
            Event::Paused { .. } => "paused",
            Event::Resumed { .. } => "resumed",
            Event::CancelRequested { .. } => "cancel_requested",
            Event::Due => "due",
            Event::SessionOpened { .. } => "session_opened",
            Event::Orphaned { .. } => "orphaned",
        }
    }
}
