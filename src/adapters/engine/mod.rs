//! The engines there are. A new one is a file here, a line in [`KINDS`], an arm in [`Registry::get`], and the contract
//! suite (tests/it/engines_contract.rs).

use super::gate::Gate;
use super::sandbox::Sandbox;
use crate::domain::{EngineSpec, Usage};
use crate::ports::engine::{Engine, Engines, Work, Worked};
use prices::Prices;
use settings::Settings;
use std::sync::Arc;
use way::{Out, Ways};

mod acp;
pub mod answer;
mod cli;
mod command;
mod direct;
mod driven;
pub mod meter;
pub mod prices;
mod script;
pub mod settings;
mod way;

pub use acp::AcpEngine;
pub use cli::CliEngine;
pub use command::CommandEngine;
pub use direct::DirectEngine;
pub use script::{ScriptEngine, parse as parse_script};

/// Every kind, and what it is written like: one line for help texts and errors.
pub const KINDS: &[(&str, &str)] = &[
    ("acp", "acp:AGENT or acp:AGENT/MODEL drives an agent that speaks the Agent Client Protocol"),
    ("cli", "cli:AGENT or cli:AGENT/MODEL drives a headless agent by its command line"),
    ("command", "command:LINE runs a shell line in the worktree (a codemod, a fixer, a headless agent)"),
    ("direct", "direct plans the goal as one task and reviews by checks and diff, without a model"),
    ("script", "script:FILE or script:demo:NAME plays a written script"),
];

/// The engines of this build.
#[derive(Clone, Debug)]
pub struct Registry {
    sandbox: Sandbox,
    settings: Arc<Settings>,
    ways: Ways,
}

impl Registry {
    /// Engines whose commands start in `sandbox`, without providers and agents.
    pub fn new(sandbox: Sandbox) -> Self {
        Self { sandbox, settings: Arc::default(), ways: Ways::default() }
    }

    /// The same with these providers and agents.
    pub fn with(self, settings: Settings) -> Self {
        let settings = Arc::new(settings);
        Self { ways: Ways { settings: settings.clone(), ..self.ways }, settings, ..self }
    }

    /// The same with a gate, by which driven agents get to their providers and to `hosts`, counted with `prices`.
    pub fn through(self, gate: Arc<Gate>, prices: Arc<Prices>, hosts: Vec<String>) -> Self {
        Self { ways: Ways { out: Some(Out { gate, prices, hosts }), ..self.ways }, ..self }
    }
}

impl Engines for Registry {
    fn get(&self, spec: &EngineSpec) -> Result<Arc<dyn Engine>, String> {
        Ok(match spec.kind.as_str() {
            "acp" => Arc::new(AcpEngine::new(&spec.arg, &self.settings, self.sandbox.clone(), self.ways.clone())?),
            "cli" => Arc::new(CliEngine::new(&spec.arg, &self.settings, self.sandbox.clone(), self.ways.clone())?),
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
