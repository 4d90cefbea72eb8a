//! Audit log: who changed what, when, through which surface.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// `at` is in Unix milliseconds. No foreign keys: the log outlives the rows that it refers to.
const TABLE: &str = r#"
CREATE TABLE audit (
    id         {counter},
    at         bigint NOT NULL,
    principal  text   NOT NULL,
    via        text   NOT NULL,
    action     text   NOT NULL,
    subject    text   NOT NULL,
    detail     text   NOT NULL
);
"#;

/// The log is append-only, like the journal.
const SQLITE_APPEND_ONLY: &str = r#"
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
"#;
const POSTGRES_APPEND_ONLY: &str = r#"
CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$;
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();
"#;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let postgres = manager.get_database_backend() == DbBackend::Postgres;
        let (counter, append_only) = if postgres {
            ("bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY", POSTGRES_APPEND_ONLY)
        } else {
            ("integer PRIMARY KEY AUTOINCREMENT", SQLITE_APPEND_ONLY)
        };
        let db = manager.get_connection();
        db.execute_unprepared(&TABLE.replace("{counter}", counter)).await?;
        db.execute_unprepared(append_only).await.map(drop)
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
