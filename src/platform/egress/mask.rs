//! Keeps one key out of a stream, wherever its pieces are cut.

use aho_corasick::AhoCorasick;
use axum::body::Bytes;

/// Shorter keys are no keys: they would be found in every text.
const KEY_LEAST: usize = 8;
const IN_ITS_PLACE: &[u8] = b"***";

/// Replaces a key in what streams through.
#[derive(Debug)]
pub struct Mask {
    key: Vec<u8>,
    finder: Option<AhoCorasick>,
    /// The end of what came, as far as it may be the key's beginning.
    held: Vec<u8>,
}

impl Mask {
    /// A mask for a key; none for nothing.
    pub fn new(key: &str) -> Mask {
        let finder = if key.len() >= KEY_LEAST { AhoCorasick::new([key]).ok() } else { None };
        Mask { key: key.as_bytes().to_vec(), finder, held: Vec::new() }
    }

    /// The next piece without the key. What may be the key's beginning comes with the next one.
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
            Bytes::from(finder.replace_all_bytes(&piece, &[IN_ITS_PLACE]))
        } else {
            piece
        };
        let most = piece.len().min(self.key.len() - 1);
        let begun = (1..=most).rev().find(|n| self.key.starts_with(&piece[piece.len() - n..])).unwrap_or(0);
        self.held = piece[piece.len() - begun..].to_vec();
        piece.slice(..piece.len() - begun)
    }

    /// What was held back, at the end.
    pub fn end(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.held))
    }

    /// A whole text without the key.
    pub fn whole(mut self, text: &[u8]) -> Vec<u8> {
        let mut out = self.feed(Bytes::copy_from_slice(text)).to_vec();
        out.extend_from_slice(&self.end());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn the_key_never_passes_and_nothing_else_is_changed(
            words in proptest::collection::vec("(sk-abab-cd|sk-abab|[skab-]{0,6}|ü)", 0..20),
            cuts in proptest::collection::vec(0usize..80, 0..10),
        ) {
            let (key, text) = ("sk-abab-cd", words.concat());
            let mut borders: Vec<usize> = cuts.into_iter().map(|c| c.min(text.len())).collect();
            borders.extend([0, text.len()]);
            borders.sort_unstable();
            let mut mask = Mask::new(key);
            let mut out = Vec::new();
            for border in borders.windows(2) {
                let piece = mask.feed(Bytes::copy_from_slice(&text.as_bytes()[border[0]..border[1]]));
                out.extend_from_slice(&piece);
            }
            out.extend_from_slice(&mask.end());
            proptest::prop_assert_eq!(String::from_utf8(out).unwrap(), text.replace(key, "***"));
        }
    }

    #[test]
    fn what_is_no_key_is_let_through_at_once() {
        assert_eq!(Mask::new("x").feed(Bytes::from("xxx")), "xxx");
        assert_eq!(Mask::new("").feed(Bytes::from("abc")), "abc");
        assert_eq!(Mask::new("sk-12345678").feed(Bytes::from("data: {}\n\n")), "data: {}\n\n");
    }
}
