//! Keys of earlier versions and the keys that replaced them. An old key is refused with its new name.

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
