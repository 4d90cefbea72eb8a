//! Schedules: goals that become runs at certain times, and passes of `skep improve`.
//!
//! Times that passed while no service was running are made up for once: one run, however many there were. A schedule
//! whose last run is still open starts no second one.
//!
//! Invariant: each time leads to one run. Its id is stored before the run is opened, so a process that was killed in
//! between opens the same run.

pub mod settings;

use super::audit::record;
use super::improve::{self, NewPass};
use super::runs::{self, OpenRun};
use super::{Caller, ErrorKind, Right, ServiceError, ServiceResult, Services, Via};
use crate::domain::{GoalSource, Principal, Run, Timestamp};
use crate::ports::PortResult;
use crate::ports::schedules::ScheduleState;
use settings::{Schedule, Work};
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest wait, so that a clock that was set or a machine that slept is noticed.
const MAX_WAIT: Duration = Duration::from_secs(600);
/// Wait after a failure of the store or the runtime.
const RETRY: Duration = Duration::from_secs(30);

/// A schedule and what became of it.
#[derive(Clone, Debug)]
pub struct Scheduled {
    /// The schedule.
    pub schedule: Schedule,
    /// Its state; `None` until a service has seen it.
    pub state: Option<ScheduleState>,
}

/// Starts runs when they are due, until the process ends.
pub async fn run(s: Services) {
    loop {
        let wait = match pass(&s).await {
            Ok(Some(wait)) => wait,
            // Without schedules there is nothing to wait for.
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "schedules are late; they are tried again");
                RETRY
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// Starts what is due, and returns the time until the next; `None` = there are no schedules.
///
/// # Errors
/// If the store or the runtime is not available: it should be tried again.
pub async fn pass(s: &Services) -> ServiceResult<Option<Duration>> {
    let states = states(s).await?;
    for name in states.keys().filter(|name| s.schedules.iter().all(|schedule| schedule.name != **name)) {
        s.schedule_states.remove_schedule(name).await?;
    }
    let mut wait = MAX_WAIT;
    for schedule in s.schedules.iter() {
        let now = s.clock.now();
        let timing = format!("{} {}", schedule.timing.cron(), schedule.timing.timezone());
        let mut state = match states.get(&schedule.name) {
            Some(state) if state.timing == timing => state.clone(),
            other => {
                // A schedule that is new, or whose times were changed, waits for the next one.
                let fresh = ScheduleState { name: schedule.name.clone(), ..other.cloned().unwrap_or_default() };
                let fresh = ScheduleState { timing, next_at: next_after(schedule, now), starting: None, ..fresh };
                s.schedule_states.put_schedule(&fresh).await?;
                fresh
            }
        };
        if state.next_at <= now {
            state = start_due(s, schedule, state, now).await?;
        }
        let left = u64::try_from(state.next_at.0.saturating_sub(s.clock.now().0)).unwrap_or(0);
        wait = wait.min(Duration::from_millis(left));
    }
    Ok((!s.schedules.is_empty()).then_some(wait))
}

/// Returns the next time of a schedule; one that never comes if it has none.
fn next_after(schedule: &Schedule, at: Timestamp) -> Timestamp {
    schedule.timing.next_after(at).unwrap_or(Timestamp(i64::MAX))
}

async fn states(s: &Services) -> PortResult<BTreeMap<String, ScheduleState>> {
    Ok(s.schedule_states.schedules().await?.into_iter().map(|state| (state.name.clone(), state)).collect())
}

async fn start_due(
    s: &Services,
    schedule: &Schedule,
    mut state: ScheduleState,
    now: Timestamp,
) -> ServiceResult<ScheduleState> {
    let done = match &schedule.work {
        Work::Run { project, goal } => {
            let id = match state.starting {
                Some(id) => id,
                None => {
                    let id = s.clock.new_run_id();
                    state.starting = Some(id);
                    s.schedule_states.put_schedule(&state).await?;
                    id
                }
            };
            crate::fault!("after-schedule-claim");
            let opened = runs::open_from(s, &caller(schedule), request(project, goal), source(schedule), id).await;
            opened.map(|run| {
                tracing::info!(schedule = schedule.name, run = %run.id, "a scheduled run was started");
                Some(run.id)
            })
        }
        Work::Improve { project, as_issue } => improve(s, schedule, project.clone(), *as_issue).await.map(|()| None),
    };
    match done {
        Ok(run) => (state.last_run, state.last_error) = (run, None),
        Err(error) if error.kind == ErrorKind::Unavailable => return Err(error),
        Err(error) => {
            let why = format!("{}. {}", error.detail, error.fix);
            tracing::error!(schedule = schedule.name, error = why, "a schedule could not do its work");
            state.last_error = Some(why);
        }
    }
    crate::fault!("before-schedule-settle");
    state.last_at = Some(state.next_at);
    state.next_at = next_after(schedule, now);
    state.starting = None;
    s.schedule_states.put_schedule(&state).await?;
    Ok(state)
}

/// Carries out a pass of `skep improve`. A pass that is repeated proposes nothing twice.
async fn improve(s: &Services, schedule: &Schedule, project: Option<String>, as_issue: bool) -> ServiceResult<()> {
    let request = NewPass { project, as_issue, ..NewPass::default() };
    let pass = improve::pass(s, &caller(schedule), &request).await?;
    let (name, proposed) = (&schedule.name, pass.proposed.len());
    tracing::info!(schedule = name, proposed, measured = pass.measured.len(), "looked for recurring failures");
    match pass.problems.is_empty() {
        true => Ok(()),
        false => {
            let why = format!("some proposals were not written to issues: {}", pass.problems.join("; "));
            Err(ServiceError::invalid(&why, "Fix the cause; the next pass writes them"))
        }
    }
}

fn request(project: &str, goal: &str) -> OpenRun {
    let (project, goal) = (Some(project.to_owned()), goal.to_owned());
    OpenRun { project, goal, reuse_open_run: true, ..OpenRun::default() }
}

fn source(schedule: &Schedule) -> GoalSource {
    GoalSource::Schedule { name: schedule.name.clone() }
}

fn caller(schedule: &Schedule) -> Caller {
    let principal = Principal(format!("schedule:{}", schedule.name));
    Caller::new(principal, [Right::Read, Right::Run].into(), Via::Schedule)
}

/// Lists the schedules, by name.
///
/// # Errors
/// If the caller may not read.
pub async fn list(s: &Services, caller: &Caller) -> ServiceResult<Vec<Scheduled>> {
    caller.require_somewhere(Right::Read)?;
    let mut states = states(s).await?;
    let scheduled =
        |schedule: &Schedule| Scheduled { state: states.remove(&schedule.name), schedule: schedule.clone() };
    let readable = s.schedules.iter().filter(|schedule| is_readable(schedule, caller));
    Ok(readable.map(scheduled).collect())
}

/// Returns whether the caller may read the project of a schedule, or all projects if it concerns all.
fn is_readable(schedule: &Schedule, caller: &Caller) -> bool {
    schedule.project().map_or_else(|| caller.require(Right::Read).is_ok(), |project| caller.reads(project))
}

/// Starts the run of a schedule now; its next time stays as it is.
///
/// # Errors
/// `no_schedule`, or why the run cannot be opened.
pub async fn start_now(s: &Services, by: &Caller, name: &str) -> ServiceResult<Run> {
    by.require_somewhere(Right::Run)?;
    let readable = s.schedules.iter().filter(|schedule| is_readable(schedule, by));
    let Some(schedule) = readable.clone().find(|schedule| schedule.name == name) else {
        let known: Vec<&str> = readable.map(|schedule| schedule.name.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let why = format!("there is no schedule {name:?}; configured are: {known}");
        return Err(ServiceError::not_found("no_schedule", why, "`skep schedule list` lists the schedules"));
    };
    let Work::Run { project, goal } = &schedule.work else {
        let why = format!("the schedule {name:?} opens no run");
        return Err(ServiceError::invalid(why, "Run `skep improve` to do now what it does"));
    };
    let run = runs::open_from(s, by, request(project, goal), source(schedule), s.clock.new_run_id()).await?;
    record(s, by, "schedule.run", format!("schedule:{name}"), &runs::subject(&run)).await;
    Ok(run)
}
