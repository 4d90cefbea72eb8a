//! The watch over a base branch after a run has landed there: whether CI turned red with its change.
//!
//! A change is blamed only for checks that were green at the newest tested commit before it, and red at the first tested
//! one with it. If other commits lie between the two, and the policy wants it, their CI is started again where it was
//! cancelled, the middle one first, until one change is left.

use super::change::{StatusState, WorkflowRun};
use super::id::{RunId, Sha, Timestamp};
use super::project::{ForgeName, ProjectName};
use super::run::{Outcome, Run};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Upper bound on the commits before a landing among which a tested one is searched.
const MAX_EARLIER: usize = 20;
/// Upper bound on the commits of a branch that are compared.
pub const MAX_COMMITS: usize = 100;

/// Results of CI at a commit of a base branch, without Skep's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitCi {
    /// The results by check.
    pub statuses: BTreeMap<String, StatusState>,
    /// The checks that were cancelled, which says nothing about the commit.
    pub cancelled: BTreeSet<String>,
    /// The workflow runs in which they can be started again.
    pub restartable: BTreeSet<WorkflowRun>,
}

impl CommitCi {
    fn is_running(&self) -> bool {
        self.statuses.values().any(|state| *state == StatusState::Pending)
    }

    /// Returns the red checks.
    fn red(&self) -> BTreeSet<&String> {
        self.statuses.iter().filter(|(_, state)| **state == StatusState::Failure).map(|(name, _)| name).collect()
    }

    /// Returns whether the commit was tested to the end. A check that fails often cancels those beside it.
    fn is_tested(&self) -> bool {
        let is_complete = self.cancelled.is_empty() || !self.red().is_empty();
        !self.statuses.is_empty() && !self.is_running() && is_complete
    }

    /// Returns whether nothing is known of CI at the commit.
    pub fn is_empty(&self) -> bool {
        self.statuses.is_empty() && self.cancelled.is_empty()
    }
}

/// The watch over what a run has landed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LandingWatch {
    /// The run.
    pub run: RunId,
    /// Its project.
    pub project: ProjectName,
    /// The address of the repository for git.
    pub origin: String,
    /// The forge that holds it.
    pub forge: ForgeName,
    /// The branch it landed on.
    pub branch: String,
    /// The commit that the change was proven on.
    pub base: Sha,
    /// The commit on the branch.
    pub sha: Sha,
    /// When the run ended.
    pub since: Timestamp,
    /// The end of the window.
    pub until: Timestamp,
    /// What is known.
    pub state: WatchState,
    /// Whether cancelled CI may be started again to find the change to blame.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_restart: bool,
    /// Commits whose cancelled CI was started again.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub restarted: BTreeSet<Sha>,
    /// When the watch ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
}

/// What is known about the branch since the landing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum WatchState {
    /// CI has not tested the change yet.
    Watching,
    /// CI is green with the change.
    Green,
    /// The project has no CI.
    NoCi,
    /// CI did not test the change before the window ended.
    Untested,
    /// CI is red, and was red before the change.
    RedBefore {
        /// The red checks.
        checks: Vec<String>,
    },
    /// CI is red, and which change is to blame cannot be told.
    Unclear {
        /// The first tested commit.
        sha: Sha,
        /// The checks that turned red.
        checks: Vec<String>,
        /// The number of commits that may be to blame.
        commits: usize,
    },
    /// The change turned CI red.
    Blamed {
        /// The first red commit.
        sha: Sha,
        /// The commit before, where the checks were green.
        green: Sha,
        /// The checks that turned red.
        checks: Vec<String>,
        /// The run that proposes the revert.
        revert: RunId,
        /// Why that run could not be started.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
}

impl WatchState {
    /// Returns the name.
    pub fn name(&self) -> &'static str {
        match self {
            WatchState::Watching => "watching",
            WatchState::Green => "green",
            WatchState::NoCi => "no_ci",
            WatchState::Untested => "untested",
            WatchState::RedBefore { .. } => "red_before",
            WatchState::Unclear { .. } => "unclear",
            WatchState::Blamed { .. } => "blamed",
        }
    }
}

impl LandingWatch {
    /// Returns the watch over what an ended run has landed; `None` = it has landed nothing, or its policy wants no watch.
    pub fn over(run: &Run, ended_at: Timestamp) -> Option<LandingWatch> {
        let Some(Outcome::Delivered { sha }) = &run.outcome else { return None };
        let secs = run.settings.policy.watch_landed_secs;
        (secs > 0).then(|| LandingWatch {
            run: run.id,
            project: run.project.clone(),
            origin: run.settings.origin.clone(),
            forge: run.settings.forge.clone(),
            branch: run.settings.base_branch.clone(),
            base: run.base.clone(),
            sha: sha.clone(),
            since: ended_at,
            until: ended_at.plus_secs(secs),
            state: WatchState::Watching,
            may_restart: run.settings.policy.bisect_landed,
            restarted: BTreeSet::new(),
            ended_at: None,
        })
    }

    /// Returns the watch as it ends.
    #[must_use]
    pub fn ended(self, state: WatchState, at: Timestamp) -> LandingWatch {
        LandingWatch { state, ended_at: Some(at), ..self }
    }
}

/// What follows from the results that are known so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The results at this commit decide.
    Read(Sha),
    /// The CI of this commit decides, and was cancelled.
    Restart(Sha, BTreeSet<WorkflowRun>),
    /// CI has not ended.
    Wait,
    /// CI is green with the change, or again.
    Green,
    /// These checks were red before.
    RedBefore(Vec<String>),
    /// Checks turned red, and several commits may be to blame.
    Unclear {
        /// The first tested commit.
        sha: Sha,
        /// The checks that turned red.
        checks: Vec<String>,
        /// The number of commits that may be to blame.
        commits: usize,
    },
    /// The change turned checks red.
    Blamed {
        /// The first red commit.
        sha: Sha,
        /// The commit before, where the checks were green.
        green: Sha,
        /// The checks that turned red.
        checks: Vec<String>,
    },
}

/// Judges a landing by the history of its branch, oldest commit first, and by the results that were read.
pub fn judge(watch: &LandingWatch, history: &[Sha], read: &BTreeMap<Sha, CommitCi>) -> Finding {
    let at = |sha: &Sha| history.iter().position(|commit| commit == sha);
    let Some(landed) = at(&watch.sha) else { return Finding::Wait };
    // A change that was fast-forwarded has several commits of its own.
    let own = at(&watch.base).filter(|base| *base < landed).map_or(landed, |base| base + 1);

    let mut first = None;
    for commit in &history[landed..] {
        let Some(ci) = read.get(commit) else { return Finding::Read(commit.clone()) };
        if ci.is_tested() {
            first = at(commit);
            break;
        }
        if ci.is_running() {
            return Finding::Wait;
        }
    }
    let Some(first) = first else { return Finding::Wait };
    let result = |at: usize| read.get(&history[at]).cloned().unwrap_or_default();
    let tested = result(first);
    let red = tested.red();
    if red.is_empty() {
        return Finding::Green;
    }
    let is_green = |ci: &CommitCi, check: &String| ci.statuses.get(check) == Some(&StatusState::Success);
    for commit in &history[first + 1..] {
        let Some(ci) = read.get(commit) else { return Finding::Read(commit.clone()) };
        if ci.is_tested() && red.iter().all(|check| is_green(ci, check)) {
            return Finding::Green;
        }
    }

    let names = |checks: &[&String]| checks.iter().map(|check| (*check).clone()).collect::<Vec<_>>();
    let all_red = || names(&red.iter().copied().collect::<Vec<_>>());
    let sha = history[first].clone();
    let mut before = None;
    for earlier in (own.saturating_sub(MAX_EARLIER)..own).rev() {
        let Some(ci) = read.get(&history[earlier]) else { return Finding::Read(history[earlier].clone()) };
        if ci.is_tested() {
            before = Some(earlier);
            break;
        }
        if ci.is_running() {
            return Finding::Wait;
        }
    }
    let Some(before) = before else {
        return Finding::Unclear { sha, checks: all_red(), commits: first + 1 - own.saturating_sub(MAX_EARLIER) };
    };
    let known = result(before);
    let turned: Vec<&String> = red.iter().copied().filter(|check| is_green(&known, check)).collect();
    if turned.is_empty() {
        // A check that is new says nothing about the change before it.
        return match red.iter().any(|check| known.statuses.contains_key(*check)) {
            true => Finding::RedBefore(all_red()),
            false => Finding::Unclear { sha, checks: all_red(), commits: first - before },
        };
    }
    let checks = names(&turned);
    if before + 1 == own && first == landed {
        return Finding::Blamed { sha, green: history[before].clone(), checks };
    }
    // The commits between, apart from the change's own: whichever is in the middle leaves the fewest.
    let middle = (before + first) / 2;
    let mut between: Vec<usize> = (before + 1..first).filter(|at| !(own..landed).contains(at)).collect();
    between.sort_by_key(|at| at.abs_diff(middle));
    for at in between {
        let ci = result(at);
        if watch.may_restart && !ci.restartable.is_empty() && !watch.restarted.contains(&history[at]) {
            return Finding::Restart(history[at].clone(), ci.restartable);
        }
    }
    Finding::Unclear { sha, checks, commits: first - before }
}

#[cfg(test)]
mod tests {
    use super::*;
    use StatusState::{Failure, Pending, Success};

    fn sha(name: &str) -> Sha {
        Sha(name.repeat(40))
    }

    fn watch(base: &str, landed: &str) -> LandingWatch {
        LandingWatch {
            run: RunId::try_from("0192f0c1aaaa7bbb8ccc0123456789ab".to_owned()).unwrap(),
            project: ProjectName::new("calc").unwrap(),
            origin: "https://example.org/my-org/calc.git".to_owned(),
            forge: ForgeName("github".to_owned()),
            branch: "main".to_owned(),
            base: sha(base),
            sha: sha(landed),
            since: Timestamp(0),
            until: Timestamp(7_200_000),
            state: WatchState::Watching,
            may_restart: true,
            restarted: BTreeSet::new(),
            ended_at: None,
        }
    }

    fn ci(state: StatusState) -> CommitCi {
        CommitCi { statuses: [("test".to_owned(), state)].into(), ..CommitCi::default() }
    }

    fn cancelled(run: Option<u64>) -> CommitCi {
        let restartable = run.map(|id| WorkflowRun { id, attempt: 1 }).into_iter().collect();
        CommitCi { cancelled: ["test".to_owned()].into(), restartable, ..CommitCi::default() }
    }

    /// Judges by a history whose commits are named `0`, `1`, …, of which these results are known.
    fn of(watch: &LandingWatch, results: &[Option<CommitCi>]) -> Finding {
        let history: Vec<Sha> = (0..results.len()).map(|n| sha(&n.to_string())).collect();
        let read = history.iter().cloned().zip(results.iter().cloned()).filter_map(|(sha, ci)| Some((sha, ci?)));
        judge(watch, &history, &read.collect())
    }

    fn blamed(red: &str, green: &str) -> Finding {
        Finding::Blamed { sha: sha(red), green: sha(green), checks: vec!["test".to_owned()] }
    }

    #[test]
    fn the_first_red_commit_whose_parent_was_green_is_to_blame() {
        let w = watch("0", "1");
        assert_eq!(of(&w, &[None, None]), Finding::Read(sha("1")), "the landed commit is read first");
        assert_eq!(of(&w, &[None, Some(CommitCi::default())]), Finding::Wait);
        assert_eq!(of(&w, &[None, Some(ci(Pending))]), Finding::Wait);
        assert_eq!(of(&w, &[None, Some(ci(Success))]), Finding::Green);
        assert_eq!(of(&w, &[None, Some(ci(Failure))]), Finding::Read(sha("0")));
        assert_eq!(of(&w, &[Some(ci(Success)), Some(ci(Failure))]), blamed("1", "0"));
        assert_eq!(of(&w, &[Some(ci(Pending)), Some(ci(Failure))]), Finding::Wait, "CI of the parent has not ended");
        assert_eq!(of(&w, &[Some(ci(Failure)), Some(ci(Failure))]), Finding::RedBefore(vec!["test".to_owned()]));
        assert_eq!(of(&watch("0", "9"), &[Some(ci(Success)), Some(ci(Failure))]), Finding::Wait, "not on the branch");
    }

    #[test]
    fn a_check_that_was_red_before_does_not_hide_one_that_turned_red() {
        let both = |test, lint| CommitCi {
            statuses: [("test".to_owned(), test), ("lint".to_owned(), lint)].into(),
            ..CommitCi::default()
        };
        let w = watch("0", "1");
        assert_eq!(of(&w, &[Some(both(Success, Failure)), Some(both(Failure, Failure))]), blamed("1", "0"));
        assert_eq!(
            of(&w, &[Some(both(Success, Failure)), Some(both(Success, Failure))]),
            Finding::RedBefore(vec!["lint".to_owned()])
        );
        // A check that the change itself added was never green.
        let unclear = Finding::Unclear { sha: sha("1"), checks: vec!["lint".to_owned()], commits: 1 };
        assert_eq!(of(&w, &[Some(ci(Success)), Some(both(Success, Failure))]), unclear);
    }

    #[test]
    fn what_turned_green_again_needs_no_revert() {
        let w = watch("0", "1");
        let results = |last| [Some(ci(Success)), Some(ci(Failure)), last];
        assert_eq!(of(&w, &results(None)), Finding::Read(sha("2")));
        assert_eq!(of(&w, &results(Some(ci(Success)))), Finding::Green);
        assert_eq!(of(&w, &results(Some(ci(Pending)))), blamed("1", "0"));
    }

    #[test]
    fn several_landings_without_results_are_bisected_by_starting_their_ci_again() {
        let stopped = || Some(cancelled(Some(7)));
        let results = [Some(ci(Success)), stopped(), stopped(), stopped(), Some(ci(Failure))];
        let mut w = watch("1", "2");
        let again = |name: &str| Finding::Restart(sha(name), [WorkflowRun { id: 7, attempt: 1 }].into());
        assert_eq!(of(&w, &results), again("2"), "the middle first");
        w.restarted.insert(sha("2"));
        // The middle is red: the landing before it is next, and the one after it is not to blame.
        let red = [Some(ci(Success)), stopped(), Some(ci(Failure)), stopped(), Some(ci(Failure))];
        assert_eq!(of(&w, &red), again("1"));
        assert_eq!(of(&watch("2", "3"), &red), Finding::RedBefore(vec!["test".to_owned()]));
        let found = [Some(ci(Success)), Some(ci(Success)), Some(ci(Failure)), stopped(), Some(ci(Failure))];
        assert_eq!(of(&w, &found), blamed("2", "1"));
        assert_eq!(of(&watch("0", "1"), &found), Finding::Green);
        // Nothing is left that can be started again.
        let none = [Some(ci(Success)), Some(cancelled(None)), Some(ci(Failure))];
        let unclear = Finding::Unclear { sha: sha("2"), checks: vec!["test".to_owned()], commits: 2 };
        assert_eq!(of(&watch("0", "1"), &none), unclear);
        // Nor is anything where the policy does not want it.
        let w = LandingWatch { may_restart: false, ..watch("1", "2") };
        let unclear = Finding::Unclear { sha: sha("4"), checks: vec!["test".to_owned()], commits: 4 };
        assert_eq!(of(&w, &results), unclear);
    }

    #[test]
    fn a_failed_job_counts_even_if_it_cancelled_those_beside_it() {
        let mut matrix = ci(Failure);
        matrix.cancelled.insert("test (2)".to_owned());
        assert_eq!(of(&watch("0", "1"), &[Some(ci(Success)), Some(matrix)]), blamed("1", "0"));
        let mut half = ci(Success);
        half.cancelled.insert("test (2)".to_owned());
        assert_eq!(of(&watch("0", "1"), &[Some(ci(Success)), Some(half)]), Finding::Wait);
    }

    #[test]
    fn the_own_commits_of_a_fast_forwarded_change_are_one() {
        let results = [Some(ci(Success)), Some(cancelled(Some(7))), Some(ci(Failure))];
        assert_eq!(of(&watch("0", "2"), &results), blamed("2", "0"));
    }
}
