//! Adds the alerts of shared budgets that were sent to people, and the round of each attempt.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// `shared_alert`: the threshold of a budget that was reached, with the limit at that time and the attempt whose
/// reservation reached it. Written with that reservation, so that each alert is sent once, across runs and processes.
const TABLES: &str = r#"
ALTER TABLE charge ADD COLUMN round bigint NOT NULL DEFAULT 0;
CREATE TABLE shared_alert (
    share        text    NOT NULL,
    key          {id}    NOT NULL,
    money        boolean NOT NULL,
    percent      bigint  NOT NULL,
    of_limit     bigint  NOT NULL,
    run          {id}    NOT NULL,
    attempt      bigint  NOT NULL,
    at           bigint  NOT NULL,
    PRIMARY KEY (share, key, money, percent)
);
CREATE INDEX shared_alert_attempt ON shared_alert (run, attempt);
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
