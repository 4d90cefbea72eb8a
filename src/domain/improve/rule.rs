//! Heuristics: what a failure signature means, and what to change about it.

use super::Signature;
use serde::{Deserialize, Serialize};

/// A heuristic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name, unique. A rule with the name of a built-in one replaces it.
    pub id: String,
    /// Group of causes, such as `environment`, `budget` or `model`.
    pub class: String,
    /// The alternatives of which one must fit.
    pub when: Vec<RuleMatch>,
    /// What the failure means. `{project}`, `{step}` and `{tool}` are replaced.
    pub say: String,
    /// The kind of change.
    pub kind: ChangeKind,
    /// What to change. `{project}`, `{step}` and `{tool}` are replaced.
    pub change: String,
}

/// What a signature must be like. Everything that is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuleMatch {
    /// The step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The ending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ending: Option<String>,
    /// Beginning of the check, CI job or engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// Texts of which the masked line must contain one, in any case.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub line: Vec<String>,
}

/// Kind of a proposed change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// A prompt template.
    Prompt,
    /// The configuration.
    Config,
    /// A limit of time, money, tokens or turns.
    Budget,
    /// A check of the project.
    Check,
    /// A program that commands need.
    Tool,
    /// An engine, a provider or a model.
    Engine,
    /// Documentation for agents in the repository.
    Doc,
    /// Something a person must look into.
    Look,
    /// The reversal of an accepted change that made things worse.
    Revert,
}

impl ChangeKind {
    /// Returns the name used in rules, JSON and lists.
    pub fn name(self) -> &'static str {
        match self {
            ChangeKind::Prompt => "prompt",
            ChangeKind::Config => "config",
            ChangeKind::Budget => "budget",
            ChangeKind::Check => "check",
            ChangeKind::Tool => "tool",
            ChangeKind::Engine => "engine",
            ChangeKind::Doc => "doc",
            ChangeKind::Look => "look",
            ChangeKind::Revert => "revert",
        }
    }
}

impl Rule {
    /// Returns whether a signature fits.
    pub fn matches(&self, signature: &Signature) -> bool {
        self.when.iter().any(|when| when.fits(signature))
    }

    /// Returns a text of the rule for a signature.
    pub fn fill(text: &str, project: &str, signature: &Signature) -> String {
        text.replace("{project}", project).replace("{step}", &signature.step).replace("{tool}", &signature.tool)
    }
}

impl RuleMatch {
    fn fits(&self, signature: &Signature) -> bool {
        let line = signature.line.to_ascii_lowercase();
        self.step.as_ref().is_none_or(|step| *step == signature.step)
            && self.ending.as_ref().is_none_or(|ending| *ending == signature.ending)
            && self.tool.as_ref().is_none_or(|tool| signature.tool.starts_with(tool.as_str()))
            && (self.line.is_empty() || self.line.iter().any(|text| line.contains(&text.to_ascii_lowercase())))
    }

    /// Returns whether it fits every signature.
    pub fn is_empty(&self) -> bool {
        *self == RuleMatch::default()
    }
}
