//! Lands changes in batches: carries out what [`LandingPlan`] says about the landings of one base branch.
//!
//! Invariant: a batch exists only in this process, and nothing is lost with it. Each of its runs has its own landing in
//! its outbox, which joins again after a restart, and the forge knows whether it has landed.

use super::begin::begin;
use super::checking::check;
use super::deps::Deps;
use super::landing_lanes::{Arrival, Joining, Lane};
use super::measurements;
use super::retry::patiently;
use crate::domain::batch::{self, Step};
use crate::domain::run::branches::landing_branch;
use crate::domain::{
    BatchProof, ChangeState, CheckResult, CheckSpec, EffectOutcome, LandingPlan, RedInBatch, Run, RunId, Sha,
};
use crate::ports::forge::{BatchMember, Landing};
use crate::ports::workspace::Moved;
use crate::ports::{Forge, PortError, PortResult, Trust};
use futures::FutureExt as _;
use futures::future::select_all;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// Upper bound on the patches that are compared. A longer one is cut, and its change lands by itself.
const MAX_PATCH_BYTES: usize = 1024 * 1024;
/// Landings in a row that the forge refuses, although nothing observed has moved, before the runs are notified.
const MAX_STALE: u32 = 3;

/// Joins the batches of a base branch, and waits for the outcome.
///
/// # Errors
/// The landing failed, or its driver ended before its outcome was known.
pub(super) async fn land(deps: &Deps, joining: Joining) -> PortResult<EffectOutcome> {
    let lane = Lane::of(&joining.target);
    let (answer, answered) = oneshot::channel();
    if deps.landing_queue.lanes().join(&lane, Arrival { joining, answer }) {
        tokio::spawn(drive(deps.clone(), lane));
    }
    answered.await.unwrap_or_else(|_| Err(PortError::transient("the merge queue was interrupted")))
}

/// Closes a lane when its driver ends, in whatever way.
struct OpenLane<'a> {
    deps: &'a Deps,
    lane: &'a Lane,
    /// False once another driver may own the lane.
    is_open: bool,
}

impl Drop for OpenLane<'_> {
    fn drop(&mut self) {
        if self.is_open {
            self.deps.landing_queue.lanes().close(self.lane);
        }
    }
}

async fn drive(deps: Deps, lane: Lane) {
    let mut open = OpenLane { deps: &deps, lane: &lane, is_open: true };
    let mut driver = Driver::new(&deps);
    loop {
        driver.admit(deps.landing_queue.lanes().take(&lane));
        match driver.plan.next() {
            Step::Wait if deps.landing_queue.lanes().close_empty(&lane) => {
                open.is_open = false;
                return;
            }
            Step::Wait => {}
            Step::Merge(runs) => driver.merge(&runs).await,
            Step::Check(runs) => driver.check(&runs).await,
            Step::Land(runs) => driver.land(&runs).await,
            Step::PutBack { run, after } => driver.put_back(run, after).await,
        }
    }
}

/// The batch of one base branch.
struct Driver<'a> {
    deps: &'a Deps,
    plan: LandingPlan,
    members: BTreeMap<RunId, Arrival>,
    /// The base of the chain.
    base: Sha,
    /// The commits of the chain, each on top of the one before it.
    chain: Vec<(RunId, Sha)>,
    /// The checks that all runs of the chain have.
    specs: Vec<CheckSpec>,
    /// What was found at commits of the chain, with the environment.
    tested: BTreeMap<Sha, (Vec<CheckResult>, Option<String>)>,
    stale: u32,
}

/// How a change fits onto a chain.
enum Link {
    /// It does: its commit there.
    Next(Sha),
    /// It waits for the next batch.
    Later,
    /// It does not land here.
    Answer(Box<EffectOutcome>),
}

impl<'a> Driver<'a> {
    fn new(deps: &'a Deps) -> Self {
        Self {
            deps,
            plan: LandingPlan::default(),
            members: BTreeMap::new(),
            base: Sha::from(""),
            chain: Vec::new(),
            specs: Vec::new(),
            tested: BTreeMap::new(),
            stale: 0,
        }
    }

    /// Takes over landings, and forgets those that nobody waits for any more.
    fn admit(&mut self, arrivals: Vec<Arrival>) {
        for arrival in arrivals {
            let (run, limit) = (arrival.joining.target.run, arrival.joining.limit);
            self.plan.left(run);
            self.plan.arrived(run, limit);
            self.members.insert(run, arrival);
        }
        let left: Vec<RunId> = self.members.values().filter(|m| has_left(m)).map(|m| m.joining.target.run).collect();
        left.into_iter().for_each(|run| self.forget(run));
    }

    fn forget(&mut self, run: RunId) {
        self.members.remove(&run);
        self.plan.left(run);
    }

    /// Ends a landing.
    fn answer(&mut self, run: RunId, answer: PortResult<EffectOutcome>) {
        if let Some(member) = self.members.remove(&run) {
            if answer.is_err() {
                // It may join again.
                member.joining.waits.store(true, Ordering::Release);
            }
            // A run that left in the meantime resumes the landing at its next start.
            let _gone = member.answer.send(answer);
        }
        self.plan.left(run);
    }

    fn fail(&mut self, runs: &[RunId], error: &PortError) {
        tracing::warn!(%error, changes = runs.len(), "a landing batch failed");
        for run in runs {
            let error = match error {
                PortError::Permanent { what, fix } => PortError::permanent(what.clone(), fix.clone()),
                PortError::Transient { what, after } => PortError::Transient { what: what.clone(), after: *after },
                PortError::Unknown { what } | PortError::Fenced { what } => PortError::Unknown { what: what.clone() },
            };
            self.answer(*run, Err(error));
        }
    }

    fn joining(&self, run: RunId) -> PortResult<Joining> {
        let member = self.members.get(&run).map(|m| m.joining.clone());
        member.ok_or_else(|| PortError::transient("the landing has left its batch"))
    }

    fn forge(&self, joining: &Joining) -> PortResult<Arc<dyn Forge>> {
        self.deps.forges.get(&joining.target.forge)
    }

    /// Builds the chain of these changes on the current base.
    async fn merge(&mut self, runs: &[RunId]) {
        (self.chain, self.specs, self.tested) = (Vec::new(), Vec::new(), BTreeMap::new());
        let fetched = match runs.first().map(|run| self.joining(*run)) {
            Some(Ok(Joining { target, .. })) => {
                let fetch = || self.deps.workspaces.fetch(&target.repo, Some(&target.base_branch));
                patiently(target.patience, fetch).await
            }
            Some(Err(error)) => Err(error),
            None => return,
        };
        match fetched {
            Ok((_, base)) => self.base = base,
            Err(error) => return self.fail(runs, &error),
        }
        for run in runs {
            match self.link(*run).await {
                Ok(Link::Next(commit)) => self.chain.push((*run, commit)),
                Ok(Link::Later) => {}
                Ok(Link::Answer(outcome)) => self.answer(*run, Ok(*outcome)),
                Err(error) => self.answer(*run, Err(error)),
            }
        }
        let is_proven = self.chain.first().is_some_and(|(run, commit)| self.is_proven(*run, commit));
        self.plan.merged(self.chain.iter().map(|(run, _)| *run).collect(), is_proven);
    }

    /// Returns whether the run itself proved this commit on the base of the chain.
    fn is_proven(&self, run: RunId, commit: &Sha) -> bool {
        self.members.get(&run).is_some_and(|m| m.joining.head == *commit && m.joining.base == self.base)
    }

    /// Reads the run of a landing, if it may still land; else returns the outcome.
    async fn still_open(&self, joining: &Joining) -> PortResult<Result<Run, EffectOutcome>> {
        let Joining { target, change, head, base, .. } = joining;
        let forge = self.forge(joining)?;
        let seen = patiently(target.patience, || forge.observe(&target.repo, *change)).await?;
        if let ChangeState::Merged { .. } = seen.state {
            // The forge knows how: by a landing whose process was killed, or by a person.
            let landing = patiently(target.patience, || forge.land(&target.repo, *change, head, base)).await?;
            return Ok(Err(match landing {
                Landing::Landed(sha) => EffectOutcome::Landed { sha, batch: None },
                Landing::LandedInBatch(sha, proof) => EffectOutcome::Landed { sha, batch: Some(proof) },
                Landing::Stale(why) => EffectOutcome::Stale { why },
            }));
        }
        let run = patiently(target.patience, || self.deps.store.load(target.run)).await?;
        let run = run.ok_or_else(|| PortError::permanent("the run is gone from the store", "run `skep verify`"))?;
        Ok(match run.shut_since(&seen) {
            Some(why) => Err(EffectOutcome::Stale { why }),
            None => Ok(run),
        })
    }

    /// Puts a change on top of the chain.
    async fn link(&mut self, id: RunId) -> PortResult<Link> {
        let joining = self.joining(id)?;
        let run = match self.still_open(&joining).await? {
            Ok(run) => run,
            Err(outcome) => return Ok(Link::Answer(Box::new(outcome))),
        };
        if self.chain.is_empty() {
            self.specs = run.settings.checks.clone();
        } else if self.specs != run.settings.checks {
            return Ok(Link::Later);
        }
        let Joining { target, head, base, .. } = &joining;
        let at = self.chain.last().map_or(&self.base, |(_, commit)| commit).clone();
        let workspaces = &self.deps.workspaces;
        let branch = landing_branch(&target.branch);
        let rebase = || workspaces.rebase(&target.repo, base, head, &at, &branch);
        let why = match patiently(target.patience, rebase).await? {
            Moved::Clean(commit) if commit == *head => return Ok(Link::Next(commit)),
            Moved::Clean(commit) => {
                let diff = |from: Sha, to: Sha| async move {
                    patiently(target.patience, || workspaces.diff(&target.repo, &from, &to)).await
                };
                let (_, proven) = diff(base.clone(), head.clone()).await?;
                let (_, moved) = diff(at.clone(), commit.clone()).await?;
                if batch::same_patch(&proven, &moved, MAX_PATCH_BYTES) {
                    return Ok(Link::Next(commit));
                }
                format!("on top of {} it is another patch than the one that was proven and approved", at.abbrev())
            }
            Moved::Conflict(paths) => format!("it conflicts with {} in {}", at.abbrev(), paths.join(", ")),
        };
        Ok(if self.chain.is_empty() {
            Link::Answer(Box::new(EffectOutcome::PutBack { why, red: None }))
        } else {
            Link::Later
        })
    }

    /// Checks the last commit of these changes.
    async fn check(&mut self, runs: &[RunId]) {
        let (Some((_, tip)), Some(Ok(first))) =
            (self.chain.get(runs.len().saturating_sub(1)).cloned(), runs.first().map(|run| self.joining(*run)))
        else {
            return self.plan.base_moved();
        };
        // A run without a landing has left.
        let Some(left) = any_left(&mut self.members, runs) else { return };
        let target = &first.target;
        let environment = self.deps.parts().checks.environment(&target.repo.project, &self.specs);
        let how = ("check-landing", Trust::Unproven);
        let checking = patiently(target.patience, || check(self.deps, target, how, &tip, &self.specs));
        let checked = tokio::select! {
            checked = checking => checked,
            () = left => return,
        };
        match checked {
            Ok((results, wall_ms)) => {
                let is_green = batch::proves(&self.specs, &results);
                tracing::info!(%tip, changes = runs.len(), is_green, wall_ms, "checked a landing batch");
                measurements::batch_check(&target.repo.project, &results);
                self.plan.checked(runs.len(), is_green);
                self.tested.insert(tip, (results, environment));
            }
            Err(error) => {
                let failed: Vec<RunId> = self
                    .chain
                    .iter()
                    .take(runs.len())
                    .filter(|(run, commit)| !self.is_proven(*run, commit))
                    .map(|(run, _)| *run)
                    .collect();
                self.fail(&failed, &error);
            }
        }
    }

    /// Lands the first changes of the chain.
    async fn land(&mut self, runs: &[RunId]) {
        let mut members = Vec::new();
        for ((run, commit), expected) in self.chain.clone().into_iter().zip(runs) {
            if run != *expected {
                return self.plan.base_moved();
            }
            match self.ready(run, &commit).await {
                Ok(Ok(member)) => members.push(member),
                Ok(Err(outcome)) => return self.answer(run, Ok(outcome)),
                Err(error) => return self.answer(run, Err(error)),
            }
        }
        if !self.claim(runs) {
            return;
        }
        match self.land_members(&members).await {
            Ok(Landing::Stale(why)) => {
                tracing::info!(why, "a landing batch is outdated");
                self.release(runs);
                self.stale += 1;
                self.plan.base_moved();
                if self.stale >= MAX_STALE {
                    runs.iter().for_each(|run| self.answer(*run, Ok(EffectOutcome::Stale { why: why.clone() })));
                }
            }
            Ok(Landing::Landed(_) | Landing::LandedInBatch(..)) => {
                self.stale = 0;
                self.plan.landed();
                let proof = self.proof(&members).map(Box::new);
                for (run, BatchMember { commit, .. }) in runs.iter().zip(members) {
                    self.base = commit.clone();
                    self.answer(*run, Ok(EffectOutcome::Landed { sha: commit, batch: proof.clone() }));
                }
                self.chain.drain(..runs.len());
            }
            Err(error) => self.fail(runs, &error),
        }
    }

    /// Prepares the landing of a change: every gate is still open, and its start is counted.
    async fn ready(&self, run: RunId, commit: &Sha) -> PortResult<Result<BatchMember, EffectOutcome>> {
        let joining = self.joining(run)?;
        if let Err(outcome) = self.still_open(&joining).await? {
            return Ok(Err(outcome));
        }
        let Joining { target, lease, key, change, head, .. } = &joining;
        begin(self.deps, lease, key, target.patience).await?;
        Ok(Ok(BatchMember { change: *change, head: head.clone(), commit: commit.clone() }))
    }

    /// Makes sure that none of these can be stopped any more. Returns false, and changes nothing, if one was.
    fn claim(&mut self, runs: &[RunId]) -> bool {
        for (at, run) in runs.iter().enumerate() {
            let waits = self.members.get(run).filter(|m| !has_left(m)).map(|m| m.joining.waits.clone());
            if !waits.is_some_and(|waits| waits.swap(false, Ordering::AcqRel)) {
                self.release(&runs[..at]);
                self.forget(*run);
                return false;
            }
        }
        true
    }

    /// Lets these be stopped again.
    fn release(&self, runs: &[RunId]) {
        for member in runs.iter().filter_map(|run| self.members.get(run)) {
            member.joining.waits.store(true, Ordering::Release);
        }
    }

    /// Returns what proved these changes; `None` = a run itself proved its only commit.
    fn proof(&self, members: &[BatchMember]) -> Option<BatchProof> {
        let tip = &members.last()?.commit;
        let (results, environment) = self.tested.get(tip)?.clone();
        // The artifacts are those of the first run.
        let results = results.into_iter().map(|r| CheckResult { artifacts: Vec::new(), ..r }).collect();
        let runs = self.chain.iter().take(members.len()).map(|(run, _)| *run).collect();
        Some(BatchProof { base: self.base.clone(), tip: tip.clone(), runs, results, environment })
    }

    async fn land_members(&self, members: &[BatchMember]) -> PortResult<Landing> {
        let (Some(member), Some((run, commit))) = (members.first(), self.chain.first()) else {
            return Ok(Landing::Stale("the batch is empty".to_owned()));
        };
        let joining = self.joining(*run)?;
        let (forge, target) = (self.forge(&joining)?, &joining.target);
        match self.proof(members) {
            Some(proof) => patiently(target.patience, || forge.land_batch(&target.repo, members, &proof)).await,
            None if members.len() == 1 && self.is_proven(*run, commit) => {
                patiently(target.patience, || forge.land(&target.repo, member.change, &member.head, &self.base)).await
            }
            None => Ok(Landing::Stale("the batch was not checked".to_owned())),
        }
    }

    /// Puts back a change that is red on top of what has just landed.
    async fn put_back(&mut self, run: RunId, after: Vec<RunId>) {
        let answer = self.red(run, after).await;
        self.answer(run, answer);
    }

    async fn red(&self, run: RunId, after: Vec<RunId>) -> PortResult<EffectOutcome> {
        let Joining { target, head, base, .. } = self.joining(run)?;
        let tested = self.chain.first().and_then(|(_, commit)| Some((commit, self.tested.get(commit)?)));
        let Some((commit, (results, environment))) = tested else {
            return Ok(EffectOutcome::PutBack { why: "its checks are red in a batch".to_owned(), red: None });
        };
        let with = match after.last() {
            None => String::new(),
            Some(last) => format!(", which run {} has just landed", last.abbrev()),
        };
        let red: Vec<&str> = results.iter().filter(|r| !r.green).map(|r| r.name.as_str()).collect();
        let why = format!(
            "its checks are red on top of {}{with} ({})",
            self.base.abbrev(),
            if red.is_empty() { "none ran".to_owned() } else { red.join(", ") }
        );
        let workspaces = &self.deps.workspaces;
        let rebase = || workspaces.rebase(&target.repo, &base, &head, &self.base, &target.branch);
        let moved = patiently(target.patience, rebase).await?;
        let is_same = matches!(&moved, Moved::Clean(moved) if moved == commit);
        if !is_same {
            return Ok(EffectOutcome::PutBack { why, red: None });
        }
        let diff = || workspaces.diff(&target.repo, &self.base, commit);
        let (diff, _) = patiently(target.patience, diff).await?;
        // The artifacts are those of the first run of the batch.
        let results = results.iter().map(|r| CheckResult { artifacts: Vec::new(), ..r.clone() }).collect();
        let red = RedInBatch {
            base: self.base.clone(),
            head: commit.clone(),
            diff,
            runs: after,
            results,
            environment: environment.clone(),
        };
        Ok(EffectOutcome::PutBack { why, red: Some(Box::new(red)) })
    }
}

/// Returns what waits until one of these runs leaves; `None` if one of them has no landing.
fn any_left<'a>(members: &'a mut BTreeMap<RunId, Arrival>, runs: &[RunId]) -> Option<impl Future<Output = ()> + 'a> {
    let waited: Vec<_> = members
        .iter_mut()
        .filter(|(run, _)| runs.contains(run))
        .map(|(_, member)| Box::pin(member.answer.closed()))
        .collect();
    (!waited.is_empty() && waited.len() == runs.len()).then(|| select_all(waited).map(|_| ()))
}

/// Returns whether nobody waits for the answer any more: the landing was stopped, or its actor ended.
fn has_left(member: &Arrival) -> bool {
    member.answer.is_closed()
}
