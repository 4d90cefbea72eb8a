//! Accounts of people at identity providers, and what is known about sessions.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// `issuer` and `subject` are those of the ID tokens: together they name an account for ever. `login` is how a person
/// logged in, `agent` what the browser said about itself. Earlier sessions all came from links.
const TABLES: &str = r#"
CREATE TABLE person_identity (
    home       {id}   NOT NULL,
    issuer     {id}   NOT NULL,
    subject    {id}   NOT NULL,
    person     {id}   NOT NULL,
    created_at bigint NOT NULL,
    PRIMARY KEY (home, issuer, subject)
);
ALTER TABLE session ADD COLUMN login text NOT NULL DEFAULT 'link';
ALTER TABLE session ADD COLUMN agent text NOT NULL DEFAULT '';
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
