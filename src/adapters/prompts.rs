//! Prompts from templates.

use crate::domain::Order;
use crate::ports::{PortError, PortResult, Prompt, Prompts, Repo};
use async_trait::async_trait;

/// The prompts of this build.
#[derive(Clone, Debug, Default)]
pub struct FilePrompts;

#[async_trait]
impl Prompts for FilePrompts {
    async fn render(&self, _repo: &Repo, order: &Order, _patch: &str) -> PortResult<Prompt> {
        Err(PortError::permanent(
            format!("there is no prompt for the step {}", order.step.name()),
            "choose an engine that needs none",
        ))
    }
}
