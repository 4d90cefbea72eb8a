//! Skep's own agent loop over any model: the model reads, searches, edits and runs commands by tools, and ends with a
//! checked result.
//!
//! | part | duty |
//! |---|---|
//! | `session` | the loop: ask, act, report; when to stop; the checks at `done` |
//! | `wire`, `fault` | one call of a model; its faults, classified by what to do next |
//! | `history`, `context` | the conversation; keeping it within the model's context window |
//! | `guard` | detection of models that go in circles |
//! | `tools` | tools of the model |
//! | `progress`, `transcript` | live output, and the stored record |
//!
//! Invariant: a model's claims are never trusted; its result is checked like any other engine's.

use super::settings::{CHECKS_PER_SESSION, Settings};
use crate::domain::{ArtifactKind, Order};
use crate::platform::access::broker::AccessBroker;
use crate::platform::rooted_fs::RootedDir;
use crate::platform::sandbox::Sandbox;
use crate::ports::engine::{AttemptEnv, Engine, EngineResult, Sink};
use crate::ports::{Clock, PortError, PortResult};
use crate::providers::meter::Meter;
use crate::providers::prices::Prices;
use crate::providers::rate_limit::{RateLimiter, RateLimits};
use crate::providers::settings::Effort;
use async_trait::async_trait;
use std::sync::{Arc, OnceLock};

mod context;
mod fault;
mod guard;
mod history;
mod progress;
mod session;
mod text_calls;
mod tools;
mod transcript;
mod wire;

pub(super) use tools::{apply_patch, patch_paths};

use progress::Progress;
use session::{Parts, Session};
use tools::{ToolEnv, Tools};
use wire::{Clients, Wire};

/// State shared by all sessions of a process.
#[derive(Clone, Debug)]
pub struct Shared {
    clock: Arc<dyn Clock>,
    limits: RateLimits,
    prices: Arc<Prices>,
    clients: Arc<OnceLock<Result<Clients, String>>>,
    access_broker: AccessBroker,
}

impl Shared {
    /// Creates the state for sessions that are charged by `prices`, with rate limits of their own.
    pub fn new(clock: Arc<dyn Clock>, prices: Arc<Prices>) -> Shared {
        let limits = RateLimits::new(clock.clone());
        Shared { clock, limits, prices, clients: Arc::default(), access_broker: AccessBroker::default() }
    }

    /// Source of the time of day.
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    /// Prices of models.
    pub fn prices(&self) -> &Prices {
        &self.prices
    }

    /// Replaces the prices.
    pub fn with_prices(self, prices: Arc<Prices>) -> Shared {
        Shared { prices, ..self }
    }

    /// Sets the broker that grants access to the commands that models run.
    pub fn with_access_broker(self, access_broker: AccessBroker) -> Shared {
        Shared { access_broker, ..self }
    }

    /// Replaces the rate limits.
    pub fn with_limits(self, limits: RateLimits) -> Shared {
        Shared { limits, ..self }
    }
}

/// Engine for one model.
#[derive(Debug)]
pub struct LlmEngine {
    wire: Wire,
    clock: Arc<dyn Clock>,
    limiter: Arc<RateLimiter>,
    prices: Arc<Prices>,
    sandbox: Sandbox,
    access_broker: AccessBroker,
    checks_per_session: u32,
}

impl LlmEngine {
    /// Creates the engine for `PROVIDER/MODEL` or `PROVIDER/MODEL#EFFORT`.
    ///
    /// # Errors
    /// If the provider is not configured, or the model name or the effort is invalid.
    pub fn new(arg: &str, settings: &Settings, shared: &Shared, sandbox: Sandbox) -> Result<Self, String> {
        let (arg, effort) = Effort::split(arg)?;
        let named = arg.split_once('/').filter(|(provider, model)| !provider.is_empty() && !model.is_empty());
        let Some((name, model)) = named else {
            return Err(format!("engine llm needs a provider and a model, not {arg:?}; write llm:PROVIDER/MODEL"));
        };
        let Some(provider) = settings.providers.get(name) else {
            let known: Vec<&str> = settings.providers.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(format!(
                "provider {name:?} is not configured; configured are: {known}. Use one of them, or add [providers.{name}]"
            ));
        };
        let clients = shared.clients.get_or_init(Clients::new).as_ref().map_err(Clone::clone)?;
        Ok(Self {
            wire: Wire::new(clients, provider.clone(), model, effort)?,
            clock: shared.clock.clone(),
            limiter: shared.limits.for_provider(provider),
            prices: shared.prices.clone(),
            sandbox,
            access_broker: shared.access_broker.clone(),
            checks_per_session: settings.checks_per_session.unwrap_or(CHECKS_PER_SESSION),
        })
    }
}

#[async_trait]
impl Engine for LlmEngine {
    fn reads_prompt(&self) -> bool {
        true
    }

    async fn run(&self, order: &Order, env: &AttemptEnv, sink: Sink) -> PortResult<EngineResult> {
        let Some(prompt) = &env.prompt else {
            return Err(PortError::permanent(
                "no prompt was rendered for an engine that needs one",
                "report this as a defect",
            ));
        };
        let unopened =
            |e: std::io::Error| PortError::transient(format!("cannot open the worktree {}: {e}", env.dir.display()));
        let tree = Arc::new(RootedDir::open(&env.dir).map_err(unopened)?);
        let tool_env = ToolEnv {
            dir: env.dir.clone(),
            cache: env.cache.clone(),
            origin: env.origin.clone(),
            scratch: env.scratch.clone(),
            project: env.project.clone(),
            access_broker: self.access_broker.clone(),
        };
        // The conversation exists only in this process, so it is never resumed.
        let meter =
            Meter::with_file(order.caps, self.prices.clone(), &env.meter, false).map_err(PortError::transient)?;
        let session = Session::new(Parts {
            wire: &self.wire,
            clock: self.clock.clone(),
            limiter: self.limiter.clone(),
            meter: meter.clone(),
            order,
            env,
            prompt,
            tools: Tools::new(tree, order.step, self.sandbox.clone(), tool_env),
            progress: Progress::new(sink),
            checks_per_session: self.checks_per_session,
        });
        let (result, transcript) = session.run().await;
        let name = format!("llm:{}:{}-{}", session::model_name(&self.wire), order.run.abbrev(), order.attempt);
        let files = vec![(ArtifactKind::Transcript, "transcript.jsonl".to_owned(), transcript)];
        Ok(EngineResult {
            result,
            usage: Some(meter.usage()),
            usage_by_model: meter.usage_by_model(),
            session: Some(name),
            files,
        })
    }
}
