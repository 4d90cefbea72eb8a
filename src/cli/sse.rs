//! Parses server-sent events from bytes that arrive in chunks of any size (WHATWG HTML, section 9.2).

/// Server-sent event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// The last `id:` field, of this event or an earlier one.
    pub id: String,
    /// The `event:` field; empty for a plain message.
    pub event: String,
    /// The `data:` lines, joined by line feeds.
    pub data: String,
}

/// Maximum size of one event, in bytes; Skep's events are smaller.
const MAX_EVENT_BYTES: usize = 16 << 20;

/// Incremental parser.
#[derive(Debug, Default)]
pub struct SseReader {
    line: Vec<u8>,
    after_cr: bool,
    id: String,
    event: String,
    data: Vec<String>,
    bytes: usize,
}

/// Error: an event exceeds the maximum size.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLarge;

impl SseReader {
    /// Consumes bytes and returns the events that are complete now. An event cut off by the end of the stream is
    /// dropped, as the standard requires.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Vec<SseEvent>, TooLarge> {
        let mut ready = Vec::new();
        for &byte in bytes {
            let after_cr = std::mem::take(&mut self.after_cr);
            match byte {
                b'\n' if after_cr => {}
                b'\n' => self.end_line(&mut ready),
                b'\r' => {
                    self.after_cr = true;
                    self.end_line(&mut ready);
                }
                _ => {
                    self.bytes += 1;
                    if self.bytes > MAX_EVENT_BYTES {
                        return Err(TooLarge);
                    }
                    self.line.push(byte);
                }
            }
        }
        Ok(ready)
    }

    fn end_line(&mut self, ready: &mut Vec<SseEvent>) {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
        if line.is_empty() {
            self.bytes = 0;
            let (event, data) = (std::mem::take(&mut self.event), std::mem::take(&mut self.data));
            if !data.is_empty() || !event.is_empty() {
                ready.push(SseEvent { id: self.id.clone(), event, data: data.join("\n") });
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" if !value.contains('\0') => self.id = value.to_owned(),
            "event" => self.event = value.to_owned(),
            "data" => self.data.push(value.to_owned()),
            // Comments (keep-alives) and `retry` are ignored.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = ": hello\n\nid: 1\nevent: opened\ndata: {\"a\":\ndata: \"ü\"}\n\nid: 2\r\nevent: end\r\n\r\n\
                          data:x\rdata: y\r\revent: cut off\ndata: z\n";

    fn event(id: &str, event: &str, data: &str) -> SseEvent {
        SseEvent { id: id.into(), event: event.into(), data: data.into() }
    }

    #[test]
    fn events_are_the_same_however_the_bytes_are_cut() {
        let expected = vec![event("1", "opened", "{\"a\":\n\"ü\"}"), event("2", "end", ""), event("2", "", "x\ny")];
        for size in 1..=STREAM.len() {
            let mut reader = SseReader::default();
            let mut parsed = Vec::new();
            for chunk in STREAM.as_bytes().chunks(size) {
                parsed.extend(reader.take(chunk).unwrap());
            }
            assert_eq!(parsed, expected, "in chunks of {size}");
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut reader = SseReader::default();
        let chunk = vec![b'x'; 1 << 20];
        let refused = (0..20).any(|_| reader.take(&chunk).is_err());
        assert!(refused);
    }
}
