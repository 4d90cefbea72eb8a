//! The run being changed, with the effects gathered so far.

use crate::domain::attempt::Attempt;
use crate::domain::block::{Block, BlockKind};
use crate::domain::budget::Usage;
use crate::domain::change::DiffStat;
use crate::domain::effect::{Effect, Tag};
use crate::domain::id::{At, AttemptId, BlockId, EffectKey, Sha, TaskId};
use crate::domain::order::{Note, Order, Step, TaskOrder};
use crate::domain::plan::TaskSpec;
use crate::domain::policy::StepLimits;
use crate::domain::run::{Facts, Run, Stopping};
use crate::domain::task::{Origin, Stage, Task};
use crate::domain::{describe, escalation};

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
pub(super) struct Draft {
    pub run: Run,
    pub at: At,
    effects: Vec<(EffectKey, Effect)>,
    finished: Vec<EffectKey>,
}

impl Draft {
    pub fn new(mut run: Run, at: At) -> Self {
        run.seq += 1;
        Self { run, at, effects: Vec::new(), finished: Vec::new() }
    }

    pub fn decision(self) -> Decision {
        Decision { run: self.run, effects: self.effects, finished: self.finished }
    }

    /// Whether nothing new may start: a person paused it, or it waits for one.
    pub fn held(&self) -> bool {
        self.run.paused.is_some() || !self.run.blocks.is_empty()
    }

    /// Orders an effect.
    pub fn order(&mut self, effect: Effect) {
        let key = EffectKey(format!("{}.{}", self.run.seq, self.effects.len()));
        self.run.pending.insert(key.clone(), effect.tag());
        self.effects.push((key, effect));
    }

    /// Orders an effect unless one with the same tag is pending.
    pub fn ensure(&mut self, effect: Effect) {
        if !self.run.is_pending(&effect.tag()) {
            self.order(effect);
        }
    }

    /// Takes an effect out of the pending ones; `None` = it is not pending.
    pub fn finish(&mut self, key: &EffectKey) -> Option<Tag> {
        let tag = self.run.pending.remove(key)?;
        self.finished.push(key.clone());
        Some(tag)
    }

    /// Takes an attempt's start out of the pending effects.
    pub fn finish_start(&mut self, attempt: AttemptId) {
        let tag = Tag::Start(attempt);
        let key = self.run.pending.iter().find(|(_, t)| **t == tag).map(|(k, _)| k.clone());
        if let Some(key) = key {
            self.finish(&key);
        }
    }

    /// Puts a question to people, on the change too where there is one. The same question is not put twice.
    pub fn block(&mut self, kind: BlockKind, why: &str) {
        let asked = self.run.last_block;
        self.block_quietly(kind, why);
        let Some(block) = self.run.blocks.last().filter(|_| self.run.last_block > asked) else { return };
        if let Some(change) = &self.run.change {
            let text = escalation::of(&self.run, block).markdown();
            self.order(Effect::Comment { change: change.number, text });
        }
    }

    /// Puts a question to people, not on the change.
    pub fn block_quietly(&mut self, kind: BlockKind, why: &str) {
        if self.run.blocks.iter().any(|b| b.kind == kind) {
            return;
        }
        self.run.last_block += 1;
        let block = Block { id: BlockId(self.run.last_block), kind, why: cap(why, 8 * 1024), since: self.at };
        self.run.blocks.push(block);
    }

    /// The wish to stop: what was waited for does not matter any more.
    pub fn stop(&mut self, stopping: Stopping) {
        self.run.blocks.clear();
        self.run.paused = None;
        self.run.stopping = Some(stopping);
    }

    /// A new head: nothing is known about it.
    pub fn set_head(&mut self, head: Sha, diff: DiffStat) {
        self.run.head = head;
        self.run.diff = diff;
        self.forget_approval();
        self.run.facts = Facts::default();
        self.run.tries.remove(&Step::Review);
    }

    /// Voids the approval asked for or given: it was for another head or base.
    pub fn forget_approval(&mut self) {
        use crate::domain::block::Subject;
        self.run.facts.approved_by = None;
        self.run.blocks.retain(|b| !matches!(b.kind, BlockKind::Approval(Subject::Merge { .. })));
    }

    fn limits_of(&self, step: Step) -> StepLimits {
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

    /// Starts an attempt, if tries, attempts and the budget allow; else puts the question.
    pub fn start(&mut self, step: Step, task: Option<TaskId>) {
        let limits = self.limits_of(step);
        let (used, allowed, losses) = match task.and_then(|t| self.run.task(t)) {
            Some(t) => (t.tries, t.tries_allowed, t.losses),
            None => {
                let tries = self.run.tries.get(&step).copied().unwrap_or_default();
                (tries.used, limits.tries + tries.extra, tries.losses)
            }
        };
        if losses >= self.run.settings.policy.max_losses {
            let why = format!("the {} step was lost {losses} times in a row with its process", step.name());
            return self.block(BlockKind::Tries { step, task }, &why);
        }
        if used >= allowed {
            let why = self.last_failure(step, task);
            return self.block(BlockKind::Tries { step, task }, &why);
        }
        if self.run.attempts.len() >= self.run.limits.attempts as usize {
            let why = format!("the run has used its {} attempts", self.run.limits.attempts);
            return self.block(BlockKind::Budget { what: "attempts".to_owned() }, &why);
        }
        match self.run.ledger.grant(&limits, &self.run.limits) {
            Ok(caps) => self.begin(step, task, caps, used + 1),
            // Set aside is not spent: what the attempts at work leave over comes back, and then this is asked again.
            Err(_) if !self.run.ledger.reserved.is_empty() => {}
            Err(what) => self.out_of(what),
        }
    }

    /// Puts the question for more of `what`.
    pub fn out_of(&mut self, what: &str) {
        let why = describe::spending(&self.run, what);
        self.block(BlockKind::Budget { what: what.to_owned() }, &why);
    }

    fn last_failure(&self, step: Step, task: Option<TaskId>) -> String {
        let noted = task.and_then(|t| self.run.task(t)).and_then(|t| t.notes.last()).map(|n| n.text.clone());
        let said = || {
            let last = self.run.attempts.iter().rev().find(|a| a.step == step && a.task == task);
            last.and_then(|a| a.ended.as_ref()).map(|e| e.why.clone())
        };
        noted.or_else(said).unwrap_or_else(|| "every try was used".to_owned())
    }

    fn begin(&mut self, step: Step, task: Option<TaskId>, caps: Usage, try_number: u32) {
        let id = AttemptId(self.run.attempts.len() as u32 + 1);
        let Some(engine) = self.run.settings.engines.get(&step.role()).cloned() else {
            // `open` has checked this; a snapshot that lost it is a person's matter, not a panic.
            let why = format!("no engine is set for the role {}", step.role().name());
            return self.block(BlockKind::Act { act: "start".to_owned() }, &why);
        };
        let head = self.run.head.clone();
        let task_order = task.and_then(|t| self.run.task_mut(t)).map(|t| {
            t.stage = Stage::Developing;
            t.tries += 1;
            t.base = Some(head.clone());
            t.head = None;
            (TaskOrder { id: t.id, spec: t.spec.clone() }, t.notes.clone())
        });
        let (task_order, notes) = match task_order {
            Some((order, notes)) => {
                // Why a plan was refused is the manager's alone; answers and findings are everybody's.
                let shared = self.run.notes.iter().filter(|n| n.from != "refused").cloned();
                (Some(order), shared.chain(notes).collect())
            }
            None => {
                self.run.tries.entry(step).or_default().used += 1;
                let mine = |n: &&Note| step == Step::Plan || n.from != "refused";
                (None, self.run.notes.iter().filter(mine).cloned().collect())
            }
        };
        let review = step == Step::Review;
        let concerns = if review { self.run.concerns().iter().map(|c| c.words()).collect() } else { Vec::new() };
        let order = Order {
            run: self.run.id,
            attempt: id,
            try_number,
            round: self.run.rounds + 1,
            step,
            engine: engine.clone(),
            goal: self.run.goal.text.clone(),
            task: task_order,
            head,
            base: self.run.base.clone(),
            notes,
            checks: self.run.settings.checks.clone(),
            results: if review { self.run.facts.results.clone().unwrap_or_default() } else { Vec::new() },
            diff: if review { self.run.diff.clone() } else { DiffStat::default() },
            concerns,
            bounds: self.run.settings.policy.bounds(),
            caps,
        };
        self.run.ledger.reserve(id, caps);
        self.run.attempts.push(Attempt {
            id,
            step,
            task,
            engine: engine.kind,
            started_at: self.at,
            reserved: caps,
            ended: None,
        });
        self.order(Effect::Start { order: Box::new(order) });
    }

    /// Adds a task at the end of the plan, as a new revision, and goes back to work.
    pub fn add_task(&mut self, origin: Origin, title: &str, text: &str) {
        use crate::domain::run::Phase;
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
