//! A run built step by step by real decisions. Each effect can be finished with success or with any other outcome.

use super::checker::Checker;
use super::fixtures::opened;
use super::rng::sha;
use skep::domain::change::UnblockComment;
use skep::domain::*;
use std::collections::{BTreeMap, BTreeSet};

/// A run so far.
#[derive(Clone)]
pub struct Story {
    pub run: Run,
    pub outbox: BTreeMap<EffectKey, Effect>,
    pub checker: Checker,
    /// Milliseconds that passed without events.
    pub waited: i64,
    /// Every event so far.
    pub journal: Vec<(Event, Timestamp)>,
}

pub fn spec(name: &str, needs: &[&str]) -> TaskSpec {
    TaskSpec {
        name: name.to_owned(),
        title: format!("Do {name}"),
        text: format!("Do {name}, whole"),
        needs: needs.iter().map(|n| (*n).to_owned()).collect(),
        paths: Vec::new(),
    }
}

pub fn diff(paths: &[&str]) -> DiffStat {
    let files = paths.iter().map(|p| FileChange {
        path: (*p).to_owned(),
        kind: FileKind::Modified,
        added: 1,
        removed: 0,
        binary: false,
        blob: None,
    });
    DiffStat {
        files: files.collect(),
        files_total: paths.len() as u64,
        added: paths.len() as u64,
        ..DiffStat::default()
    }
}

pub fn results(green: bool) -> Vec<CheckResult> {
    vec![CheckResult {
        name: "test".to_owned(),
        kind: CheckKind::Test,
        green,
        exit_code: Some(i32::from(!green)),
        duration_ms: 1,
        why: if green { String::new() } else { "exit code 1".to_owned() },
        failures: Vec::new(),
        tail: String::new(),
        tests: None,
        artifacts: Vec::new(),
        secrets: Vec::new(),
        fault: None,
    }]
}

/// Returns the red result of a check that could not work where it ran.
pub fn broken(fault: Fault) -> Vec<CheckResult> {
    let mut results = results(false);
    results.iter_mut().for_each(|r| r.fault = Some(fault.clone()));
    results
}

/// Returns the outcome of checks that ran.
pub fn checked(results: Vec<CheckResult>) -> EffectOutcome {
    EffectOutcome::Checked { results, wall_ms: 10, scope: None, reused: None, environment: None }
}

/// Returns a request for changes with one comment on a line.
pub fn request(run: &Run, review: u64) -> ChangeRequest {
    ChangeRequest {
        review,
        by: super::fixtures::other(),
        head: run.head.clone(),
        text: "Not like this.".to_owned(),
        comments: vec![LineComment {
            thread: review * 10,
            path: "src/a".to_owned(),
            line: 7,
            text: "unclear".to_owned(),
        }],
        more_comments: 0,
    }
}

/// Returns a failure of CI with this log.
pub fn ci_failure(name: &str, log: &str) -> CiFailure {
    CiFailure { id: 1, log: JobLog::read(log), ..CiFailure::named(name) }
}

/// Returns an observation in which nothing has moved and there is no new comment.
pub fn quiet(run: &Run) -> Observation {
    Observation {
        state: ChangeState::Open,
        head: run.head.clone(),
        base: run.base.clone(),
        statuses: BTreeMap::new(),
        failed: BTreeMap::new(),
        required: BTreeSet::new(),
        approved_by: Vec::new(),
        change_requests: Vec::new(),
        unblocks: Vec::new(),
    }
}

pub fn unblock(run: &Run, by: Principal) -> Observation {
    let block = run.blocks.first().map_or(BlockId(1), |b| b.id);
    let comment = UnblockComment { comment: 77, block, by, text: String::new() };
    Observation { unblocks: vec![comment], ..quiet(run) }
}

pub fn developed(order: AttemptId, paths: &[&str]) -> Report {
    Report::Developed { head: sha(&["work", &order.to_string()]), diff: diff(paths), summary: "did it".to_owned() }
}

pub fn reviewed(head: &Sha, verdict: Verdict) -> Report {
    let finding = Finding { path: "src/a".to_owned(), line: 1, text: "unclear".to_owned() };
    let findings = if verdict == Verdict::Approve { Vec::new() } else { vec![finding] };
    Report::Reviewed { head: head.clone(), verdict, findings, summary: "read it".to_owned(), criteria: Vec::new() }
}

impl Story {
    pub fn new(policy: Policy) -> Story {
        Story::of(opened(policy))
    }

    /// Opens a run with these settings.
    pub fn of(opened: Opened) -> Story {
        let decision = open(&opened, Timestamp(0)).expect("opened");
        let event = Event::Opened(Box::new(opened));
        let mut checker = Checker::default();
        checker.check(None, &event, &decision, Timestamp(0)).expect("invariants");
        let journal = vec![(event, Timestamp(0))];
        Story { run: decision.run, outbox: BTreeMap::new(), checker, waited: 0, journal }
    }

    /// Delivers an event; panics if the decision breaks an invariant.
    pub fn try_apply(&mut self, event: &Event) -> Result<Decision, Refusal> {
        let at = Timestamp(self.run.seq as i64 * 1000 + self.waited);
        let decision = decide(&self.run, event, at)?;
        self.checker.check(Some(&self.run), event, &decision, at).unwrap_or_else(|why| panic!("{event:?}: {why}"));
        self.outbox.retain(|key, _| !decision.finished.contains(key));
        self.outbox.extend(decision.effects.iter().cloned());
        self.run = decision.run.clone();
        self.journal.push((event.clone(), at));
        Ok(decision)
    }

    pub fn apply(mut self, event: Event) -> Story {
        if let Err(refusal) = self.try_apply(&event) {
            panic!("{event:?} was refused: {refusal}");
        }
        self
    }

    /// The key of the pending effect of this name.
    pub fn key(&self, effect: &str) -> EffectKey {
        let found = self.run.pending.iter().find(|(_, e)| e.name() == effect);
        found.unwrap_or_else(|| panic!("{effect} is not pending: {:?}", self.run.pending)).0.clone()
    }

    pub fn done(self, effect: &str, outcome: EffectOutcome) -> Story {
        let key = self.key(effect);
        self.apply(Event::EffectFinished { key, outcome })
    }

    /// Grants the pending reservation in the shared budgets, if there is one.
    pub fn reserved(self) -> Story {
        let caps = self.outbox.values().find_map(|e| match e {
            Effect::Reserve { caps, .. } => Some(*caps),
            _ => None,
        });
        match caps {
            Some(caps) => self
                .done("reserve", EffectOutcome::Reserved { caps: Usage { tokens: 500, ..caps }, levels: Vec::new() }),
            None => self,
        }
    }

    /// Finishes whatever is pending with success, until the run has ended.
    pub fn finished(mut self) -> Story {
        while !self.run.ended() {
            let effect = self.run.pending.values().next().expect("a pending effect").name();
            self = match effect {
                "start" => self.report(Report::Stopped),
                effect => self.well(effect),
            };
        }
        self
    }

    /// Cancels the run, and lets it end.
    pub fn cancelled(self) -> Story {
        let by = super::fixtures::asker();
        self.apply(Event::CancelRequested { by, why: "enough".to_owned() }).finished()
    }

    /// Lets time pass.
    pub fn wait(mut self, secs: i64) -> Story {
        self.waited += secs * 1000;
        self
    }

    /// Reports for the oldest live attempt.
    pub fn report(self, report: Report) -> Story {
        let attempt = self.run.live_attempts().next().expect("a live attempt").id;
        let session = Some(format!("s-{}", attempt.0));
        let reported = Reported {
            attempt,
            report,
            usage: None,
            session,
            artifacts: Vec::new(),
            usage_by_model: Vec::new(),
            secrets: Vec::new(),
            prompt_digest: None,
        };
        self.apply(Event::Reported(Box::new(reported)))
    }

    /// Reports good work of a dev.
    pub fn work(self) -> Story {
        let attempt = self.run.live_attempts().next().expect("a live attempt").id;
        self.report(developed(attempt, &["src/a"]))
    }

    pub fn review(self, verdict: Verdict) -> Story {
        let head = self.run.head.clone();
        self.report(reviewed(&head, verdict))
    }

    /// Finishes a pending effect with success.
    pub fn well(self, effect: &str) -> Story {
        let seq = self.run.seq.to_string();
        let outcome = match effect {
            "check" => checked(results(true)),
            "integrate" => EffectOutcome::Integrated { head: sha(&["moved", &seq]), diff: diff(&["src/a"]) },
            "rebase" => EffectOutcome::Rebased { head: sha(&["moved", &seq]), diff: diff(&["src/a"]) },
            "ensure_change" => {
                let number = ChangeNumber(1);
                EffectOutcome::ChangeOpened { change: ChangeRef { number, url: "skep change show demo#1".to_owned() } }
            }
            "observe" => EffectOutcome::Observed { observation: quiet(&self.run) },
            "land" => EffectOutcome::Landed { sha: self.run.head.clone(), batch: None },
            "push" => EffectOutcome::Pushed,
            "comment" => EffectOutcome::Commented,
            "set_status" => EffectOutcome::StatusSet,
            "close" => EffectOutcome::ChangeClosed,
            "release" => EffectOutcome::Released,
            "stop" => EffectOutcome::Stopped,
            "inspect_ci" => EffectOutcome::CiInspected { failures: vec![ci_failure("ci", "FAILED a")] },
            "rerun_ci" => EffectOutcome::CiRerun,
            other => panic!("{other} does not end by itself"),
        };
        self.done(effect, outcome)
    }

    /// Finishes pending effects with success, one by one.
    pub fn all_well(self, effects: &[&str]) -> Story {
        effects.iter().fold(self, |story, effect| story.well(effect))
    }

    /// Delivers an observation in which only this differs.
    pub fn see(self, change: impl FnOnce(&mut Observation)) -> Story {
        let mut observation = quiet(&self.run);
        change(&mut observation);
        self.apply(Event::Observed { observation })
    }

    pub fn answer(self, answer: Answer) -> Story {
        self.apply(Event::Answered { block: None, answer, by: super::fixtures::asker() })
    }
}
