//! Escapes unsafe characters in text for logs, and recognizes fields that hold secrets by their name.

use std::borrow::Cow;

/// Returns whether a character can move the cursor, forge a line or hide text. These are the hidden characters of the
/// domain, which this layer does not know; a test compares the two.
pub fn is_unsafe_to_print(c: char) -> bool {
    match c {
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' => true,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}' => true,
        '\u{e0000}'..='\u{e01ef}' => true,
        c => c.is_control(),
    }
}

/// Returns the text with unsafe characters escaped (`\n`, `\u{1b}`).
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe_to_print) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unsafe_to_print(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// Returns whether a field holds a secret, judging by its name.
pub fn names_secret(field: &str) -> bool {
    let field = field.to_ascii_lowercase();
    // Token counts belong to the budget and are not secrets.
    if field.ends_with("tokens") {
        return false;
    }
    ["password", "passwd", "secret", "token", "authorization", "api_key", "apikey", "cookie", "private_key"]
        .iter()
        .any(|word| field.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_fields_are_recognized_by_name() {
        assert!(names_secret("http.Authorization") && names_secret("api_token") && !names_secret("input_tokens"));
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(escape("a\u{1b}[2J\nb\u{202e}"), "a\\u{1b}[2J\\nb\\u{202e}");
        assert_eq!(escape("naïve 🐝"), "naïve 🐝");
    }
}
