//! What agents are shown of offers: redacted, and with what became of the run.

use crate::domain::status::of_run;
use crate::domain::{Agent, Offer, OpenWorkSettings, Outcome, Run, Timestamp};
use crate::secrets::redact;

/// An agent, what it holds, and its limits.
#[derive(Clone, Debug)]
pub struct WorkerStatus {
    /// The agent.
    pub agent: Agent,
    /// Offers that it holds.
    pub held: usize,
    /// Limits.
    pub settings: OpenWorkSettings,
    /// The time of the service.
    pub at: Timestamp,
}

/// An offer with everything about it.
#[derive(Clone, Debug)]
pub struct Details {
    /// The offer.
    pub offer: Offer,
    /// The diff to review; empty for other steps.
    pub patch: String,
    /// Whether the agent holds it.
    pub is_mine: bool,
}

/// An offer that an agent has claimed.
#[derive(Clone, Debug)]
pub struct OwnOffer {
    /// The offer.
    pub offer: Offer,
    /// Status of its run; `None` if the run cannot be read.
    pub run_status: Option<&'static str>,
    /// The commit on the base branch, if the run's change landed.
    pub landed: Option<String>,
}

impl OwnOffer {
    pub(super) fn of(offer: Offer, run: Option<&Run>) -> OwnOffer {
        let landed = run.and_then(|run| match &run.outcome {
            Some(Outcome::Delivered { sha }) => Some(sha.to_string()),
            _ => None,
        });
        OwnOffer { offer, run_status: run.map(|run| of_run(run).word()), landed }
    }
}

/// Redacts the texts of an offer: they may quote the repository, and the agent is somebody else's program.
pub(super) fn redacted(mut offer: Offer) -> Offer {
    let clean = |text: &mut String| *text = redact(text).into_owned();
    let order = &mut offer.order;
    clean(&mut order.goal);
    if let Some(task) = &mut order.task {
        clean(&mut task.spec.title);
        clean(&mut task.spec.text);
    }
    order.notes.iter_mut().for_each(|note| clean(&mut note.text));
    order.checks.iter_mut().for_each(|check| clean(&mut check.command));
    order.concerns.iter_mut().for_each(clean);
    for criterion in &mut order.criteria {
        clean(&mut criterion.text);
        criterion.test.iter_mut().for_each(|test| clean(&mut test.command));
    }
    clean(&mut offer.problem);
    offer
}
