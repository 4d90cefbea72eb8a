//! Idempotency keys of requests that open runs.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// `run` is the run of the first request with the key, or the id that it will have: the key is claimed before the run
/// is opened. `reused` is set if the request reused an open run. Rows are deleted a day after `at`.
const TABLE: &str = r#"
CREATE TABLE idempotency_key (
    principal    {id}    NOT NULL,
    key          {id}    NOT NULL,
    fingerprint  text    NOT NULL,
    run          {id}    NOT NULL,
    reused       boolean NOT NULL,
    at           bigint  NOT NULL,
    PRIMARY KEY (principal, key)
);
CREATE INDEX idempotency_key_at ON idempotency_key (at);
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
