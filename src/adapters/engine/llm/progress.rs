//! What a session tells people who watch: lines of text and thought as they come, bounded.

use super::wire::StreamDelta;
use crate::platform::terminal_text;
use crate::ports::engine::{EngineEvent, Sink};
use std::sync::{Mutex, PoisonError};

/// Lines passed on per session, and the longest of them.
const LINES_MAX: usize = 2_000;
const LINE_CHARS_MAX: usize = 400;

/// The voice of one session.
pub struct Progress {
    sink: Sink,
    rest: Mutex<Rest>,
}

#[derive(Default)]
struct Rest {
    text: String,
    thought: String,
    told: usize,
}

impl Progress {
    /// Speaks into `sink`.
    pub fn new(sink: Sink) -> Progress {
        Progress { sink, rest: Mutex::default() }
    }

    /// Takes a piece of an answer; whole lines are passed on.
    pub fn on_delta(&self, heard: &StreamDelta<'_>) {
        let mut rest = self.lock();
        let piece = match heard {
            StreamDelta::Text(text) | StreamDelta::Thought(text) => *text,
        };
        for part in piece.split_inclusive('\n') {
            let line = match heard {
                StreamDelta::Text(_) => &mut rest.text,
                StreamDelta::Thought(_) => &mut rest.thought,
            };
            // What is too long for a line is not kept for one.
            if line.len() < 8 * LINE_CHARS_MAX {
                line.push_str(part);
            }
            if part.ends_with('\n') {
                let line = std::mem::take(line);
                self.tell(&mut rest, &line, matches!(heard, StreamDelta::Thought(_)));
            }
        }
    }

    /// The end of an answer: what is left of its last lines.
    pub fn end(&self) {
        let mut rest = self.lock();
        let (text, thought) = (std::mem::take(&mut rest.text), std::mem::take(&mut rest.thought));
        self.tell(&mut rest, &thought, true);
        self.tell(&mut rest, &text, false);
    }

    /// Passes something else on.
    pub fn send(&self, event: EngineEvent) {
        (self.sink)(event);
    }

    fn tell(&self, rest: &mut Rest, line: &str, thought: bool) {
        let line = terminal_text::sanitize(line.as_bytes());
        let line: String = line.trim_end().chars().take(LINE_CHARS_MAX).collect();
        if line.trim().is_empty() || rest.told > LINES_MAX {
            return;
        }
        rest.told += 1;
        let line = if rest.told > LINES_MAX { "[more: see the transcript]".to_owned() } else { line };
        (self.sink)(if thought { EngineEvent::Thought(line) } else { EngineEvent::Said(line) });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
