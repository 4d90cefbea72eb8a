//! Indexes for lists of runs by status, which among many runs otherwise read them all.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::ConnectionTrait;

#[derive(DeriveMigrationName)]
pub struct Migration;

const INDEXES: &str = r#"
CREATE INDEX run_status ON run (status, id);
CREATE INDEX run_quarantined ON run (id) WHERE quarantined IS NOT NULL;
CREATE INDEX run_version ON run (version, id);
"#;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(INDEXES).await.map(drop)
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
