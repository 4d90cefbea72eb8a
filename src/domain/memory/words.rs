//! Words of a text, for rows and queries alike: lower case, with the parts of identifiers and the identifiers as a whole.

use std::collections::BTreeSet;

/// Words that say nothing about a task: frequent ones of English and of programming languages. In order.
const STOP_WORDS: &[&str] = &[
    "about", "after", "again", "all", "also", "and", "any", "are", "async", "await", "because", "been", "before",
    "being", "bool", "but", "can", "case", "change", "changed", "class", "code", "const", "could", "def", "does",
    "each", "else", "enum", "false", "file", "files", "fix", "for", "from", "func", "function", "had", "has", "have",
    "her", "here", "his", "how", "impl", "import", "int", "into", "its", "let", "like", "line", "make", "mod", "more",
    "must", "mut", "new", "none", "not", "now", "null", "off", "one", "only", "other", "our", "out", "over", "pub",
    "return", "run", "self", "set", "should", "some", "such", "task", "than", "that", "the", "their", "them", "then",
    "there", "these", "they", "this", "true", "use", "used", "using", "var", "void", "was", "were", "what", "when",
    "where", "which", "while", "who", "why", "will", "with", "would", "you", "your",
];
/// Fewest characters of a word.
const MIN_CHARS: usize = 3;
/// Upper bound on the characters of a word.
const MAX_CHARS: usize = 64;
/// Upper bound on the bytes of a text that are read.
const MAX_BYTES: usize = 16 * 1024;

/// Passes the words of a text to `found` in order, repeats included.
pub fn each_word(text: &str, mut found: impl FnMut(&str)) {
    let text = &text[..text.floor_char_boundary(MAX_BYTES)];
    let mut lower = String::new();
    let mut offer = |part: &str| {
        lower.clear();
        lower.extend(part.trim_matches('_').chars().flat_map(char::to_lowercase));
        let fits = (MIN_CHARS..=MAX_CHARS).contains(&lower.chars().count());
        if fits && STOP_WORDS.binary_search(&lower.as_str()).is_err() {
            found(&lower);
        }
    };
    for token in text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|token| token.len() >= MIN_CHARS) {
        let mut parts = 0;
        each_part(token, |_| parts += 1);
        if parts > 1 {
            offer(token);
        }
        each_part(token, &mut offer);
    }
}

/// Returns the first distinct words of a text, at most `max`.
pub fn distinct(text: &str, max: usize) -> Vec<String> {
    let (mut seen, mut words) = (BTreeSet::new(), Vec::new());
    each_word(text, |word| {
        if words.len() < max && seen.insert(word.to_owned()) {
            words.push(word.to_owned());
        }
    });
    words
}

/// Splits an identifier at underscores and where the case changes: `parseHTTPBody_v2` has the parts `parse`, `HTTP`,
/// `Body` and `v2`.
fn each_part(token: &str, mut found: impl FnMut(&str)) {
    let mut offer = |part: &str| {
        if !part.is_empty() {
            found(part);
        }
    };
    let (mut start, mut before) = (0, None::<char>);
    let mut chars = token.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|(_, next)| *next);
        let is_hump = before.is_some_and(char::is_lowercase) && c.is_uppercase();
        let ends_acronym =
            before.is_some_and(char::is_uppercase) && c.is_uppercase() && next.is_some_and(char::is_lowercase);
        if c == '_' || is_hump || ends_acronym {
            offer(&token[start..at]);
            start = if c == '_' { at + c.len_utf8() } else { at };
        }
        before = Some(c);
    }
    offer(&token[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let mut words = Vec::new();
        each_word(text, |word| words.push(word.to_owned()));
        words
    }

    #[test]
    fn identifiers_have_parts_and_are_words_as_a_whole() {
        let expected = ["parsehttpbody_v2", "parse", "http", "body", "src", "read", "e0308"];
        assert_eq!(words("parseHTTPBody_v2 in src/a.rs: read() E0308"), expected);
        assert_eq!(words("the file, when used"), Vec::<String>::new());
        assert_eq!(words("Straße größer"), ["straße", "größer"]);
    }

    #[test]
    fn distinct_words_come_in_their_order() {
        assert_eq!(distinct("beta alpha beta gamma alpha delta", 3), ["beta", "alpha", "gamma"]);
    }

    #[test]
    fn stop_words_can_be_searched() {
        assert!(STOP_WORDS.is_sorted_by(|a, b| a < b));
    }
}
