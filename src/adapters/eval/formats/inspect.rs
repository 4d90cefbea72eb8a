//! Log of a set of trials as `inspect_ai` reads it: one sample per task and trial.

use super::super::suite::Suite;
use crate::domain::eval::{Corner, Trial, TrialSet};
use serde_json::{Value, json};

/// Version of the format.
const VERSION: u32 = 2;
/// Names of the two scores: whether the hidden tests pass, and whether a change landed.
const TESTS: &str = "hidden_tests";
const LANDED: &str = "landed";

/// Returns the log of a set. `now` is a time in RFC 3339: trials record none of their own.
pub fn log(suite: &Suite, set: &TrialSet, now: &str) -> Value {
    let samples: Vec<Value> = set.trials.iter().filter_map(|trial| sample(suite, set, trial)).collect();
    let scored: Vec<&Trial> = set.trials.iter().filter(|t| t.is_valid()).collect();
    let share = |holds: fn(&Corner) -> bool| {
        let count = scored.iter().filter(|t| t.corner.as_ref().is_some_and(holds)).count();
        if scored.is_empty() { 0.0 } else { count as f64 / scored.len() as f64 }
    };
    let score = |name: &str, value: f64| {
        let metric = json!({ "name": "accuracy", "value": value, "params": {} });
        json!({ "name": name, "scorer": name, "params": {}, "metrics": { "accuracy": metric },
                "scored_samples": scored.len(), "unscored_samples": samples.len() - scored.len() })
    };
    let epochs = set.trials.iter().map(|t| t.number).max().unwrap_or(1);
    let ids: Vec<&str> = suite.tasks.iter().map(|task| task.name.as_str()).collect();
    json!({
        "version": VERSION,
        "status": if (set.trials.len() as u64) < set.requested { "started" } else { "success" },
        "eval": {
            "eval_id": set.id, "run_id": set.id, "task_id": suite.digest,
            "created": now, "task": suite.name, "task_version": suite.digest, "model": format!("skep/{}", set.id),
            "dataset": { "name": suite.name, "samples": suite.tasks.len(), "sample_ids": ids },
            "config": { "epochs": epochs },
            "packages": { "skep": set.program },
        },
        "plan": { "name": "skep", "steps": [], "config": {} },
        "results": {
            "total_samples": set.requested, "completed_samples": scored.len(),
            "scores": [score(TESTS, share(is_correct)), score(LANDED, share(is_landed))],
        },
        "stats": { "started_at": now, "completed_at": now, "model_usage": usage(set, &set.trials) },
        "samples": samples,
    })
}

fn is_correct(corner: &Corner) -> bool {
    matches!(corner, Corner::LandedCorrect | Corner::StoppedCorrect)
}

fn is_landed(corner: &Corner) -> bool {
    matches!(corner, Corner::LandedCorrect | Corner::LandedWrong)
}

/// How a sample ends is in its scores; one that says nothing about the variant has an error in their place.
fn sample(suite: &Suite, set: &TrialSet, trial: &Trial) -> Option<Value> {
    let task = suite.tasks.iter().find(|task| task.name == trial.task)?;
    let mark = |holds: bool| if holds { "C" } else { "I" };
    let mut sample = json!({
        "id": trial.task, "epoch": trial.number, "input": task.goal, "target": "",
        "model_usage": usage(set, std::slice::from_ref(trial)),
        "total_time": trial.spent.wall_ms as f64 / 1000.0,
        "metadata": {
            "run": trial.run, "end": trial.end, "commit": trial.commit, "tampered": trial.tampered,
            "cost_usd": trial.spent.cost_micros as f64 / 1e6, "turns": trial.spent.turns, "rounds": trial.spent.rounds,
            "language": task.language, "kind": task.kind,
        },
    });
    let error = match (&trial.infrastructure, trial.leaks.is_empty()) {
        (Some(why), _) => Some(why.clone()),
        (None, false) => Some(format!("the hidden tests leaked into {}", trial.leaks.join(", "))),
        (None, true) => None,
    };
    match (error, &trial.corner) {
        (Some(why), _) => sample["error"] = json!({ "message": why, "traceback": "", "traceback_ansi": "" }),
        (None, Some(corner)) => {
            sample["scores"] = json!({
                TESTS: { "value": mark(is_correct(corner)), "explanation": trial.grade },
                LANDED: { "value": mark(is_landed(corner)) },
            });
        }
        (None, None) => {}
    }
    Some(sample)
}

/// Skep's ledger has no separate counts of input and output here.
fn usage(set: &TrialSet, trials: &[Trial]) -> Value {
    let tokens: u64 = trials.iter().map(|trial| trial.spent.tokens).sum();
    json!({ format!("skep/{}", set.id): { "input_tokens": 0, "output_tokens": 0, "total_tokens": tokens } })
}
