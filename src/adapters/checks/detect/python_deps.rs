//! What a Python project declares: its dependencies, and where it names pytest.

use super::table::uncommented;
use super::tree::{Tree, key};
use toml::Value;

/// Upper bound on listed requirements, so that a command stays readable.
const MAX_NAMES: usize = 40;
/// Files of requirements for tests, in order; the first that exists is taken, besides requirements.txt.
const TEST_REQUIREMENTS: &[&str] = &[
    "requirements-test.txt",
    "requirements-tests.txt",
    "test-requirements.txt",
    "requirements_test.txt",
    "requirements/test.txt",
    "requirements/tests.txt",
    "tests/requirements.txt",
    "requirements-dev.txt",
    "requirements_dev.txt",
    "dev-requirements.txt",
    "requirements/dev.txt",
    "requirements/development.txt",
];

/// Where a program is declared.
#[derive(Default)]
pub struct Declaration {
    /// With the dependencies that are always installed.
    pub always: bool,
    /// In this group.
    pub group: Option<String>,
    /// In this extra.
    pub extra: Option<String>,
    /// In a file of another form, such as tox.ini.
    pub elsewhere: bool,
}

impl Declaration {
    /// Returns whether it is declared anywhere.
    pub fn is_declared(&self) -> bool {
        self.always || self.group.is_some() || self.extra.is_some() || self.elsewhere
    }
}

/// What a project declares.
#[derive(Default)]
pub struct Declared {
    /// The project's own name.
    pub project: Option<String>,
    /// Whether it can be installed.
    pub is_installable: bool,
    /// Names of packages that it needs on every platform.
    pub names: Vec<String>,
    /// Files of requirements.
    pub requirements: Vec<&'static str>,
    /// Requirements of the group that names pytest.
    pub group_requirements: Vec<String>,
    /// Where pytest is declared.
    pub pytest: Declaration,
    /// A program that is declared nowhere.
    pub none: Declaration,
}

/// Reads what a project declares.
pub fn declared(tree: Tree<'_>) -> Declared {
    let pyproject = tree.toml("pyproject.toml");
    let texts = |keys: &[&str]| key(&pyproject, keys).map(strings).unwrap_or_default();
    let mut found = Declared {
        project: key(&pyproject, &["project", "name"]).and_then(Value::as_str).and_then(requirement_name),
        is_installable: tree.has("setup.py")
            || key(&pyproject, &["project"]).is_some()
            || pyproject.contains_key("build-system"),
        ..Declared::default()
    };
    for name in
        texts(&["project", "dependencies"]).iter().filter(|r| !r.contains(';')).filter_map(|r| requirement_name(r))
    {
        add(&mut found.names, name);
    }
    for requirement in setup_requirements(tree) {
        requirement_name(&requirement).into_iter().for_each(|name| add(&mut found.names, name));
    }
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for table in [&["dependency-groups"][..], &["tool", "pdm", "dev-dependencies"]] {
        groups.extend(
            key(&pyproject, table)
                .and_then(Value::as_table)
                .into_iter()
                .flatten()
                .map(|(n, v)| (n.clone(), strings(v))),
        );
    }
    for (name, group) in key(&pyproject, &["tool", "poetry", "group"]).and_then(Value::as_table).into_iter().flatten() {
        let dependencies = group.get("dependencies").and_then(Value::as_table);
        groups.push((name.clone(), dependencies.into_iter().flatten().map(|(n, _)| n.clone()).collect()));
    }
    let default =
        key(&pyproject, &["tool", "uv", "default-groups"]).map(strings).unwrap_or_else(|| vec!["dev".to_owned()]);
    // A group named for tests says best what they need.
    groups.sort_by_key(|(name, _)| !name.contains("test"));
    if let Some((name, group)) = groups.into_iter().find(|(_, group)| group.iter().any(|r| is_pytest(r))) {
        found.pytest.always = default.contains(&name);
        found.group_requirements =
            group.iter().map(|r| plain_quotes(r)).filter(|r| is_plain(r)).take(MAX_NAMES).collect();
        found.pytest.group = Some(name);
    }
    let extras = key(&pyproject, &["project", "optional-dependencies"]).and_then(Value::as_table);
    let mut extras: Vec<(&String, Vec<String>)> = extras.into_iter().flatten().map(|(n, v)| (n, strings(v))).collect();
    extras.sort_by_key(|(name, _)| !name.contains("test"));
    let is_name = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    // A plugin in an extra for something else, such as documentation, is not there for the project's tests.
    let for_tests = |name: &str| ["test", "dev", "ci"].iter().any(|word| name.to_ascii_lowercase().contains(word));
    let names_pytest = |name: &str, requirement: &str| match for_tests(name) {
        true => is_pytest(requirement),
        false => requirement_name(requirement).is_some_and(|name| name.eq_ignore_ascii_case("pytest")),
    };
    found.pytest.extra =
        extras.into_iter().find(|(n, e)| is_name(n) && e.iter().any(|r| names_pytest(n, r))).map(|(n, _)| n.clone());
    found.pytest.always |= texts(&["project", "dependencies"]).iter().any(|r| is_pytest(r))
        || texts(&["tool", "uv", "dev-dependencies"]).iter().any(|r| is_pytest(r))
        || ["dependencies", "dev-dependencies"].into_iter().any(|table| {
            let poetry = key(&pyproject, &["tool", "poetry", table]).and_then(Value::as_table);
            poetry.into_iter().flatten().any(|(name, _)| is_pytest(name))
        });
    for file in
        ["requirements.txt"].iter().chain(TEST_REQUIREMENTS.iter().find(|f| tree.has(f))).filter(|f| tree.has(f))
    {
        found.requirements.push(file);
        for line in
            tree.text(file).lines().map(|l| uncommented(l).trim()).filter(|l| !l.is_empty() && !l.starts_with('-'))
        {
            found.pytest.always |= is_pytest(line);
            if let Some(name) = requirement_name(line).filter(|_| !line.contains(';') && !line.contains("://")) {
                add(&mut found.names, name);
            }
        }
    }
    found.pytest.elsewhere = declares_elsewhere(tree);
    found
}

/// Returns whether a file of another form installs pytest or calls it: tox, nox, setup.cfg, setup.py, Pipfile, Hatch.
fn declares_elsewhere(tree: Tree<'_>) -> bool {
    ["tox.ini", "tox.toml", "setup.cfg", "setup.py", "noxfile.py", "Pipfile", "hatch.toml"].iter().any(|file| {
        let words = |line: &str| {
            let is_part = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            uncommented(line).split(|c| !is_part(c)).any(is_pytest)
        };
        tree.text(file).lines().any(words)
    }) || key(&tree.toml("pyproject.toml"), &["tool", "hatch", "envs"]).is_some_and(|envs| {
        let envs = envs.to_string();
        envs.split(['"', '\'', ' ']).any(is_pytest)
    })
}

/// Returns the requirements that setup.py or setup.cfg lists by itself.
fn setup_requirements(tree: Tree<'_>) -> Vec<String> {
    let of_py = tree.text("setup.py").split_once("install_requires").map_or("", |(_, rest)| rest);
    let list = of_py.trim_start().strip_prefix('=').map_or("", str::trim_start).strip_prefix('[').unwrap_or("");
    let list = list.split(']').next().unwrap_or("");
    let of_cfg = tree.text("setup.cfg").lines().skip_while(|l| !l.starts_with("install_requires")).skip(1);
    let of_cfg = of_cfg.take_while(|l| l.starts_with([' ', '\t'])).map(|l| l.trim().to_owned());
    let quoted = list.split(['"', '\'']).skip(1).step_by(2).map(str::to_owned);
    quoted.chain(of_cfg).filter(|r| !r.contains(';')).collect()
}

fn add(names: &mut Vec<String>, name: String) {
    if names.len() < MAX_NAMES && !names.contains(&name) {
        names.push(name);
    }
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

/// Returns the name of a requirement such as `pytest>=8; python_version > "3.9"`.
fn requirement_name(requirement: &str) -> Option<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let text = requirement.trim();
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    let name = &text[..end];
    (name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.len() <= 100).then(|| name.to_owned())
}

/// Returns whether a requirement is pytest or one of its plugins.
fn is_pytest(requirement: &str) -> bool {
    requirement_name(requirement).is_some_and(|name| {
        let name = name.to_ascii_lowercase().replace('_', "-");
        name == "pytest" || name.starts_with("pytest-")
    })
}

/// Returns a requirement with the other quotes around the values of its marker: they mean the same (PEP 508).
fn plain_quotes(requirement: &str) -> String {
    if requirement.contains('"') { requirement.to_owned() } else { requirement.replace('\'', "\"") }
}

/// Returns whether a requirement can be written between single quotes.
fn is_plain(requirement: &str) -> bool {
    requirement_name(requirement).is_some() && requirement.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'\'')
}
