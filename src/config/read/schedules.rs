//! Keys of schedules: `[schedules.NAME]`.

use super::super::reader::Reader;
use super::super::sections::Config;
use super::wrong;
use crate::domain::ProjectName;
use crate::domain::goal::MAX_GOAL_BYTES;
use crate::service::schedules::settings::{Schedule, Timing};

/// Reads every schedule.
pub(super) fn read(r: &mut Reader, c: &mut Config) {
    for name in r.names("schedules") {
        let at = |key: &str| format!("schedules.{name}.{key}");
        let (mut timezone, mut project, mut goal) = ("UTC".to_owned(), String::new(), String::new());
        r.checked(&at("timezone"), &mut timezone, |t| match Timing::parse("@daily", t) {
            Ok(_) => Ok(t.to_owned()),
            Err(why) => wrong(why, "write a name such as \"Europe/Berlin\", or leave the key out for UTC"),
        });
        let mut timing = None;
        r.checked(&at("cron"), &mut timing, |t| match Timing::parse(t, &timezone) {
            Ok(timing) => Ok(Some(timing)),
            Err(why) => wrong(why, "write one such as \"0 5 * * MON\", which is five o'clock on Mondays"),
        });
        r.checked(&at("project"), &mut project, |t| match ProjectName::new(t) {
            Ok(name) => Ok(name.to_string()),
            Err(why) => wrong(why, "`skep project list` lists the projects"),
        });
        r.checked(&at("goal"), &mut goal, |t| match t.trim() {
            "" => wrong("the goal is empty", "describe what should be different when the run is done"),
            t if t.len() > MAX_GOAL_BYTES => wrong("the goal is longer than 64 KiB", "shorten it"),
            t => Ok(t.to_owned()),
        });
        for (key, is_missing) in
            [("cron", timing.is_none()), ("project", project.is_empty()), ("goal", goal.is_empty())]
        {
            if is_missing {
                r.refuse(&at(key), "a schedule needs cron, project and goal", format!("add {key} = \"…\""));
            }
        }
        if let Some(timing) = timing.filter(|_| !project.is_empty() && !goal.is_empty()) {
            c.schedules.push(Schedule { name, timing, project, goal });
        }
    }
}
