//! Chains the audit log: each record carries a digest of itself and of the record before it.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::ConnectionTrait;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// `hash` is the SHA-256 of the previous record's hash and this record, in hex. Records from before this migration have
/// an empty one: the chain begins after them. With a constant default, neither database rewrites the table.
const COLUMN: &str = "ALTER TABLE audit ADD COLUMN hash text NOT NULL DEFAULT ''";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(COLUMN).await.map(drop)
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
