//! Keys of earlier versions and the keys that replaced them, and values in a syntax of earlier versions. What is old still
//! works, and is reported with what replaced it.

use super::layers::{Layer, find, joined, split_first};
use super::selectors;
use figment::value::{Dict, Tag, Value};

/// Old and new key; `*` stands for the name of one table and is carried over.
const RENAMED: &[(&str, &str)] = &[
    ("agents.*.output.did", "agents.*.output.tool_call"),
    ("agents.*.output.fix", "agents.*.output.fatal_errors"),
    ("agents.*.output.said", "agents.*.output.text"),
    ("agents.*.output.thought", "agents.*.output.reasoning"),
    ("agents.*.output.wait", "agents.*.output.retryable_errors"),
    ("agents.*.silence", "agents.*.idle_timeout"),
    ("budget.alerts", "budget.alert_percent"),
    ("checks.limit", "checks.timeout"),
    ("checks.place", "checks.runner"),
    ("checks.places", "checks.runners"),
    ("engines.dev", "role.dev.engine"),
    ("engines.manager", "role.manager.engine"),
    ("engines.reviewer", "role.reviewer.engine"),
    ("engines.scout", "role.scout.engine"),
    ("limits.wall", "limits.timeout"),
    ("places", "runners"),
    ("policy.allowed", "policy.allowed_paths"),
    ("policy.forbidden", "policy.forbidden_paths"),
    ("policy.max_losses", "policy.max_lost_attempts"),
    ("policy.protected", "policy.protected_paths"),
    ("policy.tests", "policy.test_paths"),
    ("policy.width", "policy.parallel_tasks"),
    ("project.*.checks.place", "project.*.checks.runner"),
    ("project.*.checks.places", "project.*.checks.runners"),
    ("providers.*.max_output", "providers.*.max_output_tokens"),
    ("providers.*.per_minute", "providers.*.requests_per_minute"),
    ("providers.*.silence", "providers.*.idle_timeout"),
    ("providers.*.window", "providers.*.context_window"),
    ("steps.*.wall", "steps.*.timeout"),
];

/// Moves the values of old keys to their new ones, and returns a line for each. A layer that sets both keeps the old one,
/// which is then refused.
pub(super) fn carry_over(layer: &mut Layer) -> Vec<String> {
    let mut paths = Vec::new();
    collect(&layer.values, "", &mut paths);
    let mut reports = Vec::new();
    for old in paths {
        let Some(new) = replacement(&old) else { continue };
        if find(&layer.values, &new).is_some() {
            continue;
        }
        let source = layer.source_of(&old);
        let Some(value) = take(&mut layer.values, &old) else { continue };
        put(&mut layer.values, &new, if is_patterns(&old) { patterns(value) } else { value });
        let lines = std::mem::take(&mut layer.lines);
        layer.lines = lines.into_iter().map(|(key, line)| (moved(key, &old, &new), line)).collect();
        reports.push(format!("{old} ({source}) is an old name of `{new}`"));
    }
    carry_selectors_over(layer, &mut reports);
    reports
}

/// Replaces the selectors in `[agents.NAME.output]` by expressions, and reports each.
fn carry_selectors_over(layer: &mut Layer, reports: &mut Vec<String>) {
    let mut paths = Vec::new();
    collect(&layer.values, "", &mut paths);
    for path in paths
        .into_iter()
        .filter(|path| matched("agents.*.output", path.rsplit_once('.').map_or("", |(t, _)| t)).is_some())
    {
        let Some(Value::String(_, text)) = find(&layer.values, &path) else { continue };
        let Some(expressions) = selectors::expressions(text) else { continue };
        let list = expressions.iter().map(|e| format!("{e:?}")).collect::<Vec<_>>().join(", ");
        reports
            .push(format!("{path} ({}) is in the syntax of earlier versions; write [{list}]", layer.source_of(&path)));
        put(&mut layer.values, &path, expressions.into());
    }
}

/// Whether an old key holds patterns in one text, separated by `|`.
fn is_patterns(old: &str) -> bool {
    matched("agents.*.output.wait", old).or_else(|| matched("agents.*.output.fix", old)).is_some()
}

/// Returns the patterns in one text as a list.
fn patterns(value: Value) -> Value {
    match value {
        Value::String(_, text) => {
            text.split('|').map(|p| p.trim().to_owned()).filter(|p| !p.is_empty()).collect::<Vec<_>>().into()
        }
        other => other,
    }
}

/// Appends the dotted key of each table and value, tables before what they contain.
fn collect(values: &Dict, prefix: &str, paths: &mut Vec<String>) {
    for (name, value) in values {
        let path = joined(prefix, name);
        paths.push(path.clone());
        if let Value::Dict(_, inner) = value {
            collect(inner, &path, paths);
        }
    }
}

fn take(values: &mut Dict, key: &str) -> Option<Value> {
    match split_first(key) {
        (name, None) => values.remove(name),
        (name, Some(rest)) => match values.get_mut(name)? {
            Value::Dict(_, inner) => take(inner, rest),
            _ => None,
        },
    }
}

fn put(values: &mut Dict, key: &str, value: Value) {
    match split_first(key) {
        (name, None) => drop(values.insert(name.to_owned(), value)),
        (name, Some(rest)) => {
            let table = values.entry(name.to_owned()).or_insert_with(|| Value::Dict(Tag::Default, Dict::new()));
            if let Value::Dict(_, inner) = table {
                put(inner, rest, value);
            }
        }
    }
}

/// Returns a key that is `old`, or a key below it, under its new name.
fn moved(key: String, old: &str, new: &str) -> String {
    match key.strip_prefix(old) {
        Some(rest) if rest.is_empty() || rest.starts_with('.') => format!("{new}{rest}"),
        _ => key,
    }
}

/// Returns the key that replaced `key`, if `key` is one of an earlier version.
pub(super) fn replacement(key: &str) -> Option<String> {
    RENAMED.iter().find_map(|(old, new)| {
        let name = matched(old, key)?;
        Some(new.replace('*', name))
    })
}

/// Matches `key` against a pattern and returns the part that `*` stands for (empty where the pattern has none).
fn matched<'k>(pattern: &str, key: &'k str) -> Option<&'k str> {
    let Some((before, after)) = pattern.split_once('*') else { return (pattern == key).then_some("") };
    let name = key.strip_prefix(before)?.strip_suffix(after)?;
    (!name.is_empty() && !name.contains('.')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_keys_lead_to_the_new_ones() {
        for (old, new) in [
            ("limits.wall", Some("limits.timeout")),
            ("steps.ops.wall", Some("steps.ops.timeout")),
            ("providers.my-server.window", Some("providers.my-server.context_window")),
            ("project.tally.checks.places", Some("project.tally.checks.runners")),
            ("places", Some("runners")),
            ("limits.timeout", None),
            ("steps.a.b.wall", None),
            ("steps..wall", None),
            ("silence", None),
        ] {
            assert_eq!(replacement(old).as_deref(), new, "{old}");
        }
    }
}
