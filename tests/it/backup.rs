//! Backups by the real program: an open run is restored elsewhere and delivers there; what cannot be restored is refused
//! before anything is written; an interrupted restore is repeated.

use crate::kill::STORY;
use crate::support::postgres;
use crate::support::program::{Scene, git, until};
use crate::support::sameness::{left, only_run};
use skep::adapters::backup::{BackupReader, BackupWriter, FORMAT, Manifest};
use skep::domain::{Run, Timestamp};
use std::path::{Path, PathBuf};
use std::time::Duration;

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

/// Runs the story until it asks for approval, and saves work that exists in the mirror only. Returns the run and the
/// commit of that work.
fn waiting_run(scene: &Scene) -> (Run, String) {
    let mut order = scene.order("Write it down", &["--detach"]);
    order.env("USER", "ada");
    let service = scene.serve();
    let (code, output) = scene.run(order);
    assert_eq!(code, Some(0), "{output}");
    let run = until("the run asks", Duration::from_secs(60), || {
        let run = block_on(only_run(scene));
        (run.parked() && !run.blocks.is_empty()).then_some(run)
    });
    drop(service);
    let mirror = scene.data.join("mirrors").join(format!("{}.git", run.project));
    let tree = git(&mirror, &["rev-parse", &format!("{}^{{tree}}", run.head)]);
    let saved = git(&mirror, &["commit-tree", &tree, "-p", run.head.as_str(), "-m", "unpushed"]);
    git(&mirror, &["update-ref", &format!("refs/skep/wip/{}/t1-1", run.id), &saved]);
    (run, saved)
}

fn restore(scene: &Scene, file: &Path) -> (Option<i32>, String) {
    scene.run(scene.skep(&["restore", &file.display().to_string()]))
}

fn backup(scene: &Scene, file: &Path) {
    let (code, output) = scene.run(scene.skep(&["backup", &file.display().to_string()]));
    assert_eq!(code, Some(0), "{output}");
}

/// Moves a waiting run from one database to another through a backup that is made while its service runs.
fn moved(from: Option<String>, to: Option<String>) {
    let reference = Scene::new(STORY, None);
    assert_eq!(reference.run(reference.order("Write it down", &["--yes"])).0, Some(0));
    let expected = block_on(left(&reference));

    let mut scene = Scene::new(STORY, from);
    let (run, saved) = waiting_run(&scene);
    let secret = scene.path("secret");
    std::fs::write(&secret, "a-value-of-the-vault").expect("a file");
    let set = scene.skep(&["secret", "set", "DEPLOY_KEY", "--from-file", &secret.display().to_string()]);
    assert_eq!(scene.run(set).0, Some(0));
    std::fs::write(scene.data.join("skep.toml"), "[runs]\nmax_live_runs = 3\n").expect("a configuration");
    let service = scene.serve();
    let file = scene.path("a backup.tar");
    let (code, output) = scene.run(scene.skep(&["backup", &file.display().to_string()]));
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("1 run") && output.contains("1 secret") && output.contains("their key is not"), "{output}");
    drop(service);
    let bytes = std::fs::read(&file).expect("the backup");
    for absent in [scene.data.join("token"), scene.data.join("vault.key")] {
        let value = std::fs::read_to_string(&absent).expect("a file").trim().to_owned();
        assert!(!bytes.windows(value.len()).any(|part| part == value.as_bytes()), "{} is in it", absent.display());
    }
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&file.metadata().expect("its metadata")) & 0o777, 0o600);

    let elsewhere = scene.path("another machine");
    let original = std::mem::replace(&mut scene.data, elsewhere);
    scene.url = to;
    let (code, output) = restore(&scene, &file);
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("vault's key is missing"), "{output}");
    std::fs::rename(&original, scene.path("gone")).expect("the original goes away");
    std::fs::copy(scene.path("gone").join("vault.key"), scene.data.join("vault.key")).expect("the key");
    // A configuration that names another store than the one that was restored is not put in force.
    let name = if scene.url.is_some() { "skep.toml.restored" } else { "skep.toml" };
    let config = std::fs::read_to_string(scene.data.join(name)).expect("the configuration");
    assert_eq!(config, "[runs]\nmax_live_runs = 3\n");
    let mirror = scene.data.join("mirrors").join(format!("{}.git", run.project));
    assert_eq!(git(&mirror, &["rev-parse", &format!("refs/skep/wip/{}/t1-1", run.id)]), saved);
    git(&mirror, &["fsck", "--connectivity-only"]);
    assert_eq!(block_on(only_run(&scene)), run);

    let service = scene.serve();
    let (code, output) = scene.run(scene.skep(&["approve", &run.id.to_string(), "--follow"]));
    assert_eq!(code, Some(0), "{output}");
    let ended = until("it ends", Duration::from_secs(60), || Some(block_on(only_run(&scene))).filter(Run::ended));
    assert_eq!(ended.attempts.len(), run.attempts.len(), "no work is done twice");
    let (code, output) = scene.run(scene.skep(&["secret", "list"]));
    assert!(code == Some(0) && output.contains("DEPLOY_KEY"), "{output}");
    drop(service);
    assert_eq!(block_on(left(&scene)), expected);
}

#[test]
fn an_open_run_is_restored_elsewhere_and_delivers_there() {
    moved(None, None);
}

#[test]
fn an_open_run_moves_from_sqlite_to_postgres() {
    let url = block_on(postgres::database());
    moved(None, Some(url.clone()));
    block_on(postgres::drop_database(&url));
}

#[test]
fn an_open_run_moves_from_postgres_to_sqlite() {
    let url = block_on(postgres::database());
    moved(Some(url.clone()), None);
    block_on(postgres::drop_database(&url));
}

/// An interrupted restore leaves a data directory that no command uses, and the same restore completes it.
fn interrupted(url: Option<&str>) {
    let mut scene = Scene::new(STORY, None);
    let (run, _) = waiting_run(&scene);
    let file = scene.path("skep.tar");
    backup(&scene, &file);
    for fault in ["restore-begun", "mid-mirror", "restore-files", "restore-loaded"] {
        scene.data = scene.path(fault);
        let database = url.map(|_| block_on(postgres::database()));
        scene.url = database.clone();
        let mut command = scene.skep(&["restore", &file.display().to_string()]);
        command.env("SKEP_FAULT", fault);
        assert_eq!(scene.run(command).0, None, "{fault}: it is killed");
        for args in [&["runs"][..], &["serve"], &["backup", "again.tar"]] {
            let (code, output) = scene.run(scene.skep(args));
            assert!(matches!(code, Some(2 | 78)), "{fault} {args:?}: {code:?} {output}");
        }
        let (code, output) = scene.run(scene.skep(&["runs"]));
        assert!(code == Some(78) && output.contains("skep restore "), "{fault}: {output}");
        let (code, output) = restore(&scene, &file);
        assert_eq!(code, Some(0), "{fault}: {output}");
        assert_eq!(block_on(only_run(&scene)), run, "{fault}");
        let (code, output) = scene.run(scene.skep(&["show", "@"]));
        assert_eq!(code, Some(0), "{fault}: {output}");
        if let Some(database) = database {
            block_on(postgres::drop_database(&database));
        }
    }
}

#[test]
fn an_interrupted_restore_is_repeated_on_sqlite() {
    interrupted(None);
}

#[test]
fn an_interrupted_restore_is_repeated_on_postgres() {
    interrupted(Some("postgres"));
}

/// The position of a file's content in the archive.
fn content_of(bytes: &[u8], name: &str) -> usize {
    let name = name.as_bytes();
    bytes.windows(name.len()).position(|part| part == name).expect("the file is in the archive") + 512
}

#[test]
fn a_backup_that_cannot_be_restored_is_refused_before_anything_is_written() {
    let mut scene = Scene::new(STORY, None);
    waiting_run(&scene);
    let file = scene.path("skep.tar");
    backup(&scene, &file);
    let bytes = std::fs::read(&file).expect("the backup");
    let restored = scene.path("restored");
    let original = std::mem::replace(&mut scene.data, restored);

    let mut cases: Vec<(&str, Vec<u8>, &str)> = Vec::new();
    let mut flipped = |case, name: &str, expected| {
        let mut damaged = bytes.clone();
        let at = content_of(&bytes, name) + 40;
        damaged[at] ^= 1;
        cases.push((case, damaged, expected));
    };
    flipped("an event", "store/event.00001.jsonl", "store/event.00001.jsonl does not match");
    flipped("a change", "forge/tally/1.json", "forge/tally/1.json does not match");
    flipped("the manifest", "manifest.json\0", "manifest.json does not match");
    cases.push(("cut", bytes[..bytes.len() / 2].to_vec(), "not a complete backup"));
    cases.push(("empty", Vec::new(), "not a complete backup"));
    cases.push(("another file", b"PK\x03\x04 not a tar archive at all".repeat(40), "is not a backup\n"));
    let whole = || BackupReader::open(&file).expect("the backup").manifest().clone();
    for (case, manifest, expected) in [
        ("a newer format", Manifest { format: FORMAT + 1, ..whole() }, "newer Skep"),
        ("newer documents", Manifest { document_version: 99, ..whole() }, "newer Skep"),
        ("a newer schema", Manifest { schema: vec!["m29990101_000001_beyond".to_owned()], ..whole() }, "newer Skep"),
    ] {
        let made = scene.path(case);
        BackupWriter::create(&made).expect("a backup").finish(manifest).expect("a whole backup");
        cases.push((case, std::fs::read(&made).expect("the backup"), expected));
    }
    let hostile = scene.path("hostile");
    let writer = BackupWriter::create(&hostile).expect("a backup");
    let writer = writer.add_bytes("mirrors/tally.git/hooks/post-update", b"#!/bin/sh\n").expect("an entry");
    writer.finish(whole()).expect("a whole backup");
    cases.push(("a hook", std::fs::read(&hostile).expect("the backup"), "which no backup of Skep holds"));

    for (case, damaged, expected) in cases {
        let damaged_file = scene.path("damaged.tar");
        std::fs::write(&damaged_file, damaged).expect("a file");
        let (code, output) = restore(&scene, &damaged_file);
        assert!(code == Some(78) && output.contains(expected), "{case}: {code:?} {output}");
        assert!(!scene.data.join("mirrors").exists() && !scene.data.join("home").exists(), "{case}");
    }
    let (code, output) = restore(&scene, &scene.path("nothing.tar"));
    assert!(code == Some(78) && output.contains("does not exist"), "{output}");

    scene.data = original;
    let (code, output) = restore(&scene, &file);
    assert!(code == Some(2) && output.contains("is not empty"), "into a used data directory: {code:?} {output}");
    let service = scene.serve();
    let (code, output) = restore(&scene, &file);
    assert!(code == Some(75) && output.contains("another process"), "below a service: {code:?} {output}");
    drop(service);
    let runs = block_on(only_run(&scene));
    assert!(!runs.ended(), "the original is unchanged");
    let (code, output) = scene.run(scene.skep(&["backup", &file.display().to_string()]));
    assert!(code == Some(78) && output.contains("exists already"), "{output}");
    let unused = scene.path("unused");
    let (code, output) = scene.run(scene.skep_at(&unused, &["backup", "x.tar"]));
    assert!(code == Some(2) && output.contains("nothing to back up"), "{output}");
    assert!(!unused.exists());
}

#[test]
fn a_backup_in_a_folder_gets_a_name_and_the_key_only_if_asked() {
    let mut scene = Scene::new(STORY, None);
    assert_eq!(scene.run(scene.order("Write it down", &["--yes"])).0, Some(0));
    let secret = scene.path("secret");
    std::fs::write(&secret, "a-value-of-the-vault").expect("a file");
    let set = scene.skep(&["secret", "set", "DEPLOY_KEY", "--from-file", &secret.display().to_string()]);
    assert_eq!(scene.run(set).0, Some(0));
    let folder = scene.path("backups");
    std::fs::create_dir(&folder).expect("a folder");
    let args = ["backup", &folder.display().to_string(), "--with-vault-key", "--json"];
    let (code, output) = scene.run(scene.skep(&args));
    assert_eq!(code, Some(0), "{output}");
    let report: serde_json::Value = serde_json::from_str(&output).expect("JSON");
    let file = PathBuf::from(report["path"].as_str().expect("a path"));
    assert!(file.starts_with(&folder) && report["files"]["vault_key"] == 1, "{report}");
    let key = std::fs::read(scene.data.join("vault.key")).expect("the key");
    scene.data = scene.path("restored");
    let (code, output) = restore(&scene, &file);
    assert!(code == Some(0) && !output.contains("key is missing"), "{output}");
    assert_eq!(std::fs::read(scene.data.join("vault.key")).expect("the key"), key);
    let created = BackupReader::open(&file).expect("the backup").manifest().created_at;
    assert!(created > Timestamp(0));
}
