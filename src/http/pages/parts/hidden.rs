//! Text from outside with its invisible characters made visible.

pub use crate::render::is_hidden;
use maud::{Markup, PreEscaped};
use std::fmt::Write;

/// Appends text with its meaning in HTML removed.
pub fn push_escaped(out: &mut String, text: &str) {
    for c in text.chars() {
        push_char(out, c);
    }
}

/// Appends a character: escaped, and visible.
pub fn push_char(out: &mut String, c: char) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' => out.push_str("&quot;"),
        '\'' => out.push_str("&#39;"),
        c if is_hidden(c) => {
            let code = u32::from(c);
            // Writing to a string does not fail.
            let _written =
                write!(out, "<span class=\"hid\" title=\"hidden character U+{code:04X}\">⟦{code:04X}⟧</span>");
        }
        c => out.push(c),
    }
}

/// Returns text with its hidden characters made visible.
pub fn visible(text: &str) -> Markup {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    push_escaped(&mut out, text);
    PreEscaped(out)
}

/// Returns the number of hidden characters.
pub fn count(text: &str) -> usize {
    text.chars().filter(|c| is_hidden(*c)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hidden_characters_are_shown_with_their_codes() {
        let shown = visible("a\u{202e}b\u{0}c\td\u{a0}é").into_string();
        assert!(shown.contains("⟦202E⟧") && shown.contains("⟦0000⟧") && shown.contains("c\td\u{a0}é"), "{shown}");
        assert_eq!(count("a\u{200b}\u{feff}b\n"), 2);
    }

    proptest! {
        #[test]
        fn no_text_becomes_markup(text in "[\\PC\\x00-\\x1f<>&\"'\u{202e}]{0,80}") {
            let shown = visible(&text).into_string();
            // What is left without Skep's own marks has no character with a meaning in HTML.
            let rest = shown.replace("</span>", "");
            for part in rest.split("<span class=\"hid\" title=\"hidden character U+").skip(1) {
                let code = part.split('"').next().unwrap_or("!");
                prop_assert!(u32::from_str_radix(code, 16).is_ok());
            }
            let marks = shown.matches("<span class=\"hid\"").count();
            prop_assert_eq!(marks, count(&text));
            prop_assert_eq!(shown.matches('<').count(), 2 * marks);
            prop_assert!(!shown.chars().any(is_hidden));
        }
    }
}
