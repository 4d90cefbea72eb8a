//! A role's panic, hang or fatal crash costs its own run an attempt and affects no other run.

use super::block_on;
use crate::support::program::{Scene, until};
use crate::support::sameness::{check_journal, only_run, runs};
use skep::domain::attempt::Ending;
use skep::domain::{Outcome, Run};
use std::time::Duration;

fn story(first: &str) -> String {
    format!(
        r#"
[[turn]]
step = "plan"
tasks = [{{ name = "one", title = "Write it", text = "Write b.txt" }}]

[[turn]]
step = "develop"
try = 1
{first}

[[turn]]
step = "develop"
edit = [{{ write = "b.txt", content = "two\n" }}]
done = "wrote it"

[[turn]]
step = "review"
verdict = "approve"
summary = "whole"
"#
    )
}

fn endings(run: &Run) -> Vec<(bool, Ending)> {
    run.attempts.iter().filter_map(|a| Some((a.task.is_some(), a.ended.as_ref()?.ending))).collect()
}

#[test]
fn a_panic_costs_one_attempt_and_affects_no_other_run() {
    let scene = Scene::new(&story("panic = \"a bug\""), None).with("SKEP_POLICY__APPROVE_MERGE", "false");
    let service = scene.serve();
    let other = "command: sleep 0.5; echo x > x.txt";
    assert_eq!(scene.run(scene.order_by("Other", other, &["--detach"])).0, Some(0));
    let (code, output) = scene.run(scene.order("Panic", &[]));
    assert_eq!(code, Some(0), "{output}");
    let all = until("both end", Duration::from_secs(60), || {
        Some(block_on(runs(&scene))).filter(|all| all.iter().all(Run::ended))
    });
    for run in &all {
        assert!(matches!(run.outcome, Some(Outcome::Delivered { .. })), "{:?}", run.outcome);
        block_on(check_journal(&scene, run));
        let lost = endings(run).iter().filter(|(_, e)| *e == Ending::Lost).count();
        assert_eq!(lost, usize::from(run.goal.text == "Panic"), "{:?}", endings(run));
    }
    drop(service);
    scene.wait_until_processes_end();
}

#[test]
fn a_hang_ends_at_its_timeout() {
    let scene = Scene::new(&story("hang = true"), None).with("SKEP_STEPS__DEVELOP__TIMEOUT", "1s");
    let (code, output) = scene.run(scene.order("Hang", &["--yes"]));
    assert_eq!(code, Some(0), "{output}");
    let run = block_on(only_run(&scene));
    assert_eq!(endings(&run)[1..3], [(true, Ending::Failed), (true, Ending::Succeeded)]);
    block_on(check_journal(&scene, &run));
}

#[test]
fn a_run_that_keeps_ending_its_process_asks_a_person() {
    let poison = story("exit = 9").replace("try = 1\n", "");
    let scene = Scene::new(&poison, None).with("SKEP_POLICY__MAX_LOST_ATTEMPTS", "2");
    for _ in 0..2 {
        let (code, output) = scene.run(scene.order("Poison", &["--yes"]));
        assert_eq!(code, Some(9), "{output}");
    }
    let (code, output) = scene.run(scene.order("Poison", &["--yes"]));
    assert_eq!(code, Some(4), "it asks: {output}");
    assert!(output.contains("lost 2 times in a row"), "{output}");
    let run = block_on(only_run(&scene));
    assert_eq!(run.blocks.len(), 1);
    assert_eq!(endings(&run).iter().filter(|(_, e)| *e == Ending::Lost).count(), 2);
    block_on(check_journal(&scene, &run));
}

#[test]
fn a_service_completes_other_runs_next_to_a_poisonous_one() {
    let poison = story("exit = 9").replace("try = 1\n", "");
    let scene = Scene::new(&poison, None).with("SKEP_POLICY__MAX_LOST_ATTEMPTS", "2");
    let scene = scene.with("SKEP_POLICY__APPROVE_MERGE", "false");
    assert_eq!(scene.run(scene.order("Poison", &["--detach"])).0, Some(0));
    let good = "command: echo x > x.txt";
    assert_eq!(scene.run(scene.order_by("Good", good, &["--detach"])).0, Some(0));
    // Restart the service whenever it ends, as a service manager does.
    let mut lives = 0;
    let mut service = scene.start(scene.skep(&["serve"]));
    let all = until("the good run ends and the other asks", Duration::from_secs(60), || {
        if service.ended().is_some() {
            lives += 1;
            service = scene.start(scene.skep(&["serve"]));
        }
        let all = block_on(runs(&scene));
        all.iter().all(|r| r.ended() || !r.blocks.is_empty()).then_some(all)
    });
    assert!((1..=2).contains(&lives), "it ended {lives} times");
    assert!(all.iter().any(|r| r.goal.text == "Poison" && r.blocks.len() == 1));
    // Skep cannot tell which run crashed the process, so a run that was active each time may be blocked as well;
    // unblock it.
    let good = all.iter().find(|r| r.goal.text == "Good").expect("the good run").id;
    if all.iter().any(|r| r.id == good && !r.ended()) {
        let (code, output) = scene.run(scene.skep(&["unblock", &good.to_string()]));
        assert!(matches!(code, Some(0 | 4)), "{output}");
    }
    until("the good run ends", Duration::from_secs(60), || {
        block_on(runs(&scene)).iter().any(|r| r.id == good && r.ended()).then_some(())
    });
    assert!(service.ended().is_none(), "it is up");
}
