//! The run being changed, with the effects gathered so far.

use crate::domain::block::{Block, BlockKind, Subject};
use crate::domain::change::DiffStat;
use crate::domain::effect::{CommentSubject, Effect, EffectRef};
use crate::domain::goal::MAX_GOAL_BYTES;
use crate::domain::id::{AttemptId, BlockId, EffectKey, Sha, TaskId, Timestamp};
use crate::domain::ledger_row::LedgerRow;
use crate::domain::order::Step;
use crate::domain::plan::TaskSpec;
use crate::domain::policy::StepLimits;
use crate::domain::run::{Facts, Phase, Run, Stopping};
use crate::domain::task::{Origin, Stage, Task};
use std::collections::BTreeSet;

use super::Decision;

/// Returns the text cut to at most `max` bytes, at a character boundary.
pub(super) fn cap(text: &str, max: usize) -> String {
    text[..text.floor_char_boundary(max)].to_owned()
}

/// A decision in progress.
pub(super) struct DecisionBuilder {
    pub run: Run,
    pub at: Timestamp,
    effects: Vec<(EffectKey, Effect)>,
    finished: Vec<EffectKey>,
    /// Attempts whose ledger row changed.
    pub(super) charged: BTreeSet<AttemptId>,
}

impl DecisionBuilder {
    pub fn new(mut run: Run, at: Timestamp) -> Self {
        run.seq += 1;
        // Each decision recomputes what the run waits for. A block whose time has passed is lifted.
        run.wait = None;
        run.blocks.retain(|b| b.until.is_none_or(|until| until > at));
        Self { run, at, effects: Vec::new(), finished: Vec::new(), charged: BTreeSet::new() }
    }

    pub fn decision(mut self) -> Decision {
        if self.held() || self.run.stopping.is_some() {
            self.run.wait = None;
        }
        let ledger_rows = self.charged.iter().filter_map(|id| LedgerRow::of(&self.run, *id, self.at)).collect();
        Decision { run: self.run, effects: self.effects, finished: self.finished, ledger_rows }
    }

    /// Returns whether nothing new may start: the run is paused or blocked.
    pub fn held(&self) -> bool {
        self.run.paused.is_some() || !self.run.blocks.is_empty()
    }

    /// Orders an effect.
    pub fn order(&mut self, effect: Effect) {
        let key = EffectKey(format!("{}.{}", self.run.seq, self.effects.len()));
        self.run.pending.insert(key.clone(), effect.effect_ref());
        self.effects.push((key, effect));
    }

    /// Orders an effect unless the same one is pending.
    pub fn ensure(&mut self, effect: Effect) {
        if !self.run.is_pending(&effect.effect_ref()) {
            self.order(effect);
        }
    }

    /// Removes an effect from the pending ones; `None` = it is not pending.
    pub fn finish(&mut self, key: &EffectKey) -> Option<EffectRef> {
        let effect = self.run.pending.remove(key)?;
        self.finished.push(key.clone());
        Some(effect)
    }

    /// Removes an attempt's start from the pending effects.
    pub fn finish_start(&mut self, attempt: AttemptId) {
        let start = EffectRef::Start(attempt);
        let key = self.run.pending.iter().find(|(_, effect)| **effect == start).map(|(key, _)| key.clone());
        if let Some(key) = key {
            self.finish(&key);
        }
    }

    /// Raises a block, and comments on the change if there is one.
    pub fn block(&mut self, kind: BlockKind, why: &str) {
        self.raise(self.new_block(kind, why));
    }

    /// Returns a block to raise.
    pub fn new_block(&self, kind: BlockKind, why: &str) -> Block {
        Block {
            id: BlockId(self.run.last_block + 1),
            kind,
            why: cap(why, Block::MAX_WHY_BYTES),
            fix: None,
            levels: Vec::new(),
            spending: Vec::new(),
            since: self.at,
            until: None,
        }
    }

    /// Raises a block, and comments on the change if there is one.
    pub fn raise(&mut self, block: Block) {
        if !self.raise_quietly(block.clone()) {
            return;
        }
        if let Some(change) = self.run.change.as_ref().map(|c| c.number) {
            self.order(Effect::Comment { change, thread: None, about: CommentSubject::Escalation(Box::new(block)) });
        }
    }

    /// Raises a block without a comment. Returns false if the same block is already open.
    pub fn raise_quietly(&mut self, block: Block) -> bool {
        if self.run.blocks.iter().any(|b| b.kind == block.kind) {
            return false;
        }
        self.run.last_block += 1;
        self.run.blocks.push(block);
        true
    }

    /// Records the request to stop. What the run waited for no longer matters.
    pub fn stop(&mut self, stopping: Stopping) {
        self.run.blocks.clear();
        self.run.paused = None;
        self.run.inquiries.clear();
        self.run.stopping = Some(stopping);
    }

    /// Sets a new head, about which nothing is known.
    pub fn set_head(&mut self, head: Sha, diff: DiffStat) {
        self.run.head = head;
        self.run.diff = diff;
        self.forget_approval();
        self.run.facts = Facts::default();
        self.run.tries.remove(&Step::Review);
        self.run.inquiries.retain(|i| i.step != Step::Review);
    }

    /// Voids the approval of the merge, given or requested: it was for another head or base.
    pub fn forget_approval(&mut self) {
        self.run.facts.approved_by = None;
        self.run.blocks.retain(|b| !matches!(b.kind, BlockKind::Approval(Subject::Merge { .. })));
    }

    pub(super) fn limits_of(&self, step: Step) -> StepLimits {
        let steps = &self.run.settings.policy.steps;
        let limits = match step {
            Step::Explore => steps.explore,
            Step::Plan => steps.plan,
            Step::Develop => steps.develop,
            Step::Review => steps.review,
        };
        let more = self.run.step_time.get(&step).copied().unwrap_or_default();
        StepLimits { timeout_secs: limits.timeout_secs.saturating_add(more), ..limits }
    }

    /// Grants a step a fresh set of tries.
    pub fn more_tries(&mut self, step: Step, task: Option<TaskId>) {
        let fresh = self.limits_of(step).tries;
        match task.and_then(|t| self.run.task_mut(t)) {
            Some(task) => {
                task.tries_allowed = task.tries.saturating_add(fresh);
                task.losses = 0;
            }
            None => {
                let tries = self.run.tries.entry(step).or_default();
                tries.extra = tries.used;
                tries.losses = 0;
            }
        }
    }

    /// Adds a task at the end of the plan, as a new revision, and returns to work. Each text is a note for its attempts.
    pub fn add_task(&mut self, origin: Origin, title: &str, texts: &[impl AsRef<str>]) {
        let id = TaskId(self.run.tasks.len() as u32 + 1);
        let name = format!("rework-{}", id.0);
        let mut spec = TaskSpec {
            name,
            title: cap(title, 300),
            text: format!("{title}\n\nThe goal of the run:\n{}", cap(&self.run.goal.text, 32 * 1024)),
            needs: Vec::new(),
            paths: Vec::new(),
        };
        spec.text = cap(&spec.text, MAX_GOAL_BYTES);
        let tries = self.limits_of(Step::Develop).tries;
        let mut task = Task::new(id, spec, origin, Stage::Ready, tries);
        texts.iter().for_each(|text| task.note(origin.note_source(), text.as_ref()));
        self.run.tasks.push(task);
        self.run.plan.revision += 1;
        self.run.phase = Phase::Working;
    }

    /// Returns to work after a failure if a round is left, else raises a block. Returns whether it returned to work.
    pub fn rework(&mut self, origin: Origin, title: &str, texts: &[impl AsRef<str>]) -> bool {
        if self.run.rounds >= self.run.limits.rounds {
            let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
            let why = format!("{title}\n\n{}", texts.join("\n"));
            self.block(BlockKind::Rounds, &why);
            return false;
        }
        self.run.rounds += 1;
        self.add_task(origin, title, texts);
        true
    }
}
