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

/// Checks that every pattern of a list can be used.
///
/// # Errors
///
/// Returns why one cannot.
pub fn require_usable(patterns: &[String]) -> Result<(), String> {
    match Patterns::of(patterns).0.iter().position(Option::is_none) {
        Some(index) => patterns.get(index).map_or(Ok(()), |pattern| glob(pattern).map(drop)),
        None => Ok(()),
    }
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

/// Upper bound on cached lists. Each takes about as much as its text.
const MAX_LISTS: usize = 64;

/// Cache of lists of patterns: a policy is asked about the same few lists at every step of every run.
static LISTS: Mutex<BTreeMap<bool, BTreeMap<Vec<String>, Patterns>>> = Mutex::new(BTreeMap::new());

/// A list of compiled patterns.
#[derive(Clone)]
pub(super) struct Patterns(Arc<[Option<Arc<GlobMatcher>>]>);

impl Patterns {
    pub fn of(patterns: &[String]) -> Self {
        Self::cached(patterns, false)
    }
    /// Patterns that restrict. They match in any case, because file systems and tools may ignore it: `.GITMODULES`,
    /// `Claude.md`.
    pub fn restricting(patterns: &[String]) -> Self {
        Self::cached(patterns, true)
    }
    fn cached(patterns: &[String], any_case: bool) -> Self {
        let cache = || LISTS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(list) = cache().get(&any_case).and_then(|lists| lists.get(patterns)) {
            return list.clone();
        }
        let list = Self(patterns.iter().map(|p| compiled(p, any_case)).collect());
        let mut cache = cache();
        let lists = cache.entry(any_case).or_default();
        if lists.len() >= MAX_LISTS {
            lists.clear();
        }
        lists.insert(patterns.to_vec(), list.clone());
        list
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
            assert!(LISTS.lock().unwrap().values().all(|lists| lists.len() <= MAX_LISTS));
        }
        assert!(Patterns::of(&["[".to_owned()]).match_any("any"), "a broken rule must not weaken the policy");
        assert!(Patterns::of(&["[".to_owned()]).match_any("any"), "nor when it is cached");
    }
}
