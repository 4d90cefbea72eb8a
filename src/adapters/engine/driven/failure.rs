//! Classifies the failure of a driven agent by its exit and its output: retryable, fixable by a person, or a failure of
//! the work.

use super::{DrivenAgent, MAX_TAIL_BYTES, tail};
use crate::platform::process::ProcessOutput;
use crate::platform::terminal_text;
use crate::ports::engine::StepOutcome;

/// Substrings of an error after which waiting helps.
const RETRYABLE_ERRORS: &[&str] = &[
    "rate limit",
    "rate_limit",
    "ratelimit",
    "429",
    "overloaded",
    "quota exceeded",
    "insufficient_quota",
    "usage limit",
    "too many requests",
    "503",
    "529",
    "service unavailable",
    "econnrefused",
    "fetch failed",
    "connection error",
    "stream disconnected",
];
/// Substrings of an error that only a person can fix.
const FATAL_ERRORS: &[&str] = &[
    "invalid api key",
    "invalid_api_key",
    "incorrect api key",
    "unauthorized",
    "401",
    "authentication",
    "not logged in",
    "please log in",
    "login required",
    "run /login",
    "use /login",
    "no api key",
    "auth method",
    "auth type",
    "credit balance",
    "payment required",
    "402",
    "model not found",
    "model_not_found",
    "unknown model",
];

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
        let low = error.to_lowercase();
        let table = &self.agent.output;
        let hit = |configured: &Option<Vec<String>>, built_in: &[&str]| match configured {
            Some(patterns) => patterns.iter().any(|p| contains_word(&low, &p.trim().to_lowercase())),
            None => built_in.iter().any(|p| contains_word(&low, p)),
        };
        let agent = &self.agent.name;
        let why = format!("the agent {agent} cannot be used now: {}", tail(error.as_bytes(), MAX_TAIL_BYTES));
        if hit(&table.fatal_errors, FATAL_ERRORS) {
            return Some(StepOutcome::Unavailable { why, until: None, fix: Some(self.access_fix()) });
        }
        hit(&table.retryable_errors, RETRYABLE_ERRORS).then_some(StepOutcome::Unavailable {
            why,
            until: None,
            fix: None,
        })
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

    /// Returns the outcome of an agent that exited early or with an error. `reason` is what it reported, possibly
    /// empty.
    pub fn failure(&self, ended: &ProcessOutput, reason: &str) -> StepOutcome {
        let name = &self.agent.name;
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
