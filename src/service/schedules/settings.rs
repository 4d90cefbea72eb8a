//! Configured schedules, and when they are due.

use crate::domain::Timestamp;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

/// Least time between two runs of a schedule, in milliseconds.
const MIN_GAP_MS: i64 = 15 * 60 * 1000;
/// Occurrences that are compared to find the least time between two.
const COMPARED: usize = 200;

/// Something that is done at certain times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// When it is due.
    pub timing: Timing,
    /// What is done.
    pub work: Work,
}

/// What a schedule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Opens a run.
    Run {
        /// The project.
        project: String,
        /// The goal.
        goal: String,
    },
    /// Finds failures that recur, and proposes changes.
    Improve {
        /// The project; `None` = all.
        project: Option<String>,
        /// Whether proposals are written to the issues of their projects.
        as_issue: bool,
    },
}

impl Schedule {
    /// Returns its project; `None` = it concerns all.
    pub fn project(&self) -> Option<&str> {
        match &self.work {
            Work::Run { project, .. } => Some(project),
            Work::Improve { project, .. } => project.as_deref(),
        }
    }

    /// Describes what it does, for people.
    pub fn describe(&self) -> &str {
        match &self.work {
            Work::Run { goal, .. } => goal,
            Work::Improve { .. } => "find failures that recur (skep improve)",
        }
    }
}

/// Times of a schedule: a cron expression with five fields, in a time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    cron: Cron,
    timezone: Tz,
}

impl Timing {
    /// Reads a cron expression (minute, hour, day of the month, month, day of the week) or a nickname such as `@daily`,
    /// for a time zone of the IANA database. A day of the month and a day of the week are alternatives, as in `cron(8)`.
    /// Times that a clock change skips are due when it happens, and times that occur twice are due once.
    ///
    /// # Errors
    /// If one of them is invalid, if there is no such time, or if two times are less than 15 minutes apart.
    pub fn parse(cron: &str, timezone: &str) -> Result<Timing, String> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(cron).map_err(|e| format!("not a cron expression with five fields: {e}"))?;
        let timezone: Tz = timezone.parse().map_err(|_| format!("{timezone:?} is not a time zone"))?;
        let timing = Timing { cron, timezone };
        let mut last = None;
        let mut at = Timestamp(Utc::now().timestamp_millis());
        for _ in 0..COMPARED {
            let Some(next) = timing.next_after(at) else { break };
            if last.is_some_and(|last: Timestamp| next.0 - last.0 < MIN_GAP_MS) {
                return Err("two of its times are less than 15 minutes apart".to_owned());
            }
            (last, at) = (Some(next), next);
        }
        last.map(|_| timing).ok_or_else(|| "it names a time that never comes".to_owned())
    }

    /// Returns the first time after `at`; `None` = there is none in sight.
    pub fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        let at = DateTime::<Utc>::from_timestamp_millis(at.0)?.with_timezone(&self.timezone);
        self.cron.find_next_occurrence(&at, false).ok().map(|next| Timestamp(next.timestamp_millis()))
    }

    /// Returns the cron expression.
    pub fn cron(&self) -> &str {
        self.cron.as_str()
    }

    /// Returns the name of the time zone.
    pub fn timezone(&self) -> &'static str {
        self.timezone.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp(DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis())
    }

    #[test]
    fn times_are_those_of_the_time_zone() {
        let weekly = Timing::parse("0 5 * * MON", "Europe/Berlin").unwrap();
        assert_eq!(weekly.next_after(at("2026-11-29T12:00:00Z")), Some(at("2026-11-30T04:00:00Z")));
        assert_eq!(weekly.next_after(at("2026-11-30T04:00:00Z")), Some(at("2026-12-07T04:00:00Z")));
        assert_eq!(weekly.next_after(at("2026-06-01T12:00:00Z")), Some(at("2026-06-08T03:00:00Z")), "summer time");
        assert_eq!((weekly.cron(), weekly.timezone()), ("0 5 * * 1", "Europe/Berlin"));
        assert!(Timing::parse("@daily", "UTC").is_ok());
    }

    #[test]
    fn clock_changes_neither_lose_a_time_nor_repeat_it() {
        let daily = Timing::parse("30 2 * * *", "Europe/Berlin").unwrap();
        // 02:30 does not exist on 29 March 2026, and exists twice on 25 October 2026.
        let mut next = at("2026-03-28T12:00:00Z");
        let mut days = Vec::new();
        while days.len() < 3 {
            next = daily.next_after(next).unwrap();
            days.push(next);
        }
        assert_eq!(days[1..], [at("2026-03-30T00:30:00Z"), at("2026-03-31T00:30:00Z")], "{days:?}");
        let first = daily.next_after(at("2026-10-24T12:00:00Z")).unwrap();
        let second = daily.next_after(first).unwrap();
        assert!(second.0 - first.0 > 20 * 3_600_000, "{first:?} {second:?}");
    }

    #[test]
    fn unusable_timings_say_why() {
        for (cron, timezone, why) in [
            ("0 5 * *", "UTC", "five fields"),
            ("0 0 5 * * 1", "UTC", "five fields"),
            ("61 5 * * 1", "UTC", "five fields"),
            ("0 5 * * 1", "Europe/Bremen", "not a time zone"),
            ("*/5 * * * *", "UTC", "less than 15 minutes"),
            ("0,10 5 * * *", "UTC", "less than 15 minutes"),
            ("0 0 30 2 *", "UTC", "never comes"),
        ] {
            let error = Timing::parse(cron, timezone).unwrap_err();
            assert!(error.contains(why), "{cron} {timezone}: {error}");
        }
    }
}
