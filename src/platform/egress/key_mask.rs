//! Removes an API key from a stream, wherever its chunks are split.

use aho_corasick::AhoCorasick;
use axum::body::Bytes;

/// Minimum length of a key in bytes. Anything shorter would match in ordinary text.
const KEY_BYTES_MIN: usize = 8;
const REPLACEMENT: &[u8] = b"***";

/// Replaces a key in a stream.
#[derive(Debug)]
pub struct KeyMask {
    key: Vec<u8>,
    finder: Option<AhoCorasick>,
    /// End of the last chunk, if it may be the beginning of the key.
    held: Vec<u8>,
}

impl KeyMask {
    /// Creates a mask for a key; an empty or too short key is not masked.
    pub fn new(key: &str) -> KeyMask {
        let finder = if key.len() >= KEY_BYTES_MIN { AhoCorasick::new([key]).ok() } else { None };
        KeyMask { key: key.as_bytes().to_vec(), finder, held: Vec::new() }
    }

    /// Returns the next chunk without the key. A possible beginning of the key is held back until the next call.
    pub fn feed(&mut self, piece: Bytes) -> Bytes {
        let Some(finder) = &self.finder else { return piece };
        let piece = if self.held.is_empty() {
            piece
        } else {
            let mut all = std::mem::take(&mut self.held);
            all.extend_from_slice(&piece);
            Bytes::from(all)
        };
        let piece = if finder.find(&piece[..]).is_some() {
            Bytes::from(finder.replace_all_bytes(&piece, &[REPLACEMENT]))
        } else {
            piece
        };
        let max_prefix = piece.len().min(self.key.len() - 1);
        let prefix = (1..=max_prefix).rev().find(|n| self.key.starts_with(&piece[piece.len() - n..])).unwrap_or(0);
        self.held = piece[piece.len() - prefix..].to_vec();
        piece.slice(..piece.len() - prefix)
    }

    /// Ends the stream and returns the bytes still held back.
    pub fn finish(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.held))
    }

    /// Returns a complete text without the key.
    pub fn mask(mut self, text: &[u8]) -> Vec<u8> {
        let mut out = self.feed(Bytes::copy_from_slice(text)).to_vec();
        out.extend_from_slice(&self.finish());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn the_key_is_removed_and_nothing_else_changes(
            words in proptest::collection::vec("(sk-abab-cd|sk-abab|[skab-]{0,6}|ü)", 0..20),
            cuts in proptest::collection::vec(0usize..80, 0..10),
        ) {
            let (key, text) = ("sk-abab-cd", words.concat());
            let mut borders: Vec<usize> = cuts.into_iter().map(|c| c.min(text.len())).collect();
            borders.extend([0, text.len()]);
            borders.sort_unstable();
            let mut mask = KeyMask::new(key);
            let mut out = Vec::new();
            for border in borders.windows(2) {
                let piece = mask.feed(Bytes::copy_from_slice(&text.as_bytes()[border[0]..border[1]]));
                out.extend_from_slice(&piece);
            }
            out.extend_from_slice(&mask.finish());
            proptest::prop_assert_eq!(String::from_utf8(out).unwrap(), text.replace(key, "***"));
        }
    }

    #[test]
    fn text_without_a_key_passes_at_once() {
        assert_eq!(KeyMask::new("x").feed(Bytes::from("xxx")), "xxx");
        assert_eq!(KeyMask::new("").feed(Bytes::from("abc")), "abc");
        assert_eq!(KeyMask::new("sk-12345678").feed(Bytes::from("data: {}\n\n")), "data: {}\n\n");
    }
}
