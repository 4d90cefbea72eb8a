//! Derives the outcomes of a run from its events.

use super::{Evidence, OutcomeRow, OutcomeWord};
use crate::domain::attempt::{Attempt, Ending};
use crate::domain::block::{Answer, BlockKind, Subject};
use crate::domain::check::Scope;
use crate::domain::effect::EffectRef;
use crate::domain::event::Event;
use crate::domain::id::{AttemptId, TaskId, Timestamp};
use crate::domain::order::Step;
use crate::domain::report::{Report, Verdict};
use crate::domain::run::{Outcome, Run};
use crate::domain::task::{Origin, Stage};
use std::collections::{BTreeMap, BTreeSet};

/// Rounds of rework with which a change still counts as landed in time.
const MAX_ROUNDS_IN_TIME: u32 = 1;

/// Number and time of an event.
type Mark = (u64, Timestamp);

/// A review that requested changes.
#[derive(Clone, Debug)]
struct Requested {
    review: AttemptId,
    /// The files that its findings name.
    paths: BTreeSet<String>,
    /// The task that works on it.
    task: Option<TaskId>,
    /// The event that reported a change to one of the files.
    addressed: Option<Mark>,
}

/// What the events of a run have proven so far.
#[derive(Clone, Debug, Default)]
pub struct OutcomeReader {
    /// Words of attempts, with the first event that proves each.
    words: BTreeMap<(AttemptId, OutcomeWord), Mark>,
    /// The develop attempts whose work is in the run's head, by task.
    in_head: BTreeMap<TaskId, AttemptId>,
    requested: Vec<Requested>,
    /// Why a person gave the run up: whether because of the work.
    given_up: Option<(bool, Mark)>,
    /// The last event.
    last: Mark,
}

impl OutcomeReader {
    /// Reads the event that led from one state to the next.
    pub fn read(&mut self, before: &Run, event: &Event, after: &Run, at: Timestamp) {
        let mark = (after.seq, at);
        self.last = mark;
        self.ended_attempts(before, after, mark);
        match event {
            Event::Reported(reported) => match &reported.report {
                Report::Reviewed { verdict, findings, .. } if succeeded(after, reported.attempt) => {
                    let unmet = after.facts.review.as_ref().is_some_and(|r| r.verdict == Verdict::Rework);
                    if unmet || *verdict == Verdict::Rework {
                        let paths = findings.iter().map(|f| f.path.clone()).filter(|p| !p.is_empty()).collect();
                        self.requested.push(Requested { review: reported.attempt, paths, task: None, addressed: None });
                    }
                }
                Report::Developed { diff, .. } if succeeded(after, reported.attempt) => {
                    let task = after.attempt(reported.attempt).and_then(|a| a.task);
                    for request in self.requested.iter_mut().filter(|r| r.task.is_some() && r.task == task) {
                        let is_named = diff.paths().any(|path| request.paths.contains(path));
                        request.addressed = is_named.then_some(mark);
                    }
                }
                _ => {}
            },
            Event::EffectFinished { key, .. } => match before.pending.get(key) {
                Some(EffectRef::Check(Scope::Task(task), _)) => self.checked(*task, before, after, mark),
                Some(EffectRef::Integrate(task, _)) if stage(after, *task) == Some(Stage::Integrated) => {
                    if let Some(attempt) = developer(after, *task) {
                        self.in_head.insert(*task, attempt);
                    }
                }
                _ => {}
            },
            Event::Answered { block, answer: Answer::No { .. }, .. } => {
                let block = block.map_or_else(|| before.blocks.first(), |id| before.block(id));
                if let Some(block) = block {
                    self.declined(&block.kind, before, after, mark);
                }
            }
            _ => {}
        }
        self.new_tasks(before, event, after, mark);
        if after.head != before.head && after.diff.is_empty() {
            // The work is done again, on another base.
            self.in_head.clear();
        }
        if before.outcome.is_none()
            && matches!(after.outcome, Some(Outcome::Delivered { .. }))
            && let Some(review) = before.facts.review.as_ref().filter(|r| r.verdict == Verdict::Rework)
        {
            self.prove(review.attempt, OutcomeWord::Refuted, mark);
        }
    }

    fn prove(&mut self, attempt: AttemptId, word: OutcomeWord, mark: Mark) {
        self.words.entry((attempt, word)).or_insert(mark);
    }

    fn ended_attempts(&mut self, before: &Run, after: &Run, mark: Mark) {
        let is_new = |id: AttemptId| before.attempt(id).is_none_or(|a| a.live());
        let failed = after.attempts.iter().filter(|a| a.ended.as_ref().is_some_and(|e| e.ending == Ending::Failed));
        for attempt in failed.filter(|a| is_new(a.id)) {
            self.prove(attempt.id, OutcomeWord::Unusable, mark);
        }
    }

    /// Records red checks of a task, if they sent it back to work.
    fn checked(&mut self, task: TaskId, before: &Run, after: &Run, mark: Mark) {
        let was_judged = stage(before, task) == Some(Stage::Checking);
        let is_redone = matches!(stage(after, task), Some(Stage::Ready | Stage::Developing));
        if was_judged
            && is_redone
            && let Some(attempt) = developer(before, task)
        {
            self.prove(attempt, OutcomeWord::Red, mark);
        }
    }

    fn declined(&mut self, kind: &BlockKind, before: &Run, after: &Run, mark: Mark) {
        if matches!(kind, BlockKind::Approval(Subject::Merge { .. })) {
            self.missed(before, mark);
        }
        let is_over = after.stopping.as_ref().is_some_and(|s| s.failed) && before.stopping.is_none();
        if is_over {
            self.given_up = Some((is_about_the_work(kind), mark));
        }
    }

    /// Records the review of the head as one that missed something.
    fn missed(&mut self, run: &Run, mark: Mark) {
        if let Some(review) = run.facts.review.as_ref().filter(|r| r.verdict == Verdict::Approve) {
            self.prove(review.attempt, OutcomeWord::Missed, mark);
        }
    }

    /// Relates new tasks to the review that they follow from.
    fn new_tasks(&mut self, before: &Run, event: &Event, after: &Run, mark: Mark) {
        for task in after.tasks.iter().filter(|t| before.task(t.id).is_none()) {
            match task.origin {
                Origin::Review => {
                    if let Some(last) = self.requested.last_mut().filter(|r| r.task.is_none()) {
                        last.task = Some(task.id);
                    }
                }
                // A person's answer to another question does not judge the review; a declined merge is handled above.
                Origin::Status | Origin::Person if !matches!(event, Event::Answered { .. }) => {
                    self.missed(before, mark);
                }
                _ => {}
            }
        }
    }

    /// Returns the outcomes in the order of attempts and words. A run that has not ended has none.
    pub fn outcomes(mut self, run: &Run) -> Vec<OutcomeRow> {
        if !run.ended() {
            return Vec::new();
        }
        let last = Evidence::Event(self.last.0);
        let (word, evidence, at) = match (&run.outcome, self.given_up) {
            (Some(Outcome::Delivered { sha }), _) if run.rounds <= MAX_ROUNDS_IN_TIME => {
                (OutcomeWord::Landed, Evidence::Commit(sha.clone()), self.last.1)
            }
            (Some(Outcome::Delivered { sha }), _) => {
                (OutcomeWord::LandedLate, Evidence::Commit(sha.clone()), self.last.1)
            }
            (Some(Outcome::Failed { .. }), Some((true, (seq, at)))) => {
                (OutcomeWord::Unlanded, Evidence::Event(seq), at)
            }
            _ => (OutcomeWord::Void, last, self.last.1),
        };
        let mut rows = vec![OutcomeRow::of_run(run, word, evidence.clone(), at)];
        if word != OutcomeWord::Void {
            let plan = run.attempts.iter().rev().find(|a| a.step == Step::Plan && succeeded(run, a.id)).map(|a| a.id);
            let carriers = plan.into_iter().chain(self.in_head.values().copied());
            rows.extend(carriers.filter_map(|id| OutcomeRow::of_attempt(run, id, word, evidence.clone(), at)));
        }
        if matches!(word, OutcomeWord::Landed | OutcomeWord::LandedLate) {
            for request in std::mem::take(&mut self.requested) {
                let is_used = request.task.is_some_and(|task| self.in_head.contains_key(&task));
                if let Some(mark) = request.addressed.filter(|_| is_used) {
                    self.prove(request.review, OutcomeWord::Confirmed, mark);
                }
            }
        }
        let of_attempts = self
            .words
            .iter()
            .filter_map(|((id, word), (seq, at))| OutcomeRow::of_attempt(run, *id, *word, Evidence::Event(*seq), *at));
        rows.extend(of_attempts);
        rows.sort_by_key(|row| (row.attempt, row.word));
        rows
    }
}

fn stage(run: &Run, task: TaskId) -> Option<Stage> {
    run.task(task).map(|t| t.stage)
}

fn succeeded(run: &Run, id: AttemptId) -> bool {
    run.attempt(id).and_then(|a| a.ended.as_ref()).is_some_and(|e| e.ending == Ending::Succeeded)
}

/// Returns the attempt that did a task's present work.
fn developer(run: &Run, task: TaskId) -> Option<AttemptId> {
    let of_task = |a: &&Attempt| a.task == Some(task) && a.step == Step::Develop;
    run.attempts.iter().rev().filter(of_task).map(|a| a.id).find(|id| succeeded(run, *id))
}

/// Returns whether a run that is given up at such a question fails because of its work.
fn is_about_the_work(kind: &BlockKind) -> bool {
    match kind {
        BlockKind::Approval(_)
        | BlockKind::Tries { .. }
        | BlockKind::StepTime { .. }
        | BlockKind::Rounds
        | BlockKind::NothingChanged
        | BlockKind::Ci { .. }
        | BlockKind::ChangeClosed
        | BlockKind::SecretFound { .. } => true,
        BlockKind::Environment { .. }
        | BlockKind::Budget(_)
        | BlockKind::SharedBudget { .. }
        | BlockKind::Engine { .. }
        | BlockKind::Question { .. }
        | BlockKind::Effect(_)
        | BlockKind::ForeignPush { .. } => false,
    }
}
