//! Characters that change what is seen without being seen.
//!
//! Letters that look alike and no-break spaces are not among them: they are common in honest text, and marks that are
//! everywhere are read nowhere.

use crate::domain;
use std::borrow::Cow;
use std::fmt::Write;

/// Returns whether a character changes what is seen without being seen. Line feeds and tabs do not.
pub fn is_hidden(c: char) -> bool {
    !matches!(c, '\n' | '\t') && domain::is_hidden(c)
}

/// Replaces hidden characters by their codes: `⟦202E⟧`.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for c in text.chars() {
        if is_hidden(c) {
            // Writing to a string does not fail.
            let _written = write!(out, "⟦{:04X}⟧", u32::from(c));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_become_their_codes() {
        assert_eq!(visible("a\u{202e}b\u{0}c\td\né"), "a⟦202E⟧b⟦0000⟧c\td\né");
        assert!(matches!(visible("plain é ⟦202E⟧"), Cow::Borrowed(_)));
    }
}
