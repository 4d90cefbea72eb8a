//! Intake from forges: deliveries, the runs of issues, and how far sweeps have read.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// Times are in Unix milliseconds. `home` is the data directory.
///
/// `delivery.fact` and `delivery.target` are JSON; a delivery without a fact is ignored. Of several deliveries with the
/// same `key`, one takes effect. An issue has one run at most, whichever data directory it lives in.
const TABLES: &str = r#"
CREATE TABLE delivery (
    seq         {counter},
    home        {id}    NOT NULL,
    forge       {id}    NOT NULL,
    id          {id}    NOT NULL,
    event       text    NOT NULL,
    repository  text    NOT NULL,
    fact        text,
    key         {id},
    state       {id}    NOT NULL,
    reason      text    NOT NULL,
    tries       bigint  NOT NULL,
    target      text,
    received_at bigint  NOT NULL,
    due_at      bigint  NOT NULL,
    settled_at  bigint
);
CREATE UNIQUE INDEX delivery_id ON delivery (home, forge, id);
CREATE INDEX delivery_key ON delivery (home, forge, key) WHERE key IS NOT NULL;
CREATE INDEX delivery_due ON delivery (home, due_at) WHERE settled_at IS NULL;
CREATE INDEX delivery_settled ON delivery (home, forge, seq);
CREATE TABLE issue_run (
    forge       {id}    NOT NULL,
    repository  {id}    NOT NULL,
    number      bigint  NOT NULL,
    home        {id}    NOT NULL,
    run         {id}    NOT NULL,
    asked_at    bigint  NOT NULL,
    progress    text    NOT NULL,
    finished    boolean NOT NULL,
    PRIMARY KEY (forge, repository, number)
);
CREATE INDEX issue_run_open ON issue_run (home) WHERE NOT finished;
CREATE TABLE intake_cursor (
    home        {id}    NOT NULL,
    forge       {id}    NOT NULL,
    repository  {id}    NOT NULL,
    at          bigint  NOT NULL,
    PRIMARY KEY (home, forge, repository)
);
"#;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let (id, counter) = match manager.get_database_backend() {
            DbBackend::Postgres => (r#"text COLLATE "C""#, "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"),
            _ => ("text", "integer PRIMARY KEY AUTOINCREMENT"),
        };
        let tables = TABLES.replace("{id}", id).replace("{counter}", counter);
        manager.get_connection().execute_unprepared(&tables).await.map(drop)
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
