//! Limits for the frames of a streamed answer.

use genai::chat::{ChatFrameSink, FrameCtx, RawFrameRef};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes on the wire per token of an answer, because each token comes with much framing.
const FRAME_BYTES_PER_TOKEN: usize = 1024;
const FRAME_BYTES_BASE: usize = 1024 * 1024;

/// Returns the upper bound of an answer of `max_output_tokens` tokens, in bytes.
pub fn max_bytes(max_output_tokens: u32) -> usize {
    FRAME_BYTES_BASE + FRAME_BYTES_PER_TOKEN * max_output_tokens as usize
}

/// Sink that ends an answer larger than its tokens can be, or one whose indexes would make the library allocate room
/// for calls that do not exist.
#[derive(Debug)]
pub struct Frames {
    seen: AtomicUsize,
    limit: usize,
}

impl Frames {
    /// Creates the limits for an answer of `max_output_tokens` tokens.
    pub fn of(max_output_tokens: u32) -> Frames {
        Frames { seen: AtomicUsize::new(0), limit: max_bytes(max_output_tokens) }
    }
}

impl ChatFrameSink for Frames {
    fn on_frame(&self, _ctx: &FrameCtx, frame: RawFrameRef<'_>) {
        let seen = self.seen.fetch_add(frame.data.len(), Ordering::Relaxed) + frame.data.len();
        if seen > self.limit || has_absurd_index(frame.data) {
            // A sink has no other way to stop the stream. The code that calls the model catches the unwinding.
            std::panic::resume_unwind(Box::new("answer too large"));
        }
    }
}

/// Returns whether a frame has an index of a thousand or more. Quotes inside JSON strings are escaped, so a match is a
/// key.
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
    fn absurd_indexes_are_found_in_keys_only() {
        assert!(has_absurd_index(r#"{"tool_calls":[{"index": 4000000000}]}"#));
        assert!(has_absurd_index(r#"{"index":1,"a":{"index" : 12345}}"#));
        assert!(!has_absurd_index(r#"{"index":999,"content":"\"index\": 123456"}"#));
    }
}
