//! States of schedules in the table `schedule`.

use super::SeaStore;
use crate::domain::{RunId, Timestamp};
use crate::ports::PortResult;
use crate::ports::schedules::{ScheduleState, Schedules};
use async_trait::async_trait;
use sea_orm::{DbErr, QueryResult};

const LIST: &str = "SELECT name, timing, next_at, starting, last_at, last_run, last_error FROM schedule \
    WHERE home = $1 ORDER BY name";
const PUT: &str = "INSERT INTO schedule (home, name, timing, next_at, starting, last_at, last_run, last_error) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (home, name) DO UPDATE SET timing = excluded.timing, \
    next_at = excluded.next_at, starting = excluded.starting, last_at = excluded.last_at, \
    last_run = excluded.last_run, last_error = excluded.last_error";
const REMOVE: &str = "DELETE FROM schedule WHERE home = $1 AND name = $2";

#[async_trait]
impl Schedules for SeaStore {
    async fn schedules(&self) -> PortResult<Vec<ScheduleState>> {
        let rows = self.read(LIST, [self.home()]).await?;
        rows.iter().map(|row| state(row).map_err(|e| self.reading(&e))).collect()
    }

    async fn put_schedule(&self, state: &ScheduleState) -> PortResult<()> {
        let run = |run: Option<RunId>| run.map(|run| run.to_string()).into();
        let values = [
            self.home(),
            state.name.as_str().into(),
            state.timing.as_str().into(),
            state.next_at.0.into(),
            run(state.starting),
            state.last_at.map(|at| at.0).into(),
            run(state.last_run),
            state.last_error.clone().into(),
        ];
        self.write(PUT, values).await.map(|_| ())
    }

    async fn remove_schedule(&self, name: &str) -> PortResult<()> {
        self.write(REMOVE, [self.home(), name.into()]).await.map(|_| ())
    }
}

fn state(row: &QueryResult) -> Result<ScheduleState, DbErr> {
    let run = |column: &str| -> Result<Option<RunId>, DbErr> {
        let text: Option<String> = row.try_get("", column)?;
        text.map(|text| RunId::try_from(text).map_err(|e| DbErr::Type(e.to_string()))).transpose()
    };
    Ok(ScheduleState {
        name: row.try_get("", "name")?,
        timing: row.try_get("", "timing")?,
        next_at: Timestamp(row.try_get("", "next_at")?),
        starting: run("starting")?,
        last_at: row.try_get::<Option<i64>>("", "last_at")?.map(Timestamp),
        last_run: run("last_run")?,
        last_error: row.try_get("", "last_error")?,
    })
}
