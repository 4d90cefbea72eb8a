//! The modules of the runtime import each other without a cycle.

use super::{TextFile, code, sources};
use std::collections::{BTreeMap, BTreeSet};

/// The module of `actors` that a file belongs to: `src/actors/run/load.rs` belongs to `run`.
fn module_of(path: &str) -> Option<&str> {
    let inner = path.strip_prefix("src/actors/")?;
    let module = inner.split(['/', '.']).next()?;
    (module != "mod").then_some(module)
}

/// The modules of `actors` that a file imports.
fn imports(file: &TextFile) -> BTreeSet<String> {
    // `super` is `actors` in a file of the folder itself, `super::super` in one of a folder below it.
    let to_actors = "super::".repeat(file.path.matches('/').count() - 1);
    let code = code(&file.text);
    // In an inline test module, `super` means something else.
    let code = code.split("mod tests {").next().unwrap_or_default();
    let word = |text: &str| text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
    let relative = code.match_indices(&to_actors).filter(|(at, _)| !code[..*at].ends_with("super::"));
    let absolute = code.match_indices("crate::actors::");
    let names = relative.chain(absolute).map(|(at, path)| word(&code[at + path.len()..]));
    names.filter(|name| name != "super" && !name.is_empty()).collect()
}

/// Repeatedly removes the modules that import no remaining module. The modules that are left are on a cycle or import
/// one that is.
fn cyclic(mut graph: BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    loop {
        let modules: BTreeSet<String> = graph.keys().cloned().collect();
        graph.retain(|_, imports| imports.iter().any(|name| modules.contains(name)));
        if graph.len() == modules.len() {
            return modules.into_iter().collect();
        }
    }
}

fn graph(files: &[TextFile]) -> BTreeMap<String, BTreeSet<String>> {
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files {
        if let Some(module) = module_of(&file.path) {
            let others = imports(file).into_iter().filter(|name| name != module);
            graph.entry(module.to_owned()).or_default().extend(others);
        }
    }
    graph
}

#[test]
fn the_modules_of_the_runtime_have_no_import_cycle() {
    let graph = graph(&sources());
    assert!(graph.len() > 15 && graph["root"].contains("run"), "{graph:?}");
    assert_eq!(cyclic(graph), Vec::<String>::new());
}

#[test]
fn a_planted_cycle_is_found() {
    let file = |path: &str, text: &str| TextFile { path: path.to_owned(), text: text.to_owned() };
    let files = [
        file("src/actors/a.rs", "use super::b::{B, C};\n"),
        file("src/actors/b/part.rs", "use super::super::a::A;\nuse super::State;\n"),
        file("src/actors/leaf.rs", "use crate::domain::Run;\n"),
    ];
    assert_eq!(cyclic(graph(&files)), ["a", "b"]);
}
