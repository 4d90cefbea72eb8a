//! Renames tables and columns to the names in the code, and gives journal and outbox rows the version of their form.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// Indexes are recreated, because SQLite cannot rename them. `budget_alert` is copied, because its key changes: a
/// boolean becomes the unit of the limit. Constant defaults: neither database rewrites a table for a new column.
const SCHEMA: &str = r#"
DROP INDEX run_tail;
ALTER TABLE run RENAME COLUMN tail TO reversed_id;
ALTER TABLE run RENAME COLUMN waits TO wait_reason;
CREATE INDEX run_reversed_id ON run (reversed_id);
ALTER TABLE event ADD COLUMN version bigint NOT NULL DEFAULT 1;
ALTER TABLE outbox ADD COLUMN version bigint NOT NULL DEFAULT 1;

DROP INDEX charge_project;
DROP INDEX charge_day;
ALTER TABLE charge RENAME TO ledger_row;
ALTER TABLE ledger_row RENAME COLUMN models TO usage_by_model;
ALTER TABLE ledger_row ADD COLUMN prompt_digest text;
CREATE INDEX ledger_row_project ON ledger_row (project, settled, tokens, cost_micros);
CREATE INDEX ledger_row_day ON ledger_row (day, settled, tokens, cost_micros);

DROP INDEX shared_raise_key;
ALTER TABLE shared_raise RENAME TO budget_raise;
ALTER TABLE budget_raise RENAME COLUMN share TO scope;
ALTER TABLE budget_raise RENAME COLUMN given_by TO raised_by;
CREATE INDEX budget_raise_key ON budget_raise (scope, key);

CREATE TABLE budget_alert (
    scope     text   NOT NULL,
    key       {id}   NOT NULL,
    unit      text   NOT NULL,
    percent   bigint NOT NULL,
    of_limit  bigint NOT NULL,
    run       {id}   NOT NULL,
    attempt   bigint NOT NULL,
    at        bigint NOT NULL,
    PRIMARY KEY (scope, key, unit, percent)
);
INSERT INTO budget_alert (scope, key, unit, percent, of_limit, run, attempt, at)
    SELECT share, key, CASE WHEN money THEN 'cost' ELSE 'tokens' END, percent, of_limit, run, attempt, at FROM shared_alert;
DROP TABLE shared_alert;
CREATE INDEX budget_alert_attempt ON budget_alert (run, attempt);
"#;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let postgres = manager.get_database_backend() == DbBackend::Postgres;
        let schema = SCHEMA.replace("{id}", if postgres { r#"text COLLATE "C""# } else { "text" });
        manager.get_connection().execute_unprepared(&schema).await.map(drop)
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
