//! A driven agent's way to its models, and what is counted on it.

use super::settings::Agent;
use crate::adapters::sandbox::{GatePlace, Sandbox};
use crate::domain::{ModelUse, Order, Usage};
use crate::ports::engine::Bench;
use crate::ports::{PortError, PortResult};

/// Opens ways.
#[derive(Clone, Debug, Default)]
pub struct Ways;

/// One attempt's way. Closed when dropped.
#[derive(Debug)]
pub struct Counted;

impl Ways {
    /// The way of one attempt: by the gate to the agent's provider, or its own.
    ///
    /// # Errors
    /// `Permanent` when there is no gate to its provider.
    pub async fn open(&self, agent: &Agent, _order: &Order, _bench: &Bench) -> PortResult<Counted> {
        match &agent.provider {
            None => Ok(Counted),
            Some(provider) => Err(PortError::permanent(
                format!("there is no gate to the provider {provider} of the agent {}", agent.name),
                "leave the agent's provider out",
            )),
        }
    }
}

impl Counted {
    /// Where the gate is; `None` = the agent has a way of its own.
    pub fn place(&self) -> Option<&GatePlace> {
        None
    }
    /// Its address as the agent sees it.
    pub fn url(&self, sandbox: &Sandbox) -> Option<String> {
        self.place().map(|place| sandbox.gate_url(place))
    }
    /// What ran out, if something did.
    pub fn spent_out(&self) -> Option<String> {
        None
    }
    /// What was used, as counted; `None` = nothing was counted.
    pub fn usage(&self) -> Option<Usage> {
        None
    }
    /// By model.
    pub fn bill(&self) -> Vec<ModelUse> {
        Vec::new()
    }
}
