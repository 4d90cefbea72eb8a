//! Rules of a spec beyond its form.

use super::read::{SpecProblem, brief};
use super::{SpecFile, WrittenCriterion};
use crate::domain::Spec;
use crate::domain::policy::PathPattern;
use serde_saphyr::Spanned;

const VERSION: u32 = 1;
pub(super) const MAX_ID_CHARS: usize = 40;
pub(super) const MAX_TITLE_CHARS: usize = 200;
const MAX_GOAL_CHARS: usize = 16 * 1024;
pub(super) const MAX_CRITERION_CHARS: usize = 500;
const MAX_COMMAND_CHARS: usize = 4096;
const MAX_NON_GOALS: usize = 20;
const MAX_NON_GOAL_CHARS: usize = 500;
const MAX_PATHS: usize = 50;
const MAX_PATH_CHARS: usize = 256;
/// Longest time limit of a command: a day, as for other checks.
const MAX_TIMEOUT_SECS: u64 = 24 * 60 * 60;

/// Returns every violated rule, in the order of the file.
pub(super) fn violations(file: &SpecFile) -> Vec<SpecProblem> {
    let mut found = Vec::new();
    let mut report = |at: serde_saphyr::Location, what: String| found.push(SpecProblem::new(at, what));
    if file.spec.value != VERSION {
        let what = format!("spec: version {} is unknown; this program reads version {VERSION}", file.spec.value);
        report(file.spec.referenced, what);
    }
    let mut check = |key: String, text: &Spanned<String>, why: Option<String>| {
        if let Some(why) = why {
            report(text.referenced, format!("{key}: {why}"));
        }
    };
    check("id".to_owned(), &file.id, not_a_name(&file.id.value));
    check("title".to_owned(), &file.title, not_a_line(&file.title.value, MAX_TITLE_CHARS));
    check("goal".to_owned(), &file.goal, not_a_text(&file.goal.value, MAX_GOAL_CHARS));
    for (n, criterion) in file.acceptance.value.iter().enumerate() {
        let earlier = file.acceptance.value.iter().take(n);
        let twice = earlier.filter(|e| e.id.value == criterion.id.value).count() > 0;
        let WrittenCriterion { id, text, command, timeout } = criterion;
        let key = |name: &str| format!("acceptance[{n}].{name}");
        let why = twice.then(|| format!("`{}` is the name of an earlier criterion, too", brief(&id.value)));
        check(key("id"), id, not_a_name(&id.value).or(why));
        check(key("text"), text, not_a_line(&text.value, MAX_CRITERION_CHARS));
        if let Some(command) = command {
            check(key("command"), command, not_a_text(&command.value, MAX_COMMAND_CHARS));
        }
        if let Some(timeout) = timeout {
            let alone = command.is_none().then(|| "a time limit needs a `command`".to_owned());
            check(key("timeout"), timeout, not_a_timeout(&timeout.value).or(alone));
        }
    }
    for (n, text) in file.non_goals.iter().enumerate() {
        check(format!("non_goals[{n}]"), text, not_a_line(&text.value, MAX_NON_GOAL_CHARS));
    }
    for (n, pattern) in file.forbidden_paths.iter().enumerate() {
        let why = not_a_line(&pattern.value, MAX_PATH_CHARS).or_else(|| PathPattern::new(&pattern.value).err());
        check(format!("forbidden_paths[{n}]"), pattern, why);
    }
    let criteria = file.acceptance.value.len();
    if criteria == 0 || criteria > Spec::MAX_CRITERIA {
        let what = format!(
            "acceptance: it has {criteria} criteria; 1 to {} are allowed. Split a larger goal into several specs",
            Spec::MAX_CRITERIA
        );
        report(file.acceptance.referenced, what);
    }
    for (key, texts, max) in
        [("non_goals", &file.non_goals, MAX_NON_GOALS), ("forbidden_paths", &file.forbidden_paths, MAX_PATHS)]
    {
        if let Some(beyond) = texts.get(max) {
            report(beyond.referenced, format!("{key}: it has {} entries; at most {max} are allowed", texts.len()));
        }
    }
    found
}

/// Returns the seconds of a time limit, such as `90s`, `5m` or `1h`.
pub(super) fn seconds(text: &str) -> Option<u64> {
    let units = [("s", 1), ("m", 60), ("h", 3600)];
    let (digits, factor) = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    let is_number = (1..=5).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| is_number && !digits.starts_with('0'))?;
    Some(number * factor).filter(|seconds| *seconds <= MAX_TIMEOUT_SECS)
}

fn not_a_timeout(text: &str) -> Option<String> {
    let what = || format!("{:?} is not a time limit up to 24h; write it as 30s, 5m or 1h", brief(text));
    seconds(text).is_none().then(what)
}

fn not_a_name(text: &str) -> Option<String> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let fits = text.len() <= MAX_ID_CHARS && text.bytes().all(allowed) && !text.is_empty() && !text.starts_with('-');
    let what = || {
        format!(
            "{:?} is not a name; use 1 to {MAX_ID_CHARS} lower-case letters, digits and hyphens, no hyphen first",
            brief(text)
        )
    };
    (!fits).then(what)
}

fn not_a_text(text: &str, max_chars: usize) -> Option<String> {
    let chars = text.chars().count();
    match () {
        () if text.trim().is_empty() => Some("it is empty".to_owned()),
        () if chars > max_chars => Some(format!("it has {chars} characters; the limit is {max_chars}")),
        () if text.contains('\0') => Some("it contains a NUL character".to_owned()),
        () => None,
    }
}

fn not_a_line(text: &str, max_chars: usize) -> Option<String> {
    not_a_text(text, max_chars).or_else(|| {
        text.trim().chars().any(char::is_control).then(|| "it must be one line without control characters".to_owned())
    })
}
