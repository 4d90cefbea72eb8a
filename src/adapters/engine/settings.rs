//! Agents as configured, and the providers engines may use.

use crate::providers::settings::Provider;
use std::collections::BTreeMap;
use std::time::Duration;

pub use super::output_table::{Expression, Format, OutputTable};

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
    /// Environment it is given; values may hold `{proxy_url}`, `{model}`, `{effort}`, `{dir}`, `{home}`, `{scratch}`.
    pub env: BTreeMap<String, String>,
    /// Names of environment variables of Skep's that go in: never by argument.
    pub pass_env: Vec<String>,
    /// Files written into its home before it starts, by path beneath `{home}`; same blanks.
    pub files: BTreeMap<String, String>,
    /// For `Cli`: where its output holds what. For both protocols: which errors are retryable and which a person has to fix.
    pub output: OutputTable,
    /// For `Acp`: the session mode to ask for, where it has modes.
    pub mode: Option<String>,
    /// Time without output after which the agent is stopped. Long, because the commands and tests it runs are silent, too.
    pub idle_timeout: Duration,
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
