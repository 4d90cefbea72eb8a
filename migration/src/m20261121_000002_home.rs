//! Records the data directory of each run: only a process with that directory may drive the run.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::ConnectionTrait;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// The id in the data directory's file `home`. With a constant default, neither database rewrites the table.
const COLUMN: &str = "ALTER TABLE run ADD COLUMN home text NOT NULL DEFAULT ''";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(COLUMN).await.map(drop)
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
