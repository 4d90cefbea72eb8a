//! `skep gc` by the real program: frees what nothing needs, says so before, and never drops work that exists only here.

use crate::kill::STORY;
use crate::support::program::{Scene, git, until};
use crate::support::sameness::only_run;
use serde_json::Value;
use skep::domain::Run;
use std::path::Path;
use std::time::{Duration, SystemTime};

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

/// Runs `skep gc --json` with more options. Returns the items, each as kind, name, and whether it is kept.
fn gc(scene: &Scene, more: &[&str]) -> Vec<(String, String, bool)> {
    let (code, output) = scene.run(scene.skep(&[&["gc", "--json"], more].concat()));
    assert_eq!(code, Some(0), "{output}");
    let report: Value = serde_json::from_str(&output).unwrap_or_else(|e| panic!("{e}: {output}"));
    let text = |item: &Value, key: &str| item[key].as_str().expect("text").to_owned();
    let items = report["items"].as_array().expect("items").iter();
    items.map(|item| (text(item, "kind"), text(item, "name"), !item["kept"].is_null())).collect()
}

fn copy_folder(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp").arg("-a").args([from, to]).status().expect("cp");
    assert!(done.success());
}

#[test]
fn a_left_workspace_is_freed_and_its_uncommitted_work_is_saved() {
    let scene = Scene::new(STORY, None);
    let (code, output) = scene.run(scene.order("Write it down", &[]));
    assert_eq!(code, Some(4), "{output}");
    let run = block_on(only_run(&scene));
    let (id, folders) = (run.id.to_string(), ["work", "sealed", "scratch"]);
    assert_eq!(gc(&scene, &[]), [], "a run that waits keeps everything");
    let kept = scene.path("kept");
    std::fs::create_dir(&kept).expect("a folder");
    for folder in folders {
        copy_folder(&scene.data.join(folder).join(&id), &kept.join(folder));
    }
    let (code, output) = scene.run(scene.skep(&["approve", &id]));
    assert_eq!(code, Some(0), "{output}");
    // As if the workspace could not be released.
    for folder in folders {
        copy_folder(&kept.join(folder), &scene.data.join(folder).join(&id));
    }
    std::fs::write(scene.data.join("work").join(&id).join("t1/precious.txt"), "not committed\n").expect("a file");

    let expected = [("workspace".to_owned(), id.clone(), false)];
    assert_eq!(gc(&scene, &["--dry-run"]), expected);
    assert!(scene.data.join("work").join(&id).join("t1/precious.txt").exists(), "nothing is removed yet");
    assert_eq!(gc(&scene, &[]), expected);
    for folder in folders {
        assert!(!scene.data.join(folder).join(&id).exists(), "{folder}");
    }
    let mirror = scene.data.join("mirrors").join(format!("{}.git", run.project));
    let saved = git(&mirror, &["for-each-ref", "--format=%(refname)", &format!("refs/skep/wip/{id}")]);
    let file = saved.lines().map(|name| git(&mirror, &["ls-tree", "--name-only", name])).collect::<String>();
    assert!(file.contains("precious.txt"), "{saved}: {file}");
    assert_eq!(gc(&scene, &[]), []);

    // The mirror of a removed project stays as long as it holds that work.
    let project = run.project.to_string();
    let (code, output) = scene.run(scene.skep(&["project", "remove", &project]));
    assert_eq!(code, Some(0), "{output}");
    assert_eq!(gc(&scene, &[]), [("mirror".to_owned(), project.clone(), true)]);
    for name in saved.lines() {
        git(&mirror, &["update-ref", "-d", name]);
    }
    let expected = [("mirror".to_owned(), project, false)];
    assert_eq!(gc(&scene, &["--dry-run"]), expected);
    assert!(mirror.exists());
    assert_eq!(gc(&scene, &[]), expected);
    assert!(!mirror.exists());
}

#[test]
fn what_is_in_use_or_unknown_stays_while_a_service_works() {
    let scene = Scene::new(STORY, None);
    let mut service = scene.serve();
    let (code, output) = scene.run(scene.order("Write it down", &["--detach"]));
    assert_eq!(code, Some(0), "{output}");
    let waiting = |run: &Run| run.parked() && !run.blocks.is_empty();
    let run = until("the run asks", Duration::from_secs(60), || {
        assert_eq!(gc(&scene, &[]), [], "nothing of a run in progress is freed");
        Some(block_on(only_run(&scene))).filter(waiting)
    });
    // A project without a row, but with an open run, keeps its mirror.
    let (_, output) = scene.run(scene.skep(&["project", "remove", run.project.as_str()]));
    assert_eq!(gc(&scene, &[]), [], "{output}");
    let unknown = uuid::Uuid::now_v7().simple().to_string();
    let strange = scene.data.join("work").join(&unknown);
    std::fs::create_dir_all(strange.join("t1")).expect("a folder");
    assert_eq!(gc(&scene, &[]), [("workspace".to_owned(), unknown, true)]);
    assert!(strange.exists());
    std::fs::remove_dir_all(&strange).expect("removed");

    let cache = scene.data.join("caches/0a/1b");
    std::fs::create_dir_all(&cache).expect("a folder");
    std::fs::write(cache.join("file"), "x".repeat(10_000)).expect("a file");
    let caches =
        |more: &[&str]| -> Vec<_> { gc(&scene, more).into_iter().filter(|(_, name, _)| name == "0a/1b").collect() };
    assert_eq!(caches(&[]), []);
    let old = SystemTime::now() - Duration::from_secs(3 * 24 * 3600);
    std::fs::File::open(&cache).and_then(|dir| dir.set_modified(old)).expect("its time");
    assert_eq!(caches(&[]), []);
    assert_eq!(caches(&["--caches-unused", "2d"]), [("cache".to_owned(), "0a/1b".to_owned(), false)]);
    assert!(!cache.exists());
    let (code, output) = scene.run(scene.skep(&["approve", &run.id.to_string(), "--follow"]));
    assert_eq!(code, Some(0), "{output}");
    service.kill();
}

#[test]
fn a_service_frees_space_at_the_configured_interval() {
    let scene = Scene::new(STORY, None);
    let (code, output) = scene.run(scene.order("Write it down", &["--yes"]));
    assert_eq!(code, Some(0), "{output}");
    let removable = || gc(&scene, &["--dry-run", "--logs-older", "0s"]);
    assert!(removable().iter().any(|(kind, _, _)| kind == "logs"), "the run has stored logs");

    // A service keeps logs unless it is told otherwise.
    let settings = |logs: &str| {
        let text = format!("[retention]\ninterval = \"1s\"\n{logs}");
        std::fs::write(scene.data.join("skep.toml"), text).expect("a configuration");
    };
    settings("");
    let mut service = scene.serve();
    std::thread::sleep(Duration::from_secs(3));
    assert!(!removable().is_empty());
    service.kill();
    settings("logs = \"1s\"\n");
    let mut service = scene.serve();
    until("the logs are removed", Duration::from_secs(60), || removable().is_empty().then_some(()));
    let (_, shown) = scene.run(scene.skep(&["show", "@"]));
    assert!(shown.contains("delivered"), "the run itself stays: {shown}");
    service.kill();
}
