//! Projects: one row each, with the body as JSON.

use super::SeaStore;
use super::codec;
use super::entity::project::{Column, Entity, Model};
use crate::domain::{Project, ProjectName};
use crate::ports::{PortError, PortResult, Projects};
use async_trait::async_trait;
use sea_orm::{ConnectionTrait, EntityTrait, QueryOrder, QuerySelect, SqlErr};

/// Upper bound of projects in one store.
const MAX_PROJECTS: u64 = 10_000;

const ADD: &str = "INSERT INTO project (name, version, body, created_at, updated_at) VALUES ($1, $2, $3, {now}, {now}) RETURNING name";
const REPLACE: &str = "INSERT INTO project (name, version, body, created_at, updated_at) VALUES ($1, $2, $3, {now}, {now}) \
    ON CONFLICT (name) DO UPDATE SET version = excluded.version, body = excluded.body, updated_at = excluded.updated_at \
    RETURNING name";

#[async_trait]
impl Projects for SeaStore {
    async fn put_project(&self, project: &Project, replace: bool) -> PortResult<()> {
        let name = project.name.as_str();
        let body = codec::encode_project(project).map_err(|e| {
            PortError::permanent(format!("cannot write project {name}: {e}"), "this is a bug in Skep: report it")
        })?;
        let sql = if replace { REPLACE } else { ADD };
        let statement = self.statement(sql, [name.into(), codec::VERSION.into(), body.into()]);
        match self.write.query_all_raw(statement).await {
            Ok(_) => self.confirmed(()),
            Err(e) if matches!(e.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => Err(PortError::permanent(
                format!("there is already a project {name}"),
                "choose another name, or replace the project",
            )),
            Err(e) => Err(self.writing(&e)),
        }
    }

    async fn remove_project(&self, name: &ProjectName) -> PortResult<bool> {
        let done = Entity::delete_by_id(name.as_str()).exec(&self.write).await.map_err(|e| self.writing(&e))?;
        self.confirmed(done.rows_affected > 0)
    }

    async fn project(&self, name: &ProjectName) -> PortResult<Option<Project>> {
        let model = Entity::find_by_id(name.as_str()).one(&self.read).await.map_err(|e| self.reading(&e))?;
        model.map(|model| self.project_from(&model)).transpose()
    }

    /// Returns the projects that can be read. A damaged one is logged, is an error when read by name, and hides no
    /// other.
    async fn projects(&self) -> PortResult<Vec<Project>> {
        let find = Entity::find().order_by_asc(Column::Name).limit(MAX_PROJECTS);
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
}

impl SeaStore {
    fn project_from(&self, model: &Model) -> PortResult<Project> {
        codec::decode_project(model.version, &model.body).map_err(|e| {
            PortError::permanent(
                format!("{}: cannot read project {}: {e}", self.location, model.name),
                "use the Skep version that wrote it, or replace the project",
            )
        })
    }
}
