//! Lines of a program's output, each of bounded size.

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Line of output.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// The line without its line ending.
    Whole(Vec<u8>),
    /// The line exceeded the limit and was dropped.
    TooLong,
}

/// Reads the next line; `None` at the end. A last line without a newline counts. Not cancel-safe: a partially read line
/// is lost.
///
/// # Errors
/// Errors of the reader.
pub async fn next(reader: &mut (impl AsyncBufRead + Unpin), max_bytes: usize) -> std::io::Result<Option<Line>> {
    let (mut line, mut too_long, mut any) = (Vec::new(), false, false);
    loop {
        let chunk = reader.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(match (any, too_long) {
                (false, _) => None,
                (true, true) => Some(Line::TooLong),
                (true, false) => Some(Line::Whole(line)),
            });
        }
        any = true;
        let end = chunk.iter().position(|b| *b == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        too_long |= line.len() + part.len() > max_bytes;
        match too_long {
            true => line = Vec::new(),
            false => line.extend_from_slice(part),
        }
        let taken = end.map_or(chunk.len(), |at| at + 1);
        reader.consume(taken);
        if end.is_some() {
            return Ok(Some(if too_long { Line::TooLong } else { Line::Whole(line) }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_whole_or_too_long() {
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
