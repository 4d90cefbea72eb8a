//! The one pure function that runs the product: `decide(run, event, at)` returns the run after the event and the
//! effects that follow, or a refusal that changes nothing.
//!
//! | file | duty |
//! |---|---|
//! | `baseline` | the checks at the base, and red checks that are not the change's fault |
//! | `plan` | Queued, Planning |
//! | `work` | Working, and the stages of a task |
//! | `review` | Reviewing |
//! | `land` | Gating, Landing, Reporting, and the request to stop |
//! | `ci` | red CI at the head |
//! | `requests` | people's reviews that request changes |
//! | `reported` | the end of an attempt |
//! | `outcome` | the end of an effect, and observations of the forge |
//! | `answer` | people's answers and raises |
//! | `start` | the start of an attempt: its engine, its reservation, its order |
//! | `alert` | budget alerts |
//! | `inquire` | questions to the scout |
//! | `builder` | the run being changed, with the effects gathered so far |
//!
//! After the match on the event, one [`advance`] starts whatever may start now: it determines what is missing for the
//! goal of the phase, and orders it unless it is pending. So a webhook, a timer, an answer and a restart take one path.
//! While a run is paused or has a block, [`advance`] starts nothing.
//!
//! | phase | ends when | next | ordered meanwhile |
//! |---|---|---|---|
//! | Queued | a slot is free | Planning | |
//! | Planning | the plan is valid, and approved if `approve_plan` | Working | check of the base, explore (if the policy says so), plan |
//! | Working | every task is integrated or dropped, and something changed | Reviewing | develop, check, integrate |
//! | Reviewing | the reviewer approved exactly this head | Gating | push, check of the head, draft, status, review |
//! | | checks failed or rework is wanted: one round, one new task | Working | comment with the findings |
//! | Gating | all gates are open | Landing | change ready, observe, rebase if the base moved, approval |
//! | | the rebase was clean: a new head, about which nothing is known | Reviewing | |
//! | | a person requests changes, CI failed or the rebase conflicts: one round, one task | Working | inspect or rerun CI |
//! | Landing | landed | Reporting | land with the expected head and base |
//! | | stale: head or base moved | Gating | |
//! | Reporting | reported, nothing is pending, the workspace is released | Ended | comment, close, stop, release |
//! | before Reporting | a person merged, or the run is to stop and no landing is pending | Reporting | stop |
//!
//! | stage of a task | continues when | next |
//! |---|---|---|
//! | Waiting | all its needs are integrated or dropped | Ready |
//! | Ready | `parallel_tasks`, tries, attempts and budget allow it | Developing |
//! | Developing | the commit differs from its base and touches only allowed paths | Checking |
//! | Checking | all checks passed at that commit | Integrating |
//! | Integrating | it is the first open task in plan order, and it applies without conflict | Integrated |
//!
//! A task that fails a condition returns to Ready with a note that says why. Red checks that no engine can make green,
//! and those that fail as at the base when no try is left, are put to a person instead. A task whose command finds
//! nothing to change is dropped; if that is all, the run ends unchanged.
//!
//! The gates are, in this order, diff,
//! checks, review, change, head, base, requests, statuses and approval; each tests facts of exactly the current head, and a new
//! head forgets every fact.

mod alert;
mod answer;
mod baseline;
mod builder;
mod ci;
mod inquire;
mod land;
mod outcome;
mod plan;
mod reported;
mod requests;
mod review;
mod settings;
mod start;
mod work;

use super::check::CheckSpec;
use super::effect::Effect;
use super::event::{Event, Opened};
use super::id::{EffectKey, Principal, Timestamp};
use super::ledger_row::LedgerRow;
use super::order::Step;
use super::policy;
use super::refusal::Refusal;
use super::run::{Phase, Run, SNAPSHOT_VERSION, Stopping};
use builder::DecisionBuilder;
use std::sync::Arc;

/// Outcome of an event: the run after it, and the effects that follow.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The run after the event; its `seq` is the event's number.
    pub run: Run,
    /// New effects by key, in order.
    pub effects: Vec<(EffectKey, Effect)>,
    /// Effects that ended.
    pub finished: Vec<EffectKey>,
    /// Ledger rows that are new or changed.
    pub ledger_rows: Vec<LedgerRow>,
}

/// Opens a run: checks what it is born with and returns its first state, waiting for a slot.
///
/// # Errors
///
/// Returns [`Refusal::Invalid`] if the goal, the checks, the engines or the policy cannot be used.
pub fn open(opened: &Opened, at: Timestamp) -> Result<Decision, Refusal> {
    let invalid = |what: String| Err(Refusal::Invalid { what });
    let settings = &opened.settings;
    if opened.goal.text.trim().is_empty() {
        return invalid("the goal is empty; describe what should be different when the run is done".to_owned());
    }
    if opened.goal.text.len() > super::goal::MAX_GOAL_BYTES {
        return invalid("the goal is longer than 64 KiB; put the details into a file of the repository".to_owned());
    }
    if !settings.checks.iter().any(CheckSpec::proves_tasks) {
        return invalid("the project has no check, so nothing could be proven; configure at least one".to_owned());
    }
    let mut steps = vec![Step::Plan, Step::Develop, Step::Review];
    if settings.policy.explore {
        steps.push(Step::Explore);
    }
    if let Some(step) = steps.iter().find(|s| !settings.engines.contains_key(&s.role())) {
        return Err(Refusal::NoEngine { role: step.role().name().to_owned() });
    }
    let p = &settings.policy;
    for patterns in [&p.protected_paths, &p.test_paths, &p.forbidden_paths, &p.allowed_paths] {
        policy::require_usable(patterns).map_err(|what| Refusal::Invalid { what })?;
    }
    if p.parallel_tasks == 0 || p.max_tasks == 0 || p.max_lost_attempts == 0 {
        return invalid("policy: parallel_tasks, max_tasks and max_lost_attempts must be at least 1".to_owned());
    }
    let run = Run {
        version: SNAPSHOT_VERSION,
        id: opened.id,
        project: opened.project.clone(),
        goal: opened.goal.clone(),
        settings: Arc::new(settings.clone()),
        opened_at: at,
        traceparent: opened.traceparent.clone(),
        seq: 1,
        phase: Phase::Queued,
        paused: None,
        stopping: None,
        blocks: Vec::new(),
        limits: settings.policy.limits,
        ledger: Default::default(),
        plan: Default::default(),
        tasks: Vec::new(),
        attempts: Vec::new(),
        inquiries: Vec::new(),
        cooldowns: Default::default(),
        unavailable: 0,
        budget_wait: None,
        wait: None,
        alerts: Vec::new(),
        tries: Default::default(),
        rounds: 0,
        last_block: 0,
        notes: Vec::new(),
        base: opened.base.clone(),
        head: opened.base.clone(),
        diff: Default::default(),
        baseline: None,
        accepted_failures: Vec::new(),
        step_time: Default::default(),
        overtaken: 0,
        batch: None,
        change: None,
        change_opened_at: None,
        closed_change: None,
        checks_since: 0,
        facts: Default::default(),
        asked_base: None,
        pushed: None,
        overwrite: None,
        allowed_secrets: Default::default(),
        closing: Default::default(),
        reworked_failures: Default::default(),
        requests_read: Default::default(),
        open_requests: Vec::new(),
        comments_read: Default::default(),
        pending: Default::default(),
        outcome: None,
    };
    Ok(Decision { run, effects: Vec::new(), finished: Vec::new(), ledger_rows: Vec::new() })
}

/// Decides what follows from an event. Pure: the same input always gives the same decision.
///
/// # Errors
///
/// Returns a [`Refusal`] if the event does not fit the run. Nothing changed then.
pub fn decide(run: &Run, event: &Event, at: Timestamp) -> Result<Decision, Refusal> {
    if run.ended() {
        let outcome = super::status::of_run(run).word().to_owned();
        return Err(match event {
            Event::EffectFinished { .. }
            | Event::Reported(_)
            | Event::Observed { .. }
            | Event::SessionOpened { .. }
            | Event::Orphaned { .. }
            | Event::Due => Refusal::Repeated { what: event.name().to_owned() },
            _ => Refusal::Ended { outcome },
        });
    }
    let mut d = DecisionBuilder::new(run.clone(), at);
    match event {
        Event::Opened(_) => return Err(Refusal::Repeated { what: "the opening".to_owned() }),
        Event::Admitted => plan::admitted(&mut d)?,
        Event::Reported(reported) => reported::reported(&mut d, reported)?,
        Event::SessionOpened { attempt, session } => reported::session_opened(&mut d, *attempt, session)?,
        Event::Orphaned { attempts, metered, alive, stopped } => {
            reported::orphaned(&mut d, attempts, metered, alive, stopped)?;
        }
        Event::Due => {
            // `DecisionBuilder::new` has removed the blocks that lift themselves, and `advance` selects engines again.
            if run.wake_at().is_none_or(|due| due > at) {
                return Err(Refusal::Repeated { what: "the end of the wait".to_owned() });
            }
        }
        Event::EffectFinished { key, outcome } => outcome::finished(&mut d, key, outcome)?,
        Event::Observed { observation } => {
            if d.run.change.is_none() {
                return Err(out_of_place(run, "an observation"));
            }
            outcome::observed(&mut d, observation);
        }
        Event::Answered { block, answer, by } => answer::answered(&mut d, *block, answer, by)?,
        Event::Raised { raise, by } => answer::raised(&mut d, raise, by)?,
        Event::SettingsChanged { overrides, by } => settings::changed(&mut d, overrides, by)?,
        Event::Paused { by } => paused(&mut d, by)?,
        Event::Resumed { by } => resumed(&mut d, by)?,
        Event::CancelRequested { by, why } => {
            if d.run.stopping.is_some() {
                return Err(Refusal::Repeated { what: "the request to cancel".to_owned() });
            }
            d.stop(Stopping { by: by.clone(), why: builder::cap(why, 1024), failed: false });
        }
    }
    d.alert();
    advance(&mut d);
    Ok(d.decision())
}

/// Starts whatever may start now.
fn advance(d: &mut DecisionBuilder) {
    // Each iteration changes the phase, and phases only cycle through counted rounds.
    for _ in 0..32 {
        let before = d.run.phase;
        if d.run.stopping.is_some() && before < Phase::Reporting {
            land::wind_down(d);
        } else if !d.held() {
            match before {
                Phase::Queued | Phase::Ended => {}
                Phase::Planning => plan::advance(d),
                Phase::Working => work::advance(d),
                Phase::Reviewing => review::advance(d),
                Phase::Gating => land::gating(d),
                Phase::Landing => land::landing(d),
                Phase::Reporting => land::reporting(d),
            }
        }
        if d.run.phase == before {
            return;
        }
    }
}

fn paused(d: &mut DecisionBuilder, by: &Principal) -> Result<(), Refusal> {
    if d.run.paused.is_some() {
        return Err(Refusal::Repeated { what: "the pause".to_owned() });
    }
    if d.run.stopping.is_some() {
        return Err(out_of_place(&d.run, "a pause while stopping"));
    }
    d.run.paused = Some(by.clone());
    Ok(())
}

fn resumed(d: &mut DecisionBuilder, _by: &Principal) -> Result<(), Refusal> {
    match d.run.paused.take() {
        Some(_) => Ok(()),
        None => Err(Refusal::OutOfPlace { what: "a resume".to_owned(), phase: "not paused".to_owned() }),
    }
}

fn out_of_place(run: &Run, what: &str) -> Refusal {
    Refusal::OutOfPlace { what: what.to_owned(), phase: run.phase.name().to_owned() }
}
