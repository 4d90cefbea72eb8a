//! The form of files: a first line that states the purpose, a readable length, meaningful names, nothing unfinished.

use super::{TextFile, assert_none, code, files, sources};

const LINES_MAX: usize = 500;
const FILE_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc", "types", "shared"];
const TYPE_ENDINGS: &[&str] = &["Data", "Info", "Impl", "Helper", "Utils"];
const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "dbg!"];

fn forms(file: &TextFile) -> Vec<String> {
    let mut found = Vec::new();
    let mut report = |what: String| found.push(format!("{}: {what}", file.path));
    let is_source = file.path.starts_with("src/") || file.path.starts_with("migration/src/");
    if !file.text.lines().next().is_some_and(|l| l.starts_with("//! ") && l.len() > 12) {
        report("its first line does not state its purpose (`//! …`)".to_owned());
    }
    let lines = file.text.lines().count();
    if is_source && lines > LINES_MAX {
        report(format!("it has {lines} lines; at most {LINES_MAX} are allowed"));
    }
    let stem = file.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
    if FILE_NAMES.contains(&stem) {
        report(format!("the file name {stem} does not describe its content"));
    }
    let code = code(&file.text);
    for (n, line) in code.lines().enumerate() {
        let at = n + 1;
        if let Some(word) = UNFINISHED.iter().find(|w| line.contains(**w)) {
            report(format!("line {at}: {word} is unfinished code"));
        }
        if line.replace(' ', "").contains("#[ignore]") {
            report(format!("line {at}: an ignored test without a reason"));
        }
        let words: Vec<&str> = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
        let named = words.windows(2).find(|w| matches!(w[0], "struct" | "enum" | "trait" | "type" | "mod"));
        if let Some(name) = named.map(|w| w[1])
            && (TYPE_ENDINGS.iter().any(|e| name.len() > e.len() && name.ends_with(e)) || FILE_NAMES.contains(&name))
        {
            report(format!("line {at}: the name {name} does not describe its content"));
        }
    }
    found
}

#[test]
fn every_file_has_the_required_form() {
    let mut all = sources();
    all.extend(files(&["tests", "benches", "migration/src"], ".rs"));
    assert_none(all.iter().flat_map(forms).collect());
}

#[test]
fn planted_bad_forms_are_found() {
    let planted = |path: &str, text: &str| forms(&TextFile { path: path.to_owned(), text: text.to_owned() });
    assert!(planted("src/a.rs", "//! States its purpose.\nfn f() {}\n// todo!() in a comment\n").is_empty());
    let table = [
        ("src/a.rs", "use std::fs;\n".to_owned()),
        ("src/a.rs", "//!\n".to_owned()),
        ("src/a.rs", format!("//! States its purpose.\n{}", "\n".repeat(LINES_MAX))),
        ("src/utils.rs", "//! States its purpose.\n".to_owned()),
        ("src/a.rs", "//! States its purpose.\nfn f() { todo!() }\n".to_owned()),
        ("src/a.rs", "//! States its purpose.\nlet a = dbg!(1);\n".to_owned()),
        ("src/a.rs", "//! States its purpose.\n#[ignore]\nfn f() {}\n".to_owned()),
        ("src/a.rs", "//! States its purpose.\npub struct RunInfo {}\n".to_owned()),
        ("src/a.rs", "//! States its purpose.\nmod helpers;\n".to_owned()),
    ];
    for (path, text) in table {
        assert_eq!(planted(path, &text).len(), 1, "{path}: {text}");
    }
    let reason = "//! States its purpose.\n#[ignore = \"a measurement\"]\nfn f() {}\n";
    assert!(planted("tests/a.rs", reason).is_empty());
}
