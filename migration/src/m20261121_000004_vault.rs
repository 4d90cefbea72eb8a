//! The vault: secrets, encrypted under a key that is not in the store.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// `scope` is a project's name, or empty for all projects. `version` grows with each value. The ciphertext is bound to
/// name, scope and version, so that no row can replace another one.
const TABLE: &str = r#"
CREATE TABLE secret (
    scope         {id}   NOT NULL,
    name          {id}   NOT NULL,
    version       bigint NOT NULL,
    key_id        text   NOT NULL,
    nonce         {blob} NOT NULL,
    ciphertext    {blob} NOT NULL,
    created_at    bigint NOT NULL,
    updated_at    bigint NOT NULL,
    last_used_at  bigint,
    PRIMARY KEY (scope, name)
);
"#;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let postgres = manager.get_database_backend() == DbBackend::Postgres;
        let (id, blob) = if postgres { (r#"text COLLATE "C""#, "bytea") } else { ("text", "blob") };
        let table = TABLE.replace("{id}", id).replace("{blob}", blob);
        manager.get_connection().execute_unprepared(&table).await.map(drop)
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
