//! Makes rows from the events of an ended run. Each rule needs what they prove; nothing that an engine says
//! about itself makes a row.
//!
//! | row | rule |
//! |---|---|
//! | fact `base/CHECK` | the check is red at the base; ended by a run in which it is green there |
//! | fact `flaky/CHECK` | the check passed and failed at one commit |
//! | fact `slow/CHECK` | the setup takes longer than a minute; ended by a run in which it does not |
//! | fact `repair/CHECK/LINE` | the check failed with a line, and passed after changes to files; the change landed |
//! | fact `answer/…`, `declined/…`, `request/…` | a person answered a question, declined, or requested a change |
//! | change `RUN` | the change landed |
//! | lesson `finding/…` | a reviewer's finding that was confirmed; given to reviewers only, never of an outside agent |

use super::{Memory, MemoryKind, one_line};
use crate::domain::block::{Answer, Block, BlockKind};
use crate::domain::change::{ChangeRequest, FileKind};
use crate::domain::check::{CheckKind, CheckResult, Scope};
use crate::domain::effect::EffectOutcome;
use crate::domain::event::Event;
use crate::domain::id::{AttemptId, Principal, Sha, TaskId, Timestamp};
use crate::domain::improve::line::telling_line;
use crate::domain::improve::mask::mask;
use crate::domain::order::{EngineSpec, Step};
use crate::domain::outcome::{OutcomeRow, OutcomeWord};
use crate::domain::report::{Finding, Report};
use crate::domain::run::{Outcome, Run};
use std::collections::{BTreeMap, BTreeSet};

/// Upper bound on the rows of one run.
const MAX_ROWS: usize = 20;
/// Upper bound on lessons of one run.
const MAX_LESSONS: usize = 2;
/// A setup that takes longer is slow.
const SLOW_SETUP_MS: u64 = 60_000;
/// Upper bound on the files that a body names.
const MAX_FILES: usize = 30;
/// Upper bound on the characters of a name and of a quotation.
const MAX_NAME_CHARS: usize = 60;
const MAX_QUOTE_CHARS: usize = 600;

/// Place in the files of the run's head that a row is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The path.
    pub path: String,
    /// The line, from 1; 0 = the file as a whole.
    pub line: u64,
}

/// A row before its places are read and cited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The kind.
    pub kind: MemoryKind,
    /// What identifies it in its project: the same observation has the same key.
    pub key: String,
    /// Who stated it.
    pub author: Principal,
    /// The only step that is given it.
    pub step: Option<Step>,
    /// The title.
    pub title: String,
    /// The body.
    pub body: String,
    /// What it is about.
    pub places: Vec<Place>,
    /// The event that proves it.
    pub seq: u64,
    /// The time of that event.
    pub at: Timestamp,
}

/// What the journal of a run shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Derived {
    /// Rows to store, in the order of their events. A later one replaces an earlier one of the same key.
    pub found: Vec<Draft>,
    /// Keys of facts that no longer hold, with the time of the event that shows it.
    pub ended: Vec<(String, Timestamp)>,
}

/// Event that may show something.
#[derive(Clone, Debug)]
pub struct ShownEvent {
    event: Event,
    mark: Mark,
    /// The block that an answer lifts.
    answered: Option<Block>,
}

impl ShownEvent {
    /// Returns the event that is read after this state; `None` = [`derive`] needs no event of its kind.
    pub fn of(before: &Run, event: &Event, mark: (u64, Timestamp)) -> Option<ShownEvent> {
        let mut answered = None;
        match event {
            Event::Reported(reported)
                if matches!(reported.report, Report::Developed { .. } | Report::Reviewed { .. }) => {}
            Event::EffectFinished { outcome, .. } if is_read(outcome) => {}
            Event::Observed { .. } => {}
            Event::Answered { block, .. } => {
                answered = block.map_or_else(|| before.blocks.first(), |id| before.block(id)).cloned();
            }
            _ => return None,
        }
        Some(ShownEvent { event: event.clone(), mark, answered })
    }
}

fn is_read(outcome: &EffectOutcome) -> bool {
    matches!(
        outcome,
        EffectOutcome::Checked { .. }
            | EffectOutcome::Integrated { .. }
            | EffectOutcome::Rebased { .. }
            | EffectOutcome::Observed { .. }
            | EffectOutcome::PutBack { .. }
            | EffectOutcome::Landed { .. }
    )
}

/// Returns what the events of an ended run show, which was opened at `base`, given its outcomes.
pub fn derive(run: &Run, base: &Sha, outcomes: &[OutcomeRow], events: &[ShownEvent]) -> Derived {
    let confirmed =
        outcomes.iter().filter(|row| row.word == OutcomeWord::Confirmed).filter_map(|row| row.attempt).collect();
    let mut reader = Reader::of(run, base, confirmed);
    for ShownEvent { event, mark, answered } in events {
        reader.read(event, answered.as_ref(), *mark);
    }
    reader.derived()
}

/// Number and time of an event.
type Mark = (u64, Timestamp);

/// A check that was red, and what was changed since.
struct Red {
    line: String,
    files: BTreeSet<String>,
}

struct Reader<'r> {
    run: &'r Run,
    derived: Derived,
    red: BTreeMap<(Scope, String), Red>,
    /// Whether a check was green, by commit and name.
    results: BTreeMap<(Sha, String), bool>,
    work: BTreeMap<TaskId, Sha>,
    /// The base that was checked: the run's may have moved since.
    base: Sha,
    head: Sha,
    confirmed: BTreeSet<AttemptId>,
    requests: BTreeSet<u64>,
}

impl<'r> Reader<'r> {
    fn of(run: &'r Run, base: &Sha, confirmed: BTreeSet<AttemptId>) -> Reader<'r> {
        Reader {
            run,
            derived: Derived::default(),
            red: BTreeMap::new(),
            results: BTreeMap::new(),
            work: BTreeMap::new(),
            base: base.clone(),
            head: base.clone(),
            confirmed,
            requests: BTreeSet::new(),
        }
    }

    fn has_landed(&self) -> bool {
        matches!(self.run.outcome, Some(Outcome::Delivered { .. }))
    }

    fn read(&mut self, event: &Event, answered: Option<&Block>, mark: Mark) {
        match event {
            Event::Reported(reported) => match &reported.report {
                Report::Developed { head, diff, .. } => self.developed(reported.attempt, head, diff.paths()),
                Report::Reviewed { findings, .. } if self.confirmed.contains(&reported.attempt) => {
                    self.confirmed_findings(reported.attempt, findings, mark);
                }
                _ => {}
            },
            Event::EffectFinished { outcome, .. } => match outcome {
                EffectOutcome::Checked { results, scope: Some(scope), reused: None, .. } => {
                    self.checked(*scope, results, mark);
                }
                EffectOutcome::Integrated { head, .. } | EffectOutcome::Rebased { head, .. } => {
                    self.head = head.clone();
                }
                EffectOutcome::Observed { observation } => self.requested(&observation.change_requests, mark),
                EffectOutcome::PutBack { red: Some(red), .. } => self.head = red.head.clone(),
                EffectOutcome::Landed { sha, .. } => self.landed(sha, mark),
                _ => {}
            },
            Event::Observed { observation } => self.requested(&observation.change_requests, mark),
            Event::Answered { answer, by, .. } if by.is_person() => {
                if let Some(block) = answered {
                    self.answered(block, answer, by, mark);
                }
            }
            _ => {}
        }
    }

    fn fact(&mut self, key: String, (title, body): (String, String), mark: Mark) -> &mut Draft {
        self.add(MemoryKind::Fact, key, (title, body), mark)
    }

    fn add(&mut self, kind: MemoryKind, key: String, (title, body): (String, String), (seq, at): Mark) -> &mut Draft {
        self.derived.found.push(Draft {
            kind,
            key,
            author: Principal::skep(),
            step: None,
            title: one_line(&title, Memory::MAX_TITLE_CHARS),
            body: one_line(&body, Memory::MAX_BODY_CHARS),
            places: Vec::new(),
            seq,
            at,
        });
        let last = self.derived.found.len() - 1;
        &mut self.derived.found[last]
    }

    fn developed<'p>(&mut self, attempt: AttemptId, head: &Sha, paths: impl Iterator<Item = &'p str>) {
        let Some(task) = self.run.attempt(attempt).and_then(|a| a.task) else { return };
        self.work.insert(task, head.clone());
        let paths: Vec<&str> = paths.take(MAX_FILES).collect();
        let is_about = |scope: &Scope| *scope == Scope::Task(task) || *scope == Scope::Head;
        for (_, red) in self.red.iter_mut().filter(|((scope, _), _)| is_about(scope)) {
            red.files.extend(paths.iter().map(|path| (*path).to_owned()));
        }
    }

    fn checked(&mut self, scope: Scope, results: &[CheckResult], mark: Mark) {
        let sha = match scope {
            Scope::Task(task) => self.work.get(&task).cloned(),
            Scope::Head => Some(self.head.clone()),
            Scope::Base => Some(self.base.clone()),
        };
        // What the environment spoiled shows nothing about the project.
        for result in results.iter().filter(|result| result.fault.is_none()) {
            let name = one_line(&result.name, MAX_NAME_CHARS);
            let before = sha.clone().and_then(|sha| self.results.insert((sha, name.clone()), result.green));
            if let Some(sha) = sha.as_ref().filter(|_| before.is_some_and(|green| green != result.green)) {
                let title = format!("The check `{name}` is flaky");
                let body = format!("It passed and failed at the same commit, {}.", sha.abbrev());
                self.fact(format!("flaky/{name}"), (title, body), mark);
            }
            if result.kind == CheckKind::Setup {
                self.set_up(&name, result, mark);
            }
            match scope {
                Scope::Base => self.checked_base(&name, result, mark),
                _ => self.checked_work(scope, &name, result, mark),
            }
        }
    }

    fn set_up(&mut self, name: &str, result: &CheckResult, mark: Mark) {
        let key = format!("slow/{name}");
        match result.green {
            true if result.duration_ms > SLOW_SETUP_MS => {
                let title = format!("The setup `{name}` takes {} s", result.duration_ms / 1_000);
                let body = "It runs before the checks of every commit. Leave time for it.".to_owned();
                self.fact(key, (title, body), mark);
            }
            true => self.derived.ended.push((key, mark.1)),
            false => {}
        }
    }

    fn checked_base(&mut self, name: &str, result: &CheckResult, mark: Mark) {
        let key = format!("base/{name}");
        if result.green {
            self.derived.ended.push((key, mark.1));
            return;
        }
        let base = self.base.abbrev().to_owned();
        let title = format!("The check `{name}` fails at the base, before any change");
        let body = format!("At the base {base} it failed with: {}", line_of(result));
        self.fact(key, (title, body), mark);
    }

    /// Records a red check, and what was changed until it was green.
    fn checked_work(&mut self, scope: Scope, name: &str, result: &CheckResult, mark: Mark) {
        let key = (scope, name.to_owned());
        if !result.green {
            let line = line_of(result);
            if !line.is_empty() && !self.run.excuses(result) {
                self.red.insert(key, Red { line, files: BTreeSet::new() });
            }
            return;
        }
        let Some(Red { line, files }) = self.red.remove(&key) else { return };
        if files.is_empty() || !self.has_landed() {
            return;
        }
        let title = format!("`{name}` failed with: {line}");
        let shown: Vec<&str> = files.iter().map(String::as_str).collect();
        let body = format!("`{name}` failed with: {line}. It passed after changes to {}.", shown.join(", "));
        let places = files.iter().take(Memory::MAX_CITES).map(|path| Place { path: path.clone(), line: 0 });
        let places = places.collect();
        self.fact(format!("repair/{name}/{line}"), (title, body), mark).places = places;
    }

    fn answered(&mut self, block: &Block, answer: &Answer, by: &Principal, mark: Mark) {
        let goal = self.run.goal.title();
        let (key, title, body) = match (&block.kind, answer) {
            (BlockKind::Question { .. }, Answer::Text { text } | Answer::No { why: text }) => {
                let question = one_line(&block.why, MAX_QUOTE_CHARS);
                let body =
                    format!("An agent asked: \"{question}\" {by} answered: \"{}\"", one_line(text, MAX_QUOTE_CHARS));
                (format!("answer/{question}"), format!("Answered: {question}"), body)
            }
            (BlockKind::Approval(_), Answer::No { why }) => {
                let why = one_line(why, MAX_QUOTE_CHARS);
                if why.is_empty() {
                    return;
                }
                let body = format!("Declined in the run \"{goal}\", because: {why}");
                (format!("declined/{why}"), format!("Declined: {why}"), body)
            }
            _ => return,
        };
        self.fact(key, (title, body), mark).author = by.clone();
    }

    /// Records what people with write access requested in reviews of a change that landed.
    fn requested(&mut self, requests: &[ChangeRequest], mark: Mark) {
        if !self.has_landed() {
            return;
        }
        for request in requests {
            if !request.by.is_person() || !self.requests.insert(request.review) {
                continue;
            }
            let whole = (!request.text.trim().is_empty()).then_some((None, request.text.as_str()));
            let comments = request.comments.iter().map(|c| (Some((&c.path, c.line)), c.text.as_str()));
            for (place, text) in whole.into_iter().chain(comments).take(3) {
                let text = one_line(text, MAX_QUOTE_CHARS);
                let title = format!("Requested in review: {text}");
                let draft = self.fact(format!("request/{text}"), (title, text), mark);
                draft.author = request.by.clone();
                draft.places = place.into_iter().map(|(path, line)| Place { path: path.clone(), line }).collect();
            }
        }
    }

    fn confirmed_findings(&mut self, id: AttemptId, findings: &[Finding], mark: Mark) {
        let Some(attempt) = self.run.attempt(id).filter(|a| a.agent().is_none()) else { return };
        let author = Principal(format!("engine:{}", EngineSpec::parse(&attempt.engine).named()));
        let so_far = self.derived.found.iter().filter(|draft| draft.kind == MemoryKind::Lesson).count();
        let located = findings.iter().filter(|f| !f.path.is_empty());
        for finding in located.take(MAX_LESSONS.saturating_sub(so_far)) {
            let text = one_line(&finding.text, MAX_QUOTE_CHARS);
            let key = format!("finding/{}/{text}", finding.path);
            let title = format!("Found in review: {text}");
            let draft = self.add(MemoryKind::Lesson, key, (title, text), mark);
            draft.author = author.clone();
            draft.step = Some(Step::Review);
            draft.places = vec![Place { path: finding.path.clone(), line: finding.line }];
        }
    }

    fn landed(&mut self, sha: &Sha, mark: Mark) {
        let run = self.run;
        let tasks: Vec<String> = run.tasks.iter().map(|t| one_line(&t.spec.title, MAX_NAME_CHARS)).take(10).collect();
        let present = run.diff.files.iter().filter(|f| f.kind != FileKind::Deleted).map(|f| f.path.as_str());
        let files: Vec<&str> = present.take(MAX_FILES).collect();
        let change = run.change.as_ref().map(|c| format!(", change {}", c.number)).unwrap_or_default();
        let body =
            format!("Landed as {}{change}. Tasks: {}. Files: {}.", sha.abbrev(), tasks.join("; "), files.join(", "));
        let places = files.iter().take(Memory::MAX_CITES).map(|path| Place { path: (*path).to_owned(), line: 0 });
        let places = places.collect();
        let title = format!("Landed: {}", run.goal.title());
        self.add(MemoryKind::Change, run.id.to_string(), (title, body), mark).places = places;
    }

    fn derived(self) -> Derived {
        let Derived { found, ended } = self.derived;
        // The last row of a key counts, and a fact that ended later is not stored.
        let mut last: BTreeMap<(MemoryKind, String), Draft> = BTreeMap::new();
        for draft in found {
            last.insert((draft.kind, draft.key.clone()), draft);
        }
        let mut found: Vec<Draft> = last.into_values().collect();
        found.retain(|draft| {
            let is_over =
                |(key, at): &(String, Timestamp)| draft.kind == MemoryKind::Fact && *key == draft.key && *at > draft.at;
            !ended.iter().any(is_over)
        });
        found.sort_by(|a, b| (a.seq, a.kind, &a.key).cmp(&(b.seq, b.kind, &b.key)));
        let spare = found.len().saturating_sub(MAX_ROWS);
        found.drain(..spare);
        Derived { found, ended }
    }
}

/// Returns the masked line that says what failed.
fn line_of(result: &CheckResult) -> String {
    let known = result.failures.join("\n");
    let line = telling_line(if known.is_empty() { &result.tail } else { &known });
    mask(if line.is_empty() { &result.why } else { line }).replace('`', "'")
}
