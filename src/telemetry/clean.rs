//! Text from outside made safe to print: control characters escaped, what looks like a secret masked.

use std::borrow::Cow;

/// Whether a character could move the cursor, forge a line or hide text (bidirectional and zero-width marks).
pub fn is_unsafe_to_print(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The text with unsafe characters escaped (`\n`, `\u{1b}`).
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

/// What stands for a secret.
const MASK: &str = "***";

/// How tokens of well-known services begin. A second line only: secrets are not given to what is logged in the first place.
const TOKEN_STARTS: [&str; 14] = [
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "sk-",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "Bearer ",
    "bearer ",
    "Basic ",
];

/// The text with URL passwords and tokens of well-known forms masked.
pub fn redact(text: &str) -> Cow<'_, str> {
    let mut out = Cow::Borrowed(text);
    if text.contains("://") {
        out = Cow::Owned(without_url_passwords(text));
    }
    for start in TOKEN_STARTS {
        if out.contains(start) {
            out = Cow::Owned(without_tokens(&out, start));
        }
    }
    out
}

fn ends_token(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ';' | ')' | ']' | '}' | '<' | '>' | '&' | '@' | '\\')
}

fn without_url_passwords(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        out.push_str(head);
        let end =
            tail.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '/' | '?' | '#')).unwrap_or(tail.len());
        let (authority, after) = tail.split_at(end);
        match authority.rsplit_once('@') {
            Some((user, host)) => {
                let name = user.split_once(':').map(|(name, _)| name);
                // Without a colon the user part is often the token itself.
                out.push_str(name.unwrap_or_default());
                out.push_str(if name.is_some() { ":***@" } else { "***@" });
                out.push_str(host);
            }
            None => out.push_str(authority),
        }
        rest = after;
    }
    out + rest
}

fn without_tokens(text: &str, start: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(start) {
        let (head, tail) = rest.split_at(at);
        let body = &tail[start.len()..];
        let end = body.find(ends_token).unwrap_or(body.len());
        let within_word = head.ends_with(|c: char| c.is_ascii_alphanumeric());
        out.push_str(head);
        out.push_str(start);
        // Short or inside a word ("task-1"): no token.
        out.push_str(if within_word || end < 8 { &body[..end] } else { MASK });
        rest = &body[end..];
    }
    out + rest
}

/// Whether a field's name says that its value is a secret.
pub fn names_secret(field: &str) -> bool {
    let field = field.to_ascii_lowercase();
    // Counts of tokens are the budget, not secrets.
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
    fn secrets_are_masked_and_the_rest_is_kept() {
        for (text, want) in [
            ("postgres://skep:hunter2@db/skep", "postgres://skep:***@db/skep"),
            ("https://ghp_abcdefgh12345678@github.com/a/b x", "https://***@github.com/a/b x"),
            ("curl -H 'Authorization: Bearer abcdefghijkl' now", "curl -H 'Authorization: Bearer ***' now"),
            ("key sk-ant-0123456789", "key sk-***"),
            ("task-1 of http://host/path@1", "task-1 of http://host/path@1"),
            ("", ""),
        ] {
            assert_eq!(redact(text), want);
        }
        assert!(names_secret("http.Authorization") && names_secret("api_token") && !names_secret("input_tokens"));
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(escape("a\u{1b}[2J\nb\u{202e}"), "a\\u{1b}[2J\\nb\\u{202e}");
        assert_eq!(escape("naïve 🐝"), "naïve 🐝");
    }
}
