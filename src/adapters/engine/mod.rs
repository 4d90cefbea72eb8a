//! Engines of this build. A new one needs a file here, a line in [`KINDS`], an arm in [`Registry::get`], and the
//! contract suite (tests/it/engines_contract.rs).

use crate::domain::{EngineSpec, Metered, Usage};
use crate::platform::access::ProjectGrants;
use crate::platform::access::broker::AccessBroker;
use crate::platform::egress::EgressProxy;
use crate::platform::sandbox::Sandbox;
use crate::ports::engine::{Engine, EngineResult, Engines, StepOutcome};
use crate::ports::{Clock, Vault};
use crate::providers::prices::{Prices, WireUsage};
use crate::providers::rate_limit::RateLimits;
use crate::providers::settings::Effort;
use driven::DrivenAgent;
use model_access::ModelAccessProvider;
use settings::{Protocol, Settings};
use std::path::Path;
use std::sync::Arc;

mod acp;
pub mod answer;
mod cli;
mod command;
mod direct;
mod driven;

mod llm;

mod model_access;
mod open;
mod output_table;
mod script;
pub mod settings;

pub use acp::AcpEngine;
pub use cli::CliEngine;
pub use command::CommandEngine;
pub use direct::DirectEngine;
pub use llm::LlmEngine;
pub use open::OpenEngine;
pub use script::{ScriptEngine, parse as parse_script};

/// Every kind with its syntax: one line each, for help texts and errors.
pub const KINDS: &[(&str, &str)] = &[
    ("acp", "acp:AGENT or acp:AGENT/MODEL drives an agent that speaks the Agent Client Protocol"),
    ("cli", "cli:AGENT or cli:AGENT/MODEL drives a headless agent by its command line"),
    ("command", "command:LINE runs a shell command in the worktree (a codemod, a fixer, a headless agent)"),
    ("direct", "direct plans the goal as one task and reviews by checks and diff, without a model"),
    (
        "llm",
        "llm:PROVIDER/MODEL or llm:PROVIDER/MODEL#EFFORT lets a model work with Skep's own tools, as in llm:anthropic/claude-sonnet-4-5#high",
    ),
    ("open", "open offers the step to outside agents and waits for one (docs/open-work.md)"),
    ("script", "script:FILE or script:demo:NAME plays back a script"),
];

/// Registry of the engines.
#[derive(Clone, Debug)]
pub struct Registry {
    sandbox: Sandbox,
    /// Sandbox of `command:` engines: only they see the variables in `engines.pass_env`.
    passing: Sandbox,
    settings: Arc<Settings>,
    shared: llm::Shared,
    model_access: ModelAccessProvider,
    open: Option<Arc<OpenEngine>>,
}

impl Registry {
    /// Creates a registry whose commands start in `sandbox`, with the providers and agents of `settings` and the
    /// embedded prices.
    pub fn new(sandbox: Sandbox, settings: Arc<Settings>, clock: Arc<dyn Clock>) -> Self {
        // A test proves that the embedded prices load. Without them every price is unknown, which is reported per
        // model.
        let prices = Arc::new(Prices::embedded().unwrap_or_default());
        let shared = llm::Shared::new(clock, prices);
        Self {
            passing: sandbox.clone(),
            sandbox,
            model_access: ModelAccessProvider { settings: settings.clone(), ..ModelAccessProvider::default() },
            settings,
            shared,
            open: None,
        }
    }

    /// Sets the sandbox of `command:` engines, which passes the variables that people chose.
    pub fn passing(self, passing: Sandbox) -> Self {
        Self { passing, ..self }
    }

    /// Sets the engine that offers steps to outside agents.
    pub fn offering(self, open: Arc<OpenEngine>) -> Self {
        Self { open: Some(open), ..self }
    }

    /// Replaces the prices.
    pub fn with_prices(self, prices: Arc<Prices>) -> Self {
        Self { shared: self.shared.with_prices(prices), ..self }
    }

    /// Replaces the rate limits by ones that are shared within this process.
    pub fn with_limits(self, limits: RateLimits) -> Self {
        Self { shared: self.shared.with_limits(limits), ..self }
    }

    /// Sets the egress proxy. Through it, commands reach the hosts granted to their project, and driven agents reach
    /// their providers, charged by `prices`.
    pub fn through(self, gate: Arc<EgressProxy>, prices: Arc<Prices>, granted: Arc<ProjectGrants>) -> Self {
        let access_broker = self.model_access.access_broker.clone().with_grants(granted).with_proxy(gate);
        Self { model_access: ModelAccessProvider { prices, ..self.model_access }, ..self }
            .with_access_broker(access_broker)
    }

    /// Sets the vault. `command:` engines and driven agents receive those of its secrets that their project is granted.
    pub fn opening(self, vault: Arc<dyn Vault>) -> Self {
        let access_broker = self.model_access.access_broker.clone().with_vault(vault);
        self.with_access_broker(access_broker)
    }

    fn with_access_broker(self, access_broker: AccessBroker) -> Self {
        Self {
            model_access: ModelAccessProvider { access_broker: access_broker.clone(), ..self.model_access },
            shared: self.shared.with_access_broker(access_broker),
            ..self
        }
    }
}

impl Registry {
    fn driven(&self, arg: &str, protocol: Protocol) -> Result<DrivenAgent, String> {
        DrivenAgent::find(arg, protocol, &self.settings, self.sandbox.clone(), self.shared.clock())
    }
}

impl Engines for Registry {
    fn get(&self, spec: &EngineSpec) -> Result<Arc<dyn Engine>, String> {
        Ok(match spec.kind.as_str() {
            "acp" => {
                let driven = self.driven(&spec.arg, Protocol::Acp)?;
                Arc::new(AcpEngine::new(driven, self.model_access.clone()))
            }
            "cli" => {
                let driven = self.driven(&spec.arg, Protocol::Cli)?;
                Arc::new(CliEngine::new(driven, self.model_access.clone()))
            }
            "command" => {
                let engine = CommandEngine::new(&spec.arg, self.passing.clone())?
                    .with_access_broker(self.model_access.access_broker.clone());
                Arc::new(match &self.settings.partial_exit_codes {
                    Some(codes) => engine.with_partial_exit_codes(codes.clone()),
                    None => engine,
                })
            }
            "direct" => Arc::new(DirectEngine::new(&spec.arg)?),
            "llm" => Arc::new(LlmEngine::new(&spec.arg, &self.settings, &self.shared, self.sandbox.clone())?),
            "open" if !spec.arg.is_empty() => {
                return Err(format!("engine open takes no argument, not {:?}; write open", spec.arg));
            }
            "open" => match &self.open {
                Some(open) => open.clone(),
                None => return Err("this command cannot offer steps to outside agents; start a service".to_owned()),
            },
            "script" => Arc::new(ScriptEngine::load(&spec.arg)?),
            other => {
                let kinds: Vec<&str> = KINDS.iter().map(|(_, help)| *help).collect();
                return Err(format!("unknown engine kind {other:?}; the kinds are: {}", kinds.join("; ")));
            }
        })
    }

    fn unready(&self, spec: &EngineSpec) -> Option<(String, String)> {
        let name = Effort::split(&spec.arg).ok()?.0.split('/').next()?;
        let provider = match spec.kind.as_str() {
            "llm" => name,
            "acp" | "cli" => self.settings.agents.get(name)?.provider.as_deref()?,
            _ => return None,
        };
        self.settings.keyless.get(provider).cloned()
    }

    fn metered(&self, file: &Path) -> Option<Metered> {
        crate::providers::meter_file::read(file)
    }

    fn input_cost(&self, spec: &EngineSpec, tokens: u64) -> Option<u64> {
        let (name, model) = Effort::split(&spec.arg).ok()?.0.split_once('/')?;
        let provider = match spec.kind.as_str() {
            "llm" => Some(name),
            "acp" | "cli" => self.settings.agents.get(name)?.provider.as_deref(),
            _ => None,
        }?;
        let price = self.shared.prices().of(&format!("{provider}/{model}"))?;
        Some(price.of(&WireUsage { input: tokens, ..WireUsage::default() }))
    }
}

/// Returns the result of an engine that uses only time, without a session or files.
fn free(result: StepOutcome) -> EngineResult {
    EngineResult { result, usage: Some(Usage::default()), usage_by_model: Vec::new(), session: None, files: Vec::new() }
}
