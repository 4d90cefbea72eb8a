//! Deployments: what was observed of each target, its rollouts, and sponsors.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// `home` is the data directory whose service has the target. `key` is what a rollout follows from: there is one rollout
/// for each. Bodies are JSON.
const TABLES: &str = r#"
CREATE TABLE deployment (
    home       {id}   NOT NULL,
    target     {id}   NOT NULL,
    body       text   NOT NULL,
    changed_at bigint NOT NULL,
    PRIMARY KEY (home, target)
);
CREATE TABLE rollout (
    home       {id}   NOT NULL,
    target     {id}   NOT NULL,
    number     bigint NOT NULL,
    key        {id}   NOT NULL,
    state      text   NOT NULL,
    body       text   NOT NULL,
    created_at bigint NOT NULL,
    ended_at   bigint,
    PRIMARY KEY (home, target, number)
);
CREATE UNIQUE INDEX rollout_key ON rollout (home, target, key);
CREATE INDEX rollout_open ON rollout (home, target) WHERE ended_at IS NULL;
CREATE TABLE sponsor (
    home    {id} NOT NULL,
    project {id} NOT NULL,
    name    {id} NOT NULL,
    body    text NOT NULL,
    PRIMARY KEY (home, project, name)
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
