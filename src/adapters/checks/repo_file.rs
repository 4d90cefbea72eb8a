//! Reads `.skep.toml`: a repository's own checks, and the ways it makes its policy stricter.
//!
//! Invariant: takes text, never a path. The caller reads it at the base commit; a change cannot bring its own rules along.

use crate::adapters::runner::settings as runners;
use crate::domain::policy::{Tightening, glob};
use crate::domain::{CheckKind, CheckSpec};
use crate::platform::rooted_fs;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::ops::Range;

/// The file's name, at the root of the repository.
pub const NAME: &str = ".skep.toml";
/// The largest file read, in bytes.
pub const BYTES_MAX: usize = 64 * 1024;
/// The most checks it may have.
const CHECKS_MAX: usize = 32;
/// The most patterns or contexts in one list.
const LIST_MAX: usize = 100;
/// The longest command.
const COMMAND_BYTES_MAX: usize = 4 * 1024;
/// A check's time limit where none is given, and the longest that may be.
const LIMIT_SECS: u64 = 600;
const LIMIT_SECS_MAX: u64 = 4 * 3600;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepoFile {
    /// Its checks, in running order; empty = it names none.
    pub checks: Vec<CheckSpec>,
    /// What it makes stricter.
    pub policy: Tightening,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    check: Vec<toml::Spanned<RawCheck>>,
    #[serde(default)]
    policy: Option<toml::Spanned<Tightening>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCheck {
    name: String,
    #[serde(default)]
    kind: Option<CheckKind>,
    command: String,
    #[serde(default)]
    limit: Option<toml::Spanned<toml::Value>>,
    #[serde(default)]
    junit: Option<String>,
    #[serde(default)]
    runner: Option<String>,
}

/// Reads the file's text.
///
/// # Errors
/// One line of plain text: the file, the line, the key, what is wrong and what would be right.
pub fn parse(text: &str) -> Result<RepoFile, String> {
    if text.len() > BYTES_MAX {
        return Err(format!("{NAME}: has {} bytes; at most {BYTES_MAX} are read", text.len()));
    }
    let raw: Raw = toml::from_str(text).map_err(|e| {
        let runner = runner(text, e.span());
        format!("{runner}: {}", with_nearest(e.message()))
    })?;
    if raw.check.len() > CHECKS_MAX {
        return Err(format!("{NAME}: has {} checks; at most {CHECKS_MAX} are allowed", raw.check.len()));
    }
    let mut names = BTreeSet::new();
    let mut checks = Vec::new();
    for one in raw.check {
        let at = runner(text, Some(one.span()));
        let spec = check(text, &at, one.into_inner())?;
        if !names.insert(spec.name.clone()) {
            return Err(format!("{at}: name: two checks are named {:?}; give each its own name", spec.name));
        }
        checks.push(spec);
    }
    // Stable: within a kind, the file's own order.
    checks.sort_by_key(|c| c.kind);
    let policy = match raw.policy {
        None => Tightening::default(),
        Some(policy) => {
            let at = runner(text, Some(policy.span()));
            tightening(&at, policy.into_inner())?
        }
    };
    Ok(RepoFile { checks, policy })
}

fn check(text: &str, at: &str, raw: RawCheck) -> Result<CheckSpec, String> {
    let good = (1..=64).contains(&raw.name.len())
        && raw.name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && raw.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if !good {
        return Err(format!(
            "{at}: name: {:?} is not usable; use 1 to 64 letters, digits, '-', '_' and '.', starting with a letter or digit",
            raw.name
        ));
    }
    if raw.command.trim().is_empty() || raw.command.len() > COMMAND_BYTES_MAX || raw.command.contains('\0') {
        return Err(format!(
            "{at}: command of {:?}: must be a shell line of 1 to {COMMAND_BYTES_MAX} bytes without NUL",
            raw.name
        ));
    }
    if let Some(Err(why)) = raw.junit.as_deref().map(rooted_fs::check) {
        return Err(format!(
            "{at}: junit of {:?}: {why}; name a file within the checkout, like \"report.xml\"",
            raw.name
        ));
    }
    if let Some(name) = raw.runner.as_deref().filter(|name| !runners::is_name(name)) {
        return Err(format!(
            "{at}: place of {:?}: {name:?} can't be a place's name; write the name of a place of Skep's configuration, or leave it out",
            raw.name
        ));
    }
    let timeout_secs = match raw.limit {
        None => LIMIT_SECS,
        Some(limit) => {
            let at = runner(text, Some(limit.span()));
            duration(limit.get_ref()).map_err(|why| format!("{at}: limit of {:?}: {why}", raw.name))?
        }
    };
    Ok(CheckSpec {
        name: raw.name,
        kind: raw.kind.unwrap_or(CheckKind::Test),
        command: raw.command,
        timeout_secs,
        junit: raw.junit,
        runner: raw.runner,
    })
}

fn duration(value: &toml::Value) -> Result<u64, String> {
    let text = match value {
        toml::Value::String(text) => text,
        toml::Value::Integer(n) => return Err(format!("{n} has no unit; write \"{n}s\" or \"{n}m\"")),
        _ => return Err("must be a text like \"10m\"".to_owned()),
    };
    let secs = humantime::parse_duration(text)
        .map_err(|e| format!("{text:?} is not a duration ({e}); write one like \"90s\" or \"10m\""))?
        .as_secs();
    if (1..=LIMIT_SECS_MAX).contains(&secs) {
        Ok(secs)
    } else {
        Err(format!("{text:?} is out of range; use 1s to {}h", LIMIT_SECS_MAX / 3600))
    }
}

fn tightening(at: &str, policy: Tightening) -> Result<Tightening, String> {
    for (key, patterns) in [
        ("protected_paths", &policy.protected_paths),
        ("test_paths", &policy.test_paths),
        ("forbidden_paths", &policy.forbidden_paths),
    ] {
        if patterns.len() > LIST_MAX {
            return Err(format!("{at}: {key}: has {} patterns; at most {LIST_MAX} are allowed", patterns.len()));
        }
        if let Some(why) = patterns.iter().find_map(|p| glob(p).err()) {
            return Err(format!("{at}: {key}: {why}"));
        }
    }
    let statuses = &policy.required_statuses;
    if statuses.len() > LIST_MAX || statuses.iter().any(|s| s.is_empty() || s.len() > 200) {
        return Err(format!("{at}: required_statuses: at most {LIST_MAX} names of 1 to 200 bytes are allowed"));
    }
    Ok(policy)
}

/// `.skep.toml, line 3`.
fn runner(text: &str, span: Option<Range<usize>>) -> String {
    let Some(before) = span.and_then(|s| text.get(..s.start)) else { return NAME.to_owned() };
    format!("{NAME}, line {}", before.matches('\n').count() + 1)
}

/// The message with the nearest known key, where it is about an unknown one: "unknown field `a`, expected one of `b`, `c`".
fn with_nearest(message: &str) -> String {
    let message = message.trim().replace('\n', " ");
    let mut quoted = message.split('`').skip(1).step_by(2);
    let (true, Some(wrong)) = (message.starts_with("unknown "), quoted.next()) else { return message };
    let known: Vec<&str> = quoted.collect();
    match known.iter().min_by_key(|k| distance(wrong, k)) {
        Some(near) if distance(wrong, near) <= near.len().max(3) / 2 => {
            format!("unknown key {wrong:?}; did you mean {near:?}? (known: {})", known.join(", "))
        }
        _ => format!("unknown key {wrong:?}; take it out (known: {})", known.join(", ")),
    }
}

/// Edits between two words, bounded by the length of a key.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_file_is_read_in_running_order() {
        let file = parse(
            r#"
            [[check]]
            name = "lint"
            kind = "lint"
            command = "cargo clippy"
            limit = "10m"
            [[check]]
            name = "unit"
            command = "cargo test"
            junit = "target/report.xml"
            [policy]
            protected_paths = ["deploy/**"]
            approve_merge = true
            max_files = 10
            "#,
        )
        .unwrap();
        let short: Vec<_> = file.checks.iter().map(|c| (c.name.as_str(), c.kind, c.timeout_secs)).collect();
        assert_eq!(short, [("unit", CheckKind::Test, 600), ("lint", CheckKind::Lint, 600)]);
        assert_eq!(file.checks[0].junit.as_deref(), Some("target/report.xml"));
        assert_eq!((file.policy.max_files, file.policy.approve_merge), (Some(10), true));
        assert_eq!(parse("").unwrap(), RepoFile::default());
    }

    #[test]
    fn each_mistake_names_line_key_and_fix() {
        let wrong = [
            (
                "\n[[check]]\nname = \"a\"\ncomand = \"x\"",
                ".skep.toml, line 4: unknown key \"comand\"; did you mean \"command\"?",
            ),
            ("[[check]]\nname = \"a\"", ".skep.toml, line 1: missing field `command`"),
            ("[polcy]", "line 1: unknown key \"polcy\"; did you mean \"policy\"?"),
            (
                "[policy]\napprove_merges = true",
                "line 2: unknown key \"approve_merges\"; did you mean \"approve_merge\"?",
            ),
            ("[policy]\nself_approval = true", "unknown key \"self_approval\""),
            (
                "[[check]]\nname = \"a\"\ncommand = \"x\"\nlimit = 10",
                "line 4: limit of \"a\": 10 has no unit; write \"10s\"",
            ),
            ("[[check]]\nname = \"a\"\ncommand = \"x\"\nlimit = \"9h\"", "out of range; use 1s to 4h"),
            ("[[check]]\nname = \"a\"\ncommand = \"x\"\nlimit = \"soon\"", "is not a duration"),
            ("[[check]]\nname = \"../a\"\ncommand = \"x\"", "name: \"../a\" is not usable"),
            ("[[check]]\nname = \"a\"\ncommand = \" \"", "command of \"a\""),
            ("[[check]]\nname = \"a\"\ncommand = \"x\"\njunit = \"../r.xml\"", "leads outside"),
            ("[[check]]\nname = \"a\"\ncommand = \"x\"\nplace = \"-oProxyCommand=x\"", "can't be a place's name"),
            ("[[check]]\nname = \"a\"\ncommand = \"x\"\nkind = \"tests\"", "did you mean \"test\"?"),
            (
                "[[check]]\nname=\"a\"\ncommand=\"x\"\n[[check]]\nname=\"a\"\ncommand=\"x\"",
                "two checks are named \"a\"",
            ),
            ("[policy]\nforbidden_paths = [\"[\"]", "forbidden_paths: invalid path pattern"),
            ("[policy", ".skep.toml, line 1: "),
        ];
        for (text, part) in wrong {
            let said = parse(text).unwrap_err();
            assert!(said.contains(part) && said.starts_with(".skep.toml"), "{text:?} said {said:?}");
            assert!(!said.contains('\n'), "{said:?}");
        }
        assert!(parse(&"#".repeat(BYTES_MAX + 1)).is_err());
    }
}
