//! The tools a model is given, by step; every call ends in a text for it, whatever it asked for.

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
mod patch;
mod read;
mod run;
mod search;
mod walk;

/// The tool that runs a shell line.
pub const RUN: &str = "run";
/// The tool that ends the session with its result.
pub const DONE: &str = "done";
/// The tool that ends the session with a question.
pub const ASK: &str = "ask";

/// The most a model is told by one result.
pub const RESULT_BYTES_MAX: usize = 64 * 1024;
/// The largest file that is read or edited.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A tool as the model is told of it.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// The JSON schema of its arguments.
    pub schema: Value,
}

/// What a tool did.
struct Did {
    text: String,
    changed: Vec<String>,
    ok: bool,
}

impl Did {
    fn told(text: String) -> Did {
        Did { text, changed: Vec::new(), ok: true }
    }
}

/// The tools of one session.
pub struct Tools {
    tree: Arc<RootedDir>,
    step: Step,
    sandbox: Sandbox,
    place: ToolEnv,
}

/// Where commands run.
#[derive(Clone, Debug)]
pub struct ToolEnv {
    /// The worktree.
    pub dir: PathBuf,
    /// Caches.
    pub cache: PathBuf,
    /// Scratch.
    pub scratch: PathBuf,
    /// Whose commands they are.
    pub project: ProjectName,
    /// What they are given.
    pub access_broker: AccessBroker,
}

impl Tools {
    /// Tools for a step in an open worktree.
    pub fn new(tree: Arc<RootedDir>, step: Step, sandbox: Sandbox, place: ToolEnv) -> Tools {
        Tools { tree, step, sandbox, place }
    }

    /// The tools of this step. `answer` is the schema of the step's result.
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
            about: "Ends your work with a question, when you cannot go on without an answer. Ask only what you cannot find out.",
            schema: object(json!({
                "question": {"type": "string", "description": "The question, with what you found and the choices you see."},
                "to": {"type": "string", "enum": ["person", "scout"],
                    "description": "person: a decision is needed (default); scout: something has to be looked up."},
            }), &["question"]),
        });
        specs.push(Spec { name: DONE, about: "Ends your work with its result.", schema: answer });
        specs
    }

    fn may_edit(&self) -> bool {
        self.step == Step::Develop
    }

    /// A reviewer runs the tests it doubts, in its own worktree, which is thrown away.
    fn may_run(&self) -> bool {
        matches!(self.step, Step::Develop | Step::Review)
    }

    /// Carries a call out, within `left`. `done` and `ask` are not its business.
    pub async fn use_one(&self, call: &Call, left: Duration) -> Outcome {
        let did = match &call.broken {
            Some(why) => Err(why.clone()),
            None => self.dispatch(call, left).await,
        };
        let (text, ok, changed) = match did {
            Ok(did) => (did.text, did.ok, did.changed),
            Err(why) => (format!("error: {why}"), false, Vec::new()),
        };
        Outcome {
            id: call.id.clone(),
            tool: call.tool.clone(),
            what: what(call),
            text: middle_cut(&text, RESULT_BYTES_MAX),
            ok,
            changed,
        }
    }

    async fn dispatch(&self, call: &Call, left: Duration) -> Result<Did, String> {
        match call.tool.as_str() {
            "read" => {
                let args = args(call)?;
                self.blocking(move |tree| read::read(tree, &args).map(Did::told)).await
            }
            "list" => {
                let args = args(call)?;
                self.blocking(move |tree| list::list(tree, &args).map(Did::told)).await
            }
            "search" => {
                let args = args(call)?;
                self.blocking(move |tree| search::search(tree, &args).map(Did::told)).await
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
            RUN if self.may_run() => run::run(&self.sandbox, &self.place, args(call)?, left).await,
            other => {
                let names: Vec<&str> = self.specs(Value::Null).iter().map(|s| s.name).collect();
                let other = middle_cut(other, 80);
                Err(format!("there is no tool {other:?} in this step; there are: {}", names.join(", ")))
            }
        }
    }

    /// File work off the threads that carry sessions.
    async fn blocking(
        &self,
        work: impl FnOnce(&RootedDir) -> Result<Did, String> + Send + 'static,
    ) -> Result<Did, String> {
        let tree = self.tree.clone();
        tokio::task::spawn_blocking(move || work(&tree))
            .await
            .unwrap_or_else(|e| Err(format!("the tool failed: {e}; this is a defect of Skep's")))
    }
}

/// A call in words, for people who watch and for the digest.
pub fn what(call: &Call) -> String {
    let word = |key: &str| call.args.get(key).and_then(Value::as_str).unwrap_or_default();
    let of = match call.tool.as_str() {
        "read" | "edit" | "write" | "list" => word("path").to_owned(),
        "search" => format!("{:?} {}", word("pattern"), word("path")),
        "patch" => patch::files(word("patch")),
        RUN => word("command").to_owned(),
        ASK => word("question").to_owned(),
        _ => String::new(),
    };
    let tool = middle_cut(&call.tool, 40);
    crate::platform::terminal_text::sanitize(format!("{tool} {}", middle_cut(&of, 300)).trim_end().as_bytes())
}

/// A call's arguments, read strictly; the error is for the model.
pub fn args<T: DeserializeOwned>(call: &Call) -> Result<T, String> {
    T::deserialize(&call.args).map_err(|e| format!("the arguments of {} are not usable: {e}", call.tool))
}

/// The schema of an object whose fields are all named.
fn object(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// A path as a model writes it, in the form [`RootedDir`] takes; `.git` stays out in any spelling a file system may take for it.
fn path(given: &str) -> Result<&str, String> {
    let path = given.strip_prefix("./").unwrap_or(given);
    match path.split('/').any(is_git) {
        true => Err(format!("{path:?} leads into .git, which is not yours to touch")),
        false => Ok(path),
    }
}

/// The same for a folder, where "" and "." are the worktree itself.
fn folder(given: Option<&str>) -> Result<&str, String> {
    match given.unwrap_or_default().trim_end_matches('/') {
        "" if given.is_some_and(|g| g.starts_with('/')) => Err("paths are relative to the worktree".to_owned()),
        "" | "." => Ok(""),
        given => path(given),
    }
}

/// Whether a name is `.git` to some file system: case, trailing dots and spaces, short names, characters that are ignored.
fn is_git(name: &str) -> bool {
    let ignored =
        |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let plain: String = name.chars().filter(|c| !ignored(*c)).collect();
    let plain = plain.trim_end_matches(['.', ' ']).to_ascii_lowercase();
    plain.split(':').next() == Some(".git") || plain == "git~1"
}

/// A text of at most `most` bytes: its beginning and its end, and between them how much is missing.
pub fn middle_cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let mark = format!("\n[… {} bytes left out …]\n", text.len().saturating_sub(most));
    let room = most.saturating_sub(mark.len());
    let (mut head, mut tail) = (room * 2 / 3, text.len() - room / 3);
    while !text.is_char_boundary(head) {
        head -= 1;
    }
    while !text.is_char_boundary(tail) {
        tail += 1;
    }
    if room == 0 {
        // Nothing but a mark would fit: the beginning says more.
        let mut end = most;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        return text[..end].to_owned();
    }
    format!("{}{mark}{}", &text[..head], &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_is_git_in_any_spelling() {
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
    fn the_middle_goes_and_the_size_holds() {
        let text = "ü".repeat(4_000);
        for most in [0, 1, 7, 30, 31, 40, 41, 42, 43, 200, 4_000, 7_999, 8_000, 9_000] {
            let cut = middle_cut(&text, most);
            assert!(cut.len() <= most, "{most}: {}", cut.len());
        }
        let cut = middle_cut(&format!("begin{}end", "x".repeat(1_000)), 100);
        assert!(cut.starts_with("begin") && cut.ends_with("end") && cut.contains("bytes left out"), "{cut}");
    }
}
