//! Copies of the store: complete, the same on both databases, loadable into either, all or nothing.

use crate::support::postgres::{database, drop_database};
use crate::support::runs::{moving, run};
use crate::support::stores::{TestStore, permanent};
use skep::adapters::store::dump::{LEFT_OUT, Load, RESTORED, TABLES, TablePart};
use skep::adapters::store::{connect, status};
use skep::domain::{ArtifactKind, Digest, Phase, Principal, Timestamp};
use skep::ports::PortResult;
use skep::ports::audit::{AuditEntry, AuditFilter, AuditLog};
use skep::ports::blobs::ArtifactBytes;
use std::collections::BTreeSet;
use tokio::sync::mpsc;

super::on_both!(
    every_table_is_copied_or_left_out_on_purpose,
    a_copy_is_loaded_into_both_databases,
    a_copy_of_an_older_schema_is_migrated,
    a_newer_or_foreign_copy_is_refused,
    a_store_with_rows_is_refused_and_left_alone,
    a_load_that_fails_leaves_nothing
);

/// A row in each copied table, past the store where the store would want more around it.
async fn fill(b: &TestStore) {
    let mut r = run();
    b.open(&r).await;
    let lease = b.take(r.id, "one").await;
    b.commit(moving(&mut r, &lease, Phase::Planning, 1)).await.expect("a transition");
    let bytes = [0_u8, 255, 10, 13];
    b.store.put_artifact(r.id, ArtifactKind::Log, "the log \u{1f41d}", &bytes).await.expect("an artifact");
    let (id, null) = (r.id, "NULL");
    let blob = if b.sqlite() { "x'00ff0a'" } else { "'\\x00ff0a'" };
    for sql in [
        "INSERT INTO project (name, body, created_at, updated_at) VALUES ('demo', '{}', 1, 2)".to_owned(),
        format!(
            "INSERT INTO ledger_row (run, attempt, project, role, engine, tokens, cost_micros, turns, wall_ms, \
             settled, day, at, usage_by_model, round, prompt_digest) \
             VALUES ('{id}', 1, 'demo', 'dev', 'x', 1, 2, 3, 4, true, 5, 6, '[]', 1, {null})"
        ),
        "INSERT INTO budget_raise (scope, key, tokens, cost_micros, raised_by, at) \
         VALUES ('day', '1', 1, 2, 'ann', 3)"
            .to_owned(),
        format!("INSERT INTO budget_alert VALUES ('day', '1', 'cost', 80, 9, '{id}', 1, 2)"),
        format!("INSERT INTO secret VALUES ('', 'KEY', 1, 'k', {blob}, {blob}, 1, 2, {null})"),
        format!("INSERT INTO idempotency_key VALUES ('ann', 'k', 'f', '{id}', false, 1)"),
        format!(
            "INSERT INTO delivery (home, forge, id, event, repository, fact, key, state, reason, tries, target, \
             received_at, due_at, settled_at) \
             VALUES ('h', 'github', 'd', 'issues', 'o/r', {null}, {null}, 'ignored', '', 0, {null}, 1, 2, 3)"
        ),
        format!("INSERT INTO issue_run VALUES ('github', 'o/r', 7, 'h', '{id}', 1, '{{}}', false)"),
        format!("INSERT INTO person VALUES ('h', 'ann', 'admin', 1, {null})"),
        "INSERT INTO person_identity VALUES ('h', 'https://id.example', '7', 'ann', 1)".to_owned(),
        "INSERT INTO project_role VALUES ('h', 'ann', 'demo', 'approver')".to_owned(),
        format!(
            "INSERT INTO access_token VALUES ('t', 'h', 'd', 'ann', 'ci', 'read', 'ann', 1, 2, {null}, {null}, 'a b')"
        ),
        "INSERT INTO intake_cursor VALUES ('h', 'github', 'o/r', 1)".to_owned(),
        "INSERT INTO message_channel VALUES ('h', 'team', 1)".to_owned(),
        format!("INSERT INTO message VALUES ('h', 'team', 'k', '{{}}', 'pending', '', 0, 1, 2, {null})"),
        format!("INSERT INTO schedule VALUES ('h', 'weekly', '0 5 * * 1 UTC', 1, {null}, 2, '{id}', {null})"),
        format!("INSERT INTO outcome VALUES ('{id}', 0, 'void', 'demo', '', '', {null}, 0, 1, 2, 3, 4, 'seq:9', 5)"),
        format!("INSERT INTO agent VALUES ('h', 'crab', 'ann', '', 'd', 1, 'ann', 2, {null}, {null}, {null}, 0)"),
        format!(
            "INSERT INTO offer VALUES ('h', 'o', '{id}', 1, 'demo', 'develop', 1, '{{}}', '', 'open', {null}, {null}, \
             {null}, {null}, '', {null}, '', 3)"
        ),
        "INSERT INTO agent_call VALUES ('h', 'agent:crab', 'claim', 1, 2)".to_owned(),
        "INSERT INTO proposal VALUES ('p', 'demo', 'open', 1, 2, '{}')".to_owned(),
        format!(
            "INSERT INTO memory VALUES ('m', 'demo', 'fact', 'live', 'skep', '', 't', 'b', '[]', '{id}', 3, 1, 2, 9)"
        ),
        "INSERT INTO deployment VALUES ('h', 'test', '{}', 1)".to_owned(),
        format!("INSERT INTO rollout VALUES ('h', 'test', 1, 'k', 'queued', '{{}}', 1, {null})"),
        format!("INSERT INTO landing_watch VALUES ('h', '{id}', 'watching', '{{}}', 1, {null})"),
        "INSERT INTO personal_messages VALUES ('h', 'user:ann', 'email', 'ann@example.org', 'question', 1)".to_owned(),
        "INSERT INTO seen_change VALUES ('h', 'user:ann', '1', 'b1', 'h1', 1, NULL, NULL, NULL)".to_owned(),
        "INSERT INTO sponsor VALUES ('h', 'demo', 'acme', '{}')".to_owned(),
        format!("INSERT INTO memory_given VALUES ('{id}', 1, 'm', 'demo')"),
    ] {
        b.damage(&sql).await;
    }
    for n in 1..=3 {
        b.sea.record(&entry("run.open", &format!("run:{n}"))).await.expect("an audit record");
    }
}

fn entry(action: &str, subject: &str) -> AuditEntry {
    AuditEntry {
        at: Timestamp(7),
        principal: Principal::from("local:ann"),
        via: "cli".to_owned(),
        action: action.to_owned(),
        subject: subject.to_owned(),
        detail: "it's \"quoted\"\n".to_owned(),
    }
}

async fn copy(b: &TestStore) -> (Vec<TablePart>, Vec<String>) {
    let (send, mut receive) = mpsc::channel(1_000);
    let source = b.sea.dump(send).await.expect("a copy");
    assert_eq!(source.database, if b.sqlite() { "sqlite" } else { "postgres" });
    let mut parts = Vec::new();
    while let Some(part) = receive.recv().await {
        parts.push(part);
    }
    (parts, source.schema)
}

/// Loads parts into the database at `url`.
async fn load(url: &str, parts: &[Vec<u8>], schema: &[String], subject: &str) -> PortResult<bool> {
    let Some(load) = Load::begin(url, schema, 1, subject).await? else { return Ok(false) };
    for part in parts {
        load.insert(part).await?;
    }
    load.finish(&entry(RESTORED, subject)).await?;
    Ok(true)
}

fn texts(parts: &[TablePart]) -> Vec<Vec<u8>> {
    parts.iter().map(|part| part.text.clone()).collect()
}

async fn every_table_is_copied_or_left_out_on_purpose(b: TestStore) {
    use sea_orm::sqlx::{Connection, PgConnection, Row, SqliteConnection, query};
    let names = if b.sqlite() {
        let mut connection = SqliteConnection::connect(&b.url).await.expect("a connection");
        let rows = query("SELECT name FROM sqlite_master WHERE type = 'table'").fetch_all(&mut connection).await;
        rows.expect("the tables").iter().map(|row| row.get::<String, _>(0)).collect::<BTreeSet<_>>()
    } else {
        let mut connection = PgConnection::connect(&b.url).await.expect("a connection");
        let sql = "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()";
        let rows = query(sql).fetch_all(&mut connection).await;
        rows.expect("the tables").iter().map(|row| row.get::<String, _>(0)).collect()
    };
    let known: BTreeSet<String> =
        TABLES.iter().map(|(table, _)| *table).chain(LEFT_OUT.iter().copied()).map(str::to_owned).collect();
    let unknown: Vec<_> = names.difference(&known).collect();
    assert!(unknown.is_empty(), "{unknown:?}: list them in the store's dump, as copied or as left out");
    assert!(TABLES.iter().all(|(table, _)| names.contains(*table)));
    fill(&b).await;
    let copied: BTreeSet<&str> = copy(&b).await.0.iter().map(|part| part.table).collect();
    assert_eq!(copied, TABLES.iter().map(|(table, _)| *table).collect(), "every table has a row in this test");
}

async fn a_copy_is_loaded_into_both_databases(b: TestStore) {
    fill(&b).await;
    let (parts, schema) = copy(&b).await;
    let folder = tempfile::tempdir().expect("a folder");
    let postgres = database().await;
    for url in [format!("sqlite://{}/skep.db", folder.path().display()), postgres.clone()] {
        assert!(load(&url, &texts(&parts), &schema, "backup:1").await.expect("it is loaded"));
        let sea = connect(&url).await.expect("the store");
        let other = TestStore { store: std::sync::Arc::new(sea.clone()), sea, url: url.clone() };
        let (again, _) = copy(&other).await;
        for (before, after) in parts.iter().zip(&again) {
            let text = |part: &TablePart| String::from_utf8(part.text.clone()).expect("text");
            assert_eq!(before.table, after.table);
            match before.table {
                // Leases are not restored, and the restore itself is recorded.
                "run" => assert_ne!(text(before), text(after)),
                "audit" => assert!(text(after).starts_with(&text(before)) && after.rows == before.rows + 1),
                _ => assert_eq!(text(before), text(after)),
            }
        }
        let id = serde_json::from_slice::<serde_json::Value>(
            parts.iter().find(|p| p.table == "run").expect("runs").text.split(|b| *b == b'\n').nth(1).expect("a row"),
        );
        let id = id.expect("JSON")[0].as_str().expect("an id").to_owned().try_into().expect("a run's id");
        let lease = other.take(id, "two").await;
        assert_eq!(lease.epoch, 3, "above that of the former owner, who acquired it once");
        let mut state = other.store.load(id).await.expect("readable").expect("there");
        other.commit(moving(&mut state, &lease, Phase::Working, 0)).await.expect("the run continues");
        let [artifact] = other.store.artifacts(id).await.expect("a list").try_into().expect("one artifact");
        let digest: Digest = artifact.digest;
        let (_, bytes) = other.store.artifact(id, &digest).await.expect("readable").expect("there");
        assert_eq!(bytes, ArtifactBytes::Stored(vec![0, 255, 10, 13]));
        // Counters continue after the restored rows.
        other.sea.record(&entry("run.open", "run:9")).await.expect("an audit record");
        let newest = other.sea.list(&AuditFilter { before: None, limit: 2 }).await.expect("a list");
        assert_eq!((newest[0].id, newest[0].entry.subject.as_str()), (5, "run:9"));
        assert_eq!((newest[1].entry.action.as_str(), newest[1].entry.subject.as_str()), (RESTORED, "backup:1"));
    }
    drop_database(&postgres).await;
}

async fn a_copy_of_an_older_schema_is_migrated(b: TestStore) {
    let schema = status(&b.url).await.expect("a status").applied;
    let folder = tempfile::tempdir().expect("a folder");
    let postgres = database().await;
    let url = if b.sqlite() { format!("sqlite://{}/skep.db", folder.path().display()) } else { postgres.clone() };
    let header = r#"{"table":"shared_raise","columns":[{"name":"id","type":"integer"},{"name":"share","type":"text"},{"name":"key","type":"text"},{"name":"tokens","type":"integer"},{"name":"cost_micros","type":"integer"},{"name":"given_by","type":"text"},{"name":"at","type":"integer"}]}"#;
    let part = format!("{header}\n[4,\"day\",\"1\",5,6,\"ann\",7]\n");
    assert!(load(&url, &[part.into_bytes()], &schema[..3], "backup:1").await.expect("it is loaded"));
    let sea = connect(&url).await.expect("the current schema");
    let other = TestStore { store: std::sync::Arc::new(sea.clone()), sea, url };
    let (parts, now) = copy(&other).await;
    assert_eq!(now, schema);
    let raises = parts.iter().find(|part| part.table == "budget_raise").expect("the table under its new name");
    assert!(String::from_utf8_lossy(&raises.text).contains("[4,\"day\",\"1\",5,6,\"ann\",7]"));
    drop(other);
    drop_database(&postgres).await;
}

async fn a_newer_or_foreign_copy_is_refused(b: TestStore) {
    let schema = status(&b.url).await.expect("a status").applied;
    let newer = [schema.clone(), vec!["m29990101_000001_beyond".to_owned()]].concat();
    let (what, fix) = permanent(Load::begin(&b.url, &newer, 1, "backup:1").await);
    assert!(what.contains("newer Skep") && fix.contains("version"), "{what}: {fix}");
    assert!(permanent(Load::begin(&b.url, &schema, 99, "backup:1").await).0.contains("newer Skep"));
    let (what, _) = permanent(Load::begin(&b.url, &schema[..2], 1, "backup:1").await);
    assert!(what.contains("another version"), "{what}");
}

async fn a_store_with_rows_is_refused_and_left_alone(b: TestStore) {
    fill(&b).await;
    let (before, schema) = copy(&b).await;
    let (what, fix) = permanent(load(&b.url, &texts(&before), &schema, "backup:1").await);
    assert!(what.contains("not empty") && fix.contains("store.url"), "{what}: {fix}");
    assert_eq!(texts(&copy(&b).await.0), texts(&before));
    // What was restored from this very backup need not be restored again.
    b.sea.record(&entry(RESTORED, "backup:1")).await.expect("an audit record");
    assert!(!load(&b.url, &texts(&before), &schema, "backup:1").await.expect("nothing to do"));
    assert!(permanent(load(&b.url, &texts(&before), &schema, "backup:2").await).0.contains("not empty"));
}

async fn a_load_that_fails_leaves_nothing(b: TestStore) {
    let schema = status(&b.url).await.expect("a status").applied;
    let good = r#"{"table":"project","columns":[{"name":"name","type":"text"},{"name":"body","type":"text"},{"name":"created_at","type":"integer"},{"name":"updated_at","type":"integer"}]}
["a","{}",1,2]
"#;
    let bad = [
        "",
        "not JSON\n",
        "{\"table\":\"seaql_migrations\",\"columns\":[{\"name\":\"version\",\"type\":\"text\"}]}\n[\"x\"]\n",
        "{\"table\":\"run; DROP TABLE run\",\"columns\":[{\"name\":\"id\",\"type\":\"text\"}]}\n[\"x\"]\n",
        "{\"table\":\"project\",\"columns\":[{\"name\":\"name\\\") --\",\"type\":\"text\"}]}\n[\"x\"]\n",
        "{\"table\":\"project\",\"columns\":[{\"name\":\"name\",\"type\":\"text\"}]}\n[\"x\",\"y\"]\n",
        "{\"table\":\"project\",\"columns\":[{\"name\":\"name\",\"type\":\"text\"}]}\n[1]\n",
        "{\"table\":\"project\",\"columns\":[{\"name\":\"name\",\"type\":\"text\"}]}\n[\"x\"]\n",
        "{\"table\":\"nothing\",\"columns\":[{\"name\":\"name\",\"type\":\"text\"}]}\n[\"x\"]\n",
    ];
    for bad in bad {
        let parts = [good.as_bytes().to_vec(), bad.as_bytes().to_vec()];
        permanent(load(&b.url, &parts, &schema, "backup:1").await);
        assert!(copy(&b).await.0.is_empty(), "{bad}");
    }
    assert!(load(&b.url, &[good.as_bytes().to_vec()], &schema, "backup:1").await.expect("the good part alone"));
}
