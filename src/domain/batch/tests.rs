//! Tests of the plan: random interleavings, and how many checks it needs.

use super::*;
use std::collections::BTreeSet;

/// A random number generator (splitmix64).
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }
    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

fn id(n: usize) -> RunId {
    RunId::try_from(format!("{n:032x}")).unwrap()
}

fn number(run: RunId) -> usize {
    usize::from_str_radix(&run.to_string().replace('-', ""), 16).unwrap()
}

/// A base branch, the changes that are to land on it, and what is true about their combinations.
#[derive(Default)]
struct World {
    plan: LandingPlan,
    /// Changes on the base branch, in order.
    base: Vec<usize>,
    /// Commits of others on the base branch.
    foreign: usize,
    /// Length of the base branch when each change was proven on it.
    proven_at: Vec<usize>,
    /// Changes that are red together.
    red: Vec<Vec<usize>>,
    /// Changes that conflict textually.
    conflicts: Vec<[usize; 2]>,
    /// Changes that are red since a commit of somebody else.
    red_after_foreign: BTreeSet<usize>,
    /// What was checked: length of the base branch, and the changes on top of it.
    checked: BTreeSet<(usize, Vec<usize>)>,
    checks: usize,
    put_back: Vec<usize>,
    conflicting: Vec<usize>,
    cancelled: BTreeSet<usize>,
}

impl World {
    fn length(&self) -> usize {
        self.base.len() + self.foreign
    }

    fn arrive(&mut self, limit: u32) {
        let n = self.proven_at.len();
        self.plan.arrived(id(n), limit);
        // What does not go with the base was proven on an older one.
        let goes = self.is_green(&[n]) && !self.conflicts(n, &self.base);
        self.proven_at.push(if goes { self.length() } else { usize::MAX });
    }

    fn is_green(&self, changes: &[usize]) -> bool {
        let has = |n: &usize| self.base.contains(n) || changes.contains(n);
        let foreign = self.foreign > 0 && changes.iter().any(|n| self.red_after_foreign.contains(n));
        !foreign && !self.red.iter().any(|group| group.iter().all(has))
    }

    fn conflicts(&self, one: usize, others: &[usize]) -> bool {
        self.conflicts.iter().any(|[a, b]| (*a == one && others.contains(b)) || (*b == one && others.contains(a)))
    }

    /// Carries out one step, as the queue does. Returns whether there was one.
    fn step(&mut self, moves: bool) -> bool {
        match self.plan.next() {
            Step::Wait => return false,
            Step::Merge(candidates) => {
                let mut chain: Vec<usize> = Vec::new();
                for n in candidates.into_iter().map(number) {
                    let with_base = self.conflicts(n, &self.base);
                    if with_base && chain.is_empty() {
                        self.conflicting.push(n);
                        self.plan.left(id(n));
                    } else if !with_base && !self.conflicts(n, &chain) {
                        chain.push(n);
                    }
                }
                let proven = chain.first().is_some_and(|first| self.proven_at[*first] == self.length());
                self.plan.merged(chain.into_iter().map(id).collect(), proven);
            }
            Step::Check(runs) => {
                let changes: Vec<usize> = runs.into_iter().map(number).collect();
                self.checks += 1;
                let is_new = self.checked.insert((self.length(), changes.clone()));
                assert!(is_new || !self.cancelled.is_empty(), "the same set was checked twice: {changes:?}");
                self.plan.checked(changes.len(), self.is_green(&changes));
            }
            Step::Land(_) if moves => {
                self.foreign += 1;
                self.plan.base_moved();
            }
            Step::Land(runs) => {
                let changes: Vec<usize> = runs.into_iter().map(number).collect();
                let alone = changes.len() == 1 && self.proven_at[changes[0]] == self.length();
                assert!(alone || self.checked.contains(&(self.length(), changes.clone())), "untested: {changes:?}");
                assert!(self.is_green(&changes) && changes.iter().all(|n| !self.cancelled.contains(n)));
                self.base.extend(changes);
                self.plan.landed();
            }
            Step::PutBack { run, after } => {
                let n = number(run);
                let after: Vec<usize> = after.into_iter().map(number).collect();
                assert!(self.base.ends_with(&after) && !self.is_green(&[n]), "{n} after {after:?}");
                let set: Vec<usize> = after.iter().copied().chain([n]).collect();
                assert!(self.checked.contains(&(self.length() - after.len(), set)), "put back without a check");
                self.put_back.push(n);
                self.plan.left(run);
            }
        }
        true
    }

    fn settle(&mut self) {
        let most = 40 * (1 + self.proven_at.len());
        assert!((0..most).any(|_| !self.step(false)), "it does not end");
    }
}

#[test]
fn no_interleaving_lands_an_untested_set_or_loses_a_change() {
    for seed in 0..10_000 {
        let mut rng = Rng(seed);
        let total = 1 + rng.below(24);
        let mut world = World::default();
        for _ in 0..rng.below(4) {
            let group: BTreeSet<usize> = (0..2 + rng.below(2)).map(|_| rng.below(total)).collect();
            if group.len() > 1 {
                world.red.push(group.into_iter().collect());
            }
        }
        for _ in 0..rng.below(3) {
            let pair = [rng.below(total), rng.below(total)];
            if pair[0] != pair[1] {
                world.conflicts.push(pair);
            }
        }
        if rng.chance(30) {
            world.red_after_foreign.insert(rng.below(total));
        }
        let limit = [2, 3, 8, 32][rng.below(4)];
        while world.proven_at.len() < total || rng.chance(60) {
            match rng.below(10) {
                0..4 if world.proven_at.len() < total => world.arrive(limit),
                4 if rng.chance(20) && !world.proven_at.is_empty() => {
                    let n = rng.below(world.proven_at.len());
                    let over = [&world.base, &world.put_back, &world.conflicting].iter().any(|done| done.contains(&n));
                    if !over {
                        world.cancelled.insert(n);
                        world.plan.left(id(n));
                    }
                }
                _ => {
                    let moves = rng.chance(5);
                    world.step(moves);
                }
            }
        }
        world.settle();
        let ended = [&world.base, &world.put_back, &world.conflicting];
        let mut all: Vec<usize> = ended.into_iter().flatten().chain(&world.cancelled).copied().collect();
        all.sort_unstable();
        assert_eq!(all, (0..total).collect::<Vec<_>>(), "seed {seed}");
        // The set that landed is maximal: nothing that was put back would be green on it.
        assert!(world.put_back.iter().all(|n| !world.is_green(&[*n])), "seed {seed}");
    }
}

#[test]
fn of_20_changes_of_which_3_break_only_in_combination_17_land_with_fewer_checks_than_one_by_one() {
    let (mut checks, mut worst) = (0, 0);
    for seed in 0..1_000 {
        let mut rng = Rng(seed);
        let mut all: Vec<usize> = (0..20).collect();
        (1..20).for_each(|n| all.swap(n, rng.below(n + 1)));
        // Six different changes in pairs: in each, the later one breaks with the earlier one only.
        let red = all[..6].chunks(2).map(<[usize]>::to_vec).collect();
        let mut world = World { red, ..World::default() };
        (0..20).for_each(|_| world.arrive(20));
        world.settle();
        assert_eq!(world.base.len(), 17, "seed {seed}");
        let mut later: Vec<usize> = world.red.iter().filter_map(|pair| pair.iter().max().copied()).collect();
        later.sort_unstable();
        assert_eq!(world.put_back, later, "seed {seed}");
        // One by one, each change but the first is checked again on top of the others.
        assert!(world.checks < 19, "seed {seed}: {} checks", world.checks);
        checks += world.checks;
        worst = worst.max(world.checks);
    }
    assert_eq!((checks / 100, worst), (135, 16), "checks in ten batches on average, and in the worst one");
}

#[test]
fn three_changes_that_break_only_all_together_cost_one_of_them() {
    for seed in 0..1_000 {
        let mut rng = Rng(seed);
        let mut world = World::default();
        let trio: BTreeSet<usize> = std::iter::repeat_with(|| rng.below(20)).take(40).take(3).collect();
        let last = trio.iter().max().copied();
        world.red = vec![trio.into_iter().collect()];
        if world.red[0].len() < 3 {
            continue;
        }
        (0..20).for_each(|_| world.arrive(20));
        world.settle();
        assert_eq!((world.base.len(), world.put_back.first().copied()), (19, last));
        assert!(world.checks <= 7, "{} checks", world.checks);
    }
}

#[test]
fn without_a_red_change_one_check_is_enough_and_a_single_change_needs_none() {
    let mut world = World::default();
    world.arrive(8);
    world.settle();
    assert_eq!((world.base.len(), world.checks), (1, 0), "it is on the base it was proven on");
    (0..9).for_each(|_| world.arrive(8));
    world.settle();
    assert_eq!((world.base.len(), world.checks), (10, 2), "eight, then the ninth, whose base moved");
}

#[test]
fn patches_that_differ_only_in_position_are_the_same() {
    let patch = |at: u32, index: &str, line: &str| {
        format!(
            "diff --git a/f b/f\nindex {index} 100644\n--- a/f\n+++ b/f\n@@ -{at},2 +{at},2 @@ fn x\n a\n-b\n+{line}\n"
        )
    };
    let same = |one: &str, other: &str| same_patch(one.as_bytes(), other.as_bytes(), 1000);
    assert!(same(&patch(1, "1..2", "c"), &patch(40, "3..4", "c")));
    assert!(!same(&patch(1, "1..2", "c"), &patch(1, "1..2", "d")));
    let binary = |index: &str| format!("diff --git a/f b/f\nindex {index} 100644\nBinary files a/f and b/f differ\n");
    assert!(!same(&binary("1..2"), &binary("1..3")), "only the ids show what a binary file contains");
    assert!(!same_patch(b"12345", b"12345", 5), "both may be cut");
}
