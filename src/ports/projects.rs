//! The registered projects.

use super::PortResult;
use crate::domain::{Project, ProjectName};
use async_trait::async_trait;

/// Projects by name.
#[async_trait]
pub trait Projects: Send + Sync {
    /// Stores a project; unless `replace` is set, a name that is taken is a permanent error.
    async fn put_project(&self, project: &Project, replace: bool) -> PortResult<()>;
    /// Removes a project; returns whether it was there.
    async fn remove_project(&self, name: &ProjectName) -> PortResult<bool>;
    /// Returns a project by name.
    async fn project(&self, name: &ProjectName) -> PortResult<Option<Project>>;
    /// Returns all projects, by name.
    async fn projects(&self) -> PortResult<Vec<Project>>;
}
