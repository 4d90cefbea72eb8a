//! Path patterns, compiled once.

use globset::{Glob, GlobBuilder, GlobMatcher};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Compiles one path pattern: `*` stays within a folder, `**` crosses folders.
///
/// # Errors
///
/// Returns why the pattern cannot be used.
pub fn glob(pattern: &str) -> Result<Glob, String> {
    build(pattern, false)
}

fn build(pattern: &str, any_case: bool) -> Result<Glob, String> {
    if pattern.len() > 256 {
        return Err(format!("path pattern of {} bytes is longer than 256", pattern.len()));
    }
    GlobBuilder::new(pattern)
        .literal_separator(true)
        .case_insensitive(any_case)
        .build()
        .map_err(|e| format!("invalid path pattern {pattern:?}: {}", e.kind()))
}

/// Upper bound on cached compiled patterns. Each takes about ten kilobytes.
const MAX_COMPILED: usize = 256;

/// Compiled patterns, by pattern and whether it matches in any case; `None` = does not compile.
type Compiled = BTreeMap<(String, bool), Option<Arc<GlobMatcher>>>;

/// Cache of compiled patterns. Runs share the same few patterns, and compiling one costs as much as matching it against
/// thousands of paths.
static COMPILED: Mutex<Compiled> = Mutex::new(BTreeMap::new());

fn compiled(pattern: &str, any_case: bool) -> Option<Arc<GlobMatcher>> {
    let cache = || COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (pattern.to_owned(), any_case);
    if let Some(matcher) = cache().get(&key) {
        return matcher.clone();
    }
    let matcher = build(pattern, any_case).ok().map(|glob| Arc::new(glob.compile_matcher()));
    let mut cache = cache();
    if cache.len() >= MAX_COMPILED {
        cache.clear();
    }
    cache.insert(key, matcher.clone());
    matcher
}

/// A list of compiled patterns.
pub(super) struct Patterns(Vec<Option<Arc<GlobMatcher>>>);

impl Patterns {
    pub fn of(patterns: &[String]) -> Self {
        Self(patterns.iter().map(|p| compiled(p, false)).collect())
    }
    /// Patterns that restrict. They match in any case, because file systems and tools may ignore it: `.GITMODULES`,
    /// `Claude.md`.
    pub fn restricting(patterns: &[String]) -> Self {
        Self(patterns.iter().map(|p| compiled(p, true)).collect())
    }
    /// Returns whether any pattern matches. A pattern that does not compile matches everything: a broken rule must not
    /// weaken the policy.
    pub fn match_any(&self, path: &str) -> bool {
        self.0.iter().any(|g| g.as_ref().is_none_or(|g| g.is_match(path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiled_pattern_cache_is_bounded_and_matches_like_fresh_patterns() {
        for n in 0..MAX_COMPILED * 3 {
            let patterns = Patterns::of(&[format!("folder-{n}/*"), format!("**/{n}.rs")]);
            assert!(patterns.match_any(&format!("folder-{n}/a")) && patterns.match_any(&format!("a/b/{n}.rs")));
            assert!(!patterns.match_any(&format!("folder-{n}/a/b")));
            assert!(COMPILED.lock().unwrap().len() <= MAX_COMPILED);
        }
        assert!(Patterns::of(&["[".to_owned()]).match_any("any"), "a broken rule must not weaken the policy");
        assert!(Patterns::of(&["[".to_owned()]).match_any("any"), "nor when it is cached");
    }
}
