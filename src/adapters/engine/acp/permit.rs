//! Permissions of an agent: once, inside its workspace, what its step allows. Never permanently.
//!
//! Invariant: this only guides an honest agent. The sandbox contains a dishonest one, which need not ask.

use crate::domain::Step;
use agent_client_protocol::v1::schema::{
    PermissionOption, PermissionOptionId, PermissionOptionKind, ToolCallContent, ToolCallUpdate, ToolKind,
};
use serde_json::Value;
use std::path::{Component, Path, PathBuf};

/// Argument names that agents use for the path of a tool call.
const PATH_NAMES: &[&str] =
    &["path", "file_path", "filePath", "filepath", "file", "abs_path", "absolute_path", "notebook_path", "target_file"];

/// Folders of the agent: its worktree and its scratch folder.
#[derive(Clone, Debug)]
pub struct AllowedPaths {
    dir: PathBuf,
    all: Vec<PathBuf>,
}

impl AllowedPaths {
    /// Creates the set from the worktree and further folders. The real path of each counts, too.
    pub fn new(dir: &Path, more: &[&Path]) -> AllowedPaths {
        let both = |path: &Path| [Some(path.to_owned()), path.canonicalize().ok()];
        let all = std::iter::once(dir).chain(more.iter().copied()).flat_map(both).flatten().collect();
        AllowedPaths { dir: dir.to_owned(), all }
    }

    /// Returns whether a path leads outside, by its text alone. A relative path starts at the worktree.
    pub fn outside(&self, path: &Path) -> bool {
        let path = normalize(&self.dir.join(path));
        !self.all.iter().any(|folder| path.starts_with(folder))
    }

    /// Converts a path to one below the worktree; `None` = it leads elsewhere, or is the worktree itself.
    pub fn beneath(&self, path: &Path) -> Option<String> {
        self.within(path).filter(|inner| !inner.is_empty())
    }

    /// Converts a path to one below the worktree, "" for the worktree itself; `None` = it leads elsewhere.
    pub fn within(&self, path: &Path) -> Option<String> {
        let path = normalize(&self.dir.join(path));
        let tree = [Some(self.dir.clone()), self.dir.canonicalize().ok()];
        let inner = tree.iter().flatten().find_map(|dir| path.strip_prefix(dir).ok())?;
        inner.to_str().map(str::to_owned)
    }
}

/// Removes `.` and `..` from a path by its text alone.
fn normalize(path: &Path) -> PathBuf {
    let mut flat = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                flat.pop();
            }
            other => flat.push(other),
        }
    }
    flat
}

/// Returns why a tool call is refused; `None` = it is permitted.
pub fn refused(call: &ToolCallUpdate, step: Step, allowed_paths: &AllowedPaths) -> Option<String> {
    let fields = &call.fields;
    let locations = fields.locations.iter().flatten().map(|l| l.path.clone());
    let diffs = fields.content.iter().flatten().filter_map(|c| match c {
        ToolCallContent::Diff(diff) => Some(diff.path.clone()),
        _ => None,
    });
    let inputs = match &fields.raw_input {
        Some(Value::Object(input)) => {
            let paths = PATH_NAMES.iter().filter_map(|name| input.get(*name)?.as_str()).map(PathBuf::from);
            paths.collect::<Vec<_>>()
        }
        _ => Vec::new(),
    };
    if let Some(path) = locations.chain(diffs).chain(inputs).find(|path| allowed_paths.outside(path)) {
        return Some(format!("{} is outside the workspace", path.display()));
    }
    let edits = matches!(fields.kind, Some(ToolKind::Edit | ToolKind::Delete | ToolKind::Move));
    (edits && step != Step::Develop).then(|| format!("the {} step must not change files", step.name()))
}

/// Chooses the option by its kind, because names and order differ between agents. `None` = there is none.
pub fn option(options: &[PermissionOption], permit: bool) -> Option<PermissionOptionId> {
    let kinds: &[PermissionOptionKind] = match permit {
        true => &[PermissionOptionKind::AllowOnce],
        false => &[PermissionOptionKind::RejectOnce, PermissionOptionKind::RejectAlways],
    };
    let first = |kind: &PermissionOptionKind| options.iter().find(|o| o.kind == *kind);
    kinds.iter().find_map(first).map(|o| o.option_id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refuses(mut value: Value, step: Step) -> Option<String> {
        value["toolCallId"] = json!("1");
        let call: ToolCallUpdate = serde_json::from_value(value).unwrap();
        refused(&call, step, &AllowedPaths::new(Path::new("/w/tree"), &[Path::new("/w/scratch")]))
    }

    #[test]
    fn inside_is_permitted_and_outside_is_not() {
        for inside in ["/w/tree/a", "/w/tree", "a/b", "/w/tree/x/../y", "/w/scratch/home/plan.md"] {
            let call = json!({"kind": "edit", "locations": [{"path": inside}]});
            assert_eq!(refuses(call, Step::Develop), None, "{inside}");
        }
        for outside in ["/etc/passwd", "../secret", "/w/tree/../other", "/w/treelike/a", "/", "/w"] {
            for call in [
                json!({"locations": [{"path": "/w/tree/a"}, {"path": outside}]}),
                json!({"kind": "edit", "content": [{"type": "diff", "path": outside, "newText": "x"}]}),
                json!({"kind": "read", "rawInput": {"file_path": outside}}),
            ] {
                assert!(refuses(call, Step::Develop).is_some(), "{outside}");
            }
        }
    }

    #[test]
    fn a_reading_step_may_run_commands_but_not_edit() {
        let of = |kind: &str| json!({"kind": kind, "rawInput": {"command": "make test"}});
        for kind in ["edit", "delete", "move"] {
            assert!(refuses(of(kind), Step::Review).is_some_and(|why| why.contains("review")), "{kind}");
            assert_eq!(refuses(of(kind), Step::Develop), None);
        }
        for kind in ["execute", "read", "search", "other", "unknown_kind"] {
            assert_eq!(refuses(of(kind), Step::Review), None, "{kind}");
        }
    }

    #[test]
    fn options_are_chosen_by_kind_and_never_permanently() {
        let options = |kinds: &[&str]| {
            let option = |(i, kind): (usize, &&str)| json!({"optionId": format!("o{i}"), "name": "Yes", "kind": kind});
            let all: Vec<_> = kinds.iter().enumerate().map(option).collect();
            serde_json::from_value::<Vec<PermissionOption>>(json!(all)).unwrap()
        };
        let pick = |kinds: &[&str], permit| option(&options(kinds), permit).map(|id| id.to_string());
        assert_eq!(pick(&["allow_always", "allow_once", "allow_once", "reject_once"], true).as_deref(), Some("o1"));
        assert_eq!(pick(&["allow_always", "reject_once"], true), None);
        assert_eq!(pick(&["reject_always", "allow_once", "reject_once"], false).as_deref(), Some("o2"));
        assert_eq!(pick(&["reject_always", "allow_once"], false).as_deref(), Some("o0"));
        assert_eq!(pick(&["allow_once"], false), None);
        assert_eq!(pick(&[], true), None);
    }
}
