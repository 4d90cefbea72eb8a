//! Lines from a program's output, each of bounded size.

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// The line without its end.
    Whole(Vec<u8>),
    /// It was longer than allowed, and was read and dropped.
    TooLong,
}

/// The next line; `None` at the end. A last line without an end counts. Not cancel-safe: what was read of a line is lost.
///
/// # Errors
/// As for reading.
pub async fn next(reader: &mut (impl AsyncBufRead + Unpin), most: usize) -> std::io::Result<Option<Line>> {
    let (mut line, mut long, mut any) = (Vec::new(), false, false);
    loop {
        let chunk = reader.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(match (any, long) {
                (false, _) => None,
                (true, true) => Some(Line::TooLong),
                (true, false) => Some(Line::Whole(line)),
            });
        }
        any = true;
        let end = chunk.iter().position(|b| *b == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        long |= line.len() + part.len() > most;
        match long {
            true => line = Vec::new(),
            false => line.extend_from_slice(part),
        }
        let taken = end.map_or(chunk.len(), |at| at + 1);
        reader.consume(taken);
        if end.is_some() {
            return Ok(Some(if long { Line::TooLong } else { Line::Whole(line) }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_whole_or_too_long_never_larger() {
        let text = b"one\n\ntoo long for it\nlast".as_slice();
        for buffer in [1, 2, 5, 64] {
            let mut reader = tokio::io::BufReader::with_capacity(buffer, text);
            let mut seen = Vec::new();
            while let Some(line) = next(&mut reader, 5).await.unwrap() {
                seen.push(line);
            }
            let whole = |s: &str| Line::Whole(s.as_bytes().to_vec());
            assert_eq!(seen, [whole("one"), whole(""), Line::TooLong, whole("last")], "buffer {buffer}");
        }
    }
}
