//! Model prices: a versioned file, embedded, which an operator's own file overrides. Amounts are integers, rounded up.
//!
//! Invariant: a model without a price has an unknown cost, never zero.

use globset::{Glob, GlobMatcher};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;

/// Prices shipped with the program (`config/prices.toml`).
const EMBEDDED: &str = include_str!("../../config/prices.toml");
/// Upper bound of a price per million tokens, in USD. A higher one can only be a typo.
const MAX_USD: f64 = 1_000_000.0;
/// Maximum number of patterns in one file.
const PATTERNS_MAX: usize = 10_000;

/// Usage of one call, as the provider reports it. `input` includes `cached` and `cache_written`; `output` includes
/// `reasoning`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WireUsage {
    /// Input tokens.
    pub input: u64,
    /// Input tokens read from the provider's cache.
    pub cached: u64,
    /// Input tokens written to the provider's cache.
    pub cache_written: u64,
    /// Tokens written to the cache for an hour, which costs more at some providers; included in `cache_written`.
    pub cache_written_hour: u64,
    /// Output tokens.
    pub output: u64,
    /// Output tokens spent on reasoning.
    pub reasoning: u64,
    /// Cost of the call in micro-USD, if the provider reports it.
    pub cost_micros: Option<u64>,
}

/// Converts US dollars to micro-USD; `None` if the amount is invalid.
pub fn micros(usd: f64) -> Option<u64> {
    let micros = (usd * 1_000_000.0).ceil();
    // Within the exact range of a float; larger amounts are absurd anyway.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (micros.is_finite() && (0.0..=9.0e15).contains(&micros)).then_some(micros as u64)
}

/// Reads the cost of a call in micro-USD from a `usage` object: what OpenRouter and gateways like it charge. With the
/// user's own key at the provider behind it, that provider's charge is listed apart.
pub fn reported_cost(usage: &Value) -> Option<u64> {
    let amount = |pointer: &str| usage.pointer(pointer).and_then(Value::as_f64);
    let behind = match usage.get("is_byok").and_then(Value::as_bool) {
        Some(true) => amount("/cost_details/upstream_inference_cost").unwrap_or(0.0),
        _ => 0.0,
    };
    micros(amount("/cost")? + behind)
}

/// Prices of one model for one length of calls, in millionths of a micro-USD per token (USD per 10^12 tokens).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rates {
    input: u64,
    cached: u64,
    cache_write: u64,
    cache_write_hour: u64,
    output: u64,
}

/// Price of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    standard: Rates,
    /// Input size in tokens above which other rates apply, and these rates.
    long: Option<(u64, Rates)>,
}

impl Price {
    fn rates(&self, input: u64) -> &Rates {
        match &self.long {
            Some((over, rates)) if input > *over => rates,
            _ => &self.standard,
        }
    }

    /// Returns the cost of a call in micro-USD, rounded up once.
    pub fn of(&self, usage: &WireUsage) -> u64 {
        let rates = self.rates(usage.input);
        // A provider may report parts that exceed their total. They count as the total.
        let cached = usage.cached.min(usage.input);
        let written = usage.cache_written.min(usage.input - cached);
        let hour = usage.cache_written_hour.min(written);
        let parts = [
            (usage.input - cached - written, rates.input),
            (cached, rates.cached),
            (written - hour, rates.cache_write),
            (hour, rates.cache_write_hour),
            (usage.output, rates.output),
        ];
        sum(&parts)
    }

    /// Returns the maximum cost of a call with this many tokens, in micro-USD: every input token at its highest rate.
    pub fn worst(&self, input: u64, output: u64) -> u64 {
        let max_cost = |rates: &Rates| {
            let highest = rates.input.max(rates.cached).max(rates.cache_write).max(rates.cache_write_hour);
            sum(&[(input, highest), (output, rates.output)])
        };
        // A call that turns out shorter may be priced at the standard rates, which are not necessarily lower.
        let long = self.long.as_ref().filter(|(over, _)| input > *over).map_or(0, |(_, rates)| max_cost(rates));
        max_cost(&self.standard).max(long)
    }
}

fn sum(parts: &[(u64, u64)]) -> u64 {
    let exact =
        parts.iter().fold(0u128, |sum, (tokens, rate)| sum.saturating_add(u128::from(*tokens) * u128::from(*rate)));
    u64::try_from(exact.div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Prices of all models.
#[derive(Clone, Debug, Default)]
pub struct Prices {
    /// Date of the file; of both files, if one overrides the other.
    version: String,
    /// Longest pattern first; the operator's patterns before the embedded ones.
    entries: Vec<(GlobMatcher, Pricing)>,
}

/// Pricing of the models of one pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pricing {
    /// By tokens.
    Tokens(Price),
    /// The provider reports the cost of each call.
    Reported,
    /// Explicitly unknown.
    Unknown,
}

impl Prices {
    /// Loads the prices shipped with the program.
    ///
    /// # Errors
    /// When the embedded file is invalid, which a test rules out.
    pub fn embedded() -> Result<Prices, String> {
        Prices::load(EMBEDDED)
    }

    /// Parses a price file.
    ///
    /// # Errors
    /// What is wrong, where, and how to fix it.
    pub fn load(text: &str) -> Result<Prices, String> {
        let file: File = toml::from_str(text).map_err(|e| format!("cannot parse the prices: {e}"))?;
        let mut seen = BTreeSet::new();
        let mut entries = Vec::new();
        for (n, model) in file.model.iter().enumerate() {
            let at = || format!("model {} ({})", n + 1, model.patterns.first().map_or("no pattern", |p| p.as_str()));
            let pricing = model.pricing().map_err(|why| format!("{}: {why}", at()))?;
            if model.patterns.is_empty() {
                return Err(format!("{}: `match` is empty; write `PROVIDER/MODEL`", at()));
            }
            for pattern in &model.patterns {
                if !pattern.contains('/') {
                    return Err(format!("{}: {pattern:?} lacks a provider; write `PROVIDER/MODEL`", at()));
                }
                if !seen.insert(pattern) {
                    return Err(format!("{}: {pattern:?} appears twice; remove one of them", at()));
                }
                let glob = Glob::new(pattern).map_err(|e| format!("{}: invalid pattern {pattern:?}: {e}", at()))?;
                entries.push((glob.compile_matcher(), pricing));
            }
            if entries.len() > PATTERNS_MAX {
                return Err(format!("more than {PATTERNS_MAX} patterns; use `*` for model families"));
            }
        }
        entries.sort_by_key(|(glob, _)| std::cmp::Reverse(glob.glob().glob().chars().count()));
        Ok(Prices { version: file.version, entries })
    }

    /// Adds an operator's prices, which take precedence for everything that `own` has a pattern for.
    pub fn overridden_by(mut self, own: Prices) -> Prices {
        let mut entries = own.entries;
        entries.append(&mut self.entries);
        Prices { version: format!("{}, over {}", own.version, self.version), entries }
    }

    /// Returns the dates of the files, for people.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns the price of `model` (`provider/name`); `None` = unknown.
    pub fn of(&self, model: &str) -> Option<&Price> {
        match self.pricing(model)? {
            Pricing::Tokens(price) => Some(price),
            Pricing::Reported | Pricing::Unknown => None,
        }
    }

    /// Returns whether the provider of `model` reports the cost of each call, so that no price is needed.
    pub fn is_reported(&self, model: &str) -> bool {
        self.pricing(model) == Some(&Pricing::Reported)
    }

    fn pricing(&self, model: &str) -> Option<&Pricing> {
        self.entries.iter().find(|(glob, _)| glob.is_match(model)).map(|(_, pricing)| pricing)
    }
}

/// Format of a price file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: String,
    #[serde(default)]
    model: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(rename = "match")]
    patterns: Vec<String>,
    input: Option<f64>,
    cached: Option<f64>,
    cache_write: Option<f64>,
    cache_write_hour: Option<f64>,
    output: Option<f64>,
    long: Option<Long>,
    #[serde(default)]
    unpriced: bool,
    #[serde(default)]
    reported: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Long {
    over: u64,
    input: f64,
    cached: Option<f64>,
    cache_write: Option<f64>,
    cache_write_hour: Option<f64>,
    output: f64,
}

impl Entry {
    fn pricing(&self) -> Result<Pricing, String> {
        let prices = (self.input, self.output);
        match (self.unpriced, self.reported, prices) {
            (true, false, (None, None)) => Ok(Pricing::Unknown),
            (false, true, (None, None)) => Ok(Pricing::Reported),
            (true, true, _) => Err("`unpriced = true` and `reported = true` exclude each other".to_owned()),
            (true, ..) => Err("`unpriced = true` and prices exclude each other".to_owned()),
            (_, true, _) => Err("`reported = true` and prices exclude each other".to_owned()),
            (false, false, (Some(input), Some(output))) => {
                let standard = rates(input, self.cached, self.cache_write, self.cache_write_hour, output)?;
                let long = match &self.long {
                    None => None,
                    Some(l) => Some((l.over, rates(l.input, l.cached, l.cache_write, l.cache_write_hour, l.output)?)),
                };
                Ok(Pricing::Tokens(Price { standard, long }))
            }
            (_, _, (None, _)) => Err("`input` is missing (USD per million tokens)".to_owned()),
            (_, _, (_, None)) => Err("`output` is missing (USD per million tokens)".to_owned()),
        }
    }
}

fn rates(
    input: f64,
    cached: Option<f64>,
    write: Option<f64>,
    write_hour: Option<f64>,
    output: f64,
) -> Result<Rates, String> {
    let write = write.unwrap_or(input);
    Ok(Rates {
        input: rate("input", input)?,
        cached: rate("cached", cached.unwrap_or(input))?,
        cache_write: rate("cache_write", write)?,
        cache_write_hour: rate("cache_write_hour", write_hour.unwrap_or(write))?,
        output: rate("output", output)?,
    })
}

/// Converts USD per million tokens, exact to a millionth.
fn rate(name: &str, usd: f64) -> Result<u64, String> {
    if !(0.0..MAX_USD).contains(&usd) {
        return Err(format!(
            "`{name}` = {usd} is not a valid price: write USD per million tokens, from 0 to below {MAX_USD}"
        ));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the range is checked above
    Ok((usd * 1e6).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(input: u64, cached: u64, cache_written: u64, output: u64) -> WireUsage {
        WireUsage { input, cached, cache_written, output, ..WireUsage::default() }
    }

    #[test]
    fn the_embedded_prices_load() {
        let prices = Prices::embedded().unwrap();
        assert_eq!(prices.version(), "2026-11-20");
        let sonnet = prices.of("anthropic/claude-sonnet-4-5-20250929").unwrap();
        assert_eq!(sonnet.of(&used(1_000_000, 1_000_000, 0, 0)), 600_000, "a long call, all of it cached");
        assert_eq!(sonnet.of(&used(100_000, 50_000, 20_000, 1_000)), 90_000 + 15_000 + 75_000 + 15_000);
        assert!(prices.of("ollama/qwen3:8b").is_some_and(|p| p.worst(1_000_000, 1_000_000) == 0), "free of charge");
        assert!(prices.is_reported("openrouter/some/model") && prices.of("openrouter/some/model").is_none());
        assert!(!prices.is_reported("anthropic/claude-sonnet-4-5") && !prices.is_reported("other/model"));
        for unknown in
            ["anthropic/claude-sonnet-9", "openai/gpt-5.9", "other/claude-sonnet-4-5", "ollama/big:120b-cloud", ""]
        {
            assert!(prices.of(unknown).is_none(), "{unknown}");
        }
    }

    #[test]
    fn the_longest_pattern_wins_and_an_operators_file_overrides_all() {
        let ours = "version = '1'\n[[model]]\nmatch = ['a/*']\ninput = 1\noutput = 1\n\
                    [[model]]\nmatch = ['a/big-*']\ninput = 5.0\noutput = 7\n";
        let prices = Prices::load(ours).unwrap();
        assert_eq!(prices.of("a/big-1").unwrap().worst(10, 10), 120);
        assert_eq!(prices.of("a/small").unwrap().worst(10, 10), 20);
        let own = Prices::load("version = 'mine'\n[[model]]\nmatch = ['a/*']\ninput = 0.5\noutput = 0\n").unwrap();
        let both = prices.overridden_by(own);
        assert_eq!(both.of("a/big-1").unwrap().worst(10, 10), 5);
        assert_eq!(both.version(), "mine, over 1");
    }

    #[test]
    fn amounts_are_rounded_up_once_and_never_wrap() {
        let prices =
            Prices::load("version='1'\n[[model]]\nmatch=['a/b']\ninput=0.05\ncached=0.005\noutput=0.4\n").unwrap();
        let price = prices.of("a/b").unwrap();
        assert_eq!(price.of(&used(1, 0, 0, 0)), 1, "a twentieth of a micro-dollar is one");
        assert_eq!(price.of(&used(3, 0, 0, 3)), 2, "0.15 + 1.2");
        assert_eq!(price.of(&used(0, 0, 0, 0)), 0);
        assert_eq!(price.of(&used(10, 40, 90, 0)), 1, "parts that exceed the total count as the total");
        assert_eq!(u128::from(price.worst(u64::MAX, u64::MAX)), (u128::from(u64::MAX) * 45).div_ceil(100));
    }

    #[test]
    fn an_hour_in_the_cache_has_its_own_price() {
        let prices = Prices::embedded().unwrap();
        let haiku = prices.of("anthropic/claude-haiku-4-5").unwrap();
        let usage = WireUsage { input: 100, cache_written: 100, cache_written_hour: 40, ..WireUsage::default() };
        assert_eq!(haiku.of(&usage), 155);
        assert_eq!(haiku.worst(100, 0), 200);
    }

    #[test]
    fn a_reported_cost_is_read_and_a_false_one_is_not() {
        let cost = |usage| reported_cost(&usage);
        assert_eq!(cost(serde_json::json!({"cost": 0.0123})), Some(12_300));
        assert_eq!(
            cost(serde_json::json!({"cost": 0, "is_byok": true, "cost_details": {"upstream_inference_cost": 0.5}})),
            Some(500_000)
        );
        assert_eq!(
            cost(serde_json::json!({"cost": 0.1, "is_byok": false, "cost_details": {"upstream_inference_cost": 0.1}})),
            Some(100_000)
        );
        for none in [
            serde_json::json!({}),
            serde_json::json!({"cost": null}),
            serde_json::json!({"cost": -1}),
            serde_json::json!({"cost": "1"}),
        ] {
            assert_eq!(reported_cost(&none), None, "{none}");
        }
    }

    #[test]
    fn an_invalid_file_is_rejected_with_the_location() {
        let one = |body: &str| Prices::load(&format!("version = '1'\n[[model]]\n{body}\n")).unwrap_err();
        for (body, says) in [
            ("match = ['a/b']\ninput = 1", "model 1 (a/b): `output` is missing"),
            ("match = ['a/b']\noutput = 1", "model 1 (a/b): `input` is missing"),
            ("match = ['a/b']\ninput = -1\noutput = 1", "`input` = -1 is not a valid price"),
            ("match = ['a/b']\ninput = nan\noutput = 1", "`input` = NaN is not a valid price"),
            ("match = ['a/b']\ninput = 1\noutput = inf", "`output` = inf is not a valid price"),
            ("match = ['b']\ninput = 1\noutput = 1", "\"b\" lacks a provider"),
            ("match = ['a/[']\ninput = 1\noutput = 1", "invalid pattern"),
            ("match = []\ninput = 1\noutput = 1", "`match` is empty"),
            ("match = ['a/b', 'a/b']\ninput = 1\noutput = 1", "appears twice"),
            ("match = ['a/b']\nunpriced = true\ninput = 1", "exclude each other"),
            ("match = ['a/b']\nreported = true\noutput = 1", "exclude each other"),
            ("match = ['a/b']\nreported = true\nunpriced = true", "exclude each other"),
            ("match = ['a/b']\ninptu = 1", "unknown field"),
            ("match = 7", "line 3"),
        ] {
            let error = one(body);
            assert!(error.contains(says), "{body}: {error}");
        }
        assert!(Prices::load("").unwrap_err().contains("version"));
    }
}
