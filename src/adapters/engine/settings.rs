//! Configured agents, and the providers that engines may use.

use crate::providers::settings::Provider;
use std::collections::BTreeMap;
use std::time::Duration;

pub use super::output_table::{Expression, Format, OutputTable};

/// Protocol of a driven agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Agent Client Protocol over standard input and output.
    Acp,
    /// A command that runs to its end and writes its output.
    Cli,
}

/// Driven agent: an external program.
#[derive(Clone, Debug, PartialEq)]
pub struct Agent {
    /// Name in the configuration: `acp:NAME` or `cli:NAME`, with `/MODEL` if it takes one.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Program and arguments, never through a shell. Placeholders: `{model}`, `{effort}`, `{dir}` (the worktree),
    /// `{home}` and `{scratch}` (folders of the attempt); for `Cli` also `{prompt_file}` or `{prompt}`; without them
    /// the prompt is sent on standard input.
    pub command: Vec<String>,
    /// Provider of its model calls, through the egress proxy, which holds the key and measures; `None` = it uses its
    /// own key.
    pub provider: Option<String>,
    /// Environment; values may contain `{proxy_url}`, `{model}`, `{effort}`, `{dir}`, `{home}`, `{scratch}`.
    pub env: BTreeMap<String, String>,
    /// Names of Skep's environment variables that are passed on.
    pub pass_env: Vec<String>,
    /// Files written into its home before it starts, by path below `{home}`, with the same placeholders.
    pub files: BTreeMap<String, String>,
    /// For `Cli`: how to read its output. For both protocols: which errors are retryable and which a person has to fix.
    pub output: OutputTable,
    /// For `Acp`: session mode to request.
    pub mode: Option<String>,
    /// Time without output after which the agent is stopped. It is long, because the commands and tests that the agent
    /// runs may be silent.
    pub idle_timeout: Duration,
}

impl Agent {
    /// Returns whether its table has the placeholder for a reasoning effort.
    pub fn takes_effort(&self) -> bool {
        self.has("{effort}")
    }

    /// Returns whether its table has the placeholder for a model.
    pub fn takes_model(&self) -> bool {
        self.has("{model}")
    }

    fn has(&self, placeholder: &str) -> bool {
        self.command.iter().chain(self.env.values()).chain(self.files.values()).any(|text| text.contains(placeholder))
    }
}

/// Exit codes of `command:` engines after which the checks decide, if the configuration names no others: linters that
/// fix end with 1 when something is left.
pub const PARTIAL_EXIT_CODES: &[i32] = &[1];

/// How often the checks run in a session of an `llm` engine, if the configuration does not say.
pub const CHECKS_PER_SESSION: u32 = 3;

/// Settings of all engines.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Providers by name.
    pub providers: BTreeMap<String, Provider>,
    /// Agents by name.
    pub agents: BTreeMap<String, Agent>,
    /// Exit codes of `command:` engines after which the checks decide whether what changed is good; `None` =
    /// [`PARTIAL_EXIT_CODES`].
    pub partial_exit_codes: Option<Vec<i32>>,
    /// How often the checks run in a session of an `llm` engine when its model says that it is done; 0 = never,
    /// `None` = [`CHECKS_PER_SESSION`].
    pub checks_per_session: Option<u32>,
    /// Why the key of a provider is missing, and what to do, by provider.
    pub keyless: BTreeMap<String, (String, String)>,
}

/// Placeholders of earlier versions and the ones that replaced them.
const RENAMED_PLACEHOLDERS: &[(&str, &str)] = &[("gate", "proxy_url")];

/// Returns the placeholder of an earlier version that a text uses, and the one that replaced it.
pub fn renamed_placeholder(text: &str) -> Option<(&'static str, &'static str)> {
    RENAMED_PLACEHOLDERS.iter().copied().find(|(old, _)| text.contains(&format!("{{{old}}}")))
}
