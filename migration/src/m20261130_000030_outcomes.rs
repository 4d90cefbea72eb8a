//! Verified outcomes of attempts and runs.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// Rows are written with the last event of their run and never changed; they can be derived again from its journal.
///
/// `attempt` is 0 for the run as a whole, whose `step` and `engine` are empty. Times are in Unix milliseconds.
const TABLE: &str = r#"
CREATE TABLE outcome (
    run           {id}   NOT NULL,
    attempt       bigint NOT NULL,
    word          {id}   NOT NULL,
    project       {id}   NOT NULL,
    step          text   NOT NULL,
    engine        text   NOT NULL,
    prompt_digest text,
    round         bigint NOT NULL,
    tokens        bigint NOT NULL,
    cost_micros   bigint NOT NULL,
    turns         bigint NOT NULL,
    wall_ms       bigint NOT NULL,
    evidence      text   NOT NULL,
    at            bigint NOT NULL,
    PRIMARY KEY (run, attempt, word)
);
CREATE INDEX outcome_project ON outcome (project, run);
"#;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let postgres = manager.get_database_backend() == DbBackend::Postgres;
        let table = TABLE.replace("{id}", if postgres { r#"text COLLATE "C""# } else { "text" });
        manager.get_connection().execute_unprepared(&table).await.map(drop)
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
