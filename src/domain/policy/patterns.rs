//! Path patterns, compiled once.

use globset::{Glob, GlobBuilder, GlobMatcher};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Compiles one glob as it is written: `*` stays within a folder, `**` crosses folders.
///
/// # Errors
///
/// Returns why it cannot be used.
pub fn glob(pattern: &str) -> Result<Glob, String> {
    build(pattern, false).map_err(|why| invalid(pattern, &why))
}

fn invalid(pattern: &str, why: &str) -> String {
    format!("invalid path pattern {pattern:?}: {why}")
}

/// Pattern of paths of a repository: a glob from its root. If it names a folder, it matches everything below it. A
/// leading `./` or `/` changes nothing, and `vendor/` means `vendor/**`.
#[derive(Debug)]
pub struct PathPattern {
    glob: GlobMatcher,
    /// Whether its last part may be the name of a folder: `vendor`, but not `docs/*`.
    names_folder: bool,
}

impl PathPattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    ///
    /// Returns why it cannot be used, or can never match.
    pub fn new(pattern: &str) -> Result<PathPattern, String> {
        Self::build(pattern, false).map_err(|why| invalid(pattern, &why))
    }

    /// Returns why a pattern cannot be used, without the pattern.
    pub fn problem(pattern: &str) -> Option<String> {
        Self::build(pattern, false).err()
    }

    fn build(pattern: &str, any_case: bool) -> Result<PathPattern, String> {
        let form = normalized(pattern)?;
        let last = form.rsplit('/').next().unwrap_or_default();
        Ok(PathPattern { glob: build(&form, any_case)?.compile_matcher(), names_folder: !last.contains('*') })
    }

    /// Returns whether the path of a file matches.
    pub fn matches(&self, path: &str) -> bool {
        let mut folders = path.match_indices('/').filter_map(|(end, _)| path.get(..end));
        self.glob.is_match(path) || (self.names_folder && folders.any(|folder| self.glob.is_match(folder)))
    }
}

/// Returns the one form in which a pattern is compared with the paths of git, which start at the root of the repository.
///
/// # Errors
///
/// Returns why no path can match, and what to write instead.
fn normalized(pattern: &str) -> Result<String, String> {
    let mut rest = pattern;
    while let Some(shorter) = rest.strip_prefix("./").or_else(|| rest.strip_prefix('/')) {
        rest = shorter;
    }
    let form = match rest.strip_suffix('/') {
        Some(folder) => format!("{folder}/**"),
        None => rest.to_owned(),
    };
    let part = |name: &str| form.split('/').any(|part| part == name);
    match () {
        () if form.is_empty() || form == "." => Err("it names nothing; write ** for every file".to_owned()),
        () if pattern.trim() != pattern => Err("remove the spaces around it".to_owned()),
        () if part("..") => Err("it leaves the repository; write it from the root, such as vendor/**".to_owned()),
        () if part("") || part(".") => Err("it has an empty part; write one / between two names".to_owned()),
        () if form.contains('\\') => {
            Err("it contains \\; write / between folders, and [*] for the character *".to_owned())
        }
        () if form.starts_with('!') => Err("a pattern cannot be negated; write what it matches".to_owned()),
        () => Ok(form),
    }
}

/// Checks that every pattern of a list can be used.
///
/// # Errors
///
/// Returns why one cannot.
pub fn require_usable(patterns: &[String]) -> Result<(), String> {
    match Patterns::of(patterns).list.iter().position(Option::is_none) {
        Some(index) => patterns.get(index).map_or(Ok(()), |pattern| PathPattern::new(pattern).map(drop)),
        None => Ok(()),
    }
}

fn build(pattern: &str, any_case: bool) -> Result<Glob, String> {
    if pattern.len() > 256 {
        return Err(format!("it has {} bytes; at most 256 are allowed", pattern.len()));
    }
    GlobBuilder::new(pattern)
        .literal_separator(true)
        .case_insensitive(any_case)
        .build()
        .map_err(|e| e.kind().to_string())
}

/// Upper bound on cached compiled patterns. Each takes about ten kilobytes.
const MAX_COMPILED: usize = 256;

/// Compiled patterns, by pattern and whether it matches in any case; `None` = does not compile.
type Compiled = BTreeMap<(String, bool), Option<Arc<PathPattern>>>;

/// Cache of compiled patterns. Runs share the same few patterns, and compiling one costs as much as matching it against
/// thousands of paths.
static COMPILED: Mutex<Compiled> = Mutex::new(BTreeMap::new());

fn compiled(pattern: &str, any_case: bool) -> Option<Arc<PathPattern>> {
    let cache = || COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (pattern.to_owned(), any_case);
    if let Some(matcher) = cache().get(&key) {
        return matcher.clone();
    }
    let matcher = PathPattern::build(pattern, any_case).ok().map(Arc::new);
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
pub(super) struct Patterns {
    list: Arc<[Option<Arc<PathPattern>>]>,
    restricts: bool,
}

impl Patterns {
    /// Patterns that permit.
    pub fn of(patterns: &[String]) -> Self {
        Self::cached(patterns, false)
    }
    /// Patterns that restrict. They match in any case, because file systems and tools may ignore it: `.GITMODULES`,
    /// `Claude.md`.
    pub fn restricting(patterns: &[String]) -> Self {
        Self::cached(patterns, true)
    }
    fn cached(patterns: &[String], restricts: bool) -> Self {
        let cache = || LISTS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(list) = cache().get(&restricts).and_then(|lists| lists.get(patterns)) {
            return list.clone();
        }
        let list = Self { list: patterns.iter().map(|p| compiled(p, restricts)).collect(), restricts };
        let mut cache = cache();
        let lists = cache.entry(restricts).or_default();
        if lists.len() >= MAX_LISTS {
            lists.clear();
        }
        lists.insert(patterns.to_vec(), list.clone());
        list
    }
    /// Returns the index of the first pattern that matches. One that does not compile matches everything if it
    /// restricts and nothing if it permits: a broken rule must not weaken the policy.
    pub fn position(&self, path: &str) -> Option<usize> {
        self.list.iter().position(|p| p.as_ref().map_or(self.restricts, |p| p.matches(path)))
    }
    /// Returns whether any pattern matches.
    pub fn match_any(&self, path: &str) -> bool {
        self.position(path).is_some()
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
        for _cached in [false, true] {
            assert!(
                Patterns::restricting(&["[".to_owned()]).match_any("any"),
                "a broken rule must not weaken the policy"
            );
            assert!(!Patterns::of(&["[".to_owned()]).match_any("any"), "nor permit anything");
        }
    }

    #[test]
    fn a_pattern_matches_in_every_form_in_which_people_write_it() {
        let vendor =
            ["vendor/**", "vendor/", "/vendor/**", "./vendor/**", "/vendor", "vendor", ".//vendor", "{vendor,x}"];
        for pattern in vendor {
            let found = PathPattern::new(pattern).unwrap();
            assert!(found.matches("vendor/a.c") && found.matches("vendor/b/c.h"), "{pattern}");
            assert!(!found.matches("vendored/a.c") && !found.matches("src/vendor/a.c"), "{pattern}");
        }
        let matches = |pattern: &str, path: &str| PathPattern::new(pattern).unwrap().matches(path);
        assert!(matches("**/.git", "a/.git/config") && matches("Cargo.lock", "Cargo.lock"));
        assert!(!matches("docs/*", "docs/a/b.md") && !matches("**/*.lock", "a.lock/b"), "* stays within a folder");
    }

    #[test]
    fn a_pattern_that_can_never_match_is_refused_with_what_to_write() {
        for (pattern, part) in [
            ("", "write ** for every file"),
            ("./", "write ** for every file"),
            (".", "write ** for every file"),
            ("../x", "write it from the root, such as vendor/**"),
            ("a/../x", "leaves the repository"),
            ("a//b", "one / between"),
            ("a/./b", "one / between"),
            (" vendor/**", "remove the spaces"),
            ("vendor\\**", "write / between folders"),
            ("!vendor/**", "cannot be negated"),
            ("vendor/{", "invalid path pattern"),
        ] {
            let why = PathPattern::new(pattern).unwrap_err();
            assert!(why.contains(part), "{pattern}: {why}");
        }
    }
}
