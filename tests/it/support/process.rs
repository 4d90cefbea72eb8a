//! A simulated process with its store: it decides, commits, carries out effects, crashes, and restarts.
//!
//! Only committed data survives a crash: the snapshot, the journal, the outbox. Effects are carried out before their
//! outcome is committed, so they are carried out again after a crash. A start that was begun is orphaned instead, and
//! is repeated only if the run resumes it.

use super::checker::Checker;
use super::people;
use super::rng::{Rng, roll};
use super::world::World;
use skep::domain::*;
use std::collections::BTreeSet;

/// How a run is simulated.
#[derive(Clone, Debug)]
pub struct Manner {
    /// Whether people answer blocks.
    pub helped: bool,
    /// Whether people and others act at random moments, and events arrive late, twice or out of order.
    pub wild: bool,
    /// Crashes per hundred steps.
    pub crash_percent: u64,
    /// Crashes right after these journal rows are committed.
    pub crash_after: Vec<u64>,
    /// Whether the invariants are checked (off for the second of two equal runs).
    pub checked: bool,
}

/// Upper bound on the events of a run. A run that needs more is looping.
pub const MAX_EVENTS: usize = 3_000;
/// After this many steps no more faults are injected, so the run must end.
const CALM_AFTER: u64 = 600;

/// The state when a run has ended or waits forever.
pub struct Ended {
    pub run: Run,
    pub world: World,
    pub journal: Vec<(Event, Timestamp)>,
    pub opened: Opened,
    pub crashes: u32,
    pub refused: u32,
    /// Number of times the run was woken at the end of a wait.
    pub due: u64,
    /// Attempts that were resumed, and attempts that could not be.
    pub resumed: u64,
    pub unresumed: u64,
}

struct Process {
    run: Run,
    world: World,
    rng: Rng,
    manner: Manner,
    checker: Checker,
    journal: Vec<(Event, Timestamp)>,
    outbox: Vec<(EffectKey, Effect)>,
    /// Effects begun by this process.
    begun: BTreeSet<EffectKey>,
    /// Starts begun by any process.
    started: BTreeSet<AttemptId>,
    /// Events on their way to the run.
    inflight: Vec<Event>,
    /// Events that were delivered, and some that were lost with a process.
    old: Vec<Event>,
    observed: Option<Observation>,
    answered: u64,
    steps: u64,
    crashes: u32,
    refused: u32,
    due: u64,
    resumed: u64,
    unresumed: u64,
    /// Milliseconds that passed without events.
    waited: i64,
}

/// Simulates a run until it ends or nothing more will happen. `Err` = an invariant does not hold.
pub fn simulate(opened: Opened, world: World, rng: Rng, manner: Manner) -> Result<Ended, String> {
    let first = open(&opened, Timestamp(0)).map_err(|r| format!("not opened: {r}"))?;
    let mut p = Process {
        run: first.run.clone(),
        world,
        rng,
        manner,
        checker: Checker::default(),
        journal: vec![(Event::Opened(Box::new(opened.clone())), Timestamp(0))],
        outbox: Vec::new(),
        begun: BTreeSet::new(),
        started: BTreeSet::new(),
        inflight: Vec::new(),
        old: Vec::new(),
        observed: None,
        answered: 0,
        steps: 0,
        crashes: 0,
        refused: 0,
        due: 0,
        resumed: 0,
        unresumed: 0,
        waited: 0,
    };
    let result = p
        .checker
        .check(None, &p.journal[0].0.clone(), &first, Timestamp(0))
        .and_then(|()| p.live())
        .and_then(|()| p.over());
    match result {
        Ok(()) => {
            let Process { run, world, journal, crashes, refused, due, resumed, unresumed, .. } = p;
            Ok(Ended { run, world, journal, opened, crashes, refused, due, resumed, unresumed })
        }
        Err(why) => Err(format!("{why}\n{}", p.story())),
    }
}

impl Process {
    fn calm(&self) -> bool {
        self.steps > CALM_AFTER
    }

    fn live(&mut self) -> Result<(), String> {
        while !self.run.ended() {
            self.steps += 1;
            if self.journal.len() > MAX_EVENTS || self.steps > 8 * MAX_EVENTS as u64 {
                return Err(format!("no end after {} events and {} steps", self.journal.len(), self.steps));
            }
            if self.run.phase == Phase::Queued && !(self.manner.wild && self.rng.chance(30)) {
                self.deliver(Event::Admitted)?;
                continue;
            }
            if self.manner.wild && !self.calm() && self.rng.chance(25) {
                self.disturb()?;
                continue;
            }
            if self.manner.crash_percent > 0 && !self.calm() && self.rng.chance(self.manner.crash_percent) {
                self.crash()?;
                continue;
            }
            let waiting: Vec<usize> =
                (0..self.outbox.len()).filter(|i| !self.begun.contains(&self.outbox[*i].0)).collect();
            let deliver = !self.inflight.is_empty() && (waiting.is_empty() || !self.manner.wild || self.rng.chance(50));
            if deliver {
                let at = if self.manner.wild { self.rng.below(self.inflight.len() as u64) as usize } else { 0 };
                let event = self.inflight.remove(at);
                self.deliver(event)?;
            } else if !waiting.is_empty() {
                let at = if self.manner.wild { self.rng.below(waiting.len() as u64) as usize } else { 0 };
                self.carry_out(waiting[at]);
            } else if !self.idle()? {
                break;
            }
        }
        Ok(())
    }

    /// Handles a run with nothing in progress: the sweep observes, then people answer. Returns false if nothing more
    /// will happen.
    fn idle(&mut self) -> Result<bool, String> {
        if self.run.phase == Phase::Queued {
            self.deliver(Event::Admitted)?;
            return Ok(true);
        }
        if let Some(change) = self.run.change.as_ref().map(|c| c.number) {
            let seen = self.world.observe(change);
            if self.observed.as_ref() != Some(&seen) {
                self.observed = Some(seen.clone());
                self.deliver(Event::Observed { observation: seen })?;
                return Ok(true);
            }
        }
        if let Some(due) = self.run.wake_at().filter(|_| self.run.blocks.is_empty() || self.rng.chance(50)) {
            self.waited += due.0.saturating_sub(self.now().0).max(0);
            self.due += 1;
            self.deliver(Event::Due)?;
            return Ok(true);
        }
        if !self.manner.helped {
            return Ok(false);
        }
        if let Some(event) = people::help(self.world.seed, &mut self.world, &self.run, self.answered) {
            self.answered += 1;
            self.deliver(event)?;
            return Ok(true);
        }
        // The run waits for a status, so CI reports one.
        if let Some(head) = self.world.branch.clone()
            && self.world.statuses.entry(head).or_default().insert("ci".to_owned(), StatusState::Success)
                != Some(StatusState::Success)
        {
            return Ok(true);
        }
        Ok(false)
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.journal.len() as i64 * 1000 + self.waited)
    }

    fn disturb(&mut self) -> Result<(), String> {
        match self.rng.below(11) {
            10 => self.refuse(&Event::Due)?,
            0..=2 => people::others(&mut self.rng, &mut self.world, &self.run),
            3 => {
                let event = people::imposture(&mut self.rng, &self.run);
                self.refuse(&event)?;
            }
            4 if !self.old.is_empty() => {
                // A repeated event, or one of a process that is gone.
                let at = self.rng.below(self.old.len() as u64) as usize;
                let event = self.old[at].clone();
                self.refuse(&event)?;
            }
            5 => {
                if let Some(change) = self.run.change.as_ref().map(|c| c.number) {
                    // An observation that is delivered later.
                    let observation = self.world.observe(change);
                    self.inflight.push(Event::Observed { observation });
                }
            }
            _ if self.manner.helped => {
                if let Some(event) = people::meddle(&mut self.rng, &mut self.world, &self.run) {
                    self.deliver(event)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn carry_out(&mut self, at: usize) {
        let (key, effect) = self.outbox[at].clone();
        self.begun.insert(key.clone());
        let event = match &effect {
            Effect::Start { order } => {
                let again = self.run.attempt(order.attempt).and_then(|a| a.resumable.clone()).filter(|r| r.resumes > 0);
                let is_again = !self.started.insert(order.attempt);
                assert_eq!(is_again, again.is_some(), "{}: begun again only if the run resumes it", order.attempt);
                let order = again.iter().fold((**order).clone(), |order, again| order.resumed(again));
                // Depends on the attempt only.
                let dice = roll(self.world.seed, &["session", &order.attempt.to_string()]);
                if dice % 3 > 0 && !is_again {
                    let session = format!("conversation-{}", order.attempt);
                    self.inflight.push(Event::SessionOpened { attempt: order.attempt, session });
                }
                let mut reported = self.world.work(&order);
                if is_again && dice % 5 == 0 {
                    self.unresumed += 1;
                    reported.report = Report::NotResumed { why: "it knows no such session".to_owned() };
                } else if is_again {
                    self.resumed += 1;
                }
                Event::Reported(Box::new(reported))
            }
            _ => {
                let odd = self.manner.wild && self.world.lies && !self.calm();
                // The port observes before it acts, so a commit that landed is never reported as stale.
                let unlanded = |w: &World| matches!(&effect, Effect::Land { head, .. } if !w.has_landed(head));
                let outcome = if odd && unlanded(&self.world) && self.rng.chance(10) {
                    EffectOutcome::Stale { why: "asked too early".to_owned() }
                } else {
                    self.world.carry_out(&key, &effect)
                };
                Event::EffectFinished { key, outcome }
            }
        };
        self.inflight.push(event);
    }

    /// Crashes the process, which loses every uncommitted event; the next process loads the run.
    fn crash(&mut self) -> Result<(), String> {
        self.crashes += 1;
        let lost = std::mem::take(&mut self.inflight);
        self.begun.clear();
        if self.manner.checked && self.crashes == 1 {
            let json = serde_json::to_string(&self.run).map_err(|e| e.to_string())?;
            self.run = serde_json::from_str(&json).map_err(|e| format!("the snapshot cannot be read: {e}"))?;
        }
        let begun: Vec<AttemptId> =
            self.run.live_attempts().map(|a| a.id).filter(|a| self.started.contains(a)).collect();
        if !begun.is_empty() {
            let counted =
                Metered { used: Usage { tokens: 7, cost_micros: 3, wall_ms: 0, turns: 1 }, usage_by_model: Vec::new() };
            let metered = begun.iter().filter(|a| a.0 % 2 == 0).map(|a| (*a, counted.clone())).collect();
            let alive = begun.iter().filter(|a| a.0 % 3 == 0).map(|a| (*a, Timestamp(self.now().0 - 500))).collect();
            let stopped = begun.iter().copied().filter(|a| a.0 % 5 == 0).collect();
            self.deliver(Event::Orphaned { attempts: begun, metered, alive, stopped })?;
            // Late reports of attempts that ended are delivered again.
            let is_over =
                |e: &Event| matches!(e, Event::Reported(r) if self.run.attempt(r.attempt).is_some_and(|a| !a.live()));
            self.old.extend(lost.into_iter().filter(is_over));
        }
        Ok(())
    }

    fn refuse(&mut self, event: &Event) -> Result<(), String> {
        match decide(&self.run, event, Timestamp(self.journal.len() as i64)) {
            Err(_) => {
                self.refused += 1;
                Ok(())
            }
            Ok(_) => Err(format!("accepted, though it has to be refused: {}", word(event))),
        }
    }

    fn deliver(&mut self, event: Event) -> Result<(), String> {
        let at = self.now();
        self.world.now = at;
        let decision = match decide(&self.run, &event, at) {
            Ok(decision) => decision,
            Err(_) => {
                self.refused += 1;
                return Ok(());
            }
        };
        self.journal.push((event.clone(), at));
        if self.manner.checked {
            self.checker.check(Some(&self.run), &event, &decision, at)?;
            self.shared_ledger(&decision)?;
            for (_, effect) in &decision.effects {
                if let Effect::Land { head, .. } = effect
                    && !self.world.is_green(head)
                    && !self.checker.accepts_failures()
                {
                    return Err(format!("landing {head}, which is broken"));
                }
            }
        }
        for row in &decision.ledger_rows {
            self.world.ledger.insert(row.attempt, (row.amount, row.day));
        }
        self.outbox.retain(|(key, _)| !decision.finished.contains(key));
        self.outbox.extend(decision.effects);
        self.run = decision.run;
        if matches!(event, Event::EffectFinished { .. } | Event::Reported(_)) {
            self.old.push(event);
        }
        if self.manner.crash_after.contains(&self.run.seq) {
            self.crash()?;
        }
        Ok(())
    }

    /// Checks that reservations and charges match the shared ledger.
    fn shared_ledger(&self, decision: &Decision) -> Result<(), String> {
        let run = &decision.run;
        if !run.settings.policy.shared.any() {
            return Ok(());
        }
        for (_, effect) in &decision.effects {
            let Effect::Start { order } = effect else { continue };
            let known = self.world.ledger.get(&order.attempt).map(|(caps, _)| *caps);
            if known != Some(order.caps) {
                return Err(format!(
                    "{} started with {:?}, the shared ledger has {known:?}",
                    order.attempt, order.caps
                ));
            }
        }
        for id in run.attempts.iter().filter(|a| !a.live()).map(|a| a.id) {
            let settled_now = decision.ledger_rows.iter().any(|c| c.attempt == id && c.settled);
            let (charged, kept) = (run.attempt(id).and_then(|a| a.ended.as_ref()), self.world.ledger.get(&id));
            if let (Some(ended), Some((kept, _)), false) = (charged, kept, settled_now)
                && ended.charged != *kept
            {
                return Err(format!("{id} was charged {:?}, the shared ledger says {kept:?}", ended.charged));
            }
        }
        Ok(())
    }

    /// Checks the world and the journal at the end.
    fn over(&self) -> Result<(), String> {
        let run = &self.run;
        let ended = run.ended();
        if !ended {
            let status = run.phase == Phase::Gating && matches!(gate::statuses(run), gate::Gate::Wait(_));
            let asked = !run.blocks.is_empty();
            if self.manner.helped || !(asked || status || run.paused.is_some()) {
                return Err(format!("stuck in {} with {} blocks", run.phase.name(), run.blocks.len()));
            }
        }
        if let Some((thread, keys)) = self.world.answers.iter().find(|(_, keys)| keys.len() > 1) {
            return Err(format!("thread {thread} was answered by {keys:?}"));
        }
        if self.world.lands.len() > 1 {
            return Err(format!("{} landings", self.world.lands.len()));
        }
        if ended && !self.world.lands.is_empty() && !matches!(run.outcome, Some(Outcome::Delivered { .. })) {
            return Err(format!("it landed, and the run says {:?}", run.outcome));
        }
        if let Some(Outcome::Delivered { sha }) = &run.outcome
            && !self.world.base_history.contains(sha)
        {
            return Err(format!("delivered {sha}, which is not on the base branch"));
        }
        let open = self.world.changes.iter().filter(|c| c.state == ChangeState::Open).count();
        if open > 1 {
            return Err(format!("{open} open changes for one run"));
        }
        for change in &self.world.changes {
            let last = change.comments.values().filter(|t| *t == "Result").count();
            if last > 1 {
                return Err(format!("the result was reported {last} times"));
            }
        }
        Ok(())
    }

    fn story(&self) -> String {
        let mut text = format!("policy: {:?}\n", self.run.settings.policy);
        let mut run: Option<Run> = None;
        for (event, at) in &self.journal {
            let decision = match (&run, event) {
                (None, Event::Opened(opened)) => open(opened, *at),
                (Some(run), event) => decide(run, event, *at),
                (None, _) => break,
            };
            let Ok(d) = decision else { break };
            let effects: Vec<String> =
                d.effects.iter().map(|(k, e)| format!("{k} {}", e.effect_ref().name())).collect();
            let blocks: Vec<&str> = d.run.blocks.iter().map(|b| b.kind.code()).collect();
            let phase = d.run.phase.name();
            text.push_str(&format!("{} {} -> {phase} {blocks:?} {}\n", d.run.seq, word(event), effects.join(", ")));
            run = Some(d.run);
        }
        text
    }
}

/// An event in one line.
pub fn word(event: &Event) -> String {
    let whole = match event {
        Event::Opened(_) => "opened".to_owned(),
        Event::Reported(r) => format!("{} {:?}", r.attempt, r.report),
        Event::EffectFinished { key, outcome } => format!("{key} {outcome:?}"),
        other => format!("{other:?}"),
    };
    whole.chars().take(160).collect()
}
