//! The written form of task specs: a YAML file with a goal and the criteria that decide whether it was delivered.
//!
//! One type is the format: the reader fills it, and the JSON Schema is generated from it. The reader also checks what a
//! schema cannot say, such as names that must be unique.
//!
//! Invariant: a spec is data. Nothing here runs a command, reads another file or follows a reference.

pub mod import;
mod read;
mod rules;
mod template;

pub use read::{SpecProblem, parse};
pub use template::template;

use crate::domain::Spec;
use crate::domain::spec::{Criterion, CriterionTest};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

/// Upper bound of a spec, in bytes.
pub const MAX_BYTES: usize = 64 * 1024;

/// A goal with acceptance criteria, for a run of Skep.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Task spec")]
pub struct SpecFile {
    /// Version of this format.
    #[schemars(with = "u32", range(min = 1, max = 1))]
    spec: Spanned<u32>,
    /// Name of the spec: lower-case letters, digits and hyphens.
    #[schemars(with = "String", regex(pattern = r"^[a-z0-9][a-z0-9-]{0,39}$"))]
    id: Spanned<String>,
    /// One line that says what should be different; also the title of the pull request.
    #[schemars(with = "String", length(min = 1, max = 200))]
    title: Spanned<String>,
    /// What should be different when the run is done, and why.
    #[schemars(with = "String", length(min = 1, max = 16384))]
    goal: Spanned<String>,
    /// What must be true when the run is done. Few criteria, each one observable.
    #[schemars(with = "Vec<WrittenCriterion>", length(min = 1, max = 12))]
    acceptance: Spanned<Vec<WrittenCriterion>>,
    /// What is not part of the goal, although it could seem so.
    #[serde(default)]
    #[schemars(with = "Vec<String>", length(max = 20), inner(length(min = 1, max = 500)))]
    non_goals: Vec<Spanned<String>>,
    /// Patterns of paths that must not change, such as `vendor/**`.
    #[serde(default)]
    #[schemars(with = "Vec<String>", length(max = 50), inner(length(min = 1, max = 256)))]
    forbidden_paths: Vec<Spanned<String>>,
}

/// One thing that must be true when the run is done.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Acceptance criterion")]
pub struct WrittenCriterion {
    /// Name of the criterion, unique in the spec: lower-case letters, digits and hyphens.
    #[schemars(with = "String", regex(pattern = r"^[a-z0-9][a-z0-9-]{0,39}$"))]
    id: Spanned<String>,
    /// The criterion in words.
    #[schemars(with = "String", length(min = 1, max = 500))]
    text: Spanned<String>,
    /// Shell command that exits with 0 if the criterion is met. Without one, the reviewer judges.
    #[schemars(with = "Option<String>", length(min = 1, max = 4096))]
    command: Option<Spanned<String>>,
    /// Time limit of the command: 30s, 5m, 1h. That of the other checks, if absent.
    #[schemars(with = "Option<String>", regex(pattern = r"^[1-9][0-9]{0,4}(s|m|h)$"))]
    timeout: Option<Spanned<String>>,
}

impl SpecFile {
    /// Returns its name.
    pub fn id(&self) -> &str {
        &self.id.value
    }

    /// Returns the numbers of criteria with and without a command.
    pub fn counts(&self) -> (usize, usize) {
        let tested = self.acceptance.value.iter().filter(|c| c.command.is_some()).count();
        (tested, self.acceptance.value.len() - tested)
    }

    /// Returns the text of the goal: title, goal, and what is not part of it.
    pub fn goal_text(&self) -> String {
        let mut text = format!("{}\n\n{}\n", self.title.value.trim(), self.goal.value.trim());
        if !self.non_goals.is_empty() {
            text.push_str("\nNot part of this goal:\n");
            self.non_goals.iter().for_each(|no| text.push_str(&format!("- {}\n", no.value.trim())));
        }
        text
    }

    /// Returns what a run pins. `timeout_secs` gives the time limit of a command that names none.
    pub fn pinned(self, timeout_secs: impl Fn(&str) -> u64) -> Spec {
        let criterion = |c: WrittenCriterion| Criterion {
            id: c.id.value,
            text: c.text.value.trim().to_owned(),
            test: c.command.map(|command| CriterionTest {
                timeout_secs: c
                    .timeout
                    .and_then(|t| rules::seconds(&t.value))
                    .unwrap_or_else(|| timeout_secs(&command.value)),
                command: command.value,
            }),
        };
        Spec {
            id: self.id.value,
            acceptance: self.acceptance.value.into_iter().map(criterion).collect(),
            forbidden_paths: self.forbidden_paths.into_iter().map(|p| p.value).collect(),
        }
    }
}

/// Returns the JSON Schema of the format (draft 2020-12).
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(SpecFile).into()
}

#[cfg(test)]
mod tests;
