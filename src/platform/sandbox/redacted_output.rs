//! Redaction of a command's output while it arrives.

use crate::platform::process::OnOutput;
use crate::secrets::Redactor;
use std::sync::{Arc, Mutex, PoisonError};

/// Emits the output that was held back.
pub type Flush = Box<dyn FnOnce() + Send>;

/// Wraps an output callback so that live secrets are redacted across chunk borders. The second part must be called at
/// the end.
pub fn redacting(on_output: OnOutput) -> (OnOutput, Flush) {
    let streams = Arc::new(Mutex::new([Redactor::default(), Redactor::default()]));
    let (remaining, on_end) = (Arc::clone(&streams), Arc::clone(&on_output));
    let on_chunk = move |is_err: bool, chunk: &[u8]| {
        let mut streams = streams.lock().unwrap_or_else(PoisonError::into_inner);
        on_output(is_err, &streams[usize::from(is_err)].push(chunk));
    };
    let flush = move || {
        let streams = std::mem::take(&mut *remaining.lock().unwrap_or_else(PoisonError::into_inner));
        for (is_err, stream) in [false, true].into_iter().zip(streams) {
            on_end(is_err, &stream.finish());
        }
    };
    (Arc::new(on_chunk), Box::new(flush))
}
