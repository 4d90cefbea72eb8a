//! The engines there are. A new one is a file here, a line in [`KINDS`], an arm in [`Registry::get`], and the contract
//! suite (tests/it/engines_contract.rs).

use super::sandbox::Sandbox;
use crate::domain::{EngineSpec, Usage};
use crate::ports::engine::{Engine, Engines, Work, Worked};
use std::sync::Arc;

pub mod answer;
mod command;
mod direct;
pub mod meter;
pub mod prices;
mod script;
pub mod settings;

pub use command::CommandEngine;
pub use direct::DirectEngine;
pub use script::{ScriptEngine, parse as parse_script};

/// Every kind, and what it is written like: one line for help texts and errors.
pub const KINDS: &[(&str, &str)] = &[
    ("command", "command:LINE runs a shell line in the worktree (a codemod, a fixer, a headless agent)"),
    ("direct", "direct plans the goal as one task and reviews by checks and diff, without a model"),
    ("script", "script:FILE or script:demo:NAME plays a written script"),
];

/// The engines of this build.
#[derive(Clone, Debug)]
pub struct Registry {
    sandbox: Sandbox,
}

impl Registry {
    /// Engines whose commands start in `sandbox`.
    pub fn new(sandbox: Sandbox) -> Self {
        Self { sandbox }
    }
}

impl Engines for Registry {
    fn get(&self, spec: &EngineSpec) -> Result<Arc<dyn Engine>, String> {
        Ok(match spec.kind.as_str() {
            "command" => Arc::new(CommandEngine::new(&spec.arg, self.sandbox.clone())?),
            "direct" => Arc::new(DirectEngine::new(&spec.arg)?),
            "script" => Arc::new(ScriptEngine::load(&spec.arg)?),
            other => {
                let kinds: Vec<&str> = KINDS.iter().map(|(_, help)| *help).collect();
                return Err(format!("there is no engine kind {other:?}; the kinds are: {}", kinds.join("; ")));
            }
        })
    }
}

/// A result without a session or files, by an engine that spends nothing but time.
fn free(result: Work) -> Worked {
    Worked { result, usage: Some(Usage::default()), bill: Vec::new(), session: None, files: Vec::new() }
}
