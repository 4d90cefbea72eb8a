//! The first schema: projects, runs with their journal and outbox, artifacts.
//!
//! Plain SQL rather than a query builder, so that the statements of both databases can be read here. They differ in
//! three words only.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// Times are Unix milliseconds. Payloads are text, not jsonb, because SQL never reads inside them.
///
/// `run`: the lease is in the run's own row, so that the fence and the write are one row lock; with a separate table,
/// another owner could acquire the run between the check and the write. `tail` is the reversed id: an index to find a
/// run by the end of its id. The snapshot is the last column, so that SQLite reads a list without reading the
/// snapshots.
///
/// `event` and `outbox` have no foreign key to `run`: their rows are only written by the statement that has just
/// written the run's row, and a foreign key would check that row again for each of them.
const TABLES: &str = r#"
CREATE TABLE project (
    name        {id}   NOT NULL PRIMARY KEY,
    body        text   NOT NULL,
    created_at  bigint NOT NULL,
    updated_at  bigint NOT NULL
);
CREATE TABLE run (
    id             {id}    NOT NULL PRIMARY KEY,
    tail           {id}    NOT NULL,
    project        {id}    NOT NULL,
    seq            bigint  NOT NULL,
    phase          text    NOT NULL,
    status         text    NOT NULL,
    ended          boolean NOT NULL,
    change_number  bigint,
    title          text    NOT NULL,
    blocks         text    NOT NULL,
    opened_at      bigint  NOT NULL,
    updated_at     bigint  NOT NULL,
    quarantined    text,
    owner          text,
    epoch          bigint  NOT NULL,
    lease_until    bigint  NOT NULL,
    version        bigint  NOT NULL,
    snapshot       text    NOT NULL
);
CREATE INDEX run_tail ON run (tail);
CREATE INDEX run_project ON run (project, id);
CREATE INDEX run_live ON run (id) WHERE NOT ended;
CREATE TABLE event (
    run    {id}   NOT NULL,
    seq    bigint NOT NULL,
    epoch  bigint NOT NULL,
    at     bigint NOT NULL,
    name   text   NOT NULL,
    body   text   NOT NULL,
    PRIMARY KEY (run, seq)
);
CREATE TABLE outbox (
    run    {id}   NOT NULL,
    key    {id}   NOT NULL,
    ord    bigint NOT NULL,
    begun  bigint NOT NULL DEFAULT 0,
    body   text   NOT NULL,
    PRIMARY KEY (run, key)
);
CREATE TABLE artifact (
    digest  {id}   NOT NULL PRIMARY KEY,
    size    bigint NOT NULL,
    bytes   {blob} NOT NULL
);
CREATE TABLE run_artifact (
    id        {counter},
    run       {id}   NOT NULL REFERENCES run (id),
    digest    {id}   NOT NULL REFERENCES artifact (digest),
    kind      text   NOT NULL,
    name      text   NOT NULL,
    added_at  bigint NOT NULL,
    UNIQUE (run, digest, kind, name)
);
"#;

/// The journal is append-only. To change it, a person must drop the trigger first, which is a deliberate act.
const SQLITE_APPEND_ONLY: &str = r#"
CREATE TRIGGER event_no_update BEFORE UPDATE ON event BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER event_no_delete BEFORE DELETE ON event BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
"#;

/// Leaves space in the pages for the update of each transition (a heap-only update touches no index), and vacuums the
/// outbox early, because its rows are short-lived.
const POSTGRES_EXTRAS: &str = r#"
CREATE FUNCTION event_append_only() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the journal is append-only'; END $$;
CREATE TRIGGER event_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON event
    FOR EACH STATEMENT EXECUTE FUNCTION event_append_only();
ALTER TABLE run SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE outbox SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
"#;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        let postgres = manager.get_database_backend() == DbBackend::Postgres;
        // Keys are compared by their bytes on both databases, independent of the server's locale.
        let (id, blob, counter) = if postgres {
            (r#"text COLLATE "C""#, "bytea", "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY")
        } else {
            ("text", "blob", "integer PRIMARY KEY AUTOINCREMENT")
        };
        let tables = TABLES.replace("{id}", id).replace("{blob}", blob).replace("{counter}", counter);
        db.execute_unprepared(&tables).await?;
        db.execute_unprepared(if postgres { POSTGRES_EXTRAS } else { SQLITE_APPEND_ONLY }).await?;
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
