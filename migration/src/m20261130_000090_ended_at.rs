//! When runs ended, in a column of its own.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::ConnectionTrait;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// `updated_at` changes with every transition. In an index it keeps Postgres from updating the row in place
/// (heap-only tuples), so that each transition would write to every index of the table.
///
/// People see the last eight digits of an id, and find a run by the beginning of those.
const CHANGES: &str = r"
ALTER TABLE run ADD COLUMN ended_at bigint;
UPDATE run SET ended_at = updated_at WHERE ended;
DROP INDEX run_ended;
CREATE INDEX run_ended ON run (home, ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX run_shown_id ON run (substr(id, 25));
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
