//! Go: one module, a workspace, or several modules.

use super::table::quoted;
use super::tree::Tree;
use crate::domain::CheckKind::{self, Test};

/// Folders that Go itself leaves out, or that hold code of others.
const LEFT_OUT: &[&str] = &["testdata/", "vendor/", "_"];

/// Returns the check of the module or workspace of this folder. `./...` ends at the border of a module, so that each
/// module of a workspace is named.
pub fn checks(tree: Tree<'_>) -> Vec<(String, CheckKind, String)> {
    let modules = if tree.has("go.work") { work_modules(tree.text("go.work")) } else { Vec::new() };
    let patterns: Vec<String> = modules.iter().map(|dir| pattern(dir)).collect();
    let command = match patterns.is_empty() {
        false => format!("go test {}", patterns.join(" ")),
        true if tree.has("go.mod") => "go test ./...".to_owned(),
        true => return Vec::new(),
    };
    vec![("go-test".to_owned(), Test, command)]
}

/// Returns the modules in folders of any depth that have tests, each with its check; none in a workspace, which names
/// its modules.
pub fn nested<'a>(tree: Tree<'a>) -> Vec<(&'a str, (String, CheckKind, String))> {
    if tree.has("go.work") {
        return Vec::new();
    }
    let folders = tree.matches("**/go.mod").filter_map(|file| file.strip_suffix("go.mod"));
    let own = folders.filter(|dir| !dir.split_inclusive('/').any(|part| LEFT_OUT.iter().any(|l| part.starts_with(l))));
    // Modules without tests, such as tools, prove nothing.
    let tested = own.filter(|dir| tree.has(&format!("{dir}**_test.go")));
    let check = |dir: &'a str| {
        let path = dir.trim_end_matches('/');
        let name = format!("go-test-{}", super::slug(path));
        (dir, (name, Test, format!("cd {} && go test ./...", quoted(path))))
    };
    tested.map(check).collect()
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
