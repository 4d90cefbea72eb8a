//! Reviewing: the head is pushed, checked by Skep itself, shown as a draft, and reviewed by an engine that did not
//! write it.

use super::builder::{DecisionBuilder, cap};
use super::{baseline, work};
use crate::domain::block::BlockKind;
use crate::domain::change::StatusState;
use crate::domain::check::{self, CheckKind, Scope};
use crate::domain::effect::{CommentSubject, Effect, OwnStatus};
use crate::domain::gate::{self, Gate};
use crate::domain::order::Step;
use crate::domain::report::Verdict;
use crate::domain::run::Phase;
use crate::domain::task::Origin;

pub(super) fn advance(d: &mut DecisionBuilder) {
    if !gate::diff(&d.run).is_open() {
        // A rebase onto a base that already contains the work leaves nothing to review or to land.
        let why = "the run's branch is identical to its base";
        return d.block(BlockKind::NothingChanged, why);
    }
    let head = d.run.head.clone();
    if !d.run.facts.pushed {
        d.ensure(Effect::Push {
            sha: head.clone(),
            expected: d.run.overwrite.clone().or_else(|| d.run.pushed.clone()),
            allowed_secrets: d.run.allowed_secrets.clone(),
        });
    }
    let Some(results) = d.run.facts.results.clone() else {
        return work::check(d, Scope::Head, head);
    };
    let green = d.run.proves(Scope::Head, &results);
    if !green && !baseline::knows_base(d) {
        return;
    }
    set_status(d, OwnStatus::Checks, green);
    if !green && (d.run.blames_environment(&results) || d.run.fails_like_base(&results)) {
        return baseline::ask(d, Scope::Head, &results);
    }
    if !green {
        let only_criteria = results.iter().all(|r| r.green || r.kind == CheckKind::Accept || d.run.excuses(r));
        let title = match only_criteria {
            true => format!("Acceptance criteria are not met at {}", head.abbrev()),
            false => format!("The checks are red at {} with all tasks together", head.abbrev()),
        };
        let text = d.run.unmet_criteria(&results) + &check::failures(&results);
        d.rework(Origin::Checks, &title, &[text]);
        return;
    }
    if !d.run.facts.pushed {
        return;
    }
    if d.run.facts.shown_as_draft.is_none() || d.run.change.is_none() {
        return show(d, true);
    }
    if d.run.facts.review.is_some() && matches!(gate::review(&d.run), Gate::Shut(_)) && approved(d) {
        // A later attempt wrote code in the reviewer's session: the verdict no longer counts, and another one is
        // needed.
        d.run.facts.review = None;
        d.run.facts.statuses.remove(OwnStatus::Review { summary: String::new() }.context());
    }
    let Some(review) = d.run.facts.review.clone() else {
        if !d.run.live_attempts().any(|a| a.step == Step::Review) {
            d.start(Step::Review, None);
        }
        return;
    };
    let good = approved(d);
    set_status(d, OwnStatus::Review { summary: cap(&review.summary, 300) }, good);
    if good {
        // An earlier observation is outdated.
        d.run.facts.observed = None;
        d.run.phase = Phase::Gating;
        return;
    }
    let reviewed_head = d.run.head.clone();
    if d.rework(Origin::Review, "The reviewer requests changes", &[review.text()])
        && let Some(change) = d.run.change.as_ref().map(|c| c.number)
    {
        let round = d.run.rounds;
        let about = CommentSubject::Review { review: Box::new(review), head: reviewed_head, round };
        d.order(Effect::Comment { change, thread: None, about });
    }
}

fn approved(d: &DecisionBuilder) -> bool {
    d.run.facts.review.as_ref().is_some_and(|r| r.verdict == Verdict::Approve)
}

/// Opens the change or updates its text.
pub(super) fn show(d: &mut DecisionBuilder, draft: bool) {
    let effect = Effect::EnsureChange { after: d.run.closed_change, head: d.run.head.clone(), draft };
    d.ensure(effect);
}

/// Sets one of Skep's own statuses on the head, once. The forge knows the head only when it is pushed.
fn set_status(d: &mut DecisionBuilder, status: OwnStatus, green: bool) {
    let Some(change) = d.run.change.as_ref().filter(|_| d.run.facts.pushed).map(|c| c.number) else { return };
    if d.run.facts.statuses.insert(status.context().to_owned()) {
        let state = if green { StatusState::Success } else { StatusState::Failure };
        d.order(Effect::SetStatus { change, sha: d.run.head.clone(), status, state });
    }
}
