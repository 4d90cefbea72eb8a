//! States of schedules.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// `home` is the data directory whose service has the schedule. `starting` is the run that is being opened for
/// `next_at`: it is stored first, so that a process that is killed in between opens the same run.
const TABLE: &str = r#"
CREATE TABLE schedule (
    home       {id}   NOT NULL,
    name       {id}   NOT NULL,
    timing     text   NOT NULL,
    next_at    bigint NOT NULL,
    starting   text,
    last_at    bigint,
    last_run   text,
    last_error text,
    PRIMARY KEY (home, name)
);
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
