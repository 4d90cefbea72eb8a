//! A simulated world: commits as trees, a forge with one branch and its changes, checks that know the truth.
//!
//! Invariant: carrying the same effect out twice gives the same world as once, as the real adapters promise.

use super::engines;
use super::rng::{roll, sha};
use skep::domain::change::UnblockComment;
use skep::domain::*;
use std::collections::{BTreeMap, BTreeSet};

type Tree = BTreeMap<String, String>;

/// A change on the simulated forge.
#[derive(Clone, Debug)]
pub struct Change {
    pub state: ChangeState,
    pub draft: bool,
    /// By marker: the same effect twice is one comment.
    pub comments: BTreeMap<String, String>,
    pub approvals: Vec<(Principal, Sha)>,
    pub unblocks: Vec<UnblockComment>,
}

/// The world.
#[derive(Clone, Debug)]
pub struct World {
    pub seed: u64,
    /// Whether engines lie and acts misbehave.
    pub lies: bool,
    /// Whether every engine names the same session.
    pub one_session: bool,
    /// Whether checks are red at times without a reason.
    pub flaky: bool,
    /// Whether engines are unavailable at times.
    pub outages: bool,
    /// Engines that cannot be used until a person mends them.
    pub down: BTreeSet<String>,
    /// What time it is.
    pub now: Timestamp,
    /// The shared books: what each attempt set aside or used, and on which day.
    pub books: BTreeMap<AttemptId, (Usage, Day)>,
    /// What others spend of the shared budgets every day.
    pub others: u64,
    /// What people gave the shared budgets.
    pub raised: u64,
    /// What was told of the shared budgets, and on which day where a day has its own.
    told: Vec<(Level, i64)>,
    /// Whether landing is refused as stale for ever, for no visible reason.
    pub always_stale: bool,
    trees: BTreeMap<Sha, Tree>,
    /// For a commit, the base commit it sits on.
    sits_on: BTreeMap<Sha, Sha>,
    pub base: Sha,
    pub base_history: Vec<Sha>,
    /// Where the run's branch is on the forge.
    pub branch: Option<Sha>,
    pushed: BTreeSet<Sha>,
    pub changes: Vec<Change>,
    pub statuses: BTreeMap<Sha, BTreeMap<String, StatusState>>,
    /// Commits Skep put on the base branch.
    pub lands: Vec<Sha>,
    /// Acts that fail until a person mends them.
    pub broken: BTreeSet<String>,
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
            books: BTreeMap::new(),
            others: 0,
            raised: 0,
            told: Vec::new(),
            always_stale: false,
            trees: BTreeMap::from([(root.clone(), Tree::new())]),
            sits_on: BTreeMap::from([(root.clone(), root.clone())]),
            base: root.clone(),
            base_history: vec![root.clone()],
            branch: None,
            pushed: BTreeSet::new(),
            changes: Vec::new(),
            statuses: BTreeMap::new(),
            lands: Vec::new(),
            broken: BTreeSet::new(),
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

    /// A commit with these files on top of `parent`; `parent` itself when nothing changes.
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
                // What changes there loses lines.
                removed: if path.starts_with("gen/") && a.contains_key(path) { 2 } else { 0 },
                binary: false,
            })
            .collect();
        let removed = files.iter().map(|f| f.removed).sum();
        DiffStat { files_total: files.len() as u64, added: files.len() as u64, removed, files }
    }

    /// The world's own truth about a commit: no bug in it, and the parts fit together.
    pub fn is_green(&self, sha: &Sha) -> bool {
        let tree = &self.trees[sha];
        let whole = roll(self.seed, &["whole", &word(tree)]) % 8 != 0;
        tree.values().all(|text| !text.starts_with("bug")) && (whole || tree.len() < 2 || tree.len() > 5)
    }

    /// The base branch moves by somebody's hand. `absorb` = it takes in what the run's branch holds.
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

    /// Somebody else pushes to the run's branch.
    pub fn foreign_push(&mut self) {
        if let Some(branch) = self.branch.clone() {
            self.moves += 1;
            let files = [("foreign".to_owned(), format!("v{}", self.moves))];
            self.branch = Some(self.commit_on(&branch, &files));
        }
    }

    /// The foreign push is taken back.
    pub fn undo_foreign_push(&mut self, head: &Sha) {
        if self.pushed.contains(head) {
            self.branch = Some(head.clone());
        }
    }

    pub fn change(&mut self, number: ChangeNumber) -> Option<&mut Change> {
        self.changes.get_mut((number.0 as usize).checked_sub(1)?)
    }

    /// What one look at a change shows.
    pub fn look(&self, number: ChangeNumber) -> Observation {
        let change = &self.changes[number.0 as usize - 1];
        let head = self.branch.clone().unwrap_or_else(|| self.base.clone());
        Observation {
            state: change.state.clone(),
            base: self.base.clone(),
            statuses: self.statuses.get(&head).cloned().unwrap_or_default(),
            approved_by: change.approvals.iter().filter(|(_, h)| *h == head).map(|(p, _)| p.clone()).collect(),
            unblocks: change.unblocks.clone(),
            head,
        }
    }

    /// A person merges the change as it is, where that can be fast-forwarded.
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

    /// Carries an effect out that is no start.
    pub fn act(&mut self, key: &EffectKey, effect: &Effect) -> EffectOutcome {
        if self.broken.contains(effect.effect_ref().name()) {
            let failure = Failure { what: "the forge says 403".to_owned(), fix: "give it the right".to_owned() };
            return EffectOutcome::Failed { failure };
        }
        match effect {
            Effect::Start { .. } => unreachable!("a start is not an act that ends"),
            Effect::Reserve { attempt, caps, shared, alerts, at, .. } => {
                self.reserve(*attempt, *caps, shared, alerts, *at)
            }
            Effect::Check { scope, sha, .. } => self.check(*scope, sha, key),
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
            Effect::Push { sha, expected, passes } => {
                let mark = format!("m-{}", sha.abbrev());
                if roll(self.seed, &["secret", sha.as_str()]) % 16 == 0 && !passes.contains(&mark) {
                    let found = SecretFound { place: "src/a:1".to_owned(), what: "a secret".to_owned(), mark };
                    return EffectOutcome::Held { found: vec![found] };
                }
                let foreign = self.branch.as_ref().filter(|b| !self.pushed.contains(b));
                if foreign.is_some() && foreign != expected.as_ref() {
                    let failure = Failure { what: "a foreign head".to_owned(), fix: "look at it".to_owned() };
                    return EffectOutcome::Failed { failure };
                }
                self.pushed.insert(sha.clone());
                self.branch = Some(sha.clone());
                EffectOutcome::Ok
            }
            Effect::EnsureChange { draft, .. } => self.ensure_change(*draft),
            Effect::Comment { change, text } => {
                if let Some(c) = self.change(*change) {
                    c.comments.entry(key.to_string()).or_insert_with(|| text.clone());
                }
                EffectOutcome::Ok
            }
            Effect::SetStatus { sha, context, state, .. } => {
                // Kept apart from the statuses of others, as forges do by author.
                let _ = (sha, context, state);
                EffectOutcome::Ok
            }
            Effect::Observe { change } => EffectOutcome::Observed { observation: self.look(*change) },
            Effect::Land { change, head, base } => self.land(*change, head, base),
            Effect::Close { change } => {
                if let Some(c) = self.change(*change)
                    && c.state == ChangeState::Open
                {
                    c.state = ChangeState::Closed { by: Principal::skep() };
                }
                EffectOutcome::Ok
            }
            Effect::Release => EffectOutcome::Ok,
            Effect::Stop => {
                self.stopped = true;
                EffectOutcome::Ok
            }
        }
    }

    /// The shared budgets, as the store keeps them: the same attempt again is given what it was given.
    fn reserve(
        &mut self,
        attempt: AttemptId,
        caps: Usage,
        shared: &SharedLimits,
        alerts: &[u8],
        at: Timestamp,
    ) -> EffectOutcome {
        if let Some((caps, _)) = self.books.get(&attempt) {
            return EffectOutcome::Reserved { caps: *caps, levels: Vec::new() };
        }
        let (mut caps, mut levels) = (caps, Vec::new());
        let limits = [
            (BudgetScope::Project, false, shared.project_tokens),
            (BudgetScope::Project, true, shared.project_cost_micros),
            (BudgetScope::Day, false, shared.day_tokens),
            (BudgetScope::Day, true, shared.day_cost_micros),
        ];
        for (share, money, limit) in limits {
            let Some(limit) = limit.map(|l| l + self.raised) else { continue };
            let used = self.others + self.used(share, money, at);
            let left = limit.saturating_sub(used);
            let cap = if money { &mut caps.cost_micros } else { &mut caps.tokens };
            *cap = if left == 0 { *cap } else { SharedLimits::cap(*cap, left, money) };
            levels.push(Level { share, money, used, set_aside: 0, limit, told: None });
        }
        let of: Vec<SharedBudget> = levels.iter().filter_map(Level::used_up).collect();
        if !of.is_empty() {
            let set_aside = roll(self.seed, &["set aside", &attempt.to_string()]) % 2 == 0;
            return EffectOutcome::Short { of, why: "spent".to_owned(), levels, set_aside };
        }
        for level in &mut levels {
            let cap = if level.money { caps.cost_micros } else { caps.tokens };
            (level.used, level.set_aside) = (level.used + cap, level.set_aside + cap);
            let day = if level.share == BudgetScope::Day { Day::of(at).0 } else { 0 };
            let reached = Alert::reached(alerts, level.spent(), level.limit);
            // Of another limit it is told anew.
            let known = |share: &u8| {
                let of_it = |t: &&(Level, i64)| t.1 == day && t.0.name() == level.name() && t.0.limit == level.limit;
                self.told.iter().filter(of_it).any(|t| t.0.told >= Some(*share))
            };
            level.told = reached.filter(|share| !known(share));
            if level.told.is_some() {
                self.told.push((level.clone(), day));
            }
        }
        self.books.insert(attempt, (caps, Day::of(at)));
        EffectOutcome::Reserved { caps, levels }
    }

    /// What the run's attempts have of a shared budget.
    pub fn used(&self, share: BudgetScope, money: bool, at: Timestamp) -> u64 {
        let today = |day: &Day| share == BudgetScope::Project || *day == Day::of(at);
        let amounts = self.books.values().filter(|(_, day)| today(day)).map(|(u, _)| u);
        amounts.map(|u| if money { u.cost_micros } else { u.tokens }).sum()
    }

    /// Whether the order's engine can be used, and has enough to go on.
    pub fn outage(&mut self, order: &Order) -> Option<Report> {
        if !self.outages {
            return None;
        }
        let engine = order.engine.text();
        let dice = roll(self.seed, &["outage", &engine, &order.attempt.to_string()]);
        let known = self.down.contains(&engine);
        if !known && (dice >> 40) % 100 < 6 {
            let what = ["tokens", "money", "turns", "anything"][((dice >> 48) % 4) as usize].to_owned();
            return Some(Report::SpentOut { what, why: "its next call did not fit".to_owned() });
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
        let fix = fix.then(|| "put the key where it belongs".to_owned());
        Some(Report::Unavailable { why: format!("{engine} does not answer"), until, fix })
    }

    /// What an attempt reports.
    pub fn work(&mut self, order: &Order) -> Reported {
        let mut reported = engines::work(self, order);
        if self.stopped {
            reported.report = Report::Stopped;
        }
        reported
    }

    fn check(&self, scope: Scope, sha: &Sha, key: &EffectKey) -> EffectOutcome {
        let own_bug = self.trees[sha].values().any(|t| t.starts_with("bug"));
        let truth = if scope == Scope::Head { self.is_green(sha) } else { !own_bug };
        let mood = roll(self.seed, &["mood", key.as_str()]);
        let green = truth && !(self.flaky && mood % 10 == 0);
        if self.lies && mood % 97 == 1 {
            return EffectOutcome::Checked { results: Vec::new(), wall_ms: 5 };
        }
        if self.lies && mood % 97 == 2 {
            return EffectOutcome::Ok;
        }
        let result = CheckResult {
            name: "test".to_owned(),
            kind: CheckKind::Test,
            green,
            exit: Some(i32::from(!green)),
            duration_ms: 7,
            why: if green { String::new() } else { "exit code 1".to_owned() },
            tail: if green { String::new() } else { "assertion failed".to_owned() },
            tests: None,
            artifacts: Vec::new(),
            given: Vec::new(),
        };
        EffectOutcome::Checked { results: vec![result], wall_ms: 7_000 }
    }

    fn moved(&mut self, from: &Sha, head: &Sha, onto: &Sha, rebase: bool) -> EffectOutcome {
        let mut tree = self.trees[onto].clone();
        for path in self.diff(from, head).paths() {
            tree.insert(path.to_owned(), self.trees[head][path].clone());
        }
        let sits_on = if rebase { onto.clone() } else { self.sits_on[onto].clone() };
        let new = self.add(onto, &sits_on, tree);
        let diff = self.diff(&sits_on, &new);
        EffectOutcome::Moved { head: new, diff }
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
            });
            self.changes.len() - 1
        });
        self.changes[at].draft = draft;
        let number = ChangeNumber(at as u64 + 1);
        EffectOutcome::Ensured { change: ChangeRef { number, url: format!("skep change show demo#{number}") } }
    }

    fn land(&mut self, number: ChangeNumber, head: &Sha, base: &Sha) -> EffectOutcome {
        if self.base_history.contains(head) {
            return EffectOutcome::Landed { sha: head.clone() };
        }
        let open = self.change(number).is_some_and(|c| c.state == ChangeState::Open && !c.draft);
        if !open || self.branch.as_ref() != Some(head) || self.base != *base || self.always_stale {
            return EffectOutcome::Stale { why: "it is not what it was".to_owned() };
        }
        if let Some(c) = self.change(number) {
            c.state = ChangeState::Merged { sha: head.clone(), by: Principal::skep() };
        }
        self.lands.push(head.clone());
        self.put_on_base(head);
        EffectOutcome::Landed { sha: head.clone() }
    }
}

fn word(tree: &Tree) -> String {
    tree.iter().map(|(path, text)| format!("{path}={text};")).collect()
}
