//! Points in time, in UTC.

use crate::domain::{Day, Timestamp};

/// Returns a moment to the minute: `2026-11-21 14:05 UTC`.
pub fn utc(at: Timestamp) -> String {
    let (day, minute) = (at.0.div_euclid(86_400_000), at.0.rem_euclid(86_400_000) / 60_000);
    format!("{} {:02}:{:02} UTC", date(Day(day)), minute / 60, minute % 60)
}

/// Returns a calendar date: `2026-11-21`.
pub fn date(day: Day) -> String {
    day.to_string()
}
