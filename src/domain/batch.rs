//! The landing of several changes at once: which set of them is checked, landed or put back next.
//!
//! The changes wait in the order of their arrival. The first of them form a chain, each on top of the one before it,
//! and the end of the chain is checked once. If it is red, bisection finds the shortest red prefix: everything before
//! its last change lands, and that change is put back.
//!
//! Invariant: a set lands only if exactly this set, on exactly this base, was checked and green, or if it is a single
//! change on the base that it was proven on.

use crate::domain::change::check::{self, CheckResult, CheckSpec};
use crate::domain::change::{DiffStat, Observation};
use crate::domain::gate;
use crate::domain::id::{RunId, Sha};
use crate::domain::run::Run;
use serde::{Deserialize, Serialize};

/// Upper bound on `policy.landing_batch`.
pub const MAX_BATCH: u32 = 32;

/// What proved changes that landed at once: the checks of the last commit of their chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchProof {
    /// The commit of the base branch that the chain starts from.
    pub base: Sha,
    /// The checked commit: all of the changes, one after the other.
    pub tip: Sha,
    /// The runs of the changes, in this order.
    pub runs: Vec<RunId>,
    /// The check results at `tip`. Their artifacts belong to the first run.
    pub results: Vec<CheckResult>,
    /// Digest of the environment of the checks; `None` = unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
}

/// A change that is red on top of the changes before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedInBatch {
    /// The commit of the base branch that the change was moved onto.
    pub base: Sha,
    /// The change on top of it: the checked commit.
    pub head: Sha,
    /// The diff from `base` to `head`.
    pub diff: DiffStat,
    /// The runs whose changes landed just before, and together with which it is red.
    pub runs: Vec<RunId>,
    /// The check results at `head`.
    pub results: Vec<CheckResult>,
    /// Digest of the environment of the checks; `None` = unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
}

impl Run {
    /// Returns how many changes may land together with this one. 1 = it lands alone, on the base that it was proven on.
    ///
    /// A batch is proven by Skep's own checks, all of them green. So a change lands alone if a person accepted a red
    /// check, or if CI reports on it.
    pub fn landing_batch(&self) -> u32 {
        let is_green = self.facts.results.iter().flatten().all(|r| r.green);
        let has_ci = !self.settings.policy.required_statuses.is_empty()
            || self.facts.observed.iter().any(|o| !o.statuses.is_empty() || !o.required.is_empty());
        let joins = self.settings.forge.is_local() && is_green && !has_ci && !self.facts.put_back;
        if joins { self.settings.policy.landing_batch.clamp(1, MAX_BATCH) } else { 1 }
    }

    /// Returns why the change may not land any more, although its landing was ordered; `None` = every gate is still
    /// open.
    pub fn shut_since(&self, seen: &Observation) -> Option<String> {
        if self.paused.is_some() || !self.blocks.is_empty() {
            return Some("the run is held".to_owned());
        }
        let mut now = self.clone();
        now.facts.observed = Some(self.unread(seen));
        let shut = gate::all(&now).into_iter().find(|(_, gate)| !gate.is_open());
        shut.map(|(name, gate)| match gate {
            gate::Gate::Shut(why) | gate::Gate::Wait(why) => why,
            gate::Gate::Open => name.to_owned(),
        })
    }
}

/// Returns whether results prove the changes of a batch: every check ran, and every one is green.
pub fn proves(checks: &[CheckSpec], results: &[CheckResult]) -> bool {
    check::proves(checks, results, |_| false)
}

/// Returns whether two patches change the same lines, in the same surroundings: the condition under which an approval
/// of one holds for the other. Line numbers may differ. A patch of `max_bytes` may be cut, and is like no other.
pub fn same_patch(one: &[u8], other: &[u8], max_bytes: usize) -> bool {
    one.len() < max_bytes && other.len() < max_bytes && essence(one) == essence(other)
}

/// Returns the lines of a patch without the positions of its hunks and, where it shows the content, without object ids.
fn essence(patch: &[u8]) -> Vec<&[u8]> {
    let lines: Vec<&[u8]> = patch.split(|b| *b == b'\n').collect();
    let is_text = |at: usize| lines.get(at + 1).is_some_and(|next| next.starts_with(b"--- "));
    let kept = lines.iter().enumerate().filter(|(at, line)| !(line.starts_with(b"index ") && is_text(*at)));
    kept.map(|(_, line)| if line.starts_with(b"@@ ") { &b"@@"[..] } else { line }).collect()
}

/// What to do next. The sets are in landing order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Wait for a change.
    Wait,
    /// Put these changes on top of each other on the current base, and report those that go with the ones before them.
    Merge(Vec<RunId>),
    /// Check the last commit of these.
    Check(Vec<RunId>),
    /// Land these.
    Land(Vec<RunId>),
    /// Return this change to its run: it is red on top of `after`, which have landed.
    PutBack {
        /// The run.
        run: RunId,
        /// Runs whose changes landed just before.
        after: Vec<RunId>,
    },
}

/// The changes that wait to land on one base branch.
#[derive(Clone, Debug, Default)]
pub struct LandingPlan {
    /// Every change, in order, with its limit on the size of a batch. Those of the chain are among them.
    waiting: Vec<(RunId, u32)>,
    chain: Option<Chain>,
}

/// Changes on top of each other, on a base that has not moved.
#[derive(Clone, Debug)]
struct Chain {
    runs: Vec<RunId>,
    /// The changes of this batch that landed before them.
    after: Vec<RunId>,
    /// Length of the longest prefix known to be green.
    green: usize,
    /// Length of the shortest prefix known to be red.
    red: Option<usize>,
}

impl LandingPlan {
    /// Adds a change at the end.
    pub fn arrived(&mut self, run: RunId, limit: u32) {
        self.waiting.push((run, limit));
    }

    /// Removes a change, because it no longer lands, or has landed elsewhere.
    pub fn left(&mut self, run: RunId) {
        self.waiting.retain(|(other, _)| *other != run);
        if self.chain.as_ref().is_some_and(|chain| chain.runs.contains(&run)) {
            self.chain = None;
        }
    }

    /// Returns what to do next.
    pub fn next(&self) -> Step {
        let Some(Chain { runs, after, green, red }) = &self.chain else {
            let limit = |at: usize| self.waiting[..=at].iter().map(|(_, limit)| *limit as usize).min();
            let fits = |at: &usize| limit(*at).is_some_and(|limit| *at < limit.max(1));
            let candidates: Vec<RunId> =
                (0..self.waiting.len()).take_while(fits).map(|at| self.waiting[at].0).collect();
            return if candidates.is_empty() { Step::Wait } else { Step::Merge(candidates) };
        };
        let prefix = |length: usize| runs[..length].to_vec();
        match *red {
            None if *green == runs.len() => Step::Land(prefix(*green)),
            None => Step::Check(prefix(runs.len())),
            Some(red) if red > green + 1 => Step::Check(prefix((green + red) / 2)),
            Some(_) if *green > 0 => Step::Land(prefix(*green)),
            Some(_) => Step::PutBack { run: runs[0], after: after.clone() },
        }
    }

    /// Records the chain that [`Step::Merge`] led to. `proven` = its first change is on the base that it was proven on.
    /// The others stay for the next batch.
    pub fn merged(&mut self, runs: Vec<RunId>, proven: bool) {
        let green = usize::from(proven);
        self.chain = (!runs.is_empty()).then_some(Chain { runs, after: Vec::new(), green, red: None });
    }

    /// Records the result of [`Step::Check`] for a prefix of the chain.
    pub fn checked(&mut self, length: usize, is_green: bool) {
        let Some(chain) = &mut self.chain else { return };
        if is_green {
            chain.green = chain.green.max(length);
        } else {
            chain.red = Some(chain.red.map_or(length, |red| red.min(length)));
        }
    }

    /// Records that [`Step::Land`] was carried out.
    pub fn landed(&mut self) {
        let Some(mut chain) = self.chain.take() else { return };
        let landed: Vec<RunId> = chain.runs.drain(..chain.green).collect();
        self.waiting.retain(|(run, _)| !landed.contains(run));
        // The rest already stands on the new base. Without a red prefix there is no rest.
        if let Some(red) = chain.red.filter(|_| !chain.runs.is_empty()) {
            let red = Some(red - landed.len());
            self.chain = Some(Chain { after: landed, green: 0, red, runs: chain.runs });
        }
    }

    /// Records that the base branch moved, or may have: what is known about the chain does not count any more.
    pub fn base_moved(&mut self) {
        self.chain = None;
    }
}

#[cfg(test)]
mod tests;
