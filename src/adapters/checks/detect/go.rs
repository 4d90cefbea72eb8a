//! Go: one module, a workspace, or several modules.

use super::table::quoted;
use super::tree::Tree;
use crate::domain::CheckKind::{self, Test};

/// Upper bound on the modules that are tested one by one.
const MAX_MODULES: usize = 16;
/// Folders that Go itself leaves out, or that hold code of others.
const LEFT_OUT: &[&str] = &["testdata/", "vendor/", "_"];

/// Returns the checks of a Go repository. `./...` ends at the border of a module, so that each module is named.
pub fn checks(tree: Tree<'_>) -> Vec<(String, CheckKind, String)> {
    if tree.has("go.work") {
        let modules: Vec<String> = work_modules(tree.text("go.work"));
        let patterns: Vec<String> = modules.iter().map(|dir| pattern(dir)).collect();
        if !patterns.is_empty() {
            return vec![("go-test".to_owned(), Test, format!("go test {}", patterns.join(" ")))];
        }
    }
    let mut found = Vec::new();
    if tree.has("go.mod") {
        found.push(("go-test".to_owned(), Test, "go test ./...".to_owned()));
    }
    let nested = tree.matches("**/go.mod").filter_map(|file| file.strip_suffix("go.mod"));
    let own = nested.filter(|dir| !dir.split_inclusive('/').any(|part| LEFT_OUT.iter().any(|l| part.starts_with(l))));
    // Modules without tests, such as tools, prove nothing.
    let tested = own.filter(|dir| tree.has(&format!("{dir}**_test.go")));
    for dir in tested.take(MAX_MODULES) {
        let dir = dir.trim_end_matches('/');
        found.push((format!("go-test-{}", super::slug(dir)), Test, format!("cd {} && go test ./...", quoted(dir))));
    }
    found
}

/// Returns the folders of the `use` lines of a go.work file.
fn work_modules(text: &str) -> Vec<String> {
    let mut modules = Vec::new();
    let mut in_block = false;
    for line in text.lines().filter_map(|l| l.split("//").next()).map(str::trim) {
        let dir = match line.strip_prefix("use") {
            Some(rest) if rest.trim() == "(" => {
                in_block = true;
                continue;
            }
            Some(rest) if rest.starts_with([' ', '\t']) => rest.trim(),
            _ if line == ")" => {
                in_block = false;
                continue;
            }
            _ if in_block && !line.is_empty() => line,
            _ => continue,
        };
        modules.push(dir.trim_matches('"').to_owned());
    }
    modules.truncate(200);
    modules
}

fn pattern(dir: &str) -> String {
    let dir = dir.trim_start_matches("./").trim_end_matches('/');
    match dir {
        "" | "." => "./...".to_owned(),
        dir => quoted(&format!("./{dir}/...")),
    }
}
