//! Login links and sessions of people.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// `digest` is the SHA-256 of the secret in the link or the cookie, in hex: the secret itself is stored nowhere. `home`
/// is the data directory whose service issued it. A used login link is deleted.
const TABLES: &str = r#"
CREATE TABLE login_link (
    digest     {id}   PRIMARY KEY,
    home       {id}   NOT NULL,
    principal  text   NOT NULL,
    ends_at    bigint NOT NULL
);
CREATE TABLE session (
    digest     {id}   PRIMARY KEY,
    home       {id}   NOT NULL,
    principal  text   NOT NULL,
    created_at bigint NOT NULL,
    seen_at    bigint NOT NULL,
    ends_at    bigint NOT NULL
);
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
