//! What a follower says of a run, in the order it happened: each thing once, though the looks at the run come late.
//!
//! Invariant: pure. A look at the run may be ahead of the events told so far; what it shows waits until they have caught up.

use super::run_log::{QUOTE, quote};
use super::text::{brief, count};

use crate::domain::{EffectOutcome, Event, Report};
use crate::http::rest::wire::{self, Attempt, Ended, Ending, Engine, Run, Step, Task};
use std::collections::BTreeSet;

/// What was said already.
#[derive(Debug, Default)]
pub struct Progress {
    phase: String,
    begun: BTreeSet<String>,
    tasks: BTreeSet<String>,
    checking: bool,
    failed: BTreeSet<String>,
    change: String,
}

impl Progress {
    /// A teller who takes a run up where it stands.
    pub fn of(view: &Run) -> Progress {
        let ended = view.attempts.iter().filter(|a| !a.is_live()).map(|a| a.id.clone());
        Progress {
            begun: ended.clone().collect(),
            failed: ended.collect(),
            tasks: view.tasks.iter().map(|t| t.id.clone()).collect(),
            ..Progress::default()
        }
    }

    /// Whether nothing is known yet of what began this attempt.
    pub fn lacks(&self, attempt: &str) -> bool {
        !self.begun.contains(attempt)
    }

    /// The attempt a row ends, if it ends one.
    pub fn ends(row: &wire::Event) -> Option<String> {
        match event_of(row)? {
            Event::Reported(reported) if !matches!(reported.report, Report::Stopped) => {
                Some(reported.attempt.to_string())
            }
            _ => None,
        }
    }

    /// Whether a row only says again what was said: a change that was brought up to date once more.
    pub fn repeats(&mut self, row: &wire::Event) -> bool {
        match event_of(row) {
            Some(Event::EffectFinished { done: EffectOutcome::Ensured { change }, .. }) => {
                std::mem::replace(&mut self.change, change.url.clone()) == change.url
            }
            Some(Event::Reported(reported)) if matches!(reported.report, Report::Failed { .. }) => {
                self.failed.insert(reported.attempt.to_string());
                false
            }
            _ => false,
        }
    }

    /// What began, in a look that is not ahead of the events: phases, tasks added for rework, attempts, checks.
    pub fn news(&mut self, now: &Run) -> Vec<String> {
        let mut lines = Vec::new();
        // A run that waits for a slot is told after a while, see the follower: most have one at once.
        if now.phase != "queued" {
            lines.extend(self.phase(now, &now.phase));
        }
        lines.extend(self.added(now, |_| true));
        let live: Vec<String> = now.attempts.iter().filter(|a| a.is_live()).map(|a| a.id.clone()).collect();
        lines.extend(live.iter().flat_map(|id| self.begins(now, id)));
        let checking = now.pending_effects.iter().any(|d| d == "check");
        if checking && !self.checking {
            let names: Vec<&str> = now.checks.iter().map(|c| c.name.as_str()).collect();
            lines.push(format!("checks run: {}", names.join(", ")));
        }
        self.checking = checking;
        lines
    }

    /// The beginning of one attempt, with the phase it belongs to.
    pub fn begins(&mut self, now: &Run, id: &str) -> Vec<String> {
        let Some(attempt) = now.attempts.iter().find(|a| a.id == id) else { return Vec::new() };
        if !self.begun.insert(id.to_owned()) {
            return Vec::new();
        }
        let asker = attempt.answers.as_ref().and_then(|by| now.attempts.iter().find(|a| a.id == *by));
        let phase = match asker.map_or(attempt.step, |a| a.step) {
            Step::Explore | Step::Plan => "planning",
            Step::Develop => "working",
            Step::Review => "reviewing",
        };
        let mut lines: Vec<String> = self.phase(now, phase).into_iter().collect();
        // Tasks that came after it are told when the events have caught up.
        lines.extend(self.added(now, |t| attempt.task.as_ref() == Some(&t.id)));
        let role = attempt.step.role();
        let task = now.tasks.iter().find(|t| attempt.task.as_ref() == Some(&t.id));
        let question = asker.map_or(String::new(), |a| format!(" on the question of {}", a.id));
        let on = task.map_or(question, |t| {
            // The task's own counter may be ahead; only what failed before has used up a try.
            let failed = |a: &&Attempt| {
                let used_up = |e: &Ended| matches!(e.ending, Ending::Succeeded | Ending::Failed);
                a.task == attempt.task && a.ended.as_ref().is_some_and(used_up)
            };
            let nth = u32::try_from(now.attempts.iter().take_while(|a| a.id != attempt.id).filter(failed).count())
                .unwrap_or(u32::MAX)
                .saturating_add(1);
            format!(" on {}: {} (try {nth} of {})", t.id, brief(&t.title, 72), t.tries_allowed.max(nth))
        });
        lines.extend(self.refused(now, attempt));
        lines.push(format!("{id} begins: {role} ({}){on}", Engine::parse(&attempt.engine).named()));
        lines
    }

    /// Why the attempt before this one was not believed: no event of its own says it.
    fn refused(&self, now: &Run, attempt: &Attempt) -> Option<String> {
        let same = |a: &&Attempt| (a.step, &a.task, &a.answers) == (attempt.step, &attempt.task, &attempt.answers);
        let earlier = now.attempts.iter().take_while(|a| a.id != attempt.id);
        let before = earlier.filter(same).last()?;
        let ended = before.ended.as_ref().filter(|e| e.ending == Ending::Failed && !e.why.is_empty())?;
        let told = self.failed.contains(&before.id);
        (!told).then(|| format!("{} is refused: {}", before.id, quote(&ended.why)))
    }

    fn phase(&mut self, now: &Run, phase: &str) -> Option<String> {
        if std::mem::replace(&mut self.phase, phase.to_owned()) == phase {
            return None;
        }
        Some(match phase {
            "queued" => "queued: waits for a free slot".to_owned(),
            "planning" => "planning".to_owned(),
            "working" => {
                let open = now.tasks.iter().filter(|t| !matches!(t.stage.as_str(), "integrated" | "dropped")).count();
                match open {
                    0 => "working".to_owned(),
                    open => format!("working on {}", count(open as u64, "task")),
                }
            }
            "reviewing" => "reviewing: the whole branch is pushed, checked and reviewed".to_owned(),
            "gating" => "gating: everything that must be true before landing".to_owned(),
            "landing" => format!("landing on {}", now.base_branch),
            "reporting" => "reporting: the result is told, the workspace given back".to_owned(),
            _ => return None,
        })
    }

    fn added(&mut self, now: &Run, wanted: impl Fn(&Task) -> bool) -> Vec<String> {
        let mut lines = Vec::new();
        for task in now.tasks.iter().filter(|t| wanted(t)) {
            if self.tasks.insert(task.id.clone()) && task.origin != "plan" {
                lines.push(format!("{} added after {}: {}", task.id, task.origin, brief(&task.title, QUOTE)));
            }
        }
        lines
    }
}

fn event_of(row: &wire::Event) -> Option<Event> {
    serde_json::from_value(row.event.clone()?).ok()
}
