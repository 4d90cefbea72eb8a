//! Hand-made runs and transitions, to test the store without the product's rules.

use skep::domain::run::{Facts, SNAPSHOT_VERSION};
use skep::domain::{
    ChangeNumber, Effect, EffectKey, Event, Goal, GoalSource, Ledger, Limits, Opened, Outcome, Phase, Plan, Policy,
    Principal, ProjectName, Run, RunId, Settings, Sha, Timestamp,
};
use skep::ports::journal::Transition;
use skep::ports::leases::{Lease, Owner};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub fn project(name: &str) -> ProjectName {
    ProjectName::new(name).expect("a project's name")
}

pub fn owner(name: &str) -> Owner {
    Owner(name.to_owned())
}

/// The lease that a run is opened with, which has no owner.
pub fn no_lease(run: RunId) -> Lease {
    Lease { run, owner: owner("intake"), epoch: 0 }
}

/// A run just after its opening.
pub fn run() -> Run {
    Run {
        version: SNAPSHOT_VERSION,
        id: RunId(uuid::Uuid::now_v7()),
        project: project("demo"),
        goal: Goal {
            text: "Add a greeting\n\nSay hello.".to_owned(),
            source: GoalSource::Manual,
            asked_by: Principal::from("local:ann"),
            spec: None,
        },
        settings: Arc::new(Settings {
            limits: Default::default(),
            notices: Vec::new(),
            fallbacks: BTreeMap::new(),
            policy: Policy::default(),
            engines: BTreeMap::new(),
            checks: Vec::new(),
            origin: "/srv/demo.git".to_owned(),
            forge: Default::default(),
            base_branch: "main".to_owned(),
            branch: "skep/greeting".to_owned(),
        }),
        opened_at: Timestamp(1_000),
        traceparent: None,
        seq: 1,
        phase: Phase::Queued,
        paused: None,
        stopping: None,
        blocks: Vec::new(),
        limits: Limits::default(),
        ledger: Ledger::default(),
        plan: Plan::default(),
        tasks: Vec::new(),
        inquiries: Vec::new(),
        attempts: Vec::new(),
        cooldowns: BTreeMap::new(),
        unavailable: 0,
        budget_wait: None,
        wait: None,
        alerts: Vec::new(),
        tries: BTreeMap::new(),
        rounds: 0,
        last_block: 0,
        notes: Vec::new(),
        base: Sha::from("1111111111111111111111111111111111111111"),
        head: Sha::from("1111111111111111111111111111111111111111"),
        diff: Default::default(),
        baseline: None,
        checks_since: 0,
        accepted_failures: Vec::new(),
        step_time: Default::default(),
        overtaken: 0,
        batch: None,
        change: None,
        change_opened_at: None,
        closed_change: None,
        facts: Facts::default(),
        asked_base: None,
        pushed: None,
        overwrite: None,
        allowed_secrets: Default::default(),
        closing: Default::default(),
        reworked_failures: Default::default(),
        requests_read: Default::default(),
        open_requests: Vec::new(),
        comments_read: BTreeSet::new(),
        pending: BTreeMap::new(),
        outcome: None,
    }
}

/// The opening of a run.
pub fn opening(run: &Run, lease: Lease) -> Transition {
    let opened = Opened {
        id: run.id,
        project: run.project.clone(),
        goal: run.goal.clone(),
        settings: Settings::clone(&run.settings),
        base: run.base.clone(),
        traceparent: None,
    };
    let event = Event::Opened(Box::new(opened));
    Transition {
        lease,
        at: run.opened_at,
        event,
        run: Arc::new(run.clone()),
        effects: vec![],
        finished: vec![],
        ledger_rows: vec![],
        outcomes: vec![],
    }
}

/// The next transition of a run: moves `run` to `phase` and adds new effects.
pub fn moving(run: &mut Run, lease: &Lease, phase: Phase, new_effects: usize) -> Transition {
    run.seq += 1;
    run.phase = phase;
    if phase == Phase::Ended {
        run.outcome = Some(Outcome::Delivered { sha: run.head.clone() });
    }
    let effects: Vec<(EffectKey, Effect)> = (1..=new_effects)
        .map(|n| (EffectKey(format!("{}.{n}", run.seq)), Effect::Observe { change: ChangeNumber(n as u64) }))
        .collect();
    for (key, effect) in &effects {
        run.pending.insert(key.clone(), effect.effect_ref());
    }
    let event = if run.seq == 2 { Event::Admitted } else { Event::Paused { by: Principal::from("local:ann") } };
    let at = Timestamp(1_000 + run.seq as i64);
    Transition {
        lease: lease.clone(),
        at,
        event,
        run: Arc::new(run.clone()),
        effects,
        finished: vec![],
        ledger_rows: vec![],
        outcomes: vec![],
    }
}

/// The next transition of a run, which finishes all its effects.
pub fn finishing(run: &mut Run, lease: &Lease, phase: Phase) -> Transition {
    let finished = std::mem::take(&mut run.pending).into_keys().collect();
    Transition { finished, ..moving(run, lease, phase, 0) }
}
