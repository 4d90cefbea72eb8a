//! Artifacts whose bytes were removed.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::ConnectionTrait;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// The row of a removed artifact stays without its bytes, so that its links and the journals that name it stay whole.
/// `removed_at` is in Unix milliseconds.
const CHANGES: &str = r"
ALTER TABLE artifact ADD COLUMN removed_at bigint;
CREATE INDEX run_artifact_digest ON run_artifact (digest);
";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(CHANGES).await.map(drop)
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
