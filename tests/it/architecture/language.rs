//! Words that were replaced must not come back: a fixed list of names and phrases, not a judgement of style.
//!
//! Each entry names what to write instead. History and this file are exempt, and so is the table of renamed keys.

use super::{TextFile, assert_none, file, files};

/// Names and spellings that were replaced; matched as whole words, with their case.
const NAMES: &[(&str, &str)] = &[
    ("adapters/gate", "platform/egress"),
    ("adapters::gate", "platform::egress"),
    ("{gate}", "{proxy_url}"),
    ("[places.", "[runners.]"),
    ("skep place list", "skep runner list"),
    ("skep place test", "skep runner test"),
    ("Giver", "AccessBroker"),
    ("Asker", "AccessRequest"),
    ("Beneath::", "RootedDir"),
    ("&Beneath", "RootedDir"),
    ("Seats", "AttemptLocks"),
    ("EffectOutcome::Done", "the outcome"),
    ("Event::Done", "the outcome"),
    ("Trouble", "CliError"),
    ("Doors", "Backend"),
    ("struct House", "InProcessServer"),
    ("struct Told", "NotifyingVault"),
    ("plain::plain", "terminal_text::sanitize"),
    ("wall_secs", "timeout_secs"),
    ("limit_secs", "timeout_secs"),
];

/// Phrases that were replaced; matched as whole words, in any case.
const PHRASES: &[(&str, &str)] = &[
    ("the walls", "the sandbox"),
    ("its walls", "its sandbox"),
    ("the books", "the ledger"),
    ("put aside", "quarantined"),
    ("puts aside", "quarantines"),
    ("taken up", "resumed"),
    ("takes up", "resumes"),
    ("take up again", "resume"),
    ("mend", "fix"),
    ("mends", "fixes"),
    ("mended", "fixed"),
    ("anew", "again"),
    ("nobody told", "was not reported"),
    ("nobody tells", "is not reported"),
    ("nobody knows", "is unknown"),
    ("look whether", "check that"),
    ("looks whether", "checks whether"),
    ("looked whether", "checked whether"),
    ("half the world", "too broad"),
    ("is away", "is unavailable"),
    ("are away", "are unavailable"),
    ("gives the word back", "returns"),
    ("gate's socket", "the egress proxy's socket"),
];

/// Words that must not be used in texts for people, but may be used elsewhere.
const IN_USER_TEXTS: &[(&str, &str)] = &[("micro-USD", "dollars, as $1.23"), ("micro USD", "dollars, as $1.23")];

/// Files that may name what was replaced: this one, the renamed keys, and the test of the renamed command.
const EXEMPT: &[&str] = &["tests/it/architecture/language.rs", "src/config/renamed.rs", "src/cli/tests/mod.rs"];

/// The longest line of a document.
const COLUMNS_MAX: usize = 100;

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `text` contains `phrase` as whole words.
fn contains(text: &str, phrase: &str) -> bool {
    text.match_indices(phrase).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + phrase.len()..].chars().next();
        let joins =
            |edge: Option<char>, neighbour: Option<char>| edge.is_some_and(is_word) && neighbour.is_some_and(is_word);
        !joins(phrase.chars().next(), before) && !joins(phrase.chars().next_back(), after)
    })
}

/// Whether the text has "X is no Y" instead of "X is not a Y". "There is no Y" and "is no longer" are idiomatic.
fn is_no(text: &str) -> bool {
    text.match_indices(" is no ").any(|(at, found)| {
        let before = text[..at].rsplit(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
        let after: String = text[at + found.len()..].chars().take_while(|c| c.is_alphabetic()).collect();
        before != "there" && !matches!(after.as_str(), "longer" | "more" | "less" | "different" | "one")
    })
}

fn violations(file: &TextFile) -> Vec<String> {
    let mut found = Vec::new();
    if EXEMPT.contains(&file.path.as_str()) {
        return found;
    }
    let for_people = ["docs/", "prompts/", "README.md"].iter().any(|start| file.path.starts_with(start));
    for (n, line) in file.text.lines().enumerate() {
        let lower = line.to_lowercase();
        let mut report = |what: &str, instead: &str| {
            found.push(format!("{}:{}: \"{what}\": write {instead}", file.path, n + 1));
        };
        NAMES.iter().filter(|(name, _)| contains(line, name)).for_each(|(name, instead)| report(name, instead));
        PHRASES.iter().filter(|(phrase, _)| contains(&lower, phrase)).for_each(|(phrase, instead)| {
            report(phrase, instead);
        });
        if for_people {
            let named = IN_USER_TEXTS.iter().filter(|(word, _)| contains(line, word));
            named.for_each(|(word, instead)| report(word, instead));
        }
        if is_no(&lower) {
            report("is no", "\"is not a\"");
        }
    }
    found
}

/// Lines of a document that exceed `COLUMNS_MAX`. Code, tables and lines with a URL are exempt: they cannot be broken.
fn long_lines(file: &TextFile) -> Vec<String> {
    let is_long =
        |line: &str| line.chars().count() > COLUMNS_MAX && !line.trim_start().starts_with('|') && !line.contains("://");
    let mut is_code = false;
    let lines = file.text.lines().enumerate().filter(|(_, line)| {
        is_code ^= line.trim_start().starts_with("```");
        !is_code && is_long(line)
    });
    lines.map(|(n, line)| format!("{}:{}: {} columns", file.path, n + 1, line.chars().count())).collect()
}

fn documents() -> Vec<TextFile> {
    let mut all = files(&["docs"], ".md");
    all.push(file("README.md"));
    all.push(file("ARCHITECTURE.md"));
    all
}

/// Number of violations per file, highest first.
fn by_file(violations: &[String]) -> String {
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for violation in violations {
        *counts.entry(violation.split(':').next().unwrap_or_default()).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(path, count)| (std::cmp::Reverse(*count), *path));
    counts.iter().map(|(path, count)| format!("{count:5} {path}\n")).collect()
}

#[test]
fn replaced_words_do_not_come_back_in_code() {
    let mut all = files(&["src", "tests"], ".rs");
    all.extend(files(&["config"], ".toml"));
    let found: Vec<String> = all.iter().flat_map(violations).collect();
    eprintln!("{}", by_file(&found));
    assert_none(found);
}

#[test]
fn replaced_words_do_not_come_back_in_documents_and_prompts() {
    let mut all = documents();
    all.extend(files(&["prompts"], ".md"));
    let found: Vec<String> = all.iter().flat_map(violations).collect();
    eprintln!("{}", by_file(&found));
    assert_none(found);
}

#[test]
fn documents_fit_in_a_hundred_columns() {
    assert_none(documents().iter().flat_map(long_lines).collect());
}

#[test]
fn planted_words_and_long_lines_are_found() {
    let planted = |path: &str, text: &str| violations(&TextFile { path: path.to_owned(), text: text.to_owned() }).len();
    for (path, text, count) in [
        ("src/a.rs", "// The walls hold.", 1),
        ("src/a.rs", "// Mend it, then start anew.", 2),
        ("src/a.rs", "// An amendment in a new file: look at whether it is there.", 0),
        ("src/a.rs", "struct Giver; use crate::adapters::gate;", 2),
        ("src/a.rs", "// This is no key.", 1),
        ("src/a.rs", "// There is no key, and it is no longer used.", 0),
        ("docs/a.md", "It costs 3 micro-USD.", 1),
        ("src/a.rs", "/// Cost in micro-USD.", 0),
        ("src/config/renamed.rs", "// mend", 0),
    ] {
        assert_eq!(planted(path, text), count, "{text}");
    }
    let document = |text: String| long_lines(&TextFile { path: "docs/a.md".to_owned(), text }).len();
    assert_eq!(document("x".repeat(COLUMNS_MAX)), 0);
    assert_eq!(document("é".repeat(COLUMNS_MAX + 1)), 1);
    assert_eq!(document(format!("| {}", "x".repeat(COLUMNS_MAX))), 0);
    assert_eq!(document(format!("```\n{}\n```", "x".repeat(COLUMNS_MAX + 1))), 0);
    assert_eq!(document(format!("https://example.org/{}", "x".repeat(COLUMNS_MAX))), 0);
}
