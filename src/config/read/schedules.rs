//! Keys of schedules: `[schedules.NAME]`.

use super::super::reader::Reader;
use super::super::sections::Config;
use super::wrong;
use crate::domain::ProjectName;
use crate::domain::goal::MAX_GOAL_BYTES;
use crate::service::schedules::settings::{Schedule, Timing, Work};

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
        let (mut improves, mut as_issue) = (false, false);
        r.checked(&at("do"), &mut improves, |t| match t {
            "run" => Ok(false),
            "improve" => Ok(true),
            _ => wrong("a schedule can do \"run\" or \"improve\"", "write one of them; without `do` it opens a run"),
        });
        r.flag(&at("as_issue"), &mut as_issue);
        if improves && !goal.is_empty() {
            r.refuse(&at("goal"), "`do = \"improve\"` has no goal", "remove the goal, or `do`");
        }
        if !improves && as_issue {
            r.refuse(&at("as_issue"), "only `do = \"improve\"` writes issues", "remove it, or add do = \"improve\"");
        }
        let needed = [("cron", timing.is_none()), ("project", project.is_empty()), ("goal", goal.is_empty())];
        for (key, _) in needed.iter().filter(|(key, is_missing)| *is_missing && (*key == "cron" || !improves)) {
            let needs = if improves { "a schedule needs cron" } else { "a schedule needs cron, project and goal" };
            r.refuse(&at(key), needs, format!("add {key} = \"…\""));
        }
        let work = match improves {
            true => Some(Work::Improve { project: Some(project).filter(|p| !p.is_empty()), as_issue }),
            false if project.is_empty() || goal.is_empty() => None,
            false => Some(Work::Run { project, goal }),
        };
        if let (Some(timing), Some(work)) = (timing, work) {
            c.schedules.push(Schedule { name, timing, work });
        }
    }
}
