//! Rollouts: one version on its way to a target.

use super::target::Target;
use crate::domain::id::{Principal, RunId, Sha, Timestamp};
use serde::{Deserialize, Serialize};

/// State of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    /// It waits for its turn.
    Queued,
    /// The checks of the project run at its version.
    Checking,
    /// It waits for a person's approval.
    Waiting,
    /// The version is being deployed.
    Deploying,
    /// The deployed version is being tested.
    Accepting,
    /// The previous version is being deployed again.
    RollingBack,
    /// The version is deployed and fulfils every criterion.
    Deployed,
    /// The version was red, and the one before is deployed again.
    RolledBack,
    /// The version was red, and was not replaced by the one before.
    Failed,
    /// A newer rollout took its turn.
    Superseded,
    /// A person declined it.
    Declined,
}

impl RolloutState {
    /// Returns the word.
    pub fn name(self) -> &'static str {
        match self {
            RolloutState::Queued => "queued",
            RolloutState::Checking => "checking",
            RolloutState::Waiting => "waiting",
            RolloutState::Deploying => "deploying",
            RolloutState::Accepting => "accepting",
            RolloutState::RollingBack => "rolling_back",
            RolloutState::Deployed => "deployed",
            RolloutState::RolledBack => "rolled_back",
            RolloutState::Failed => "failed",
            RolloutState::Superseded => "superseded",
            RolloutState::Declined => "declined",
        }
    }
    /// Returns whether the target is being changed.
    pub fn is_in_progress(self) -> bool {
        matches!(self, RolloutState::Deploying | RolloutState::Accepting | RolloutState::RollingBack)
    }
    /// Returns whether it has ended.
    pub fn is_ended(self) -> bool {
        !self.is_in_progress() && !matches!(self, RolloutState::Queued | RolloutState::Checking | RolloutState::Waiting)
    }
}

/// Why there is a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The change of a run landed.
    Landed {
        /// The run.
        run: RunId,
    },
    /// Somebody requested it.
    #[serde(alias = "asked")]
    Requested {
        /// Who requested it.
        by: Principal,
    },
    /// Somebody requested an earlier version.
    Rollback {
        /// Who requested it.
        by: Principal,
    },
}

/// What shows that a version is fit to be deployed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// A run proved it before it landed.
    Run {
        /// The run.
        run: RunId,
    },
    /// A rollout deployed it before.
    Deployed,
    /// The checks of the project passed at this commit.
    Checks {
        /// Their names.
        names: Vec<String>,
    },
    /// Nothing does: a person decides.
    Missing {
        /// Why.
        why: String,
    },
}

/// What was done to the target, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The version.
    pub sha: Sha,
    /// Whether it succeeded.
    pub passed: bool,
    /// Whether the target may have changed.
    pub changed: bool,
    /// The end of the output.
    pub log: String,
    /// When it ended.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

/// A criterion, and what was observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CriterionRecord {
    /// Its name.
    pub name: String,
    /// The request or the command.
    pub test: String,
    /// What was expected.
    pub expected: String,
    /// What was observed.
    pub got: String,
    /// Whether it is fulfilled.
    pub passed: bool,
    /// When.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

/// One version on its way to a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// The target.
    pub target: String,
    /// Its number, counted per target.
    pub number: u64,
    /// Names its checkouts.
    pub id: RunId,
    /// What it follows from; there is one rollout for each: `<run>.rollout.<target>`.
    pub key: String,
    /// The version.
    pub sha: Sha,
    /// The version that was there before.
    pub previous: Option<Sha>,
    /// Why there is a rollout.
    pub cause: Cause,
    /// State.
    pub state: RolloutState,
    /// What shows that the version is fit; `None` = its checks did not run yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// Who approved it.
    pub approved_by: Option<Principal>,
    /// How it ended, in words.
    pub why: String,
    /// The deployment, once it was carried out.
    pub deployment: Option<StepRecord>,
    /// The criteria, once they were tested.
    pub criteria: Vec<CriterionRecord>,
    /// The rollback, if one was necessary.
    pub rollback: Option<StepRecord>,
    /// The criteria after the rollback.
    pub rollback_criteria: Vec<CriterionRecord>,
    /// When it was queued.
    pub created_at: Timestamp,
    /// When it began to change the target.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// What happens to a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RolloutEvent {
    /// The checks of the project are started at its version.
    CheckingStarted,
    /// It is known what shows that the version is fit.
    Proven(Proof),
    /// A check is red.
    Red {
        /// Which, and where.
        why: String,
    },
    /// A person was asked for approval.
    ApprovalRequested,
    /// A person approved it.
    Approved {
        /// Who approved it.
        by: Principal,
    },
    /// A person declined it.
    Declined {
        /// Who declined it.
        by: Principal,
        /// The reason that was given.
        why: String,
    },
    /// A newer rollout takes its turn.
    Superseded {
        /// The number of the newer one.
        by: u64,
    },
    /// It starts.
    Started {
        /// The version that is there.
        previous: Option<Sha>,
    },
    /// The deployment was carried out.
    Deployed(StepRecord),
    /// The criteria were tested.
    Tested(Vec<CriterionRecord>),
    /// The previous version was deployed again.
    RolledBack(StepRecord, Vec<CriterionRecord>),
}

impl Rollout {
    /// Returns the rollout after an event.
    ///
    /// # Errors
    /// Why the event does not fit its state.
    pub fn after(&self, event: RolloutEvent, target: &Target, at: Timestamp) -> Result<Rollout, String> {
        use RolloutState::{
            Accepting, Checking, Declined, Deployed, Deploying, Failed, Queued, RolledBack, RollingBack, Superseded,
            Waiting,
        };
        let mut next = self.clone();
        match (self.state, event) {
            (Queued, RolloutEvent::CheckingStarted) => next.state = Checking,
            (Queued | Checking, RolloutEvent::Proven(proof)) => (next.state, next.proof) = (Queued, Some(proof)),
            (Checking, RolloutEvent::Red { why }) => next.end(Failed, why, at),
            (Queued, RolloutEvent::ApprovalRequested) => next.state = Waiting,
            (Queued | Checking | Waiting, RolloutEvent::Approved { by }) => next.approved_by = Some(by),
            (Queued | Checking | Waiting, RolloutEvent::Declined { by, why }) => {
                next.end(Declined, format!("declined by {by}: {why}"), at);
            }
            (Queued | Checking | Waiting, RolloutEvent::Superseded { by }) => {
                next.end(Superseded, format!("rollout {by} took its turn"), at);
            }
            (Queued | Waiting, RolloutEvent::Started { previous }) => {
                next.previous = previous;
                next.state = Deploying;
                next.started_at = Some(at);
            }
            (Deploying, RolloutEvent::Deployed(step)) => {
                let (passed, changed) = (step.passed, step.changed);
                next.deployment = Some(step);
                match passed {
                    true => next.state = Accepting,
                    false if !changed => next.end(Failed, "the target was left as it was".to_owned(), at),
                    false => next.go_back(target, "the deployment failed", at),
                }
            }
            (Accepting, RolloutEvent::Tested(criteria)) => {
                let red = criteria.iter().find(|c| !c.passed).map(|c| format!("{} is red", c.name));
                next.criteria = criteria;
                match red {
                    None => next.end(Deployed, "every criterion is green".to_owned(), at),
                    Some(red) => next.go_back(target, &red, at),
                }
            }
            (RollingBack, RolloutEvent::RolledBack(step, criteria)) => {
                let is_green = step.passed && criteria.iter().all(|c| c.passed);
                (next.rollback, next.rollback_criteria) = (Some(step), criteria);
                match is_green {
                    true => next.end(RolledBack, format!("{}; rolled back to the previous version", self.why), at),
                    false => next.end(Failed, format!("{}; the previous version is red, too", self.why), at),
                }
            }
            (state, _) => return Err(format!("rollout {} is {}", self.number, state.name().replace('_', " "))),
        }
        Ok(next)
    }

    fn end(&mut self, state: RolloutState, why: String, at: Timestamp) {
        (self.state, self.why, self.ended_at) = (state, why, Some(at));
    }

    /// Rolls back to the previous version, if that is possible and allowed.
    fn go_back(&mut self, target: &Target, why: &str, at: Timestamp) {
        match &self.previous {
            Some(previous) if target.rolls_back && *previous != self.sha => {
                self.state = RolloutState::RollingBack;
                self.why = why.to_owned();
            }
            Some(_) if !target.rolls_back => {
                self.end(RolloutState::Failed, format!("{why}; the target is not rolled back automatically"), at);
            }
            _ => self.end(RolloutState::Failed, format!("{why}; there is no other version to roll back to"), at),
        }
    }
}

/// The next step of a target's rollouts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RolloutStep {
    /// End a rollout whose turn a newer one takes.
    Supersede {
        /// The older one.
        number: u64,
        /// The newer one.
        by: u64,
    },
    /// Find out whether its version is fit to be deployed.
    Prove(u64),
    /// Ask a person.
    Ask(u64),
    /// Start it.
    Start(u64),
    /// Deploy its version.
    Deploy(u64),
    /// Test its criteria.
    Test(u64),
    /// Deploy the previous version.
    RollBack(u64),
}

/// Returns the next step, from the rollouts of a target that have not ended, oldest first; `None` = nothing to do.
/// While a person holds the target, nothing starts.
pub fn next_step(open: &[Rollout], target: &Target, is_held: bool) -> Option<RolloutStep> {
    if let Some(current) = open.iter().find(|r| r.state.is_in_progress()) {
        return Some(match current.state {
            RolloutState::Deploying => RolloutStep::Deploy(current.number),
            RolloutState::Accepting => RolloutStep::Test(current.number),
            _ => RolloutStep::RollBack(current.number),
        });
    }
    let newest = open.last()?;
    if let Some(older) = open.iter().find(|r| r.number < newest.number) {
        return Some(RolloutStep::Supersede { number: older.number, by: newest.number });
    }
    let Some(proof) = &newest.proof else { return Some(RolloutStep::Prove(newest.number)) };
    // What nothing proves is a person's decision on every target.
    let needs_approval = target.needs_approval || matches!(proof, Proof::Missing { .. });
    let is_approved = !needs_approval || newest.approved_by.is_some();
    match newest.state {
        RolloutState::Queued if !is_approved => Some(RolloutStep::Ask(newest.number)),
        _ if is_approved && !is_held => Some(RolloutStep::Start(newest.number)),
        _ => None,
    }
}

/// Returns the rollout that waits for a person, if there is one.
pub fn waiting(open: &[Rollout]) -> Option<&Rollout> {
    open.iter().rev().find(|r| r.state == RolloutState::Waiting && r.approved_by.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(needs_approval: bool) -> Target {
        Target { needs_approval, ..Target::sample() }
    }

    fn sha(c: char) -> Sha {
        Sha(c.to_string().repeat(40))
    }

    fn rollout(number: u64) -> Rollout {
        Rollout {
            target: "test".into(),
            number,
            id: RunId::try_from("0192f0c1aaaa7bbb8ccc0123456789ab".to_owned()).unwrap(),
            key: number.to_string(),
            sha: sha('b'),
            previous: None,
            cause: Cause::Requested { by: "user:ann".into() },
            state: RolloutState::Queued,
            proof: Some(Proof::Deployed),
            approved_by: None,
            why: String::new(),
            deployment: None,
            criteria: Vec::new(),
            rollback: None,
            rollback_criteria: Vec::new(),
            created_at: Timestamp(1),
            started_at: None,
            ended_at: None,
        }
    }

    fn step(passed: bool, changed: bool) -> StepRecord {
        StepRecord { sha: sha('b'), passed, changed, log: String::new(), at: Timestamp(5), ms: 1 }
    }

    fn criterion(passed: bool) -> CriterionRecord {
        let (test, expected, got) = ("GET /".to_owned(), "200".to_owned(), String::new());
        CriterionRecord { name: "health".into(), test, expected, got, passed, at: Timestamp(6), ms: 1 }
    }

    fn events(previous: Option<Sha>, all: Vec<RolloutEvent>) -> Rollout {
        let started = RolloutEvent::Started { previous };
        std::iter::once(started).chain(all).fold(rollout(1), |r, e| r.after(e, &target(false), Timestamp(9)).unwrap())
    }

    #[test]
    fn a_version_is_accepted_or_replaced_by_the_one_before() {
        use RolloutEvent::{Deployed, RolledBack, Tested};
        let good = || Deployed(step(true, true));
        let red = || Tested(vec![criterion(true), criterion(false)]);
        let state = |previous: Option<Sha>, all| {
            let r = events(previous, all);
            (r.state.name(), r.state.is_ended(), r.ended_at.is_some())
        };
        assert_eq!(state(None, vec![good(), Tested(vec![criterion(true)])]), ("deployed", true, true));
        assert_eq!(state(None, vec![good(), red()]), ("failed", true, true));
        assert_eq!(state(Some(sha('b')), vec![good(), red()]), ("failed", true, true), "the same version");
        assert_eq!(state(Some(sha('a')), vec![good(), red()]), ("rolling_back", false, false));
        let back = |passed, green| RolledBack(step(passed, true), vec![criterion(green)]);
        assert_eq!(state(Some(sha('a')), vec![good(), red(), back(true, true)]), ("rolled_back", true, true));
        assert_eq!(state(Some(sha('a')), vec![good(), red(), back(true, false)]), ("failed", true, true));
        assert_eq!(state(Some(sha('a')), vec![Deployed(step(false, true))]), ("rolling_back", false, false));
        assert_eq!(state(Some(sha('a')), vec![Deployed(step(false, false))]), ("failed", true, true), "untouched");
        let ended = events(None, vec![good(), Tested(vec![])]);
        assert!(ended.after(good(), &target(false), Timestamp(9)).unwrap_err().contains("deployed"));
    }

    #[test]
    fn one_rollout_goes_at_a_time_and_the_newest_takes_the_turn() {
        let asking = target(true);
        let (one, two) = (rollout(1), rollout(2));
        assert_eq!(next_step(&[], &asking, false), None);
        let both = [one.clone(), two.clone()];
        assert_eq!(next_step(&both, &asking, false), Some(RolloutStep::Supersede { number: 1, by: 2 }));
        let current = Rollout { state: RolloutState::Accepting, ..one };
        assert_eq!(next_step(&[current, two.clone()], &asking, true), Some(RolloutStep::Test(1)), "what began goes on");
        assert_eq!(next_step(std::slice::from_ref(&two), &asking, false), Some(RolloutStep::Ask(2)));
        let asked = two.after(RolloutEvent::ApprovalRequested, &asking, Timestamp(2)).unwrap();
        assert_eq!(next_step(std::slice::from_ref(&asked), &asking, false), None);
        assert_eq!(waiting(std::slice::from_ref(&asked)).map(|r| r.number), Some(2));
        let yes = asked.after(RolloutEvent::Approved { by: "user:ann".into() }, &asking, Timestamp(3)).unwrap();
        assert_eq!(next_step(std::slice::from_ref(&yes), &asking, false), Some(RolloutStep::Start(2)));
        assert_eq!(next_step(&[yes], &asking, true), None, "a person holds the target");
        assert_eq!(next_step(&[two], &target(false), false), Some(RolloutStep::Start(2)));
    }
}
