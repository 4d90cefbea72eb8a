//! Prompts rendered from template files, for engines that read one.
//!
//! | file | duty |
//! |---|---|
//! | `templates` | the files: built-in, overridden, validated, rendered |
//! | `context` | values of an order that templates can use, bounded |
//! | `layout` | the layout of a repository in a few lines |
//! | `outside` | untrusted text: printed only as a marked data block |

mod context;
mod layout;
mod outside;
mod templates;

pub use templates::{BUILT_IN, Listed, STEPS, Templates};

use crate::domain::{Memory, Order, Sha};
use crate::ports::{PortError, PortResult, Prompt, Prompts, Repo, Workspaces};
use async_trait::async_trait;
use context::{About, Instruction};
use std::sync::Arc;

/// Files with a repository's instructions for contributors and agents.
const INSTRUCTIONS: [&str; 8] = [
    "AGENTS.md",
    "CLAUDE.md",
    "GEMINI.md",
    ".cursorrules",
    ".github/copilot-instructions.md",
    "CONTRIBUTING.md",
    ".github/CONTRIBUTING.md",
    "docs/CONTRIBUTING.md",
];

/// Prompts rendered from templates.
pub struct FilePrompts {
    templates: Templates,
    workspaces: Arc<dyn Workspaces>,
}

impl FilePrompts {
    /// Creates prompts from `templates`. Instructions of repositories are read through `workspaces`.
    pub fn new(templates: Templates, workspaces: Arc<dyn Workspaces>) -> Self {
        Self { templates, workspaces }
    }

    /// Reads the repository's instructions at a commit. The same text under two names is included once.
    async fn instructions(&self, repo: &Repo, base: &Sha) -> PortResult<Vec<Instruction>> {
        let mut found: Vec<Instruction> = Vec::new();
        for path in INSTRUCTIONS {
            let Some(bytes) = self.workspaces.read_at(repo, base, path).await? else { continue };
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if !text.trim().is_empty() && found.iter().all(|f| f.text != text) {
                found.push(Instruction { path, text });
            }
        }
        Ok(found)
    }
}

#[async_trait]
impl Prompts for FilePrompts {
    async fn render(&self, repo: &Repo, order: &Order, patch: &str, memories: &[Memory]) -> PortResult<Prompt> {
        let about = About {
            memories: memories.to_vec(),
            instructions: self.instructions(repo, &order.base).await?,
            layout: layout::layout(&self.workspaces.paths(repo, &order.base).await?),
        };
        self.templates
            .render(repo.project.as_str(), order, patch, &about)
            .map_err(|what| PortError::permanent(what, "fix the template, or remove it from the prompts folder"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::Policy;

    #[test]
    fn what_is_put_into_prompts_is_not_changed_unseen() {
        for path in INSTRUCTIONS {
            assert!(Policy::default().protects(path), "{path}");
        }
    }
}
