//! Actions of a caller on a run. Each may be repeated: an action that has happened already returns the run as it is.

mod repeated;

use super::audit::record;
use super::budgets::amounts;
use super::runs::{self, Opened, open_as, subject};
use super::{Caller, ErrorKind, Right, ServiceError, ServiceResult, Services, input};
use crate::actors::{RunRequest, RuntimeError};
use crate::domain::{
    Answer, BlockId, BlockKind, CheckKind, Event, Goal, GoalSource, OnDifference, Outcome, Overrides, Raise, Refusal,
    RequestedLimits, Role, Run, Subject, status,
};
use crate::render;
use repeated::{carry_on, repeated};
use std::collections::BTreeMap;

/// Run that an action is for.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// Id, whole or shortened.
    pub run: &'a str,
    /// Act only if the run is still at this event.
    pub if_seq: Option<u64>,
}

/// Engines, checks and limits that a run gets in place of its own.
#[derive(Clone, Debug, Default)]
pub struct NewSettings {
    /// Engines by role, `KIND[:ARG]`.
    pub engines: BTreeMap<Role, String>,
    /// Check commands; the run's own if empty.
    pub checks: Vec<String>,
    /// Limits; those not named stay.
    pub limits: RequestedLimits,
}

impl NewSettings {
    fn is_empty(&self) -> bool {
        self.engines.is_empty() && self.checks.is_empty() && self.limits.is_empty()
    }
}

impl Target<'_> {
    async fn load(&self, s: &Services, caller: &Caller) -> ServiceResult<Run> {
        let run = runs::load(s, caller, Right::Run, self.run).await?;
        match self.if_seq {
            // Checked before the action: otherwise it could count as a repetition in a run that has moved on.
            Some(seq) if seq != run.seq => Err(RuntimeError::Moved { seq: run.seq }.into()),
            _ => Ok(run),
        }
    }
}

/// Approves the block named, or the oldest approval the run waits for.
///
/// # Errors
/// `no_block`, `nothing_to_answer`, `not_allowed`, `moved`, or those of reading the run.
pub async fn approve(s: &Services, caller: &Caller, target: &Target<'_>, block: Option<&str>) -> ServiceResult<Run> {
    let run = target.load(s, caller).await?;
    give(s, caller, target, &run, (block, BlockKind::is_approval, "an approval"), Answer::Yes).await
}

/// Returns the right that an answer to a block needs. What Skep stops for safety is decided like an approval.
pub fn right_to_answer(kind: &BlockKind, answer: &Answer) -> Right {
    match (kind, answer) {
        (_, Answer::More { .. }) => Right::Budget,
        (BlockKind::Approval(_) | BlockKind::ForeignPush { .. } | BlockKind::SecretFound { .. }, _) => Right::Approve,
        (BlockKind::Environment { .. } | BlockKind::Ci { .. }, Answer::Skip) => Right::Approve,
        _ => Right::Run,
    }
}

/// Returns what exactly an approval is about: the commits or the plan's revision. `None` for other blocks.
pub fn subject_of(kind: &BlockKind) -> Option<String> {
    match kind {
        BlockKind::Approval(Subject::Merge { head, base }) => Some(format!("{head} onto {base}")),
        BlockKind::Approval(Subject::Diff { head, .. }) => Some(head.to_string()),
        BlockKind::Approval(Subject::Plan { revision }) => Some(format!("revision {revision}")),
        _ => None,
    }
}

/// Approves a block, if it is about exactly what the person has seen ([`subject_of`]). A block never changes its
/// subject: what is checked here is what the run receives.
///
/// # Errors
/// `moved` if the block is gone or about something else, and those of [`approve`].
pub async fn approve_seen(
    s: &Services,
    caller: &Caller,
    target: &Target<'_>,
    block: &str,
    seen: &str,
) -> ServiceResult<Run> {
    let run = target.load(s, caller).await?;
    let id = input::block(block)?;
    if run.block(id).and_then(|b| subject_of(&b.kind)).as_deref() != Some(seen) {
        let detail = format!("what question {id} asked about has changed; nothing was approved");
        return Err(ServiceError::new(ErrorKind::Moved, "moved", detail, "Look at the run as it is now"));
    }
    answer_block(s, caller, target, &run, id, Answer::Yes).await
}

/// Declines the block named, or the oldest approval the run waits for; `why` says what should be different.
///
/// # Errors
/// As [`approve`].
pub async fn decline(
    s: &Services,
    caller: &Caller,
    target: &Target<'_>,
    block: Option<&str>,
    why: String,
) -> ServiceResult<Run> {
    let run = target.load(s, caller).await?;
    give(s, caller, target, &run, (block, BlockKind::is_approval, "an approval"), Answer::No { why }).await
}

/// Answers the block named, or the oldest open one, after giving the run these settings.
///
/// # Errors
/// As [`approve`], `not_an_answer` if the answer does not lift that block, and `invalid` if a setting is not usable.
pub async fn answer(
    s: &Services,
    caller: &Caller,
    target: &Target<'_>,
    block: Option<&str>,
    answer: Answer,
    settings: &NewSettings,
) -> ServiceResult<Run> {
    let run = target.load(s, caller).await?;
    if answer == Answer::Yes && (block.is_none() || !settings.is_empty()) {
        refuse_silent_approval(&run, block)?;
    }
    if settings.is_empty() {
        return give(s, caller, target, &run, (block, |_| true, "an answer"), answer).await;
    }
    // An answer that fits nothing changes nothing.
    let chosen = choose_block(&run, block, |_| true, "an answer")?;
    let (run, if_seq) = change_settings(s, caller, target, run, settings).await?;
    // Limits alone may have answered it.
    if answer == Answer::Yes && run.block(chosen).is_none() {
        return Ok(run);
    }
    answer_block(s, caller, &Target { if_seq, ..*target }, &run, chosen, answer).await
}

/// Refuses to approve what only was to go on, perhaps with other settings: who approves names what, or says so.
fn refuse_silent_approval(run: &Run, block: Option<&str>) -> ServiceResult<()> {
    let chosen = match choose_block(run, block, |_| true, "an answer") {
        Ok(chosen) => chosen,
        // There is nothing to approve; what follows says what is wrong.
        Err(_) => return Ok(()),
    };
    match run.block(chosen) {
        Some(asked) if asked.kind.is_approval() => {
            let detail = format!("{chosen} waits for an approval, which this does not give");
            Err(ServiceError::new(ErrorKind::Invalid, "not_an_answer", detail, "Approve or decline it"))
        }
        _ => Ok(()),
    }
}

/// Gives a run these settings, and tries again what stopped because of the earlier ones.
pub(super) async fn reopen(s: &Services, caller: &Caller, run: &Run, settings: &NewSettings) -> ServiceResult<Run> {
    let id = run.id.to_string();
    let target = Target { run: &id, if_seq: None };
    let asked = overrides(s, caller, run, settings)?;
    let (mut now, _) = change_settings(s, caller, &target, run.clone(), settings).await?;
    for block in now.blocks.clone().iter().filter(|b| asked.reopen(&b.kind)) {
        now = answer_block(s, caller, &target, &now, block.id, Answer::Yes).await?;
    }
    Ok(now)
}

/// Sends a run the settings that it does not have yet. Returns the run, and the event it must be at for what follows.
async fn change_settings(
    s: &Services,
    caller: &Caller,
    target: &Target<'_>,
    run: Run,
    settings: &NewSettings,
) -> ServiceResult<(Run, Option<u64>)> {
    let overrides = overrides(s, caller, &run, settings)?;
    if overrides.limits.exceeding(&run.limits).is_some() {
        caller.require_in(Right::Budget, &run.project)?;
    }
    if overrides.differences(&run, None).is_empty() {
        return Ok((run, target.if_seq));
    }
    let words = render::settings_changed(&overrides.differences(&run, None)).join("; ");
    let event = Event::SettingsChanged { overrides, by: caller.principal.clone() };
    let now = tell(s, caller, target, &run, event, ("run.settings", &words)).await?;
    let if_seq = target.if_seq.map(|_| now.seq);
    Ok((now, if_seq))
}

/// Checks settings as a new run's are checked.
fn overrides(s: &Services, caller: &Caller, run: &Run, settings: &NewSettings) -> ServiceResult<Overrides> {
    input::amounts(settings.limits.amounts())?;
    input::lines(settings.engines.values())?;
    let (parts, engines) = (s.parts.current(), input::engines(caller, &settings.engines)?);
    for (role, engine) in &engines {
        parts.engines.get(engine).map_err(|why| {
            let detail = format!("cannot use the engine of the role {}: {why}", role.name());
            ServiceError::invalid(detail, "Choose another engine")
        })?;
    }
    let checks = input::checks(s, &settings.checks)?;
    let assigned = parts.checks.assign_runners(&run.project, checks);
    let mut checks = assigned.map_err(|(what, fix)| ServiceError::invalid(what, fix))?;
    if !checks.is_empty() {
        // What prepares the checkout stays: a changed check does not mean that its dependencies are no longer needed.
        let setup = run.settings.checks.iter().filter(|c| c.kind == CheckKind::Setup);
        checks.splice(0..0, setup.cloned().collect::<Vec<_>>());
    }
    Ok(Overrides { engines, checks, limits: settings.limits })
}

/// Pauses a run: nothing new starts, and what is in progress finishes.
///
/// # Errors
/// `ended`, `moved`, or those of reading the run.
pub async fn pause(s: &Services, caller: &Caller, target: &Target<'_>) -> ServiceResult<Run> {
    let run = target.load(s, caller).await?;
    let event = Event::Paused { by: caller.principal.clone() };
    tell(s, caller, target, &run, event, ("run.pause", "")).await
}

/// Resumes a run that was paused, or that no process drives.
///
/// # Errors
/// As [`pause`].
pub async fn resume(s: &Services, caller: &Caller, target: &Target<'_>) -> ServiceResult<Run> {
    let run = target.load(s, caller).await?;
    let event = Event::Resumed { by: caller.principal.clone() };
    if run.paused.is_some() || run.ended() {
        return tell(s, caller, target, &run, event, ("run.resume", "")).await;
    }
    carry_on(s, &run, event, target.if_seq).await?;
    record(s, caller, "run.resume", subject(&run), "").await;
    runs::load_id(s, run.id).await
}

/// Cancels a run. A landing in progress is awaited: what reaches the base branch counts as delivered.
///
/// # Errors
/// As [`pause`].
pub async fn cancel(s: &Services, caller: &Caller, target: &Target<'_>, why: String) -> ServiceResult<Run> {
    let run = target.load(s, caller).await?;
    if matches!(run.outcome, Some(Outcome::Cancelled { .. })) {
        if !run.ended() {
            // The process that cancelled it was killed before it had told everybody.
            carry_on(s, &run, Event::Resumed { by: caller.principal.clone() }, None).await?;
        }
        return runs::load_id(s, run.id).await;
    }
    let event = Event::CancelRequested { by: caller.principal.clone(), why: why.clone() };
    tell(s, caller, target, &run, event, ("run.cancel", &why)).await
}

/// Adds to the limits of a run, whether or not it asked for more.
///
/// # Errors
/// `invalid` if nothing is added, and those of [`pause`].
pub async fn raise(s: &Services, caller: &Caller, target: &Target<'_>, raise: Raise) -> ServiceResult<Run> {
    caller.require_somewhere(Right::Budget)?;
    let run = target.load(s, caller).await?;
    caller.require_in(Right::Budget, &run.project)?;
    input::amounts(raise.amounts())?;
    let event = Event::Raised { raise, by: caller.principal.clone() };
    tell(s, caller, target, &run, event, ("run.raise", &amounts(&raise))).await
}

/// Settings of a retry.
#[derive(Clone, Debug)]
pub struct Retry<'a> {
    /// The block to answer; the oldest that fits if absent.
    pub block: Option<&'a str>,
    /// A hint for the next attempt.
    pub hint: Option<String>,
    /// Amounts to add to the limits.
    pub more: Option<Raise>,
    /// Engines, checks and limits in place of the run's own.
    pub settings: &'a NewSettings,
}

/// Retries a run. One that has used up its tries or rounds gets as many again, with an optional hint. One that ended
/// undelivered is followed by a new run with the same project, goal, engines and checks. Either gets the settings and
/// the amounts named.
///
/// # Errors
/// `delivered` if its change landed, `nothing_to_answer` if it has tries left, and those of [`pause`].
pub async fn retry(
    s: &Services,
    caller: &Caller,
    target: &Target<'_>,
    how: Retry<'_>,
    traceparent: Option<String>,
) -> ServiceResult<Opened> {
    let Retry { block, hint, more, settings } = how;
    let run = target.load(s, caller).await?;
    if more.is_some() {
        caller.require_in(Right::Budget, &run.project)?;
    }
    match &run.outcome {
        Some(Outcome::Delivered { sha }) => Err(ServiceError::conflict(
            "delivered",
            format!("the run is delivered: {} is on {}", sha.abbrev(), run.settings.base_branch),
            "Open a new run for a new goal",
        )),
        Some(_) => {
            let overrides = overrides(s, caller, &run, settings)?;
            let mut opened = open_as(s, again(caller, &run, overrides, traceparent), s.clock.new_run_id()).await?;
            record(s, caller, "run.retry", subject(&run), &format!("as run {}", opened.run.id)).await;
            if let Some(more) = more.filter(|_| opened.is_new) {
                let id = opened.run.id.to_string();
                opened.run = raise(s, caller, &Target { run: &id, if_seq: None }, more).await?;
            }
            Ok(opened)
        }
        None => {
            let answer = hint.map_or(Answer::Yes, |text| Answer::Text { text });
            let block = choose_block(&run, block, BlockKind::is_used_up, "another try")?;
            input::amounts(more.iter().flat_map(Raise::amounts))?;
            let (mut run, mut if_seq) = change_settings(s, caller, target, run, settings).await?;
            if let Some(raise) = more {
                let event = Event::Raised { raise, by: caller.principal.clone() };
                let target = Target { if_seq, ..*target };
                run = tell(s, caller, &target, &run, event, ("run.raise", &amounts(&raise))).await?;
                if_seq = if_seq.map(|_| run.seq);
            }
            // More rounds alone may have answered it.
            if run.block(block).is_some() {
                run = answer_block(s, caller, &Target { if_seq, ..*target }, &run, block, answer).await?;
            }
            Ok(Opened { run, is_new: false })
        }
    }
}

/// Lifts the quarantine of a run whose cause was fixed, and resumes the run.
///
/// # Errors
/// `not_quarantined`, `no_run` or `several_runs`.
pub async fn lift_quarantine(s: &Services, caller: &Caller, id: &str) -> ServiceResult<Run> {
    caller.require(Right::Admin)?;
    let run = runs::find_id(s, caller, Right::Admin, id).await?;
    if !s.store.lift_quarantine(run).await? {
        return Err(ServiceError::conflict(
            "not_quarantined",
            format!("run {run} is not quarantined"),
            "List the quarantined runs: status `quarantined`",
        ));
    }
    record(s, caller, "run.lift_quarantine", format!("run:{run}"), "").await;
    s.runtime.resume(run).await;
    runs::load_id(s, run).await
}

/// Returns a request for the same run. An open run with that goal is reused, so that a repeated retry opens one run.
fn again(caller: &Caller, run: &Run, asked: Overrides, traceparent: Option<String>) -> RunRequest {
    let on_difference = if asked.is_empty() { OnDifference::Keep } else { OnDifference::Refuse };
    let mut engines = run.settings.engines.clone();
    engines.extend(asked.engines);
    let mut checks = if asked.checks.is_empty() { run.settings.checks.clone() } else { asked.checks };
    // The criteria come with the goal.
    checks.retain(|c| c.kind != CheckKind::Accept);
    let source = match &run.goal.source {
        // A repeated revert is still the revert of the same run.
        revert @ GoalSource::Revert { .. } => revert.clone(),
        _ => GoalSource::Retry { run: run.id },
    };
    RunRequest {
        id: None,
        project: Some(run.project.clone()),
        repo: None,
        goal: Goal { source, asked_by: caller.principal.clone(), ..run.goal.clone() },
        base: Some(run.settings.base_branch.clone()),
        engines,
        checks,
        limits: asked.limits.or(run.settings.limits),
        may_raise: caller.has(Right::Budget, &run.project),
        // What needed an approval as a revert needs one again.
        must_approve: matches!(run.goal.source, GoalSource::Revert { .. }) && run.settings.policy.approve_merge,
        carry_on: true,
        on_difference,
        traceparent,
    }
}

/// Returns the block named, or the oldest one that fits.
fn choose_block(
    run: &Run,
    named: Option<&str>,
    fits: impl Fn(&BlockKind) -> bool,
    what: &str,
) -> ServiceResult<BlockId> {
    if let Some(text) = named {
        return input::block(text);
    }
    let oldest = run.blocks.iter().find(|b| fits(&b.kind));
    oldest.map(|b| b.id).ok_or_else(|| {
        let status = status::of_run(run).word();
        match run.outcome.is_some() {
            true => Refusal::Ended { outcome: status.to_owned() }.into(),
            false => ServiceError::conflict(
                "nothing_to_answer",
                format!("the run does not wait for {what}; it is {status}"),
                "Show the run: its escalations list what it waits for",
            ),
        }
    })
}

/// Answers the block named, or the oldest one that fits. An answer that was given before changes nothing.
async fn give(
    s: &Services,
    caller: &Caller,
    target: &Target<'_>,
    run: &Run,
    (named, fits, what): (Option<&str>, fn(&BlockKind) -> bool, &str),
    answer: Answer,
) -> ServiceResult<Run> {
    match choose_block(run, named, fits, what) {
        Ok(block) => answer_block(s, caller, target, run, block, answer).await,
        Err(refused) if named.is_none() => repeated(s, caller, run, None, &answer).await?.ok_or(refused),
        Err(refused) => Err(refused),
    }
}

async fn answer_block(
    s: &Services,
    caller: &Caller,
    target: &Target<'_>,
    run: &Run,
    block: BlockId,
    answer: Answer,
) -> ServiceResult<Run> {
    // Checked by what is asked, not by which use case was called: an approval can be given as an answer, too.
    if let Some(asked) = run.block(block) {
        caller.require_in(right_to_answer(&asked.kind, &answer), &run.project)?;
    }
    if let Answer::More { raise } = &answer {
        input::amounts(raise.amounts())?;
    }
    let words = match &answer {
        Answer::Yes => format!("{block}: yes"),
        Answer::No { why } => format!("{block}: no: {why}"),
        Answer::Text { text } => format!("{block}: {text}"),
        Answer::More { raise } => format!("{block}: {}", amounts(raise)),
        Answer::Skip => format!("{block}: skip"),
    };
    let event = Event::Answered { block: Some(block), answer: answer.clone(), by: caller.principal.clone() };
    match tell(s, caller, target, run, event, ("run.answer", &words)).await {
        Err(refused) if matches!(refused.code, "no_block" | "ended") => {
            repeated(s, caller, run, Some(block), &answer).await?.ok_or(refused)
        }
        answered => answered,
    }
}

/// Sends an event to a run and records it. A repeated event changes nothing and is not recorded.
async fn tell(
    s: &Services,
    caller: &Caller,
    target: &Target<'_>,
    run: &Run,
    event: Event,
    (action, detail): (&str, &str),
) -> ServiceResult<Run> {
    match s.runtime.send(run.id, event, target.if_seq).await {
        Ok(now) => {
            record(s, caller, action, subject(run), detail).await;
            Ok(now)
        }
        Err(RuntimeError::Refused(Refusal::Repeated { .. })) => {
            s.runtime.resume(run.id).await;
            runs::load_id(s, run.id).await
        }
        Err(other) => Err(other.into()),
    }
}
