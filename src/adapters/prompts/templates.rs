//! Template files: built-in, overridden file by file from a folder, validated completely before use.
//!
//! | file | holds |
//! |---|---|
//! | `<role>/system.md` | the role and its permanent rules; sees nothing of the order |
//! | `<role>/<step>.md` | the order |
//! | `shared/<name>.md` | parts that the others include |
//!
//! `FOLDER/<file>` overrides a built-in file, `FOLDER/projects/<project>/<file>` for one project.

use super::context::{self, About, MAX_PROMPT_BYTES};
use super::outside::{data, print};
use crate::domain::{Digest, Order, Step};
use crate::ports::Prompt;
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

mod sample;

/// Steps that have a prompt.
pub const STEPS: [Step; 4] = [Step::Explore, Step::Plan, Step::Develop, Step::Review];

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/prompts/", $name)))),*]
    };
}

/// Built-in templates, by name.
pub const BUILT_IN: &[(&str, &str)] = built_in![
    "dev/develop.md",
    "dev/system.md",
    "manager/plan.md",
    "manager/system.md",
    "reviewer/review.md",
    "reviewer/system.md",
    "scout/explore.md",
    "scout/system.md",
    "shared/answer.md",
    "shared/criteria.md",
    "shared/data.md",
    "shared/memory.md",
    "shared/notes.md",
    "shared/repository.md",
];

/// Upper bounds: bytes of a template, entries of a folder, projects.
const MAX_FILE_BYTES: u64 = 64 * 1024;
const MAX_FILES: usize = 256;
const MAX_PROJECTS: usize = 1_000;
/// Fuel of one rendering, a thousand times what the built-in templates need.
const FUEL: u64 = 1_000_000;

/// Templates of all projects.
#[derive(Debug)]
pub struct Templates {
    default: Set,
    /// Overrides by project name.
    projects: BTreeMap<String, Set>,
}

/// One complete set of templates.
#[derive(Debug)]
struct Set {
    env: Environment<'static>,
    files: BTreeMap<String, File>,
}

#[derive(Clone, Debug)]
struct File {
    text: String,
    /// Path of the file; `None` = built-in.
    path: Option<PathBuf>,
}

/// Template file in use, for people.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Name (`manager/plan.md`).
    pub name: String,
    /// Path of the file; `None` = built-in.
    pub path: Option<PathBuf>,
    /// SHA-256 of its bytes, in hex.
    pub digest: String,
    /// Text.
    pub text: String,
}

impl Templates {
    /// Loads the built-in templates and those of `dir`, compiles them and renders each with sample orders.
    ///
    /// # Errors
    /// File, line and cause: an unusable template is never skipped.
    pub fn load(dir: Option<&Path>) -> Result<Templates, String> {
        let own = |(name, text): &(&str, &str)| ((*name).to_owned(), File { text: (*text).to_owned(), path: None });
        let built_in: BTreeMap<String, File> = BUILT_IN.iter().map(own).collect();
        let Some(dir) = dir else { return Ok(Templates { default: Set::new(built_in)?, projects: BTreeMap::new() }) };
        let mut files = built_in;
        files.extend(read_set(dir, true)?);
        let mut projects = BTreeMap::new();
        let folder = dir.join("projects");
        for project in if folder.is_dir() { names(&folder, MAX_PROJECTS)? } else { Vec::new() } {
            let mut own = files.clone();
            own.extend(read_set(&folder.join(&project), false)?);
            projects.insert(project, Set::new(own)?);
        }
        Ok(Templates { default: Set::new(files)?, projects })
    }

    fn set(&self, project: &str) -> &Set {
        self.projects.get(project).unwrap_or(&self.default)
    }

    /// Renders the prompt of an order for a project.
    ///
    /// # Errors
    /// File and cause.
    pub(super) fn render(&self, project: &str, order: &Order, patch: &str, about: &About) -> Result<Prompt, String> {
        self.set(project).render(order, patch, about)
    }

    /// Lists what a step's prompt for a project can contain (`None`: for projects without overrides): its version, and
    /// its files by name.
    pub fn list(&self, project: Option<&str>, step: Step) -> (Digest, Vec<Listed>) {
        let set = project.map_or(&self.default, |project| self.set(project));
        let listed = |(name, file): (&String, &File)| Listed {
            name: name.clone(),
            path: file.path.clone(),
            digest: hex(&Sha256::digest(file.text.as_bytes())),
            text: file.text.clone(),
        };
        (set.version(step), set.files_of(step).map(listed).collect())
    }
}

impl Set {
    fn new(files: BTreeMap<String, File>) -> Result<Set, String> {
        let mut env = Environment::new();
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_auto_escape_callback(|_| AutoEscape::None);
        env.set_formatter(print);
        env.set_fuel(Some(FUEL));
        env.set_recursion_limit(32);
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        env.set_syntax(syntax.map_err(|e| format!("invalid syntax configuration of prompt templates: {e}"))?);
        env.add_filter("data", data);
        let mut set = Set { env, files };
        for (name, file) in &set.files {
            let added = set.env.add_template_owned(name.clone(), file.text.clone());
            added.map_err(|e| set.describe_error(&e))?;
        }
        for order in sample::orders() {
            set.render(&order, sample::PATCH, &sample::about())?;
        }
        Ok(set)
    }

    fn render(&self, order: &Order, patch: &str, about: &About) -> Result<Prompt, String> {
        let role = order.step.role().name();
        let render = |name: String, context| {
            let template = self.env.get_template(&name).map_err(|e| self.describe_error(&e))?;
            template.render(context).map_err(|e| self.describe_error(&e))
        };
        let system = render(format!("{role}/system.md"), context::role(order))?;
        let user = render(format!("{role}/{}.md", order.step.name()), context::step(order, patch, about))?;
        let size = system.len() + user.len();
        if size > MAX_PROMPT_BYTES {
            return Err(format!(
                "the prompt of {role}/{} has {size} bytes, the limit is {MAX_PROMPT_BYTES}; shorten its templates",
                order.step.name()
            ));
        }
        Ok(Prompt { system, user, version: self.version(order.step) })
    }

    /// Files that a step's prompt can contain: the two of its role and the shared ones.
    fn files_of(&self, step: Step) -> impl Iterator<Item = (&String, &File)> {
        let role = step.role().name();
        let (system, order) = (format!("{role}/system.md"), format!("{role}/{}.md", step.name()));
        self.files.iter().filter(move |(name, _)| name.starts_with("shared/") || **name == system || **name == order)
    }

    /// Returns the digest of those files.
    fn version(&self, step: Step) -> Digest {
        let mut digest = Sha256::new();
        for (name, file) in self.files_of(step) {
            for part in [name.as_bytes(), file.text.as_bytes()] {
                digest.update((part.len() as u64).to_le_bytes());
                digest.update(part);
            }
        }
        Digest(hex(&digest.finalize()))
    }

    /// Describes a template error: file, line, and the innermost cause.
    fn describe_error(&self, error: &minijinja::Error) -> String {
        let mut at = error;
        // An error in an included file is wrapped in an error of the including file.
        while let Some(inner) = std::error::Error::source(at).and_then(|s| s.downcast_ref::<minijinja::Error>()) {
            at = inner;
        }
        let name = at.name().or_else(|| error.name()).unwrap_or("?");
        let file = match self.files.get(name).and_then(|f| f.path.as_ref()) {
            Some(path) => path.display().to_string(),
            None => format!("built-in {name}"),
        };
        let line = at.line().or_else(|| error.line()).map(|l| format!(", line {l}")).unwrap_or_default();
        let detail = at.detail().map(|d| format!(": {d}")).unwrap_or_default();
        format!("prompt template {file}{line}: {}{detail}", at.kind())
    }
}

/// Reads the overriding templates of a folder, by name.
fn read_set(dir: &Path, projects_allowed: bool) -> Result<BTreeMap<String, File>, String> {
    let mut found = BTreeMap::new();
    for folder in names(dir, MAX_FILES)? {
        let path = dir.join(&folder);
        if path.is_file() && folder == "README.md" || projects_allowed && folder == "projects" && path.is_dir() {
            continue;
        }
        if !path.is_dir() {
            return Err(format!(
                "{} is not a prompt template; templates are in a folder named after their role",
                path.display()
            ));
        }
        for file in names(&path, MAX_FILES)? {
            let (name, path) = (format!("{folder}/{file}"), path.join(&file));
            let known = BUILT_IN.iter().any(|(n, _)| *n == name) || folder == "shared" && file.ends_with(".md");
            if !known {
                let replaceable: Vec<&str> = BUILT_IN.iter().map(|(n, _)| *n).collect();
                return Err(format!(
                    "{} does not override a prompt template; the templates are {}, and any shared/*.md",
                    path.display(),
                    replaceable.join(", ")
                ));
            }
            let text = read(&path).map_err(|why| format!("prompt template {}: {why}", path.display()))?;
            found.insert(name, File { text, path: Some(path) });
        }
    }
    Ok(found)
}

fn read(path: &Path) -> Result<String, String> {
    let meta = std::fs::metadata(path).map_err(|e| format!("cannot read it: {e}"))?;
    if !meta.is_file() || meta.len() > MAX_FILE_BYTES {
        return Err(format!("it must be a file of at most {MAX_FILE_BYTES} bytes"));
    }
    std::fs::read_to_string(path).map_err(|e| format!("cannot read it: {e}"))
}

/// Returns the sorted names in a folder.
fn names(dir: &Path, max_entries: usize) -> Result<Vec<String>, String> {
    let unreadable = |e: std::io::Error| format!("cannot read the prompts folder {}: {e}", dir.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned();
        if names.len() == max_entries {
            return Err(format!("the prompts folder {} has more than {max_entries} entries", dir.display()));
        }
        if !name.starts_with('.') && !name.ends_with('~') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string never fails.
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}
