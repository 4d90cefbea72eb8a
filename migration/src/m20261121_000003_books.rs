//! Adds the ledger, raises of shared budgets, and the time at which a run is due.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// `charge`: the reservation or the usage of each attempt. A row is written with the event that changes it; only an
/// attempt of a run with shared limits gets its row when the shared budgets reserve for it. `models` is JSON: the usage
/// by model.
///
/// The indexes hold the amounts, so that a budget is summed up from the index alone.
const TABLES: &str = r#"
ALTER TABLE run ADD COLUMN wake_at bigint;
ALTER TABLE run ADD COLUMN waits text;
CREATE INDEX run_wake ON run (wake_at) WHERE wake_at IS NOT NULL;
CREATE TABLE charge (
    run          {id}    NOT NULL,
    attempt      bigint  NOT NULL,
    project      {id}    NOT NULL,
    role         text    NOT NULL,
    engine       text    NOT NULL,
    tokens       bigint  NOT NULL,
    cost_micros  bigint  NOT NULL,
    turns        bigint  NOT NULL,
    wall_ms      bigint  NOT NULL,
    settled      boolean NOT NULL,
    day          bigint  NOT NULL,
    at           bigint  NOT NULL,
    models       text    NOT NULL,
    PRIMARY KEY (run, attempt)
);
CREATE INDEX charge_project ON charge (project, settled, tokens, cost_micros);
CREATE INDEX charge_day ON charge (day, settled, tokens, cost_micros);
CREATE TABLE shared_raise (
    id           {counter},
    share        text   NOT NULL,
    key          {id}   NOT NULL,
    tokens       bigint NOT NULL,
    cost_micros  bigint NOT NULL,
    given_by     text   NOT NULL,
    at           bigint NOT NULL
);
CREATE INDEX shared_raise_key ON shared_raise (share, key);
"#;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let postgres = manager.get_database_backend() == DbBackend::Postgres;
        let (id, counter) = if postgres {
            (r#"text COLLATE "C""#, "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY")
        } else {
            ("text", "integer PRIMARY KEY AUTOINCREMENT")
        };
        let tables = TABLES.replace("{id}", id).replace("{counter}", counter);
        manager.get_connection().execute_unprepared(&tables).await.map(drop)
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
