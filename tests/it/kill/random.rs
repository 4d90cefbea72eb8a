//! `kill -9` from outside at random moments: of a command, and of a service with three live runs.
//!
//! `SKEP_TEST_KILLS=<n>` sets the number of kills, `SKEP_TEST_SEED=<n>` repeats the moments of an earlier run.

use super::{STORY, block_on, order};
use crate::support::program::{Scene, until};
use crate::support::rng::Rng;
use crate::support::sameness::{changes, check_journal, left, runs};
use std::time::Duration;

pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

pub fn seeded_rng() -> Rng {
    let seed = number("SKEP_TEST_SEED").unwrap_or_else(|| u64::from(std::process::id()) * 7_919);
    println!("SKEP_TEST_SEED={seed}");
    Rng(seed)
}

/// Kills of one run.
const MAX_IN_SCENE: u32 = 5;

/// Raises the limit of lost attempts, because many in a row are intended here.
pub fn patient(scene: Scene) -> Scene {
    scene.with("SKEP_POLICY__MAX_LOST_ATTEMPTS", "100")
}

/// Whether the end of a followed run has not been shown yet.
fn unseen(scene: &Scene) -> bool {
    std::fs::read_dir(scene.data.join("unreported")).is_ok_and(|mut marks| marks.next().is_some())
}

#[test]
fn a_command_killed_at_random_moments_ends_the_same() {
    let (mut rng, kills) = (seeded_rng(), number("SKEP_TEST_KILLS").unwrap_or(20));
    let expected = {
        let scene = patient(Scene::new(STORY, None));
        assert_eq!(scene.run(order(&scene)).0, Some(0));
        block_on(left(&scene))
    };
    let mut killed = 0;
    while killed < kills {
        let scene = patient(Scene::new(STORY, None));
        let mut in_scene = 0;
        loop {
            let mut running = scene.start(order(&scene));
            // On a slow machine all kills may hit the same effect, and after six starts of it a person is asked.
            if killed < kills && in_scene < MAX_IN_SCENE {
                // The moment is the test input, so there is no condition to wait for.
                std::thread::sleep(Duration::from_millis(rng.below(1_000)));
                if running.ended().is_none() {
                    running.kill();
                    (killed, in_scene) = (killed + 1, in_scene + 1);
                    // The result was shown in full, so the command was done, and the next one would open a new run.
                    if running.output().contains("delivered as") && !unseen(&scene) {
                        break;
                    }
                    continue;
                }
            }
            let code = running.wait();
            assert_eq!(code, Some(0), "after {killed} kills:\n{}", running.output());
            break;
        }
        assert_eq!(block_on(left(&scene)), expected, "after {killed} kills");
    }
}

#[test]
fn a_service_killed_with_three_live_runs_completes_all_of_them() {
    let mut rng = seeded_rng();
    let scene = patient(Scene::new(STORY, None)).with("SKEP_POLICY__APPROVE_MERGE", "false");
    let mut service = scene.serve();
    for goal in ["one", "two", "three"] {
        let engine = format!("command: echo {goal} > {goal}.txt; sleep 0.3");
        let (code, output) = scene.run(scene.order_by(goal, &engine, &["--detach"]));
        assert_eq!(code, Some(0), "{output}");
    }
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(rng.below(700)));
        service.kill();
        service = scene.serve();
    }
    let all = until("all three end", Duration::from_secs(90), || {
        let all = block_on(runs(&scene));
        (all.len() == 3 && all.iter().all(|r| r.ended())).then_some(all)
    });
    for run in &all {
        block_on(check_journal(&scene, run));
        assert!(matches!(run.outcome, Some(skep::domain::Outcome::Delivered { .. })), "{:?}", run.outcome);
    }
    let files = crate::support::program::git(&scene.origin, &["ls-tree", "--name-only", "main"]);
    assert_eq!(files.lines().collect::<Vec<_>>(), ["a.txt", "one.txt", "three.txt", "two.txt"]);
    assert_eq!(crate::support::program::git(&scene.origin, &["rev-list", "--count", "main"]), "4");
    assert_eq!(changes(&scene).len(), 3);
    assert!(std::fs::read_dir(scene.data.join("work")).map_or(0, Iterator::count) == 0, "no worktree is left");
    drop(service);
    scene.wait_until_processes_end();
}
