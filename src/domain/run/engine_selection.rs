//! Engine selection: the engine of a role's next attempt is its own, or the first fallback while its own is in
//! cooldown.
//!
//! Invariant: an engine in cooldown is never chosen.

use super::Run;
use super::attempt::{Attempt, Ending};
use crate::domain::budget::shared_budget::SharedBudget;
use crate::domain::id::Timestamp;
use crate::domain::order::{EngineSpec, Role, Step};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Shortest cooldown of an engine that did not say when it is available again, in milliseconds.
const MIN_COOLDOWN_MS: i64 = 30_000;
/// Shortest cooldown of an engine that was unavailable again after the time that it had named, in milliseconds.
const MIN_REPEATED_MS: i64 = 8_000;
/// Longest cooldown of such engines, and longest wait for a shared budget.
const MAX_BACKOFF_MS: i64 = 30 * 60_000;
/// Shortest wait for the reservations of other runs.
const MIN_BUDGET_WAIT_MS: i64 = 2_000;
/// Upper bound for a retry time that an engine reports.
const MAX_REPORTED_MS: i64 = 30 * 24 * 3_600_000;
/// Longest wait, in milliseconds, that is not also put to a person as a question.
pub const MAX_SILENT_WAIT_MS: i64 = 24 * 3_600_000;
/// Attempts in a row without a usable engine before a person is asked.
pub const MAX_UNAVAILABLE: u32 = 20;

/// The time during which an engine that was unavailable is not used again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cooldown {
    /// When it ends; `None` = when a person has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// What happened, and to which engine.
    pub why: String,
    /// What a person has to do first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// Times in a row that the engine was unavailable.
    pub count: u32,
}

impl Cooldown {
    /// Returns whether the engine must not be used now.
    pub fn active(&self, at: Timestamp) -> bool {
        self.until.is_none_or(|until| until > at)
    }

    /// Returns the cooldown after an engine was unavailable. `before` is its previous cooldown, if the engine has not
    /// worked since.
    pub fn after(
        before: Option<&Cooldown>,
        why: String,
        until: Option<Timestamp>,
        fix: Option<String>,
        at: Timestamp,
    ) -> Cooldown {
        if let Some(known) = before.filter(|r| r.active(at)) {
            // Another attempt ran into the same outage before the cooldown was known: the outage counts once.
            let later =
                if fix.is_some() { None } else { known.until.map(|k| believed(until, at).map_or(k, |u| u.max(k))) };
            return Cooldown { until: later, why, fix: fix.or_else(|| known.fix.clone()), count: known.count };
        }
        let count = before.map_or(0, |r| r.count).saturating_add(1);
        let until = match fix {
            Some(_) => None,
            None => match believed(until, at) {
                Some(until) => Some(until.max(repeated_end(count, at))),
                None => Some(cooldown_end(count, at)),
            },
        };
        Cooldown { until, why, fix, count }
    }
}

/// Returns the end of a cooldown when the engine was unavailable `count` (from 1) times in a row: first 30 s, at most
/// 30 min.
pub fn cooldown_end(count: u32, at: Timestamp) -> Timestamp {
    backoff(MIN_COOLDOWN_MS, count, at)
}

/// Returns the earliest end of a cooldown whose engine names a time, when it was unavailable `count` (from 1) times in a
/// row: at once, then after 8 s, 32 s, 2 min, 9 min, at most 30 min. An engine that always names a short time would use up
/// all attempts.
fn repeated_end(count: u32, at: Timestamp) -> Timestamp {
    match count {
        0 | 1 => at,
        n => backoff(MIN_REPEATED_MS, n.saturating_mul(2).saturating_sub(3), at),
    }
}

/// Returns when to ask again for amounts that other runs have only reserved, after `count` (from 1) refusals in a row:
/// first 2 s, because attempts may end at any moment, at most 30 min.
pub fn budget_retry(count: u32, at: Timestamp) -> Timestamp {
    backoff(MIN_BUDGET_WAIT_MS, count, at)
}

fn backoff(first_ms: i64, count: u32, at: Timestamp) -> Timestamp {
    let wait = first_ms.saturating_mul(1 << count.saturating_sub(1).min(16)).min(MAX_BACKOFF_MS);
    Timestamp(at.0.saturating_add(wait))
}

/// Returns a retry time that an engine reported, if it is plausible.
fn believed(until: Option<Timestamp>, at: Timestamp) -> Option<Timestamp> {
    until.filter(|u| *u > at).map(|u| u.min(Timestamp(at.0.saturating_add(MAX_REPORTED_MS))))
}

/// A wait that ends by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// When the run resumes.
    pub until: Timestamp,
    /// What it waits for.
    pub reason: WaitReason,
}

/// Condition that a run waits for by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitReason {
    /// The end of an engine's cooldown.
    Engine {
        /// The engine's display name.
        engine: String,
        /// Why it is in cooldown.
        why: String,
    },
    /// Shared budgets whose remainder is reserved for attempts in progress.
    SharedBudget {
        /// The budgets.
        budgets: Vec<SharedBudget>,
    },
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitReason::Engine { engine, why } => write!(f, "{engine}: {why}"),
            WaitReason::SharedBudget { budgets } => {
                let mut scopes: Vec<&str> = budgets.iter().map(|b| b.scope.name()).collect();
                scopes.dedup();
                write!(f, "the {} budget: its remainder is reserved for attempts in progress", scopes.join(" and "))
            }
        }
    }
}

/// The engine for the next start of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// This engine.
    Engine(EngineSpec),
    /// All engines are in cooldown; this one is available first.
    Wait(EngineSpec, Timestamp),
    /// All engines are in cooldown until a person acts; this one is the role's own.
    Ask(EngineSpec),
    /// The role has no engine.
    None,
}

/// Returns the engine for the next attempt at a step.
pub fn choose(run: &Run, step: Step, at: Timestamp) -> Choice {
    let engines = order(run, step);
    let cooldown = |spec: &EngineSpec| run.cooldowns.get(&spec.text()).filter(|r| r.active(at));
    if let Some(free) = engines.iter().find(|spec| cooldown(spec).is_none()) {
        return Choice::Engine((*free).clone());
    }
    let timed = engines.iter().filter_map(|spec| Some((cooldown(spec)?.until?, *spec)));
    match (timed.min_by_key(|(until, _)| *until), engines.first()) {
        (Some((until, spec)), _) => Choice::Wait(spec.clone(), until),
        (None, Some(own)) => Choice::Ask((*own).clone()),
        (None, None) => Choice::None,
    }
}

/// Returns a role's engines in order of preference for the next attempt at a step: its own, then its fallbacks. A
/// reviewer of another model family than the dev's comes first if there is one. Every second try at a plan or a review
/// goes to the next engine, as a second opinion.
pub fn order(run: &Run, step: Step) -> Vec<&EngineSpec> {
    let role = step.role();
    let own = run.settings.engines.get(&role);
    let mut engines: Vec<&EngineSpec> = Vec::new();
    for spec in own.into_iter().chain(run.settings.fallbacks.get(&role).into_iter().flatten()) {
        if !engines.contains(&spec) {
            engines.push(spec);
        }
    }
    if role == Role::Reviewer
        && let Some(author) = author_family(run)
        && engines.first().and_then(|own| family(own)).as_ref() == Some(&author)
    {
        engines.sort_by_key(|spec| family(spec).is_none_or(|f| f == author));
    }
    let again = matches!(step, Step::Plan | Step::Review) && run.tries.get(&step).is_some_and(|t| t.used % 2 == 1);
    if again && engines.len() > 1 {
        engines.rotate_left(1);
    }
    engines
}

/// Returns the model family of the most recent author.
fn author_family(run: &Run) -> Option<String> {
    let wrote =
        |a: &&Attempt| a.step == Step::Develop && a.ended.as_ref().is_some_and(|e| e.ending == Ending::Succeeded);
    run.attempts.iter().rev().find(wrote).and_then(|a| family(&EngineSpec::parse(&a.engine)))
}

/// Returns the model family as far as names reveal it; `None` for an engine without a model. The family of an unknown
/// model is its provider; that of an unknown agent is its name.
pub fn family(spec: &EngineSpec) -> Option<String> {
    if !matches!(spec.kind.as_str(), "llm" | "acp" | "cli") {
        return None;
    }
    const VENDORS: &[(&str, &[&str])] = &[
        ("anthropic", &["claude"]),
        ("openai", &["gpt", "codex"]),
        ("google", &["gemini", "gemma"]),
        ("alibaba", &["qwen", "qwq"]),
        ("meta", &["llama"]),
        ("mistral", &["mistral", "mixtral", "codestral", "devstral", "magistral"]),
        ("deepseek", &["deepseek"]),
        ("xai", &["grok"]),
        ("moonshot", &["kimi"]),
        ("zhipu", &["glm"]),
    ];
    let (first, model) = spec.arg.split_once('/').unwrap_or((&spec.arg, ""));
    let vendor = |text: &str| {
        let text = text.to_ascii_lowercase();
        let named = VENDORS.iter().find(|(_, words)| words.iter().any(|w| text.contains(w))).map(|(v, _)| *v);
        // OpenAI's o1, o3, o4-mini…
        let o = |word: &str| word.strip_prefix('o').is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit()));
        named.or_else(|| text.split(|c: char| !c.is_ascii_alphanumeric()).any(o).then_some("openai"))
    };
    let known = vendor(model).or_else(|| vendor(first));
    Some(known.map_or_else(|| first.to_ascii_lowercase(), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn family_follows_from_the_name() {
        let table = [
            ("llm:anthropic/claude-sonnet-5", Some("anthropic")),
            ("llm:openrouter/anthropic/claude-opus", Some("anthropic")),
            ("llm:openai/o4-mini", Some("openai")),
            ("llm:openrouter/openai/gpt-6", Some("openai")),
            ("llm:local/Qwen3-Coder-30B", Some("alibaba")),
            ("llm:ollama/deepseek-r1:32b", Some("deepseek")),
            ("llm:deepseek/deepseek-r1-distill-qwen-32b", Some("alibaba")),
            ("llm:vllm/our-own", Some("vllm")),
            ("acp:claude", Some("anthropic")),
            ("cli:codex", Some("openai")),
            ("cli:aider/gemini-3-pro", Some("google")),
            ("acp:goose", Some("goose")),
            ("direct", None),
            ("command:./claude.sh", None),
        ];
        for (text, expected) in table {
            assert_eq!(family(&EngineSpec::parse(text)).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn cooldowns_grow_and_reported_times_are_bounded() {
        let cooldown = |before: Option<&Cooldown>, until: Option<i64>, at: i64| {
            Cooldown::after(before, "quota".to_owned(), until.map(Timestamp), None, Timestamp(at))
        };
        let mut last = cooldown(None, None, 0);
        let mut waits = Vec::new();
        for _ in 0..9 {
            let at = last.until.map_or(0, |u| u.0);
            last = cooldown(Some(&last), None, at);
            waits.push((last.until.map_or(0, |u| u.0) - at) / 1000);
        }
        assert_eq!(waits, [60, 120, 240, 480, 960, 1800, 1800, 1800, 1800]);
        assert_eq!(cooldown(None, Some(5_000), 1_000).until, Some(Timestamp(5_000)), "a reported time is used");
        assert_eq!(cooldown(None, Some(900), 1_000).until, Some(Timestamp(31_000)), "a time in the past is ignored");
        assert_eq!(cooldown(None, Some(i64::MAX), 0).until, Some(Timestamp(MAX_REPORTED_MS)));
        let (mut last, mut waits) = (cooldown(None, Some(1_000), 0), vec![1]);
        for _ in 0..6 {
            let at = last.until.map_or(0, |u| u.0);
            last = cooldown(Some(&last), Some(at + 1_000), at);
            waits.push((last.until.map_or(0, |u| u.0) - at) / 1000);
        }
        assert_eq!(waits, [1, 8, 32, 128, 512, 1800, 1800], "an engine that always promises a second");
        let reset = cooldown(Some(&last), Some(9_000_000), last.until.unwrap().0);
        assert_eq!(reset.until, Some(Timestamp(9_000_000)), "a later time that is reported holds");
        let first = cooldown(None, Some(60_000), 0);
        let second = cooldown(Some(&first), Some(50_000), 10);
        assert_eq!((second.until, second.count), (Some(Timestamp(60_000)), 1), "two attempts, one outage");
        let fixed = Cooldown::after(Some(&first), "401".to_owned(), None, Some("put a key".to_owned()), Timestamp(10));
        assert!(fixed.until.is_none() && fixed.active(Timestamp(i64::MAX)));
        let still = Cooldown::after(Some(&fixed), "429".to_owned(), Some(Timestamp(99)), None, Timestamp(20));
        assert!(still.until.is_none() && still.fix.is_some(), "the required fix is not forgotten");
    }
}
