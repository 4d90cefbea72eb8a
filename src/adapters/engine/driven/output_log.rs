//! What a driven agent said and did: passed on to who watches, kept as a transcript, read for its answer. All of it bounded.
//!
//! Invariant: live values are taken out before anything is cut, and where words come in pieces, across them: nobody later could tell
//! half a value for one.

use crate::domain::Usage;
use crate::platform::terminal_text;
use crate::ports::engine::{EngineEvent, Sink};
use crate::secrets::{Redactor, redact};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::time::{Duration, Instant};

/// Signs of life passed on per attempt, and the longest of them: people watch, nobody reads a flood.
const TOLD_MAX: usize = 4_000;
const LINE_CHARS_MAX: usize = 400;
/// The largest transcript kept (its beginning; then every line is dropped).
const TRANSCRIPT_BYTES_MAX: usize = 1024 * 1024;
/// The most of one turn's words looked at for an answer: their end.
const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// Everything heard so far.
pub struct OutputLog {
    sink: Sink,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    transcript: String,
    cut: bool,
    told: usize,
    words: Voice,
    thoughts: Voice,
    /// The turn's words, and where its last message begins in them.
    text: String,
    message: usize,
    broken: bool,
    last: Option<Instant>,
}

/// Text that comes in pieces.
#[derive(Default)]
struct Voice {
    redactor: Redactor,
    /// The beginning of a line that has no end yet.
    line: String,
}

impl Voice {
    /// Takes a piece; gives what is known to hold no part of a live value.
    fn hear(&mut self, piece: &str) -> String {
        String::from_utf8_lossy(&self.redactor.push(terminal_text::sanitize(piece.as_bytes()).as_bytes())).into_owned()
    }

    /// Nothing comes for now: gives what was held back.
    fn pause(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.redactor).finish()).into_owned()
    }
}

impl OutputLog {
    /// Nothing heard yet: silence counts from the first turn, or the first sign of life.
    pub fn new(sink: Sink) -> OutputLog {
        OutputLog { sink, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A sign of life that says nothing.
    pub fn alive(&self) {
        self.state().last = Some(Instant::now());
    }

    /// How long nothing was heard.
    pub fn silent_for(&self) -> Duration {
        self.state().last.map_or(Duration::ZERO, |at| at.elapsed())
    }

    /// Words, as they come: lines are put together from them.
    pub fn words(&self, piece: &str) {
        let mut state = self.state();
        state.last = Some(Instant::now());
        let clean = state.words.hear(piece);
        self.said(&mut state, &clean);
    }

    /// Thoughts, as they come.
    pub fn thoughts(&self, piece: &str) {
        let mut state = self.state();
        state.last = Some(Instant::now());
        let clean = state.thoughts.hear(piece);
        let lines = whole_lines(&mut state.thoughts.line, &clean);
        self.tell(&mut state, "~ ", lines, EngineEvent::Thought);
    }

    fn said(&self, state: &mut State, clean: &str) {
        if std::mem::take(&mut state.broken) {
            state.message = state.text.len();
        }
        state.text.push_str(clean);
        state.bound_text();
        let lines = whole_lines(&mut state.words.line, clean);
        self.tell(state, "", lines, EngineEvent::Said);
    }

    /// A tool it used, a command it ran. What it says next is another message.
    pub fn did(&self, what: &str) {
        let mut state = self.state();
        state.last = Some(Instant::now());
        self.flush(&mut state);
        let what = terminal_text::sanitize(what.as_bytes()).lines().map(str::trim).collect::<Vec<_>>().join(" ");
        self.tell(&mut state, "> ", vec![what], EngineEvent::Did);
        state.message = state.text.len();
    }

    /// What it has used by now.
    pub fn spent(&self, usage: Usage) {
        (self.sink)(EngineEvent::Spent(usage));
    }

    /// An empty line in plain text: what it says next is another message.
    pub fn paragraph(&self) {
        let mut state = self.state();
        state.broken = true;
    }

    /// Something of ours for the transcript. It may come in the middle of the agent's words, and ends none of them: what is held back of
    /// a value waits for its rest.
    pub fn note(&self, what: &str) {
        let what = terminal_text::sanitize(what.as_bytes());
        self.state().write("# ", &redact(&what));
    }

    /// A new turn begins: the words of the last one are no answer to it.
    pub fn turn(&self) {
        let mut state = self.state();
        self.flush(&mut state);
        state.text.clear();
        (state.message, state.broken) = (0, false);
        state.last = Some(Instant::now());
    }

    /// The turn's words (their end, when there are very many).
    pub fn text(&self) -> String {
        let mut state = self.state();
        self.flush(&mut state);
        state.text.clone()
    }

    /// The turn's last message: what it said after the last thing it did.
    pub fn message(&self) -> String {
        let mut state = self.state();
        self.flush(&mut state);
        state.text.get(state.message..).unwrap_or(&state.text).to_owned()
    }

    /// What is to be kept, at its end.
    pub fn transcript(&self) -> Vec<u8> {
        let mut state = self.state();
        self.flush(&mut state);
        std::mem::take(&mut state.transcript).into_bytes()
    }

    /// Ends the lines that have no end yet.
    fn flush(&self, state: &mut State) {
        let rest = state.words.pause();
        self.said(state, &rest);
        let words = std::mem::take(&mut state.words.line);
        self.tell(state, "", vec![words], EngineEvent::Said);
        let thoughts = std::mem::take(&mut state.thoughts.line) + &state.thoughts.pause();
        self.tell(state, "~ ", vec![thoughts], EngineEvent::Thought);
    }

    fn tell(&self, state: &mut State, mark: &str, lines: Vec<String>, event: fn(String) -> EngineEvent) {
        for line in lines.iter().map(|l| redact(l)).filter(|l| !l.trim().is_empty()) {
            state.write(mark, &line);
            state.told += 1;
            match state.told.cmp(&TOLD_MAX) {
                std::cmp::Ordering::Less => {
                    (self.sink)(event(line.trim_end().chars().take(LINE_CHARS_MAX).collect()));
                }
                std::cmp::Ordering::Equal => (self.sink)(EngineEvent::Said("[more: see the transcript]".to_owned())),
                std::cmp::Ordering::Greater => {}
            }
        }
    }
}

impl State {
    fn write(&mut self, mark: &str, text: &str) {
        if self.cut {
            return;
        }
        if self.transcript.len() + mark.len() + text.len() + 1 > TRANSCRIPT_BYTES_MAX {
            self.cut = true;
            self.transcript.push_str("# [the transcript is full; what came after is not kept]\n");
            return;
        }
        self.transcript.push_str(mark);
        self.transcript.push_str(text);
        self.transcript.push('\n');
    }

    fn bound_text(&mut self) {
        if self.text.len() > TEXT_BYTES_MAX * 2 {
            let mut start = self.text.len() - TEXT_BYTES_MAX;
            while !self.text.is_char_boundary(start) {
                start += 1;
            }
            self.text.drain(..start);
            self.message = self.message.saturating_sub(start);
        }
    }
}

/// The lines that end in `chunk`; the rest waits in `partial`, which stays small: a line without an end is passed on in pieces.
fn whole_lines(partial: &mut String, chunk: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for part in chunk.split_inclusive('\n') {
        partial.push_str(part.trim_end_matches('\n'));
        if part.ends_with('\n') || partial.len() > 16 * LINE_CHARS_MAX {
            lines.push(std::mem::take(partial));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn heard() -> (OutputLog, Arc<Mutex<Vec<String>>>) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let kept = told.clone();
        let sink: Sink = Arc::new(move |event| {
            kept.lock().unwrap().push(match event {
                EngineEvent::Said(line) => line,
                EngineEvent::Thought(line) => format!("~{line}"),
                EngineEvent::Did(line) => format!(">{line}"),
                EngineEvent::Spent(_) | EngineEvent::Session(_) | EngineEvent::Given(_) => unreachable!(),
            });
        });
        (OutputLog::new(sink), told)
    }

    #[test]
    fn chunks_become_lines_and_the_last_message_is_what_follows_the_last_deed() {
        let (heard, told) = heard();
        heard.words("I lo");
        heard.words("ok.\nThen");
        heard.thoughts("hm");
        heard.did("read\nfile \x1b[31mx");
        heard.words("Done");
        assert_eq!((heard.text().as_str(), heard.message().as_str()), ("I look.\nThenDone", "Done"));
        assert_eq!(String::from_utf8(heard.transcript()).unwrap(), "I look.\nThen\n~ hm\n> read file x\nDone\n");
        assert_eq!(*told.lock().unwrap(), ["I look.", "Then", "~hm", ">read file x", "Done"]);
        heard.turn();
        assert_eq!(heard.text(), "");
    }

    #[test]
    fn a_flood_is_bounded_everywhere() {
        let (heard, told) = heard();
        heard.words(&"x".repeat(3 * TEXT_BYTES_MAX));
        for _ in 0..10_000 {
            heard.words(&format!("{}\n", "ü".repeat(500)));
        }
        assert!(heard.text().len() <= 2 * TEXT_BYTES_MAX && heard.message().len() <= 2 * TEXT_BYTES_MAX);
        assert!(heard.transcript().len() <= TRANSCRIPT_BYTES_MAX + 100);
        let told = told.lock().unwrap();
        assert!(told.len() <= TOLD_MAX && told.iter().all(|l| l.chars().count() <= LINE_CHARS_MAX));
    }
}
