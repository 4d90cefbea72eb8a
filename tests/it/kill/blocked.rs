//! A waiting run keeps its workspace when Skep is killed, and only one of two concurrent answers counts.

use super::{STORY, block_on, order};
use crate::support::program::{Scene, git, until};
use crate::support::sameness::{left, only_run};
use skep::domain::Run;
use std::time::Duration;

fn waiting(scene: &Scene) -> Run {
    until("the run asks", Duration::from_secs(60), || {
        let run = block_on(only_run(scene));
        (run.parked() && !run.blocks.is_empty()).then_some(run)
    })
}

#[test]
fn a_blocked_run_survives_a_kill_and_one_of_two_answers_counts() {
    let expected = {
        let scene = Scene::new(STORY, None);
        assert_eq!(scene.run(order(&scene)).0, Some(0));
        block_on(left(&scene))
    };
    let scene = Scene::new(STORY, None);
    let mut service = scene.serve();
    let (code, output) = scene.run(scene.order("Write it down", &["--detach"]));
    assert_eq!(code, Some(0), "{output}");
    let before = waiting(&scene);
    let folders = || {
        let work = scene.data.join("work").join(before.id.to_string());
        let mut names: Vec<_> =
            std::fs::read_dir(work).expect("its workspace").flatten().map(|e| e.file_name()).collect();
        names.sort();
        names
    };
    let workspace = folders();
    assert!(!workspace.is_empty(), "it keeps its workspace");
    let branch = || git(&scene.origin, &["rev-parse", &format!("refs/heads/{}", before.settings.branch)]);
    let head = branch();

    service.kill();
    service = scene.serve();
    let after = waiting(&scene);
    assert_eq!((after.seq, &after.blocks, &after.attempts), (before.seq, &before.blocks, &before.attempts));
    assert_eq!((folders(), branch()), (workspace, head), "workspace and branch still exist");

    let (run, block) = (before.id.to_string(), after.blocks[0].id.to_string());
    let approve = || scene.start(scene.skep(&["approve", &run, "--block", &block]));
    let mut both = [approve(), approve()];
    let mut codes: Vec<_> = both.iter_mut().map(|b| b.wait()).collect();
    codes.sort_unstable();
    let output = both.each_ref().map(|b| b.output()).join("\n---\n");
    assert_eq!(codes, [Some(0), Some(0)], "one counts, the other repeats it and changes nothing:\n{output}");
    let ended = until("it ends", Duration::from_secs(60), || Some(block_on(only_run(&scene))).filter(Run::ended));
    assert_eq!(ended.attempts.len(), before.attempts.len(), "attempt ids keep counting");
    service.kill();
    assert_eq!(block_on(left(&scene)), expected);
}

#[test]
fn a_killed_run_is_resumed_by_its_name() {
    let scene = Scene::new(STORY, None);
    let mut command = order(&scene);
    command.env("SKEP_FAULT", "after-engine:2");
    assert_eq!(scene.run(command).0, None);
    let run = block_on(only_run(&scene)).id.to_string();
    let (code, output) = scene.run(scene.skep(&["resume", &run]));
    assert_eq!(code, Some(4), "it continues to its question: {output}");
    let (code, output) = scene.run(scene.skep(&["approve", &run]));
    assert_eq!(code, Some(0), "{output}");
    block_on(left(&scene));
}

#[test]
fn attempt_ids_keep_counting_after_a_kill_and_an_unblock() {
    let scene = Scene::new(STORY, None).with("SKEP_STEPS__DEVELOP__TRIES", "1");
    let broken = "command: exit 3";
    let mut service = scene.serve();
    assert_eq!(scene.run(scene.order_by("Fail", broken, &["--detach"])).0, Some(0));
    let before = waiting(&scene);
    service.kill();
    service = scene.serve();
    let (code, output) = scene.run(scene.skep(&["unblock", &before.id.to_string()]));
    assert!(matches!(code, Some(0 | 4)), "{output}");
    let after = until("it asks again", Duration::from_secs(60), || {
        Some(waiting(&scene)).filter(|r| r.attempts.len() > before.attempts.len())
    });
    let ids: Vec<u32> = after.attempts.iter().map(|a| a.id.0).collect();
    assert_eq!(ids, (1..=u32::try_from(ids.len()).expect("few")).collect::<Vec<_>>());
    assert_eq!(after.settings.branch, before.settings.branch);
    drop(service);
    scene.wait_until_processes_end();
}
