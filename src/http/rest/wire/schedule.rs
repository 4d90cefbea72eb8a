//! Schedules.

use super::Timestamp;
use crate::service::schedules::Scheduled;
use crate::service::schedules::settings::Work;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Something that is done at certain times.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Schedule {
    /// Name.
    #[schema(example = "dependencies")]
    pub name: String,
    /// Cron expression with five fields.
    #[schema(example = "0 5 * * 1")]
    pub cron: String,
    /// Time zone of the expression.
    #[schema(example = "Europe/Berlin")]
    pub timezone: String,
    /// What it does: `run` or `improve`.
    #[serde(rename = "do")]
    pub work: String,
    /// Its project; absent if it concerns all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Goal of its runs, or a description of what it does.
    pub goal: String,
    /// When it is due next; absent until a service has seen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Timestamp>,
    /// The last time it was due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<Timestamp>,
    /// The last run it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<String>,
    /// Why no run could be started the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

impl From<Scheduled> for Schedule {
    fn from(scheduled: Scheduled) -> Schedule {
        let Scheduled { schedule, state } = scheduled;
        let (next_at, last_at) = state.as_ref().map_or((None, None), |s| (Some(s.next_at), s.last_at));
        Schedule {
            name: schedule.name.clone(),
            cron: schedule.timing.cron().to_owned(),
            timezone: schedule.timing.timezone().to_owned(),
            work: if matches!(schedule.work, Work::Improve { .. }) { "improve" } else { "run" }.to_owned(),
            project: schedule.project().map(str::to_owned),
            goal: schedule.describe().to_owned(),
            next_at: next_at.map(Into::into),
            last_at: last_at.map(Into::into),
            last_run: state.as_ref().and_then(|s| s.last_run).map(|run| run.to_string()),
            last_error: state.and_then(|s| s.last_error),
        }
    }
}
