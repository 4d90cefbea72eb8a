//! JavaScript: the package manager that the repository uses, and its test script.

use super::tree::Tree;
use crate::domain::CheckKind::{self, Setup, Test};
use serde_json::Value;

/// A package manager.
struct Manager {
    name: &'static str,
    /// Files that only this manager writes; `|` separates them.
    signs: &'static str,
    /// Installs exactly what the lock file lists.
    locked: &'static str,
    /// Installs without a lock file, and writes none.
    unlocked: &'static str,
    /// Runs the test script of the root folder.
    test: &'static str,
    /// Runs the test scripts of all packages of a workspace that have one.
    test_all: &'static str,
}

/// The managers, in the order in which their files are searched for.
const MANAGERS: &[Manager] = &[
    Manager {
        name: "pnpm",
        signs: "pnpm-lock.yaml|pnpm-workspace.yaml",
        locked: "pnpm install --frozen-lockfile",
        unlocked: "pnpm install --no-lockfile",
        test: "pnpm test",
        test_all: "pnpm -r --if-present run test",
    },
    Manager {
        name: "yarn-berry",
        signs: ".yarnrc.yml",
        locked: "yarn install --immutable",
        unlocked: "yarn install --no-immutable",
        test: "yarn run test",
        test_all: "yarn workspaces foreach --all run test",
    },
    Manager {
        name: "yarn",
        signs: "yarn.lock",
        locked: "yarn install --frozen-lockfile --non-interactive",
        unlocked: "yarn install --no-lockfile --non-interactive",
        test: "yarn run test",
        test_all: "yarn workspaces run test",
    },
    Manager {
        name: "bun",
        signs: "bun.lock|bun.lockb",
        locked: "bun install --frozen-lockfile",
        unlocked: "bun install --no-save",
        test: "bun run test",
        test_all: "bun run --filter '*' test",
    },
    Manager {
        name: "npm",
        signs: "package-lock.json|npm-shrinkwrap.json",
        locked: "npm ci --no-audit --no-fund",
        unlocked: "npm install --no-audit --no-fund --no-package-lock",
        test: "npm test",
        test_all: "npm test --workspaces --if-present",
    },
];

/// Runtimes whose own test runner is used when a package has no test script.
const RUNNERS: &[(&str, &str, &str)] = &[
    ("bun-test", "bun.lock|bun.lockb", "bun test"),
    ("node-test", "test/**.test.js|test/**.test.mjs|test/**.test.cjs|*.test.js|*.test.mjs", "node --test"),
];

/// Returns the checks of a package.
pub fn checks(tree: Tree<'_>) -> Vec<(String, CheckKind, String)> {
    if tree.has("deno.json|deno.jsonc") && !tree.has("package.json") {
        return vec![deno(tree)];
    }
    if !tree.has("package.json") {
        return Vec::new();
    }
    let package = tree.json("package.json");
    let Ok(manager) = manager(tree, &package) else { return Vec::new() };
    let test = match (test_script(&package), members(tree, &package)) {
        (true, _) => (format!("{}-test", short(manager)), manager.test),
        (false, true) => (format!("{}-test", short(manager)), manager.test_all),
        // `node:test` files without a script: only where the package does not ask for another runner.
        (false, false) => match RUNNERS.iter().find(|(_, files, _)| tree.has(files)) {
            Some((name, _, command)) if !has_entries(&package, "devDependencies") => ((*name).to_owned(), *command),
            _ => return Vec::new(),
        },
    };
    let berry = berry_release(tree).filter(|_| manager.name == "yarn-berry");
    // The release in the repository needs no Yarn on the machine.
    let command = |line: &str| match &berry {
        Some(file) => line.replacen("yarn", &format!("node {file}"), 1),
        None => line.to_owned(),
    };
    let is_locked = lock(manager, tree);
    let needs_install = is_locked
        || ["dependencies", "devDependencies", "optionalDependencies", "peerDependencies", "workspaces"]
            .into_iter()
            .any(|key| has_entries(&package, key));
    let install = if is_locked { manager.locked } else { manager.unlocked };
    let setup = needs_install.then(|| (format!("{}-install", short(manager)), Setup, command(install)));
    setup.into_iter().chain([(test.0, Test, command(test.1))]).collect()
}

/// Explains why a package has no check.
pub fn missing(tree: Tree<'_>) -> Option<String> {
    let package = tree.json("package.json");
    match (tree.has("package.json"), package.is_object()) {
        (false, _) => None,
        (true, false) => Some("package.json is not valid JSON".to_owned()),
        (true, true) => match manager(tree, &package) {
            Ok(_) if package["scripts"]["test"].is_string() => {
                Some("package.json has only the script \"test\" that `npm init` writes, which always fails".to_owned())
            }
            Ok(_) => Some("package.json has no script \"test\"".to_owned()),
            Err(unknown) => {
                Some(format!("package.json names the package manager {unknown:?}, which Skep does not know"))
            }
        },
    }
}

fn short(manager: &Manager) -> &'static str {
    manager.name.split('-').next().unwrap_or(manager.name)
}

/// Chooses the manager: `packageManager` decides, else a script that allows no other, else the lock file, else what only
/// that manager understands, else npm.
///
/// # Errors
/// The name of a manager that is not known.
fn manager(tree: Tree<'_>, package: &Value) -> Result<&'static Manager, String> {
    let is_berry = |m: &&Manager| m.name == "yarn" && tree.text("yarn.lock").contains("__metadata:");
    let found = match named(package).or_else(|| only_allowed(package)) {
        // Yarn changed its options with version 2.
        Some(("yarn", version)) if !version.is_empty() && !version.starts_with('1') => by_name("yarn-berry"),
        Some((name, _)) => Some(by_name(name).ok_or_else(|| name.chars().take(40).collect::<String>())?),
        None => MANAGERS.iter().find(|m| tree.has(m.signs)).or_else(|| needed(package)),
    };
    let found = match found {
        Some(m) if is_berry(&m) => by_name("yarn-berry"),
        found => found,
    };
    // The last one is npm.
    Ok(found.unwrap_or(&MANAGERS[MANAGERS.len() - 1]))
}

fn by_name(name: &str) -> Option<&'static Manager> {
    MANAGERS.iter().find(|m| m.name == name)
}

/// Returns the manager that the package names, and its version.
fn named(package: &Value) -> Option<(&str, &str)> {
    let wanted = &package["devEngines"]["packageManager"];
    let wanted = wanted.get(0).unwrap_or(wanted)["name"].as_str();
    let text = package["packageManager"].as_str().or(wanted)?.trim();
    (!text.is_empty()).then(|| text.split_once('@').unwrap_or((text, "")))
}

/// Returns the only manager that the preinstall script of a package accepts.
fn only_allowed(package: &Value) -> Option<(&str, &str)> {
    let mut words = package["scripts"]["preinstall"].as_str()?.split_whitespace();
    words.find(|word| *word == "only-allow" || word.starts_with("only-allow@"))?;
    Some((words.next()?, ""))
}

/// Returns the manager without which the package cannot be installed: npm refuses these dependencies.
fn needed(package: &Value) -> Option<&'static Manager> {
    let lists = ["dependencies", "devDependencies", "optionalDependencies", "peerDependencies"];
    let sources = || lists.iter().filter_map(|key| package[*key].as_object()).flatten().filter_map(|(_, v)| v.as_str());
    let uses = |protocols: &[&str]| sources().any(|source| protocols.iter().any(|p| source.starts_with(p)));
    let engines = &package["engines"];
    match () {
        () if engines["pnpm"].is_string() => by_name("pnpm"),
        () if engines["yarn"].is_string() => {
            let version =
                engines["yarn"].as_str().unwrap_or_default().trim_start_matches(['>', '<', '=', '^', '~', ' ', 'v']);
            by_name(if version.starts_with(|c: char| ('2'..='9').contains(&c)) { "yarn-berry" } else { "yarn" })
        }
        () if engines["bun"].is_string() && !engines["node"].is_string() => by_name("bun"),
        () if uses(&["portal:", "patch:"]) => by_name("yarn-berry"),
        () if uses(&["workspace:", "catalog:", "link:"]) => by_name("pnpm"),
        () => None,
    }
}

fn lock(manager: &Manager, tree: Tree<'_>) -> bool {
    match manager.name {
        "pnpm" => tree.has("pnpm-lock.yaml"),
        "yarn-berry" => tree.has("yarn.lock"),
        _ => tree.has(manager.signs),
    }
}

fn berry_release(tree: Tree<'_>) -> Option<String> {
    let file = tree.first(".yarn/releases/*.cjs")?;
    file.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b)).then(|| file.to_owned())
}

/// Returns whether a package has a test script that can succeed: the one `npm init` writes always fails.
fn test_script(package: &Value) -> bool {
    package["scripts"]["test"].as_str().is_some_and(|s| !s.trim().is_empty() && !s.contains("no test specified"))
}

/// Returns whether a package of the workspace has a test script.
fn members(tree: Tree<'_>, package: &Value) -> bool {
    let is_workspace = has_entries(package, "workspaces") || tree.has("pnpm-workspace.yaml");
    is_workspace && tree.matches("**/package.json").any(|file| test_script(&tree.json(file)))
}

fn has_entries(package: &Value, key: &str) -> bool {
    match &package[key] {
        Value::Object(entries) => !entries.is_empty(),
        Value::Array(entries) => !entries.is_empty(),
        _ => false,
    }
}

fn deno(tree: Tree<'_>) -> (String, CheckKind, String) {
    let file = if tree.has("deno.json") { "deno.json" } else { "deno.jsonc" };
    // The file may contain comments, which a parser of JSON refuses.
    let tasks = tree.text(file).split_once("\"tasks\"").map_or("", |(_, rest)| rest);
    let has_task = tasks.split('}').next().is_some_and(|tasks| tasks.contains("\"test\""));
    let command = if has_task { "deno task test" } else { "deno test --allow-all" };
    ("deno-test".to_owned(), Test, command.to_owned())
}
