//! A simulated world: commits as trees, a forge with one branch and its changes, checks that know the true state.
//!
//! Invariant: carrying out the same effect twice yields the same world as once, as the real adapters promise.

use super::engines;
use super::rng::{roll, sha};
use super::story::{broken, checked};
use skep::domain::change::UnblockComment;
use skep::domain::*;
use std::collections::{BTreeMap, BTreeSet};

type Tree = BTreeMap<String, String>;

/// A change on the simulated forge.
#[derive(Clone, Debug)]
pub struct Change {
    pub state: ChangeState,
    pub draft: bool,
    /// Comments by marker, so that an effect carried out twice is still one comment.
    pub comments: BTreeMap<String, String>,
    pub approvals: Vec<(Principal, Sha)>,
    pub unblocks: Vec<UnblockComment>,
    pub requests: Vec<ChangeRequest>,
}

/// The world.
#[derive(Clone, Debug)]
pub struct World {
    pub seed: u64,
    /// Whether engines lie and effects misbehave.
    pub lies: bool,
    /// Whether every engine reports the same session.
    pub one_session: bool,
    /// Whether checks are sometimes red for no reason.
    pub flaky: bool,
    /// Whether engines are sometimes unavailable.
    pub outages: bool,
    /// Engines that are unavailable until a person fixes them.
    pub down: BTreeSet<String>,
    /// The current time.
    pub now: Timestamp,
    /// The shared ledger: the reservation or usage of each attempt, and its day.
    pub ledger: BTreeMap<AttemptId, (Usage, Day)>,
    /// Spending of other runs from the shared budgets, every day.
    pub others: u64,
    /// Raises of the shared budgets by people.
    pub raised: u64,
    /// Alerts of the shared budgets, with the day for a day's budget.
    alerts: Vec<(Level, i64)>,
    /// Whether every landing is refused as stale for no visible reason.
    pub always_stale: bool,
    trees: BTreeMap<Sha, Tree>,
    /// The base commit of each commit.
    sits_on: BTreeMap<Sha, Sha>,
    pub base: Sha,
    pub base_history: Vec<Sha>,
    /// The head of the run's branch on the forge.
    pub branch: Option<Sha>,
    pushed: BTreeSet<Sha>,
    pub changes: Vec<Change>,
    pub statuses: BTreeMap<Sha, BTreeMap<String, StatusState>>,
    /// Reruns of CI by commit.
    pub reruns: BTreeMap<Sha, u64>,
    /// The effects that answered in each thread of a review.
    pub answers: BTreeMap<u64, BTreeSet<EffectKey>>,
    /// Commits Skep put on the base branch.
    pub lands: Vec<Sha>,
    /// The commits as which proven heads landed on a base that had moved.
    pub in_batches: BTreeMap<Sha, Sha>,
    /// Effects that fail until a person fixes the cause.
    pub broken: BTreeSet<String>,
    /// What the environment of the checks lacks until a person repairs it.
    pub fault: Option<Fault>,
    /// Whether `Stop` was carried out.
    pub stopped: bool,
    moves: u64,
}

impl World {
    pub fn new(seed: u64, root: &Sha) -> World {
        World {
            seed,
            lies: false,
            one_session: false,
            flaky: false,
            outages: false,
            down: BTreeSet::new(),
            now: Timestamp(0),
            ledger: BTreeMap::new(),
            others: 0,
            raised: 0,
            alerts: Vec::new(),
            always_stale: false,
            trees: BTreeMap::from([(root.clone(), Tree::new())]),
            sits_on: BTreeMap::from([(root.clone(), root.clone())]),
            base: root.clone(),
            base_history: vec![root.clone()],
            branch: None,
            pushed: BTreeSet::new(),
            changes: Vec::new(),
            statuses: BTreeMap::new(),
            reruns: BTreeMap::new(),
            answers: BTreeMap::new(),
            lands: Vec::new(),
            in_batches: BTreeMap::new(),
            broken: BTreeSet::new(),
            fault: None,
            stopped: false,
            moves: 0,
        }
    }

    fn add(&mut self, parent: &Sha, sits_on: &Sha, tree: Tree) -> Sha {
        if self.trees.get(parent) == Some(&tree) && self.sits_on.get(parent) == Some(sits_on) {
            return parent.clone();
        }
        let id = sha(&[parent.as_str(), &word(&tree)]);
        self.trees.insert(id.clone(), tree);
        self.sits_on.insert(id.clone(), sits_on.clone());
        id
    }

    /// A commit with these files on top of `parent`; `parent` itself if nothing changes.
    pub fn commit_on(&mut self, parent: &Sha, files: &[(String, String)]) -> Sha {
        let mut tree = self.trees[parent].clone();
        tree.extend(files.iter().cloned());
        let sits_on = self.sits_on[parent].clone();
        self.add(parent, &sits_on, tree)
    }

    pub fn tree_word(&self, sha: &Sha) -> String {
        word(&self.trees[sha])
    }

    pub fn diff(&self, from: &Sha, to: &Sha) -> DiffStat {
        let (a, b) = (&self.trees[from], &self.trees[to]);
        let changed = b.iter().filter(|(path, text)| a.get(*path) != Some(text));
        let files: Vec<FileChange> = changed
            .map(|(path, _)| FileChange {
                path: path.clone(),
                kind: if a.contains_key(path) { FileKind::Modified } else { FileKind::Added },
                added: 1,
                // Changed files in this folder lose lines.
                removed: if path.starts_with("gen/") && a.contains_key(path) { 2 } else { 0 },
                binary: false,
                blob: None,
            })
            .collect();
        let removed = files.iter().map(|f| f.removed).sum();
        DiffStat { files_total: files.len() as u64, added: files.len() as u64, removed, files, unusual: Vec::new() }
    }

    /// Whether a commit is truly green: it contains no bug, and its parts fit together.
    pub fn is_green(&self, sha: &Sha) -> bool {
        let tree = &self.trees[sha];
        let whole = roll(self.seed, &["whole", &word(tree)]) % 8 != 0;
        tree.values().all(|text| !text.starts_with("bug")) && (whole || tree.len() < 2 || tree.len() > 5)
    }

    /// Moves the base branch as an outsider would. `absorb` = the new base includes the run's branch.
    pub fn move_base(&mut self, absorb: bool) {
        self.moves += 1;
        let mut tree = self.trees[&self.base].clone();
        if let Some(branch) = self.branch.clone().filter(|_| absorb) {
            tree.extend(self.trees[&branch].clone());
        }
        tree.insert("other".to_owned(), format!("v{}", self.moves));
        let id = sha(&[self.base.as_str(), "moved", &self.moves.to_string()]);
        self.trees.insert(id.clone(), tree);
        self.sits_on.insert(id.clone(), id.clone());
        self.base = id.clone();
        self.base_history.push(id);
    }

    /// Pushes to the run's branch as an outsider would.
    pub fn foreign_push(&mut self) {
        if let Some(branch) = self.branch.clone() {
            self.moves += 1;
            let files = [("foreign".to_owned(), format!("v{}", self.moves))];
            self.branch = Some(self.commit_on(&branch, &files));
        }
    }

    /// Undoes a foreign push.
    pub fn undo_foreign_push(&mut self, head: &Sha) {
        if self.pushed.contains(head) {
            self.branch = Some(head.clone());
        }
    }

    pub fn change(&mut self, number: ChangeNumber) -> Option<&mut Change> {
        self.changes.get_mut((number.0 as usize).checked_sub(1)?)
    }

    /// Observes a change.
    pub fn observe(&self, number: ChangeNumber) -> Observation {
        let change = &self.changes[number.0 as usize - 1];
        let head = self.branch.clone().unwrap_or_else(|| self.base.clone());
        let statuses = self.statuses.get(&head).cloned().unwrap_or_default();
        let failed = statuses.iter().filter(|(_, state)| **state == StatusState::Failure);
        Observation {
            state: change.state.clone(),
            base: self.base.clone(),
            failed: failed.map(|(name, _)| (name.clone(), self.ci_attempt(&head))).collect(),
            required: BTreeSet::new(),
            change_requests: change.requests.clone(),
            statuses,
            approved_by: change.approvals.iter().filter(|(_, h)| *h == head).map(|(p, _)| p.clone()).collect(),
            unblocks: change.unblocks.clone(),
            head,
        }
    }

    fn ci_attempt(&self, commit: &Sha) -> u64 {
        1 + self.reruns.get(commit).copied().unwrap_or_default()
    }

    fn inspect_ci(&self, head: &Sha, checks: &[String]) -> EffectOutcome {
        let dice = roll(self.seed, &["ci", head.as_str()]);
        let failure = |name: &String| CiFailure {
            id: self.ci_attempt(head),
            log: JobLog::read(&format!("FAILED {}", dice % 5)),
            red_at_base: (dice >> 8) % 6 == 0,
            passed_too: (dice >> 16) % 3 == 0,
            workflow_run: Some(WorkflowRun { id: 1, attempt: self.ci_attempt(head) }),
            ..CiFailure::named(name)
        };
        // The forge may know less than what was asked for.
        let failures = checks.iter().filter(|_| (dice >> 24) % 4 > 0).map(failure).collect();
        EffectOutcome::CiInspected { failures }
    }

    fn rerun_ci(&mut self, head: &Sha, runs: &BTreeSet<WorkflowRun>) -> EffectOutcome {
        let is_first = runs.iter().all(|run| run.attempt == self.ci_attempt(head));
        if is_first {
            *self.reruns.entry(head.clone()).or_default() += 1;
            let green = roll(self.seed, &["rerun", head.as_str()]) % 2 == 0;
            let state = if green { StatusState::Success } else { StatusState::Failure };
            self.statuses.entry(head.clone()).or_default().insert("ci".to_owned(), state);
        }
        EffectOutcome::CiRerun
    }

    /// Merges the change as a person would, if it can be fast-forwarded.
    pub fn merge_by(&mut self, number: ChangeNumber, by: &Principal) {
        let Some(head) = self.branch.clone() else { return };
        let fits = self.sits_on[&head] == self.base;
        let base = self.base.clone();
        let Some(change) = self.change(number) else { return };
        if change.state == ChangeState::Open && fits && head != base {
            change.state = ChangeState::Merged { sha: head.clone(), by: by.clone() };
            self.put_on_base(&head);
        }
    }

    fn put_on_base(&mut self, head: &Sha) {
        self.base = head.clone();
        self.base_history.push(head.clone());
        self.sits_on.insert(head.clone(), head.clone());
    }

    /// Carries out an effect that is not a start.
    pub fn carry_out(&mut self, key: &EffectKey, effect: &Effect) -> EffectOutcome {
        if self.broken.contains(effect.effect_ref().name()) {
            let failure = Failure { what: "the forge says 403".to_owned(), fix: "give it the right".to_owned() };
            return EffectOutcome::Failed { failure };
        }
        match effect {
            Effect::Start { .. } => unreachable!("a start ends with a report"),
            Effect::Reserve { attempt, caps, shared, alert_percent, at, .. } => {
                self.reserve(*attempt, *caps, shared, alert_percent, *at)
            }
            Effect::Check { sha, known, .. } if known.is_empty() => self.check(sha, key),
            Effect::Check { known, .. } => checked(known.clone()),
            Effect::Integrate { task, from, head, onto, .. } => {
                let files = self.diff(from, head);
                let texts: Vec<String> = files.paths().map(|p| self.trees[head][p].clone()).collect();
                let words = ["conflict", &task.to_string(), &texts.join(",")];
                if roll(self.seed, &words) % 12 == 0 {
                    return EffectOutcome::Conflict { paths: vec!["src/a".to_owned()] };
                }
                self.moved(from, head, onto, false)
            }
            Effect::Rebase { from, head, onto } => {
                if roll(self.seed, &["rebase", onto.as_str()]) % 4 == 0 {
                    return EffectOutcome::Conflict { paths: vec!["other".to_owned()] };
                }
                self.moved(from, head, onto, true)
            }
            Effect::Push { sha, expected, allowed_secrets } => {
                let fingerprint = format!("m-{}", sha.abbrev());
                if roll(self.seed, &["secret", sha.as_str()]) % 16 == 0 && !allowed_secrets.contains(&fingerprint) {
                    let found =
                        SecretFound { location: "src/a:1".to_owned(), what: "a secret".to_owned(), fingerprint };
                    return EffectOutcome::PushHeld { found: vec![found] };
                }
                let foreign = self.branch.as_ref().filter(|b| !self.pushed.contains(b));
                if foreign.is_some() && foreign != expected.as_ref() {
                    let failure = Failure { what: "a foreign head".to_owned(), fix: "inspect it".to_owned() };
                    return EffectOutcome::Failed { failure };
                }
                self.pushed.insert(sha.clone());
                self.branch = Some(sha.clone());
                EffectOutcome::Pushed
            }
            Effect::EnsureChange { draft, .. } => self.ensure_change(*draft),
            Effect::Comment { change, thread, about } => {
                if let Some(thread) = thread {
                    self.answers.entry(*thread).or_default().insert(key.clone());
                }
                if let Some(c) = self.change(*change) {
                    c.comments.entry(key.to_string()).or_insert_with(|| format!("{about:?}"));
                }
                EffectOutcome::Commented
            }
            // Skep's own statuses are not among those that an observation returns.
            Effect::SetStatus { .. } => EffectOutcome::StatusSet,
            Effect::Observe { change } => EffectOutcome::Observed { observation: self.observe(*change) },
            Effect::InspectCi { head, checks, .. } => self.inspect_ci(head, checks),
            Effect::RerunCi { head, runs } => self.rerun_ci(head, runs),
            Effect::Land { change, head, base, batch } => self.land(*change, head, base, *batch > 1),
            Effect::Close { change } => {
                if let Some(c) = self.change(*change)
                    && c.state == ChangeState::Open
                {
                    c.state = ChangeState::Closed { by: Principal::skep() };
                }
                EffectOutcome::ChangeClosed
            }
            Effect::Release => EffectOutcome::Released,
            Effect::Stop => {
                self.stopped = true;
                EffectOutcome::Stopped
            }
        }
    }

    /// Reserves in the shared budgets as the store does: an attempt that asks again is granted the same.
    fn reserve(
        &mut self,
        attempt: AttemptId,
        caps: Usage,
        shared: &SharedLimits,
        alerts: &[u8],
        at: Timestamp,
    ) -> EffectOutcome {
        if let Some((caps, _)) = self.ledger.get(&attempt) {
            return EffectOutcome::Reserved { caps: *caps, levels: Vec::new() };
        }
        let (mut caps, mut levels) = (caps, Vec::new());
        let limits = [
            (BudgetScope::Project, BudgetUnit::Tokens, shared.project_tokens),
            (BudgetScope::Project, BudgetUnit::Cost, shared.project_cost_micros),
            (BudgetScope::Day, BudgetUnit::Tokens, shared.day_tokens),
            (BudgetScope::Day, BudgetUnit::Cost, shared.day_cost_micros),
        ];
        for (scope, unit, limit) in limits {
            let Some(limit) = limit.map(|l| l + self.raised) else { continue };
            let used = self.others + self.used(scope, unit, at);
            let left = limit.saturating_sub(used);
            let cap = match unit {
                BudgetUnit::Tokens => &mut caps.tokens,
                BudgetUnit::Cost => &mut caps.cost_micros,
            };
            *cap = if left == 0 { *cap } else { SharedLimits::cap(*cap, left, unit) };
            levels.push(Level { scope, unit, used, reserved: 0, limit, alert_percent: None });
        }
        let budgets: Vec<SharedBudget> = levels.iter().filter_map(Level::exhausted).collect();
        if !budgets.is_empty() {
            let reserved = roll(self.seed, &["set aside", &attempt.to_string()]) % 2 == 0;
            return EffectOutcome::BudgetExhausted { budgets, levels, spending: Vec::new(), reserved };
        }
        for level in &mut levels {
            let cap = match level.unit {
                BudgetUnit::Tokens => caps.tokens,
                BudgetUnit::Cost => caps.cost_micros,
            };
            (level.used, level.reserved) = (level.used + cap, level.reserved + cap);
            let day = if level.scope == BudgetScope::Day { Day::of(at).0 } else { 0 };
            let reached = Alert::reached(alerts, level.spent(), level.limit);
            // An alert is repeated if the limit has changed.
            let known = |share: &u8| {
                let of_it = |t: &&(Level, i64)| {
                    t.1 == day && (t.0.scope, t.0.unit, t.0.limit) == (level.scope, level.unit, level.limit)
                };
                self.alerts.iter().filter(of_it).any(|t| t.0.alert_percent >= Some(*share))
            };
            level.alert_percent = reached.filter(|share| !known(share));
            if level.alert_percent.is_some() {
                self.alerts.push((level.clone(), day));
            }
        }
        self.ledger.insert(attempt, (caps, Day::of(at)));
        EffectOutcome::Reserved { caps, levels }
    }

    /// The part of a shared budget that the run's attempts have used or reserved.
    pub fn used(&self, scope: BudgetScope, unit: BudgetUnit, at: Timestamp) -> u64 {
        let today = |day: &Day| scope == BudgetScope::Project || *day == Day::of(at);
        let amounts = self.ledger.values().filter(|(_, day)| today(day)).map(|(u, _)| u);
        amounts
            .map(|u| match unit {
                BudgetUnit::Tokens => u.tokens,
                BudgetUnit::Cost => u.cost_micros,
            })
            .sum()
    }

    /// Returns a report if the order's engine is unavailable or its budget is exhausted.
    pub fn outage(&mut self, order: &Order) -> Option<Report> {
        if !self.outages {
            return None;
        }
        let engine = order.engine.text();
        let dice = roll(self.seed, &["outage", &engine, &order.attempt.to_string()]);
        let known = self.down.contains(&engine);
        if !known && (dice >> 40) % 100 < 6 {
            let kinds = [BudgetKind::Tokens, BudgetKind::Cost, BudgetKind::Turns, BudgetKind::Attempts];
            let budget = kinds[((dice >> 48) % 4) as usize];
            return Some(Report::BudgetExhausted {
                budget,
                why: "its next call did not fit".to_owned(),
                unfinished: None,
            });
        }
        if !known && dice % 100 >= 14 {
            return None;
        }
        let (until, fix) = match (dice >> 8) % 4 {
            _ if known => (None, true),
            0 => (None, true),
            1 => (Some(Timestamp(self.now.0 + ((dice >> 16) % 90_000_000) as i64)), false),
            2 => (Some(Timestamp(self.now.0 - 5)), false),
            _ => (None, false),
        };
        if fix {
            self.down.insert(engine.clone());
        }
        let fix = fix.then(|| "set the key".to_owned());
        Some(Report::Unavailable { why: format!("{engine} does not answer"), until, fix })
    }

    /// Returns the report of an attempt.
    pub fn work(&mut self, order: &Order) -> Reported {
        let mut reported = engines::work(self, order);
        if self.stopped {
            reported.report = Report::Stopped;
        }
        reported
    }

    fn check(&self, sha: &Sha, key: &EffectKey) -> EffectOutcome {
        if let Some(fault) = &self.fault {
            return checked(broken(fault.clone()));
        }
        let truth = self.is_green(sha);
        let bugs = self.trees[sha].iter().filter(|(_, text)| text.starts_with("bug")).map(|(path, _)| path.clone());
        let mood = roll(self.seed, &["mood", key.as_str()]);
        let green = truth && !(self.flaky && mood % 10 == 0);
        if self.lies && mood % 97 == 1 {
            return checked(Vec::new());
        }
        if self.lies && mood % 97 == 2 {
            return EffectOutcome::Commented;
        }
        let result = CheckResult {
            name: "test".to_owned(),
            kind: CheckKind::Test,
            green,
            exit_code: Some(i32::from(!green)),
            duration_ms: 7,
            why: if green { String::new() } else { "exit code 1".to_owned() },
            tail: if green { String::new() } else { "assertion failed".to_owned() },
            tests: None,
            artifacts: Vec::new(),
            secrets: Vec::new(),
            failures: if green { Vec::new() } else { bugs.collect() },
            fault: None,
        };
        EffectOutcome::Checked { results: vec![result], wall_ms: 7_000, scope: None, reused: None, environment: None }
    }

    fn moved(&mut self, from: &Sha, head: &Sha, onto: &Sha, rebase: bool) -> EffectOutcome {
        let mut tree = self.trees[onto].clone();
        for path in self.diff(from, head).paths() {
            tree.insert(path.to_owned(), self.trees[head][path].clone());
        }
        let sits_on = if rebase { onto.clone() } else { self.sits_on[onto].clone() };
        let new = self.add(onto, &sits_on, tree);
        let diff = self.diff(&sits_on, &new);
        match rebase {
            true => EffectOutcome::Rebased { head: new, diff },
            false => EffectOutcome::Integrated { head: new, diff },
        }
    }

    fn ensure_change(&mut self, draft: bool) -> EffectOutcome {
        let open = self.changes.iter().position(|c| c.state == ChangeState::Open);
        let at = open.unwrap_or_else(|| {
            self.changes.push(Change {
                state: ChangeState::Open,
                draft,
                comments: BTreeMap::new(),
                approvals: Vec::new(),
                unblocks: Vec::new(),
                requests: Vec::new(),
            });
            self.changes.len() - 1
        });
        self.changes[at].draft = draft;
        let number = ChangeNumber(at as u64 + 1);
        EffectOutcome::ChangeOpened { change: ChangeRef { number, url: format!("skep change show demo#{number}") } }
    }

    /// Whether a proven head is on the base branch, as it is or as part of a batch.
    pub fn has_landed(&self, head: &Sha) -> bool {
        self.base_history.contains(head) || self.in_batches.contains_key(head)
    }

    fn land(&mut self, number: ChangeNumber, head: &Sha, base: &Sha, in_batch: bool) -> EffectOutcome {
        if self.base_history.contains(head) {
            return EffectOutcome::Landed { sha: head.clone(), batch: None };
        }
        if let Some(sha) = self.in_batches.get(head) {
            return EffectOutcome::Landed { sha: sha.clone(), batch: Some(Box::new(self.proof(base, sha))) };
        }
        let open = self.change(number).is_some_and(|c| c.state == ChangeState::Open && !c.draft);
        let moved = self.base != *base;
        if !open || self.branch.as_ref() != Some(head) || (moved && !in_batch) || self.always_stale {
            return EffectOutcome::Stale { why: "it is not what it was".to_owned() };
        }
        if moved {
            return self.land_on_moved_base(number, head, base);
        }
        if let Some(c) = self.change(number) {
            c.state = ChangeState::Merged { sha: head.clone(), by: Principal::skep() };
        }
        self.lands.push(head.clone());
        self.put_on_base(head);
        EffectOutcome::Landed { sha: head.clone(), batch: None }
    }
}

/// What the merge queue does with a change whose base has moved.
impl World {
    fn proof(&self, base: &Sha, tip: &Sha) -> BatchProof {
        BatchProof { base: base.clone(), tip: tip.clone(), runs: Vec::new(), results: Vec::new(), environment: None }
    }

    fn land_on_moved_base(&mut self, number: ChangeNumber, head: &Sha, base: &Sha) -> EffectOutcome {
        let onto = self.base.clone();
        let put_back = |red| EffectOutcome::PutBack { why: "it does not go with the base".to_owned(), red };
        if roll(self.seed, &["rebase", onto.as_str()]) % 4 == 0 {
            return put_back(None);
        }
        let EffectOutcome::Rebased { head: on_top, diff } = self.moved(base, head, &onto, true) else {
            return put_back(None);
        };
        if on_top == onto {
            return put_back(None);
        }
        if !self.is_green(&on_top) {
            let EffectOutcome::Checked { results, environment, .. } = self.check(&on_top, &EffectKey("b.0".to_owned()))
            else {
                return put_back(None);
            };
            let red = RedInBatch { base: onto, head: on_top, diff, runs: Vec::new(), results, environment };
            return put_back(Some(Box::new(red)));
        }
        if let Some(c) = self.change(number) {
            c.state = ChangeState::Merged { sha: on_top.clone(), by: Principal::skep() };
        }
        self.lands.push(on_top.clone());
        self.in_batches.insert(head.clone(), on_top.clone());
        self.put_on_base(&on_top);
        let proof = self.proof(&onto, &on_top);
        EffectOutcome::Landed { sha: on_top, batch: Some(Box::new(proof)) }
    }
}

fn word(tree: &Tree) -> String {
    tree.iter().map(|(path, text)| format!("{path}={text};")).collect()
}
