//! Gives project rows the version of their form, and readiness a row to write.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::ConnectionTrait;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// `write_probe` has one row, which is rewritten to find out whether the store can be written.
const SCHEMA: &str = r#"
ALTER TABLE project ADD COLUMN version bigint NOT NULL DEFAULT 1;
CREATE TABLE write_probe (
    id       bigint NOT NULL PRIMARY KEY,
    at       bigint NOT NULL,
    padding  text   NOT NULL
);
"#;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(SCHEMA).await.map(drop)
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
