//! The gate on hand-made trials, and its false alarms in simulated evaluations.

use super::super::stats::SplitMix;
use super::super::tests::trial;
use super::super::{Corner, Trial};
use super::*;

fn set(id: &str, trials: Vec<Trial>) -> TrialSet {
    let requested = trials.len() as u64;
    TrialSet { variant: id.to_owned(), id: id.to_owned(), program: "0".to_owned(), requested, trials }
}

/// A set with one trial per task, from its outcomes: `+` landed and correct, `x` landed and wrong, `-` stopped.
fn outcomes(id: &str, outcomes: &str, cost: u64) -> TrialSet {
    let trials = outcomes.chars().enumerate().map(|(n, outcome)| {
        let corner = match outcome {
            '+' => Corner::LandedCorrect,
            'x' => Corner::LandedWrong,
            _ => Corner::StoppedWrong,
        };
        trial(&format!("t{n:02}"), 1, corner, cost + n as u64)
    });
    set(id, trials.collect())
}

fn decided(base: &TrialSet, candidate: &TrialSet, rules: &GateRules) -> GateDecision {
    decide(base, candidate, &Comparison::with_resamples(base, candidate, 1_000), rules)
}

#[test]
fn a_better_candidate_is_kept_and_a_worse_one_is_not() {
    let rules = GateRules::default();
    let (low, high) = (outcomes("low", "++--------", 100), outcomes("high", "++++++++--", 100));
    let kept = decided(&low, &high, &rules);
    assert_eq!(kept.verdict, Verdict::Kept, "{kept:?}");
    assert!(kept.reasons[0].contains("p = 0.0156"), "{kept:?}");
    assert_eq!(decided(&high, &low, &rules).verdict, Verdict::Worse);
    assert_eq!(decided(&low, &low, &rules).verdict, Verdict::NotShown);
    // Four gains can also be luck.
    assert_eq!(decided(&low, &outcomes("some", "++++++----", 100), &rules).verdict, Verdict::NotShown);
    // Gains do not excuse false landings.
    let wrong = decided(&low, &outcomes("wrong", "++++++++xx", 100), &rules);
    assert_eq!(wrong.verdict, Verdict::NotShown, "{wrong:?}");
    assert!(wrong.reasons[0].contains("false landings are 20.0 percentage points"), "{wrong:?}");
    let must = GateRules { must: vec!["t01".to_owned()], ..GateRules::default() };
    assert_eq!(decided(&low, &outcomes("must", "+-+++++++-", 100), &must).verdict, Verdict::Worse);
}

#[test]
fn a_cheaper_candidate_is_kept_only_if_the_suite_excludes_a_loss() {
    let rules = GateRules::default();
    let many = "+".repeat(60);
    let kept = decided(&outcomes("base", &many, 1_000), &outcomes("cheap", &many, 500), &rules);
    assert_eq!(kept.verdict, Verdict::Kept, "{kept:?}");
    let few = "+".repeat(12);
    let open = decided(&outcomes("base", &few, 1_000), &outcomes("cheap", &few, 500), &rules);
    assert_eq!(open.verdict, Verdict::NotShown);
    assert!(open.reasons[1].contains("may be 22.1 percentage points lower"), "{open:?}");
    let wide = GateRules { margin: 0.25, ..GateRules::default() };
    assert_eq!(decided(&outcomes("base", &few, 1_000), &outcomes("cheap", &few, 500), &wide).verdict, Verdict::Kept);
}

#[test]
fn trials_that_cannot_be_judged_give_no_verdict() {
    let (base, good) = (outcomes("base", "++--------", 100), outcomes("good", "++++++++++", 100));
    let rules = GateRules::default();
    let unusable = |candidate: &TrialSet, part: &str| {
        let decision = decided(&base, candidate, &rules);
        assert_eq!(decision.verdict, Verdict::Unusable);
        assert!(decision.reasons[0].contains(part), "{decision:?}");
    };
    let mut missing = good.clone();
    missing.requested += 1;
    unusable(&missing, "1 of 11 trials have not finished");
    let mut leaked = good.clone();
    leaked.trials[3].leaks.push("the log".to_owned());
    unusable(&leaked, "leaked into 1 trials");
    let mut spoiled = good;
    (spoiled.trials[3].corner, spoiled.trials[3].infrastructure) = (None, Some("no provider".to_owned()));
    unusable(&spoiled, "spoiled 1 of 10 trials");
    unusable(&set("other", vec![trial("another", 1, Corner::LandedCorrect, 1)]), "no task has a valid trial");
}

/// Draws the trials of a variant whose chance to pass a task is the task's chance plus `gain`.
fn drawn(id: &str, chances: &[f64], gain: f64, per_task: u32, random: &mut SplitMix) -> TrialSet {
    let unit = |random: &mut SplitMix| (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    let mut trials = Vec::new();
    for (n, chance) in chances.iter().enumerate() {
        for number in 1..=per_task {
            let passes = unit(random) < chance + gain;
            let corner = match (passes, unit(random) < 0.15) {
                (true, _) => Corner::LandedCorrect,
                (false, true) => Corner::LandedWrong,
                (false, false) => Corner::StoppedWrong,
            };
            let cost = 50_000.0 * (1.0 + n as f64 / 4.0) * (2.0_f64).powf(3.0 * unit(random) - 1.5);
            trials.push(trial(&format!("t{n:03}"), number, corner, cost as u64));
        }
    }
    set(id, trials)
}

/// Returns the share of simulated evaluations in which the candidate is kept.
fn share_kept(tasks: usize, per_task: u32, gain: f64, rules: &GateRules) -> f64 {
    const EVALUATIONS: u64 = 200;
    let kept = (0..EVALUATIONS).filter(|n| {
        let mut random = SplitMix::new(n * 7_919 + tasks as u64 * 31 + u64::from(per_task));
        let chances: Vec<f64> = (0..tasks).map(|_| (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64).collect();
        let base = drawn("base", &chances, 0.0, per_task, &mut random);
        let candidate = drawn("candidate", &chances, gain, per_task, &mut random);
        let comparison = Comparison::with_resamples(&base, &candidate, 400);
        decide(&base, &candidate, &comparison, rules).verdict == Verdict::Kept
    });
    kept.count() as f64 / EVALUATIONS as f64
}

#[test]
fn a_variant_is_rarely_kept_against_itself() {
    let wide = GateRules { margin: 0.2, ..GateRules::default() };
    for (tasks, per_task, rules) in [
        (12, 1, GateRules::default()),
        (12, 3, GateRules::default()),
        (30, 1, GateRules::default()),
        (30, 3, GateRules::default()),
        (60, 1, GateRules::default()),
        (30, 1, wide),
    ] {
        let kept = share_kept(tasks, per_task, 0.0, &rules);
        assert!(kept <= 0.07, "{tasks} tasks, {per_task} trials: kept in {kept} of the evaluations");
    }
}

#[test]
fn a_large_gain_is_usually_kept_and_a_loss_never() {
    let kept = share_kept(30, 3, 0.3, &GateRules::default());
    assert!(kept >= 0.8, "only {kept}");
    let kept = share_kept(30, 3, -0.2, &GateRules::default());
    assert!(kept <= 0.01, "{kept}");
}
