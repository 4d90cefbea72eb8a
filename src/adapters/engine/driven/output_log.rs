//! Output of a driven agent: reported live, stored as a transcript, and searched for its answer. Everything is bounded.
//!
//! Invariant: secrets are redacted before anything is truncated, and across the pieces of a stream, because half a
//! secret would not be recognized.

use crate::domain::Usage;
use crate::platform::terminal_text;
use crate::ports::engine::{EngineEvent, Sink};
use crate::secrets::{Redactor, redact, redact_bytes};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::time::{Duration, Instant};

/// Upper bounds of the lines reported per attempt, and of one line.
const MAX_REPORTED: usize = 4_000;
const MAX_LINE_CHARS: usize = 400;
/// Upper bound of the transcript, in bytes. Further lines are dropped.
const MAX_TRANSCRIPT_BYTES: usize = 1024 * 1024;
/// Upper bound of the text searched for an answer, in bytes: the end of the turn's text.
const MAX_TEXT_BYTES: usize = 1024 * 1024;
/// Upper bounds of the lines outside of the agent's protocol, and of one of them, in bytes.
const MAX_STRAY_BYTES: usize = 2 * 1024;
const MAX_STRAY_LINE_BYTES: usize = 400;

/// Output so far.
pub struct OutputLog {
    sink: Sink,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    transcript: String,
    cut: bool,
    reported: usize,
    words: TextStream,
    reasoning: TextStream,
    /// Text of the turn, and where its last message starts.
    text: String,
    message: usize,
    broken: bool,
    /// Lines outside of the agent's protocol: banners, warnings, and why it cannot start.
    stray: String,
    last: Option<Instant>,
}

/// Text that arrives in pieces.
#[derive(Default)]
struct TextStream {
    redactor: Redactor,
    /// Incomplete last line.
    line: String,
}

impl TextStream {
    /// Adds a piece and returns the text that certainly contains no part of a secret.
    fn push(&mut self, piece: &str) -> String {
        String::from_utf8_lossy(&self.redactor.push(terminal_text::sanitize(piece.as_bytes()).as_bytes())).into_owned()
    }

    /// Returns the text that was held back, when no more is expected for now.
    fn flush(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.redactor).finish()).into_owned()
    }
}

impl OutputLog {
    /// Creates an empty log. Idle time counts from the first turn or output.
    pub fn new(sink: Sink) -> OutputLog {
        OutputLog { sink, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records activity without output.
    pub fn touch(&self) {
        self.state().last = Some(Instant::now());
    }

    /// Returns the time since the last activity.
    pub fn idle_for(&self) -> Duration {
        self.state().last.map_or(Duration::ZERO, |at| at.elapsed())
    }

    /// Adds a piece of text.
    pub fn push_text(&self, piece: &str) {
        let mut state = self.state();
        state.last = Some(Instant::now());
        let clean = state.words.push(piece);
        self.add_text(&mut state, &clean);
    }

    /// Adds a piece of reasoning.
    pub fn push_reasoning(&self, piece: &str) {
        let mut state = self.state();
        state.last = Some(Instant::now());
        let clean = state.reasoning.push(piece);
        let lines = whole_lines(&mut state.reasoning.line, &clean);
        self.report(&mut state, "~ ", lines, EngineEvent::Thought);
    }

    fn add_text(&self, state: &mut State, clean: &str) {
        if std::mem::take(&mut state.broken) {
            state.message = state.text.len();
        }
        state.text.push_str(clean);
        state.bound_text();
        let lines = whole_lines(&mut state.words.line, clean);
        self.report(state, "", lines, EngineEvent::Said);
    }

    /// Adds a tool call or command. Text after it is a new message.
    pub fn push_tool_call(&self, what: &str) {
        let mut state = self.state();
        state.last = Some(Instant::now());
        self.flush(&mut state);
        let what = terminal_text::sanitize(what.as_bytes()).lines().map(str::trim).collect::<Vec<_>>().join(" ");
        self.report(&mut state, "> ", vec![what], EngineEvent::Did);
        state.message = state.text.len();
    }

    /// Reports the usage so far.
    pub fn report_usage(&self, usage: Usage) {
        (self.sink)(EngineEvent::Spent(usage));
    }

    /// Marks an empty line in plain text. Text after it is a new message.
    pub fn paragraph(&self) {
        let mut state = self.state();
        state.broken = true;
    }

    /// Adds a note of Skep to the transcript. It may interrupt the agent's text without ending it: text held back for
    /// redaction still waits for its continuation.
    pub fn note(&self, what: &str) {
        let what = terminal_text::sanitize(what.as_bytes());
        self.state().write("# ", &redact(&what));
    }

    /// Adds a line that is not part of the agent's protocol to the transcript.
    pub fn stray(&self, line: &[u8]) {
        let line = terminal_text::tail(&redact_bytes(line), MAX_STRAY_LINE_BYTES);
        self.note(&line);
        let mut state = self.state();
        state.stray.push_str(line.trim_end());
        state.stray.push('\n');
        let excess = state.stray.len().saturating_sub(MAX_STRAY_BYTES);
        let excess = state.stray.ceil_char_boundary(excess);
        state.stray.drain(..excess);
    }

    /// Returns the last lines that were not part of the agent's protocol.
    pub fn stray_lines(&self) -> String {
        self.state().stray.clone()
    }

    /// Starts a turn: text of the previous one does not answer it.
    pub fn start_turn(&self) {
        let mut state = self.state();
        self.flush(&mut state);
        state.text.clear();
        (state.message, state.broken) = (0, false);
        state.last = Some(Instant::now());
    }

    /// Returns the text of the turn (its end, if it is very long).
    pub fn text(&self) -> String {
        let mut state = self.state();
        self.flush(&mut state);
        state.text.clone()
    }

    /// Returns the last message of the turn: the text after the last tool call.
    pub fn message(&self) -> String {
        let mut state = self.state();
        self.flush(&mut state);
        state.text.get(state.message..).unwrap_or(&state.text).to_owned()
    }

    /// Returns the transcript and clears it.
    pub fn transcript(&self) -> Vec<u8> {
        let mut state = self.state();
        self.flush(&mut state);
        std::mem::take(&mut state.transcript).into_bytes()
    }

    /// Ends incomplete lines.
    fn flush(&self, state: &mut State) {
        let rest = state.words.flush();
        self.add_text(state, &rest);
        let words = std::mem::take(&mut state.words.line);
        self.report(state, "", vec![words], EngineEvent::Said);
        let thoughts = std::mem::take(&mut state.reasoning.line) + &state.reasoning.flush();
        self.report(state, "~ ", vec![thoughts], EngineEvent::Thought);
    }

    fn report(&self, state: &mut State, mark: &str, lines: Vec<String>, event: fn(String) -> EngineEvent) {
        for line in lines.iter().map(|l| redact(l)).filter(|l| !l.trim().is_empty()) {
            state.write(mark, &line);
            state.reported += 1;
            match state.reported.cmp(&MAX_REPORTED) {
                std::cmp::Ordering::Less => {
                    (self.sink)(event(line.trim_end().chars().take(MAX_LINE_CHARS).collect()));
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
        if self.transcript.len() + mark.len() + text.len() + 1 > MAX_TRANSCRIPT_BYTES {
            self.cut = true;
            self.transcript.push_str("# [the transcript is full]\n");
            return;
        }
        self.transcript.push_str(mark);
        self.transcript.push_str(text);
        self.transcript.push('\n');
    }

    fn bound_text(&mut self) {
        if self.text.len() > MAX_TEXT_BYTES * 2 {
            let start = self.text.ceil_char_boundary(self.text.len() - MAX_TEXT_BYTES);
            self.text.drain(..start);
            self.message = self.message.saturating_sub(start);
        }
    }
}

/// Returns the lines completed by `chunk`. The rest stays in `partial`, which is bounded: an overlong line is returned
/// in pieces.
fn whole_lines(partial: &mut String, chunk: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for part in chunk.split_inclusive('\n') {
        partial.push_str(part.trim_end_matches('\n'));
        if part.ends_with('\n') || partial.len() > 16 * MAX_LINE_CHARS {
            lines.push(std::mem::take(partial));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn output_log() -> (OutputLog, Arc<Mutex<Vec<String>>>) {
        let events = Arc::new(Mutex::new(Vec::new()));
        let recorded = events.clone();
        let sink: Sink = Arc::new(move |event| {
            recorded.lock().unwrap().push(match event {
                EngineEvent::Said(line) => line,
                EngineEvent::Thought(line) => format!("~{line}"),
                EngineEvent::Did(line) => format!(">{line}"),
                EngineEvent::Spent(_) | EngineEvent::Session(_) | EngineEvent::Given(_) => unreachable!(),
            });
        });
        (OutputLog::new(sink), events)
    }

    #[test]
    fn chunks_become_lines_and_the_last_message_follows_the_last_tool_call() {
        let (log, events) = output_log();
        log.push_text("I lo");
        log.push_text("ok.\nThen");
        log.push_reasoning("hm");
        log.push_tool_call("read\nfile \x1b[31mx");
        log.push_text("Done");
        assert_eq!((log.text().as_str(), log.message().as_str()), ("I look.\nThenDone", "Done"));
        assert_eq!(String::from_utf8(log.transcript()).unwrap(), "I look.\nThen\n~ hm\n> read file x\nDone\n");
        assert_eq!(*events.lock().unwrap(), ["I look.", "Then", "~hm", ">read file x", "Done"]);
        log.start_turn();
        assert_eq!(log.text(), "");
    }

    #[test]
    fn a_flood_of_output_is_bounded() {
        let (log, events) = output_log();
        log.push_text(&"x".repeat(3 * MAX_TEXT_BYTES));
        for _ in 0..10_000 {
            log.push_text(&format!("{}\n", "ü".repeat(500)));
        }
        assert!(log.text().len() <= 2 * MAX_TEXT_BYTES && log.message().len() <= 2 * MAX_TEXT_BYTES);
        assert!(log.transcript().len() <= MAX_TRANSCRIPT_BYTES + 100);
        let events = events.lock().unwrap();
        assert!(events.len() <= MAX_REPORTED && events.iter().all(|l| l.chars().count() <= MAX_LINE_CHARS));
    }
}
