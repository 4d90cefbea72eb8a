//! Which engine does a role's next attempt: its own, or the first fall-back while its own rests.
//!
//! Invariant: an engine that rests is chosen by nobody.

use super::attempt::Ending;
use super::id::Timestamp;
use super::order::{EngineSpec, Role, Step};
use super::run::Run;
use serde::{Deserialize, Serialize};

/// The shortest and the longest rest of an engine that did not say when it can be used again, in milliseconds.
const REST_FIRST_MS: i64 = 30_000;
const REST_LONGEST_MS: i64 = 30 * 60_000;
/// The shortest wait for what others have set aside.
const SOON_FIRST_MS: i64 = 2_000;
/// No engine's word is taken for a rest longer than this.
const REST_BELIEVED_MS: i64 = 30 * 24 * 3_600_000;
/// A wait longer than this is told to a person as a question, too.
pub const WAIT_ASKED_MS: i64 = 24 * 3_600_000;
/// Attempts in a row that found no usable engine before a person is asked.
pub const UNAVAILABLE_MOST: u32 = 20;

/// An engine that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cooldown {
    /// When it is tried again; `None` = when a person has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// What happened, to which engine.
    pub why: String,
    /// What a person has to do first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// How often in a row.
    pub count: u32,
}

impl Cooldown {
    /// Whether it must not be used now.
    pub fn active(&self, at: Timestamp) -> bool {
        self.until.is_none_or(|until| until > at)
    }

    /// The rest that follows an unavailability, after `before` (the last one, if it has not worked since).
    pub fn after(
        before: Option<&Cooldown>,
        why: String,
        until: Option<Timestamp>,
        fix: Option<String>,
        at: Timestamp,
    ) -> Cooldown {
        if let Some(known) = before.filter(|r| r.active(at)) {
            // Another attempt met the same trouble before it was known: it is one trouble.
            let later =
                if fix.is_some() { None } else { known.until.map(|k| believed(until, at).map_or(k, |u| u.max(k))) };
            return Cooldown { until: later, why, fix: fix.or_else(|| known.fix.clone()), count: known.count };
        }
        let count = before.map_or(0, |r| r.count).saturating_add(1);
        let until = match fix {
            Some(_) => None,
            None => believed(until, at).or(Some(backoff(count, at))),
        };
        Cooldown { until, why, fix, count }
    }
}

/// When to try again after `count` (from 1) times in a row: 30 s at first, 30 minutes at last.
pub fn backoff(count: u32, at: Timestamp) -> Timestamp {
    let wait = REST_FIRST_MS.saturating_mul(1 << count.saturating_sub(1).min(16)).min(REST_LONGEST_MS);
    Timestamp(at.0.saturating_add(wait))
}

/// When to ask again, after `count` (from 1) times in a row, for what others have only set aside: 2 s at first, as attempts may end at any
/// moment; 30 minutes at last.
pub fn soon(count: u32, at: Timestamp) -> Timestamp {
    let wait = SOON_FIRST_MS.saturating_mul(1 << count.saturating_sub(1).min(16)).min(REST_LONGEST_MS);
    Timestamp(at.0.saturating_add(wait))
}

/// A time an engine gave, where it can be one.
fn believed(until: Option<Timestamp>, at: Timestamp) -> Option<Timestamp> {
    until.filter(|u| *u > at).map(|u| u.min(Timestamp(at.0.saturating_add(REST_BELIEVED_MS))))
}

/// What a run waits for by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// When it goes on.
    pub until: Timestamp,
    /// For what, in words.
    pub why: String,
}

/// What the next start of a role finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// This engine.
    Engine(EngineSpec),
    /// All rest; this one is back first.
    Wait(EngineSpec, Timestamp),
    /// All rest, and none comes back by itself; this one is the role's own.
    Ask(EngineSpec),
    /// The role has none.
    None,
}

/// The engine for the next attempt at a step.
pub fn choose(run: &Run, step: Step, at: Timestamp) -> Choice {
    let engines = order(run, step);
    let rest = |spec: &EngineSpec| run.cooldowns.get(&spec.text()).filter(|r| r.active(at));
    if let Some(free) = engines.iter().find(|spec| rest(spec).is_none()) {
        return Choice::Engine((*free).clone());
    }
    let timed = engines.iter().filter_map(|spec| Some((rest(spec)?.until?, *spec)));
    match (timed.min_by_key(|(until, _)| *until), engines.first()) {
        (Some((until, spec)), _) => Choice::Wait(spec.clone(), until),
        (None, Some(own)) => Choice::Ask((*own).clone()),
        (None, None) => Choice::None,
    }
}

/// A role's engines in the order they are wanted for the next attempt at a step: its own, then its fall-backs. A reviewer of another
/// model family than the dev's comes first where there is one; every second try at a plan or a review is given to the next engine,
/// as a second opinion.
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

/// The family of the model that wrote last.
fn author_family(run: &Run) -> Option<String> {
    let wrote = |a: &&super::Attempt| {
        a.step == Step::Develop && a.ended.as_ref().is_some_and(|e| e.ending == Ending::Succeeded)
    };
    run.attempts.iter().rev().find(wrote).and_then(|a| family(&EngineSpec::parse(&a.engine)))
}

/// Whose models these are, as far as names tell; `None` for an engine that is no model's. An unknown model's family is its
/// provider, an unknown agent's its name.
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
    fn families_are_told_by_names() {
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
        for (text, wanted) in table {
            assert_eq!(family(&EngineSpec::parse(text)).as_deref(), wanted, "{text}");
        }
    }

    #[test]
    fn rests_grow_and_are_never_believed_for_ever() {
        let rest = |before: Option<&Cooldown>, until: Option<i64>, at: i64| {
            Cooldown::after(before, "quota".to_owned(), until.map(Timestamp), None, Timestamp(at))
        };
        let mut last = rest(None, None, 0);
        let mut waits = Vec::new();
        for _ in 0..9 {
            let at = last.until.map_or(0, |u| u.0);
            last = rest(Some(&last), None, at);
            waits.push((last.until.map_or(0, |u| u.0) - at) / 1000);
        }
        assert_eq!(waits, [60, 120, 240, 480, 960, 1800, 1800, 1800, 1800]);
        assert_eq!(rest(None, Some(5_000), 1_000).until, Some(Timestamp(5_000)), "its word is taken");
        assert_eq!(rest(None, Some(900), 1_000).until, Some(Timestamp(31_000)), "a time that has passed is no word");
        assert_eq!(rest(None, Some(i64::MAX), 0).until, Some(Timestamp(REST_BELIEVED_MS)));
        let first = rest(None, Some(60_000), 0);
        let second = rest(Some(&first), Some(50_000), 10);
        assert_eq!((second.until, second.count), (Some(Timestamp(60_000)), 1), "two attempts met one trouble");
        let fixed = Cooldown::after(Some(&first), "401".to_owned(), None, Some("put a key".to_owned()), Timestamp(10));
        assert!(fixed.until.is_none() && fixed.active(Timestamp(i64::MAX)));
        let still = Cooldown::after(Some(&fixed), "429".to_owned(), Some(Timestamp(99)), None, Timestamp(20));
        assert!(still.until.is_none() && still.fix.is_some(), "what a person has to do is not forgotten");
    }
}
