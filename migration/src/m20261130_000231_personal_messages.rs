//! How each person wants to get messages.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// `target` is an address of e-mail, or the form of a webhook, whose address is in the vault. `events` has names with
/// spaces between them.
const TABLE: &str = r#"
CREATE TABLE personal_messages (
    home      {id}   NOT NULL,
    principal {id}   NOT NULL,
    way       text   NOT NULL,
    target    text   NOT NULL,
    events    text   NOT NULL,
    chosen_at bigint NOT NULL,
    PRIMARY KEY (home, principal)
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
