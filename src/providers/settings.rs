//! Model providers as configured.

use crate::secrets::Secret;
use std::time::Duration;

/// The wire format a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// Anthropic Messages.
    Anthropic,
    /// OpenAI Chat Completions, and everything compatible with it.
    OpenAi,
    /// OpenAI Responses.
    OpenAiResponses,
    /// Gemini `generateContent`.
    Gemini,
    /// Ollama's own chat API.
    Ollama,
}

/// How hard a model is to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// A little.
    Low,
    /// Middling.
    Medium,
    /// Much.
    High,
}

impl Effort {
    /// Its word, in configuration and at providers.
    pub fn name(self) -> &'static str {
        match self {
            Effort::Low => "low",
            Effort::Medium => "medium",
            Effort::High => "high",
        }
    }

    /// Takes the effort off an engine's argument: `PROVIDER/MODEL#EFFORT`, `AGENT/MODEL#EFFORT`. `None` = the model's own.
    ///
    /// # Errors
    /// When what stands after `#` is none.
    pub fn split(arg: &str) -> Result<(&str, Option<Effort>), String> {
        let Some((arg, word)) = arg.rsplit_once('#') else { return Ok((arg, None)) };
        match [Effort::Low, Effort::Medium, Effort::High].into_iter().find(|e| e.name() == word) {
            Some(effort) => Ok((arg, Some(effort))),
            None => Err(format!("{word:?} is no effort; write low, medium or high after the #")),
        }
    }
}

/// Where models are served.
#[derive(Clone, Debug, PartialEq)]
pub struct Provider {
    /// Its name in the configuration: `llm:NAME/MODEL`.
    pub name: String,
    /// What it speaks.
    pub api: Api,
    /// Its address, with a slash at the end (`https://api.anthropic.com/v1/`).
    pub base_url: String,
    /// The key; `None` for servers without one.
    pub key: Option<Secret>,
    /// Where a person puts the key ("environment variable ANTHROPIC_API_KEY"): for questions.
    pub key_place: String,
    /// Calls at the same time, all runs together.
    pub concurrency: u32,
    /// Calls a minute, all runs together; `None` = not limited.
    pub per_minute: Option<u32>,
    /// Silence after which a call is given up.
    pub silence: Duration,
    /// Tokens that fit into the model's window, in and out.
    pub window: u64,
    /// The most tokens of one answer.
    pub max_output: u32,
}
