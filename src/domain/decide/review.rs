//! Reviewing: the head is pushed, checked by Skep itself, shown as a draft, and judged by somebody who did not write it.

use super::builder::DecisionBuilder;
use super::work;
use crate::domain::block::BlockKind;
use crate::domain::change::StatusState;
use crate::domain::check::{self, Scope};
use crate::domain::describe;
use crate::domain::effect::Effect;
use crate::domain::gate::{self, Gate};
use crate::domain::order::Step;
use crate::domain::report::Verdict;
use crate::domain::run::Phase;
use crate::domain::task::Origin;

pub(super) fn advance(d: &mut DecisionBuilder) {
    if !gate::diff(&d.run).is_open() {
        // A rebase onto a base that has the same work already leaves nothing to review or to land.
        let why = "the run's branch is the same as its base";
        return d.block(BlockKind::NothingChanged, why);
    }
    let head = d.run.head.clone();
    if !d.run.facts.pushed {
        d.ensure(Effect::Push {
            sha: head.clone(),
            expected: d.run.overwrite.clone().or_else(|| d.run.pushed.clone()),
            passes: d.run.passes.clone(),
        });
    }
    let Some(results) = d.run.facts.results.clone() else {
        return work::check(d, Scope::Head, head);
    };
    let green = check::proves(&d.run.settings.checks, &results);
    let line = if green { "all checks are green" } else { "a check is red" };
    status(d, "skep/checks", green, line);
    if !green {
        let title = format!("The checks are red at {} with all tasks together", head.abbrev());
        d.rework(Origin::Checks, &title, &check::failures(&results));
        return;
    }
    if !d.run.facts.pushed {
        return;
    }
    if d.run.facts.shown.is_none() || d.run.change.is_none() {
        return show(d, true);
    }
    if d.run.facts.review.is_some() && matches!(gate::review(&d.run), Gate::Shut(_)) && approved(d) {
        // A later attempt wrote under the reviewer's session: the verdict counts no more, another one is needed.
        d.run.facts.review = None;
        d.run.facts.statuses.remove("skep/review");
    }
    let Some(review) = d.run.facts.review.clone() else {
        if !d.run.live_attempts().any(|a| a.step == Step::Review) {
            d.start(Step::Review, None);
        }
        return;
    };
    let good = approved(d);
    status(d, "skep/review", good, &review.summary);
    if good {
        // A look taken before is about how things were then.
        d.run.facts.observed = None;
        d.run.phase = Phase::Gating;
        return;
    }
    let findings = describe::findings(&review);
    if d.rework(Origin::Review, "The reviewer wants rework", &findings)
        && let Some(change) = &d.run.change
    {
        let text = describe::review_comment(&d.run, &review);
        let change = change.number;
        d.order(Effect::Comment { change, text });
    }
}

fn approved(d: &DecisionBuilder) -> bool {
    d.run.facts.review.as_ref().is_some_and(|r| r.verdict == Verdict::Approve)
}

/// Opens the change or brings its text up to date.
pub(super) fn show(d: &mut DecisionBuilder, draft: bool) {
    let effect = Effect::EnsureChange {
        after: d.run.closed_change,
        head: d.run.head.clone(),
        draft,
        title: d.run.goal.title(),
        body: describe::change_body(&d.run),
    };
    d.ensure(effect);
}

/// Sets one of Skep's own statuses on the head, once.
fn status(d: &mut DecisionBuilder, context: &str, green: bool, text: &str) {
    let Some(change) = d.run.change.as_ref().map(|c| c.number) else { return };
    if d.run.facts.statuses.insert(context.to_owned()) {
        d.order(Effect::SetStatus {
            change,
            sha: d.run.head.clone(),
            context: context.to_owned(),
            state: if green { StatusState::Success } else { StatusState::Failure },
            text: super::builder::cap(text, 300),
        });
    }
}
