//! Roles and engines.

use super::word::words;
use crate::domain;
use crate::secrets::redact_all;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

words! {
    /// Role in a run.
    Role = domain::Role {
        /// Plans the tasks.
        Manager = "manager",
        /// Explores the repository and answers questions.
        Scout = "scout",
        /// Changes the code.
        Dev = "dev",
        /// Judges changes it did not write.
        Reviewer = "reviewer",
        /// Carries out effects.
        Ops = "ops",
    }
}

/// Engine and its argument, written `KIND` or `KIND:ARG`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Engine {
    /// Kind.
    #[schema(example = "command")]
    pub kind: String,
    /// Argument; its meaning depends on the kind.
    pub arg: String,
}

impl Engine {
    /// Parses `KIND` or `KIND:ARG`.
    pub fn parse(text: &str) -> Engine {
        (&domain::EngineSpec::parse(text)).into()
    }
    /// Returns the written form.
    pub fn text(&self) -> String {
        domain::EngineSpec { kind: self.kind.clone(), arg: self.arg.clone() }.text()
    }
    /// Returns the name for people: with the model or agent where the kind has one, without a command line or a path.
    pub fn named(&self) -> String {
        domain::EngineSpec { kind: self.kind.clone(), arg: self.arg.clone() }.named()
    }
}

impl From<&domain::EngineSpec> for Engine {
    fn from(spec: &domain::EngineSpec) -> Engine {
        // The command line of an engine works with the token that somebody wrote into it, so the run keeps it.
        Engine { kind: redact_all(&spec.kind).into_owned(), arg: redact_all(&spec.arg).into_owned() }
    }
}

/// Returns the written form of an engine, `KIND` or `KIND:ARG`, without secrets.
pub(super) fn written(engine: &str) -> String {
    redact_all(engine).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_a_command_line_is_redacted() {
        let token = format!("ghp_{}", "a1B2".repeat(9));
        let spec = domain::EngineSpec::parse(&format!("command:fetch --token {token} && ./fix.sh"));
        for text in [Engine::from(&spec).text(), written(&spec.text())] {
            assert!(!text.contains(&token) && text.starts_with("command:fetch --token ["), "{text}");
            assert!(text.ends_with("] && ./fix.sh"), "{text}");
        }
    }
}
