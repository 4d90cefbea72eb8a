//! Prompts for engines that read text.

use super::{PortResult, Repo};
use crate::domain::{Digest, Memory, Order};
use async_trait::async_trait;

/// A rendered prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// The system prompt: the role and the rules that always hold.
    pub system: String,
    /// The user prompt: goal, task, notes and patch, with each text from outside in a marked data block.
    pub user: String,
    /// The digest of its template files: the prompt's version.
    pub version: Digest,
}

/// Renders prompts.
#[async_trait]
pub trait Prompts: Send + Sync {
    /// Renders the prompt of an order; `patch` is what a `Review` judges, and `memories` is what the attempt is given from
    /// earlier runs. The repository's own instructions (AGENTS.md and the like) are read at the order's base commit only.
    async fn render(&self, repo: &Repo, order: &Order, patch: &str, memories: &[Memory]) -> PortResult<Prompt>;
}
