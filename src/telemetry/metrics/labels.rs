//! Labels of measurements, bounded.

use opentelemetry::KeyValue;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Value of a label beyond its bound.
pub const OTHER: &str = "_other";
/// Projects that are labelled by name.
pub const MAX_PROJECTS: usize = 200;
/// Models and engines that are labelled by name.
pub const MAX_MODELS: usize = 100;
/// Upper bound of a value, in bytes.
const MAX_BYTES: usize = 120;

/// Label of a measurement: its name, and its value.
pub type Label<'a> = (&'static str, &'a str);

/// Values of a label that are kept; further ones become [`OTHER`].
struct Bounded {
    max: usize,
    seen: Mutex<BTreeSet<String>>,
}

impl Bounded {
    const fn new(max: usize) -> Bounded {
        Bounded { max, seen: Mutex::new(BTreeSet::new()) }
    }

    fn value(&self, value: &str) -> String {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.contains(value) {
            return value.to_owned();
        }
        if value.len() > MAX_BYTES || value.contains(char::is_control) || seen.len() >= self.max {
            return OTHER.to_owned();
        }
        seen.insert(value.to_owned());
        value.to_owned()
    }
}

static PROJECTS: Bounded = Bounded::new(MAX_PROJECTS);
static MODELS: Bounded = Bounded::new(MAX_MODELS);
static ENGINES: Bounded = Bounded::new(MAX_MODELS);
/// Models without their providers.
static REQUESTED: Bounded = Bounded::new(MAX_MODELS);
static PROVIDERS: Bounded = Bounded::new(MAX_MODELS);

/// Converts labels for OpenTelemetry. The values of projects, models, providers and engines are names that people
/// chose; those of the others are words of this program.
pub(super) fn attributes(labels: &[Label<'_>]) -> Vec<KeyValue> {
    let one = |(name, value): &Label<'_>| {
        let value = match *name {
            "project" | "vcs.repository.name" => PROJECTS.value(value),
            "model" => MODELS.value(value),
            "gen_ai.request.model" => REQUESTED.value(value),
            "gen_ai.provider.name" => PROVIDERS.value(value),
            "engine" => ENGINES.value(value),
            _ => (*value).to_owned(),
        };
        KeyValue::new(*name, value)
    };
    labels.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_beyond_the_bound_are_one() {
        let bounded = Bounded::new(3);
        let values: BTreeSet<String> = (0..100).map(|n| bounded.value(&format!("p{n}"))).collect();
        assert_eq!(values.len(), 4);
        assert_eq!(bounded.value("p1"), "p1");
        assert_eq!(bounded.value("p77"), OTHER);
        let hostile = Bounded::new(3);
        for value in ["a\nb", "\u{1b}[2J", &"x".repeat(1_000)] {
            assert_eq!(hostile.value(value), OTHER);
        }
    }
}
