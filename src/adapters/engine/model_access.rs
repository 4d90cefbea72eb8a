//! Access of a driven agent to its models through the egress proxy, and the usage measured there.
//!
//! Invariant: with a provider, the charge is what the proxy measured, never what the agent reports.

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

/// Longest cooldown that an agent may wait out by itself.
const MAX_COOLDOWN_MS: i64 = 5 * 60 * 1000;

/// Opens model access for attempts.
#[derive(Clone, Debug, Default)]
pub struct ModelAccessProvider {
    /// Configured providers.
    pub settings: Arc<Settings>,
    /// Grants secrets and hosts, by project.
    pub access_broker: AccessBroker,
    /// Prices of models.
    pub prices: Arc<Prices>,
}

/// Model access of one attempt, with its secrets. Closed when dropped.
#[derive(Debug)]
pub struct ModelAccess {
    given: CommandAccess,
    meter: Arc<Meter>,
    /// Whether the session leads to a provider. Usage is measured only then.
    counted: bool,
}

impl ModelAccessProvider {
    /// Opens the access of one attempt: to the agent's provider and to the hosts of its project. Usage is stored in the
    /// attempt's meter file; `sink` receives the names of the granted secrets.
    ///
    /// # Errors
    /// `Permanent` if the provider is unreachable by design or a secret is missing, `Transient` if it cannot be opened
    /// now.
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
                format!("the agent {} cannot reach its provider {name}: this process has no egress proxy", agent.name),
                format!("remove agents.{}.provider", agent.name),
            ));
        }
        let counted = provider.is_some();
        let meter = match counted {
            true => Meter::with_file(order.caps, self.prices.clone(), &env.meter, order.resume.is_some())
                .map_err(|why| PortError::transient(format!("the agent {} cannot continue: {why}", agent.name)))?,
            false => Meter::new(order.caps, self.prices.clone()),
        };
        let label = format!("the agent {} ({} {})", agent.name, order.run, order.attempt);
        let request =
            AccessRequest { project: &env.project, audience: Audience::Engine, level: sandbox.level(), label: &label };
        let given = self.access_broker.grant_agent(request, provider, meter.clone()).await?;
        report_secrets(&given, sink);
        Ok(ModelAccess { given, meter, counted })
    }
}

/// Reports the names of the granted secrets, for the record of the attempt.
pub fn report_secrets(given: &CommandAccess, sink: &Sink) {
    let names = given.names();
    if !names.is_empty() {
        sink(EngineEvent::Given(names));
    }
}

/// Returns the result of an engine that was not started because its access could not be granted. It says nothing about
/// the work.
pub fn access_denied(error: PortError) -> EngineResult {
    let fix = matches!(error, PortError::Permanent { .. }).then(|| error.fix().to_owned());
    let result = StepOutcome::Unavailable { why: error.to_string(), until: None, fix };
    EngineResult { result, usage: Some(Usage::default()), usage_by_model: Vec::new(), session: None, files: Vec::new() }
}

impl ModelAccess {
    /// Returns the endpoint of the egress proxy; `None` = there is none, and the agent has the network that its sandbox
    /// level leaves it.
    pub fn place(&self) -> Option<&ProxyEndpoint> {
        self.given.endpoint()
    }

    /// Returns the URL of the proxy as the agent sees it, with the attempt's token: for its environment and home, never
    /// for an argument or a log. `None` if it leads to no provider.
    pub fn url(&self, sandbox: &Sandbox) -> Option<Secret> {
        let out = self.counted()?;
        Some(Secret::new(format!("{}{}", sandbox.proxy_url(&out.endpoint), out.path_prefix().expose())))
    }

    /// Variables with the granted secrets. The sandbox adds those for the proxy.
    pub fn env(&self) -> Vec<(String, String)> {
        self.given.env().into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Describes what the proxy refused, for people; `None` = nothing.
    pub fn refused(&self) -> Option<String> {
        self.given.denied_hosts()
    }

    /// Returns the proxy session, if it leads to a provider.
    fn counted(&self) -> Option<&ProxySession> {
        self.given.session.as_ref().filter(|_| self.counted)
    }

    /// Waits until no call is in flight, for at most `max_wait`. A call that is cut off is charged in full.
    pub async fn wait_idle(&self, max_wait: Duration) {
        if self.counted {
            let _still = tokio::time::timeout(max_wait, self.meter.wait_until_idle()).await;
        }
    }

    /// Returns the exhausted limit, if there is one.
    pub fn exhausted(&self) -> Option<Cap> {
        self.counted()?;
        self.meter.exhausted_cap()
    }

    /// Returns the measured usage; `None` = not measured.
    pub fn usage(&self) -> Option<Usage> {
        self.counted().map(|_| self.meter.usage())
    }

    /// Returns the measured usage by model.
    pub fn usage_by_model(&self) -> Vec<ModelUse> {
        self.counted().map(|_| self.meter.usage_by_model()).unwrap_or_default()
    }

    /// Corrects a result by what the proxy observed. If the last model call got no answer, that is why the work failed.
    /// Some agents then end as if they had succeeded: their work counts as incomplete if the call was to their own
    /// model, or if no call was ever answered.
    pub fn explain(&self, model: Option<&str>, result: StepOutcome) -> StepOutcome {
        let fault = self.counted().and_then(ProxySession::fault);
        match (result, fault) {
            (StepOutcome::Failed(_) | StepOutcome::Unavailable { .. }, Some(fault)) => unavailable(fault),
            (StepOutcome::Edited { .. } | StepOutcome::Notes(_), Some(fault)) if self.concerns(&fault, model) => {
                unavailable(fault)
            }
            (result, _) => result,
        }
    }

    /// Returns whether the agent's model stays unavailable: its last call was refused, and a person has to act first or
    /// the cooldown is long.
    pub fn is_stuck(&self, model: Option<&str>) -> bool {
        let fault = self.counted().and_then(ProxySession::fault);
        fault.is_some_and(|fault| {
            let long = fault.until.is_some_and(|until| until.0.saturating_sub(fault.at.0) > MAX_COOLDOWN_MS);
            (long || fault.fix.is_some()) && self.concerns(&fault, model)
        })
    }

    fn concerns(&self, fault: &Fault, model: Option<&str>) -> bool {
        model == Some(fault.model.as_str()) || self.usage().is_some_and(|used| used.turns == 0)
    }
}

fn unavailable(fault: Fault) -> StepOutcome {
    let why = format!("the provider {}: {}", fault.provider, fault.why);
    StepOutcome::Unavailable { why, until: fault.until, fix: fault.fix }
}
