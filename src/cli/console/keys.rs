//! What each key does.
//!
//! Invariant: pure. A key never acts on a run; it opens a question, and only `y` there sends the act.

use super::act;
use super::comments;
use super::start;
use super::state::{Dialog, Field, Link, Purpose, Request, Screen, State, Tab};
use super::view;
use crate::http::rest::wire::{Run, SpendingBy};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Longest text that is written, in characters.
const MAX_TEXT_CHARS: usize = 10_000;

/// Keys that work everywhere, with what they do.
pub const EVERYWHERE: &[(&str, &str)] = &[
    ("1…6", "go to a screen"),
    ("↑ ↓ j k", "select"),
    ("PgUp PgDn", "scroll the text"),
    ("Home End", "first or last"),
    ("Enter", "open"),
    ("Esc", "go back"),
    ("/", "filter the list"),
    (":", "run ID, project NAME"),
    ("y", "copy the id of the run"),
    ("o", "show the page's address"),
    ("P", "pause or resume the run"),
    ("C", "cancel the run"),
    ("R", "retry the run"),
    ("Ctrl-L", "draw again"),
    ("Ctrl-Z", "suspend; fg comes back"),
    ("q", "quit"),
];

/// Returns the keys of a screen besides, with what they do.
pub fn of_screen(screen: Screen) -> &'static [(&'static str, &'static str)] {
    match screen {
        Screen::Inbox => &[
            ("a", "approve"),
            ("d", "decline"),
            ("u", "answer"),
            ("r", "continue"),
            ("m", "give more budget"),
            ("s", "skip"),
            ("x", "end the run"),
            ("v", "view the changes"),
            ("n", "start a new run"),
        ],
        Screen::Runs => &[("v", "view the changes"), ("n", "start a new run")],
        Screen::Run => &[
            ("[ ] Tab", "change the tab"),
            ("a d u r m s x", "answer the question"),
            ("Enter", "show the attempt's log"),
            ("f", "follow the live output"),
            ("l", "show the newest log"),
            ("e", "show internal events"),
            ("v", "view the changes"),
        ],
        Screen::Diff => &[
            ("n p", "next, previous file"),
            ("space", "read on"),
            ("v", "mark the file as viewed"),
            ("c", "comment on the line"),
            ("a d", "approve or decline"),
        ],
        Screen::Spending => &[("b", "sum up by another attribute")],
        Screen::Service => &[],
    }
}

/// Takes a key.
pub fn pressed(state: &mut State, key: KeyEvent) -> Vec<Request> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => vec![Request::Quit],
            KeyCode::Char('l') => vec![Request::Redraw],
            KeyCode::Char('z') => vec![Request::Suspend],
            _ => Vec::new(),
        };
    }
    match state.dialog.take() {
        Some(Dialog::Keys) => Vec::new(),
        Some(Dialog::Write(field, purpose)) => written(state, field, purpose, key.code),
        Some(dialog @ (Dialog::Confirm(_) | Dialog::Start(_))) => {
            if key.code != KeyCode::Char('y') {
                state.notify("Nothing was done.");
                return Vec::new();
            }
            if !state.is_up() {
                state.fail("Nothing was done: the service does not answer. Try again when it is back.");
                return Vec::new();
            }
            if state.in_flight.act {
                state.fail("Nothing was done: the last act is still being carried out.");
                return Vec::new();
            }
            state.in_flight.act = true;
            state.notify("Sending…");
            match dialog {
                Dialog::Confirm(act) => vec![Request::Act(Box::new(act))],
                Dialog::Start(new) => vec![Request::Start(new)],
                Dialog::Keys | Dialog::Write(..) => Vec::new(),
            }
        }
        None => {
            state.notice = None;
            let requests = on_screen(state, key.code);
            state.clamp();
            requests
        }
    }
}

/// Takes a text that was pasted: it is written into the field that is open, and never acts.
pub fn pasted(state: &mut State, text: &str) {
    if let Some(Dialog::Write(field, purpose)) = &mut state.dialog {
        let room = MAX_TEXT_CHARS.saturating_sub(field.text.chars().count());
        field.text.extend(text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(room));
        if matches!(purpose, Purpose::Filter) {
            state.filter.clone_from(&field.text);
        }
    }
}

fn written(state: &mut State, mut field: Field, purpose: Purpose, code: KeyCode) -> Vec<Request> {
    match code {
        KeyCode::Esc => {
            if matches!(purpose, Purpose::Filter) {
                state.filter.clear();
            } else if !matches!(purpose, Purpose::Command) {
                state.notify("Nothing was done.");
            }
            return Vec::new();
        }
        KeyCode::Enter => {
            let text = field.text.trim().to_owned();
            if text.is_empty() && !field.is_optional {
                state.dialog = Some(Dialog::Write(field, purpose));
                return Vec::new();
            }
            match purpose {
                Purpose::Command => return command(state, &text),
                Purpose::Filter => state.filter = text,
                Purpose::Text(act) => state.dialog = Some(act::with_text(act, &text)),
                Purpose::Comment(line) => comments::store(state, line, &text),
                Purpose::Place => state.dialog = Some(start::with_place(&text)),
                Purpose::Goal(place) => state.dialog = Some(start::with_goal(place, &text)),
                Purpose::Amount(act) => match act::with_amount(act.clone(), &text) {
                    Ok(dialog) => state.dialog = Some(dialog),
                    Err(why) => {
                        state.fail(super::text::line(&why));
                        state.dialog = Some(Dialog::Write(field, Purpose::Amount(act)));
                    }
                },
            }
            return Vec::new();
        }
        KeyCode::Backspace => {
            field.text.pop();
        }
        KeyCode::Char(c) if !c.is_control() && field.text.chars().count() < MAX_TEXT_CHARS => field.text.push(c),
        _ => {}
    }
    if matches!(purpose, Purpose::Filter) {
        state.filter.clone_from(&field.text);
    }
    state.dialog = Some(Dialog::Write(field, purpose));
    Vec::new()
}

fn command(state: &mut State, text: &str) -> Vec<Request> {
    let (name, rest) = text.split_once(' ').unwrap_or((text, ""));
    let rest = rest.trim();
    match (name, rest) {
        ("", _) => Vec::new(),
        ("q" | "quit", _) => vec![Request::Quit],
        ("run", id) if !id.is_empty() => {
            // Of a shortened id the list knows the whole one; what it does not know is asked for as it is.
            let found = state.runs.iter().find(|r| r.run == id || r.short_id().starts_with(id)).map(|r| r.run.clone());
            let id = found.unwrap_or_else(|| id.to_owned());
            state.open_run(&id)
        }
        ("project", name) if !name.is_empty() => {
            state.filter = name.to_owned();
            state.go_to(Screen::Runs);
            Vec::new()
        }
        _ => {
            state.fail("Unknown command. Use run ID, project NAME or q.");
            Vec::new()
        }
    }
}

fn on_screen(state: &mut State, code: KeyCode) -> Vec<Request> {
    match code {
        KeyCode::Char('q') => vec![Request::Quit],
        KeyCode::Char('?') => {
            state.dialog = Some(Dialog::Keys);
            Vec::new()
        }
        KeyCode::Char(':') => {
            state.dialog = Some(write(":", "", Purpose::Command));
            Vec::new()
        }
        KeyCode::Char('/') => {
            let filter = state.filter.clone();
            state.dialog = Some(write("Filter:", &filter, Purpose::Filter));
            Vec::new()
        }
        KeyCode::Char(digit @ '1'..='6') => {
            let at = usize::from(u8::try_from(digit).unwrap_or(b'1') - b'1');
            go(state, Screen::ALL.get(at).copied().unwrap_or(Screen::Inbox))
        }
        KeyCode::Esc => back(state),
        KeyCode::Char('y') => match state.subject_id() {
            Some(id) => {
                state.notify("Sent the run's id to the terminal's clipboard.");
                vec![Request::Copy(id)]
            }
            None => Vec::new(),
        },
        KeyCode::Char('o') => {
            address(state);
            Vec::new()
        }
        KeyCode::Char(key @ ('P' | 'C' | 'R')) => {
            begin_action(state, key);
            Vec::new()
        }
        KeyCode::Char('v') if state.screen != Screen::Diff => view_changes(state),
        KeyCode::Char(key) if act::is_key(key) && state.asked().is_some() => {
            match state.asked().and_then(|asked| act::answer(asked, key)) {
                Some(dialog) => state.dialog = Some(comments::join(state, dialog)),
                None => state.fail("This question has no such answer. The line at the bottom names the answers."),
            }
            Vec::new()
        }
        KeyCode::Up | KeyCode::Char('k') => select(state, -1),
        KeyCode::Down | KeyCode::Char('j') => select(state, 1),
        KeyCode::PageUp => {
            scroll(state, -page(state));
            Vec::new()
        }
        KeyCode::PageDown => {
            scroll(state, page(state));
            Vec::new()
        }
        KeyCode::Home | KeyCode::Char('g') => select(state, isize::MIN),
        KeyCode::End | KeyCode::Char('G') => select(state, isize::MAX),
        code => of_one_screen(state, code),
    }
}

fn of_one_screen(state: &mut State, code: KeyCode) -> Vec<Request> {
    match (state.screen, code) {
        (Screen::Inbox | Screen::Runs, KeyCode::Enter) => match state.subject_id() {
            Some(id) => state.open_run(&id),
            None => Vec::new(),
        },
        (Screen::Run, KeyCode::Char(']') | KeyCode::Tab) => tab(state, 1),
        (Screen::Run, KeyCode::Char('[') | KeyCode::BackTab) => tab(state, Tab::ALL.len() - 1),
        (Screen::Run, KeyCode::Char('e')) => {
            if let Some(open) = &mut state.open {
                open.shows_all = !open.shows_all;
            }
            Vec::new()
        }
        (Screen::Run, KeyCode::Char('f')) => {
            if let Some(open) = &mut state.open {
                (open.tab, open.log, open.from_end) = (Tab::Output, None, 0);
            }
            Vec::new()
        }
        (Screen::Run, KeyCode::Char('l')) => log(state, None),
        (Screen::Run, KeyCode::Enter) => match state.open.as_ref().map(|open| (open.tab, open.attempt)) {
            Some((Tab::Attempts, at)) => {
                let attempt = state.subject().and_then(|run| run.attempts.get(at)).map(|a| a.id.clone());
                if attempt.is_some() { log(state, attempt) } else { Vec::new() }
            }
            _ => Vec::new(),
        },
        (Screen::Inbox | Screen::Runs, KeyCode::Char('n')) => start::begin(state),
        (Screen::Diff, KeyCode::Char('c')) => comments::begin(state),
        (Screen::Diff, KeyCode::Char('n')) => file(state, 1),
        (Screen::Diff, KeyCode::Char('p')) => file(state, -1),
        (Screen::Diff, KeyCode::Char(' ')) => {
            let before = state.scroll;
            scroll(state, page(state));
            if state.scroll == before { file(state, 1) } else { Vec::new() }
        }
        (Screen::Diff, KeyCode::Char('v')) => {
            if let Some(diff) = &mut state.diff
                && let Some(path) = diff.files.iter().flatten().nth(diff.file).map(|file| file.path.clone())
                && !diff.viewed.remove(&path)
            {
                diff.viewed.insert(path);
                return file(state, 1);
            }
            Vec::new()
        }
        (Screen::Spending, KeyCode::Char('b')) => {
            state.by = match state.by {
                SpendingBy::Day => SpendingBy::Project,
                SpendingBy::Project => SpendingBy::Role,
                SpendingBy::Role => SpendingBy::Model,
                SpendingBy::Model => SpendingBy::Run,
                SpendingBy::Run => SpendingBy::Day,
            };
            (state.spending, state.scroll) = (None, 0);
            state.refresh_screen()
        }
        _ => Vec::new(),
    }
}

fn write(label: &str, text: &str, purpose: Purpose) -> Dialog {
    Dialog::Write(Field { label: label.to_owned(), text: text.to_owned(), is_optional: true }, purpose)
}

fn go(state: &mut State, screen: Screen) -> Vec<Request> {
    match screen {
        // A run is opened from where one is selected.
        Screen::Run if state.screen != Screen::Diff => match state.subject_id() {
            Some(id) => state.open_run(&id),
            None => {
                state.go_to(Screen::Run);
                Vec::new()
            }
        },
        Screen::Diff if state.screen != Screen::Diff => view_changes(state),
        screen => {
            state.go_to(screen);
            state.refresh_screen()
        }
    }
}

fn back(state: &mut State) -> Vec<Request> {
    match state.screen {
        Screen::Diff => state.go_to(Screen::Run),
        Screen::Run => {
            let is_waiting = state.open.as_ref().is_some_and(|open| state.asking.contains_key(&open.id));
            state.go_to(if is_waiting { Screen::Inbox } else { Screen::Runs });
        }
        Screen::Inbox | Screen::Runs if !state.filter.is_empty() => state.filter.clear(),
        _ => state.go_to(Screen::Inbox),
    }
    Vec::new()
}

fn address(state: &mut State) {
    let id = state.subject_id();
    match &state.link {
        Link::Up { pages: Some(base), .. } => {
            let path = id.map(|id| format!("/runs/{id}")).unwrap_or_default();
            let address = format!("{base}{path}");
            state.notify(address);
        }
        _ => state.fail("There are no pages: no service is running. `skep serve` starts one."),
    }
}

fn begin_action(state: &mut State, key: char) {
    let dialog = match state.screen {
        // A row of the list does not say what its run is like; an act is about what was seen.
        Screen::Runs => {
            state.notify("Open the run first (Enter).");
            return;
        }
        _ => state.subject().map(|run| act::action(run, key)),
    };
    match dialog {
        Some(Some(dialog)) => state.dialog = Some(dialog),
        Some(None) => state.fail("The run has ended."),
        None => state.notify("Select a run first."),
    }
}

fn view_changes(state: &mut State) -> Vec<Request> {
    let task = state.asked().filter(|q| q.asked.code == "approve_diff").and_then(|q| q.asked.task.clone());
    match state.subject().cloned() {
        Some(run) => state.open_diff(&run, task),
        None if state.screen == Screen::Runs => {
            state.notify("Open the run first (Enter).");
            Vec::new()
        }
        None => match state.open.as_ref().and_then(|open| open.run.clone()) {
            Some(run) => state.open_diff(&run, None),
            None => {
                state.go_to(Screen::Diff);
                Vec::new()
            }
        },
    }
}

fn tab(state: &mut State, by: usize) -> Vec<Request> {
    if let Some(open) = &mut state.open {
        let at = Tab::ALL.iter().position(|tab| *tab == open.tab).unwrap_or(0);
        open.tab = Tab::ALL.get((at + by) % Tab::ALL.len()).copied().unwrap_or(Tab::Plan);
        (open.from_end, state.scroll) = (0, 0);
    }
    Vec::new()
}

fn log(state: &mut State, attempt: Option<String>) -> Vec<Request> {
    state.open.as_ref().map(|open| Request::Log(open.id.clone(), attempt)).into_iter().collect()
}

fn file(state: &mut State, by: isize) -> Vec<Request> {
    if let Some(diff) = &mut state.diff {
        let files = diff.files.as_ref().map_or(0, Vec::len);
        let to = diff.file.saturating_add_signed(by).min(files.saturating_sub(1));
        if to != diff.file {
            (diff.file, diff.line, state.scroll) = (to, 0, 0);
        }
    }
    Vec::new()
}

fn page(state: &State) -> isize {
    isize::try_from(state.size.1 / 2).unwrap_or(10).max(1)
}

/// Moves the selection of a list, or the text of a screen that has none.
fn select(state: &mut State, by: isize) -> Vec<Request> {
    match state.screen {
        Screen::Inbox => {
            let questions = state.questions();
            let at = moved(state.question_at(&questions), by, questions.len());
            let to = questions.get(at).map(|q| (q.run.id.clone(), q.asked.block.clone()));
            if to != state.question {
                (state.question, state.scroll) = (to, 0);
            }
        }
        Screen::Runs => {
            let listed = state.listed();
            let at = moved(state.selected_at(&listed), by, listed.len());
            let selected = listed.get(at).map(|row| row.run.clone());
            let is_last = at + 1 >= listed.len();
            state.selected = selected;
            let oldest = state.runs.last().map(|row| row.run.clone());
            if is_last
                && state.has_older
                && state.is_up()
                && let Some(oldest) = oldest
            {
                // Asked for once: the response says whether there are more.
                state.has_older = false;
                return vec![Request::Older(oldest)];
            }
        }
        Screen::Run if state.open.as_ref().is_some_and(|open| open.tab == Tab::Attempts) => {
            let attempts = state.subject().map_or(0, |run: &Run| run.attempts.len());
            if let Some(open) = &mut state.open {
                open.attempt = moved(open.attempt, by, attempts);
            }
        }
        Screen::Diff => comments::move_line(state, by),
        _ => scroll(state, by),
    }
    Vec::new()
}

fn moved(at: usize, by: isize, len: usize) -> usize {
    at.saturating_add_signed(by).min(len.saturating_sub(1))
}

fn scroll(state: &mut State, by: isize) {
    let follows_end = |tab| matches!(tab, Tab::Output | Tab::Events);
    let max = view::max_scroll(state);
    match &mut state.open {
        Some(open) if state.screen == Screen::Run && follows_end(open.tab) => {
            let from_start = max.saturating_sub(open.from_end);
            open.from_end = max.saturating_sub(from_start.saturating_add_signed(by).min(max));
        }
        _ => state.scroll = state.scroll.saturating_add_signed(by).min(max),
    }
}

impl State {
    /// Keeps positions inside what there is.
    pub fn clamp(&mut self) {
        let max = view::max_scroll(self);
        self.scroll = self.scroll.min(max);
        comments::clamp(self);
        if let Some(open) = &mut self.open {
            if self.screen == Screen::Run && matches!(open.tab, Tab::Output | Tab::Events) {
                open.from_end = open.from_end.min(max);
            }
            open.attempt = open.attempt.min(open.run.as_ref().map_or(0, |run| run.attempts.len().saturating_sub(1)));
        }
    }
}
