//! How single facts look: status words, times, money, ids, links, text from outside.

use super::parts::hidden::{is_hidden, visible};
use crate::domain::{DiffStat, EngineSpec, Role, Timestamp};
use crate::render;
use maud::{Markup, html};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use std::collections::BTreeMap;

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
/// Lines at the end of a longer text that are shown at once.
const END_LINES: usize = 12;

/// Status words with their symbols. The word is always there: neither color nor symbol stands alone.
const STATUSES: [(&str, &str); 19] = [
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
    ("live", "✓"),
    ("suspended", "!"),
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

/// Returns a text of Skep's own with its commands, between backticks, set as code. What it quotes stays text.
pub fn prose(text: &str) -> Markup {
    let parts: Vec<&str> = text.split('`').collect();
    // An odd number of backticks is not a pair of them.
    if parts.len().is_multiple_of(2) {
        return line(text);
    }
    html! { bdi { @for (n, part) in parts.iter().enumerate() {
        @if n % 2 == 1 { code { (visible(part)) } } @else { (visible(part)) }
    } } }
}

/// Returns text from outside in full, fenced, with its source; long text is shut.
pub fn quoted(text: &str, from: &str) -> Markup {
    let text = text.trim_end();
    let lines = text.lines().count();
    html! {
        details.quoted open[lines <= OPEN_LINES] {
            summary { (from) @if lines > OPEN_LINES { ", " (render::count(lines as u64, "line")) } }
            (fenced(text))
        }
    }
}

/// Returns what an approval is about: the beginning of a long text, and all of it on demand.
pub fn subject(text: &str, from: &str) -> Markup {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    if lines.len() <= OPEN_LINES {
        return quoted(text, from);
    }
    html! {
        figure.end {
            figcaption { (from) }
            (fenced(&lines[..OPEN_LINES].join("\n")))
        }
        (quoted(text, "All of it"))
    }
}

/// Returns why something failed: the end of a long text, and all of it on demand.
pub fn failure(text: &str, from: &str) -> Markup {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    if lines.len() <= OPEN_LINES {
        return quoted(text, from);
    }
    html! {
        figure.end {
            figcaption { (from) ", the last " (END_LINES) " lines" }
            (fenced(&lines[lines.len() - END_LINES..].join("\n")))
        }
        (quoted(text, "All of it"))
    }
}

/// Returns text from outside as it was written. Long text scrolls, so it takes the focus of the keyboard.
pub fn fenced(text: &str) -> Markup {
    let is_long = text.lines().count() > OPEN_LINES || text.len() > OPEN_LINES * 80;
    html! { pre.long[is_long] tabindex=[is_long.then_some("0")] { bdi { (visible(text)) } } }
}

/// Returns a number with its digits in groups: `48,210`.
pub fn number(n: u64) -> String {
    let digits = n.to_string();
    let grouped = digits.char_indices().flat_map(|(at, c)| {
        let starts_group = at > 0 && (digits.len() - at).is_multiple_of(3);
        starts_group.then_some(',').into_iter().chain([c])
    });
    grouped.collect()
}

/// Returns the size of a diff.
pub fn size_of(diff: &DiffStat) -> Markup {
    html! { span { (render::count(diff.files_total, "file")) " changed " span.plus { "+" (diff.added) } " " span.minus { "−" (diff.removed) } } }
}

/// Returns engines by role.
pub fn engines(engines: &BTreeMap<Role, EngineSpec>) -> Markup {
    html! { ul.plain { @for (role, spec) in engines { li { (role.name()) ": " (line(&spec.named())) } } } }
}

/// Returns what a run needs from a person, by the codes of its questions.
pub fn needs(codes: &[String]) -> String {
    codes.iter().map(|code| need(code)).collect::<Vec<_>>().join(", ")
}

fn need(code: &str) -> String {
    match code {
        "approve_plan" => "approval of the plan",
        "approve_diff" => "approval of a diff",
        "approve_merge" => "approval of the merge",
        "tries" => "more tries",
        "step_time" => "more time",
        "environment" => "a working environment",
        "rounds" => "more rounds of rework",
        "budget" => "a higher budget",
        "engine" => "an engine",
        "question" => "an answer",
        "nothing_changed" => "a hint",
        "effect" => "a fix",
        "ci" | "change_closed" | "foreign_push" | "secret_found" => "a decision",
        other => return other.replace('_', " "),
    }
    .to_owned()
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
    let first = text.split_whitespace().next().unwrap_or_default().trim_end_matches([',', ':', ';', '.']);
    // The name of something, such as `b1` or `user:ann`, stays as it is.
    if !first.chars().all(char::is_alphabetic) {
        return text.to_owned();
    }
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Returns the links to other parts of a list; nothing if there are none.
pub fn pager(label: &str, links: &Markup) -> Markup {
    html! { @if !links.0.is_empty() { nav.pager aria-label=(label) { (links) } } }
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
    fn commands_in_prose_are_code_and_numbers_have_groups() {
        assert_eq!(
            prose("pass `--limit <x>`, now").into_string(),
            "<bdi>pass <code>--limit &lt;x&gt;</code>, now</bdi>"
        );
        assert_eq!(prose("a ` alone").into_string(), "<bdi>a ` alone</bdi>");
        assert_eq!([0, 999, 1_000, 48_210, 1_234_567].map(number), ["0", "999", "1,000", "48,210", "1,234,567"]);
    }

    #[test]
    fn a_long_failure_shows_its_end() {
        let text: String = (1..=40).map(|n| format!("line {n}\n")).collect();
        let html = failure(&text, "What happened").into_string();
        let (end, all) = html.split_once("</figure>").expect("an end");
        assert!(end.contains("line 40") && end.contains("line 29") && !end.contains("line 28"), "{end}");
        assert!(all.contains("line 1\n") && !all.contains("<details class=\"quoted\" open"), "{all}");
        let (start, _) = subject(&text, "What happened")
            .into_string()
            .split_once("</figure>")
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .expect("a start");
        assert!(start.contains("line 1\n") && !start.contains("line 40"), "{start}");
        assert!(!failure("short", "What happened").into_string().contains("figure"));
        assert_eq!(["b1 waits", "user:ann has", "it is"].map(sentence), ["b1 waits", "user:ann has", "It is"]);
        // Nothing is interpreted: a carriage return hides nothing.
        assert!(fenced("bad\rgood").into_string().contains("bad<span class=\"hid\""));
    }

    #[test]
    fn distances_read_well() {
        let now = Timestamp(10_000_000_000);
        let texts = [0, 60, 600, 7_200, 200_000].map(|secs| distance(Timestamp(now.0 - secs * 1000), now));
        assert_eq!(texts, ["just now", "60 s ago", "10 min ago", "2 h ago", "2 d ago"]);
        assert_eq!(distance(Timestamp(now.0 + 600_000), now), "in 10 min");
    }
}
