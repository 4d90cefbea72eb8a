//! Finds the module in whose place a new file is loaded, by the names beside it: a package beside a module, a compiled
//! module beside its source.

/// Endings of modules that Python prefers to `.py`.
const COMPILED: &[&str] = &[".so", ".pyd"];
/// Endings of JavaScript, which most resolvers prefer to those of TypeScript.
const SCRIPTS: &[&str] = &[".js", ".mjs", ".cjs", ".jsx"];
const TYPED: &[&str] = &[".ts", ".tsx", ".mts", ".cts"];

/// Splits a path into its folder, its name up to the first dot, and the rest of the name.
fn parts(path: &str) -> (&str, &str, &str) {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let at = name.find('.').unwrap_or(name.len());
    (folder, &name[..at], &name[at..])
}

fn inside(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Returns the folders whose names decide whether a new file takes the place of another.
pub(super) fn folders(path: &str) -> Vec<String> {
    let (folder, stem, rest) = parts(path);
    let loaded = COMPILED.iter().chain(SCRIPTS).any(|ending| rest.ends_with(ending));
    match (stem, rest) {
        ("__init__", ".py") => vec![parts(folder).0.to_owned()],
        (_, ".py") => vec![inside(folder, stem)],
        _ if loaded => vec![folder.to_owned(), inside(folder, stem)],
        _ => Vec::new(),
    }
}

/// Returns what a new file is loaded instead of. `old` returns the names in a folder that are not new.
pub(super) fn shadowed(path: &str, old: &impl Fn(&str) -> Vec<String>) -> Option<String> {
    let (folder, stem, rest) = parts(path);
    let is_old = |folder: &str, name: &str| old(folder).iter().any(|n| n == name);
    let beside = |endings: &[&str]| {
        let name = endings.iter().map(|ending| format!("{stem}{ending}")).find(|name| is_old(folder, name))?;
        Some(inside(folder, &name))
    };
    let own = inside(folder, stem);
    let index = |endings: &[&str]| endings.iter().any(|ending| is_old(&own, &format!("index{ending}")));
    match (stem, rest) {
        ("__init__", ".py") => {
            let (above, package) = folder.rsplit_once('/').unwrap_or(("", folder));
            is_old(above, &format!("{package}.py")).then(|| format!("{folder}.py"))
        }
        // A folder without __init__.py is a package only if there is no module of its name.
        (_, ".py") => {
            let names = old(&own);
            (names.iter().any(|n| n.ends_with(".py")) && !names.iter().any(|n| n == "__init__.py")).then(|| own.clone())
        }
        _ if COMPILED.iter().any(|ending| rest.ends_with(ending)) => beside(&[".py"]),
        _ if SCRIPTS.contains(&rest) => beside(TYPED).or_else(|| (index(SCRIPTS) || index(TYPED)).then(|| own.clone())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_takes_the_place_of_a_module_is_found() {
        let files = [
            "tests/test_a.py",
            "pkg/__init__.py",
            "pkg/b.py",
            "data/x.csv",
            "test_calc.py",
            "lib/a.py",
            "web/calc.ts",
            "web/view.tsx",
            "web/parts/index.js",
            "web/old.js",
        ];
        let old = |folder: &str| {
            let is_here = |file: &&str| file.rsplit_once('/').map_or("", |(folder, _)| folder) == folder;
            let name = |file: &str| file.rsplit('/').next().unwrap_or(file).to_owned();
            files.into_iter().filter(is_here).map(name).collect::<Vec<_>>()
        };
        for (path, other) in [
            ("test_calc/__init__.py", Some("test_calc.py")),
            ("lib/a/__init__.py", Some("lib/a.py")),
            ("lib/a.so", Some("lib/a.py")),
            ("lib/a.cpython-312-x86_64-linux-gnu.so", Some("lib/a.py")),
            ("web/calc.js", Some("web/calc.ts")),
            ("web/view.mjs", Some("web/view.tsx")),
            ("web/parts.js", Some("web/parts")),
            ("tests.py", Some("tests")),
            ("pkg.py", None),
            ("data.py", None),
            ("a/__init__.py", None),
            ("lib/b.py", None),
            ("lib/a.js", None),
            ("web/calc.test.js", None),
            ("web/old.ts", None),
            ("__init__.py", None),
            ("a", None),
        ] {
            assert_eq!(shadowed(path, &old).as_deref(), other, "{path}");
            assert!(other.is_none() || !folders(path).is_empty(), "{path}");
        }
    }
}
