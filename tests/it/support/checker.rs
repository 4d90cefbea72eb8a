//! The invariants that hold after every decision of every run, stated in terms of the run and of the journal so far.

use skep::domain::block::Subject;
use skep::domain::*;
use std::collections::{BTreeMap, BTreeSet};

/// Upper bound on the snapshot of a simulated run. Its tasks, notes and files are small, so this bounds growth.
pub const MAX_SNAPSHOT_BYTES: usize = 256 * 1024;
const MAX_BLOCKS: usize = 8;

macro_rules! must {
    ($holds:expr, $($why:tt)+) => { if !$holds { return Err(format!($($why)+)); } };
}

/// The facts that follow from the journal, independent of those in the run.
#[derive(Clone, Debug, Default)]
pub struct Checker {
    keys: BTreeSet<EffectKey>,
    /// Heads whose full checks were green.
    green: BTreeSet<Sha>,
    /// Heads among them with a red check that is not charged to the change.
    red: BTreeSet<Sha>,
    /// Failed checks of CI that a person accepted, each at its head.
    accepted_ci: BTreeSet<(Sha, String)>,
    /// Whether a person accepted failures of checks.
    accepted: bool,
    /// Heads approved by an accepted review, with its session.
    reviewed: BTreeMap<Sha, Option<String>>,
    /// Sessions of authors.
    authors: BTreeSet<String>,
    /// Approvals: head, base, person.
    approvals: BTreeSet<(Sha, Sha, Principal)>,
    /// The last observation.
    seen: Option<Observation>,
    /// Engines in cooldown, with the earliest end; `None` = until a person has answered.
    cooldowns: BTreeMap<String, Option<Timestamp>>,
    /// Open questions to the scout, by asking step.
    asked: BTreeMap<(Step, Option<TaskId>), String>,
    /// Answers of the scout, by asking step, until that step starts again.
    found: BTreeMap<(Step, Option<TaskId>), String>,
    lands_ordered: u32,
    person_tasks: usize,
}

impl Checker {
    /// Records the facts of an accepted event, then checks the decision.
    pub fn check(
        &mut self,
        before: Option<&Run>,
        event: &Event,
        after: &Decision,
        at: Timestamp,
    ) -> Result<(), String> {
        let run = &after.run;
        must!(run.seq == before.map_or(1, |b| b.seq + 1), "seq {} does not follow", run.seq);
        if let Some(before) = before {
            self.learn(before, event, run);
            self.steps(before, after)?;
            self.held_runs_rest(before, event, after, at)?;
            self.engines(before, event, after, at)?;
            self.scouts(before, event, after)?;
            orphans(before, event, after, at)?;
            alerts(before, event, run)?;
        }
        self.outbox(before, after)?;
        self.attempts(run)?;
        self.money(before, after)?;
        self.bounds(run)?;
        for (_, effect) in &after.effects {
            if let Effect::Land { head, base, batch, .. } = effect {
                self.land(run, head, base, *batch)?;
            }
        }
        alive(run)
    }

    /// Returns whether a person accepted failures of checks, so that a broken head may land.
    pub fn accepts_failures(&self) -> bool {
        self.accepted
    }

    /// Returns whether a red result may be excused at all: by a person, or by a policy that only refuses new failures.
    fn excused(&self, red: &CheckResult, run: &Run) -> bool {
        let by_policy = run.settings.policy.base_checks == BaseChecks::NoNewFailures
            && run.baseline.as_ref().is_some_and(|b| {
                b.red().any(|r| !red.failures.is_empty() && red.failures.iter().all(|f| r.failures.contains(f)))
            });
        (self.accepted || by_policy) && run.excuses(red)
    }

    fn learn(&mut self, before: &Run, event: &Event, run: &Run) {
        match event {
            Event::EffectFinished { key, outcome: EffectOutcome::Checked { results, .. } } => {
                if let Some(EffectRef::Check(Scope::Head, sha)) = before.pending.get(key)
                    && !results.is_empty()
                    && results.iter().all(|r| r.green || self.excused(r, run))
                {
                    if results.iter().any(|r| !r.green) {
                        self.red.insert(sha.clone());
                    }
                    self.green.insert(sha.clone());
                }
            }
            Event::Reported(r) => {
                let step = before.attempt(r.attempt).map(|a| a.step);
                if step == Some(Step::Develop) {
                    self.authors.extend(r.session.clone());
                }
                let believed = run.attempt(r.attempt).and_then(|a| a.ended.as_ref());
                if let Report::Reviewed { head, verdict: Verdict::Approve, .. } = &r.report
                    && step == Some(Step::Review)
                    && believed.is_some_and(|e| e.ending == Ending::Succeeded)
                {
                    self.reviewed.insert(head.clone(), r.session.clone());
                }
            }
            Event::Answered { block, answer: Answer::Skip, by } if by.is_person() => {
                let block = block.map_or(before.blocks.first(), |id| before.block(id));
                if let Some(BlockKind::Environment { .. }) = block.map(|b| &b.kind) {
                    self.accepted = true;
                    // What is known of the head may count from now on.
                    if run.facts.results.iter().flatten().any(|r| !r.green)
                        && run.proves(Scope::Head, run.facts.results.as_deref().unwrap_or_default())
                    {
                        self.green.insert(run.head.clone());
                        self.red.insert(run.head.clone());
                    }
                }
                if let Some(BlockKind::Ci { checks, .. }) = block.map(|b| &b.kind) {
                    self.accepted_ci.extend(checks.iter().map(|check| (before.head.clone(), check.clone())));
                    self.red.insert(before.head.clone());
                }
            }
            Event::Answered { block, answer: Answer::Yes, by } => {
                let block = block.map_or(before.blocks.first(), |id| before.block(id));
                if let Some(BlockKind::Approval(Subject::Merge { head, base })) = block.map(|b| &b.kind) {
                    self.approvals.insert((head.clone(), base.clone(), by.clone()));
                }
            }
            _ => {}
        }
        let seen = match event {
            Event::Observed { observation }
            | Event::EffectFinished { outcome: EffectOutcome::Observed { observation }, .. } => observation,
            _ => return,
        };
        for by in &seen.approved_by {
            self.approvals.insert((seen.head.clone(), seen.base.clone(), by.clone()));
        }
        self.seen = Some(seen.clone());
    }

    /// Checks the change of phase.
    fn steps(&mut self, before: &Run, after: &Decision) -> Result<(), String> {
        use Phase::*;
        let (from, to) = (before.phase, after.run.phase);
        let fine = match (from, to) {
            (a, b) if a == b => a != Ended,
            (Queued, Planning | Ended) | (Planning, Working | Reporting) => true,
            (Working, Reviewing | Gating | Landing | Reporting) => true,
            (Reviewing, Working | Gating | Landing | Reporting) => true,
            (Gating, Working | Reviewing | Landing | Reporting) => true,
            (Landing, Gating | Reviewing | Working | Reporting) => true,
            (Reporting, Ended) => true,
            _ => false,
        };
        must!(fine, "the phase went from {} to {}", from.name(), to.name());
        let run = &after.run;
        must!((to >= Reporting) == run.outcome.is_some(), "an outcome belongs to a run that is over, and only to it");
        must!(
            before.outcome.is_none() || before.outcome == run.outcome,
            "the outcome changed from {:?} to {:?}",
            before.outcome,
            run.outcome
        );
        if before.phase == Landing && before.pending.values().any(|t| matches!(t, EffectRef::Land(_))) {
            let known = !run.pending.values().any(|t| matches!(t, EffectRef::Land(_)));
            must!(to == Landing || known || to == Reporting, "left landing without knowing whether it landed");
            must!(
                !matches!(run.outcome, Some(Outcome::Cancelled { .. })) || known,
                "cancelled past the point of no return"
            );
        }
        Ok(())
    }

    /// Checks that a held run starts nothing and that a stopping run only ends what is in progress.
    fn held_runs_rest(&self, before: &Run, event: &Event, after: &Decision, at: Timestamp) -> Result<(), String> {
        let held = |r: &Run| r.paused.is_some() || !r.blocks.is_empty();
        let run = &after.run;
        for (_, effect) in &after.effects {
            let name = effect.effect_ref().name();
            if run.stopping.is_some() && before.stopping.is_some() {
                let ends =
                    matches!(effect, Effect::Stop | Effect::Comment { .. } | Effect::Close { .. } | Effect::Release);
                must!(ends, "{name} was ordered by a run that is stopping");
            }
            if held(before) && held(run) && run.blocks.iter().any(|b| before.blocks.contains(b)) | run.paused.is_some()
            {
                must!(matches!(effect, Effect::Comment { .. }), "{name} was ordered by a run that is held");
            }
        }
        let by_skep = match event {
            Event::Answered { by, .. } | Event::Raised { by, .. } => !by.is_person(),
            _ => false,
        };
        must!(!by_skep, "Skep answered its own question");
        if let Event::Observed { observation }
        | Event::EffectFinished { outcome: EffectOutcome::Observed { observation }, .. } = event
            && observation.state == ChangeState::Open
            && observation.unblocks.iter().all(|u| !u.by.is_person())
            && observation.approved_by.iter().all(|p| !p.is_person())
        {
            let lifted = before.blocks.iter().filter(|b| !run.blocks.contains(b) && b.until.is_none_or(|u| u > at));
            for b in lifted {
                let moved = matches!(
                    b.kind,
                    BlockKind::ChangeClosed
                        | BlockKind::ForeignPush { .. }
                        | BlockKind::Ci { .. }
                        | BlockKind::Approval(Subject::Merge { .. })
                );
                must!(moved, "block {} ({}) was lifted by text without authority", b.id, b.kind.code());
            }
            must!(run.limits == before.limits, "an observation raised the budget");
        }
        Ok(())
    }

    /// Checks that no engine is started in cooldown, that a role's own engine precedes its fallbacks, and that outages
    /// use no try.
    fn engines(&mut self, before: &Run, event: &Event, after: &Decision, at: Timestamp) -> Result<(), String> {
        let run = &after.run;
        if let Event::Reported(r) = event
            && let Report::Unavailable { until, fix, .. } = &r.report
            && run.attempt(r.attempt).and_then(|a| a.ended.as_ref()).is_some_and(|e| e.ending == Ending::Unavailable)
        {
            let attempt = before.attempt(r.attempt).ok_or("an unknown attempt reported")?;
            let reported = until.filter(|u| *u > at);
            let until = fix.is_none().then(|| reported.unwrap_or(Timestamp(at.0 + 30_000)));
            match self.cooldowns.get_mut(&attempt.engine) {
                // If two attempts hit the same outage, the later time counts.
                Some(known) if known.is_none_or(|k| k > at) => {
                    *known = if fix.is_some() { None } else { known.map(|k| reported.map_or(k, |s| s.max(k))) };
                }
                _ => drop(self.cooldowns.insert(attempt.engine.clone(), until)),
            }
            let tries = |r: &Run| match attempt.task.and_then(|t| r.task(t)) {
                Some(task) => task.tries,
                None => r.tries.get(&attempt.step).map_or(0, |t| t.used),
            };
            must!(tries(run) <= tries(before), "an unavailable engine cost a try");
        }
        let asked = |r: &Run| r.blocks.iter().any(|b| matches!(b.kind, BlockKind::Engine { .. }));
        if asked(before) && !asked(run) && run.cooldowns.is_empty() {
            self.cooldowns.clear();
        }
        let cools_down = |engine: &str| self.cooldowns.get(engine).is_some_and(|until| until.is_none_or(|u| u > at));
        for (_, effect) in &after.effects {
            let Effect::Start { order } = effect else { continue };
            let engine = order.engine.text();
            must!(!cools_down(&engine), "{engine} was started in cooldown");
            let role = order.step.role();
            let own = run.settings.engines.get(&role).into_iter();
            let all: Vec<String> =
                own.chain(run.settings.fallbacks.get(&role).into_iter().flatten()).map(|s| s.text()).collect();
            let index = all.iter().position(|e| *e == engine);
            let Some(index) = index else { return Err(format!("{engine} is not an engine of the {}", role.name())) };
            if matches!(order.step, Step::Develop | Step::Explore) && !run.settings.policy.shared.any() {
                // The length of a cooldown grows with its count; here only the fact matters.
                let backs_off =
                    |e: &String| self.cooldowns.contains_key(e) && run.cooldowns.get(e).is_some_and(|r| r.active(at));
                let first = all[..index].iter().all(|e| cools_down(e) || backs_off(e));
                must!(first, "{engine} was started before those that go first");
            }
            let (limits, shared, caps) = (&run.limits, &run.settings.policy.shared, &order.caps);
            let tokens = limits.tokens.or(shared.day_tokens).or(shared.project_tokens);
            must!(tokens.is_none() || caps.tokens > 0, "a limit on tokens became no cap");
            let money = limits.cost_micros.or(shared.day_cost_micros).or(shared.project_cost_micros);
            must!(money.is_none() || caps.cost_micros > 0, "a limit on money became no cap");
            must!(limits.turns.is_none() || caps.turns > 0, "a limit on turns became no cap");
            must!(caps.wall_ms > 0, "an attempt without time");
        }
        Ok(())
    }

    /// Checks that a question to the scout is answered before its step starts again, for exactly that step, or put to a
    /// person.
    fn scouts(&mut self, before: &Run, event: &Event, after: &Decision) -> Result<(), String> {
        let run = &after.run;
        if let Event::Reported(r) = event
            && let Some(attempt) = before.attempt(r.attempt)
            && run.attempt(r.attempt).and_then(|a| a.ended.as_ref()).is_some_and(|e| e.ending.counts())
            && run.stopping.is_none()
        {
            let who = (attempt.step, attempt.task);
            match (&r.report, attempt.answers.and_then(|by| before.attempt(by))) {
                (Report::Asked { question, to: AskedTo::Scout }, None)
                    if run.attempt(r.attempt).and_then(|a| a.ended.as_ref()).map(|e| e.ending)
                        == Some(Ending::Asked)
                        && attempt.step != Step::Explore
                        && run.settings.engines.contains_key(&Role::Scout) =>
                {
                    self.asked.insert(who, question.clone());
                }
                (Report::Explored { notes }, Some(asker)) if !notes.trim().is_empty() => {
                    let who = (asker.step, asker.task);
                    if self.asked.remove(&who).is_some() {
                        self.found.insert(who, notes.clone());
                    }
                }
                _ => {}
            }
        }
        let to_people = |b: &Block| match b.kind {
            BlockKind::Question { step, task } => Some((step, task)),
            _ => None,
        };
        for who in run.blocks.iter().filter_map(to_people) {
            must!(run.inquiry(who.0, who.1).is_none(), "a question both to the scout and to people");
            self.asked.remove(&who);
        }
        if before.head != run.head {
            // Questions of the reviewer of another head are void.
            self.asked.retain(|(step, _), _| *step != Step::Review);
            self.found.retain(|(step, _), _| *step != Step::Review);
        }
        for (_, effect) in &after.effects {
            let Effect::Start { order } = effect else { continue };
            let who = (order.step, order.task.as_ref().map(|t| t.id));
            if let Some(question) = &order.question {
                let open = self.asked.values().any(|q| q.starts_with(question.as_str()));
                must!(open && order.step == Step::Explore, "a scout was started for {question:?}, which nobody asked");
                continue;
            }
            must!(!self.asked.contains_key(&who), "{who:?} starts before the scout has answered");
            if let Some(notes) = self.found.remove(&who) {
                must!(
                    order
                        .notes
                        .iter()
                        .any(|n| n.source == NoteSource::Scout
                            && n.text.contains(&notes[..notes.floor_char_boundary(500)])),
                    "{who:?} does not receive the answer"
                );
            }
            let foreign =
                order.notes.iter().any(|n| n.text.starts_with("Asked: ") && n.only.is_some_and(|s| s != order.step));
            must!(!foreign, "an answer for one step went to another");
        }
        must!(run.inquiries.len() <= run.tasks.len() + 2, "{} questions to the scout", run.inquiries.len());
        Ok(())
    }

    fn outbox(&mut self, before: Option<&Run>, after: &Decision) -> Result<(), String> {
        let mut pending = before.map(|b| b.pending.clone()).unwrap_or_default();
        for key in &after.finished {
            must!(pending.remove(key).is_some(), "effect {key} finished without being pending");
        }
        for (n, (key, effect)) in after.effects.iter().enumerate() {
            must!(key.0 == format!("{}.{n}", after.run.seq), "effect key {key} does not name its row");
            must!(self.keys.insert(key.clone()), "effect key {key} was used before");
            pending.insert(key.clone(), effect.effect_ref());
        }
        must!(pending == after.run.pending, "the pending effects are not those ordered and not finished");
        let lands = pending.values().filter(|t| matches!(t, EffectRef::Land(_))).count();
        must!(lands <= 1, "{lands} landings at once");
        Ok(())
    }

    fn attempts(&self, run: &Run) -> Result<(), String> {
        for (attempt, n) in run.attempts.iter().zip(1..) {
            must!(attempt.id.0 == n, "attempt {} is number {n}", attempt.id);
        }
        let live: Vec<&Attempt> = run.live_attempts().collect();
        let tasks: BTreeSet<_> = live.iter().map(|a| (a.step, a.task, a.answers)).collect();
        must!(tasks.len() == live.len(), "two live attempts at one step and task");
        must!(live.len() <= run.settings.policy.parallel_tasks as usize, "{} live attempts", live.len());
        let asker = |a: &Attempt| a.answers.and_then(|by| run.attempt(by)).map_or(a.step, |by| by.step);
        let alone = live.iter().any(|a| asker(a) != Step::Develop);
        must!(!alone || live.len() == 1, "a {} attempt beside others", live[0].step.name());
        let starts: BTreeSet<AttemptId> = run
            .pending
            .values()
            .filter_map(|t| if let EffectRef::Start(a) | EffectRef::Reserve(a) = t { Some(*a) } else { None })
            .collect();
        must!(starts == live.iter().map(|a| a.id).collect(), "live attempts are not the pending starts");
        let reservations: BTreeMap<AttemptId, Usage> = live.iter().map(|a| (a.id, a.reserved)).collect();
        must!(reservations == run.ledger.reserved, "the reservations are not those of the live attempts");
        for task in &run.tasks {
            must!(task.tries <= task.tries_allowed, "task {} had {} tries", task.id, task.tries);
            let over = |need: &String| run.tasks.iter().any(|t| t.spec.name == *need && t.over());
            let early = !matches!(task.stage, Stage::Waiting | Stage::Dropped) && !task.spec.needs.iter().all(over);
            must!(!early, "task {} goes on before its needs have ended", task.id);
            let working = live.iter().any(|a| a.task == Some(task.id));
            let developing = task.stage == Stage::Developing;
            must!(working == developing, "task {} is {:?}, with a live attempt: {working}", task.id, task.stage);
        }
        Ok(())
    }

    fn money(&self, before: Option<&Run>, after: &Decision) -> Result<(), String> {
        let (run, spent) = (&after.run, after.run.ledger.spent);
        if let Some(b) = before.map(|b| b.ledger.spent) {
            let grew = spent.tokens >= b.tokens && spent.cost_micros >= b.cost_micros && spent.wall_ms >= b.wall_ms;
            must!(grew, "spending went down");
        }
        // With shared budgets the start follows the reservation, and checks may have taken time in between.
        let shared = run.settings.policy.shared.any();
        let reserves =
            |e: &Effect| matches!(e, Effect::Reserve { .. }) || (!shared && matches!(e, Effect::Start { .. }));
        let starts = after.effects.iter().any(|(_, e)| reserves(e));
        if after.effects.iter().any(|(_, e)| matches!(e, Effect::Check { .. })) {
            // Checks reserve nothing: only those in progress may exceed the limit.
            must!(spent.wall_ms < run.limits.timeout_secs * 1000, "a check was ordered with no time left");
        }
        if starts {
            let sum = run.ledger.committed();
            must!(run.limits.tokens.is_none_or(|l| sum.tokens <= l), "more tokens reserved than there are");
            must!(run.limits.cost_micros.is_none_or(|l| sum.cost_micros <= l), "more money reserved than there is");
            must!(sum.wall_ms <= run.limits.timeout_secs * 1000, "more time reserved than there is");
            must!(run.limits.turns.is_none_or(|l| sum.turns <= l), "more turns reserved than there are");
            must!(run.counted_attempts() <= run.limits.attempts as usize, "more attempts than the run may have");
        }
        Ok(())
    }

    fn bounds(&mut self, run: &Run) -> Result<(), String> {
        must!(run.blocks.len() <= MAX_BLOCKS, "{} blocks", run.blocks.len());
        let kinds = run.blocks.iter().enumerate().all(|(i, b)| run.blocks[..i].iter().all(|o| o.kind != b.kind));
        must!(kinds, "the same block twice");
        must!(run.notes.len() <= Run::MAX_NOTES, "{} notes", run.notes.len());
        must!(run.tasks.iter().all(|t| t.notes.len() <= Task::MAX_NOTES), "too many notes of a task");
        self.person_tasks =
            self.person_tasks.max(run.tasks.iter().filter(|t| t.origin == task::Origin::Person).count());
        let most = run.settings.policy.max_tasks as usize + run.rounds as usize + self.person_tasks;
        must!(run.tasks.len() <= most, "{} tasks", run.tasks.len());
        must!(
            run.unavailable <= engine_selection::MAX_UNAVAILABLE + run.settings.policy.parallel_tasks,
            "it never blocks about its engines"
        );
        must!(run.alerts.len() <= 40, "{} alerts", run.alerts.len());
        must!(run.rounds <= run.limits.rounds, "{} rounds of {}", run.rounds, run.limits.rounds);
        if run.seq.is_multiple_of(64) {
            let size = serde_json::to_vec(run).map_err(|e| e.to_string())?.len();
            must!(size <= MAX_SNAPSHOT_BYTES, "the snapshot has {size} bytes");
        }
        Ok(())
    }

    /// Checks everything that must be true of exactly this head and base, from the journal and not from the gates.
    fn land(&mut self, run: &Run, head: &Sha, base: &Sha, batch: u32) -> Result<(), String> {
        self.lands_ordered += 1;
        must!(run.phase == Phase::Landing && run.stopping.is_none(), "a landing out of place");
        must!(run.paused.is_none() && run.blocks.is_empty(), "a landing by a held run");
        must!(*head == run.head && *base == run.base && head != base, "a landing of another head or base");
        must!(self.green.contains(head), "landing {head}, for which no check of the whole was green");
        let Some(session) = self.reviewed.get(head) else {
            return Err(format!("landing {head}, never approved by a review"));
        };
        let author = session.as_ref().is_some_and(|s| self.authors.contains(s));
        must!(!author, "landing {head}, reviewed by its author {session:?}");
        let Some(seen) = &self.seen else { return Err("landing without an observation".to_owned()) };
        must!(seen.state == ChangeState::Open, "landing a change that is not open");
        must!(seen.head == *head, "landing {head}, the branch was seen at {}", seen.head);
        must!(batch > 1 || seen.base == *base, "landing on {base}, the base was seen at {}", seen.base);
        let has_ci = !run.settings.policy.required_statuses.is_empty() || !seen.statuses.is_empty();
        must!(batch == 1 || (!has_ci && !self.red.contains(head)), "a batch does not prove {head}");
        for context in &run.settings.policy.required_statuses {
            let is_accepted = self.accepted_ci.contains(&(head.clone(), context.clone()));
            let is_green = seen.statuses.get(context) == Some(&StatusState::Success);
            must!(is_green || is_accepted, "landing without {context} green");
        }
        if run.settings.policy.approve_merge || !run.concerns().is_empty() || self.red.contains(head) {
            let may = |p: &Principal| p.is_person() && (run.settings.policy.self_approval || *p != run.goal.asked_by);
            let given = self.approvals.iter().any(|(h, b, p)| h == head && (batch > 1 || b == base) && may(p));
            must!(given, "landing {head} on {base} without a person's approval of exactly that");
        }
        Ok(())
    }
}

/// Checks that an attempt that loses its process is resumed a few times at most, or is lost and charged once, either
/// its metered usage or its full reservation.
fn orphans(before: &Run, event: &Event, after: &Decision, at: Timestamp) -> Result<(), String> {
    let most = after.run.attempts.iter().filter_map(|a| a.resumable.as_ref()).map(|r| r.resumes).max().unwrap_or(0);
    must!(most <= Resumable::MAX_RESUMES, "an attempt was resumed {most} times");
    let Event::Orphaned { attempts, metered, alive, .. } = event else { return Ok(()) };
    let spent = |run: &Run| run.ledger.spent;
    let mut charged = Usage::default();
    for id in attempts.iter().filter(|id| before.is_pending(&EffectRef::Start(**id))) {
        let (Some(was), Some(is)) = (before.attempt(*id), after.run.attempt(*id)) else { continue };
        let Some(ended) = &is.ended else {
            let (was, is) = (was.resumable.as_ref(), is.resumable.as_ref());
            let counted =
                matches!((was, is), (Some(w), Some(i)) if i.resumes == w.resumes + 1 && i.session == w.session);
            must!(counted, "{id} was resumed without being counted: {was:?}, {is:?}");
            must!(
                before.stopping.is_none() && after.run.is_pending(&EffectRef::Start(*id)),
                "{id} was resumed in vain"
            );
            must!(!after.effects.iter().any(|(_, e)| e.effect_ref() == EffectRef::Start(*id)), "{id} is started twice");
            continue;
        };
        must!(ended.ending == Ending::Lost, "{id} lost its process and is {:?}", ended.ending);
        let counted = metered.iter().find(|(m, _)| m == id).map(|(_, m)| m.used);
        let counts_turns = before.limits.turns.is_some() && EngineSpec::parse(&was.engine).calls_models();
        let unmetered = Usage { turns: if counts_turns { was.reserved.turns } else { 0 }, ..was.reserved };
        let mut all = counted.filter(|u| !u.is_absurd()).unwrap_or(unmetered);
        let at = alive.iter().find(|(m, _)| m == id).map_or(at, |(_, seen)| (*seen).min(at));
        if ended.usage_by_model.iter().any(|line| !line.priced) {
            all.cost_micros = all.cost_micros.max(was.reserved.cost_micros);
        }
        must!(
            ended.charged == Usage { wall_ms: was.elapsed_ms(at), ..all },
            "{id} was charged {:?} and not {all:?}",
            ended.charged
        );
        charged = charged.plus(ended.charged);
    }
    must!(spent(&after.run) == spent(before).plus(charged), "the loss was not charged exactly once");
    Ok(())
}

/// Checks that each alert is reported once and is correct.
fn alerts(before: &Run, event: &Event, run: &Run) -> Result<(), String> {
    let raised = run.limits != before.limits;
    for (n, alert) in run.alerts.iter().enumerate() {
        let again = run.alerts[..n].iter().any(|a| a.is_of(alert.scope, alert.budget) && a.percent >= alert.percent);
        must!(!again, "{alert:?} was repeated");
        if before.alerts.contains(alert) {
            continue;
        }
        let level = run.ledger.levels(&run.limits).into_iter().find(|(budget, ..)| alert.is_of(None, *budget));
        match level {
            Some((_, used, limit)) => must!(used * 100 >= limit * u64::from(alert.percent), "{alert:?} is not true"),
            None => must!(matches!(event, Event::EffectFinished { .. }), "{alert:?} after {}", event.name()),
        }
    }
    // An alert of a shared budget may be repeated for a raised limit.
    let replaced = |a: &Alert| {
        a.scope.is_some() && run.alerts.iter().any(|b| b.is_of(a.scope, a.budget) && b.percent <= a.percent)
    };
    let kept = |a: &Alert| run.alerts.contains(a) || a.scope == Some(BudgetScope::Day) || replaced(a);
    let gone = before.alerts.iter().any(|a| !kept(a));
    must!(!gone || raised, "an alert was forgotten");
    Ok(())
}

/// Checks that a waiting run waits for a person or an event.
fn alive(run: &Run) -> Result<(), String> {
    let waits_for_status = run.phase == Phase::Gating && matches!(gate::statuses(run), gate::Gate::Wait(_));
    let waits = run.wake_at().is_some();
    must!(run.wait.is_none() || run.blocks.is_empty(), "a held run has no wait of its own");
    let excused = run.phase == Phase::Queued || run.ended() || run.paused.is_some() || !run.blocks.is_empty() || waits;
    must!(
        !run.pending.is_empty() || excused || waits_for_status,
        "stuck: {} with nothing pending and nobody asked",
        run.phase.name()
    );
    Ok(())
}
