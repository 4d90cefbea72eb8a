//! The outbox of messages to people.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// Times are in Unix milliseconds. `home` is the data directory. `body` is the message as JSON. A message is pending
/// until it is settled; its row stays for a while, so that the same key is never sent as another message.
const TABLES: &str = r#"
CREATE TABLE message_channel (
    home        {id}   NOT NULL,
    name        {id}   NOT NULL,
    known_since bigint NOT NULL,
    PRIMARY KEY (home, name)
);
CREATE TABLE message (
    home        {id}   NOT NULL,
    channel     {id}   NOT NULL,
    key         {id}   NOT NULL,
    body        text   NOT NULL,
    state       {id}   NOT NULL,
    reason      text   NOT NULL,
    tries       bigint NOT NULL,
    created_at  bigint NOT NULL,
    due_at      bigint NOT NULL,
    settled_at  bigint,
    PRIMARY KEY (home, channel, key)
);
CREATE INDEX message_due ON message (home, due_at) WHERE settled_at IS NULL;
CREATE INDEX message_settled ON message (home, channel, settled_at);
CREATE INDEX run_ended ON run (home, updated_at) WHERE ended;
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
