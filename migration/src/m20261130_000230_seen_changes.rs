//! Which changes of a run a person saw.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// `head` on `base` is what the person saw last, first at `at`; the columns `before_` have what they saw before that.
const TABLE: &str = r#"
CREATE TABLE seen_change (
    home        {id}   NOT NULL,
    principal   {id}   NOT NULL,
    run         {id}   NOT NULL,
    base        text   NOT NULL,
    head        text   NOT NULL,
    at          bigint NOT NULL,
    before_base text,
    before_head text,
    before_at   bigint,
    PRIMARY KEY (home, principal, run)
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
