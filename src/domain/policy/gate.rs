//! The gates before landing: pure tests on the facts known about exactly the current head.

use crate::domain::change::ChangeState;
use crate::domain::check::{self, Scope};
use crate::domain::id::Principal;
use crate::domain::order::Step;
use crate::domain::report::Verdict;
use crate::domain::run::Run;
use crate::domain::run::rework::CiState;
use serde::{Deserialize, Serialize};

/// The state of a gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "gate", content = "why", rename_all = "snake_case")]
pub enum Gate {
    /// The condition holds.
    Open,
    /// The condition does not hold, and waiting does not help.
    Shut(String),
    /// The condition does not hold yet: something outside has to happen.
    Wait(String),
}

impl Gate {
    fn open_if(open: bool, why: impl FnOnce() -> String) -> Gate {
        if open { Gate::Open } else { Gate::Shut(why()) }
    }
    /// Returns whether the condition holds.
    pub fn is_open(&self) -> bool {
        *self == Gate::Open
    }
}

/// Returns every gate by name, in the order they are tested.
pub fn all(run: &Run) -> Vec<(&'static str, Gate)> {
    vec![
        ("diff", diff(run)),
        ("checks", checks(run)),
        ("review", review(run)),
        ("change", change(run)),
        ("head", head(run)),
        ("base", base(run)),
        ("requests", requests(run)),
        ("statuses", statuses(run)),
        ("approval", approval(run)),
    ]
}

/// Tests that something changed.
pub fn diff(run: &Run) -> Gate {
    Gate::open_if(!run.diff.is_empty() && run.head != run.base, || "nothing changed against the base".to_owned())
}

/// Tests that Skep's own checks are green at the head.
pub fn checks(run: &Run) -> Gate {
    match &run.facts.results {
        None => Gate::Wait("checks have not run at this head".to_owned()),
        Some(results) => Gate::open_if(run.proves(Scope::Head, results), || check::failures(results)),
    }
}

/// Tests that a reviewer who is not an author approved the head.
pub fn review(run: &Run) -> Gate {
    let Some(review) = &run.facts.review else {
        return Gate::Wait("no review of this head yet".to_owned());
    };
    let session = run.attempt(review.attempt).and_then(|a| a.ended.as_ref()).and_then(|e| e.session.as_ref());
    if session.is_some_and(|s| is_author_session(run, s)) {
        return Gate::Shut("the reviewer is an author of the change".to_owned());
    }
    Gate::open_if(review.verdict == Verdict::Approve, || format!("the reviewer wants rework: {}", review.summary))
}

/// Returns whether a dev's attempt used this engine session.
pub fn is_author_session(run: &Run, session: &str) -> bool {
    run.attempts
        .iter()
        .filter(|a| a.step == Step::Develop)
        .filter_map(|a| a.ended.as_ref()?.session.as_deref())
        .any(|s| s == session)
}

/// Tests that the change is open.
pub fn change(run: &Run) -> Gate {
    match &run.facts.observed {
        None => Gate::Wait("the forge has not been read yet".to_owned()),
        Some(o) => Gate::open_if(o.state == ChangeState::Open, || "the change is not open".to_owned()),
    }
}

/// Tests that the branch on the forge is at the head that was proven.
pub fn head(run: &Run) -> Gate {
    match &run.facts.observed {
        None => Gate::Wait("the forge has not been read yet".to_owned()),
        Some(o) => Gate::open_if(o.head == run.head, || {
            format!("the branch on the forge is at {}, but {} was proven", o.head.abbrev(), run.head.abbrev())
        }),
    }
}

/// Tests that the base branch has not moved, or that the merge queue proves the change on the moved one.
pub fn base(run: &Run) -> Gate {
    match &run.facts.observed {
        None => Gate::Wait("the forge has not been read yet".to_owned()),
        Some(o) => Gate::open_if(o.base == run.base || run.landing_batch() > 1, || {
            format!(
                "{} moved to {}, the change is based on {}",
                run.settings.base_branch,
                o.base.abbrev(),
                run.base.abbrev()
            )
        }),
    }
}

/// Tests that no person's request for changes is open.
pub fn requests(run: &Run) -> Gate {
    match &run.facts.observed {
        None => Gate::Wait("the forge has not been read yet".to_owned()),
        Some(o) => {
            Gate::open_if(o.change_requests.is_empty(), || format!("{} requests changes", o.change_requests[0].by))
        }
    }
}

/// Tests that CI is green at the head: every status that the policy or the forge requires or, if none is required, every
/// status that was reported.
pub fn statuses(run: &Run) -> Gate {
    if run.facts.observed.is_none() {
        return Gate::Wait("the forge has not been read yet".to_owned());
    }
    let CiState { failed, running, missing } = run.ci();
    match (failed.is_empty(), running.is_empty()) {
        (true, true) if missing.is_empty() => Gate::Open,
        (true, _) => Gate::Wait(format!("status {} is not green yet", [running, missing].concat().join(", "))),
        // One round of rework deals with all failures.
        (false, false) => {
            Gate::Wait(format!("status {} is red, and {} has not ended", failed.join(", "), running.join(", ")))
        }
        (false, true) => Gate::Shut(format!("status {} is red at this head", failed.join(", "))),
    }
}

/// Tests that a person approved exactly this head on exactly this base, where the policy, a concern, a red check or a
/// criterion that only a person can judge requires it.
pub fn approval(run: &Run) -> Gate {
    let is_red = || run.facts.results.iter().flatten().any(|r| !r.green) || !run.facts.accepted_statuses.is_empty();
    let asked = || {
        run.settings.policy.approve_merge || !run.concerns().is_empty() || is_red() || run.leaves_criteria_to_approver()
    };
    match approver(run).is_none() && asked() {
        true => Gate::Wait("a person must approve the merge".to_owned()),
        false => Gate::Open,
    }
}

/// Returns the person who approved this head, if the policy accepts the approval.
pub fn approver(run: &Run) -> Option<&Principal> {
    let on_forge = run.facts.observed.iter().filter(|o| o.head == run.head).flat_map(|o| &o.approved_by);
    run.facts.approved_by.iter().chain(on_forge).find(|p| may_approve(run, p))
}

/// Returns whether this principal may approve the run's change.
pub fn may_approve(run: &Run, by: &Principal) -> bool {
    by.is_person() && (run.settings.policy.self_approval || *by != run.goal.asked_by)
}
