//! A person's change of a run's engines, checks and limits.
//!
//! Invariant: what was proven by other checks proves nothing; a result that is still to come from them is not counted.

use super::builder::DecisionBuilder;
use crate::domain::block::BlockKind;
use crate::domain::budget::requested_limits::RequestedLimits;
use crate::domain::check::{CheckKind, CheckSpec};
use crate::domain::effect::OwnStatus;
use crate::domain::id::{EffectKey, Principal};
use crate::domain::overrides::Overrides;
use crate::domain::refusal::Refusal;
use crate::domain::run::Phase;
use std::sync::Arc;

/// Applies a change of the settings. Attempts in progress end with the engine they were started with.
pub(super) fn changed(d: &mut DecisionBuilder, asked: &Overrides, by: &Principal) -> Result<(), Refusal> {
    if !by.is_person() {
        let (who, what) = (by.to_string(), "change the settings of a run".to_owned());
        return Err(Refusal::NotAllowed { who, what, why: "only people do".to_owned() });
    }
    if asked.is_empty() {
        return Err(Refusal::Invalid { what: "no setting is named; name an engine, a check or a limit".to_owned() });
    }
    if !asked.checks.is_empty() && !asked.checks.iter().any(CheckSpec::proves_tasks) {
        let what = "these checks only prepare the checkout, so nothing could be proven; name one that proves a change";
        return Err(Refusal::Invalid { what: what.to_owned() });
    }
    if d.run.stopping.is_some() || d.run.phase >= Phase::Landing {
        let phase = if d.run.stopping.is_some() { "stopping" } else { d.run.phase.name() };
        return Err(Refusal::OutOfPlace { what: "a change of the settings".to_owned(), phase: phase.to_owned() });
    }
    if let Some(budget) = asked.limits.unusable() {
        return Err(Refusal::Invalid {
            what: format!("a limit of zero for {} leaves nothing to work with", budget.name()),
        });
    }
    for (role, engine) in &asked.engines {
        let settings = Arc::make_mut(&mut d.run.settings);
        settings.engines.insert(*role, engine.clone());
        // Fallbacks belong to the engine they were configured for.
        settings.fallbacks.remove(role);
    }
    let checks = with_criteria(&asked.checks, &d.run.settings.checks);
    if !asked.checks.is_empty() && checks != d.run.settings.checks {
        Arc::make_mut(&mut d.run.settings).checks = checks;
        d.run.checks_since = d.run.seq;
        d.run.facts.results = None;
        d.run.facts.environment = None;
        // What the earlier checks found at the base, and what a person accepted of it, says nothing about these.
        d.run.baseline = None;
        d.run.accepted_failures.clear();
        d.run.facts.statuses.remove(OwnStatus::Checks.context());
        d.forget_approval();
    }
    if !asked.limits.is_empty() {
        limit(d, &asked.limits);
    }
    Ok(())
}

/// Replaces limits. A budget that is exhausted within them raises its block again.
fn limit(d: &mut DecisionBuilder, asked: &RequestedLimits) {
    let settings = Arc::make_mut(&mut d.run.settings);
    settings.limits = asked.or(settings.limits);
    settings.policy.limits = asked.over(settings.policy.limits);
    d.run.limits = asked.over(d.run.limits);
    d.forget_alerts();
    d.run.blocks.retain(|b| !matches!(b.kind, BlockKind::Budget(_)));
    if asked.rounds.is_some_and(|rounds| rounds > d.run.rounds) {
        d.run.blocks.retain(|b| b.kind != BlockKind::Rounds);
    }
}

/// Returns the checks asked for, with those of the acceptance criteria: other checks do not change what was asked for.
fn with_criteria(asked: &[CheckSpec], own: &[CheckSpec]) -> Vec<CheckSpec> {
    let checks = asked.iter().filter(|c| c.kind != CheckKind::Accept);
    checks.chain(own.iter().filter(|c| c.kind == CheckKind::Accept)).cloned().collect()
}

/// Returns whether an effect was ordered with checks that the run no longer has.
pub(super) fn is_outdated(d: &DecisionBuilder, key: &EffectKey) -> bool {
    let ordered = key.0.split('.').next().and_then(|seq| seq.parse::<u64>().ok());
    ordered.is_some_and(|seq| seq < d.run.checks_since)
}
