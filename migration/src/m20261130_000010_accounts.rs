//! People and access tokens.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// `home` is the data directory whose service they belong to. `digest` is the SHA-256 of a token's secret part, in hex:
/// the secret itself is stored nowhere. `rights` are the names of rights, separated by blanks. Rows are never deleted, so
/// that the audit log stays readable.
const TABLES: &str = r#"
CREATE TABLE person (
    home        {id}   NOT NULL,
    name        {id}   NOT NULL,
    role        text   NOT NULL,
    created_at  bigint NOT NULL,
    disabled_at bigint,
    PRIMARY KEY (home, name)
);
CREATE TABLE access_token (
    id           {id}   NOT NULL,
    home         {id}   NOT NULL,
    digest       text   NOT NULL,
    principal    text   NOT NULL,
    name         text   NOT NULL,
    rights       text   NOT NULL,
    created_by   text   NOT NULL,
    created_at   bigint NOT NULL,
    expires_at   bigint,
    last_used_at bigint,
    revoked_at   bigint,
    PRIMARY KEY (home, id)
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
