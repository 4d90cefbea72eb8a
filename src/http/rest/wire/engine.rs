//! Roles and engines.

use super::word::words;
use crate::domain;
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
        Engine { kind: spec.kind.clone(), arg: spec.arg.clone() }
    }
}
