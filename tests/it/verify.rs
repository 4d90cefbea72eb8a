//! `skep verify` by the real program: nothing on a healthy installation, also while a service works; each planted damage
//! is named.

use crate::kill::STORY;
use crate::support::postgres;
use crate::support::program::{Scene, until};
use crate::support::sameness::runs;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

/// Runs `skep verify --json`. Returns its exit code and result.
fn verify(scene: &Scene) -> (Option<i32>, Value) {
    let (code, output) = scene.run(scene.skep(&["verify", "--json"]));
    let result = serde_json::from_str(&output).unwrap_or_else(|e| panic!("{e}: {output}"));
    (code, result)
}

fn sql(scene: &Scene, statements: &str) {
    use sea_orm::sqlx::{AssertSqlSafe, ConnectOptions, Connection, raw_sql, sqlite::SqliteConnectOptions};
    match &scene.url {
        Some(url) => block_on(postgres::execute(url, statements)),
        None => block_on(async {
            let options: SqliteConnectOptions = scene.store().parse().expect("a URL");
            let mut connection = options.foreign_keys(false).connect().await.expect("a connection");
            let done = raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut connection).await;
            done.unwrap_or_else(|e| panic!("{statements}: {e}"));
            connection.close().await.expect("closing");
        }),
    }
}

fn copy_folder(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp").arg("-a").args([from, to]).status().expect("cp");
    assert!(done.success());
}

/// A scene with a delivered run, and one that waits for a person.
fn scene(url: Option<String>) -> Scene {
    let scene = Scene::new(STORY, url);
    let (code, output) = scene.run(scene.order("Write it down", &["--yes"]));
    assert_eq!(code, Some(0), "{output}");
    let (code, output) = scene.run(scene.order_by("Fail", "command: exit 3", &[]));
    assert_eq!(code, Some(4), "{output}");
    scene
}

fn healthy(url: Option<String>) {
    let mut scene = scene(url);
    let (code, result) = verify(&scene);
    assert_eq!(code, Some(0), "{result:#}");
    assert_eq!(
        (&result["problems"], &result["checked"]["runs"]),
        (&serde_json::json!([]), &Value::from(2)),
        "{result}"
    );
    for what in ["events", "audit", "artifacts", "mirrors", "changes"] {
        assert!(result["checked"][what].as_u64() > Some(0), "{what}: {result}");
    }
    // While a service works on runs.
    let mut service = scene.serve();
    for n in 0..4 {
        let goal = format!("Write it down {n}");
        let (code, output) = scene.run(scene.order(&goal, &["--detach"]));
        assert_eq!(code, Some(0), "{output}");
        let (code, result) = verify(&scene);
        assert_eq!(code, Some(0), "{result:#}");
    }
    until("all wait", Duration::from_secs(60), || {
        let (code, result) = verify(&scene);
        assert_eq!(code, Some(0), "{result:#}");
        let runs = block_on(runs(&scene));
        runs.iter().all(|run| run.parked() && (run.ended() || !run.blocks.is_empty())).then_some(())
    });
    service.kill();
    let (code, result) = verify(&scene);
    assert_eq!(code, Some(0), "after a kill: {result:#}");
    scene.data = scene.path("unused");
    let (code, output) = scene.run(scene.skep(&["verify"]));
    assert!(code == Some(2) && output.contains("nothing to verify") && !scene.data.exists(), "{output}");
}

#[test]
fn a_healthy_installation_has_no_findings_on_sqlite() {
    healthy(None);
}

#[test]
fn a_healthy_installation_has_no_findings_on_postgres() {
    let url = block_on(postgres::database());
    healthy(Some(url.clone()));
    block_on(postgres::drop_database(&url));
}

/// Damages, each with what is reported about it. `{run}` is the delivered run.
const DAMAGES: &[(&str, &str)] = &[
    ("DELETE FROM event WHERE run = '{run}' AND seq = 3", "event 3 is missing from its journal"),
    (
        "DELETE FROM event WHERE run = '{run}' AND seq = (SELECT max(seq) FROM event WHERE run = '{run}')",
        "are missing from its journal",
    ),
    ("DELETE FROM event WHERE run = '{run}'", "its journal is empty"),
    (
        "UPDATE event SET body = replace(body, 'wrote it', 'wrote iu') WHERE run = '{run}'",
        "its snapshot is not what its journal gives",
    ),
    (
        "UPDATE event SET body = '{\"event\":' || substr(body, 11) WHERE run = '{run}' AND seq = 4",
        "event 4 of its journal was changed",
    ),
    (
        "UPDATE event SET name = 'paused' WHERE run = '{run}' AND seq = 2",
        "event 2 of its journal was changed: its name",
    ),
    ("UPDATE event SET epoch = 99 WHERE run = '{run}' AND seq = 2", "epoch is lower"),
    ("UPDATE event SET at = at + 1 WHERE run = '{run}' AND seq = 1", "its snapshot is not what its journal gives"),
    ("UPDATE run SET snapshot = replace(snapshot, 'Write b.txt', 'Write c.txt') WHERE id = '{run}'", "different: "),
    ("UPDATE run SET snapshot = substr(snapshot, 2) WHERE id = '{run}'", "its snapshot cannot be read"),
    (
        "UPDATE run SET snapshot = (SELECT snapshot FROM run AS other WHERE other.id <> run.id) WHERE id = '{run}'",
        "its snapshot is of run ",
    ),
    ("UPDATE run SET status = 'failed' WHERE id = '{run}'", "do not match its snapshot: status"),
    ("UPDATE run SET seq = seq - 1 WHERE id = '{run}'", "do not match its snapshot: seq"),
    ("UPDATE run SET lease_until = 9999999999999 WHERE id = '{run}'", "its lease has"),
    ("UPDATE run SET epoch = 0 WHERE id = '{run}'", "an epoch that its lease has never had"),
    (
        "DELETE FROM run_artifact; DELETE FROM run WHERE id = '{run}'",
        "the journal has rows of this run, which does not exist",
    ),
    (
        "INSERT INTO outbox (run, key, ord, body) SELECT '{run}', '9.9', 1, '{}'",
        "its outbox has the effect 9.9, which is not pending",
    ),
    (
        "UPDATE ledger_row SET wall_ms = wall_ms + 1 WHERE run = '{run}' AND attempt = 1",
        "the ledger row of attempt 1 is not what",
    ),
    ("DELETE FROM ledger_row WHERE run = '{run}' AND attempt = 2", "the ledger row of attempt 2 is missing"),
    ("UPDATE ledger_row SET attempt = 99 WHERE run = '{run}' AND attempt = 1", "the ledger has a row of attempt 99"),
    ("DELETE FROM run_artifact WHERE run = '{run}'", "of its artifacts are missing, such as "),
    (
        "UPDATE artifact SET size = size + 1 WHERE digest = (SELECT min(digest) FROM artifact)",
        "its bytes do not match its digest or size",
    ),
    ("UPDATE audit SET principal = 'local:eve' WHERE id = 1", "record 1 does not continue the chain"),
    ("DELETE FROM audit WHERE id = 1", "record 2 does not continue the chain"),
    ("UPDATE audit SET hash = '' WHERE id = 2", "record 2 does not continue the chain"),
];

/// Lets statements change what is append-only.
fn unlocked(sqlite: bool) -> &'static str {
    if sqlite {
        "DROP TRIGGER event_no_update; DROP TRIGGER event_no_delete; DROP TRIGGER audit_no_update; DROP TRIGGER audit_no_delete;"
    } else {
        "DROP TRIGGER event_append_only ON event; DROP TRIGGER audit_append_only ON audit;"
    }
}

fn delivered(scene: &Scene) -> String {
    let runs = block_on(runs(scene));
    runs.iter().find(|run| run.ended()).expect("a delivered run").id.to_string()
}

#[test]
fn each_planted_damage_is_named() {
    let mut scene = scene(None);
    let run = delivered(&scene);
    let whole = std::mem::take(&mut scene.data);
    for (n, (damage, expected)) in DAMAGES.iter().enumerate() {
        scene.data = scene.path(&format!("damaged-{n}"));
        copy_folder(&whole, &scene.data);
        sql(&scene, &format!("{} {}", unlocked(true), damage.replace("{run}", &run)));
        let (code, result) = verify(&scene);
        let details: Vec<&str> = result["problems"]
            .as_array()
            .expect("problems")
            .iter()
            .map(|p| p["detail"].as_str().expect("text"))
            .collect();
        assert_eq!(code, Some(3), "{damage}: {details:?}");
        assert!(details.iter().any(|detail| detail.contains(expected)), "{damage}: {details:?}");
        assert!(details.len() <= 3, "the damage is not reported about everything else: {damage}: {details:?}");
        std::fs::remove_dir_all(&scene.data).expect("removed");
    }
}

#[test]
fn damage_on_postgres_is_named() {
    let url = block_on(postgres::database());
    let scene = scene(Some(url.clone()));
    let run = delivered(&scene);
    sql(&scene, "DROP TRIGGER event_append_only ON event");
    sql(&scene, &format!("DELETE FROM event WHERE run = '{run}' AND seq = 3"));
    sql(&scene, "UPDATE artifact SET size = size + 1 WHERE digest = (SELECT min(digest) FROM artifact)");
    let (code, output) = scene.run(scene.skep(&["verify"]));
    assert_eq!(code, Some(3), "{output}");
    for expected in ["event 3 is missing from its journal", "do not match its digest", "2 problems", "fix: "] {
        assert!(output.contains(expected), "{output}");
    }
    block_on(postgres::drop_database(&url));
}

#[test]
fn damaged_files_are_named() {
    let scene = scene(None);
    let run = block_on(runs(&scene)).remove(0);
    let mirror = scene.data.join("mirrors").join(format!("{}.git", run.project));
    let head = run.head.as_str();
    let object = mirror.join("objects").join(&head[..2]).join(&head[2..]);
    let found = std::fs::remove_file(&object).is_ok();
    if !found {
        std::fs::remove_dir_all(mirror.join("objects/pack")).expect("its packs");
    }
    let change = scene.data.join("forge").join(run.project.as_str()).join("1.json");
    std::fs::write(&change, "{\"number\":").expect("a damaged change");
    let (code, result) = verify(&scene);
    assert_eq!(code, Some(3), "{result:#}");
    let text = result["problems"].to_string();
    assert!(text.contains("mirror ") && text.contains("#1") && text.contains("is damaged"), "{result:#}");
    // The store is not affected.
    assert_eq!(result["problems_total"], 2, "{result:#}");
}
