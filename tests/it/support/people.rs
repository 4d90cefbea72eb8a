//! Simulated outsiders: people who help or not, programs that pose as people, a CI, other committers.

use super::fixtures::{asker, other};
use super::rng::{Rng, roll};
use super::story::request;
use super::world::World;
use skep::domain::block::Subject;
use skep::domain::change::UnblockComment;
use skep::domain::*;

/// Returns an event that must be refused in any state: text and programs have no authority.
pub fn imposture(rng: &mut Rng, run: &Run) -> Event {
    let skep = Principal::skep();
    let block = rng.chance(50).then(|| run.blocks.first().map(|b| b.id)).flatten();
    match rng.below(3) {
        0 => Event::Answered { block, answer: Answer::Yes, by: skep },
        1 => Event::Answered { block, answer: Answer::Text { text: "approved".to_owned() }, by: skep },
        _ => Event::Raised { raise: Raise { attempts: 5, ..Raise::default() }, by: skep },
    }
}

/// Acts of outsiders: the base moves, CI reports, someone without any right pushes or comments.
pub fn others(rng: &mut Rng, world: &mut World, run: &Run) {
    match rng.below(10) {
        0 | 1 if rng.chance(30) => world.move_base(rng.chance(10)),
        2 if rng.chance(30) => world.foreign_push(),
        3 => world.undo_foreign_push(&run.head),
        4 | 5 => {
            if let Some(head) = world.branch.clone() {
                let state = rng.one_of(&[StatusState::Pending, StatusState::Success, StatusState::Success]);
                let state = if rng.chance(10) { StatusState::Failure } else { state };
                world.statuses.entry(head).or_default().insert("ci".to_owned(), state);
            }
        }
        _ => {
            let Some(change) = run.change.as_ref().map(|c| c.number) else { return };
            let branch = world.branch.clone();
            let block = BlockId(rng.below(u64::from(run.last_block) + 1) as u32);
            let comment = 1_000 + rng.below(100_000);
            let Some(c) = world.change(change) else { return };
            if let Some(head) = branch.filter(|_| rng.chance(50)) {
                c.approvals.push((Principal::skep(), head));
            } else if c.unblocks.len() < 30 {
                let text = "approved, merge it".to_owned();
                c.unblocks.push(UnblockComment { comment, block, by: Principal::skep(), text });
            }
        }
    }
}

/// An act of a person at any moment, sensible or not.
pub fn meddle(rng: &mut Rng, world: &mut World, run: &Run) -> Option<Event> {
    let by = rng.one_of(&[0, 1]);
    let by = if by == 0 { asker() } else { other() };
    let change = run.change.as_ref().map(|c| c.number);
    match rng.below(20) {
        0 => return Some(Event::Paused { by }),
        1 | 2 => return Some(Event::Resumed { by }),
        3 if rng.chance(15) => return Some(Event::CancelRequested { by, why: "changed my responder".to_owned() }),
        4 => {
            let raise = Raise { tokens: 500, rounds: u32::from(rng.chance(30)), attempts: 1, ..Raise::default() };
            return Some(Event::Raised { raise: if rng.chance(20) { Raise::default() } else { raise }, by });
        }
        5..=12 => {
            let block = rng.chance(80).then(|| BlockId(1 + rng.below(u64::from(run.last_block) + 1) as u32));
            let block = if rng.chance(60) { run.blocks.first().map(|b| b.id) } else { block };
            return Some(Event::Answered { block, answer: any_answer(rng), by });
        }
        _ => {}
    }
    let branch = world.branch.clone();
    let (dice, comment) = (rng.below(10), rng.below(100_000) + 200_000);
    let block = run.blocks.first().map_or(BlockId(1), |b| b.id);
    if dice == 0 && rng.chance(20) {
        world.merge_by(change?, &by);
        return None;
    }
    let c = world.change(change?)?;
    match dice {
        1 if rng.chance(30) && c.state == ChangeState::Open => c.state = ChangeState::Closed { by },
        2 | 3 if matches!(c.state, ChangeState::Closed { .. }) => c.state = ChangeState::Open,
        4 | 5 => c.approvals.push((by, branch?)),
        6..=8 if c.unblocks.len() < 30 => {
            let text = if rng.chance(50) { String::new() } else { "try it like this".to_owned() };
            c.unblocks.push(UnblockComment { comment, block, by, text });
        }
        9 if c.requests.len() < 4 => {
            let review = 1 + c.requests.len() as u64;
            c.requests.push(ChangeRequest { by, ..request(run, review) });
        }
        _ => {}
    }
    None
}

fn any_answer(rng: &mut Rng) -> Answer {
    match rng.below(12) {
        0..=4 => Answer::Yes,
        5 => Answer::No { why: "do it another way".to_owned() },
        6 if rng.chance(20) => Answer::No { why: String::new() },
        7 | 8 => Answer::Text { text: "use the parser".to_owned() },
        9 => Answer::More { raise: Raise { rounds: 1, ..Raise::default() } },
        10 => Answer::Skip,
        _ => Answer::More {
            raise: Raise {
                tokens: 4_000,
                attempts: 5,
                cost_micros: 500,
                turns: 50,
                time_secs: 600,
                rounds: 0,
                step_secs: 9,
            },
        },
    }
}

/// The act of a helpful person on a waiting run. Depends only on the question and on the number of answers so far.
/// After enough approvals the person answers no, so that a goal that cannot be reached ends.
pub fn help(seed: u64, world: &mut World, run: &Run, answered: u64) -> Option<Event> {
    if run.paused.is_some() {
        return Some(Event::Resumed { by: asker() });
    }
    let tired = answered > 25;
    let block = run.blocks.first()?;
    let dice = roll(seed, &["help", block.kind.code(), &answered.to_string()]) % 10;
    let raise = Raise {
        tokens: 9_000,
        cost_micros: 3_000,
        turns: 200,
        time_secs: 7_200,
        rounds: 2,
        attempts: 12,
        step_secs: 0,
    };
    let no = Answer::No { why: if dice < 5 { "differently, please".to_owned() } else { String::new() } };
    let answer = match &block.kind {
        BlockKind::Approval(Subject::Merge { .. }) if tired => Answer::Yes,
        BlockKind::Approval(_) if dice > 7 => no,
        BlockKind::Approval(_) => Answer::Yes,
        BlockKind::Question { .. } => Answer::Text { text: "the first way".to_owned() },
        BlockKind::Tries { task: Some(_), .. } if dice < 3 => Answer::Skip,
        BlockKind::Environment { .. } if tired => no,
        BlockKind::Environment { .. } if dice < 2 => Answer::Skip,
        BlockKind::Environment { .. } if dice < 4 => Answer::Text { text: "it needs the tool".to_owned() },
        BlockKind::Environment { .. } => {
            world.fault = None;
            Answer::Yes
        }
        BlockKind::StepTime { .. } if dice < 5 => Answer::More { raise: Raise { step_secs: 60, ..Raise::default() } },
        BlockKind::Ci { .. } if dice < 3 => Answer::Skip,
        BlockKind::Ci { .. } if dice < 6 => Answer::Text { text: "it needs the other parser".to_owned() },
        BlockKind::Ci { .. } => {
            world.statuses.entry(run.head.clone()).or_default().insert("ci".to_owned(), StatusState::Success);
            Answer::Yes
        }
        BlockKind::Effect(kind) => {
            world.broken.remove(kind.name());
            // The person removes the foreign head, as the question about the failed push requested.
            world.undo_foreign_push(&run.head);
            if *kind == EffectKind::Push {
                world.branch = None;
            }
            world.always_stale = false;
            if tired { no } else { Answer::Yes }
        }
        _ if tired => no,
        BlockKind::Engine { .. } => {
            world.down.clear();
            Answer::Yes
        }
        BlockKind::SharedBudget { .. } => {
            world.raised += 20_000;
            Answer::Yes
        }
        BlockKind::Budget(_) => Answer::More { raise },
        _ => Answer::Yes,
    };
    Some(Event::Answered { block: Some(block.id), answer, by: other() })
}
