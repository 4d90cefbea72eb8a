//! What is asked for: the bodies of requests.

use super::super::shapes;
use crate::domain::{BudgetScope, Policy, Raise, Role, StatusState};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A request for a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"repo": "/srv/git/tally.git", "goal": "Make `tally --json` print valid JSON",
    "engines": {"dev": "command:./fix.sh"}, "checks": ["cargo test --locked"], "carry_on": true}))]
#[serde(deny_unknown_fields, default)]
pub struct NewRun {
    /// A project by name; or else `repo`.
    pub project: Option<String>,
    /// A repository (absolute path or URL): becomes a project the first time.
    pub repo: Option<String>,
    /// What should be different when the run is done.
    pub goal: String,
    /// The branch to land on.
    pub base: Option<String>,
    /// Engines by role, `KIND[:ARG]`, over the project's.
    #[schema(value_type = BTreeMap<String, String>)]
    pub engines: BTreeMap<Role, String>,
    /// Check commands, instead of the project's.
    pub checks: Vec<String>,
    /// Whether an open run of the same project and goal is carried on instead of a second one opened.
    pub carry_on: bool,
}

/// A project to add.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"name": "tally", "repo": "/srv/git/tally.git", "checks": ["cargo test --locked"]}))]
#[serde(deny_unknown_fields, default)]
pub struct NewProject {
    /// Its name; made from the repository's when left out.
    pub name: Option<String>,
    /// The repository.
    pub repo: String,
    /// The branch changes land on; the repository's default when left out.
    pub base: Option<String>,
    /// Check commands; detected when left out.
    pub checks: Vec<String>,
    /// Engines by role, `KIND[:ARG]`.
    #[schema(value_type = BTreeMap<String, String>)]
    pub engines: BTreeMap<Role, String>,
    /// Its policy; the configured one when left out.
    #[schema(value_type = Option<shapes::Object>)]
    pub policy: Option<Policy>,
    /// Whether a project of that name is replaced.
    pub replace: bool,
}

/// A secret to keep. Not `Debug`: its value must not be printed.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"name": "FORGE_TOKEN", "project": "tally", "value": "…"}))]
#[serde(deny_unknown_fields)]
pub struct NewSecret {
    /// Its name: a letter, then letters, digits, `_`, `-` and `.`.
    pub name: String,
    /// The project it is for; for all when left out.
    #[serde(default)]
    pub project: Option<String>,
    /// Its value, at most 64 KiB.
    pub value: String,
}

/// The key everything is to be sealed with.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// Its file, an absolute path on the service's machine, readable by its user only.
    pub file: String,
}

/// What a person says to a run. `block` names the block answered (`b1`); the oldest open one when left out.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"block": "b1", "text": "use the other parser"}))]
#[serde(deny_unknown_fields, default)]
pub struct Say {
    /// Which block.
    pub block: Option<String>,
    /// For `approve`: declined instead of approved. For `unblock`: the run ends undelivered.
    pub no: bool,
    /// For `unblock`: this task is given up.
    pub skip: bool,
    /// The answer, the hint, or the reason.
    pub text: Option<String>,
    /// More budget.
    #[schema(value_type = Option<shapes::Raise>)]
    pub more: Option<Raise>,
}

/// More of a budget that runs share.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"scope": "project", "project": "tally", "cost_micros": 5_000_000}))]
#[serde(deny_unknown_fields)]
pub struct RaiseShared {
    /// `project` or `day` (today, UTC).
    #[schema(value_type = String, example = "day")]
    pub scope: BudgetScope,
    /// The project, for `project`.
    #[serde(default)]
    pub project: Option<String>,
    /// More tokens.
    #[serde(default)]
    pub tokens: u64,
    /// More micro-USD.
    #[serde(default)]
    pub cost_micros: u64,
}

/// What a person says about a change.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChangeSay {
    /// The text.
    #[schema(example = "Looks right to me")]
    pub text: String,
}

/// A status, as a CI reports it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewStatus {
    /// Its context.
    #[schema(example = "ci/windows")]
    pub context: String,
    /// `pending`, `success` or `failure`.
    #[schema(value_type = String, example = "success")]
    pub state: StatusState,
    /// A line for people.
    #[serde(default)]
    pub text: String,
    /// The commit; the change's present head when left out.
    #[serde(default)]
    pub sha: Option<String>,
}
