//! Verified outcomes: what a run's journal proves about its attempts. Ratings, routing and evaluations read these rows
//! and nothing that an engine says about itself.
//!
//! Invariant: a row states only what the journal proves. A verdict that turned out neither right nor wrong has no row.

mod derive;
mod proof;

pub use proof::{Proof, outcomes};

use super::budget::Usage;
use super::id::{AttemptId, RunId, Sha, Timestamp};
use super::order::{EngineSpec, Step};
use super::project::ProjectName;
use super::run::Run;
use std::fmt;

/// Word of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OutcomeWord {
    /// The change landed after at most one round of rework. Of the run, its plan, and the develop attempts whose work is
    /// in the head.
    Landed,
    /// The change landed after more rounds. Of the same.
    LandedLate,
    /// The run ended undelivered because of the work: a person gave it up when its tries or rounds were used up, when
    /// nothing had changed, or when the change itself was at stake. Of the same.
    Unlanded,
    /// The run ended for a reason that says nothing about the work: cancelled, nothing to change, budget, engine,
    /// environment. Of the run only.
    Void,
    /// The checks of a develop attempt were red, and its work was not used.
    Red,
    /// The attempt ended without a result that could be used.
    Unusable,
    /// A review requested changes, the next round changed a file that its findings name, and the change landed.
    Confirmed,
    /// A review requested changes, and a person merged the reviewed head as it was.
    Refuted,
    /// A review approved a head for which CI, or a person, then required more work, or whose merge a person declined.
    Missed,
}

impl OutcomeWord {
    /// All words.
    pub const ALL: [OutcomeWord; 9] = [
        OutcomeWord::Landed,
        OutcomeWord::LandedLate,
        OutcomeWord::Unlanded,
        OutcomeWord::Void,
        OutcomeWord::Red,
        OutcomeWord::Unusable,
        OutcomeWord::Confirmed,
        OutcomeWord::Refuted,
        OutcomeWord::Missed,
    ];

    /// Returns the word.
    pub fn name(self) -> &'static str {
        match self {
            OutcomeWord::Landed => "landed",
            OutcomeWord::LandedLate => "landed_late",
            OutcomeWord::Unlanded => "unlanded",
            OutcomeWord::Void => "void",
            OutcomeWord::Red => "red",
            OutcomeWord::Unusable => "unusable",
            OutcomeWord::Confirmed => "confirmed",
            OutcomeWord::Refuted => "refuted",
            OutcomeWord::Missed => "missed",
        }
    }

    /// Returns the outcome with this word.
    pub fn named(name: &str) -> Option<OutcomeWord> {
        OutcomeWord::ALL.into_iter().find(|word| word.name() == name)
    }
}

/// Fact of the journal that proves an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The event with this number.
    Event(u64),
    /// The commit on the base branch.
    Commit(Sha),
}

/// `seq:41` or `sha:<commit>`.
impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Evidence::Event(seq) => write!(f, "seq:{seq}"),
            Evidence::Commit(sha) => write!(f, "sha:{sha}"),
        }
    }
}

/// Verified outcome of an attempt, or of a run as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutcomeRow {
    /// The run.
    pub run: RunId,
    /// Its project.
    pub project: ProjectName,
    /// The attempt; `None` = the run as a whole.
    pub attempt: Option<AttemptId>,
    /// The outcome. An attempt has each word at most once.
    pub word: OutcomeWord,
    /// The step of the attempt.
    pub step: Option<Step>,
    /// The engine's display name ([`EngineSpec::named`]), or `agent:<name>` for an outside agent; empty for a run.
    pub engine: String,
    /// Digest of the prompt the attempt was given, if any.
    pub prompt_digest: Option<String>,
    /// Rounds of rework before the attempt; of a run, all its rounds.
    pub round: u32,
    /// What the attempt was charged; of a run, everything it used.
    pub usage: Usage,
    /// The proof.
    pub evidence: Evidence,
    /// Time of the event that proves it.
    pub at: Timestamp,
}

impl OutcomeRow {
    fn of_run(run: &Run, word: OutcomeWord, evidence: Evidence, at: Timestamp) -> OutcomeRow {
        OutcomeRow {
            run: run.id,
            project: run.project.clone(),
            attempt: None,
            word,
            step: None,
            engine: String::new(),
            prompt_digest: None,
            round: run.rounds,
            usage: run.ledger.spent,
            evidence,
            at,
        }
    }

    fn of_attempt(
        run: &Run,
        id: AttemptId,
        word: OutcomeWord,
        evidence: Evidence,
        at: Timestamp,
    ) -> Option<OutcomeRow> {
        let attempt = run.attempt(id)?;
        Some(OutcomeRow {
            attempt: Some(id),
            step: Some(attempt.step),
            engine: match attempt.agent() {
                Some(agent) => agent.to_owned(),
                None => EngineSpec::parse(&attempt.engine).named(),
            },
            prompt_digest: attempt.prompt_digest.clone(),
            round: attempt.round,
            usage: attempt.ended.as_ref().map_or(Usage::default(), |ended| ended.charged),
            ..OutcomeRow::of_run(run, word, evidence, at)
        })
    }
}
