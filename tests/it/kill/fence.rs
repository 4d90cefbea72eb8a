//! Two processes never own the same run: the data directory's lock, the lease's fence behind it, and runs that stay in
//! their data directory.

use super::{STORY, block_on};
use crate::support::postgres;
use crate::support::program::{Scene, until};
use crate::support::sameness::{check_journal, journal, left, only_run, runs};
use rustix::process::Signal;
use skep::domain::{Phase, Run};
use std::time::Duration;

#[test]
fn a_second_service_on_the_same_data_directory_is_refused() {
    let scene = Scene::new(STORY, None);
    let _first = scene.serve();
    let (code, output) = scene.run(scene.skep(&["serve"]));
    assert_eq!(code, Some(75), "{output}");
    assert!(output.contains("a service already uses") && output.contains("--data-dir"), "{output}");
}

/// A person removes the lock file, and its owner is stopped (SIGSTOP). Another process takes over the run and lands it.
/// When the first process continues, all its writes are fenced.
fn a_stopped_owner_writes_nothing(url: Option<String>) {
    let scene = Scene::new(STORY, url).with("SKEP_POLICY__APPROVE_MERGE", "false").with("SKEP_RUNS__LEASE_TTL", "3s");
    // In the sandbox the dev can read this folder, but can write only to its worktree.
    let signs = scene.path("signs");
    std::fs::create_dir(&signs).expect("a folder");
    let scene = scene.with("SKEP_SANDBOX__TOOLCHAINS", &signs.display().to_string());
    let go = signs.join("go");
    let engine = format!(
        "command: touch at-work; until [ -e {} ]; do sleep 0.05; done; rm at-work; echo two > b.txt",
        go.display()
    );
    let mut first = scene.serve();
    assert_eq!(scene.run(scene.order_by("Write it down", &engine, &["--detach"])).0, Some(0));
    until("the dev works", Duration::from_secs(30), || below(&scene.data.join("work"), "at-work").then_some(()));
    first.signal(Signal::STOP);
    std::fs::write(&go, "").expect("the go");
    std::fs::remove_file(scene.data.join("skep.lock")).expect("the lock file");
    let mut second = scene.serve();
    let ended =
        until("the second lands it", Duration::from_secs(60), || Some(block_on(only_run(&scene))).filter(Run::ended));
    let before = block_on(journal(&scene, &ended)).len();
    first.signal(Signal::CONT);
    // A write is fenced, the next renewal reports that the lease was lost, or the process notices that its lock excludes
    // nobody any more, and ends.
    until("the first one drops the run", Duration::from_secs(30), || {
        let output = first.output();
        let is_fenced = ["drops the run", "fenced", "may not be written"].iter().any(|part| output.contains(part));
        (is_fenced || first.ended().is_some()).then_some(())
    });
    if let Some(code) = first.ended() {
        assert_eq!(code, Some(78), "{}", first.output());
    }
    let rows = block_on(journal(&scene, &ended));
    assert_eq!(rows.len(), before, "nothing was written with the old epoch");
    let epochs: std::collections::BTreeSet<i64> = rows.iter().map(|r| r.epoch).collect();
    assert!(epochs.len() >= 3, "opened, the first, the second: {epochs:?}");
    first.kill();
    second.kill();
    let left = block_on(left(&scene));
    assert_eq!((left.commits.as_str(), left.changes), ("2", 1), "exactly one landing");
}

/// Whether a file of this name is in one of the worktrees.
fn below(work: &std::path::Path, name: &str) -> bool {
    let folders = |dir: &std::path::Path| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    folders(work).flat_map(|run| folders(&run).collect::<Vec<_>>()).any(|tree| tree.join(name).exists())
}

#[test]
fn a_stopped_owner_writes_nothing_on_sqlite() {
    a_stopped_owner_writes_nothing(None);
}

#[test]
fn a_stopped_owner_writes_nothing_on_postgres() {
    let url = block_on(postgres::database());
    a_stopped_owner_writes_nothing(Some(url.clone()));
    block_on(postgres::drop_database(&url));
}

#[test]
fn services_that_share_a_database_leave_each_others_runs_alone() {
    let url = block_on(postgres::database());
    let scene = Scene::new(STORY, Some(url.clone())).with("SKEP_RUNS__SWEEP_INTERVAL", "1s");
    let scene = scene.with("SKEP_POLICY__APPROVE_MERGE", "false");
    // The run is opened in its own data directory, where no process drives it for now.
    assert_eq!(scene.run(scene.order("Write it down", &["--detach"])).0, Some(0));
    let at_home = block_on(only_run(&scene)).id;

    let away = scene.path("away");
    let other = scene.start(scene.skep_at(&away, &["serve"]));
    let mut other = scene.serving(other, &away);
    // The other service works: its own run, of the same goal, ends.
    let origin = scene.origin.display().to_string();
    let order = ["run", "--repo", &origin, "--goal", "Write it down", "--engine", "command: echo x > x.txt"];
    let mut command = scene.skep_at(&away, &order);
    command.args(["--check", "test -f a.txt"]);
    let (code, output) = scene.run(command);
    assert_eq!(code, Some(0), "{output}");
    let all = block_on(runs(&scene));
    assert_eq!(all.len(), 2, "an open run of another data directory must not be resumed here");
    let waits = all.iter().find(|r| r.id == at_home).expect("the first run");
    assert_eq!((waits.phase, waits.seq), (Phase::Queued, 1), "it waits for its own service");
    // Naming the run explicitly does not move it either.
    let (code, output) = scene.run(scene.skep_at(&away, &["resume", &at_home.to_string()]));
    assert_ne!(code, Some(0), "{output}");
    assert_eq!(block_on(journal(&scene, waits)).len(), 1);
    other.kill();

    let (code, output) = scene.run(scene.order("Write it down", &[]));
    assert_eq!(code, Some(0), "{output}");
    for run in block_on(runs(&scene)) {
        assert!(run.ended());
        block_on(check_journal(&scene, &run));
    }
    block_on(postgres::drop_database(&url));
}
