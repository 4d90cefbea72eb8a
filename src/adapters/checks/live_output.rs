//! The output of a check as it comes: whole lines, redacted, bounded.
//!
//! Invariant: secrets are redacted across the pieces of a stream, and before a line is cut.

use crate::platform::process::OnOutput;
use crate::platform::terminal_text;
use crate::ports::checks::{CheckProgress, CheckWatch};
use crate::secrets::Redactor;
use std::sync::{Arc, Mutex, PoisonError};

/// Upper bounds of the lines passed on per check, and of one line.
const MAX_LINES: usize = 20_000;
const MAX_LINE_CHARS: usize = 400;
/// Upper bound of an unfinished line, in bytes; what is longer is passed on in pieces.
const MAX_PENDING_BYTES: usize = 16 * 1024;

/// One of the two streams of a command.
#[derive(Default)]
struct Stream {
    redactor: Redactor,
    line: String,
}

/// Returns a receiver for the output of a command that passes it on line by line, under the name of the check.
pub(super) fn lines_of(check: &str, watch: &CheckWatch) -> OnOutput {
    let (name, watch) = (check.to_owned(), Arc::clone(watch));
    let state = Mutex::new(([Stream::default(), Stream::default()], 0));
    Arc::new(move |is_err, chunk| {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let (streams, passed_on) = &mut *state;
        for line in streams[usize::from(is_err)].push(chunk) {
            if *passed_on >= MAX_LINES {
                return;
            }
            *passed_on += 1;
            watch(CheckProgress::Output { name: name.clone(), line });
        }
    })
}

impl Stream {
    /// Adds a piece and returns the lines that are complete and not blank. A progress display that overwrites its line
    /// ends one with each step.
    fn push(&mut self, chunk: &[u8]) -> Vec<String> {
        let clean = self.redactor.push(chunk);
        self.line.push_str(&String::from_utf8_lossy(&clean));
        let end = match self.line.rfind(['\n', '\r']) {
            Some(end) => end + 1,
            None if self.line.len() > MAX_PENDING_BYTES => self.line.len(),
            None => return Vec::new(),
        };
        let rest = self.line.split_off(end);
        let whole = std::mem::replace(&mut self.line, rest);
        let lines = whole.split(['\n', '\r']).map(|l| terminal_text::sanitize(l.as_bytes()));
        lines.filter(|l| !l.trim().is_empty()).map(|l| l.chars().take(MAX_LINE_CHARS).collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::{Secret, register};

    #[test]
    fn lines_are_whole_and_without_secrets() {
        let _registered = register("live", &Secret::new("correct-horse-battery".to_owned()));
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let sink = Arc::clone(&seen);
        let output: CheckWatch = Arc::new(move |progress| {
            if let CheckProgress::Output { name, line } = progress {
                sink.lock().unwrap().push(format!("{name}: {line}"));
            }
        });
        let receive = lines_of("test", &output);
        receive(false, b"first li");
        receive(true, b"warning: x\n");
        receive(false, b"ne\n10 %\r20 %\r\ntoken correct-horse-");
        receive(false, b"battery end\nunfinished");
        let seen = seen.lock().unwrap().clone();
        assert_eq!(seen[..4], ["test: warning: x", "test: first line", "test: 10 %", "test: 20 %"]);
        assert_eq!(seen.len(), 5);
        assert!(seen[4].starts_with("test: token ") && !seen[4].contains("horse"), "{seen:?}");
    }
}
