//! The terminal while the console has it: its state is restored however the console ends.
//!
//! Meanwhile standard error goes to a file: a log line in the middle of the screen would destroy it. What was written is
//! printed when the terminal is given back.

use super::state::State;
use super::view;
use crate::cli::exit::{CliError, ExitStatus, Stop};
use crate::cli::terminal::Terminal as CliTerminal;
use crate::cli::text::escape_lines;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{self, DisableBracketedPaste, EnableBracketedPaste, Event};
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::crossterm::{execute, queue};
use ratatui::layout::Rect;
use rustix::process::{Signal, kill_current_process_group};
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Read, Seek, SeekFrom, Stdout, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::sync::mpsc;

/// Buffer of the output: a whole screen is written at once.
const BUFFER_BYTES: usize = 64 << 10;
/// Most bytes of captured log lines that are printed at the end.
const MAX_CAPTURED: u64 = 64 << 10;
/// Keys that wait to be read.
const MAX_KEYS: usize = 256;
/// Time in which the process stops after it was asked to.
const STOP_DELAY: Duration = Duration::from_millis(100);

/// Checks that the console can be shown.
///
/// # Errors
/// If standard input or output is not a terminal that can move its cursor, or JSON was asked for.
pub fn check(terminal: &CliTerminal) -> Result<(), CliError> {
    let fix = "use `skep runs`, `skep show RUN` and `skep approve RUN` instead";
    if terminal.json {
        return Err(CliError::usage("the console has no JSON form", fix));
    }
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(CliError::usage("the console needs a terminal, and standard input or output is none", fix));
    }
    if std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty()) {
        return Err(CliError::usage("the console needs a terminal that can move its cursor, and TERM names none", fix));
    }
    Ok(())
}

/// The terminal, in full-screen mode.
pub struct Window {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
    captured: Option<Captured>,
}

impl Window {
    /// Takes the terminal.
    ///
    /// # Errors
    /// If it cannot be set up.
    pub fn open() -> Result<Window, Stop> {
        let backend = CrosstermBackend::new(BufWriter::with_capacity(BUFFER_BYTES, io::stdout()));
        let mut window = Window { terminal: Terminal::new(backend).map_err(failed)?, captured: None };
        window.enter().map_err(failed)?;
        Ok(window)
    }

    /// Returns the columns and lines.
    pub fn size(&self) -> (u16, u16) {
        self.terminal.size().map_or((80, 24), |size| (size.width, size.height))
    }

    /// Draws what has changed.
    ///
    /// # Errors
    /// If the terminal cannot be written.
    pub fn draw(&mut self, state: &State) -> Result<(), Stop> {
        self.terminal.draw(|frame| view::draw(state, frame)).map_err(failed)?;
        Ok(())
    }

    /// Draws everything at the next [`Self::draw`], because something else may have written to the terminal.
    ///
    /// # Errors
    /// If the terminal cannot be written.
    pub fn clear(&mut self) -> Result<(), Stop> {
        // Not `clear`, which asks the terminal for its cursor and waits for the answer: the thread that reads keys takes it.
        let (width, height) = self.size();
        self.terminal.resize(Rect::new(0, 0, width, height)).map_err(failed)
    }

    /// Gives the terminal back and stops the process until it is continued.
    ///
    /// # Errors
    /// If the terminal cannot be set up again.
    pub fn suspend(&mut self) -> Result<(), Stop> {
        self.leave();
        // Without job control the signal is ignored, and the console goes on.
        let _ignored = kill_current_process_group(Signal::TSTP);
        // Another thread may take the signal a moment later; a stopped process sleeps on when it is continued.
        std::thread::sleep(STOP_DELAY);
        self.resume()
    }

    /// Takes the terminal again after the process was continued.
    ///
    /// # Errors
    /// If it cannot be set up.
    pub fn resume(&mut self) -> Result<(), Stop> {
        self.leave();
        self.enter().map_err(failed)?;
        self.clear()
    }

    /// Gives a text to the clipboard of the terminal (OSC 52).
    ///
    /// # Errors
    /// If the terminal cannot be written.
    pub fn copy(&mut self, text: &str) -> Result<(), Stop> {
        let out = self.terminal.backend_mut();
        write!(out, "\x1b]52;c;{}\x07", STANDARD.encode(text)).and_then(|()| Write::flush(out)).map_err(failed)
    }

    fn enter(&mut self) -> io::Result<()> {
        self.captured = Captured::begin().ok();
        enable_raw_mode()?;
        execute!(self.terminal.backend_mut(), EnterAlternateScreen, EnableBracketedPaste, Hide)
    }

    fn leave(&mut self) {
        let out = self.terminal.backend_mut();
        // Each step is tried: a terminal that is gone needs none of them.
        let _gone = queue!(out, DisableBracketedPaste, LeaveAlternateScreen, Show).and_then(|()| Write::flush(out));
        let _gone = disable_raw_mode();
        self.captured = None;
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.leave();
    }
}

fn failed(error: io::Error) -> Stop {
    CliError::new(
        ExitStatus::Internal,
        "terminal",
        format!("cannot use the terminal: {error}"),
        "check the terminal, or use `skep runs` and `skep show RUN`",
    )
    .into()
}

/// Standard error, redirected to a file.
struct Captured {
    original: OwnedFd,
    file: File,
}

impl Captured {
    fn begin() -> io::Result<Captured> {
        let original = io::stderr().as_fd().try_clone_to_owned()?;
        let file = tempfile::tempfile()?;
        rustix::stdio::dup2_stderr(&file)?;
        Ok(Captured { original, file })
    }

    /// Returns the end of what was written.
    fn text(&mut self) -> io::Result<String> {
        let len = self.file.seek(SeekFrom::End(0))?;
        self.file.seek(SeekFrom::Start(len.saturating_sub(MAX_CAPTURED)))?;
        let mut bytes = Vec::new();
        Read::by_ref(&mut self.file).take(MAX_CAPTURED).read_to_end(&mut bytes)?;
        Ok(escape_lines(&String::from_utf8_lossy(&bytes)))
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        if rustix::stdio::dup2_stderr(&self.original).is_ok()
            && let Ok(text) = self.text()
            && !text.is_empty()
        {
            // An error while writing to standard error cannot be reported anywhere.
            let _unreported = write!(io::stderr(), "{text}");
        }
    }
}

/// Reads keys in a thread of its own. The receiver ends when the terminal does.
pub fn keys() -> mpsc::Receiver<Event> {
    let (send, receive) = mpsc::channel(MAX_KEYS);
    // Not a task: at its end the runtime would wait for one that reads a terminal.
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if send.blocking_send(event).is_err() {
                return;
            }
        }
    });
    receive
}
