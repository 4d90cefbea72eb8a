//! Lines about the progress of a followed run: each once and in order, although the run is fetched later than its
//! events.
//!
//! Invariant: pure. A fetched run may be ahead of the events printed so far; what it shows waits until they catch up.

use super::run_log::{self, MAX_QUOTE_CHARS, quote};
use super::text::{brief, count};
use crate::http::rest::wire::{self, Attempt, CheckKind, Ended, Ending, Engine, Run, Step, Task};
use std::collections::BTreeSet;

/// A line about the progress of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A phase began.
    Phase(String),
    /// An attempt or the checks started. A live line shows this as well.
    Started(String),
    /// A result was rejected.
    Rejected(String),
    /// A task was added.
    Added(String),
}

impl Line {
    /// Returns its text.
    pub fn text(&self) -> &str {
        match self {
            Line::Phase(text) | Line::Started(text) | Line::Rejected(text) | Line::Added(text) => text,
        }
    }
}

/// What was printed already.
#[derive(Debug, Default)]
pub struct Progress {
    phase: String,
    started: BTreeSet<String>,
    tasks: BTreeSet<String>,
    checking: bool,
    failed: BTreeSet<String>,
    change: String,
}

impl Progress {
    /// Starts from where a run stands now.
    pub fn of(view: &Run) -> Progress {
        let ended = view.attempts.iter().filter(|a| !a.is_live()).map(|a| a.id.clone());
        Progress {
            started: ended.clone().collect(),
            failed: ended.collect(),
            tasks: view.tasks.iter().map(|t| t.id.clone()).collect(),
            ..Progress::default()
        }
    }

    /// Returns whether the start of an attempt was not printed yet.
    pub fn lacks(&self, attempt: &str) -> bool {
        !self.started.contains(attempt)
    }

    /// Returns the attempt that a row ends, if it ends one.
    pub fn ended_attempt(row: &wire::Event) -> Option<String> {
        run_log::entry(row).ended_attempt().map(|id| id.to_string())
    }

    /// Returns whether a row repeats an earlier line: a change that was updated again.
    pub fn repeats(&mut self, row: &wire::Event) -> bool {
        let entry = run_log::entry(row);
        self.failed.extend(entry.failed_attempt().map(|id| id.to_string()));
        entry.opened_change().is_some_and(|url| std::mem::replace(&mut self.change, url.to_owned()) == url)
    }

    /// Returns lines for what started, from a run that is not ahead of the events: phases, rework tasks, attempts,
    /// checks.
    pub fn update(&mut self, now: &Run) -> Vec<Line> {
        let mut lines = Vec::new();
        // The follower reports a queued run only after a while: most are admitted at once.
        if now.phase != "queued" {
            lines.extend(self.phase(now, &now.phase));
        }
        lines.extend(self.added_tasks(now, |_| true));
        let live: Vec<String> = now.attempts.iter().filter(|a| a.is_live()).map(|a| a.id.clone()).collect();
        lines.extend(live.iter().flat_map(|id| self.attempt_started(now, id)));
        let checking = now.pending_effects.iter().any(|d| d == "check");
        if checking && !self.checking {
            // Acceptance criteria are about the whole: a single task is not tested on them.
            let is_of_task = now.phase == "working";
            let runs_now = now.checks.iter().filter(|c| !(is_of_task && c.kind == CheckKind::Accept));
            let names: Vec<&str> = runs_now.map(|c| c.name.as_str()).collect();
            lines.push(Line::Started(format!("checks started: {}", names.join(", "))));
        }
        self.checking = checking;
        lines
    }

    /// Returns the lines for the start of one attempt, including the phase it belongs to.
    pub fn attempt_started(&mut self, now: &Run, id: &str) -> Vec<Line> {
        let Some(attempt) = now.attempts.iter().find(|a| a.id == id) else { return Vec::new() };
        if !self.started.insert(id.to_owned()) {
            return Vec::new();
        }
        let asker = attempt.answers.as_ref().and_then(|by| now.attempts.iter().find(|a| a.id == *by));
        let phase = match asker.map_or(attempt.step, |a| a.step) {
            Step::Explore | Step::Plan => "planning",
            Step::Develop => "working",
            Step::Review => "reviewing",
        };
        let mut lines: Vec<Line> = self.phase(now, phase).into_iter().collect();
        // Tasks added later are printed once the events have caught up.
        lines.extend(self.added_tasks(now, |t| attempt.task.as_ref() == Some(&t.id)));
        let role = attempt.step.role();
        let task = now.tasks.iter().find(|t| attempt.task.as_ref() == Some(&t.id));
        let question = asker.map_or(String::new(), |a| format!(" for the question of {}", a.id));
        let on = task.map_or(question, |t| {
            // The counter of the task may be ahead; a try is used up by an earlier attempt that ended by itself.
            let failed = |a: &&Attempt| {
                let counts = |e: &Ended| matches!(e.ending, Ending::Succeeded | Ending::Failed);
                a.task == attempt.task && a.ended.as_ref().is_some_and(counts)
            };
            let nth = u32::try_from(now.attempts.iter().take_while(|a| a.id != attempt.id).filter(failed).count())
                .unwrap_or(u32::MAX)
                .saturating_add(1);
            // The title of a plan with one task is the goal, which was just printed.
            let title = if t.title == now.goal.title { String::new() } else { format!(": {}", brief(&t.title, 72)) };
            let continues = if attempt.continues.is_some() { ", continuing the unfinished work" } else { "" };
            format!(" on {}{title} (try {nth} of {}{continues})", t.id, t.tries_allowed.max(nth))
        });
        lines.extend(self.rejection(now, attempt).map(Line::Rejected));
        lines.push(Line::Started(format!("{id} started: {role} ({}){on}", Engine::parse(&attempt.engine).named())));
        lines
    }

    /// Returns why the previous attempt's result was rejected; no event reports that.
    fn rejection(&self, now: &Run, attempt: &Attempt) -> Option<String> {
        let same = |a: &&Attempt| (a.step, &a.task, &a.answers) == (attempt.step, &attempt.task, &attempt.answers);
        let earlier = now.attempts.iter().take_while(|a| a.id != attempt.id);
        let before = earlier.filter(same).last()?;
        let ended = before.ended.as_ref().filter(|e| e.ending == Ending::Failed && !e.why.is_empty())?;
        let reported = self.failed.contains(&before.id);
        (!reported).then(|| format!("{} rejected: {}", before.id, quote(&ended.why)))
    }

    fn phase(&mut self, now: &Run, phase: &str) -> Option<Line> {
        if std::mem::replace(&mut self.phase, phase.to_owned()) == phase {
            return None;
        }
        Some(Line::Phase(match phase {
            "queued" => "queued: waiting for a free slot".to_owned(),
            "planning" => "planning".to_owned(),
            "working" => {
                let open = now.tasks.iter().filter(|t| !matches!(t.stage.as_str(), "integrated" | "dropped")).count();
                match open {
                    0 => "working".to_owned(),
                    open => format!("working on {}", count(open as u64, "task")),
                }
            }
            "reviewing" => "reviewing: pushing, checking and reviewing the whole branch".to_owned(),
            "gating" => "gating: checking every condition for landing".to_owned(),
            "landing" => format!("landing on {}", now.base_branch),
            "reporting" => "reporting the result".to_owned(),
            _ => return None,
        }))
    }

    fn added_tasks(&mut self, now: &Run, select: impl Fn(&Task) -> bool) -> Vec<Line> {
        let mut lines = Vec::new();
        for task in now.tasks.iter().filter(|t| select(t)) {
            if self.tasks.insert(task.id.clone()) && task.origin != "plan" {
                let title = brief(&task.title, MAX_QUOTE_CHARS);
                lines.push(Line::Added(format!("{} added after {}: {title}", task.id, task.origin)));
            }
        }
        lines
    }
}
