//! Words of a text, for rows and queries alike: lower case, with the parts of identifiers and the identifiers as a whole.

use std::collections::BTreeSet;

/// Words that say nothing about a task: frequent ones of English and of programming languages. In order.
const STOP_WORDS: &[&str] = &[
    "about", "after", "again", "all", "also", "and", "any", "are", "async", "await", "because", "been", "before",
    "being", "bool", "but", "can", "case", "change", "changed", "class", "code", "const", "could", "def", "does",
    "each", "else", "enum", "false", "file", "files", "fix", "for", "from", "func", "function", "had", "has", "have",
    "her", "here", "his", "how", "impl", "import", "int", "into", "its", "let", "like", "line", "make", "mod", "more",
    "must", "mut", "new", "none", "not", "null", "now", "off", "one", "only", "other", "our", "out", "over", "pub",
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

/// Returns the words of a text in order, repeats included.
pub fn words(text: &str) -> Vec<String> {
    let text = &text[..text.floor_char_boundary(MAX_BYTES)];
    let mut found = Vec::new();
    for token in text.split(|c: char| !c.is_alphanumeric() && c != '_') {
        let parts = parts(token);
        if parts.len() > 1 {
            push(&mut found, token);
        }
        parts.iter().for_each(|part| push(&mut found, part));
    }
    found
}

/// Returns the first distinct words of a text, at most `max`.
pub fn distinct(text: &str, max: usize) -> Vec<String> {
    let mut seen = BTreeSet::new();
    words(text).into_iter().filter(|word| seen.insert(word.clone())).take(max).collect()
}

fn push(found: &mut Vec<String>, token: &str) {
    let word = token.trim_matches('_').to_lowercase();
    let fits = (MIN_CHARS..=MAX_CHARS).contains(&word.chars().count());
    if fits && STOP_WORDS.binary_search(&word.as_str()).is_err() {
        found.push(word);
    }
}

/// Splits an identifier at underscores and where the case changes: `parseHTTPBody_v2` has the parts `parse`, `HTTP`,
/// `Body` and `v2`.
fn parts(token: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let chars: Vec<char> = token.chars().collect();
    for (index, c) in chars.iter().copied().enumerate() {
        let before = index.checked_sub(1).and_then(|n| chars.get(n)).copied();
        let is_hump = before.is_some_and(|b| b.is_lowercase() && c.is_uppercase());
        let ends_acronym = before.is_some_and(char::is_uppercase)
            && c.is_uppercase()
            && chars.get(index + 1).is_some_and(|next| next.is_lowercase());
        if c == '_' || is_hump || ends_acronym {
            parts.push(String::new());
        }
        if c != '_'
            && let Some(last) = parts.last_mut()
        {
            last.push(c);
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

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
