//! What engines with a model are told of the world: providers of models, and agents that are driven.

use crate::secret::Secret;
use std::collections::BTreeMap;
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

/// How an agent is talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Agent Client Protocol over standard input and output.
    Acp,
    /// A command that runs to its end and writes JSON lines.
    Cli,
}

/// An agent that is driven: a program of somebody else's.
#[derive(Clone, Debug, PartialEq)]
pub struct Agent {
    /// Its name in the configuration: `acp:NAME` or `cli:NAME`, with `/MODEL` where it takes one.
    pub name: String,
    /// How it is talked to.
    pub protocol: Protocol,
    /// The program and its arguments, never through a shell. Filled in: `{model}`, `{effort}`, `{dir}` (the worktree), `{home}` and
    /// `{scratch}` (folders of the attempt); and for `Cli` `{prompt_file}` or `{prompt}`: without one of them the prompt comes on standard input.
    pub command: Vec<String>,
    /// The provider its calls go to, through the gate, which holds the key and counts; `None` = it has its own way and key.
    pub provider: Option<String>,
    /// Environment it is given; values may hold `{gate}`, `{model}`, `{effort}`, `{dir}`, `{home}`, `{scratch}`.
    pub env: BTreeMap<String, String>,
    /// Names of environment variables of Skep's that go in: never by argument.
    pub pass_env: Vec<String>,
    /// Files written into its home before it starts, by path beneath `{home}`; same blanks.
    pub files: BTreeMap<String, String>,
    /// For `Cli`: where in its JSON things stand (docs/engines.md has the keys); empty = plain text. For both: `wait` and `fix`, words in
    /// an error, joined by `|`, that mean it cannot be used now: waiting helps, or a person has to do something first.
    pub output: BTreeMap<String, String>,
    /// For `Acp`: the session mode to ask for, where it has modes.
    pub mode: Option<String>,
    /// How long it may give no sign of life. Long: the commands and tests it runs say nothing either.
    pub silence: Duration,
}

impl Agent {
    /// Whether it can be told how hard to think: its table has the blank for it.
    pub fn takes_effort(&self) -> bool {
        self.command.iter().chain(self.env.values()).chain(self.files.values()).any(|text| text.contains("{effort}"))
    }
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// By name.
    pub providers: BTreeMap<String, Provider>,
    /// By name.
    pub agents: BTreeMap<String, Agent>,
}
