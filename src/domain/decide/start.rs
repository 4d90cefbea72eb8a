//! The start of an attempt: tries, engine and budget; its reservation, its order; and what undoes them.

use super::builder::{DecisionBuilder, cap};
use crate::domain::attempt::{Attempt, Ended, Ending, MAX_OPEN_MS};
use crate::domain::block::{Block, BlockKind};
use crate::domain::budget::shared_budget::{BudgetScope, BudgetUnit, Level, SharedBudget, SharedSpending};
use crate::domain::budget::{BudgetKind, Usage};
use crate::domain::change::DiffStat;
use crate::domain::check::{CheckKind, CheckResult};
use crate::domain::effect::{Effect, EffectKind};
use crate::domain::engine_selection::{self, Choice, Cooldown, Wait, WaitReason};
use crate::domain::id::{AttemptId, TaskId, Timestamp};
use crate::domain::ledger_row::Day;
use crate::domain::order::{EngineSpec, Order, Step, TaskOrder};
use crate::domain::run::{BudgetWait, Phase};
use crate::domain::task::Stage;

/// A budget that cut an attempt's reservation.
pub(super) enum CutBy {
    /// A budget of the run itself.
    Own(BudgetKind),
    /// Shared budgets.
    Shared(Vec<SharedBudget>),
}

/// Exhausted shared budgets, with the fill levels and the spending that explain it.
pub(super) struct Exhausted<'a> {
    pub budgets: &'a [SharedBudget],
    pub levels: &'a [Level],
    pub spending: &'a [SharedSpending],
}

impl DecisionBuilder {
    /// Starts an attempt if tries, attempts and budget allow, else raises a block.
    ///
    /// For a step with an open question to the scout, the scout is started instead.
    pub fn start(&mut self, step: Step, task: Option<TaskId>) {
        if let Some(inquiry) = self.run.inquiry(step, task).cloned() {
            return self.start_scout(&inquiry);
        }
        let limits = self.limits_of(step);
        let (used, allowed, losses) = match task.and_then(|t| self.run.task(t)) {
            Some(t) => (t.tries, t.tries_allowed, t.losses),
            None => {
                let tries = self.run.tries.get(&step).copied().unwrap_or_default();
                (tries.used, limits.tries + tries.extra, tries.losses)
            }
        };
        if losses >= self.run.settings.policy.max_lost_attempts {
            let why = format!("the {} step was lost {losses} times in a row together with its process", step.name());
            return self.block(BlockKind::Tries { step, task }, &why);
        }
        if used >= allowed {
            let why = self.last_failure(step, task);
            let last = self.run.attempts.iter().rev().find(|a| a.step == step && a.task == task && a.answers.is_none());
            let exhausted = last.and_then(|a| a.ended.as_ref()).and_then(|e| e.exhausted);
            let kind = match exhausted {
                Some(BudgetKind::Time) => BlockKind::StepTime { step, task },
                _ => BlockKind::Tries { step, task },
            };
            return self.block(kind, &why);
        }
        if !self.may_start() {
            return;
        }
        let Some(engine) = self.engine(step) else { return };
        let caps = match engine.is_open() {
            true => Usage { wall_ms: MAX_OPEN_MS, ..Usage::default() },
            false => match self.grant(step, &engine) {
                Some(caps) => caps,
                None => return,
            },
        };
        match task.and_then(|t| self.run.task_mut(t)) {
            Some(t) => {
                t.stage = Stage::Developing;
                t.tries += 1;
                t.head = None;
            }
            None => self.run.tries.entry(step).or_default().used += 1,
        }
        self.begin(step, task, None, &engine, caps);
    }

    /// Returns whether another attempt may start, at any step. If not, a block is raised or the run waits.
    pub(super) fn may_start(&mut self) -> bool {
        if self.run.counted_attempts() >= self.run.limits.attempts as usize {
            self.exhausted(BudgetKind::Attempts);
            return false;
        }
        match self.run.budget_wait.clone().filter(|w| w.wait.until > self.at) {
            Some(waiting) => self.wait_for(waiting.wait),
            None => return true,
        }
        false
    }

    /// Returns what can be reserved for an attempt; `None` = nothing now, and a block was raised if waiting does not
    /// help.
    pub(super) fn grant(&mut self, step: Step, engine: &EngineSpec) -> Option<Usage> {
        let (mut of_step, mut of_run) = (self.limits_of(step), self.run.limits);
        if engine.is_free() {
            // It reserves nothing of what it cannot use, and does not wait for it.
            (of_step.tokens, of_step.cost_micros, of_step.turns) = (None, None, None);
            (of_run.tokens, of_run.cost_micros, of_run.turns) = (None, None, None);
        }
        match self.run.ledger.grant(&of_step, &of_run) {
            Ok(caps) => return Some(caps),
            // Reserved is not spent: what attempts in progress leave unused comes back, and then the grant is tried
            // again.
            Err(_) if !self.run.ledger.reserved.is_empty() => {}
            Err(budget) => self.exhausted(budget),
        }
        None
    }

    /// Raises the block for an exhausted budget of the run.
    pub fn exhausted(&mut self, budget: BudgetKind) {
        self.block(BlockKind::Budget(budget), "");
    }

    /// Raises the block for exhausted shared budgets: one block for all attempts and budgets of the run. The day's
    /// budget is available again on the next day.
    pub fn shared_exhausted(&mut self, exhausted: &Exhausted<'_>) {
        let mut all = exhausted.budgets.to_vec();
        for block in &self.run.blocks {
            if let BlockKind::SharedBudget { budgets: known } = &block.kind {
                if all.iter().all(|b| known.iter().any(|k| k.same(b))) {
                    return;
                }
                all.extend(known.iter().filter(|k| !exhausted.budgets.iter().any(|b| b.same(k))));
            }
        }
        all.sort();
        self.run.blocks.retain(|b| !matches!(b.kind, BlockKind::SharedBudget { .. }));
        let until = all.iter().all(|b| b.scope == BudgetScope::Day).then(|| Day::of(self.at).end());
        let block = Block {
            levels: exhausted.levels.iter().take(8).cloned().collect(),
            spending: exhausted.spending.iter().take(SharedSpending::MAX_ROWS).cloned().collect(),
            until,
            ..self.new_block(BlockKind::SharedBudget { budgets: all }, "")
        };
        self.raise(block);
    }

    /// Returns the budget that cut the reservation which an attempt has used up: the attempt was granted the rest of
    /// that budget, less than its step allows. `None` = the step's own limit. Call this before the reservation is
    /// settled.
    pub fn cut_by(&self, attempt: &Attempt, budget: BudgetKind) -> Option<CutBy> {
        let step = self.limits_of(attempt.step);
        let run = &self.run.limits;
        let used = self.run.ledger.committed();
        let granted = attempt.reserved;
        let (granted, used, step, run, unit) = match budget {
            BudgetKind::Tokens => (granted.tokens, used.tokens, step.tokens, run.tokens, Some(BudgetUnit::Tokens)),
            BudgetKind::Cost => {
                (granted.cost_micros, used.cost_micros, step.cost_micros, run.cost_micros, Some(BudgetUnit::Cost))
            }
            BudgetKind::Turns => (granted.turns, used.turns, step.turns, run.turns, None),
            BudgetKind::Time => {
                let own = step.timeout_secs.saturating_mul(1000);
                return (granted.wall_ms < own).then_some(CutBy::Own(budget));
            }
            BudgetKind::StepTime | BudgetKind::Attempts | BudgetKind::Rounds => return None,
        };
        if granted == 0 || step == Some(granted) {
            return None;
        }
        // The attempt's own reservation is part of what is used.
        if run.is_some_and(|limit| granted >= limit.saturating_sub(used.saturating_sub(granted))) {
            return Some(CutBy::Own(budget));
        }
        let shared: Vec<SharedBudget> = attempt.limited_by.iter().filter(|b| Some(b.unit) == unit).copied().collect();
        (!shared.is_empty()).then_some(CutBy::Shared(shared))
    }

    fn last_failure(&self, step: Step, task: Option<TaskId>) -> String {
        let noted = task.and_then(|t| self.run.task(t)).and_then(|t| t.notes.last()).map(|n| n.text.clone());
        let reported = || {
            let last = self.run.attempts.iter().rev().find(|a| a.step == step && a.task == task);
            last.and_then(|a| a.ended.as_ref()).map(|e| e.why.clone())
        };
        noted.or_else(reported).unwrap_or_else(|| "every try was used".to_owned())
    }

    /// Returns the engine to use now; `None` = the run waits for one, or a block was raised.
    fn engine(&mut self, step: Step) -> Option<EngineSpec> {
        let role = step.role();
        match engine_selection::choose(&self.run, step, self.at) {
            Choice::None => {
                // `open` has checked this. A snapshot without its engines is put to a person instead of causing a
                // panic.
                let why = format!("no engine is set for the role {}", role.name());
                self.block(BlockKind::Effect(EffectKind::Start), &why);
                None
            }
            Choice::Ask(spec) => self.no_engine(step, &spec, None),
            Choice::Engine(spec) => {
                // After a wait that was put to a person, one more failure puts the next one to them.
                self.run.unavailable = self.run.unavailable.min(engine_selection::MAX_UNAVAILABLE - 1);
                Some(spec)
            }
            Choice::Wait(spec, until)
                if self.run.unavailable >= engine_selection::MAX_UNAVAILABLE
                    || until.0.saturating_sub(self.at.0) > engine_selection::MAX_SILENT_WAIT_MS =>
            {
                self.no_engine(step, &spec, Some(until))
            }
            Choice::Wait(spec, until) => {
                let cooldown = self.run.cooldowns.get(&spec.text());
                let why = cap(cooldown.map_or("", |c| c.why.as_str()), 500);
                self.wait_for(Wait { until, reason: WaitReason::Engine { engine: spec.named(), why } });
                None
            }
        }
    }

    /// Schedules the run to continue by itself at that time, unless it does so earlier anyway.
    fn wait_for(&mut self, wait: Wait) {
        if self.run.wait.as_ref().is_none_or(|w| wait.until < w.until) {
            self.run.wait = Some(wait);
        }
    }

    /// Handles exhausted shared budgets for an attempt. What is only reserved may come back, so the reservation is
    /// tried again after a while; if that does not help, a person is asked.
    pub fn budget_refused(&mut self, id: AttemptId, exhausted: &Exhausted<'_>, reserved: bool) {
        let count = self.run.budget_wait.as_ref().map_or(0, |w| w.count) + 1;
        self.not_started(id, "a shared budget is exhausted");
        // Nothing was reserved, so there is no ledger row to settle.
        self.charged.remove(&id);
        if self.run.stopping.is_some() || self.run.phase >= Phase::Reporting {
            return;
        }
        if reserved && count < engine_selection::MAX_UNAVAILABLE {
            let reason = WaitReason::SharedBudget { budgets: exhausted.budgets.to_vec() };
            let wait = Wait { until: engine_selection::budget_retry(count, self.at), reason };
            self.run.budget_wait = Some(BudgetWait { wait, count });
            return;
        }
        self.shared_exhausted(exhausted);
    }

    /// Raises the block for a role without a usable engine.
    fn no_engine(&mut self, step: Step, spec: &EngineSpec, until: Option<Timestamp>) -> Option<EngineSpec> {
        let kind = BlockKind::Engine { role: step.role(), engine: spec.text() };
        let why = match self.run.unavailable {
            n if n >= engine_selection::MAX_UNAVAILABLE => {
                format!("at least {n} attempts in a row found no usable engine")
            }
            _ => String::new(),
        };
        let block = Block { until, ..self.new_block(kind, &why) };
        self.raise(block);
        None
    }

    /// Puts an attempt's engine into cooldown.
    pub fn cool_down(&mut self, attempt: &Attempt, why: &str, until: Option<Timestamp>, fix: Option<&str>) {
        self.run.unavailable = self.run.unavailable.saturating_add(1);
        let before = self.run.cooldowns.get(&attempt.engine);
        let cooldown = Cooldown::after(before, cap(why, 1024), until, fix.map(|f| cap(f, 1024)), self.at);
        self.run.cooldowns.insert(attempt.engine.clone(), cooldown);
    }

    /// Clears the cooldown count of an attempt's engine, because it worked.
    pub fn engine_worked(&mut self, attempt: &Attempt) {
        if self.run.cooldowns.get(&attempt.engine).is_some_and(|c| !c.active(self.at)) {
            self.run.cooldowns.remove(&attempt.engine);
        }
    }

    /// Ends every cooldown, because a person has repaired the engines.
    pub fn end_cooldowns(&mut self) {
        self.run.cooldowns.clear();
        self.run.unavailable = 0;
    }

    /// Creates the attempt and reserves its worst case. Starts it at once, or once the shared budgets have granted it.
    pub(super) fn begin(
        &mut self,
        step: Step,
        task: Option<TaskId>,
        answers: Option<AttemptId>,
        engine: &EngineSpec,
        caps: Usage,
    ) {
        let id = AttemptId(self.run.attempts.len() as u32 + 1);
        // Waiting for an outside agent uses nothing.
        let reserved = if engine.is_open() { Usage::default() } else { caps };
        self.run.ledger.reserve(id, reserved);
        self.run.attempts.push(Attempt {
            id,
            step,
            task,
            answers,
            engine: engine.text(),
            started_at: self.at,
            round: self.run.rounds,
            continues: None,
            reserved: caps,
            limited_by: Vec::new(),
            resumable: None,
            prompt_digest: None,
            ended: None,
        });
        let shared = self.run.settings.policy.shared;
        if !shared.any() || engine.is_open() || engine.is_free() {
            return self.send(id);
        }
        let (role, engine) = (step.role(), engine.named());
        let (alert_percent, round) = (self.run.settings.policy.alert_percent.clone(), self.run.rounds);
        self.order(Effect::Reserve { attempt: id, role, engine, caps, shared, alert_percent, round, at: self.at });
    }

    /// Orders the start of an attempt whose reservation was made.
    pub fn send(&mut self, id: AttemptId) {
        let Some(attempt) = self.run.attempt(id).cloned() else { return };
        let (step, caps) = (attempt.step, attempt.reserved);
        let head = self.run.head.clone();
        // A command does the same again to whatever it finds, so it starts clean; and work on another base is not
        // continued, because it lacks what was integrated since.
        let calls_models = EngineSpec::parse(&attempt.engine).calls_models();
        let mut continues = None;
        let task = attempt.task.and_then(|t| self.run.task_mut(t)).map(|t| {
            continues = t.unfinished.clone().filter(|_| calls_models && t.base.as_ref() == Some(&head));
            t.base = Some(head.clone());
            (TaskOrder { id: t.id, spec: t.spec.clone() }, t.notes.clone(), t.tries)
        });
        if let Some(a) = self.run.attempts.iter_mut().find(|a| a.id == id) {
            a.continues.clone_from(&continues);
        }
        // Some notes are for one step only (why a plan was refused, what a scout found); the others are for every step.
        let shared = self.run.notes.iter().filter(|n| n.only.is_none_or(|only| only == step)).cloned();
        let inquiry = attempt.answers.and_then(|by| self.run.inquiries.iter().find(|i| i.by == by));
        let question = inquiry.map(|i| i.question.clone());
        let (task, notes, try_number) = match (task, inquiry) {
            (Some((order, notes, tries)), _) => (Some(order), shared.chain(notes).collect(), tries),
            (None, Some(inquiry)) => (None, shared.chain(self.background(inquiry)).collect(), 1),
            (None, None) => (None, shared.collect(), self.run.tries.get(&step).map_or(1, |t| t.used)),
        };
        let review = step == Step::Review;
        let concerns = if review { self.run.concerns().iter().map(ToString::to_string).collect() } else { Vec::new() };
        let order = Order {
            run: self.run.id,
            attempt: id,
            try_number,
            round: self.run.rounds + 1,
            step,
            engine: EngineSpec::parse(&attempt.engine),
            goal: self.run.goal.text.clone(),
            question,
            task,
            head,
            continues,
            base: self.run.base.clone(),
            notes,
            checks: self.run.settings.checks.iter().filter(|c| c.kind != CheckKind::Accept).cloned().collect(),
            criteria: self.run.criteria().to_vec(),
            excused: if review { self.excused() } else { Vec::new() },
            results: match step {
                Step::Review => self.run.facts.results.clone().unwrap_or_default(),
                Step::Develop => self.red_at_base(),
                _ => Vec::new(),
            },
            diff: if review { self.run.diff.clone() } else { DiffStat::default() },
            concerns,
            bounds: self.run.settings.policy.bounds(),
            caps,
            resume: None,
        };
        self.charged.insert(id);
        self.order(Effect::Start { order: Box::new(order) });
    }

    /// Returns the red results at the base, without their output.
    fn red_at_base(&self) -> Vec<CheckResult> {
        let red = self.run.baseline.iter().filter(|b| b.sha == self.run.base).flat_map(|b| b.red());
        red.map(|r| CheckResult { tail: String::new(), artifacts: Vec::new(), ..r.clone() }).collect()
    }

    /// Returns the names of the head's red checks that are not charged to the change.
    fn excused(&self) -> Vec<String> {
        let red = self.run.facts.results.iter().flatten().filter(|r| !r.green);
        red.filter(|r| self.run.excuses(r)).map(|r| r.name.clone()).collect()
    }

    /// Applies the shared budgets' caps to an attempt. They never loosen its own.
    pub fn apply_caps(&mut self, id: AttemptId, caps: Usage, levels: &[Level]) {
        let Some(attempt) = self.run.attempts.iter_mut().find(|a| a.id == id && a.live()) else { return };
        let cut = |own: u64, granted: u64| if own == 0 { granted } else { own.min(granted.max(1)) };
        attempt.reserved.tokens = cut(attempt.reserved.tokens, caps.tokens);
        attempt.reserved.cost_micros = cut(attempt.reserved.cost_micros, caps.cost_micros);
        attempt.limited_by = levels.iter().take(8).filter_map(Level::exhausted).collect();
        let reserved = attempt.reserved;
        self.run.ledger.reserve(id, reserved);
    }

    /// Ends an attempt that was never started: nothing was used, and its try does not count.
    pub fn not_started(&mut self, id: AttemptId, why: &str) {
        let Some(attempt) = self.run.attempt(id).filter(|a| a.live()).cloned() else { return };
        let charged = self.settle(id, Usage::default());
        let ended = Ended {
            at: self.at,
            ending: Ending::NotStarted,
            why: cap(why, 512),
            charged,
            session: None,
            artifacts: Vec::new(),
            usage_by_model: Vec::new(),
            secrets: Vec::new(),
            exhausted: None,
        };
        if let Some(a) = self.run.attempts.iter_mut().find(|a| a.id == id) {
            a.ended = Some(ended);
        }
        self.return_try(&attempt);
    }

    /// Turns an attempt's reservation into usage.
    pub fn settle(&mut self, id: AttemptId, used: Usage) -> Usage {
        self.charged.insert(id);
        // A part of the reservation may have come back.
        self.run.budget_wait = None;
        self.run.ledger.settle(id, Some(used))
    }

    /// Gives back an attempt's try and makes its task ready again: the step is where it was before the attempt.
    pub fn return_try(&mut self, attempt: &Attempt) {
        if attempt.answers.is_some() {
            return;
        }
        match attempt.task.and_then(|t| self.run.task_mut(t)) {
            Some(task) => {
                task.stage = Stage::Ready;
                task.tries = task.tries.saturating_sub(1);
            }
            None => {
                let tries = self.run.tries.entry(attempt.step).or_default();
                tries.used = tries.used.saturating_sub(1);
            }
        }
    }
}
