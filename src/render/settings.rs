//! Differences between requested settings and those of a run.

use super::quantity::{brief, budget_amount, budget_word};
use crate::domain::{Difference, EngineSpec, Overrides, Run};

/// Longest quoted command line, in characters.
const MAX_COMMAND: usize = 160;

/// Returns in one sentence that the open run of a goal has other settings than the requested ones.
pub fn settings_differ(run: &Run, found: &[Difference]) -> String {
    format!(
        "run {} of this goal is open, and its settings differ from the requested ones: {}",
        run.id.abbrev(),
        differences(found).join("; ")
    )
}

/// Returns each setting that a person gave a run, in a few words.
pub fn overrides(overrides: &Overrides) -> Vec<String> {
    let engines = overrides.engines.iter().map(|(role, spec)| format!("{}: {}", role.name(), code(&spec.text())));
    let checks = (!overrides.checks.is_empty()).then(|| {
        let commands: Vec<String> = overrides.checks.iter().map(|c| code(&c.command)).collect();
        format!("checks: {}", commands.join(", "))
    });
    let limits = overrides.limits.amounts().into_iter();
    let limits =
        limits.map(|(budget, amount)| format!("limit of {}: {}", budget_word(budget), budget_amount(budget, amount)));
    engines.chain(checks).chain(limits).collect()
}

fn code(text: &str) -> String {
    format!("`{}`", brief(text, MAX_COMMAND))
}

/// Returns each difference in a few words, with both values.
pub fn differences(found: &[Difference]) -> Vec<String> {
    let list = |all: &[String]| all.iter().map(|c| code(c)).collect::<Vec<_>>().join(", ");
    let engine = |spec: &EngineSpec| code(&spec.text());
    let words = |difference: &Difference| match difference {
        Difference::Engine { role, own: Some(own), asked } => {
            format!("the engine of the {} is {}, not {}", role.name(), engine(own), engine(asked))
        }
        Difference::Engine { role, own: None, asked } => {
            format!("the {} has no engine instead of {}", role.name(), engine(asked))
        }
        Difference::Checks { own, asked } => format!("the checks are {}, not {}", list(own), list(asked)),
        Difference::Limit { budget, own, asked } => {
            let own = own.map_or_else(|| "unlimited".to_owned(), |own| budget_amount(*budget, own));
            format!("the limit of {} is {own}, not {}", budget_word(*budget), budget_amount(*budget, *asked))
        }
        Difference::Base { own, asked } => format!("it lands on {}, not on {}", code(own), code(asked)),
    };
    found.iter().map(words).collect()
}

/// Returns each setting that is changed to the requested value, in a few words.
pub fn settings_changed(found: &[Difference]) -> Vec<String> {
    let list = |all: &[String]| all.iter().map(|c| code(c)).collect::<Vec<_>>().join(", ");
    let from = |own: Option<String>| own.map_or_else(String::new, |own| format!(", before: {own}"));
    let words = |difference: &Difference| match difference {
        Difference::Engine { role, own, asked } => {
            let own = own.as_ref().map(|spec| code(&spec.text()));
            format!("engine of the {}: {}{}", role.name(), code(&asked.text()), from(own))
        }
        Difference::Checks { own, asked } => {
            format!("checks: {}{}", list(asked), from((!own.is_empty()).then(|| list(own))))
        }
        Difference::Limit { budget, own, asked } => {
            let own = own.map_or_else(|| "unlimited".to_owned(), |own| budget_amount(*budget, own));
            format!("limit of {}: {}, before: {own}", budget_word(*budget), budget_amount(*budget, *asked))
        }
        Difference::Base { own, asked } => format!("lands on {}, before: {}", code(asked), code(own)),
    };
    found.iter().map(words).collect()
}
