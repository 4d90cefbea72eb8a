//! Deployments, rollouts and sponsors, with their bodies as JSON.

use super::SeaStore;
use super::ledger::signed;
use crate::domain::ProjectName;
use crate::domain::deployment::{Deployment, Rollout, Sponsor};
use crate::ports::deployments::Deployments;
use crate::ports::{PortError, PortResult};
use async_trait::async_trait;
use sea_orm::{DbErr, QueryResult, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Upper bound on the sponsors that are read.
const MAX_SPONSORS: u64 = 1_000;
/// Upper bound on the open rollouts of a target that are read.
const MAX_OPEN: u64 = 500;

/// Rollouts of a target that are kept.
const MAX_ROLLOUTS: u64 = 1_000;

const GET: &str = "SELECT body FROM deployment WHERE home = $1 AND target = $2";
const PUT: &str = "INSERT INTO deployment (home, target, body, changed_at) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (home, target) DO UPDATE SET body = excluded.body, changed_at = excluded.changed_at";
const LAST_NUMBER: &str = "SELECT coalesce(max(number), 0) AS last FROM rollout WHERE home = $1 AND target = $2";
/// A process that was killed after writing it finds the rollout of the same key.
const ADD: &str = "INSERT INTO rollout (home, target, number, key, state, body, created_at, ended_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (home, target, key) DO NOTHING RETURNING number";
const REPLACE: &str = "UPDATE rollout SET state = $4, body = $5, ended_at = $6 \
    WHERE home = $1 AND target = $2 AND number = $3";
const PRUNE: &str = "DELETE FROM rollout WHERE home = $1 AND target = $2 AND number <= $3 AND ended_at IS NOT NULL";
const OPEN: &str = "SELECT body FROM rollout WHERE home = $1 AND target = $2 AND ended_at IS NULL \
    ORDER BY number LIMIT $3";
const LIST: &str = "SELECT body FROM rollout WHERE home = $1 AND target = $2 ORDER BY number DESC LIMIT $3";
const ONE: &str = "SELECT body FROM rollout WHERE home = $1 AND target = $2 AND number = $3";
const PUT_SPONSOR: &str = "INSERT INTO sponsor (home, project, name, body) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (home, project, name) DO UPDATE SET body = excluded.body";
const REMOVE_SPONSORS: &str = "DELETE FROM sponsor WHERE home = $1 AND project = $2";
const SPONSORS: &str = "SELECT body FROM sponsor WHERE home = $1 ORDER BY project, name LIMIT $2";

#[async_trait]
impl Deployments for SeaStore {
    async fn deployment(&self, target: &str) -> PortResult<Option<Deployment>> {
        Ok(self.bodies(GET, vec![self.home(), target.into()]).await?.pop())
    }

    async fn put_deployment(&self, deployment: &Deployment) -> PortResult<()> {
        let target = deployment.target.as_str().into();
        let values = [self.home(), target, encode(deployment)?.into(), deployment.changed_at.0.into()];
        self.write(PUT, values).await.map(drop)
    }

    async fn add_rollout(&self, rollout: &Rollout) -> PortResult<Option<Rollout>> {
        // One process at a time uses a home, and numbers its rollouts here.
        let rows = self.read(LAST_NUMBER, [self.home(), rollout.target.as_str().into()]).await?;
        let last: i64 = match rows.first() {
            Some(row) => row.try_get("", "last").map_err(|e| self.reading(&e))?,
            None => 0,
        };
        let number = u64::try_from(last).unwrap_or(0) + 1;
        let rollout = Rollout { number, ..rollout.clone() };
        let values = [
            self.home(),
            rollout.target.as_str().into(),
            signed(number).into(),
            rollout.key.as_str().into(),
            rollout.state.name().into(),
            encode(&rollout)?.into(),
            rollout.created_at.0.into(),
            rollout.ended_at.map(|at| at.0).into(),
        ];
        let added = self.write(ADD, values).await?;
        if number > MAX_ROLLOUTS && !added.is_empty() {
            let oldest = signed(number - MAX_ROLLOUTS);
            self.write(PRUNE, [self.home(), rollout.target.as_str().into(), oldest.into()]).await?;
        }
        Ok((!added.is_empty()).then_some(rollout))
    }

    async fn put_rollout(&self, rollout: &Rollout) -> PortResult<()> {
        let values = [
            self.home(),
            rollout.target.as_str().into(),
            signed(rollout.number).into(),
            rollout.state.name().into(),
            encode(rollout)?.into(),
            rollout.ended_at.map(|at| at.0).into(),
        ];
        self.write(REPLACE, values).await.map(drop)
    }

    async fn open_rollouts(&self, target: &str) -> PortResult<Vec<Rollout>> {
        self.bodies(OPEN, vec![self.home(), target.into(), signed(MAX_OPEN).into()]).await
    }

    async fn rollouts(&self, target: &str, limit: u64) -> PortResult<Vec<Rollout>> {
        self.bodies(LIST, vec![self.home(), target.into(), signed(limit).into()]).await
    }

    async fn rollout(&self, target: &str, number: u64) -> PortResult<Option<Rollout>> {
        Ok(self.bodies(ONE, vec![self.home(), target.into(), signed(number).into()]).await?.pop())
    }

    async fn put_sponsor(&self, sponsor: &Sponsor) -> PortResult<()> {
        let values =
            [self.home(), sponsor.project.as_str().into(), sponsor.name.as_str().into(), encode(sponsor)?.into()];
        self.write(PUT_SPONSOR, values).await.map(drop)
    }

    async fn sponsors(&self) -> PortResult<Vec<Sponsor>> {
        self.bodies(SPONSORS, vec![self.home(), signed(MAX_SPONSORS).into()]).await
    }

    async fn remove_sponsors(&self, project: &ProjectName) -> PortResult<()> {
        self.write(REMOVE_SPONSORS, vec![self.home(), project.as_str().into()]).await.map(drop)
    }
}

impl SeaStore {
    async fn bodies<T: DeserializeOwned>(&self, sql: &str, values: Vec<Value>) -> PortResult<Vec<T>> {
        let rows = self.read(sql, values).await?;
        rows.iter().map(|row| body(row).map_err(|e| self.reading(&e))).collect()
    }
}

fn body<T: DeserializeOwned>(row: &QueryResult) -> Result<T, DbErr> {
    let text: String = row.try_get("", "body")?;
    serde_json::from_str(&text).map_err(|e| DbErr::Json(e.to_string()))
}

fn encode(value: &impl Serialize) -> PortResult<String> {
    serde_json::to_string(value).map_err(|e| {
        PortError::permanent(format!("cannot write a deployment: {e}"), "this is a bug in Skep: report it")
    })
}
