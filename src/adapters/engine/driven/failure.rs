//! Classifies the failure of a driven agent by its exit and its output: retryable, fixable by a person, or a failure of
//! the work. What providers' words mean is in the table of [`crate::providers::cause`].

use super::{DrivenAgent, MAX_TAIL_BYTES, kind, tail};
use crate::platform::process::{ProcessOutput, StopReason};
use crate::platform::terminal_text;
use crate::ports::engine::StepOutcome;
use crate::providers::cause::{Cause, Reaction, Verdict};
use crate::providers::quota;

/// Substrings of standard error that indicate a broken installation, or an unsupported release of what runs it (Node,
/// Python).
const BROKEN_INSTALLATION: &[&str] = &[
    "invalid regular expression flags",
    "does not provide an export named",
    "err_module_not_found",
    "cannot find module",
    "modulenotfounderror",
    "requires node",
    "unsupported node",
    "requires python",
    "requires a different python",
];

impl DrivenAgent {
    /// Returns the outcome if an error makes the engine unusable; `None` = the error concerns the work.
    pub fn unavailable(&self, error: &str) -> Option<StepOutcome> {
        let now = self.clock.now();
        let verdict = Verdict::of_agent(error, now);
        let waits = |v: &Verdict| matches!(v.cause.reaction(), Reaction::Wait | Reaction::Retry);
        let asks = |v: &Verdict| v.cause.reaction() == Reaction::AskPerson;
        let low = error.to_lowercase();
        let table = &self.agent.output;
        // Configured patterns replace the built-in ones.
        let hit = |patterns: &[String]| patterns.iter().any(|p| contains_word(&low, &p.trim().to_lowercase()));
        let person = match &table.fatal_errors {
            Some(patterns) => hit(patterns).then(|| verdict.filter(asks).map_or(Cause::Unclassified, |v| v.cause)),
            None => verdict.filter(asks).map(|v| v.cause),
        };
        let agent = &self.agent.name;
        let why = format!("the agent {agent} cannot be used now: {}", tail(error.as_bytes(), MAX_TAIL_BYTES));
        if let Some(cause) = person {
            return Some(StepOutcome::Unavailable { why, until: None, fix: Some(self.fix(cause)) });
        }
        let wait = match &table.retryable_errors {
            Some(patterns) => hit(patterns),
            None => verdict.is_some_and(|v| waits(&v)),
        };
        let until = quota::reset_in_text(error, now);
        wait.then_some(StepOutcome::Unavailable { why, until, fix: None })
    }

    /// Returns what a person does about a cause. With a provider, the egress proxy knows better and overrides it.
    fn fix(&self, cause: Cause) -> String {
        let name = &self.agent.name;
        match cause {
            Cause::Key | Cause::Permission => self.access_fix(),
            Cause::Login => self.login_fix(),
            Cause::Credit => format!("add credit to the account that the agent {name} uses, or choose another engine"),
            Cause::Model | Cause::NotLoaded => {
                let kind = kind(self.agent.protocol);
                format!("choose a model that the account of the agent {name} may use ({kind}:{name}/MODEL)")
            }
            Cause::Region => "the service does not serve this country or region: choose another engine".to_owned(),
            Cause::Moderation => {
                "the service blocked the content: reword the goal or the task, or choose another engine".to_owned()
            }
            Cause::Tls | Cause::Proxy => format!(
                "check the certificates and the proxy that the agent {name} uses (SSL_CERT_FILE, NODE_EXTRA_CA_CERTS and HTTPS_PROXY in Skep's environment)"
            ),
            _ => format!("check the message of the agent {name}; correct agents.{name}, or choose another engine"),
        }
    }

    /// Returns the fix for an agent that asks for a login.
    pub fn login_fix(&self) -> String {
        let name = &self.agent.name;
        match &self.agent.provider {
            Some(_) => format!(
                "configure the agent {name} to call its provider without a login of its own (agents.{name}.env, agents.{name}.files)"
            ),
            None => format!(
                "log in to the agent {name} as the user that runs Skep and pass that login on: its key by name, or HOME, in agents.{name}.pass_env"
            ),
        }
    }

    /// Returns the fix for an agent without access to its models.
    pub fn access_fix(&self) -> String {
        let name = &self.agent.name;
        match &self.agent.provider {
            Some(provider) => format!("check the key, address and model of providers.{provider}"),
            None => format!(
                "give the agent {name} its key or login (agents.{name}.pass_env), or a provider (agents.{name}.provider)"
            ),
        }
    }

    /// Returns the outcome of an agent that ended before it understood its protocol: it cannot be used, which says
    /// nothing about the work.
    pub fn never_ready(&self, ended: &ProcessOutput, reason: &str) -> StepOutcome {
        match self.failure(ended, reason) {
            StepOutcome::Failed(why) => {
                let name = &self.agent.name;
                let fix = format!(
                    "check that agents.{name}.command starts an agent that speaks the Agent Client Protocol on its standard input and output"
                );
                StepOutcome::Unavailable {
                    why: format!("{why}\nIt never answered Skep's first message"),
                    until: None,
                    fix: Some(fix),
                }
            }
            unavailable => unavailable,
        }
    }

    /// Returns the outcome of an agent that exited early or with an error. `reason` is what it reported, possibly
    /// empty.
    pub fn failure(&self, ended: &ProcessOutput, reason: &str) -> StepOutcome {
        let name = &self.agent.name;
        match &ended.stop_reason {
            Some(StopReason::Excess(why)) => return StepOutcome::Failed(format!("the agent {name} was killed: {why}")),
            // Nothing the agent did: once there is space, it goes on.
            Some(StopReason::FullDisk(why)) => {
                let why = format!("the agent {name} was killed: {why}");
                return StepOutcome::Unavailable { why, until: None, fix: None };
            }
            None => {}
        }
        let stderr = terminal_text::tail(&ended.stderr, MAX_TAIL_BYTES);
        if matches!(ended.code, Some(126 | 127)) {
            let program = self.agent.command.first().map_or("", String::as_str);
            return StepOutcome::Unavailable {
                why: format!("the agent {name} cannot be started: {stderr}"),
                until: None,
                fix: Some(format!(
                    "install {program:?} where sandboxed commands find it, or correct agents.{name}.command"
                )),
            };
        }
        let low = stderr.to_lowercase();
        if reason.trim().is_empty() && BROKEN_INSTALLATION.iter().any(|words| low.contains(words)) {
            return StepOutcome::Unavailable {
                why: format!("the installation of the agent {name} is broken: {stderr}"),
                until: None,
                fix: Some(format!(
                    "reinstall the agent, and a release of its runtime (Node, Python) that it supports (agents.{name}.command)"
                )),
            };
        }
        let how = match (ended.code, ended.signal) {
            (Some(code), _) => format!("with exit code {code}"),
            (None, Some(signal)) => format!("by signal {signal}"),
            (None, None) => "for an unknown reason".to_owned(),
        };
        let reason = tail(reason.as_bytes(), MAX_TAIL_BYTES);
        let output =
            [reason.trim(), stderr.trim()].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join("\n");
        if let Some(work) = self.unavailable(&output) {
            return work;
        }
        let last = if output.is_empty() { "it gave no reason".to_owned() } else { format!("its output:\n{output}") };
        StepOutcome::Failed(format!("the agent {name} ended {how}; {last}"))
    }
}

/// Returns whether `text` contains `word`. A number counts only as a status: delimited, and shortly after a word that
/// names it as one.
fn contains_word(text: &str, word: &str) -> bool {
    if !word.bytes().all(|b| b.is_ascii_digit()) {
        return text.contains(word);
    }
    text.match_indices(word).any(|(at, _)| {
        let around = [text[..at].chars().next_back(), text[at + word.len()..].chars().next()];
        let before: String = text[..at].chars().rev().take(16).collect::<Vec<_>>().into_iter().rev().collect();
        !around.into_iter().flatten().any(|c| c.is_alphanumeric() || c == '.')
            && ["error", "status", "http", "code"].iter().any(|name| before.contains(name))
    })
}
