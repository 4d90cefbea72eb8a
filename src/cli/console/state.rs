//! What the console knows and shows.
//!
//! Invariant: pure. It changes by [`super::update`] only, and is drawn by [`super::view`].

use crate::cli::exit::CliError;
use crate::cli::terminal::Mark;
use crate::http::rest::wire::{
    self, Event, Health, NewRun, RaiseShared, Rating, Run, RunSummary, Spending, SpendingBy, Timestamp,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Lines of output and rows of a journal that are kept.
pub const MAX_KEPT: usize = 5_000;
/// Open runs that are considered, however old.
pub const MAX_OPEN: usize = 500;
/// Runs that are kept.
pub const MAX_RUNS: usize = 10_000;
/// Waiting runs whose questions are fetched, those that wait longest first.
pub const MAX_ASKING: usize = 50;

/// What the console shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    /// Questions that wait for a person.
    Inbox,
    /// All runs.
    Runs,
    /// One run.
    Run,
    /// The changes of a run.
    Diff,
    /// Spending.
    Spending,
    /// The service and its engines.
    Service,
}

impl Screen {
    /// All screens, in the order of their keys.
    pub const ALL: [Screen; 6] =
        [Screen::Inbox, Screen::Runs, Screen::Run, Screen::Diff, Screen::Spending, Screen::Service];

    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Screen::Inbox => "Inbox",
            Screen::Runs => "Runs",
            Screen::Run => "Run",
            Screen::Diff => "Diff",
            Screen::Spending => "Spending",
            Screen::Service => "Service",
        }
    }
}

/// Part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tab {
    /// State, failures and tasks.
    Plan,
    /// Attempts.
    Attempts,
    /// Output of engines and checks.
    Output,
    /// The journal.
    Events,
    /// Budget.
    Budget,
    /// Gates and checks.
    Gates,
}

impl Tab {
    /// All tabs, in order.
    pub const ALL: [Tab; 6] = [Tab::Plan, Tab::Attempts, Tab::Output, Tab::Events, Tab::Budget, Tab::Gates];

    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Tab::Plan => "Plan",
            Tab::Attempts => "Attempts",
            Tab::Output => "Output",
            Tab::Events => "Events",
            Tab::Budget => "Budget",
            Tab::Gates => "Gates",
        }
    }
}

/// Connection to the process that drives the runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Not connected yet.
    Connecting,
    /// Connected.
    Up {
        /// Who drives the runs.
        driver: String,
        /// Address of the pages, if there are any.
        pages: Option<String>,
    },
    /// Lost; a new connection is being made.
    Lost {
        /// Reason.
        why: String,
    },
}

/// Act of a person that is about to be confirmed.
#[derive(Clone, Debug)]
pub struct Act {
    /// Run.
    pub run: String,
    /// What it does, as the rest of "Do you want to …?".
    pub what: String,
    /// What was done, at the beginning of a sentence.
    pub done: &'static str,
    /// Name of the action in the API.
    pub name: &'static str,
    /// Body of the action.
    pub body: Box<wire::Action>,
    /// Shared budget that is raised first.
    pub raise: Option<RaiseShared>,
    /// What the person saw, and is acting on.
    pub seen: Seen,
    /// Comments on lines, which are sent with the text.
    pub comments: Vec<String>,
}

/// What a person saw when they decided to act. The act is not performed on anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Last event of the run.
    pub seq: u64,
    /// The commits, or the revision of the plan; the head of the run if no question is answered. `None` if the question is
    /// answered already.
    pub subject: Option<String>,
}

/// Field into which a person writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// What is asked for.
    pub label: String,
    /// The text so far.
    pub text: String,
    /// Whether it may stay empty.
    pub is_optional: bool,
}

/// Use of a text that a person writes.
#[derive(Clone, Debug)]
pub enum Purpose {
    /// Command of the console (`:`).
    Command,
    /// Filter of the list on the screen (`/`).
    Filter,
    /// Text of an act.
    Text(Act),
    /// Amount of an act (`tokens=1000`).
    Amount(Act),
    /// Comment on a line of the selected file, by its number in the new file.
    Comment(u64),
    /// Project or repository of a new run.
    Place,
    /// Goal of a new run there.
    Goal(String),
}

/// What is in front of the screen and takes the keys.
#[derive(Clone, Debug)]
pub enum Dialog {
    /// The keys of this screen.
    Keys,
    /// A text is written.
    Write(Field, Purpose),
    /// An act waits for a yes.
    Confirm(Act),
    /// A new run waits for a yes.
    Start(Box<NewRun>),
}

/// Sentence at the bottom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The sentence.
    pub text: String,
    /// Whether something failed.
    pub is_error: bool,
}

/// Row of a journal in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalLine {
    /// Number.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// What happened; `None` for internal steps.
    pub words: Option<String>,
    /// Name of the event.
    pub name: String,
    /// Kind of news.
    pub mark: Mark,
}

/// The run on the screen.
#[derive(Clone, Debug)]
pub struct OpenRun {
    /// Id.
    pub id: String,
    /// The run, once it was fetched.
    pub run: Option<Box<Run>>,
    /// The part that is shown.
    pub tab: Tab,
    /// Journal.
    pub journal: VecDeque<JournalLine>,
    /// Last row of the journal.
    pub last: u64,
    /// Whether internal steps of the journal are shown, too.
    pub shows_all: bool,
    /// Live output, each line with where it comes from.
    pub output: VecDeque<String>,
    /// Stored log that is shown instead of the live output.
    pub log: Option<Log>,
    /// Selected attempt.
    pub attempt: usize,
    /// Lines between the end of a text and the last line shown; 0 follows the end.
    pub from_end: usize,
}

impl OpenRun {
    /// Creates it before the run was fetched.
    pub fn new(id: &str) -> OpenRun {
        OpenRun {
            id: id.to_owned(),
            run: None,
            tab: Tab::Plan,
            journal: VecDeque::new(),
            last: 0,
            shows_all: false,
            output: VecDeque::new(),
            log: None,
            attempt: 0,
            from_end: 0,
        }
    }
}

/// Stored log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Name.
    pub title: String,
    /// Lines.
    pub lines: Vec<String>,
}

/// Line of a diff as it is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiffLine {
    /// Number in the old file; 0 for none.
    pub old: u64,
    /// Number in the new file; 0 for none.
    pub new: u64,
    /// `+`, `-`, a blank, `\` for a remark, or `@` for the head of a hunk.
    pub sign: char,
    /// Text.
    pub text: String,
    /// Parts of the text, in bytes, that differ from the line it is compared with.
    pub marks: Vec<std::ops::Range<usize>>,
}

/// File of a diff.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiffFile {
    /// Path.
    pub path: String,
    /// Lines added and removed.
    pub counts: (usize, usize),
    /// What happened to the file besides.
    pub flags: String,
    /// Lines.
    pub lines: Vec<DiffLine>,
}

/// Changes of a run on the screen.
#[derive(Clone, Debug, Default)]
pub struct Diff {
    /// Run.
    pub run: String,
    /// Short id of the run, its title and its head.
    pub title: String,
    /// Head of the run.
    pub head: String,
    /// Task, if the changes are those of one task.
    pub task: Option<String>,
    /// Files; `None` until they were fetched.
    pub files: Option<Vec<DiffFile>>,
    /// Selected file.
    pub file: usize,
    /// Selected line of the file.
    pub line: usize,
    /// Comments on lines: the path, the number in the new file, the words.
    pub comments: BTreeMap<(String, u64), String>,
    /// Files that were marked as viewed.
    pub viewed: BTreeSet<String>,
}

/// Requests that were sent and not answered yet. Each is sent once at a time; what changes meanwhile is fetched again
/// after the answer.
#[derive(Clone, Debug, Default)]
pub struct InFlight {
    /// Lists of runs.
    pub lists: bool,
    /// Whether the lists are out of date already.
    pub lists_stale: bool,
    /// Runs, each with whether it is out of date already.
    pub runs: BTreeMap<String, bool>,
    /// Whether an act was sent.
    pub act: bool,
}

/// State of the console.
#[derive(Clone, Debug)]
pub struct State {
    /// Columns and lines of the window.
    pub size: (u16, u16),
    /// Whether colors are drawn.
    pub color: bool,
    /// Formats a time.
    pub time: fn(Timestamp) -> String,
    /// Screen.
    pub screen: Screen,
    /// Connection.
    pub link: Link,
    /// Runs, newest first.
    pub runs: Vec<RunSummary>,
    /// Whether older runs can be fetched.
    pub has_older: bool,
    /// Whether the lists were fetched at all.
    pub is_loaded: bool,
    /// Runs that wait for a person, with their questions.
    pub asking: BTreeMap<String, Run>,
    /// Selected question: run and block.
    pub question: Option<(String, String)>,
    /// Selected run of the list.
    pub selected: Option<String>,
    /// Filter of the inbox and the list of runs.
    pub filter: String,
    /// Run that was opened.
    pub open: Option<OpenRun>,
    /// Changes that were opened.
    pub diff: Option<Diff>,
    /// Attribute by which spending is summed up.
    pub by: SpendingBy,
    /// Spending.
    pub spending: Option<Vec<Spending>>,
    /// Health of the service.
    pub health: Option<Health>,
    /// Ratings of engines.
    pub ratings: Option<Vec<Rating>>,
    /// What takes the keys.
    pub dialog: Option<Dialog>,
    /// Sentence at the bottom.
    pub notice: Option<Notice>,
    /// First line of the text on the screen.
    pub scroll: usize,
    /// Unanswered requests.
    pub in_flight: InFlight,
}

/// What happens to the console.
#[derive(Debug)]
pub enum Input {
    /// A key was pressed.
    Key(ratatui::crossterm::event::KeyEvent),
    /// A text was pasted.
    Paste(String),
    /// The window has another size.
    Resize(u16, u16),
    /// A connection was made.
    Connected {
        /// Who drives the runs.
        driver: String,
        /// Address of the pages.
        pages: Option<String>,
    },
    /// The connection was lost, or cannot be made.
    Lost(String),
    /// A run has moved, or any if it is not named.
    Moved(Option<String>),
    /// A row of the journal of the open run.
    Row(String, Box<Event>),
    /// A line of output of the open run: the run, where it comes from, the text.
    Output(String, String, String),
    /// A response.
    Response(Request, Result<Answer, CliError>),
}

/// What the console asks of the world.
#[derive(Clone, Debug)]
pub enum Request {
    /// The open runs and the newest ones.
    Lists,
    /// Runs older than this one.
    Older(String),
    /// A run.
    Run(String),
    /// The changes of a run, or of one of its tasks.
    Patch(String, Option<String>),
    /// The newest log of a run, or of one of its attempts.
    Log(String, Option<String>),
    /// Spending.
    Spending(SpendingBy),
    /// Health of the service.
    Health,
    /// Ratings of engines.
    Ratings,
    /// An act that was confirmed.
    Act(Box<Act>),
    /// A new run that was confirmed.
    Start(Box<NewRun>),
    /// Follow this run from now on, after this row of its journal.
    Follow(String, u64),
    /// Copy a text to the clipboard of the terminal.
    Copy(String),
    /// Draw everything again.
    Redraw,
    /// Give the terminal back until the process is continued.
    Suspend,
    /// Leave.
    Quit,
}

/// Response to a [`Request`].
#[derive(Debug)]
pub enum Answer {
    /// Runs; whether there are older ones.
    Runs(Vec<RunSummary>, bool),
    /// A run.
    Run(Box<Run>),
    /// A diff.
    Patch(String),
    /// A log.
    Log(Log),
    /// Spending.
    Spending(Vec<Spending>),
    /// Health.
    Health(Health),
    /// Ratings.
    Ratings(Vec<Rating>),
    /// The act was performed; the run as it is now.
    Acted(Box<Run>),
    /// The run was started, or an open one has the same goal.
    Started(Box<Run>),
    /// What the person saw has changed; nothing was done. The run as it is now.
    Changed(Box<Run>),
}

impl State {
    /// Creates the state before anything is known.
    pub fn new(size: (u16, u16), color: bool, time: fn(Timestamp) -> String) -> State {
        State {
            size,
            color,
            time,
            screen: Screen::Inbox,
            link: Link::Connecting,
            runs: Vec::new(),
            has_older: false,
            is_loaded: false,
            asking: BTreeMap::new(),
            question: None,
            selected: None,
            filter: String::new(),
            open: None,
            diff: None,
            by: SpendingBy::Day,
            spending: None,
            health: None,
            ratings: None,
            dialog: None,
            notice: None,
            scroll: 0,
            in_flight: InFlight::default(),
        }
    }
}
