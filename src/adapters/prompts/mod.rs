//! Prompts from template files: what an engine that reads words is told.
//!
//! | file | duty |
//! |---|---|
//! | `templates` | the files: built in, replaced, checked, rendered |
//! | `told` | what templates are told of an order, capped |
//! | `outside` | text from outside: only ever a marked data block |

mod context;
mod outside;
mod templates;

pub use templates::{BUILT_IN, Listed, STEPS, Templates};

use crate::domain::{Order, Sha};
use crate::ports::{PortError, PortResult, Prompt, Prompts, Repo, Workspaces};
use async_trait::async_trait;
use context::Instruction;
use std::sync::Arc;

/// Files in which a repository says how to work in it.
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

/// The prompts.
pub struct FilePrompts {
    templates: Templates,
    workspaces: Arc<dyn Workspaces>,
}

impl FilePrompts {
    /// Prompts from `templates`, with what repositories say of themselves read through `workspaces`.
    pub fn new(templates: Templates, workspaces: Arc<dyn Workspaces>) -> Self {
        Self { templates, workspaces }
    }

    /// What the repository says of itself at a commit. The same text under two names is told once.
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
    async fn render(&self, repo: &Repo, order: &Order, patch: &str) -> PortResult<Prompt> {
        let instructions = self.instructions(repo, &order.base).await?;
        self.templates
            .render(repo.project.as_str(), order, patch, &instructions)
            .map_err(|what| PortError::permanent(what, "mend the template, or take it out of the folder of prompts"))
    }
}
