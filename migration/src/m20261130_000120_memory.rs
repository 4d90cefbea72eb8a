//! Memory: what ended runs have shown, and which attempts were given it.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// `id` is a digest of the project, the kind and what the row is about, so an observation has one row however often it is
/// made. `cites` is JSON. Times are Unix milliseconds. A forgotten row keeps its id without its text, so that it is not
/// made again.
const TABLES: &str = r#"
CREATE TABLE memory (
    id         {id}   NOT NULL PRIMARY KEY,
    project    {id}   NOT NULL,
    kind       {id}   NOT NULL,
    state      {id}   NOT NULL,
    author     {id}   NOT NULL,
    step       {id}   NOT NULL,
    title      text   NOT NULL,
    body       text   NOT NULL,
    cites      text   NOT NULL,
    run        {id}   NOT NULL,
    seq        bigint NOT NULL,
    created_at bigint NOT NULL,
    seen_at    bigint NOT NULL,
    ends_at    bigint NOT NULL
);
CREATE INDEX memory_project ON memory (project, state);
CREATE INDEX memory_run ON memory (run);
CREATE TABLE memory_given (
    run     {id}   NOT NULL,
    attempt bigint NOT NULL,
    memory  {id}   NOT NULL,
    project {id}   NOT NULL,
    PRIMARY KEY (run, attempt, memory)
);
CREATE INDEX memory_given_project ON memory_given (project, memory);
"#;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let postgres = manager.get_database_backend() == DbBackend::Postgres;
        let tables = TABLES.replace("{id}", if postgres { r#"text COLLATE "C""# } else { "text" });
        manager.get_connection().execute_unprepared(&tables).await.map(drop)
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
