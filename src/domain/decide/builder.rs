//! The run being changed, with the effects gathered so far.

use crate::domain::block::{Block, BlockKind};
use crate::domain::change::DiffStat;
use crate::domain::effect::{Effect, EffectRef};
use crate::domain::escalation;
use crate::domain::id::{AttemptId, BlockId, EffectKey, Sha, TaskId, Timestamp};
use crate::domain::ledger_row::Charge;
use crate::domain::order::Step;
use crate::domain::plan::TaskSpec;
use crate::domain::policy::StepLimits;
use crate::domain::run::{Facts, Phase, Run, Stopping};
use crate::domain::task::{Origin, Stage, Task};
use std::collections::BTreeSet;

use super::Decision;

/// A text cut to `max` bytes at a character.
pub(super) fn cap(text: &str, max: usize) -> String {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// A decision in the making.
pub(super) struct DecisionBuilder {
    pub run: Run,
    pub at: Timestamp,
    effects: Vec<(EffectKey, Effect)>,
    finished: Vec<EffectKey>,
    /// Attempts whose line in the books is another now.
    pub(super) charged: BTreeSet<AttemptId>,
}

impl DecisionBuilder {
    pub fn new(mut run: Run, at: Timestamp) -> Self {
        run.seq += 1;
        // What it waits for is found anew by each decision; a question whose time has passed is none any more.
        run.wait = None;
        run.blocks.retain(|b| b.until.is_none_or(|until| until > at));
        Self { run, at, effects: Vec::new(), finished: Vec::new(), charged: BTreeSet::new() }
    }

    pub fn decision(mut self) -> Decision {
        if self.held() || self.run.stopping.is_some() {
            self.run.wait = None;
        }
        let charges = self.charged.iter().filter_map(|id| Charge::of(&self.run, *id, self.at)).collect();
        Decision { run: self.run, effects: self.effects, finished: self.finished, charges }
    }

    /// Whether nothing new may start: a person paused it, or it waits for one.
    pub fn held(&self) -> bool {
        self.run.paused.is_some() || !self.run.blocks.is_empty()
    }

    /// Orders an effect.
    pub fn order(&mut self, effect: Effect) {
        let key = EffectKey(format!("{}.{}", self.run.seq, self.effects.len()));
        self.run.pending.insert(key.clone(), effect.effect_ref());
        self.effects.push((key, effect));
    }

    /// Orders an effect unless one with the same tag is pending.
    pub fn ensure(&mut self, effect: Effect) {
        if !self.run.is_pending(&effect.effect_ref()) {
            self.order(effect);
        }
    }

    /// Takes an effect out of the pending ones; `None` = it is not pending.
    pub fn finish(&mut self, key: &EffectKey) -> Option<EffectRef> {
        let tag = self.run.pending.remove(key)?;
        self.finished.push(key.clone());
        Some(tag)
    }

    /// Takes an attempt's start out of the pending effects.
    pub fn finish_start(&mut self, attempt: AttemptId) {
        let tag = EffectRef::Start(attempt);
        let key = self.run.pending.iter().find(|(_, t)| **t == tag).map(|(k, _)| k.clone());
        if let Some(key) = key {
            self.finish(&key);
        }
    }

    /// Puts a question to people, on the change too where there is one. The same question is not put twice.
    pub fn block(&mut self, kind: BlockKind, why: &str) {
        self.block_until(kind, why, None);
    }

    /// Puts a question that lifts itself at a time.
    pub fn block_until(&mut self, kind: BlockKind, why: &str, until: Option<Timestamp>) {
        let asked = self.run.last_block;
        self.put(kind, why, until);
        let Some(block) = self.run.blocks.last().filter(|_| self.run.last_block > asked) else { return };
        if let Some(change) = &self.run.change {
            let text = escalation::of(&self.run, block).markdown();
            self.order(Effect::Comment { change: change.number, text });
        }
    }

    /// Puts a question to people, not on the change.
    pub fn block_quietly(&mut self, kind: BlockKind, why: &str) {
        self.put(kind, why, None);
    }

    fn put(&mut self, kind: BlockKind, why: &str, until: Option<Timestamp>) {
        if self.run.blocks.iter().any(|b| b.kind == kind) {
            return;
        }
        self.run.last_block += 1;
        let block = Block { id: BlockId(self.run.last_block), kind, why: cap(why, 8 * 1024), since: self.at, until };
        self.run.blocks.push(block);
    }

    /// The wish to stop: what was waited for does not matter any more.
    pub fn stop(&mut self, stopping: Stopping) {
        self.run.blocks.clear();
        self.run.paused = None;
        self.run.inquiries.clear();
        self.run.stopping = Some(stopping);
    }

    /// A new head: nothing is known about it.
    pub fn set_head(&mut self, head: Sha, diff: DiffStat) {
        self.run.head = head;
        self.run.diff = diff;
        self.forget_approval();
        self.run.facts = Facts::default();
        self.run.tries.remove(&Step::Review);
        self.run.inquiries.retain(|i| i.step != Step::Review);
    }

    /// Voids the approval asked for or given: it was for another head or base.
    pub fn forget_approval(&mut self) {
        use crate::domain::block::Subject;
        self.run.facts.approved_by = None;
        self.run.blocks.retain(|b| !matches!(b.kind, BlockKind::Approval(Subject::Merge { .. })));
    }

    pub(super) fn limits_of(&self, step: Step) -> StepLimits {
        let steps = &self.run.settings.policy.steps;
        match step {
            Step::Explore => steps.explore,
            Step::Plan => steps.plan,
            Step::Develop => steps.develop,
            Step::Review => steps.review,
        }
    }

    /// Fresh tries for a step, given by a person.
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

    /// Adds a task at the end of the plan, as a new revision, and goes back to work.
    pub fn add_task(&mut self, origin: Origin, title: &str, text: &str) {
        let id = TaskId(self.run.tasks.len() as u32 + 1);
        let name = format!("rework-{}", id.0);
        let mut spec = TaskSpec {
            name,
            title: cap(title, 300),
            text: format!("{title}\n\nThe goal of the run:\n{}", cap(&self.run.goal.text, 32 * 1024)),
            needs: Vec::new(),
            paths: Vec::new(),
        };
        spec.text = cap(&spec.text, crate::domain::goal::GOAL_BYTES_MAX);
        let tries = self.limits_of(Step::Develop).tries;
        let mut task = Task::new(id, spec, origin, Stage::Ready, tries);
        task.note(origin.name(), text);
        self.run.tasks.push(task);
        self.run.plan.revision += 1;
        self.run.phase = Phase::Working;
    }

    /// Goes back to work for a failure, if a round is left; else puts the question. Says whether it went back.
    pub fn rework(&mut self, origin: Origin, title: &str, text: &str) -> bool {
        if self.run.rounds >= self.run.limits.rounds {
            let why = format!("{title}\n\n{text}");
            self.block(BlockKind::Rounds, &why);
            return false;
        }
        self.run.rounds += 1;
        self.add_task(origin, title, text);
        true
    }
}
