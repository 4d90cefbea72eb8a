//! Progress of a session, reported live: lines of text and reasoning as they arrive, bounded.

use super::wire::StreamDelta;
use crate::platform::terminal_text;
use crate::ports::engine::{EngineEvent, Sink};
use std::sync::{Mutex, PoisonError};

/// Upper bounds of the lines reported per session, and of one line.
const MAX_LINES: usize = 2_000;
const MAX_LINE_CHARS: usize = 400;

/// Progress of one session.
pub struct Progress {
    sink: Sink,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    text: String,
    thought: String,
    reported: usize,
}

impl Progress {
    /// Reports to `sink`.
    pub fn new(sink: Sink) -> Progress {
        Progress { sink, state: Mutex::default() }
    }

    /// Adds a piece of an answer; complete lines are reported.
    pub fn on_delta(&self, delta: &StreamDelta<'_>) {
        let mut state = self.lock();
        let piece = match delta {
            StreamDelta::Text(text) | StreamDelta::Thought(text) => *text,
        };
        for part in piece.split_inclusive('\n') {
            let line = match delta {
                StreamDelta::Text(_) => &mut state.text,
                StreamDelta::Thought(_) => &mut state.thought,
            };
            // The excess of an overlong line is dropped.
            if line.len() < 8 * MAX_LINE_CHARS {
                line.push_str(part);
            }
            if part.ends_with('\n') {
                let line = std::mem::take(line);
                self.report(&mut state, &line, matches!(delta, StreamDelta::Thought(_)));
            }
        }
    }

    /// Ends an answer: reports its last incomplete lines.
    pub fn end(&self) {
        let mut state = self.lock();
        let (text, thought) = (std::mem::take(&mut state.text), std::mem::take(&mut state.thought));
        self.report(&mut state, &thought, true);
        self.report(&mut state, &text, false);
    }

    /// Reports another event.
    pub fn send(&self, event: EngineEvent) {
        (self.sink)(event);
    }

    fn report(&self, state: &mut State, line: &str, thought: bool) {
        let line = terminal_text::sanitize(line.as_bytes());
        let line: String = line.trim_end().chars().take(MAX_LINE_CHARS).collect();
        if line.trim().is_empty() || state.reported > MAX_LINES {
            return;
        }
        state.reported += 1;
        let line = if state.reported > MAX_LINES { "[more: see the transcript]".to_owned() } else { line };
        (self.sink)(if thought { EngineEvent::Thought(line) } else { EngineEvent::Said(line) });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
