//! Watches over base branches after runs have landed there.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// `home` is the data directory whose service watches. Bodies are JSON.
const TABLES: &str = r#"
CREATE TABLE landing_watch (
    home     {id}   NOT NULL,
    run      {id}   NOT NULL,
    state    text   NOT NULL,
    body     text   NOT NULL,
    since    bigint NOT NULL,
    ended_at bigint,
    PRIMARY KEY (home, run)
);
CREATE INDEX landing_watch_open ON landing_watch (home) WHERE ended_at IS NULL;
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
