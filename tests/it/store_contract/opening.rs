//! Opening a store: its schema, its permissions, its URL.

use crate::support::runs::{no_lease, opening, owner, run};
use crate::support::stores::{TestStore, permanent, transient};
use skep::adapters::store::{connect, migrate, status};
use skep::ports::PortError;

super::on_both!(
    a_newer_schema_is_refused,
    an_older_schema_is_refused_and_migrated,
    two_processes_migrate_once,
    a_read_only_store_is_waited_for
);

async fn a_newer_schema_is_refused(b: TestStore) {
    b.damage("INSERT INTO seaql_migrations (version, applied_at) VALUES ('m29990101_000001_beyond', 0)").await;
    for answer in [connect(&b.url).await.map(|_| ()), migrate(&b.url).await.map(|_| ())] {
        let (what, fix) = permanent(answer);
        assert!(what.contains("m29990101_000001_beyond") && fix.contains("newer Skep"), "{what}: {fix}");
    }
    assert_eq!(status(&b.url).await.expect("a status").unknown, ["m29990101_000001_beyond"]);
}

async fn an_older_schema_is_refused_and_migrated(b: TestStore) {
    let migrations = status(&b.url).await.expect("a status");
    assert!(migrations.pending.is_empty() && migrations.unknown.is_empty() && !migrations.applied.is_empty());
    assert!(migrate(&b.url).await.expect("nothing to do").is_empty());
    for table in [
        "landing_watch",
        "sponsor",
        "personal_messages",
        "seen_change",
        "rollout",
        "deployment",
        "schedule",
        "agent_call",
        "offer",
        "agent",
        "message",
        "message_channel",
        "person",
        "person_identity",
        "project_role",
        "access_token",
        "delivery",
        "issue_run",
        "intake_cursor",
        "login_link",
        "session",
        "audit",
        "write_probe",
        "idempotency_key",
        "secret",
        "ledger_row",
        "budget_raise",
        "budget_alert",
        "run_artifact",
        "artifact",
        "project",
        "run",
        "event",
        "outbox",
        "outcome",
        "proposal",
        "memory",
        "memory_given",
        "seaql_migrations",
    ] {
        b.damage(&format!("DROP TABLE {table}")).await;
    }
    if !b.sqlite() {
        b.damage("DROP FUNCTION event_append_only").await;
        b.damage("DROP FUNCTION audit_append_only").await;
    }
    let (what, fix) = permanent(connect(&b.url).await);
    assert!(what.contains(&migrations.applied[0]) && fix.contains("migrate"), "{what}: {fix}");
    // An open store whose tables are gone, as during a restore, is waited for.
    assert!(transient(b.store.counts().await).contains("migrate"));
    assert_eq!(migrate(&b.url).await.expect("the schema"), migrations.applied);
    connect(&b.url).await.expect("the store");
}

async fn two_processes_migrate_once(b: TestStore) {
    let url = if b.sqlite() { format!("{}2", b.url) } else { crate::support::postgres::database().await };
    let answers = futures::future::join_all((0..4).map(|_| migrate(&url))).await;
    let applied: Vec<usize> = answers.into_iter().map(|a| a.expect("the schema").len()).collect();
    assert_eq!(applied.iter().filter(|n| **n > 0).count(), 1, "{applied:?}");
    if !b.sqlite() {
        crate::support::postgres::drop_database(&url).await;
    }
}

async fn a_read_only_store_is_waited_for(b: TestStore) {
    b.open(&run()).await;
    let url = if b.sqlite() {
        format!("{}?mode=ro", b.url)
    } else {
        let name = b.url.split('?').next().and_then(|u| u.rsplit('/').next()).expect("a name").to_owned();
        b.damage(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on")).await;
        b.url.clone()
    };
    let read_only = connect(&url).await.expect("reading is possible");
    let store: &dyn skep::ports::Store = &read_only;
    assert_eq!(store.queued(10).await.expect("a list").len(), 1);
    let r = run();
    let what = transient(store.commit(vec![opening(&r, no_lease(r.id)).into()]).await.remove(0));
    assert!(what.contains("cannot be written"), "{what}");
    transient(store.acquire(r.id, &owner("one"), 60).await);
    assert!(transient(store.ping().await).contains("cannot be written"), "it is not ready");
    b.store.ping().await.expect("the other connections can write");
}

/// The server refuses connections to the database, and ends those that there are: an upgrade, or a rename.
#[tokio::test]
async fn a_closed_database_is_waited_for() {
    crate::support::stores::on_postgres(async |b| {
        let name = b.url.split('?').next().and_then(|u| u.rsplit('/').next()).expect("a name").to_owned();
        let elsewhere = b.url.replacen(&format!("/{name}"), "/postgres", 1);
        let admin = async |sql: &str| crate::support::postgres::execute(&elsewhere, sql).await;
        let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        for (close, open) in [
            (
                format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"),
                format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true"),
            ),
            (
                format!("ALTER DATABASE {name} RENAME TO {name}_away"),
                format!("ALTER DATABASE {name}_away RENAME TO {name}"),
            ),
        ] {
            admin(&end).await;
            admin(&close).await;
            admin(&end).await;
            for _ in 0..3 {
                let r = run();
                match b.commit_batch(vec![opening(&r, no_lease(r.id))]).await.remove(0) {
                    Err(PortError::Transient { .. } | PortError::Unknown { .. }) => {}
                    other => panic!("{close}: {other:?}"),
                }
                transient(b.store.queued(10).await);
            }
            admin(&open).await;
            b.open(&run()).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_file_that_was_removed_or_replaced_acknowledges_nothing() {
    crate::support::stores::on_sqlite(async |b| {
        b.open(&run()).await;
        let path = b.url.trim_start_matches("sqlite://");
        let aside = format!("{path}.aside");
        std::fs::rename(path, &aside).expect("moving the file");
        for replaced in [false, true] {
            if replaced {
                std::fs::write(path, "").expect("another file");
            }
            let r = run();
            let what = transient(b.commit_batch(vec![opening(&r, no_lease(r.id))]).await.remove(0));
            assert!(what.contains("removed or replaced"), "{what}");
            tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
            assert!(transient(b.store.ping().await).contains("removed or replaced"));
        }
    })
    .await;
}

#[tokio::test]
async fn a_bad_url_is_refused_with_an_example() {
    let urls =
        ["", "skep.db", "mysql://localhost/skep", "sqlite:skep.db", "sqlite://", "sqlite:///x/", "sqlite::memory:"];
    for url in urls.into_iter().chain([
        "sqlite:///tmp/skep.db?cache=shared",
        "postgres://[::1/skep",
        "sqlite:///no/such/folder/skep.db",
    ]) {
        let (what, fix) = permanent(connect(url).await);
        assert!(!what.is_empty() && !fix.is_empty(), "{url:?}: {what}: {fix}");
    }
    assert!(permanent(connect("mysql://localhost/skep").await).0.contains("mysql"));
}

#[tokio::test]
async fn a_sqlite_file_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    crate::support::stores::on_sqlite(async |b| {
        b.open(&run()).await;
        let path = b.url.trim_start_matches("sqlite://");
        for name in [path.to_owned(), format!("{path}-wal"), format!("{path}-shm")] {
            let mode = std::fs::metadata(&name).expect(&name).permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_file_that_is_not_a_database_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("skep.db");
    std::fs::write(&path, "not a database at all, but a text that is long enough to be checked".repeat(100))
        .expect("a file");
    let (what, _) = permanent(connect(&format!("sqlite://{}", path.display())).await);
    assert!(what.contains("not a Skep store"), "{what}");
}

#[tokio::test]
async fn a_postgres_without_durable_commits_is_refused() {
    crate::support::stores::on_postgres(async |b| {
        let name = b.url.split('?').next().and_then(|u| u.rsplit('/').next()).expect("a name").to_owned();
        b.damage(&format!("ALTER DATABASE {name} SET synchronous_commit = off")).await;
        let (what, fix) = permanent(connect(&b.url).await);
        assert!(what.contains("synchronous_commit=off") && fix.contains("synchronous_commit=on"), "{what}: {fix}");
    })
    .await;
}
