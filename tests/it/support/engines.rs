//! Simulated engines: they succeed, fail, ask and lie, depending only on the step and the try.

use super::rng::roll;
use super::world::World;
use skep::domain::*;
use skep::platform::clock::SystemClock;
use skep::ports::Clock;
use std::sync::Arc;

/// The system clock, for registries of engines.
pub fn system_clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn spec(name: &str, needs: &[&str]) -> TaskSpec {
    TaskSpec {
        name: name.to_owned(),
        title: format!("Do {name}"),
        text: format!("Do {name}, whole"),
        needs: needs.iter().map(|n| (*n).to_owned()).collect(),
        paths: Vec::new(),
    }
}

/// Returns the report of an attempt.
pub fn work(world: &mut World, order: &Order) -> Reported {
    let tree = world.tree_word(&order.head);
    let task = order.task.as_ref().map_or("", |t| t.spec.name.as_str());
    let (try_number, round) = (order.try_number.to_string(), order.round.to_string());
    let mut words = vec![order.step.name(), task, &try_number, &round];
    if order.step == Step::Review {
        words.push(&tree);
    }
    let dice = roll(world.seed, &words);
    // The more tries a step has had, the likelier it succeeds, so that bad luck cannot keep a run from ending.
    let pick = (dice % 100).saturating_sub(u64::from(order.try_number.saturating_sub(3)) * 20);
    let outage = world.outage(order);
    let report = outage.or_else(|| common(pick, dice)).unwrap_or_else(|| match order.step {
        Step::Explore => {
            let about = order.question.as_deref().unwrap_or("a small program");
            Report::Explored { notes: format!("what there is to know: {about}") }
        }
        Step::Plan => Report::Planned { tasks: plan(world.lies, dice) },
        Step::Develop => develop(world, order, dice),
        Step::Review => review(order, world.lies, dice, pick),
    });
    let session = match order.step {
        _ if world.one_session => "same".to_owned(),
        Step::Review if world.lies && dice % 41 == 0 => "s-1".to_owned(),
        _ => format!("s-{}", order.attempt.0),
    };
    let used = Usage {
        tokens: if order.caps.tokens == 0 { 50 } else { order.caps.tokens.min(300) },
        cost_micros: order.caps.cost_micros.min(90),
        wall_ms: order.caps.wall_ms.min(40_000),
        turns: order.caps.turns.min(4),
    };
    let usage = (dice % 13 != 0).then_some(used);
    let usage_by_model = usage_by_model(world, order, &mut dice.clone());
    Reported {
        attempt: order.attempt,
        report,
        usage,
        session: Some(session),
        artifacts: Vec::new(),
        usage_by_model,
        secrets: Vec::new(),
        prompt_digest: None,
    }
}

/// Returns the models that the engine claims to have used: mostly none, sometimes one without a price, a false amount,
/// or more than the last call was allowed.
fn usage_by_model(world: &World, order: &Order, dice: &mut u64) -> Vec<ModelUse> {
    let line = |model: &str, input: u64, cost_micros: u64, priced: bool| ModelUse {
        model: model.to_owned(),
        calls: 1,
        input,
        cost_micros,
        priced,
        ..ModelUse::default()
    };
    match *dice / 13 % 12 {
        0 => vec![line("a/good", 20, 5, true), line("a/cheap", 10, 1, true)],
        1 => vec![line("a/new", 20, 0, false)],
        2 if world.lies => vec![line("a/lie\0", u64::MAX, u64::MAX, true); 40],
        3 if world.outages && order.caps.tokens > 0 => vec![line("a/over", order.caps.tokens + 100, 1, true)],
        _ => Vec::new(),
    }
}

fn common(pick: u64, dice: u64) -> Option<Report> {
    match pick {
        93..=95 => Some(Report::Failed { why: "the engine gave up".to_owned() }),
        96 => {
            let to = if dice / 3 % 2 == 0 { AskedTo::Person } else { AskedTo::Scout };
            Some(Report::Asked { question: format!("which way, {}?", dice % 3), to })
        }
        97 => Some(Report::Lost { why: "panicked".to_owned() }),
        98 => Some(Report::Explored { notes: "not what was asked".to_owned() }),
        99 => Some(Report::Stopped),
        _ => None,
    }
}

fn plan(lies: bool, dice: u64) -> Vec<TaskSpec> {
    if lies {
        match dice % 17 {
            0 => return Vec::new(),
            1 => return vec![spec("a", &["b"]), spec("b", &["a"])],
            2 => return vec![spec("a", &["a"])],
            3 => return (0..9).map(|n| spec(&format!("t{n}"), &[])).collect(),
            4 => return vec![spec("a", &[]), spec("a", &[])],
            5 => return vec![spec("a", &["ghost"])],
            _ => {}
        }
    }
    match (dice >> 8) % 6 {
        0 => vec![spec("a", &[])],
        1 => vec![spec("a", &[]), spec("b", &[])],
        2 => vec![spec("b", &["a"]), spec("a", &[])],
        3 => vec![spec("a", &[]), spec("b", &["a"]), spec("c", &["a"])],
        4 => vec![spec("a", &[]), spec("b", &[]), spec("c", &["a", "b"])],
        _ => vec![spec("d", &["b", "c"]), spec("b", &["a"]), spec("c", &["a"]), spec("a", &[])],
    }
}

fn develop(world: &mut World, order: &Order, dice: u64) -> Report {
    let name = order.task.as_ref().map_or("none", |t| t.spec.name.as_str());
    let mut files = vec![(format!("src/{name}"), format!("v{}", order.try_number))];
    match (dice >> 8) % 40 {
        0..=4 => files[0].1 = format!("bug{}", order.try_number),
        5 if world.lies => files.push(("secret/key".to_owned(), "x".to_owned())),
        6 | 7 => files.push(("ci/build".to_owned(), format!("v{}", order.try_number))),
        8 => files.clear(),
        9 => files.extend((0..4).map(|n| (format!("gen/{n}"), name.to_owned()))),
        // The engine claims a change, but returns the commit it started from.
        10 if world.lies => {
            let diff = DiffStat { files_total: 1, added: 1, ..DiffStat::default() };
            return Report::Developed { head: order.head.clone(), diff, summary: "done, honestly".to_owned() };
        }
        _ => {}
    }
    let head = world.commit_on(&order.head, &files);
    let diff = world.diff(&order.head, &head);
    Report::Developed { head, diff, summary: format!("did {name}") }
}

fn review(order: &Order, lies: bool, dice: u64, pick: u64) -> Report {
    let mut head = order.head.clone();
    let mut findings = vec![Finding { path: "src/a".to_owned(), line: 1, text: "unclear".to_owned() }];
    let mut summary = "not yet".to_owned();
    let mut verdict = Verdict::Rework;
    match pick {
        0..=74 => {
            (verdict, summary) = (Verdict::Approve, "good".to_owned());
            findings.clear();
        }
        75..=79 if lies => head = order.base.clone(),
        80..=82 if lies => {
            findings.clear();
            summary.clear();
        }
        _ if dice % 3 == 0 => findings = vec![findings[0].clone(); 60],
        _ => {}
    }
    Report::Reviewed { head, verdict, findings, summary, criteria: Vec::new() }
}
