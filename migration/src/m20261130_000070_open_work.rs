//! Open work: outside agents, offers and calls.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// Times are in Unix milliseconds. `home` is the data directory. `order_body` and `submission` are JSON; `turned` holds
/// names of agents separated by spaces. `agent_call` counts calls per hour, so that limits survive a restart.
const TABLES: &str = r#"
CREATE TABLE agent (
    home           {id}   NOT NULL,
    name           {id}   NOT NULL,
    owner          {id}   NOT NULL,
    about          text   NOT NULL,
    invite_digest  {id}   NOT NULL,
    invite_ends_at bigint NOT NULL,
    invited_by     text   NOT NULL,
    created_at     bigint NOT NULL,
    registered_at  bigint,
    seen_at        bigint,
    revoked_at     bigint,
    lapses         bigint NOT NULL,
    PRIMARY KEY (home, name)
);
CREATE TABLE offer (
    home       {id}   NOT NULL,
    id         {id}   NOT NULL,
    run        {id}   NOT NULL,
    attempt    bigint NOT NULL,
    project    {id}   NOT NULL,
    step       {id}   NOT NULL,
    task       bigint NOT NULL,
    order_body text   NOT NULL,
    patch      text   NOT NULL,
    state      {id}   NOT NULL,
    agent      {id},
    owner      {id},
    claimed_at bigint,
    lease_ends bigint,
    turned     text   NOT NULL,
    submission text,
    problem    text   NOT NULL,
    opened_at  bigint NOT NULL,
    PRIMARY KEY (home, id)
);
CREATE UNIQUE INDEX offer_attempt ON offer (home, run, attempt);
CREATE INDEX offer_state ON offer (home, state, opened_at);
CREATE INDEX offer_agent ON offer (home, agent, claimed_at);
CREATE INDEX offer_owner ON offer (home, owner, state);
CREATE TABLE agent_call (
    home {id}   NOT NULL,
    who  {id}   NOT NULL,
    what {id}   NOT NULL,
    hour bigint NOT NULL,
    n    bigint NOT NULL,
    PRIMARY KEY (home, who, what, hour)
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
