//! Skep's own agent loop over any model: it reads, searches, edits and runs by the tools it is given, and ends with a checked result.
//!
//! | part | duty |
//! |---|---|
//! | `session` | the loop: ask, act, tell; when to stop |
//! | `wire`, `fault` | one call of a model; what went wrong, by what to do next |
//! | `history`, `context` | the conversation; keeping it inside the model's window |
//! | `guard` | models that go in circles |
//! | `tools` | what a model can do |
//! | `voice`, `transcript` | what people see while it works, and what is kept |
//!
//! Invariant: nothing a model says is believed because it says it; its result is checked like any other engine's.

use super::settings::Settings;
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
mod tools;
mod transcript;
mod wire;

use progress::Progress;
use session::{Parts, Session};
use tools::{ToolEnv, Tools};
use wire::{Clients, Wire};

/// What all sessions of a process share.
#[derive(Clone, Debug)]
pub struct Shared {
    clock: Arc<dyn Clock>,
    limits: RateLimits,
    prices: Arc<Prices>,
    clients: Arc<OnceLock<Result<Clients, String>>>,
    access_broker: AccessBroker,
}

impl Shared {
    /// State for sessions that cost by `prices`, with rate limits of their own.
    pub fn new(clock: Arc<dyn Clock>, prices: Arc<Prices>) -> Shared {
        let limits = RateLimits::new(clock.clone());
        Shared { clock, limits, prices, clients: Arc::default(), access_broker: AccessBroker::default() }
    }

    /// What models cost.
    pub fn prices(&self) -> &Prices {
        &self.prices
    }

    /// The same, with other prices.
    pub fn with_prices(self, prices: Arc<Prices>) -> Shared {
        Shared { prices, ..self }
    }

    /// The same, with what the lines that models run are given.
    pub fn with_giver(self, access_broker: AccessBroker) -> Shared {
        Shared { access_broker, ..self }
    }

    /// The same, with other limits.
    pub fn with_limits(self, limits: RateLimits) -> Shared {
        Shared { limits, ..self }
    }
}

/// The engine for one model.
#[derive(Debug)]
pub struct LlmEngine {
    wire: Wire,
    clock: Arc<dyn Clock>,
    limiter: Arc<RateLimiter>,
    prices: Arc<Prices>,
    sandbox: Sandbox,
    access_broker: AccessBroker,
}

impl LlmEngine {
    /// The engine for `PROVIDER/MODEL` or `PROVIDER/MODEL#EFFORT`.
    ///
    /// # Errors
    /// When there is no such provider, with those there are, or the model's name or the effort cannot be one.
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
                "there is no provider {name:?}; configured are: {known}. Add [providers.{name}], or name one of these"
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
                "no prompt was rendered for an engine that reads one",
                "report this as a defect",
            ));
        };
        let unopened = |e: std::io::Error| {
            PortError::transient(format!("the worktree {} cannot be opened: {e}", env.dir.display()))
        };
        let tree = Arc::new(RootedDir::open(&env.dir).map_err(unopened)?);
        let place = ToolEnv {
            dir: env.dir.clone(),
            cache: env.cache.clone(),
            scratch: env.scratch.clone(),
            project: env.project.clone(),
            access_broker: self.access_broker.clone(),
        };
        // Its conversation is in this process alone: it is never taken up again.
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
            tools: Tools::new(tree, order.step, self.sandbox.clone(), place),
            voice: Progress::new(sink),
        });
        let (result, transcript) = session.carry().await;
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
