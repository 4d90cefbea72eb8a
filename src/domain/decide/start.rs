//! Starting an attempt: tries, engine and budget; its reservation, its order; and what undoes them.

use super::builder::{DecisionBuilder, cap};
use crate::domain::attempt::{Attempt, Ended, Ending};
use crate::domain::block::BlockKind;
use crate::domain::budget::Usage;
use crate::domain::change::DiffStat;
use crate::domain::describe;
use crate::domain::effect::Effect;
use crate::domain::engine_selection::{self, Choice, Cooldown, Wait};
use crate::domain::id::{AttemptId, TaskId, Timestamp};
use crate::domain::ledger_row::Day;
use crate::domain::order::{EngineSpec, Order, Step, TaskOrder};
use crate::domain::run::Phase;
use crate::domain::shared_budget::{self, BudgetScope, Level, SharedBudget};
use crate::domain::task::Stage;

/// A budget that an attempt had too little of.
pub(super) enum Scarce {
    /// The run's own, of this.
    Own(&'static str),
    /// Budgets it shares.
    Shared(Vec<SharedBudget>),
}

impl DecisionBuilder {
    /// Starts an attempt, if tries, attempts and the budget allow; else puts the question.
    ///
    /// A step with an open question to the scout is not started: the scout is.
    pub fn start(&mut self, step: Step, task: Option<TaskId>) {
        if let Some(inquiry) = self.run.inquiry(step, task).cloned() {
            return self.look_into(&inquiry);
        }
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
        if !self.may_start() {
            return;
        }
        let Some(engine) = self.engine(step) else { return };
        let Some(caps) = self.granted(step) else { return };
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

    /// Whether another attempt may start, of whatever step; else the question is put, or the run waits.
    pub(super) fn may_start(&mut self) -> bool {
        if self.run.counted_attempts() >= self.run.limits.attempts as usize {
            let why = format!("the run has used its {} attempts", self.run.limits.attempts);
            self.block(BlockKind::Budget { what: "attempts".to_owned() }, &why);
            return false;
        }
        match self.run.short.clone().filter(|(short, _)| short.until > self.at) {
            Some((short, _)) => self.wait_for(short),
            None => return true,
        }
        false
    }

    /// What can be set aside for an attempt; `None` = nothing now, and where waiting does not help a person was asked.
    pub(super) fn granted(&mut self, step: Step) -> Option<Usage> {
        match self.run.ledger.grant(&self.limits_of(step), &self.run.limits) {
            Ok(caps) => return Some(caps),
            // Set aside is not spent: what the attempts at work leave over comes back, and then this is asked again.
            Err(_) if !self.run.ledger.reserved.is_empty() => {}
            Err(what) => self.out_of(what),
        }
        None
    }

    /// Puts the question for more of the run's own `what`.
    pub fn out_of(&mut self, what: &str) {
        let why = describe::spending(&self.run, what);
        self.block(BlockKind::Budget { what: what.to_owned() }, &why);
    }

    /// Puts the question for more of shared budgets: one question, whichever of the run's attempts are short of which. The day's budget
    /// is there again the next day.
    pub fn out_of_shared(&mut self, of: &[SharedBudget], why: &str) {
        let mut all = of.to_vec();
        for block in &self.run.blocks {
            if let BlockKind::Shared { of: asked } = &block.kind {
                if all.iter().all(|b| asked.iter().any(|a| a.same(b))) {
                    return;
                }
                all.extend(asked.iter().filter(|a| !of.iter().any(|b| b.same(a))));
            }
        }
        all.sort();
        self.run.blocks.retain(|b| !matches!(b.kind, BlockKind::Shared { .. }));
        let until = all.iter().all(|b| b.share == BudgetScope::Day).then(|| Day::of(self.at).end());
        self.block_until(BlockKind::Shared { of: all }, why, until);
    }

    /// Which budget an attempt ran out of `what` by: what was left of it was set aside for it, less than its step allows. `None` = it is
    /// the step's own limit. To be asked while its reservation stands.
    pub fn cut_short_of(&self, attempt: &Attempt, what: &str) -> Option<Scarce> {
        let step = self.limits_of(attempt.step);
        let run = &self.run.limits;
        let used = self.run.ledger.committed();
        let given = attempt.reserved;
        let (what, given, used, step, run, money) = match what {
            "tokens" => ("tokens", given.tokens, used.tokens, step.tokens, run.tokens, Some(false)),
            "money" => ("money", given.cost_micros, used.cost_micros, step.cost_micros, run.cost_micros, Some(true)),
            "turns" => ("turns", given.turns, used.turns, step.turns, run.turns, None),
            _ => return None,
        };
        if given == 0 || step == Some(given) {
            return None;
        }
        // Its own reservation is in what is used.
        if run.is_some_and(|limit| given >= limit.saturating_sub(used.saturating_sub(given))) {
            return Some(Scarce::Own(what));
        }
        let cut: Vec<SharedBudget> = attempt.cut_by.iter().filter(|b| Some(b.money) == money).copied().collect();
        (!cut.is_empty()).then_some(Scarce::Shared(cut))
    }

    fn last_failure(&self, step: Step, task: Option<TaskId>) -> String {
        let noted = task.and_then(|t| self.run.task(t)).and_then(|t| t.notes.last()).map(|n| n.text.clone());
        let said = || {
            let last = self.run.attempts.iter().rev().find(|a| a.step == step && a.task == task);
            last.and_then(|a| a.ended.as_ref()).map(|e| e.why.clone())
        };
        noted.or_else(said).unwrap_or_else(|| "every try was used".to_owned())
    }

    /// The engine that may be used now; `None` = the run waits for one, or a person was asked.
    fn engine(&mut self, step: Step) -> Option<EngineSpec> {
        let role = step.role();
        match engine_selection::choose(&self.run, step, self.at) {
            Choice::None => {
                // `open` has checked this; a snapshot that lost it is a person's matter, not a panic.
                let why = format!("no engine is set for the role {}", role.name());
                self.block(BlockKind::Act { act: "start".to_owned() }, &why);
                None
            }
            Choice::Ask(spec) => self.no_engine(step, &spec, None),
            Choice::Engine(spec) | Choice::Wait(spec, _)
                if self.run.unavailable >= engine_selection::UNAVAILABLE_MOST =>
            {
                self.no_engine(step, &spec, None)
            }
            Choice::Engine(spec) => Some(spec),
            Choice::Wait(spec, until) if until.0.saturating_sub(self.at.0) > engine_selection::WAIT_ASKED_MS => {
                self.no_engine(step, &spec, Some(until))
            }
            Choice::Wait(spec, until) => {
                let rest = self.run.cooldowns.get(&spec.text());
                let why = format!("{}: {}", spec.named(), rest.map_or("", |r| r.why.as_str()));
                self.wait_for(Wait { until, why: cap(&why, 500) });
                None
            }
        }
    }

    /// The run goes on by itself then, or earlier for something else.
    fn wait_for(&mut self, wait: Wait) {
        if self.run.wait.as_ref().is_none_or(|w| wait.until < w.until) {
            self.run.wait = Some(wait);
        }
    }

    /// Shared budgets have nothing left for an attempt. What is only set aside may come back: they are asked again by and by, and a
    /// person when that does not help.
    pub fn short(&mut self, id: AttemptId, of: &[SharedBudget], why: &str, set_aside: bool) {
        let count = self.run.short.as_ref().map_or(0, |(_, n)| *n) + 1;
        self.not_started(id, why);
        // Nothing was set aside: there is no line to settle.
        self.charged.remove(&id);
        if self.run.stopping.is_some() || self.run.phase >= Phase::Reporting {
            return;
        }
        if set_aside && count < engine_selection::UNAVAILABLE_MOST {
            let why = format!("{}: what is left is set aside for attempts at work", shared_budget::names(of));
            self.run.short = Some((Wait { until: engine_selection::soon(count, self.at), why }, count));
            return;
        }
        self.out_of_shared(of, why);
    }

    /// Asks a person to see to a role's engines.
    fn no_engine(&mut self, step: Step, spec: &EngineSpec, until: Option<Timestamp>) -> Option<EngineSpec> {
        let mut why = describe::cooldowns(&self.run, step);
        if self.run.unavailable >= engine_selection::UNAVAILABLE_MOST {
            why.push_str(&format!("{} attempts in a row found no engine they could use\n", self.run.unavailable));
        }
        self.block_until(BlockKind::Engine { role: step.role(), engine: spec.text() }, &why, until);
        None
    }

    /// The attempt's engine cannot be used: it rests.
    pub fn rest(&mut self, attempt: &Attempt, why: &str, until: Option<Timestamp>, fix: Option<&str>) {
        self.run.unavailable = self.run.unavailable.saturating_add(1);
        let before = self.run.cooldowns.get(&attempt.engine);
        let rest = Cooldown::after(before, cap(why, 1024), until, fix.map(|f| cap(f, 1024)), self.at);
        self.run.cooldowns.insert(attempt.engine.clone(), rest);
    }

    /// The attempt's engine did something: it is not counted as unusable any more.
    pub fn worked(&mut self, attempt: &Attempt) {
        if self.run.cooldowns.get(&attempt.engine).is_some_and(|r| !r.active(self.at)) {
            self.run.cooldowns.remove(&attempt.engine);
        }
    }

    /// Every engine may be tried again: a person has seen to them.
    pub fn rested(&mut self) {
        self.run.cooldowns.clear();
        self.run.unavailable = 0;
    }

    /// Makes the attempt and sets its worst case aside; starts it, at once or when the shared budgets have it.
    pub(super) fn begin(
        &mut self,
        step: Step,
        task: Option<TaskId>,
        answers: Option<AttemptId>,
        engine: &EngineSpec,
        caps: Usage,
    ) {
        let id = AttemptId(self.run.attempts.len() as u32 + 1);
        self.run.ledger.reserve(id, caps);
        let engine_text = engine.text();
        self.run.attempts.push(Attempt {
            id,
            step,
            task,
            answers,
            engine: engine_text,
            started_at: self.at,
            round: self.run.rounds,
            reserved: caps,
            cut_by: Vec::new(),
            resumable: None,
            ended: None,
        });
        let shared = self.run.settings.policy.shared;
        if !shared.any() {
            return self.send(id);
        }
        let (role, engine) = (step.role(), engine.named());
        let (alerts, round) = (self.run.settings.policy.alerts.clone(), self.run.rounds);
        self.order(Effect::Reserve { attempt: id, role, engine, caps, shared, alerts, round, at: self.at });
    }

    /// Orders the start of an attempt whose reservation stands.
    pub fn send(&mut self, id: AttemptId) {
        let Some(attempt) = self.run.attempt(id).cloned() else { return };
        let (step, caps) = (attempt.step, attempt.reserved);
        let head = self.run.head.clone();
        let task = attempt.task.and_then(|t| self.run.task_mut(t)).map(|t| {
            t.base = Some(head.clone());
            (TaskOrder { id: t.id, spec: t.spec.clone() }, t.notes.clone(), t.tries)
        });
        // What was told to one step is told to no other (why a plan was refused, what a scout was asked); the rest is everybody's.
        let shared = self.run.notes.iter().filter(|n| n.only.is_none_or(|only| only == step)).cloned();
        let inquiry = attempt.answers.and_then(|by| self.run.inquiries.iter().find(|i| i.by == by));
        let question = inquiry.map(|i| i.question.clone());
        let (task, notes, try_number) = match (task, inquiry) {
            (Some((order, notes, tries)), _) => (Some(order), shared.chain(notes).collect(), tries),
            (None, Some(inquiry)) => (None, shared.chain(self.background(inquiry)).collect(), 1),
            (None, None) => (None, shared.collect(), self.run.tries.get(&step).map_or(1, |t| t.used)),
        };
        let review = step == Step::Review;
        let concerns = if review { self.run.concerns().iter().map(|c| c.words()).collect() } else { Vec::new() };
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
            base: self.run.base.clone(),
            notes,
            checks: self.run.settings.checks.clone(),
            results: if review { self.run.facts.results.clone().unwrap_or_default() } else { Vec::new() },
            diff: if review { self.run.diff.clone() } else { DiffStat::default() },
            concerns,
            bounds: self.run.settings.policy.bounds(),
            caps,
            resume: None,
        };
        self.charged.insert(id);
        self.order(Effect::Start { order: Box::new(order) });
    }

    /// Sets the shared budgets' caps for an attempt. They never loosen its own.
    pub fn capped(&mut self, id: AttemptId, caps: Usage, levels: &[Level]) {
        let Some(attempt) = self.run.attempts.iter_mut().find(|a| a.id == id && a.live()) else { return };
        let cut = |own: u64, given: u64| if own == 0 { given } else { own.min(given.max(1)) };
        attempt.reserved.tokens = cut(attempt.reserved.tokens, caps.tokens);
        attempt.reserved.cost_micros = cut(attempt.reserved.cost_micros, caps.cost_micros);
        attempt.cut_by = levels.iter().take(8).filter_map(Level::used_up).collect();
        let reserved = attempt.reserved;
        self.run.ledger.reserve(id, reserved);
    }

    /// Ends an attempt that was never started: nothing was used, and its try is given back.
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
            bill: Vec::new(),
            given: Vec::new(),
        };
        if let Some(a) = self.run.attempts.iter_mut().find(|a| a.id == id) {
            a.ended = Some(ended);
        }
        self.try_back(&attempt);
    }

    /// Turns an attempt's reservation into what was used.
    pub fn settle(&mut self, id: AttemptId, used: Usage) -> Usage {
        self.charged.insert(id);
        // Something may have come back.
        self.run.short = None;
        self.run.ledger.settle(id, Some(used))
    }

    /// An attempt's try does not count: its step is where it was before.
    pub fn try_back(&mut self, attempt: &Attempt) {
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
