//! Proposals to improve what makes runs fail.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// `id` is a digest of the project and the failure signature, so a failure has one row in its project. `body` is JSON.
/// `revision` counts the writes of a row: a writer changes only the revision it has read.
const TABLE: &str = r#"
CREATE TABLE proposal (
    id         {id}   NOT NULL PRIMARY KEY,
    project    {id}   NOT NULL,
    state      {id}   NOT NULL,
    revision   bigint NOT NULL,
    created_at bigint NOT NULL,
    body       text   NOT NULL
);
CREATE INDEX proposal_created ON proposal (created_at);
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
