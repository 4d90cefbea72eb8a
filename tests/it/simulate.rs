//! Thousands of simulated runs: any world, any people, a crash at any point. The invariants are checked after every
//! decision.
//!
//! `SKEP_SIM_SEEDS=1000000` runs that many seeds instead of 10,000; `SKEP_SIM_SEED=17` runs one and prints its story.

use crate::support::fixtures::{any_policy, opened, roomy_policy, with_fallbacks};
use crate::support::process::{Ended, Manner, simulate};
use crate::support::rng::Rng;
use crate::support::world::World;
use skep::domain::*;
use std::collections::BTreeMap;

const SPLIT: u64 = 8;

fn seeds() -> u64 {
    std::env::var("SKEP_SIM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000)
}

pub fn wild(seed: u64, checked: bool) -> Result<Ended, String> {
    let mut rng = Rng(seed);
    let mut opened = opened(any_policy(&mut rng));
    if rng.chance(60) {
        with_fallbacks(&mut opened, &mut rng);
    }
    if !opened.settings.policy.explore && rng.chance(15) {
        opened.settings.engines.remove(&Role::Scout);
    }
    let mut world = World::new(seed, &opened.base);
    world.outages = rng.chance(50);
    world.others = rng.below(400);
    world.lies = rng.chance(50);
    world.flaky = rng.chance(20);
    world.one_session = rng.chance(2);
    world.always_stale = rng.chance(2);
    if rng.chance(10) {
        let program = Fault::Program { name: "make".to_owned() };
        world.fault = Some(if rng.chance(50) { program } else { Fault::Network });
    }
    if rng.chance(10) {
        let kinds = [
            "check",
            "integrate",
            "rebase",
            "push",
            "ensure_change",
            "comment",
            "observe",
            "land",
            "release",
            "reserve",
        ];
        world.broken.insert(rng.one_of(&kinds).to_owned());
    }
    let crash_percent = rng.one_of(&[0, 3, 10]);
    let manner =
        Manner { helped: (seed / SPLIT) % 2 == 0, wild: true, crash_percent, crash_after: Vec::new(), checked };
    simulate(opened, world, rng, manner)
}

/// Replays the journal through `open` and `decide`, written and read as the store does.
fn replayed(ended: &Ended) -> Run {
    let mut run: Option<Run> = None;
    for (event, at) in &ended.journal {
        let json = serde_json::to_string(event).unwrap();
        let event: Event = serde_json::from_str(&json).expect("an event of the journal can be read again");
        let decision = match &run {
            None => open(&ended.opened, *at).unwrap(),
            Some(run) => decide(run, &event, *at).expect("a journaled event is accepted again"),
        };
        run = Some(decision.run);
    }
    run.unwrap()
}

#[derive(Default, Debug)]
struct Seen(BTreeMap<String, u64>);

impl Seen {
    fn note(&mut self, ended: &Ended, weighed: bool) {
        let mut add = |what: String| *self.0.entry(what).or_default() += 1;
        add(match &ended.run.outcome {
            Some(Outcome::Delivered { .. }) if ended.world.lands.is_empty() => "delivered by a person".to_owned(),
            Some(Outcome::Delivered { .. }) => "delivered".to_owned(),
            Some(Outcome::Cancelled { .. }) => "cancelled".to_owned(),
            Some(Outcome::Failed { .. }) => "failed".to_owned(),
            Some(Outcome::Unchanged) => "unchanged".to_owned(),
            None if ended.run.blocks.is_empty() => "waits for a status".to_owned(),
            None => format!("asks: {}", ended.run.blocks[0].kind.code()),
        });
        let endings = ended.run.attempts.iter().filter_map(|a| a.ended.as_ref()).map(|e| e.ending);
        let (mut unavailable, mut not_started) = (0, 0);
        for ending in endings {
            unavailable += u64::from(ending == Ending::Unavailable);
            not_started += u64::from(ending == Ending::NotStarted);
        }
        let scouts = ended.run.attempts.iter().filter(|a| a.answers.is_some());
        let scouts = scouts.filter(|a| a.ended.as_ref().is_some_and(|e| e.ending == Ending::Succeeded)).count() as u64;
        *self.0.entry("asked the scout".to_owned()).or_default() += scouts;
        for (what, n) in [
            ("CI reworked", ended.run.tasks.iter().filter(|t| t.origin.name() == "status").count() as u64),
            ("CI rerun", ended.world.reruns.values().sum()),
            ("threads answered", ended.world.answers.len() as u64),
            ("unavailable", unavailable),
            ("not started", not_started),
            ("due", ended.due),
            ("resumed", ended.resumed),
            ("not resumed", ended.unresumed),
        ] {
            *self.0.entry(what.to_owned()).or_default() += n;
        }
        *self.0.entry("events".to_owned()).or_default() += ended.journal.len() as u64;
        *self.0.entry("crashes".to_owned()).or_default() += u64::from(ended.crashes);
        *self.0.entry("refusals".to_owned()).or_default() += u64::from(ended.refused);
        let size = if weighed { serde_json::to_vec(&ended.run).unwrap().len() as u64 } else { 0 };
        let largest = self.0.entry("largest snapshot".to_owned()).or_default();
        *largest = size.max(*largest);
    }
}

fn simulate_part(part: u64) {
    let mut seen = Seen::default();
    let mut broken = Vec::new();
    let only = std::env::var("SKEP_SIM_SEED").ok().and_then(|n| n.parse::<u64>().ok());
    for seed in (part..seeds()).step_by(SPLIT as usize).filter(|s| only.is_none_or(|o| o == *s)) {
        let ended = match wild(seed, true) {
            Ok(ended) => ended,
            Err(why) => {
                broken.push(format!("seed {seed}: {why}"));
                continue;
            }
        };
        let again = wild(seed, false).unwrap_or_else(|why| panic!("seed {seed}, second time: {why}"));
        assert!(ended.run == again.run && ended.journal == again.journal, "seed {seed}: not the same twice");
        // Encoding and decoding JSON costs more than deciding, so only a quarter of the seeds is replayed.
        let written = (seed / SPLIT) % 8 < 2;
        if written {
            assert_eq!(replayed(&ended), ended.run, "seed {seed}: the journal does not lead to the snapshot");
        }
        seen.note(&ended, written);
    }
    eprintln!("{seen:#?}");
    let first_lines: Vec<&str> = broken.iter().filter_map(|b| b.lines().next()).collect();
    assert!(broken.is_empty(), "{} seeds failed: {first_lines:#?}\nthe first:\n{}", broken.len(), broken[0]);
    if only.is_none() && seeds() >= 10_000 {
        // A simulation in which nothing succeeds proves nothing.
        for outcome in [
            "delivered",
            "cancelled",
            "failed",
            "delivered by a person",
            "asks: approve_merge",
            "asks: engine",
            "asks: environment",
            "CI reworked",
            "CI rerun",
            "threads answered",
            "due",
            "unavailable",
            "not started",
            "resumed",
            "not resumed",
            "asked the scout",
        ] {
            assert!(seen.0.get(outcome).is_some_and(|n| *n > 0), "no run of this part showed: {outcome}");
        }
    }
}

macro_rules! parts {
    ($($name:ident $part:literal),*) => { $(#[test] fn $name() { simulate_part($part); })* };
}
parts!(part_0 0, part_1 1, part_2 2, part_3 3, part_4 4, part_5 5, part_6 6, part_7 7);

fn tame(seed: u64, crash_after: Vec<u64>) -> Ended {
    let mut rng = Rng(seed);
    let opened = opened(roomy_policy(&mut rng));
    let mut world = World::new(seed, &opened.base);
    world.lies = rng.chance(30);
    let manner =
        Manner { helped: true, wild: false, crash_percent: 0, crash_after: crash_after.clone(), checked: true };
    simulate(opened, world, rng, manner).unwrap_or_else(|why| panic!("seed {seed}, crash after {crash_after:?}: {why}"))
}

/// The visible result of a run.
fn visible(ended: &Ended) -> (String, String, usize, usize, u32) {
    let outcome = match &ended.run.outcome {
        Some(Outcome::Delivered { .. }) => "delivered".to_owned(),
        other => format!("{other:?}"),
    };
    let comments = ended.world.changes.iter().map(|c| c.comments.len()).sum();
    let tree = ended.world.tree_word(&ended.world.base);
    (outcome, tree, ended.world.changes.len(), comments, ended.run.rounds)
}

/// A run that lost its process after any journal row ends like a run that did not.
#[test]
fn resumed_runs_end_like_uncrashed_ones() {
    let (mut rows, mut resumed) = (0, 0);
    for seed in 0..40 {
        let whole = tame(seed, Vec::new());
        rows += whole.journal.len();
        for row in 1..whole.run.seq {
            let crashed = tame(seed, vec![row]);
            resumed += crashed.crashes;
            assert_eq!(visible(&crashed), visible(&whole), "seed {seed}, crash after row {row}");
        }
        let twice = tame(seed, vec![whole.run.seq / 3, whole.run.seq / 2, whole.run.seq - 1]);
        assert_eq!(visible(&twice), visible(&whole), "seed {seed}, three crashes");
    }
    eprintln!("{rows} rows, {resumed} resumed");
}
