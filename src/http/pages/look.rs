//! How single facts look: status words, times, money, ids, links, text from outside.

use super::parts::hidden::{is_hidden, visible};
use crate::domain::Timestamp;
use crate::render;
use maud::{Markup, html};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// Characters that have a meaning in a query.
const QUERY: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'&')
    .add(b'\'')
    .add(b'+')
    .add(b'<')
    .add(b'=')
    .add(b'>')
    .add(b'?')
    .add(b'\\');

/// Lines of a quoted text above which it is shut.
const OPEN_LINES: usize = 14;

/// Status words with their symbols. The word is always there: neither color nor symbol stands alone.
const STATUSES: [(&str, &str); 17] = [
    ("pending", "○"),
    ("planning", "◔"),
    ("planned", "◑"),
    ("running", "●"),
    ("paused", "‖"),
    ("blocked", "?"),
    ("failed", "✕"),
    ("cancelled", "⊘"),
    ("completed", "✓"),
    ("quarantined", "!"),
    ("needs_qa", "◕"),
    ("green", "✓"),
    ("red", "✕"),
    ("open", "✓"),
    ("shut", "✕"),
    ("waiting", "○"),
    ("lost", "✕"),
];

/// Returns a status word with its symbol.
pub fn status(word: &str) -> Markup {
    let known = STATUSES.into_iter().find(|(name, _)| *name == word);
    let (class, symbol) = known.unwrap_or(("other", "·"));
    let word = word.replace('_', " ");
    html! { span class={ "status s-" (class) } { span aria-hidden="true" { (symbol) } " " (word) } }
}

/// Returns how long ago a moment was, with the moment itself.
pub fn ago(at: Timestamp, now: Timestamp) -> Markup {
    html! { time datetime=(iso(at)) title=(render::utc(at)) { (distance(at, now)) } }
}

/// Returns the distance of two moments in one unit: `5 min ago`, `in 2 h`.
fn distance(at: Timestamp, now: Timestamp) -> String {
    let secs = now.0.saturating_sub(at.0) / 1000;
    let (n, unit) = match secs.unsigned_abs() {
        0..=44 if secs >= 0 => return "just now".to_owned(),
        n @ 0..=89 => (n, "s"),
        n @ 90..=5_399 => (n / 60, "min"),
        n @ 5_400..=129_599 => (n / 3_600, "h"),
        n => (n / 86_400, "d"),
    };
    if secs >= 0 { format!("{n} {unit} ago") } else { format!("in {n} {unit}") }
}

/// Returns a moment in the form of HTML.
pub fn iso(at: Timestamp) -> String {
    let time = chrono::DateTime::from_timestamp_millis(at.0).unwrap_or_default();
    time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

/// Returns a commit, shortened; the title has all of it.
pub fn sha(sha: &crate::domain::Sha) -> Markup {
    html! { code class="sha" title=(sha) { (sha.abbrev()) } }
}

/// Returns text from outside on one line, with hidden characters made visible.
pub fn line(text: &str) -> Markup {
    html! { bdi { (visible(text)) } }
}

/// Returns text from outside in full, fenced, with its source; long text is shut.
pub fn quoted(text: &str, from: &str) -> Markup {
    let text = text.trim_end();
    let lines = text.lines().count();
    html! {
        details.quoted open[lines <= OPEN_LINES] {
            summary { (from) @if lines > OPEN_LINES { ", " (render::count(lines as u64, "line")) } }
            pre { bdi { (visible(text)) } }
        }
    }
}

/// Returns a link to another site if the address is one, else the text.
pub fn outside(address: &str) -> Markup {
    let is_web = ["https://", "http://"].iter().any(|scheme| address.starts_with(scheme));
    if is_web && !address.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return html! { a href=(address) rel="noopener noreferrer" { (visible(address)) } };
    }
    html! { code { (visible(address)) } }
}

/// Returns text from outside for a place that cannot show markup: without hidden characters.
pub fn plain(text: &str) -> String {
    text.chars().filter(|c| !is_hidden(*c)).collect()
}

/// Encodes a value for a query.
pub fn in_query(value: &str) -> String {
    utf8_percent_encode(value, QUERY).to_string()
}

/// Returns a text with its first letter in upper case.
pub fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Returns the text of an empty list: what is missing, and what to do next.
pub fn empty(what: &str, next: Markup) -> Markup {
    html! { div.empty { p { (what) } p.quiet { (next) } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_web_addresses_become_links() {
        for text in
            ["javascript:alert(1)", "data:text/html,x", "//evil.example", "https://a b", "/srv/repo.git", "HTTPS"]
        {
            assert!(!outside(text).into_string().contains("<a "), "{text}");
        }
        assert!(
            outside("https://example.org/x?a=1&b=2")
                .into_string()
                .contains("href=\"https://example.org/x?a=1&amp;b=2\"")
        );
    }

    #[test]
    fn distances_read_well() {
        let now = Timestamp(10_000_000_000);
        let texts = [0, 60, 600, 7_200, 200_000].map(|secs| distance(Timestamp(now.0 - secs * 1000), now));
        assert_eq!(texts, ["just now", "60 s ago", "10 min ago", "2 h ago", "2 d ago"]);
        assert_eq!(distance(Timestamp(now.0 + 600_000), now), "in 10 min");
    }
}
