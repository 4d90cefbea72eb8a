//! Watches over base branches in the table `landing_watch`, with their bodies as JSON.

use super::SeaStore;
use super::ledger::signed;
use crate::domain::{LandingWatch, RunId};
use crate::ports::landing_watches::LandingWatches;
use crate::ports::{PortError, PortResult};
use async_trait::async_trait;
use sea_orm::{DbErr, QueryResult};

/// Upper bound on the open watches that are read.
const MAX_OPEN: u64 = 500;

const GET: &str = "SELECT body FROM landing_watch WHERE home = $1 AND run = $2";
const PUT: &str = "INSERT INTO landing_watch (home, run, state, body, since, ended_at) \
    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (home, run) DO UPDATE SET state = excluded.state, \
    body = excluded.body, ended_at = excluded.ended_at";
const OPEN: &str = "SELECT body FROM landing_watch WHERE home = $1 AND ended_at IS NULL ORDER BY since, run LIMIT $2";

#[async_trait]
impl LandingWatches for SeaStore {
    async fn landing_watch(&self, run: RunId) -> PortResult<Option<LandingWatch>> {
        let rows = self.read(GET, [self.home(), run.to_string().into()]).await?;
        rows.first().map(|row| watch(row).map_err(|e| self.reading(&e))).transpose()
    }

    async fn put_landing_watch(&self, watch: &LandingWatch) -> PortResult<()> {
        let body = serde_json::to_string(watch).map_err(|e| {
            PortError::permanent(format!("cannot write a watch: {e}"), "this is a bug in Skep: report it")
        })?;
        let values = [
            self.home(),
            watch.run.to_string().into(),
            watch.state.name().into(),
            body.into(),
            watch.since.0.into(),
            watch.ended_at.map(|at| at.0).into(),
        ];
        self.write(PUT, values).await.map(drop)
    }

    async fn open_landing_watches(&self) -> PortResult<Vec<LandingWatch>> {
        let rows = self.read(OPEN, [self.home(), signed(MAX_OPEN).into()]).await?;
        rows.iter().map(|row| watch(row).map_err(|e| self.reading(&e))).collect()
    }
}

fn watch(row: &QueryResult) -> Result<LandingWatch, DbErr> {
    let text: String = row.try_get("", "body")?;
    serde_json::from_str(&text).map_err(|e| DbErr::Json(e.to_string()))
}
