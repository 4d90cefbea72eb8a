//! What the console does with each thing that happens: a key, a response, a movement of a run.
//!
//! Invariant: pure. Nothing is sent to a run that a person has not confirmed.

use super::state::{
    Act, Answer, Diff, Input, JournalLine, Link, MAX_ASKING, MAX_KEPT, MAX_OPEN, MAX_RUNS, Notice, OpenRun, Request,
    Screen, State, Tab,
};
use super::{comments, keys, text};
use crate::cli::exit::CliError;
use crate::cli::run_log;
use crate::http::rest::wire::{Event, Run, RunSummary};
use std::collections::{HashMap, HashSet, VecDeque};

impl State {
    /// Takes what happened, and returns what is asked of the world.
    pub fn update(&mut self, input: Input) -> Vec<Request> {
        match input {
            Input::Key(key) => keys::pressed(self, key),
            Input::Paste(text) => {
                keys::pasted(self, &text);
                Vec::new()
            }
            Input::Resize(columns, lines) => {
                self.size = (columns, lines);
                self.clamp();
                Vec::new()
            }
            Input::Connected { driver, pages } => {
                let was_lost = matches!(self.link, Link::Lost { .. });
                self.link = Link::Up { driver, pages };
                if was_lost {
                    self.notify("Connected again.");
                }
                self.refresh_all()
            }
            Input::Lost(why) => {
                // What was sent gets no response any more.
                if self.in_flight.act {
                    self.fail("The connection was lost: look at the run to see whether your answer has arrived.");
                }
                self.in_flight = Default::default();
                self.link = Link::Lost { why: text::line(&why) };
                Vec::new()
            }
            Input::Moved(run) => self.moved(run.as_deref()),
            Input::Row(run, row) => self.row(&run, &row),
            Input::Output(run, source, line) => {
                self.output(&run, &source, &line);
                Vec::new()
            }
            Input::Response(request, response) => self.response(request, response),
        }
    }

    /// Sets the sentence at the bottom.
    pub fn notify(&mut self, text: impl Into<String>) {
        self.notice = Some(Notice { text: text.into(), is_error: false });
    }

    /// Sets the sentence at the bottom to a failure.
    pub fn fail(&mut self, text: impl Into<String>) {
        self.notice = Some(Notice { text: text.into(), is_error: true });
    }

    /// Requests everything that is on the screen.
    pub fn refresh_all(&mut self) -> Vec<Request> {
        let mut requests = self.refresh_lists();
        if let Some(open) = &self.open {
            requests.push(Request::Follow(open.id.clone(), open.last));
            requests.extend(self.refresh_run(&self.open_id()));
        }
        requests.extend(self.refresh_screen());
        requests
    }

    /// Requests what only the present screen shows.
    pub fn refresh_screen(&mut self) -> Vec<Request> {
        match self.screen {
            Screen::Spending => vec![Request::Spending(self.by)],
            Screen::Service => vec![Request::Health, Request::Ratings],
            Screen::Diff => match &self.diff {
                Some(diff) if diff.files.is_none() => vec![Request::Patch(diff.run.clone(), diff.task.clone())],
                _ => Vec::new(),
            },
            Screen::Inbox | Screen::Runs | Screen::Run => Vec::new(),
        }
    }

    fn refresh_lists(&mut self) -> Vec<Request> {
        if !self.is_up() {
            return Vec::new();
        }
        if self.in_flight.lists {
            self.in_flight.lists_stale = true;
            return Vec::new();
        }
        self.in_flight.lists = true;
        vec![Request::Lists]
    }

    fn refresh_run(&mut self, run: &str) -> Option<Request> {
        if run.is_empty() || !self.is_up() {
            return None;
        }
        match self.in_flight.runs.get_mut(run) {
            Some(is_stale) => {
                *is_stale = true;
                None
            }
            None => {
                self.in_flight.runs.insert(run.to_owned(), false);
                Some(Request::Run(run.to_owned()))
            }
        }
    }

    fn open_id(&self) -> String {
        self.open.as_ref().map(|open| open.id.clone()).unwrap_or_default()
    }

    /// Opens a run on its screen.
    pub fn open_run(&mut self, id: &str) -> Vec<Request> {
        self.go_to(Screen::Run);
        if self.open_id() == id {
            return Vec::new();
        }
        let mut open = OpenRun::new(id);
        open.run = self.asking.get(id).cloned().map(Box::new);
        self.open = Some(open);
        self.diff = None;
        let mut requests = vec![Request::Follow(id.to_owned(), 0)];
        requests.extend(self.refresh_run(id));
        requests
    }

    /// Opens the changes of a run, or of one of its tasks.
    pub fn open_diff(&mut self, run: &Run, task: Option<String>) -> Vec<Request> {
        let mut requests = self.open_run(&run.id);
        self.go_to(Screen::Diff);
        let short = crate::cli::text::short_sha(&run.head);
        let title = format!("{} {} at {short}", run.short_id, text::line(&run.goal.title));
        let head = run.head.clone();
        let is_same = self.diff.as_ref().is_some_and(|d| d.run == run.id && d.task == task && d.title == title);
        if !is_same {
            self.diff = Some(Diff { run: run.id.clone(), title, head, task, ..Diff::default() });
            requests.extend(self.refresh_screen());
        }
        requests
    }

    /// Changes the screen.
    pub fn go_to(&mut self, screen: Screen) {
        if self.screen != screen {
            self.screen = screen;
            self.scroll = 0;
        }
    }

    fn moved(&mut self, run: Option<&str>) -> Vec<Request> {
        let mut requests = self.refresh_lists();
        let open = self.open_id();
        if !open.is_empty() && run.is_none_or(|run| run == open) {
            requests.extend(self.refresh_run(&open));
        }
        // No more often than the lists.
        if self.screen == Screen::Service && requests.iter().any(|request| matches!(request, Request::Lists)) {
            requests.push(Request::Health);
        }
        requests
    }

    fn row(&mut self, run: &str, row: &Event) -> Vec<Request> {
        let Some(open) = self.open.as_mut().filter(|open| open.id == run && row.seq > open.last) else {
            return Vec::new();
        };
        open.last = row.seq;
        let words = run_log::line(row, open.run.as_deref()).map(|words| text::line(&words));
        let line =
            JournalLine { seq: row.seq, at: row.at, words, name: text::line(&row.name), mark: run_log::mark(row) };
        push(&mut open.journal, line);
        let is_behind = open.run.as_ref().is_none_or(|run| run.seq < row.seq);
        if is_behind { self.refresh_run(run).into_iter().collect() } else { Vec::new() }
    }

    fn output(&mut self, run: &str, source: &str, line: &str) {
        let Some(open) = self.open.as_mut().filter(|open| open.id == run) else { return };
        let source = text::line(source);
        for line in text::lines(line) {
            push(&mut open.output, format!("{source} | {line}"));
            // A text that is read stays where it is.
            if open.from_end > 0 && open.log.is_none() && open.tab == Tab::Output {
                open.from_end = open.from_end.saturating_add(1);
            }
        }
    }

    fn response(&mut self, request: Request, response: Result<Answer, CliError>) -> Vec<Request> {
        let mut requests = self.arrived(&request);
        match response {
            Ok(answer) => requests.extend(self.take(request, answer)),
            Err(error) => self.failed(&request, &error),
        }
        self.clamp();
        requests
    }

    /// Notes that a request was answered; returns it again if its answer was out of date before it came.
    fn arrived(&mut self, request: &Request) -> Vec<Request> {
        match request {
            Request::Lists => {
                self.in_flight.lists = false;
                if std::mem::take(&mut self.in_flight.lists_stale) { self.refresh_lists() } else { Vec::new() }
            }
            Request::Run(id) => match self.in_flight.runs.remove(id) {
                Some(true) => self.refresh_run(id).into_iter().collect(),
                _ => Vec::new(),
            },
            Request::Act(_) | Request::Start(_) => {
                self.in_flight.act = false;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn failed(&mut self, request: &Request, error: &CliError) {
        let problem = error.problems.first();
        let detail = problem.map_or_else(|| "unknown error".to_owned(), |p| text::line(&p.detail));
        let fix = problem.map(|p| text::line(&p.fix)).filter(|fix| !fix.is_empty());
        let detail = fix.map_or_else(|| detail.clone(), |fix| format!("{detail}. {fix}"));
        match request {
            Request::Act(act) => self.fail(format!("Cannot {}: {detail}", act.what)),
            Request::Start(_) => self.fail(format!("Cannot start the run: {detail}")),
            Request::Patch(run, _) => {
                if let Some(diff) = self.diff.as_mut().filter(|diff| diff.run == *run) {
                    diff.files = Some(Vec::new());
                }
                self.fail(detail);
            }
            Request::Older(_) => {
                self.has_older = true;
                self.fail(detail);
            }
            _ => self.fail(detail),
        }
    }

    fn take(&mut self, request: Request, answer: Answer) -> Vec<Request> {
        match (request, answer) {
            (Request::Lists, Answer::Runs(runs, has_older)) => {
                if !self.is_loaded {
                    (self.has_older, self.is_loaded) = (has_older, true);
                }
                let ended = self.ended_since(&runs);
                self.merge(runs);
                let mut requests = self.refresh_asking();
                requests.extend(ended.iter().filter_map(|id| self.refresh_run(id)));
                requests
            }
            (Request::Older(_), Answer::Runs(runs, has_older)) => {
                self.has_older = has_older && self.runs.len() < MAX_RUNS;
                self.merge(runs);
                Vec::new()
            }
            (Request::Run(_), Answer::Run(run)) => {
                self.take_run(*run);
                Vec::new()
            }
            (Request::Patch(run, task), Answer::Patch(patch)) => {
                if let Some(diff) = self.diff.as_mut().filter(|diff| diff.run == run && diff.task == task) {
                    diff.files = Some(comments::files(&patch));
                    (diff.file, diff.line) = (0, 0);
                }
                Vec::new()
            }
            (Request::Log(run, _), Answer::Log(log)) => {
                if let Some(open) = self.open.as_mut().filter(|open| open.id == run) {
                    (open.log, open.tab, open.from_end) = (Some(log), Tab::Output, 0);
                }
                Vec::new()
            }
            (Request::Spending(by), Answer::Spending(rows)) => {
                if by == self.by {
                    self.spending = Some(rows);
                }
                Vec::new()
            }
            (_, Answer::Health(health)) => {
                self.health = Some(health);
                Vec::new()
            }
            (_, Answer::Ratings(ratings)) => {
                self.ratings = Some(ratings);
                Vec::new()
            }
            (Request::Act(act), Answer::Acted(run)) => {
                self.notify(format!("{}: {}", act.done, text::line(&run.goal.title)));
                let is_new = run.id != act.run;
                if let Some(diff) = self.diff.as_mut().filter(|diff| act.body.no && diff.run == act.run) {
                    diff.comments.clear();
                }
                let id = run.id.clone();
                self.take_run(*run);
                let mut requests = self.refresh_lists();
                if is_new {
                    requests.extend(self.open_run(&id));
                }
                requests
            }
            (Request::Start(_), Answer::Started(run)) => {
                self.notify(format!("Started: {}", text::line(&run.goal.title)));
                let id = run.id.clone();
                self.take_run(*run);
                let mut requests = self.refresh_lists();
                requests.extend(self.open_run(&id));
                requests
            }
            (Request::Act(act), Answer::Changed(run)) => {
                self.fail(format!("Nothing was done: {} is not what you saw any more. Look at it again.", seen(&act)));
                self.diff = None;
                if self.screen == Screen::Diff {
                    self.go_to(Screen::Run);
                }
                self.take_run(*run);
                self.refresh_lists()
            }
            _ => Vec::new(),
        }
    }

    /// Returns runs that were open, and are not among the open runs any more.
    fn ended_since(&self, listed: &[RunSummary]) -> Vec<String> {
        let is_open = |row: &&RunSummary| row.phase != "ended" && row.quarantined.is_none();
        if listed.iter().filter(is_open).count() >= MAX_OPEN {
            // There are more than are listed.
            return Vec::new();
        }
        let listed: HashSet<&str> = listed.iter().map(|row| row.run.as_str()).collect();
        let missing = self.runs.iter().filter(is_open).filter(|row| !listed.contains(row.run.as_str()));
        missing.take(MAX_ASKING).map(|row| row.run.clone()).collect()
    }

    /// Puts rows into the list, each in place of an older one of the same run.
    fn merge(&mut self, rows: Vec<RunSummary>) {
        let mut known: HashMap<String, usize> =
            self.runs.iter().enumerate().map(|(at, r)| (r.run.clone(), at)).collect();
        for row in rows {
            match known.get(&row.run).and_then(|at| self.runs.get_mut(*at)) {
                Some(old) if old.seq > row.seq => {}
                Some(old) => *old = row,
                None => {
                    known.insert(row.run.clone(), self.runs.len());
                    self.runs.push(row);
                }
            }
        }
        self.runs.sort_by(|a, b| (b.opened_at, &b.run).cmp(&(a.opened_at, &a.run)));
        self.runs.truncate(MAX_RUNS);
    }

    /// Requests the questions of runs that wait for a person, where they are not known.
    fn refresh_asking(&mut self) -> Vec<Request> {
        let waiting: Vec<(String, u64)> =
            self.waiting().into_iter().take(MAX_ASKING).map(|row| (row.run.clone(), row.seq)).collect();
        self.asking.retain(|id, _| waiting.iter().any(|(run, _)| run == id));
        let unknown = |(id, seq): &(String, u64)| self.asking.get(id).is_none_or(|run| run.seq < *seq);
        let unknown: Vec<String> = waiting.iter().filter(|row| unknown(row)).map(|(id, _)| id.clone()).collect();
        unknown.iter().filter_map(|id| self.refresh_run(id)).collect()
    }

    /// Takes a run that was fetched, unless a newer one is known.
    fn take_run(&mut self, run: Run) {
        if let Some(row) = self.runs.iter_mut().find(|row| row.run == run.id && row.seq <= run.seq) {
            row.status.clone_from(&run.status);
            row.phase.clone_from(&run.phase);
            row.seq = run.seq;
            row.blocks = run.escalations.iter().map(|e| e.code.clone()).collect();
        }
        if let Some(open) = self.open.as_mut().filter(|open| open.id == run.id)
            && open.run.as_ref().is_none_or(|old| old.seq <= run.seq)
        {
            open.run = Some(Box::new(run.clone()));
        }
        if run.escalations.is_empty() {
            self.asking.remove(&run.id);
        } else if self.asking.get(&run.id).is_none_or(|old| old.seq <= run.seq) {
            self.asking.insert(run.id.clone(), run);
        }
    }
}

fn seen(act: &Act) -> String {
    act.seen.words()
}

/// Appends to a list that keeps the newest entries only.
fn push<T>(list: &mut VecDeque<T>, item: T) {
    if list.len() >= MAX_KEPT {
        list.pop_front();
    }
    list.push_back(item);
}
