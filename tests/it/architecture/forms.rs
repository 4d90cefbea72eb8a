//! How files look: a first line that says the duty, a length for one sitting, names that mean something, nothing unfinished.

use super::{Page, code, nothing, pages, sources};

const LINES_MAX: usize = 500;
const FILE_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc", "types", "shared"];
const TYPE_ENDINGS: &[&str] = &["Data", "Info", "Impl", "Helper", "Utils"];
const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "dbg!"];

fn forms(page: &Page) -> Vec<String> {
    let mut found = Vec::new();
    let mut say = |what: String| found.push(format!("{}: {what}", page.path));
    let is_source = page.path.starts_with("src/") || page.path.starts_with("migration/src/");
    if !page.text.lines().next().is_some_and(|l| l.starts_with("//! ") && l.len() > 12) {
        say("its first line does not say its duty (`//! …`)".to_owned());
    }
    let lines = page.text.lines().count();
    if is_source && lines > LINES_MAX {
        say(format!("it has {lines} lines; at most {LINES_MAX} are read in one sitting"));
    }
    let stem = page.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
    if FILE_NAMES.contains(&stem) {
        say(format!("{stem} says nothing of what is in it"));
    }
    let code = code(&page.text);
    for (n, line) in code.lines().enumerate() {
        let at = n + 1;
        if let Some(word) = UNFINISHED.iter().find(|w| line.contains(**w)) {
            say(format!("line {at}: {word} is left behind"));
        }
        if line.replace(' ', "").contains("#[ignore]") {
            say(format!("line {at}: an ignored test without a reason"));
        }
        let words: Vec<&str> = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
        let named = words.windows(2).find(|w| matches!(w[0], "struct" | "enum" | "trait" | "type" | "mod"));
        if let Some(name) = named.map(|w| w[1])
            && (TYPE_ENDINGS.iter().any(|e| name.len() > e.len() && name.ends_with(e)) || FILE_NAMES.contains(&name))
        {
            say(format!("line {at}: the name {name} says nothing"));
        }
    }
    found
}

#[test]
fn every_file_has_the_houses_form() {
    let mut all = sources();
    all.extend(pages(&["tests", "benches", "migration/src"], ".rs"));
    nothing(all.iter().flat_map(forms).collect());
}

#[test]
fn planted_bad_forms_are_found() {
    let planted = |path: &str, text: &str| forms(&Page { path: path.to_owned(), text: text.to_owned() });
    assert!(planted("src/a.rs", "//! Says what it is for.\nfn f() {}\n// todo!() in a comment\n").is_empty());
    let table = [
        ("src/a.rs", "use std::fs;\n".to_owned()),
        ("src/a.rs", "//!\n".to_owned()),
        ("src/a.rs", format!("//! Says what it is for.\n{}", "\n".repeat(LINES_MAX))),
        ("src/utils.rs", "//! Says what it is for.\n".to_owned()),
        ("src/a.rs", "//! Says what it is for.\nfn f() { todo!() }\n".to_owned()),
        ("src/a.rs", "//! Says what it is for.\nlet a = dbg!(1);\n".to_owned()),
        ("src/a.rs", "//! Says what it is for.\n#[ignore]\nfn f() {}\n".to_owned()),
        ("src/a.rs", "//! Says what it is for.\npub struct RunInfo {}\n".to_owned()),
        ("src/a.rs", "//! Says what it is for.\nmod helpers;\n".to_owned()),
    ];
    for (path, text) in table {
        assert_eq!(planted(path, &text).len(), 1, "{path}: {text}");
    }
    let reason = "//! Says what it is for.\n#[ignore = \"a measurement\"]\nfn f() {}\n";
    assert!(planted("tests/a.rs", reason).is_empty());
}
