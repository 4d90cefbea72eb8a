//! A driven agent's way to its models, and what is counted on it.
//!
//! Invariant: with a provider, what is charged is what the gate counted, never what the agent says.

use super::meter::Meter;
use super::prices::Prices;
use super::settings::{Agent, Settings};
use crate::adapters::gate::{Gate, Opened, Pass};
use crate::adapters::grants::Granted;
use crate::adapters::sandbox::{GatePlace, Sandbox};
use crate::domain::{ModelUse, Order, Usage};
use crate::ports::engine::{Bench, Work};
use crate::ports::{PortError, PortResult};
use crate::secret::Secret;
use std::sync::Arc;

/// Opens ways.
#[derive(Clone, Debug, Default)]
pub struct Ways {
    /// The providers.
    pub settings: Arc<Settings>,
    /// The way out, where there is one.
    pub out: Option<Out>,
}

/// The way out of this process.
#[derive(Clone, Debug)]
pub struct Out {
    /// Where ways are opened.
    pub gate: Arc<Gate>,
    /// What models cost.
    pub prices: Arc<Prices>,
    /// Which hosts the agents of a project may reach besides their providers.
    pub granted: Arc<Granted>,
}

/// One attempt's way. Closed when dropped.
#[derive(Debug)]
pub struct Way(Option<Open>);

#[derive(Debug)]
struct Open {
    opened: Opened,
    meter: Arc<Meter>,
    /// Whether it leads to a provider: only then something is counted.
    counted: bool,
}

impl Ways {
    /// The way of one attempt: to the agent's provider, and to the hosts its project may reach. What is counted on it is kept in the bench's file.
    ///
    /// # Errors
    /// `Permanent` when there is no way to its provider, `Transient` when it cannot be opened now.
    pub fn open(&self, agent: &Agent, order: &Order, bench: &Bench) -> PortResult<Way> {
        let provider = agent.provider.as_ref().and_then(|name| self.settings.providers.get(name));
        let Some(out) = &self.out else {
            return match &agent.provider {
                None => Ok(Way(None)),
                Some(name) => Err(PortError::permanent(
                    format!("the agent {} cannot get to its provider {name}: this process has no gate", agent.name),
                    format!("leave agents.{}.provider out", agent.name),
                )),
            };
        };
        let meter = match provider {
            Some(_) => Meter::kept(order.caps, out.prices.clone(), &bench.meter, order.resume.is_some())
                .map_err(|why| PortError::transient(format!("the agent {} cannot go on: {why}", agent.name)))?,
            None => Meter::new(order.caps, out.prices.clone()),
        };
        let pass = Pass {
            providers: provider.cloned().into_iter().collect(),
            hosts: out.granted.of(&bench.project).hosts.clone(),
            meter: meter.clone(),
            label: format!("{} {} {}", order.run, order.attempt, agent.name),
        };
        let opened = out.gate.open(pass).map_err(|e| match e.kind() {
            std::io::ErrorKind::InvalidInput => PortError::permanent(
                format!("the way out of the agent {} cannot be opened: {e}", agent.name),
                "correct egress.hosts or the temporary folder",
            ),
            _ => PortError::transient(format!("the way out of the agent {} cannot be opened: {e}", agent.name)),
        })?;
        Ok(Way(Some(Open { opened, meter, counted: provider.is_some() })))
    }
}

impl Way {
    /// Where the gate is; `None` = there is none, and the agent has what network its level leaves it.
    pub fn place(&self) -> Option<&GatePlace> {
        self.0.as_ref().map(|open| &open.opened.place)
    }

    /// The gate's address as the agent sees it, with the attempt's token: for its environment and its home, never for an argument or a log.
    /// `None` when it leads to no provider.
    pub fn url(&self, sandbox: &Sandbox) -> Option<Secret> {
        let open = self.counted()?;
        Some(Secret::new(format!("{}{}", sandbox.gate_url(&open.opened.place), open.opened.prefix().expose())))
    }

    /// Environment that goes with it: the gate's own address must not be asked for through a proxy.
    pub fn env(&self) -> Vec<(String, String)> {
        match &self.0 {
            None => Vec::new(),
            Some(_) => ["NO_PROXY", "no_proxy"].map(|name| (name.to_owned(), "127.0.0.1,localhost".to_owned())).into(),
        }
    }

    fn counted(&self) -> Option<&Open> {
        self.0.as_ref().filter(|open| open.counted)
    }

    /// What ran out, if something did.
    pub fn spent_out(&self) -> Option<String> {
        self.counted()?.meter.spent_out().map(|cap| cap.to_string())
    }

    /// What was used, as counted; `None` = nothing was counted.
    pub fn usage(&self) -> Option<Usage> {
        self.counted().map(|open| open.meter.usage())
    }

    /// By model.
    pub fn bill(&self) -> Vec<ModelUse> {
        self.counted().map(|open| open.meter.bill()).unwrap_or_default()
    }

    /// A failure seen from the gate: when the last call of a model got no answer, that is why, and not the work.
    pub fn explain(&self, result: Work) -> Work {
        let fault = self.counted().and_then(|open| open.opened.fault());
        match (result, fault) {
            (Work::Failed(_) | Work::Unavailable { .. }, Some(fault)) => {
                let why = format!("the provider {}: {}", fault.provider, fault.why);
                Work::Unavailable { why, until: fault.until, fix: fault.fix }
            }
            (result, _) => result,
        }
    }
}
