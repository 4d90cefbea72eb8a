//! Tools of the agent loop, per step. Every call, even an invalid one, ends in a text for the model.

use super::history::{Call, Outcome};
use crate::domain::{ProjectName, Step};
use crate::platform::access::broker::AccessBroker;
use crate::platform::rooted_fs::RootedDir;
use crate::platform::sandbox::Sandbox;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

mod edit;
mod list;
mod near;
mod patch;
mod read;
mod run;
mod search;
mod spelling;
mod syntax;
mod walk;

pub use run::Executed;
use syntax::{FileChange, Syntax};

/// Name of the tool that runs a shell command.
pub const RUN: &str = "run";
/// Name of the tool that ends the session with its result.
pub const DONE: &str = "done";
/// Name of the tool that ends the session with a question.
pub const ASK: &str = "ask";

/// Upper bound of one tool result, in bytes.
pub const MAX_RESULT_BYTES: usize = 64 * 1024;
/// Upper bound of a file that is read or edited, in bytes.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Declaration of a tool, as the model sees it.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Name.
    pub name: &'static str,
    /// Description for the model.
    pub description: &'static str,
    /// JSON Schema of the arguments.
    pub schema: Value,
}

/// Result of one tool call.
struct ToolResult {
    text: String,
    changed: Vec<FileChange>,
    ok: bool,
}

impl ToolResult {
    fn read_only(text: String) -> ToolResult {
        ToolResult { text, changed: Vec::new(), ok: true }
    }
}

/// Tools of one session.
pub struct Tools {
    tree: Arc<RootedDir>,
    step: Step,
    sandbox: Sandbox,
    env: ToolEnv,
    syntax: Syntax,
}

/// Environment of the commands that a model runs.
#[derive(Clone, Debug)]
pub struct ToolEnv {
    /// Worktree.
    pub dir: PathBuf,
    /// Cache folder of the attempt.
    pub cache: PathBuf,
    /// The project's working copy on this machine.
    pub origin: Option<PathBuf>,
    /// Scratch folder, removed after the attempt.
    pub scratch: PathBuf,
    /// Project, for its egress rules.
    pub project: ProjectName,
    /// Grants network access to a command.
    pub access_broker: AccessBroker,
}

/// Returns the paths that a patch changes, as far as it can be read.
pub fn patch_paths(text: &str) -> Vec<String> {
    patch::paths(text)
}

/// Applies a patch below a folder, as the tool `patch` does: whole, or not at all.
///
/// # Errors
/// What does not fit.
pub fn apply_patch(tree: &RootedDir, text: &str) -> Result<(), String> {
    patch::apply(tree, text)
}

impl Tools {
    /// Creates the tools of a step in an open worktree.
    pub fn new(tree: Arc<RootedDir>, step: Step, sandbox: Sandbox, env: ToolEnv) -> Tools {
        Tools { tree, step, sandbox, env, syntax: Syntax::default() }
    }

    /// Declarations of this step's tools. `answer` is the schema of the step's result.
    pub fn specs(&self, answer: Value) -> Vec<Spec> {
        let mut specs = vec![read::spec(), list::spec(), search::spec()];
        if self.may_edit() {
            specs.extend([edit::spec(), patch::spec(), edit::write_spec()]);
        }
        if self.may_run() {
            specs.push(run::spec());
        }
        specs.push(Spec {
            name: ASK,
            description: "Ends the session with a question. Use it only if you cannot continue without an answer that you cannot find yourself.",
            schema: object(json!({
                "question": {"type": "string", "description": "The question, including what you found out and the options you see."},
                "to": {"type": "string", "enum": ["person", "scout"],
                    "description": "person (default): the question needs a decision. scout: the question needs a fact from the repository."},
            }), &["question"]),
        });
        specs.push(Spec { name: DONE, description: "Ends the session with its result.", schema: answer });
        specs
    }

    /// Executes a command line of Skep's own in the worktree, as `run` does.
    ///
    /// # Errors
    /// Why it could not be started.
    pub async fn execute(&self, line: &str, limit: Duration) -> Result<Executed, String> {
        run::execute(&self.sandbox, &self.env, line, limit).await
    }

    /// Returns whether the checks of the project receive secrets, which no command of a session does.
    pub fn lacks_check_secrets(&self) -> bool {
        !self.env.access_broker.grants(&self.env.project).check_secrets.is_empty()
    }

    /// The worktree.
    pub fn tree(&self) -> Arc<RootedDir> {
        self.tree.clone()
    }

    fn may_edit(&self) -> bool {
        self.step == Step::Develop
    }

    /// Returns whether the step may run commands. A reviewer may run tests. Its worktree is discarded afterwards.
    fn may_run(&self) -> bool {
        matches!(self.step, Step::Develop | Step::Review)
    }

    /// Executes a call within `left`. The session handles `done` and `ask` itself.
    pub async fn call(&self, call: &Call, left: Duration) -> Outcome {
        let call = &Call { args: spelling::usual(&call.tool, &call.args, &self.env.dir), ..call.clone() };
        let result = match &call.invalid {
            Some(why) => Err(why.clone()),
            None => self.dispatch(call, left).await,
        };
        let (text, ok, changed) = match result {
            Ok(ToolResult { mut text, changed, ok }) => {
                text.push_str(&self.syntax.errors(&self.sandbox, &self.env, &changed, left).await);
                (text, ok, changed.into_iter().map(|change| change.path).collect())
            }
            Err(why) => (format!("error: {why}"), false, Vec::new()),
        };
        Outcome {
            id: call.id.clone(),
            tool: call.tool.clone(),
            what: describe(call),
            text: truncate_middle(&text, MAX_RESULT_BYTES),
            ok,
            changed,
        }
    }

    async fn dispatch(&self, call: &Call, left: Duration) -> Result<ToolResult, String> {
        match call.tool.as_str() {
            "read" => {
                let args = args(call)?;
                self.blocking(move |tree| read::read(tree, &args).map(ToolResult::read_only)).await
            }
            "list" => {
                let args = args(call)?;
                self.blocking(move |tree| list::list(tree, &args).map(ToolResult::read_only)).await
            }
            "search" => {
                let args = args(call)?;
                self.blocking(move |tree| search::search(tree, &args).map(ToolResult::read_only)).await
            }
            "edit" if self.may_edit() => {
                let args = args(call)?;
                self.blocking(move |tree| edit::edit(tree, &args)).await
            }
            "patch" if self.may_edit() => {
                let args = args(call)?;
                self.blocking(move |tree| patch::patch(tree, &args)).await
            }
            "write" if self.may_edit() => {
                let args = args(call)?;
                self.blocking(move |tree| edit::write(tree, &args)).await
            }
            RUN if self.may_run() => run::run(&self.sandbox, &self.env, args(call)?, left).await,
            other => {
                let names: Vec<&str> = self.specs(Value::Null).iter().map(|s| s.name).collect();
                let other = truncate_middle(other, 80);
                Err(format!("tool {other:?} does not exist in this step; available tools: {}", names.join(", ")))
            }
        }
    }

    /// Runs file work on the blocking thread pool.
    async fn blocking(
        &self,
        operation: impl FnOnce(&RootedDir) -> Result<ToolResult, String> + Send + 'static,
    ) -> Result<ToolResult, String> {
        let tree = self.tree.clone();
        tokio::task::spawn_blocking(move || operation(&tree))
            .await
            .unwrap_or_else(|e| Err(format!("the tool failed: {e}. This is a defect in Skep")))
    }
}

/// Describes a call in one line, for live output and for the digest.
pub fn describe(call: &Call) -> String {
    let word = |key: &str| call.args.get(key).and_then(Value::as_str).unwrap_or_default();
    let of = match call.tool.as_str() {
        "read" | "edit" | "write" | "list" => word("path").to_owned(),
        "search" => format!("{:?} {}", word("pattern"), word("path")),
        "patch" => patch::files(word("patch")),
        RUN => word("command").to_owned(),
        ASK => word("question").to_owned(),
        _ => String::new(),
    };
    let tool = truncate_middle(&call.tool, 40);
    crate::platform::terminal_text::sanitize(format!("{tool} {}", truncate_middle(&of, 300)).trim_end().as_bytes())
}

/// Parses the arguments of a call strictly.
///
/// # Errors
/// The cause, for the model.
pub fn args<T: DeserializeOwned>(call: &Call) -> Result<T, String> {
    T::deserialize(&call.args).map_err(|e| format!("invalid arguments for {}: {e}", call.tool))
}

/// Returns the JSON Schema of an object without additional properties.
fn object(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// Converts a path as a model writes it to the form [`RootedDir`] takes. Refuses `.git` in every spelling that a file
/// system may accept.
fn path(given: &str) -> Result<&str, String> {
    let path = given.strip_prefix("./").unwrap_or(given);
    match path.split('/').any(is_git) {
        true => Err(format!("{path:?} is inside .git; do not access it")),
        false => Ok(path),
    }
}

/// Converts a folder path; "" and "." are the worktree itself.
fn folder(given: Option<&str>) -> Result<&str, String> {
    match given.unwrap_or_default().trim_end_matches('/') {
        "" if given.is_some_and(|g| g.starts_with('/')) => Err("use a path relative to the worktree".to_owned()),
        "" | "." => Ok(""),
        given => path(given),
    }
}

/// Returns whether some file system takes the name for `.git`: case, trailing dots and spaces, short names, ignored
/// characters.
fn is_git(name: &str) -> bool {
    let ignored =
        |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let plain: String = name.chars().filter(|c| !ignored(*c)).collect();
    let plain = plain.trim_end_matches(['.', ' ']).to_ascii_lowercase();
    plain.split(':').next() == Some(".git") || plain == "git~1"
}

/// Quotes a path relative to the worktree for the shell.
pub fn quoted(path: &str) -> String {
    format!("'./{}'", path.replace('\'', "'\\''"))
}

/// Shortens a text to at most `max_bytes`: keeps two thirds of them from its beginning and one from its end, and states
/// in between how much is missing.
pub fn truncate_middle(text: &str, max_bytes: usize) -> String {
    truncate(text, max_bytes, 1.0 / 3.0)
}

/// Shortens a text to at most `max_bytes`, of which the share `end` is taken from its end.
fn truncate(text: &str, max_bytes: usize, end: f64) -> String {
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    let mark = format!("\n[… {} bytes omitted …]\n", text.len().saturating_sub(max_bytes));
    let room = max_bytes.saturating_sub(mark.len());
    if room == 0 {
        // Only the note about the omission would fit. The beginning of the text is worth more.
        return text[..text.floor_char_boundary(max_bytes)].to_owned();
    }
    let from_end = (room as f64 * end) as usize;
    let head = text.floor_char_boundary(room - from_end);
    let tail = text.ceil_char_boundary(text.len() - from_end);
    format!("{}{mark}{}", &text[..head], &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_git_is_refused() {
        for name in [".git", ".GIT", ".git.", ".git ", "git~1", "GIT~1", ".g\u{200c}it", ".git::$INDEX_ALLOCATION"] {
            assert!(path(&format!("a/{name}/config")).is_err(), "{name:?}");
        }
        for name in [".gitignore", ".github", "git", "a.git"] {
            assert!(path(&format!("{name}/x")).is_ok(), "{name:?}");
        }
        assert_eq!((folder(None), folder(Some("./")), folder(Some("a/"))), (Ok(""), Ok(""), Ok("a")));
        assert!(folder(Some("/")).is_err() && folder(Some(".git")).is_err());
    }

    #[test]
    fn a_path_is_one_word_of_the_shell() {
        assert_eq!(quoted("-a b.py"), "'./-a b.py'");
        assert_eq!(quoted("it's; rm -rf $HOME.sh"), "'./it'\\''s; rm -rf $HOME.sh'");
    }

    #[test]
    fn truncation_keeps_both_ends_and_the_size() {
        let text = "ü".repeat(4_000);
        for max_bytes in [0, 1, 7, 30, 31, 40, 41, 42, 43, 200, 4_000, 7_999, 8_000, 9_000] {
            let cut = truncate_middle(&text, max_bytes);
            assert!(cut.len() <= max_bytes, "{max_bytes}: {}", cut.len());
        }
        let cut = truncate_middle(&format!("begin{}end", "x".repeat(1_000)), 100);
        assert!(cut.starts_with("begin") && cut.ends_with("end") && cut.contains("bytes omitted"), "{cut}");
    }
}
