//! The terminal of a command: standard output and error, colors, and questions to the person in front of it.

use super::exit::{CliError, Stop};
use super::live::{AtWork, Live};
use super::text::{escape_lines, shell_quoted};
use crate::http::rest::wire::Problem;
use crate::platform::stop_signal;
use crate::secrets::redact_all;
use serde::Serialize;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, OnceLock};

/// Where answers to questions come from.
pub enum Prompter {
    /// No source of answers: a question ends the command.
    None,
    /// The person at the terminal.
    Terminal,
    /// A prepared list of answers (tests).
    Scripted(Mutex<std::collections::VecDeque<String>>),
}

/// Output and input of one command.
pub struct Terminal {
    /// Whether output is JSON.
    pub json: bool,
    /// Whether output may be colored.
    pub color: bool,
    /// Whether standard output is a terminal.
    pub is_tty: bool,
    /// Width in columns, where known.
    pub width: Option<u16>,
    prompter: Prompter,
    location_options: String,
    invocation: Invocation,
    /// For a demo in a data directory of its own: the options for it, and whether it is removed at the end.
    demo: OnceLock<(String, bool)>,
    live: Option<Live>,
    out: Mutex<Box<dyn Write + Send>>,
    err: Mutex<Box<dyn Write + Send>>,
}

/// How a process was called, with its words quoted for a shell.
struct Invocation {
    program: String,
    args: Vec<String>,
}

impl Default for Invocation {
    fn default() -> Self {
        Invocation { program: "skep".to_owned(), args: Vec::new() }
    }
}

impl Invocation {
    fn of(args: &[OsString]) -> Invocation {
        let mut words = args.iter().map(|a| shell_quoted(&a.to_string_lossy()));
        // A bare name was found on the PATH, and will be again. A relative path is what was just typed, or what a build
        // prints; an absolute one is how services and scripts call an installed program.
        let is_relative = |name: &String| name.contains('/') && !name.starts_with('/');
        let program = words.next().filter(is_relative).unwrap_or_else(|| "skep".to_owned());
        Invocation { program, args: words.collect() }
    }
}

/// Style of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// No styling.
    Plain,
    /// Secondary.
    Dim,
    /// Success.
    Green,
    /// Needs attention.
    Yellow,
    /// Failure.
    Red,
    /// Emphasis.
    Bold,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Style::Plain => "",
            Style::Dim => "\x1b[2m",
            Style::Green => "\x1b[32m",
            Style::Yellow => "\x1b[33m",
            Style::Red => "\x1b[31m",
            Style::Bold => "\x1b[1m",
        }
    }
}

/// What a line of a log reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Something went well.
    Good,
    /// Something went wrong.
    Bad,
    /// Something needs attention, or work again.
    Again,
    /// A fact.
    Note,
}

impl Mark {
    fn sign(self) -> (&'static str, Style) {
        match self {
            Mark::Good => ("✓", Style::Green),
            Mark::Bad => ("✗", Style::Red),
            Mark::Again => ("!", Style::Yellow),
            Mark::Note => ("·", Style::Dim),
        }
    }
}

/// Returns the width of the window in columns, unless it is too narrow for a layout.
fn window_width() -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col >= 40).then_some(size.ws_col)
}

/// Returns the height of the window in lines.
fn window_height() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_row > 0).then_some(size.ws_row.into())
}

impl Terminal {
    /// Creates the terminal of this process.
    pub fn of_process(json: bool, no_color: bool) -> Terminal {
        let is_tty = std::io::stdout().is_terminal();
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        let no_color = no_color || std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty()) || dumb;
        let is_interactive = is_tty && std::io::stdin().is_terminal() && !json;
        let width = window_width().filter(|_| is_tty);
        Terminal {
            json,
            color: is_tty && !no_color && !json,
            is_tty,
            width,
            prompter: if is_interactive { Prompter::Terminal } else { Prompter::None },
            location_options: String::new(),
            invocation: Invocation::default(),
            demo: OnceLock::new(),
            // Also for a terminal without colors; one that cannot move its cursor gets a plain log.
            live: (is_tty && !json && !dumb).then(|| Live::new(!no_color)),
            out: Mutex::new(Box::new(std::io::stdout())),
            err: Mutex::new(Box::new(std::io::stderr())),
        }
    }

    /// Creates a terminal that writes elsewhere (tests).
    pub fn to(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>, prompter: Prompter, json: bool) -> Terminal {
        Terminal {
            json,
            color: false,
            is_tty: false,
            width: None,
            prompter,
            location_options: String::new(),
            invocation: Invocation::default(),
            demo: OnceLock::new(),
            live: None,
            out: Mutex::new(out),
            err: Mutex::new(err),
        }
    }

    /// Sets the options (` --data-dir DIR`) that suggested commands need to reach the same data directory.
    pub fn with_location_options(mut self, options: String) -> Terminal {
        self.location_options = options;
        self
    }

    /// Sets the options that reach the data directory of a demo, and whether it is removed when the demo has ended.
    pub fn set_demo(&self, options: String, is_removed: bool) {
        // Set once, at the start of the command.
        let _already = self.demo.set((options, is_removed));
    }

    /// Returns whether what the command shows is gone when it has ended.
    pub fn is_transient(&self) -> bool {
        self.demo.get().is_some_and(|(_, is_removed)| *is_removed)
    }

    /// Sets how this process was called, for suggested commands.
    pub fn called_as(mut self, args: &[OsString]) -> Terminal {
        self.invocation = Invocation::of(args);
        self
    }

    /// Returns the command line of this process with another option.
    pub fn repeated_with(&self, option: &str) -> String {
        let Invocation { program, args } = &self.invocation;
        let mut words = vec![program.clone()];
        for (at, arg) in args.iter().enumerate() {
            words.push(arg.clone());
            // After the name of the command, before anything that could end the options.
            if at == args.iter().position(|a| a == "run").unwrap_or(0) {
                words.push(option.to_owned());
            }
        }
        words.join(" ")
    }

    /// Adds the location options to the commands in a text of Skep's own, so that they can be copied as they stand.
    pub fn with_options(&self, text: &str) -> String {
        let options = self.demo.get().map_or(&self.location_options, |(options, _)| options);
        if options.is_empty() && self.invocation.program == "skep" {
            return text.to_owned();
        }
        let command = format!("{}{options} ", self.invocation.program);
        let text = text.replace("`skep ", &format!("`{command}")).replace("  skep ", &format!("  {command}"));
        match text.strip_prefix("skep ") {
            Some(rest) => format!("{command}{rest}"),
            None => text,
        }
    }

    /// Prints a line that suggests the next command; nothing with `--json`.
    pub fn suggest(&self, text: &str) -> Result<(), Stop> {
        self.print(&self.with_options(text))
    }

    /// Returns whether a person can be asked.
    pub fn can_prompt(&self) -> bool {
        !matches!(self.prompter, Prompter::None)
    }

    /// Prints a text of Skep's own; nothing with `--json`.
    pub fn print(&self, text: &str) -> Result<(), Stop> {
        self.styled(Style::Plain, text)
    }

    /// Prints a text in a style; nothing with `--json`. Escapes everything that is unsafe to print, for every caller.
    pub fn styled(&self, style: Style, text: &str) -> Result<(), Stop> {
        if self.json {
            return Ok(());
        }
        let text = escape_lines(text);
        if self.color && style != Style::Plain && !text.is_empty() {
            self.write(format!("{}{text}\x1b[0m\n", style.code()).as_bytes())
        } else {
            self.write(format!("{text}\n").as_bytes())
        }
    }

    /// Prints exactly one line: line breaks in foreign text are escaped.
    pub fn line(&self, style: Style, text: &str) -> Result<(), Stop> {
        self.styled(style, &super::text::escape(text))
    }

    /// Returns whether the terminal shows live lines; elsewhere, output is a plain log.
    pub fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// Shows what is at work now, if the terminal shows live lines.
    pub fn at_work(&self, items: &[AtWork]) {
        if let Some(live) = &self.live {
            live.show(items);
        }
    }

    /// Shows a line of output of something at work; returns whether the terminal shows live lines.
    pub fn output_of(&self, key: &str, text: &str) -> bool {
        self.live.as_ref().inspect(|live| live.output(key, text)).is_some()
    }

    /// Prints one line of a log: its mark in color, its text broken at words.
    pub fn marked(&self, mark: Mark, text: &str) -> Result<(), Stop> {
        if self.json {
            return Ok(());
        }
        let (sign, style) = mark.sign();
        let line = self.wrapped(&format!("  {sign} {}", super::text::escape(text)), 4);
        match (self.color, line.split_once(sign)) {
            (true, Some((before, after))) if style != Style::Plain => {
                self.write(format!("{before}{}{sign}\x1b[0m{after}\n", style.code()).as_bytes())
            }
            _ => self.write(format!("{line}\n").as_bytes()),
        }
    }

    /// Prints one line of prose, broken at words; what follows its first line is indented by `indent` columns.
    pub fn prose(&self, style: Style, text: &str, indent: usize) -> Result<(), Stop> {
        self.styled(style, &self.wrapped(&super::text::escape(text), indent))
    }

    fn wrapped(&self, line: &str, indent: usize) -> String {
        match self.width() {
            Some(width) => super::text::wrap(line, indent, width),
            None => line.to_owned(),
        }
    }

    /// Returns the width now: the window may have been resized.
    fn width(&self) -> Option<u16> {
        self.width.and_then(|_| window_width())
    }

    /// Prints one JSON object on one line; nothing without `--json`.
    pub fn object(&self, value: &impl Serialize) -> Result<(), Stop> {
        if !self.json {
            return Ok(());
        }
        let mut line = serde_json::to_vec(value)
            .map_err(|e| CliError::internal(format!("cannot serialize the output as JSON: {e}")))?;
        line.push(b'\n');
        self.write(&line)
    }

    /// Prints foreign bytes: unchanged into a file or pipe, escaped on a terminal.
    pub fn content(&self, bytes: &[u8]) -> Result<(), Stop> {
        if self.is_tty {
            self.write(escape_lines(&String::from_utf8_lossy(bytes)).as_bytes())
        } else {
            self.write(bytes)
        }
    }

    /// Prints a diff: unchanged into a file or pipe; on a terminal in color, and through the pager of the user if it is
    /// longer than the window.
    pub fn diff(&self, bytes: &[u8]) -> Result<(), Stop> {
        if !self.is_tty {
            return self.write(bytes);
        }
        let text = super::pager::painted(&escape_lines(&String::from_utf8_lossy(bytes)), self.color);
        let fits = window_height().is_none_or(|height| text.lines().count() < height);
        let paged = !fits && self.live.is_some() && self.suspended(|| super::pager::show(&text));
        if paged { Ok(()) } else { self.write(text.as_bytes()) }
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Stop> {
        self.suspended(|| {
            let mut out = self.out.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            out.write_all(bytes)?;
            out.flush()?;
            Ok(())
        })
    }

    fn suspended<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.live {
            Some(live) => live.suspend(write),
            None => write(),
        }
    }

    /// Prints a remark to standard error, so that a script that reads the output gets nothing else.
    pub fn aside(&self, text: &str) {
        self.suspended(|| {
            if self.json {
                return;
            }
            let mut err = self.err.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            // An error while writing to standard error cannot be reported anywhere.
            let _unreported = writeln!(err, "{}", super::text::escape(&redact_all(&self.with_options(text))));
        });
    }

    /// Prints an error to standard error: problem and fix on a line each, or problem objects with `--json`.
    pub fn error(&self, error: &CliError) {
        self.suspended(|| self.write_error(error));
    }

    fn write_error(&self, error: &CliError) {
        let mut err = self.err.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for problem in &error.problems {
            let redacted = |text: &str| redact_all(text).into_owned();
            let problem =
                &Problem { detail: redacted(&problem.detail), fix: redacted(&problem.fix), ..problem.clone() };
            // An error while writing to standard error cannot be reported anywhere.
            let _unreported = if self.json {
                serde_json::to_writer(&mut *err, problem).map_err(std::io::Error::from).and_then(|()| writeln!(err))
            } else {
                let (red, off) = if self.color { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
                let detail = super::text::escape(&problem.detail);
                match problem.fix.is_empty() {
                    true => writeln!(err, "{red}error:{off} {detail}"),
                    false => {
                        let fix = self.with_options(&problem.fix);
                        let lines: Vec<String> = fix.lines().map(super::text::escape).collect();
                        writeln!(err, "{red}error:{off} {detail}\nfix: {}", lines.join("\n     "))
                    }
                }
            };
        }
    }

    /// Asks for a line; `None` at the end of input.
    pub async fn ask(&self, question: &str) -> Result<Option<String>, Stop> {
        match &self.prompter {
            Prompter::None => Ok(None),
            Prompter::Scripted(answers) => {
                self.print(question)?;
                Ok(answers.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop_front())
            }
            Prompter::Terminal => {
                self.write(format!("{} ", self.wrapped(&escape_lines(question), 2)).as_bytes())?;
                let (send, receive) = tokio::sync::oneshot::channel();
                // A separate thread, because at its end the runtime would wait for a blocking task that reads a
                // terminal.
                std::thread::spawn(move || {
                    let mut line = String::new();
                    let read = std::io::stdin().read_line(&mut line);
                    let _receiver_gone = send.send(read.ok().filter(|n| *n > 0).map(|_| line.trim().to_owned()));
                });
                tokio::select! {
                    answer = receive => Ok(answer.unwrap_or(None)),
                    () = stop_signal::requested(1) => Err(Stop::Left),
                }
            }
        }
    }
}
