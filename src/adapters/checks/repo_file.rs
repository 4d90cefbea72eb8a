//! Parses `.skep.toml`: a repository's own checks, and how it tightens its policy.
//!
//! Invariant: this module takes text, never a path. The caller reads the file at the base commit, so a change cannot
//! bring its own rules.

use crate::adapters::runner::settings::is_name;
use crate::domain::policy::{PathPattern, Tightening};
use crate::domain::{CheckKind, CheckSpec};
use crate::platform::rooted_fs;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::ops::Range;

/// Name of the file, in the root folder of the repository.
pub const NAME: &str = ".skep.toml";
/// Upper bound on the size of the file, in bytes.
pub const MAX_BYTES: usize = 64 * 1024;
/// Upper bound on its checks.
const MAX_CHECKS: usize = 32;
/// Upper bound on the entries of one list.
const MAX_LIST: usize = 100;
/// Upper bound on a command, in bytes.
const MAX_COMMAND_BYTES: usize = 4 * 1024;
/// Keys of earlier versions and their new names.
const RENAMED: [(&str, &str); 6] = [
    ("limit", "timeout"),
    ("place", "runner"),
    ("protected", "protected_paths"),
    ("tests", "test_paths"),
    ("forbidden", "forbidden_paths"),
    ("allowed", "allowed_paths"),
];
/// Default timeout of a check, and its upper bound, in seconds.
const DEFAULT_TIMEOUT_SECS: u64 = 600;
const MAX_TIMEOUT_SECS: u64 = 4 * 3600;

/// Returns whether a path of the repository is the file's, or lies in a folder of its name.
pub fn is_at(path: &str) -> bool {
    path.strip_prefix(NAME).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Content of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepoFile {
    /// Checks in the order they run; empty = none defined.
    pub checks: Vec<CheckSpec>,
    /// Restrictions that the file adds to the policy.
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
    kind: Option<RawKind>,
    command: String,
    #[serde(default)]
    timeout: Option<toml::Spanned<toml::Value>>,
    #[serde(default)]
    junit: Option<String>,
    #[serde(default)]
    runner: Option<String>,
}

/// Kinds of checks that a repository may name. Acceptance criteria come from the spec of a run.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawKind {
    Setup,
    Test,
    Lint,
    Scan,
}

impl From<RawKind> for CheckKind {
    fn from(kind: RawKind) -> CheckKind {
        match kind {
            RawKind::Setup => CheckKind::Setup,
            RawKind::Test => CheckKind::Test,
            RawKind::Lint => CheckKind::Lint,
            RawKind::Scan => CheckKind::Scan,
        }
    }
}

/// Parses the text of the file.
///
/// # Errors
/// One line of text: the file, the line, the key, the problem and the fix.
pub fn parse(text: &str) -> Result<RepoFile, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("{NAME}: has {} bytes; at most {MAX_BYTES} are allowed", text.len()));
    }
    let raw: Raw = toml::from_str(text).map_err(|e| {
        let location = location(text, e.span());
        format!("{location}: {}", explain(e.message()))
    })?;
    if raw.check.len() > MAX_CHECKS {
        return Err(format!("{NAME}: has {} checks; at most {MAX_CHECKS} are allowed", raw.check.len()));
    }
    let mut names = BTreeSet::new();
    let mut checks = Vec::new();
    for raw in raw.check {
        let at = location(text, Some(raw.span()));
        let spec = check(text, &at, raw.into_inner())?;
        if !names.insert(spec.name.clone()) {
            return Err(format!("{at}: name: two checks are named {:?}; give each a unique name", spec.name));
        }
        checks.push(spec);
    }
    // A stable sort keeps the file's order within each kind.
    checks.sort_by_key(|c| c.kind);
    let policy = match raw.policy {
        None => Tightening::default(),
        Some(policy) => {
            let at = location(text, Some(policy.span()));
            tightening(&at, policy.into_inner())?
        }
    };
    Ok(RepoFile { checks, policy })
}

fn check(text: &str, at: &str, raw: RawCheck) -> Result<CheckSpec, String> {
    let valid = (1..=64).contains(&raw.name.len())
        && raw.name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && raw.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if !valid {
        return Err(format!(
            "{at}: name: {:?} is invalid; use 1 to 64 letters, digits, '-', '_' and '.', starting with a letter or digit",
            raw.name
        ));
    }
    if raw.command.trim().is_empty() || raw.command.len() > MAX_COMMAND_BYTES || raw.command.contains('\0') {
        return Err(format!(
            "{at}: command of {:?}: must be a shell line of 1 to {MAX_COMMAND_BYTES} bytes without NUL",
            raw.name
        ));
    }
    if let Some(Err(why)) = raw.junit.as_deref().map(rooted_fs::check) {
        return Err(format!(
            "{at}: junit of {:?}: {why}; use a file within the checkout, such as \"report.xml\"",
            raw.name
        ));
    }
    if let Some(name) = raw.runner.as_deref().filter(|name| !is_name(name)) {
        return Err(format!(
            "{at}: runner of {:?}: {name:?} is not a valid runner name; use the name of a runner from Skep's configuration, or remove the key",
            raw.name
        ));
    }
    let timeout_secs = match raw.timeout {
        None => DEFAULT_TIMEOUT_SECS,
        Some(timeout) => {
            let at = location(text, Some(timeout.span()));
            duration(timeout.get_ref()).map_err(|why| format!("{at}: timeout of {:?}: {why}", raw.name))?
        }
    };
    Ok(CheckSpec {
        name: raw.name,
        kind: raw.kind.map_or(CheckKind::Test, CheckKind::from),
        command: raw.command,
        timeout_secs,
        junit: raw.junit,
        runner: raw.runner,
        detected: false,
    })
}

fn duration(value: &toml::Value) -> Result<u64, String> {
    let text = match value {
        toml::Value::String(text) => text,
        toml::Value::Integer(n) => return Err(format!("{n} has no unit; write \"{n}s\" or \"{n}m\"")),
        _ => return Err("must be a string such as \"10m\"".to_owned()),
    };
    let secs = humantime::parse_duration(text)
        .map_err(|e| format!("{text:?} is not a duration ({e}); write for example \"90s\" or \"10m\""))?
        .as_secs();
    if (1..=MAX_TIMEOUT_SECS).contains(&secs) {
        Ok(secs)
    } else {
        Err(format!("{text:?} is out of range: use 1s to {}h", MAX_TIMEOUT_SECS / 3600))
    }
}

fn tightening(at: &str, policy: Tightening) -> Result<Tightening, String> {
    for (key, patterns) in [
        ("protected_paths", &policy.protected_paths),
        ("test_paths", &policy.test_paths),
        ("forbidden_paths", &policy.forbidden_paths),
    ] {
        if patterns.len() > MAX_LIST {
            return Err(format!("{at}: {key}: has {} patterns; at most {MAX_LIST} are allowed", patterns.len()));
        }
        if let Some(why) = patterns.iter().find_map(|p| PathPattern::new(p).err()) {
            return Err(format!("{at}: {key}: {why}"));
        }
    }
    let statuses = &policy.required_statuses;
    if statuses.len() > MAX_LIST || statuses.iter().any(|s| s.is_empty() || s.len() > 200) {
        return Err(format!("{at}: required_statuses: at most {MAX_LIST} names of 1 to 200 bytes are allowed"));
    }
    Ok(policy)
}

/// Formats a position as `.skep.toml, line 3`.
fn location(text: &str, span: Option<Range<usize>>) -> String {
    let Some(before) = span.and_then(|s| text.get(..s.start)) else { return NAME.to_owned() };
    format!("{NAME}, line {}", before.matches('\n').count() + 1)
}

/// Turns serde's "unknown field `a`, expected one of `b`, `c`" into a message with the fix. Other messages stay as they
/// are.
fn explain(message: &str) -> String {
    let message = message.trim().replace('\n', " ");
    let mut quoted = message.split('`').skip(1).step_by(2);
    let (true, Some(wrong)) = (message.starts_with("unknown "), quoted.next()) else { return message };
    let known: Vec<&str> = quoted.collect();
    if let Some((_, new)) = RENAMED.iter().find(|(old, new)| *old == wrong && known.contains(new)) {
        return format!("key {wrong:?} was renamed; use {new:?}");
    }
    match known.iter().min_by_key(|k| strsim::levenshtein(wrong, k)) {
        Some(nearest) if strsim::levenshtein(wrong, nearest) <= nearest.len().max(3) / 2 => {
            format!("unknown key {wrong:?}; did you mean {nearest:?}? (known: {})", known.join(", "))
        }
        _ => format!("unknown key {wrong:?}; remove it (known: {})", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_checks_in_the_order_they_run() {
        let file = parse(
            r#"
            [[check]]
            name = "lint"
            kind = "lint"
            command = "cargo clippy"
            timeout = "10m"
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
        let checks: Vec<_> = file.checks.iter().map(|c| (c.name.as_str(), c.kind, c.timeout_secs)).collect();
        assert_eq!(checks, [("unit", CheckKind::Test, 600), ("lint", CheckKind::Lint, 600)]);
        assert_eq!(file.checks[0].junit.as_deref(), Some("target/report.xml"));
        assert_eq!((file.policy.max_files, file.policy.approve_merge), (Some(10), true));
        assert_eq!(parse("").unwrap(), RepoFile::default());
    }

    #[test]
    fn each_mistake_names_line_key_and_fix() {
        let cases = [
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
                "[[check]]\nname = \"a\"\ncommand = \"x\"\ntimeout = 10",
                "line 4: timeout of \"a\": 10 has no unit; write \"10s\"",
            ),
            ("[[check]]\nname = \"a\"\ncommand = \"x\"\ntimeout = \"9h\"", "out of range: use 1s to 4h"),
            ("[[check]]\nname = \"a\"\ncommand = \"x\"\ntimeout = \"soon\"", "is not a duration"),
            ("[[check]]\nname = \"../a\"\ncommand = \"x\"", "name: \"../a\" is invalid"),
            ("[[check]]\nname = \"a\"\ncommand = \" \"", "command of \"a\""),
            ("[[check]]\nname = \"a\"\ncommand = \"x\"\njunit = \"../r.xml\"", "leads outside"),
            ("[[check]]\nname = \"a\"\ncommand = \"x\"\nrunner = \"-oProxyCommand=x\"", "is not a valid runner name"),
            ("[[check]]\nname = \"a\"\ncommand = \"x\"\nplace = \"box\"", "key \"place\" was renamed; use \"runner\""),
            ("[[check]]\nname = \"a\"\ncommand = \"x\"\nkind = \"tests\"", "did you mean \"test\"?"),
            ("[[check]]\nname = \"a\"\ncommand = \"x\"\nkind = \"accept\"", "unknown key \"accept\""),
            (
                "[[check]]\nname=\"a\"\ncommand=\"x\"\n[[check]]\nname=\"a\"\ncommand=\"x\"",
                "two checks are named \"a\"",
            ),
            ("[policy]\nforbidden_paths = [\"[\"]", "forbidden_paths: invalid path pattern"),
            ("[policy", ".skep.toml, line 1: "),
        ];
        for (text, part) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part) && error.starts_with(".skep.toml"), "{text:?}: {error:?}");
            assert!(!error.contains('\n'), "{error:?}");
        }
        assert!(parse(&"#".repeat(MAX_BYTES + 1)).is_err());
    }
}
