//! Watching the frames of an answer.

use genai::chat::{ChatFrameSink, FrameCtx, RawFrameRef};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What an answer may be on the wire: its frames repeat much around each token.
const FRAME_BYTES_PER_TOKEN: usize = 1024;
const FRAME_BYTES_BASE: usize = 1024 * 1024;

/// The most bytes of an answer of so many tokens.
pub fn most(max_output: u32) -> usize {
    FRAME_BYTES_BASE + FRAME_BYTES_PER_TOKEN * max_output as usize
}

/// Watches the frames of an answer: ends one that is larger than its tokens can be, or that would make the library set aside room for
/// calls nobody made.
#[derive(Debug)]
pub struct Frames {
    seen: AtomicUsize,
    limit: usize,
}

impl Frames {
    /// For an answer of so many tokens.
    pub fn of(max_output: u32) -> Frames {
        Frames { seen: AtomicUsize::new(0), limit: most(max_output) }
    }
}

impl ChatFrameSink for Frames {
    fn on_frame(&self, _ctx: &FrameCtx, frame: RawFrameRef<'_>) {
        let seen = self.seen.fetch_add(frame.data.len(), Ordering::Relaxed) + frame.data.len();
        if seen > self.limit || has_absurd_index(frame.data) {
            // A sink has no other way to stop the stream; caught where the call is made.
            std::panic::resume_unwind(Box::new("too much"));
        }
    }
}

/// Whether a frame numbers something beyond a thousand. Within JSON texts quotes are escaped: what is found is a key.
fn has_absurd_index(frame: &str) -> bool {
    frame.split("\"index\"").skip(1).any(|rest| {
        let rest = rest.trim_start().strip_prefix(':').unwrap_or_default().trim_start();
        rest.chars().take_while(char::is_ascii_digit).count() > 3
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_indexes_are_seen_and_texts_are_not() {
        assert!(has_absurd_index(r#"{"tool_calls":[{"index": 4000000000}]}"#));
        assert!(has_absurd_index(r#"{"index":1,"a":{"index" : 12345}}"#));
        assert!(!has_absurd_index(r#"{"index":999,"content":"\"index\": 123456"}"#));
    }
}
