//! A command that is killed at any moment and repeated ends as if never killed: the real program, both databases.
//!
//! `SKEP_TEST_KILL_ALL=1` kills at every pass of every fault point. Without it, each point is tested at a few passes.

mod blocked;
mod fence;
mod outage;
mod random;
mod roles;

use crate::support::postgres;
use crate::support::program::Scene;
use crate::support::sameness::{Left, left};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;

/// One task that is incomplete at first: the reviewer requests rework, then approves.
pub const STORY: &str = r#"
[[turn]]
step = "plan"
tasks = [{ name = "one", title = "Write it", text = "Write b.txt" }]

[[turn]]
step = "develop"
task = "one"
edit = [{ write = "b.txt", content = "two\n" }]
done = "wrote it"

[[turn]]
step = "review"
patch_lacks = "three"
verdict = "rework"
findings = [{ path = "b.txt", line = 1, text = "three is missing" }]
summary = "incomplete"

[[turn]]
step = "review"
verdict = "approve"
summary = "whole"

[[turn]]
step = "develop"
edit = [{ append = "b.txt", content = "three\n" }]
done = "completed it"
"#;

/// Number of concurrent cases. A case spends half of its time waiting for the disk.
const CONCURRENCY: usize = 3;

fn order(scene: &Scene) -> std::process::Command {
    scene.order("Write it down", &["--yes"])
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

/// Runs the command without a kill. Returns what the run leaves and how often it passes each fault point.
fn reference(url: Option<String>) -> (Left, BTreeMap<String, u64>) {
    let scene = Scene::new(STORY, url);
    let faults = scene.path("faults");
    let mut command = order(&scene);
    command.env("SKEP_TEST_FAULTS", &faults);
    let (code, output) = scene.run(command);
    assert_eq!(code, Some(0), "{output}");
    let mut passed = BTreeMap::new();
    for name in std::fs::read_to_string(faults).expect("the passed points").lines() {
        *passed.entry(name.to_owned()).or_default() += 1;
    }
    (block_on(left(&scene)), passed)
}

/// Kills the command at these fault points one after the other, then runs it to the end.
fn killed(faults: &[String], url: Option<String>) -> Left {
    let scene = Scene::new(STORY, url);
    for fault in faults {
        let mut command = order(&scene);
        command.env("SKEP_FAULT", fault);
        let (code, output) = scene.run(command);
        assert!(matches!(code, None | Some(0)), "{faults:?}: {code:?}\n{output}");
        if code == Some(0) {
            // With other timing the last pass may not happen. The command has reported the end of the run, so the next
            // one would start another.
            return block_on(left(&scene));
        }
    }
    let (code, output) = scene.run(order(&scene));
    assert_eq!(code, Some(0), "after {faults:?}:\n{output}");
    block_on(left(&scene))
}

/// Runs all cases, a few at a time, and reports every case that ends differently.
fn all_end_the_same(cases: Vec<Vec<String>>, expected: &Left, postgres: bool) {
    let (queue, wrong) = (Mutex::new(cases.into_iter()), Mutex::new(Vec::new()));
    let next = || queue.lock().expect("the queue").next();
    std::thread::scope(|scope| {
        for _ in 0..CONCURRENCY {
            scope.spawn(|| {
                while let Some(case) = next() {
                    let url = postgres.then(|| block_on(postgres::database()));
                    let done = std::panic::catch_unwind(|| killed(&case, url.clone()));
                    match done {
                        Ok(found) if found == *expected => {
                            if let Some(url) = url {
                                block_on(postgres::drop_database(&url));
                            }
                        }
                        Ok(found) => wrong.lock().expect("the list").push(format!("{case:?}: {found:#?}")),
                        Err(panic) => {
                            let why = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                            wrong.lock().expect("the list").push(format!("{case:?}: {why}"));
                        }
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("the list");
    assert!(wrong.is_empty(), "{} cases end differently from {expected:#?}\n{}", wrong.len(), wrong.join("\n"));
}

/// Returns the passes to kill at; `sample` chooses those of a normal test run.
fn cases(passed: &BTreeMap<String, u64>, sample: impl Fn(usize, &str, u64) -> Vec<u64>) -> Vec<Vec<String>> {
    let all = std::env::var_os("SKEP_TEST_KILL_ALL").is_some();
    let mut cases = Vec::new();
    for (at, (name, times)) in passed.iter().enumerate() {
        let chosen = if all { (1..=*times).collect() } else { sample(at, name, *times) };
        cases.extend(chosen.into_iter().map(|n| vec![format!("{name}:{n}")]));
    }
    // Some points are passed only by a process that follows a killed one.
    cases.push(vec!["after-engine:1".to_owned(), "after-orphan".to_owned()]);
    cases.push(vec!["before-act:3".to_owned(), "after-begin".to_owned()]);
    cases.push(vec!["after-land-push".to_owned(), "after-take".to_owned(), "before-begin".to_owned()]);
    cases
}

#[test]
fn a_run_killed_at_every_point_ends_the_same_on_sqlite() {
    let (expected, passed) = reference(None);
    let of_each = |at: usize, _: &str, n: u64| vec![if at % 2 == 0 { 1 } else { n }];
    all_end_the_same(cases(&passed, of_each), &expected, false);
}

#[test]
fn a_run_killed_at_every_point_ends_the_same_on_postgres() {
    let url = block_on(postgres::database());
    let (expected, passed) = reference(Some(url.clone()));
    block_on(postgres::drop_database(&url));
    // Other passes than on SQLite, so that the two tests cover more together.
    let of_each = |at: usize, _: &str, n: u64| vec![if at % 2 == 0 { n } else { n.div_ceil(2) }];
    all_end_the_same(cases(&passed, of_each), &expected, true);
}

#[test]
fn every_fault_point_is_in_the_source_and_passed_by_a_run() {
    let mut marked = BTreeSet::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let names = text.split("fault!(\"").skip(1).filter_map(|rest| rest.split('"').next().map(str::to_owned));
            marked.extend(names);
        }
    }
    use skep::fault::{DEPLOY_POINTS, FORK_POINTS, INTAKE_POINTS, LANDING_POINTS, MESSAGE_POINTS};
    use skep::fault::{OPEN_WORK_POINTS, POINTS, SCHEDULE_POINTS};
    let listed: BTreeSet<String> = POINTS.iter().map(|p| (*p).to_owned()).collect();
    // Only a service passes these; `story_intake`, `messages`, `story_schedule`, `open_work`, `deploy`, `landed` and
    // `forks` kill it there.
    let of_services: BTreeSet<String> =
        [INTAKE_POINTS, MESSAGE_POINTS, SCHEDULE_POINTS, OPEN_WORK_POINTS, DEPLOY_POINTS, LANDING_POINTS, FORK_POINTS]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect();
    assert_eq!(marked, &listed | &of_services);
    let (_, passed) = reference(None);
    // A run does not restore; `backup` kills at these points.
    let missed: Vec<&String> =
        listed.iter().filter(|p| !passed.contains_key(*p) && !p.starts_with("restore-")).collect();
    // Only a process that follows a killed one finds orphans.
    assert_eq!(missed, ["after-orphan"]);
}
