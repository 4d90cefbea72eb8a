//! The terminal of a command: standard output and error, colors, and questions to the person in front of it.

use super::exit::{CliError, Stop};
use super::text::escape_lines;
use crate::http::rest::wire::Problem;
use crate::secrets::redact_all;
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;

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
    out: Mutex<Box<dyn Write + Send>>,
    err: Mutex<Box<dyn Write + Send>>,
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

impl Terminal {
    /// Creates the terminal of this process.
    pub fn of_process(json: bool, no_color: bool) -> Terminal {
        let is_tty = std::io::stdout().is_terminal();
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        let no_color = no_color || std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty()) || dumb;
        let is_interactive = is_tty && std::io::stdin().is_terminal() && !json;
        let width = match rustix::termios::tcgetwinsize(std::io::stdout()) {
            Ok(size) if is_tty && size.ws_col >= 40 => Some(size.ws_col),
            _ => None,
        };
        Terminal {
            json,
            color: is_tty && !no_color && !json,
            is_tty,
            width,
            prompter: if is_interactive { Prompter::Terminal } else { Prompter::None },
            location_options: String::new(),
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
            out: Mutex::new(out),
            err: Mutex::new(err),
        }
    }

    /// Sets the options (` --data-dir DIR`) that suggested commands need to reach the same data directory.
    pub fn with_location_options(mut self, options: String) -> Terminal {
        self.location_options = options;
        self
    }

    /// Adds the location options to the commands in a text of Skep's own, so that they can be copied as they stand.
    pub fn with_options(&self, text: &str) -> String {
        if self.location_options.is_empty() {
            return text.to_owned();
        }
        let command = format!("skep{} ", self.location_options);
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

    fn write(&self, bytes: &[u8]) -> Result<(), Stop> {
        let mut out = self.out.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        out.write_all(bytes)?;
        out.flush()?;
        Ok(())
    }

    /// Prints an error to standard error: problem and fix on a line each, or problem objects with `--json`.
    pub fn error(&self, error: &CliError) {
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
                    false => writeln!(
                        err,
                        "{red}error:{off} {detail}\nfix: {}",
                        super::text::escape(&self.with_options(&problem.fix))
                    ),
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
                self.write(format!("{} ", escape_lines(question)).as_bytes())?;
                let (send, receive) = tokio::sync::oneshot::channel();
                // A separate thread, because at its end the runtime would wait for a blocking task that reads a
                // terminal.
                std::thread::spawn(move || {
                    let mut line = String::new();
                    let read = std::io::stdin().read_line(&mut line);
                    let _receiver_gone = send.send(read.ok().filter(|n| *n > 0).map(|_| line.trim().to_owned()));
                });
                Ok(receive.await.unwrap_or(None))
            }
        }
    }
}
