//! Roles of people in single projects, and access tokens for single projects.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// `projects` has names with spaces between them; a token without any is for all projects, as earlier ones were.
const TABLES: &str = r#"
CREATE TABLE project_role (
    home    {id} NOT NULL,
    person  {id} NOT NULL,
    project {id} NOT NULL,
    role    text NOT NULL,
    PRIMARY KEY (home, person, project)
);
ALTER TABLE access_token ADD COLUMN projects text NOT NULL DEFAULT '';
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
