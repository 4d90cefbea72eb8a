//! Where a command writes and whom it may ask: standard output and error, colours, the terminal.

use super::exit::{CliError, Stop};
use super::render::escape_lines;
use crate::http::view::Problem;
use crate::secrets::redact_all;
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;

/// Who answers questions.
pub enum Asker {
    /// Nobody: questions end the command.
    Nobody,
    /// The person at the terminal.
    Terminal,
    /// A list of answers (tests).
    Listed(Mutex<std::collections::VecDeque<String>>),
}

/// The screen.
pub struct Screen {
    /// Whether output is JSON.
    pub json: bool,
    /// Whether output may be coloured.
    pub colour: bool,
    /// Whether standard output is a terminal.
    pub terminal: bool,
    /// Columns, when it is known.
    pub width: Option<u16>,
    asker: Asker,
    place: String,
    out: Mutex<Box<dyn Write + Send>>,
    err: Mutex<Box<dyn Write + Send>>,
}

/// A way to write a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As it is.
    Plain,
    /// Less important.
    Dim,
    /// Good.
    Green,
    /// Wants attention.
    Yellow,
    /// Bad.
    Red,
    /// Important.
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

impl Screen {
    /// The process's own.
    pub fn of_process(json: bool, no_color: bool) -> Screen {
        let terminal = std::io::stdout().is_terminal();
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        let no_color = no_color || std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty()) || dumb;
        let person = terminal && std::io::stdin().is_terminal() && !json;
        let width = match rustix::termios::tcgetwinsize(std::io::stdout()) {
            Ok(size) if terminal && size.ws_col >= 40 => Some(size.ws_col),
            _ => None,
        };
        Screen {
            json,
            colour: terminal && !no_color && !json,
            terminal,
            width,
            asker: if person { Asker::Terminal } else { Asker::Nobody },
            place: String::new(),
            out: Mutex::new(Box::new(std::io::stdout())),
            err: Mutex::new(Box::new(std::io::stderr())),
        }
    }

    /// One that writes elsewhere (tests).
    pub fn to(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>, asker: Asker, json: bool) -> Screen {
        Screen {
            json,
            colour: false,
            terminal: false,
            width: None,
            asker,
            place: String::new(),
            out: Mutex::new(out),
            err: Mutex::new(err),
        }
    }

    /// With the options (` --data-dir DIR`) that a command told to people needs to mean the same place.
    pub fn with_place(mut self, place: String) -> Screen {
        self.place = place;
        self
    }

    /// Skep's own words with the commands in them made whole, so that they can be typed as they stand.
    pub fn whole(&self, text: &str) -> String {
        if self.place.is_empty() {
            return text.to_owned();
        }
        let whole = format!("skep{} ", self.place);
        let text = text.replace("`skep ", &format!("`{whole}")).replace("  skep ", &format!("  {whole}"));
        match text.strip_prefix("skep ") {
            Some(rest) => format!("{whole}{rest}"),
            None => text,
        }
    }

    /// A line that tells which command comes next; nothing under `--json`.
    pub fn advise(&self, text: &str) -> Result<(), Stop> {
        self.say(&self.whole(text))
    }

    /// Whether somebody can be asked.
    pub fn can_ask(&self) -> bool {
        !matches!(self.asker, Asker::Nobody)
    }

    /// A line of Skep's own words for people; nothing under `--json`.
    pub fn say(&self, text: &str) -> Result<(), Stop> {
        self.styled(Style::Plain, text)
    }

    /// A line in a style; nothing under `--json`. Whatever is unsafe to print is escaped here, for every caller.
    pub fn styled(&self, style: Style, text: &str) -> Result<(), Stop> {
        if self.json {
            return Ok(());
        }
        let text = escape_lines(text);
        if self.colour && style != Style::Plain && !text.is_empty() {
            self.write(format!("{}{text}\x1b[0m\n", style.code()).as_bytes())
        } else {
            self.write(format!("{text}\n").as_bytes())
        }
    }

    /// Exactly one line: a text from outside cannot make it two.
    pub fn line(&self, style: Style, text: &str) -> Result<(), Stop> {
        self.styled(style, &super::render::escape(text))
    }

    /// One JSON object on one line; nothing without `--json`.
    pub fn object(&self, value: &impl Serialize) -> Result<(), Stop> {
        if !self.json {
            return Ok(());
        }
        let mut line =
            serde_json::to_vec(value).map_err(|e| CliError::fault(format!("this cannot be written as JSON: {e}")))?;
        line.push(b'\n');
        self.write(&line)
    }

    /// Bytes from outside: as they are into a file or a pipe, escaped on a terminal.
    pub fn content(&self, bytes: &[u8]) -> Result<(), Stop> {
        if self.terminal {
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

    /// What went wrong, on standard error: for people in two lines, under `--json` as problem objects.
    pub fn trouble(&self, trouble: &CliError) {
        let mut err = self.err.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for problem in &trouble.problems {
            let clean = |text: &str| redact_all(text).into_owned();
            let problem = &Problem { detail: clean(&problem.detail), fix: clean(&problem.fix), ..problem.clone() };
            // There is nowhere left to tell about an error of the error output.
            let _unheard = if self.json {
                serde_json::to_writer(&mut *err, problem).map_err(std::io::Error::from).and_then(|()| writeln!(err))
            } else {
                let (red, off) = if self.colour { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
                let what = super::render::escape(&problem.detail);
                match problem.fix.is_empty() {
                    true => writeln!(err, "{red}error:{off} {what}"),
                    false => writeln!(
                        err,
                        "{red}error:{off} {what}\nfix: {}",
                        super::render::escape(&self.whole(&problem.fix))
                    ),
                }
            };
        }
    }

    /// Asks for a line; `None` = nobody answers (end of input).
    pub async fn ask(&self, question: &str) -> Result<Option<String>, Stop> {
        match &self.asker {
            Asker::Nobody => Ok(None),
            Asker::Listed(answers) => {
                self.say(question)?;
                Ok(answers.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop_front())
            }
            Asker::Terminal => {
                self.write(format!("{} ", escape_lines(question)).as_bytes())?;
                let (tell, told) = tokio::sync::oneshot::channel();
                // A thread of its own: the runtime would wait at its end for a blocking task that reads a terminal.
                std::thread::spawn(move || {
                    let mut line = String::new();
                    let read = std::io::stdin().read_line(&mut line);
                    let _nobody = tell.send(read.ok().filter(|n| *n > 0).map(|_| line.trim().to_owned()));
                });
                Ok(told.await.unwrap_or(None))
            }
        }
    }
}
