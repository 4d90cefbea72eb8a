//! Suggests what an unknown key was meant to be.

/// Returns the fix for a key that does not exist.
pub(super) fn unknown_fix(path: &str, is_table: bool, texts: bool, known: &[String]) -> String {
    let last = path.rsplit('.').next().unwrap_or(path).to_ascii_lowercase();
    let words = ["password", "secret", "token", "api_key", "apikey", "credential"];
    if (last == "key" || words.iter().any(|w| last.contains(w)))
        && nearest(path, known).is_none_or(|k| !k.ends_with(&last))
    {
        return "do not write secrets here: use a *_file or *_env key that names where the secret is".into();
    }
    // Unquoted, `commander.js` is a table within another one, unless that is a misspelled table of a project.
    if let Some((project, rest)) = path.strip_prefix("project.").and_then(|rest| rest.split_once('.'))
        && (is_table && !texts && !project.starts_with('"'))
        && !known.iter().any(|k| is_near_table(k, project, rest))
    {
        return format!("put a project's name that contains dots in quotes: [project.\"{project}.{rest}\".…]");
    }
    let mut tables: Vec<String> =
        known.iter().flat_map(|k| k.match_indices('.').map(|(at, _)| k[..at].to_owned())).collect();
    tables.dedup();
    if is_table && let Some(k) = nearest(path, &tables) {
        return format!("did you mean [{k}]?");
    }
    match nearest(path, known) {
        Some(k) if texts => format!("did you mean {}?", variable(k)),
        Some(k) => format!("did you mean {k}?"),
        None => "remove it; config/default.toml lists every key".into(),
    }
}

/// Returns whether a known key lies in a table of a project whose name is similar to `table`.
fn is_near_table(key: &str, project: &str, table: &str) -> bool {
    let rest = key.strip_prefix("project.").and_then(|k| k.strip_prefix(project)).and_then(|k| k.strip_prefix('.'));
    let name = rest.and_then(|rest| rest.split('.').next());
    name.is_some_and(|name| strsim::normalized_damerau_levenshtein(name, table) >= 0.6)
}

/// Returns the environment variable of a key.
pub(super) fn variable(key: &str) -> String {
    format!("SKEP_{}", key.replace('.', "__").to_ascii_uppercase())
}

/// Returns the known key most similar to `path`, if any: by its whole path, or by its last part in another table.
pub(super) fn nearest<'k>(path: &str, known: &'k [String]) -> Option<&'k str> {
    // A long text is not a typo, and the distance takes quadratic time.
    if path.len() > 100 {
        return None;
    }
    let normalized = path.to_ascii_lowercase().replace('-', "_");
    let last = |k: &str| k.rsplit('.').next().unwrap_or(k).to_owned();
    let similarity = |k: &str| {
        let whole = strsim::normalized_damerau_levenshtein(&normalized, k);
        whole.max(0.9 * strsim::normalized_damerau_levenshtein(&last(&normalized), &last(k)))
    };
    let best = known.iter().map(|k| (similarity(k), k.as_str())).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= 0.7).then_some(best.1)
}
