//! What a driven agent's failure means, read from its end and its words: wait, a person has to do something, or the work failed.

use super::{Driven, TAIL_BYTES_MAX, tail};
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

/// Words on standard error that mean: the agent is not whole, or what runs it (Node, Python) is of a release it does not run on.
const NOT_WHOLE: &[&str] = &[
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

impl Driven {
    /// What an error's text means for the engine; `None` = nothing, it is about the work.
    pub fn unavailable(&self, said: &str) -> Option<StepOutcome> {
        let low = said.to_lowercase();
        let table = &self.agent.output;
        let hit = |configured: &Option<Vec<String>>, built_in: &[&str]| match configured {
            Some(patterns) => patterns.iter().any(|p| contains_word(&low, &p.trim().to_lowercase())),
            None => built_in.iter().any(|p| contains_word(&low, p)),
        };
        let agent = &self.agent.name;
        let why = format!("the agent {agent} cannot be used now: {}", tail(said.as_bytes(), TAIL_BYTES_MAX));
        if hit(&table.fatal_errors, FATAL_ERRORS) {
            return Some(StepOutcome::Unavailable { why, until: None, fix: Some(self.way_in()) });
        }
        hit(&table.retryable_errors, RETRYABLE_ERRORS).then_some(StepOutcome::Unavailable {
            why,
            until: None,
            fix: None,
        })
    }

    /// What to do when the agent has no way to its models.
    pub fn way_in(&self) -> String {
        let name = &self.agent.name;
        match &self.agent.provider {
            Some(provider) => format!("look at the key, address and model of providers.{provider}"),
            None => format!(
                "give the agent {name} its key or login (agents.{name}.pass_env), or a provider (agents.{name}.provider)"
            ),
        }
    }

    /// What an agent that ended too early, or with an error, comes to. `said` = what it gave as the reason, if it did.
    pub fn fell(&self, ended: &ProcessOutput, said: &str) -> StepOutcome {
        let name = &self.agent.name;
        let stderr = terminal_text::tail(&ended.stderr, TAIL_BYTES_MAX);
        if matches!(ended.code, Some(126 | 127)) {
            let program = self.agent.command.first().map_or("", String::as_str);
            return StepOutcome::Unavailable {
                why: format!("the agent {name} cannot be started: {stderr}"),
                until: None,
                fix: Some(format!(
                    "install {program:?} where commands find it (see sandbox), or correct agents.{name}.command"
                )),
            };
        }
        let low = stderr.to_lowercase();
        if said.trim().is_empty() && NOT_WHOLE.iter().any(|words| low.contains(words)) {
            return StepOutcome::Unavailable {
                why: format!("the agent {name} cannot run as it is installed: {stderr}"),
                until: None,
                fix: Some(format!(
                    "install the agent again, and what runs it (Node, Python) in a release that it supports (agents.{name}.command)"
                )),
            };
        }
        let how = match (ended.code, ended.signal) {
            (Some(code), _) => format!("with exit code {code}"),
            (None, Some(signal)) => format!("by signal {signal}"),
            (None, None) => "in an unknown way".to_owned(),
        };
        let said = tail(said.as_bytes(), TAIL_BYTES_MAX);
        let said = [said.trim(), stderr.trim()].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join("\n");
        if let Some(work) = self.unavailable(&said) {
            return work;
        }
        let last = if said.is_empty() { "it gave no reason".to_owned() } else { format!("it said:\n{said}") };
        StepOutcome::Failed(format!("the agent {name} ended {how}; {last}"))
    }
}

/// Whether `text` has `word` in it; a number counts only as a status: whole, and named as one just before.
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
