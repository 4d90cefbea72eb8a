//! The files of a repository at one commit, and the patterns that detection asks for.

use std::collections::BTreeMap;

/// Files of a repository, seen from one of its folders.
#[derive(Clone, Copy)]
pub struct Tree<'a> {
    /// All paths, in order.
    paths: &'a [&'a str],
    /// Texts of the files that were read, by path.
    texts: &'a BTreeMap<String, String>,
    /// The folder: empty, or with a slash at its end.
    folder: &'a str,
}

impl<'a> Tree<'a> {
    /// A view of the complete repository. `paths` must be in order.
    pub fn new(paths: &'a [&'a str], texts: &'a BTreeMap<String, String>) -> Self {
        Self { paths, texts, folder: "" }
    }

    /// The same view from `folder`, which ends with a slash.
    pub fn within(self, folder: &'a str) -> Self {
        Self { folder, ..self }
    }

    /// Returns the folder of this view; empty for the root, else with a slash at its end.
    pub fn folder(&self) -> &'a str {
        self.folder
    }

    /// Returns the paths beneath this folder, relative to it.
    pub fn files(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let folder = self.folder;
        let from = self.paths.partition_point(|p| *p < folder);
        self.paths[from..].iter().map_while(move |p| p.strip_prefix(folder))
    }

    /// Returns the files that match a pattern, in order.
    pub fn matches(&self, pattern: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let pattern = pattern.to_owned();
        self.files().filter(move |path| matches(&pattern, path))
    }

    /// Returns whether a file matches one of the patterns, which `|` separates.
    pub fn has(&self, patterns: &str) -> bool {
        self.first(patterns).is_some()
    }

    /// Returns the first file that matches one of the patterns, which `|` separates; earlier patterns come first.
    pub fn first(&self, patterns: &str) -> Option<&'a str> {
        patterns.split('|').find_map(|pattern| self.first_of(pattern))
    }

    fn first_of(&self, pattern: &str) -> Option<&'a str> {
        let Some(star) = pattern.find('*') else {
            // Found by its place in the order, because most patterns are plain names.
            let whole = format!("{}{pattern}", self.folder);
            let at = self.paths.partition_point(|p| *p < whole.as_str());
            let path = self.paths.get(at)?;
            let found = if pattern.ends_with('/') { path.starts_with(&whole) } else { *path == whole };
            return if found { path.strip_prefix(self.folder) } else { None };
        };
        let start = format!("{}{}", self.folder, &pattern[..star]);
        let from = self.paths.partition_point(|p| *p < start.as_str());
        let near = self.paths[from..].iter().take_while(|p| p.starts_with(&start));
        near.filter_map(|p| p.strip_prefix(self.folder)).find(|p| matches(pattern, p))
    }

    /// Returns the text of a file of this folder; empty if there is none, or if it was not read.
    pub fn text(&self, name: &str) -> &'a str {
        self.texts.get(&format!("{}{name}", self.folder)).map_or("", String::as_str)
    }

    /// Returns a JSON file; `null` if it is missing or malformed.
    pub fn json(&self, name: &str) -> serde_json::Value {
        serde_json::from_str(self.text(name)).unwrap_or_default()
    }

    /// Returns a TOML file; empty if it is missing or malformed.
    pub fn toml(&self, name: &str) -> toml::Table {
        self.text(name).parse().unwrap_or_default()
    }
}

/// Returns the table or value at a path of keys.
pub fn key<'t>(table: &'t toml::Table, keys: &[&str]) -> Option<&'t toml::Value> {
    let (first, rest) = keys.split_first()?;
    let value = table.get(*first)?;
    if rest.is_empty() { Some(value) } else { key(value.as_table()?, rest) }
}

/// Returns whether a path matches a pattern: a name; `spec/` anything in a folder; `*` within a folder and `**` across
/// folders.
fn matches(pattern: &str, path: &str) -> bool {
    match pattern.ends_with('/') && !pattern.contains('*') {
        true => path.starts_with(pattern),
        false => fits(pattern, path),
    }
}

fn fits(pattern: &str, path: &str) -> bool {
    let Some((start, end)) = pattern.split_once('*') else { return path == pattern };
    let Some(rest) = path.strip_prefix(start) else { return false };
    let (end, across) = end.strip_prefix('*').map_or((end, false), |end| (end, true));
    let skips = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    let mut skips = skips.take_while(|at| across || !rest[..*at].contains('/'));
    // The usual end has no star: compared once.
    match end.contains('*') {
        false => rest.strip_suffix(end).is_some_and(|middle| across || !middle.contains('/')),
        true => skips.any(|at| fits(end, &rest[at..])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names_folders_and_stars() {
        for (pattern, yes, no) in [
            ("go.mod", "go.mod", "a/go.mod"),
            ("spec/", "spec/a_spec.rb", "specs/a"),
            ("*.sln", "a.sln", "src/a.sln"),
            ("**.csproj", "src/a/b.csproj", "src/a/b.cs"),
            ("test/**_test.rb", "test/models/a_test.rb", "tests/a_test.rb"),
            ("tests/test_*", "tests/test_a.py", "tests/a/test_b.py"),
            ("**/test_*.py", "a/b/test_c.py", "a/b/c_test.py"),
            ("src/**test_*.py", "src/a/test_ü.py", "src/a/test_b/c.py"),
        ] {
            assert!(matches(pattern, yes), "{pattern} {yes}");
            assert!(!matches(pattern, no), "{pattern} {no}");
        }
    }

    #[test]
    fn a_folder_sees_only_its_own_files() {
        let paths = ["a/go.mod", "a/sub/x.go", "ab/go.mod", "go.mod"];
        let texts = BTreeMap::from([("a/go.mod".to_owned(), "module a".to_owned())]);
        let tree = Tree::new(&paths, &texts).within("a/");
        assert_eq!(tree.files().collect::<Vec<_>>(), ["go.mod", "sub/x.go"]);
        assert_eq!((tree.text("go.mod"), tree.first("x|sub/|go.mod")), ("module a", Some("sub/x.go")));
        assert!(tree.has("**.go") && !tree.has("ab/"));
    }
}
