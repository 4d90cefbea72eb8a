//! The projects: one row each, the body as JSON.

use super::SeaStore;
use super::entity::project::{Column, Entity, Model};
use crate::domain::{Project, ProjectName};
use crate::ports::{PortError, PortResult};
use sea_orm::{EntityTrait, QueryOrder, QuerySelect, SqlErr};

/// The most projects of one store.
const PROJECTS_MAX: u64 = 10_000;

const ADD: &str =
    "INSERT INTO project (name, body, created_at, updated_at) VALUES ($1, $2, {now}, {now}) RETURNING name";
const REPLACE: &str = "INSERT INTO project (name, body, created_at, updated_at) VALUES ($1, $2, {now}, {now}) \
    ON CONFLICT (name) DO UPDATE SET body = excluded.body, updated_at = excluded.updated_at RETURNING name";

impl SeaStore {
    pub(super) async fn write_project(&self, project: &Project, replace: bool) -> PortResult<()> {
        let name = project.name.as_str();
        let body = serde_json::to_string(project).map_err(|e| {
            PortError::permanent(format!("project {name} is no JSON: {e}"), "this is a fault of Skep: report it")
        })?;
        let sql = if replace { REPLACE } else { ADD };
        let statement = self.statement(sql, [name.into(), body.into()]);
        use sea_orm::ConnectionTrait;
        match self.write.query_all_raw(statement).await {
            Ok(_) => Ok(()),
            Err(e) if matches!(e.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => Err(PortError::permanent(
                format!("there is a project {name} already"),
                "choose another name, or replace the project",
            )),
            Err(e) => Err(self.writing(&e)),
        }
    }

    pub(super) async fn read_project(&self, name: &ProjectName) -> PortResult<Option<Project>> {
        let found = Entity::find_by_id(name.as_str()).one(&self.read).await.map_err(|e| self.reading(&e))?;
        found.map(|model| self.project_from(&model)).transpose()
    }

    /// All that can be read: a bad one is told in the log and by its own name, and hides no other.
    pub(super) async fn list_projects(&self) -> PortResult<Vec<Project>> {
        let find = Entity::find().order_by_asc(Column::Name).limit(PROJECTS_MAX);
        let models = find.all(&self.read).await.map_err(|e| self.reading(&e))?;
        let mut projects = Vec::with_capacity(models.len());
        for model in &models {
            match self.project_from(model) {
                Ok(project) => projects.push(project),
                Err(e) => tracing::warn!(project = model.name, "{e}"),
            }
        }
        Ok(projects)
    }

    fn project_from(&self, model: &Model) -> PortResult<Project> {
        serde_json::from_str(&model.body).map_err(|e| {
            PortError::permanent(
                format!("{}: project {} cannot be read: {e}", self.place, model.name),
                "write the project anew, replacing it",
            )
        })
    }
}
