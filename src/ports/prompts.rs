//! What an engine that reads words is told.

use super::{PortResult, Repo};
use crate::domain::{Digest, Order};
use async_trait::async_trait;

/// A rendered prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Who it is and what holds always.
    pub system: String,
    /// The order: goal, task, notes, patch, each text from outside in a marked data block.
    pub user: String,
    /// The digest of the template files it came from: the prompt's version.
    pub version: Digest,
}

/// The prompts.
#[async_trait]
pub trait Prompts: Send + Sync {
    /// Renders the prompt of an order; `patch` is what `Review` judges. What the repository says of itself (AGENTS.md and the like)
    /// is read at the order's base commit only.
    async fn render(&self, repo: &Repo, order: &Order, patch: &str) -> PortResult<Prompt>;
}
