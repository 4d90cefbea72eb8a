//! A driven agent's way to its models, and what is counted on it.
//!
//! Invariant: with a provider, what is charged is what the gate counted, never what the agent says.

use super::settings::{Agent, Settings};
use crate::domain::{ModelUse, Order, Usage};
use crate::platform::access::broker::{AccessBroker, AccessRequest, Audience, CommandAccess};
use crate::platform::egress::{Fault, ProxySession};
use crate::platform::sandbox::{ProxyEndpoint, Sandbox};
use crate::ports::engine::{AttemptEnv, EngineEvent, EngineResult, Sink, StepOutcome};
use crate::ports::{PortError, PortResult};
use crate::providers::meter::Cap;
use crate::providers::meter::Meter;
use crate::providers::prices::Prices;
use crate::secrets::Secret;
use std::sync::Arc;
use std::time::Duration;

/// A time to rest that an agent may wait through by itself.
const REST_MS: i64 = 5 * 60 * 1000;

/// Opens ways.
#[derive(Clone, Debug, Default)]
pub struct ModelAccessProvider {
    /// The providers.
    pub settings: Arc<Settings>,
    /// What agents are given, by project.
    pub access_broker: AccessBroker,
    /// What models cost.
    pub prices: Arc<Prices>,
}

/// One attempt's way, and the secrets that go with it. Closed when dropped.
#[derive(Debug)]
pub struct ModelAccess {
    given: CommandAccess,
    meter: Arc<Meter>,
    /// Whether it leads to a provider: only then something is counted.
    counted: bool,
}

impl ModelAccessProvider {
    /// The way of one attempt: to the agent's provider, and to the hosts its project may reach. What is counted on it is kept in the
    /// bench's file; `sink` is told the names of the secrets it is given.
    ///
    /// # Errors
    /// `Permanent` when there is no way to its provider or a secret is missing, `Transient` when it cannot be opened now.
    pub async fn open(
        &self,
        agent: &Agent,
        sandbox: &Sandbox,
        order: &Order,
        env: &AttemptEnv,
        sink: &Sink,
    ) -> PortResult<ModelAccess> {
        let provider = agent.provider.as_ref().and_then(|name| self.settings.providers.get(name)).cloned();
        if let (Some(name), false) = (&agent.provider, self.access_broker.has_proxy()) {
            return Err(PortError::permanent(
                format!("the agent {} cannot get to its provider {name}: this process has no gate", agent.name),
                format!("leave agents.{}.provider out", agent.name),
            ));
        }
        let counted = provider.is_some();
        let meter = match counted {
            true => Meter::with_file(order.caps, self.prices.clone(), &env.meter, order.resume.is_some())
                .map_err(|why| PortError::transient(format!("the agent {} cannot go on: {why}", agent.name)))?,
            false => Meter::new(order.caps, self.prices.clone()),
        };
        let label = format!("the agent {} ({} {})", agent.name, order.run, order.attempt);
        let asker =
            AccessRequest { project: &env.project, audience: Audience::Engine, level: sandbox.level(), label: &label };
        let given = self.access_broker.grant_agent(asker, provider, meter.clone()).await?;
        tell(&given, sink);
        Ok(ModelAccess { given, meter, counted })
    }
}

/// Tells which secrets were given, for the record of the attempt.
pub fn tell(given: &CommandAccess, sink: &Sink) {
    let names = given.names();
    if !names.is_empty() {
        sink(EngineEvent::Given(names));
    }
}

/// An engine that is not started, because what it is to be given cannot be: that says nothing about the work.
pub fn not_given(error: PortError) -> EngineResult {
    let fix = matches!(error, PortError::Permanent { .. }).then(|| error.fix().to_owned());
    let result = StepOutcome::Unavailable { why: error.to_string(), until: None, fix };
    EngineResult { result, usage: Some(Usage::default()), usage_by_model: Vec::new(), session: None, files: Vec::new() }
}

impl ModelAccess {
    /// Where the gate is; `None` = there is none, and the agent has what network its level leaves it.
    pub fn place(&self) -> Option<&ProxyEndpoint> {
        self.given.endpoint()
    }

    /// The gate's address as the agent sees it, with the attempt's token: for its environment and its home, never for an argument or a log.
    /// `None` when it leads to no provider.
    pub fn url(&self, sandbox: &Sandbox) -> Option<Secret> {
        let out = self.counted()?;
        Some(Secret::new(format!("{}{}", sandbox.proxy_url(&out.endpoint), out.path_prefix().expose())))
    }

    /// Environment that goes with it: the secrets. Where the gate is, the sandbox tells.
    pub fn env(&self) -> Vec<(String, String)> {
        self.given.env().into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// What the gate refused, in words for people; `None` = nothing.
    pub fn refused(&self) -> Option<String> {
        self.given.denied_hosts()
    }

    /// The way, where it leads to a provider.
    fn counted(&self) -> Option<&ProxySession> {
        self.given.session.as_ref().filter(|_| self.counted)
    }

    /// Waits until no call is under way, at most so long. A call that is cut off is charged in full.
    pub async fn at_rest(&self, most: Duration) {
        if self.counted {
            let _still = tokio::time::timeout(most, self.meter.wait_until_idle()).await;
        }
    }

    /// What ran out, if something did.
    pub fn spent_out(&self) -> Option<Cap> {
        self.counted()?;
        self.meter.exhausted_cap()
    }

    /// What was used, as counted; `None` = nothing was counted.
    pub fn usage(&self) -> Option<Usage> {
        self.counted().map(|_| self.meter.usage())
    }

    /// By model.
    pub fn usage_by_model(&self) -> Vec<ModelUse> {
        self.counted().map(|_| self.meter.usage_by_model()).unwrap_or_default()
    }

    /// A result seen from the gate: when the last call of a model got no answer, that is why the work failed, and not the work. Some
    /// agents end then as if all were well: what they did is not believed to be whole when it was their own model, or none ever answered.
    pub fn explain(&self, model: Option<&str>, result: StepOutcome) -> StepOutcome {
        let fault = self.counted().and_then(ProxySession::fault);
        match (result, fault) {
            (StepOutcome::Failed(_) | StepOutcome::Unavailable { .. }, Some(fault)) => unavailable(fault),
            (StepOutcome::Edited { .. } | StepOutcome::Notes(_), Some(fault)) if self.is_its_own(&fault, model) => {
                unavailable(fault)
            }
            (result, _) => result,
        }
    }

    /// Whether it has no model to work with for long: its own was refused last, and a person has to do something first or its time to
    /// rest is long.
    pub fn is_stuck(&self, model: Option<&str>) -> bool {
        let fault = self.counted().and_then(ProxySession::fault);
        fault.is_some_and(|fault| {
            let long = fault.until.is_some_and(|until| until.0.saturating_sub(fault.at.0) > REST_MS);
            (long || fault.fix.is_some()) && self.is_its_own(&fault, model)
        })
    }

    fn is_its_own(&self, fault: &Fault, model: Option<&str>) -> bool {
        model == Some(fault.model.as_str()) || self.usage().is_some_and(|used| used.turns == 0)
    }
}

fn unavailable(fault: Fault) -> StepOutcome {
    let why = format!("the provider {}: {}", fault.provider, fault.why);
    StepOutcome::Unavailable { why, until: fault.until, fix: fault.fix }
}
