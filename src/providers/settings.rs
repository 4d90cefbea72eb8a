//! Configured model providers.

use crate::secrets::Secret;
use std::time::Duration;

/// Wire format of a provider.
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

/// Reasoning effort of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Low effort.
    Low,
    /// Medium effort.
    Medium,
    /// High effort.
    High,
}

impl Effort {
    /// Returns its name in the configuration and at providers.
    pub fn name(self) -> &'static str {
        match self {
            Effort::Low => "low",
            Effort::Medium => "medium",
            Effort::High => "high",
        }
    }

    /// Splits the effort from an engine's argument: `PROVIDER/MODEL#EFFORT`, `AGENT/MODEL#EFFORT`. `None` = the
    /// model's default.
    ///
    /// # Errors
    /// When the text after `#` is not an effort.
    pub fn split(arg: &str) -> Result<(&str, Option<Effort>), String> {
        let Some((arg, word)) = arg.rsplit_once('#') else { return Ok((arg, None)) };
        match [Effort::Low, Effort::Medium, Effort::High].into_iter().find(|e| e.name() == word) {
            Some(effort) => Ok((arg, Some(effort))),
            None => Err(format!("unknown effort {word:?}; write low, medium or high after the #")),
        }
    }
}

/// A configured model provider.
#[derive(Clone, Debug, PartialEq)]
pub struct Provider {
    /// Name in the configuration: `llm:NAME/MODEL`.
    pub name: String,
    /// Wire format it speaks.
    pub api: Api,
    /// Base URL with a trailing slash (`https://api.anthropic.com/v1/`).
    pub base_url: String,
    /// API key; `None` for servers without one.
    pub key: Option<Secret>,
    /// Source of the key ("environment variable ANTHROPIC_API_KEY"), for questions to a person.
    pub key_source: String,
    /// Maximum number of concurrent calls of all runs together.
    pub concurrency: u32,
    /// Maximum number of calls per minute of all runs together; `None` = unlimited.
    pub requests_per_minute: Option<u32>,
    /// Time without data after which a call is abandoned.
    pub idle_timeout: Duration,
    /// Size of the model's context window in tokens, input and output together.
    pub context_window: u64,
    /// Maximum number of output tokens of one call.
    pub max_output_tokens: u32,
}
