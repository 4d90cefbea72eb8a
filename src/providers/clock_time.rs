//! Reads from prose when a limit ends: "resets 3pm (Europe/Berlin)", "try again at Nov 9th, 2026 5:33 PM", "in 2h 13m".
//! A pure function of the text, the current time and the local time zone.

use crate::domain::Timestamp;
use chrono::{
    DateTime, Datelike, Days, FixedOffset, MappedLocalTime, Months, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc,
    Weekday,
};
use chrono_tz::Tz;

/// Words after which a moment is expected.
const ANCHORS: &[&str] = &[
    "resets",
    "reset",
    "try again",
    "retry",
    "regain access",
    "available",
    "renews",
    "until",
    "limit reached|",
    "wait",
];
/// Words that may stand between an anchor and the moment.
const FILLERS: &[&str] =
    &["at", "on", "in", "by", "after", "again", "about", "approximately", "is", "be", "will", "the"];
/// Number of occurrences of an anchor that are read.
const MAX_ANCHORS: usize = 8;
/// Part of the text after an anchor that is read, in bytes.
const MAX_MOMENT_BYTES: usize = 96;
/// A moment that was reached this short a time ago means now, not the same time tomorrow.
const JUST_REACHED_MS: i64 = 15 * 60_000;

/// Time zones by their abbreviations, as offsets from UTC in hours. The half-hour zones have no unambiguous one.
const ABBREVIATIONS: &[(&str, i32)] = &[
    ("utc", 0),
    ("gmt", 0),
    ("z", 0),
    ("pst", -8),
    ("pdt", -7),
    ("mst", -7),
    ("mdt", -6),
    ("cst", -6),
    ("cdt", -5),
    ("est", -5),
    ("edt", -4),
    ("bst", 1),
    ("cet", 1),
    ("cest", 2),
    ("eet", 2),
    ("eest", 3),
    ("msk", 3),
    ("jst", 9),
    ("kst", 9),
    ("aest", 10),
    ("aedt", 11),
    ("nzst", 12),
    ("nzdt", 13),
];
/// Names of months and weekdays; three letters or more of one are enough.
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// A time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// That of this machine. Agents run with it, and name no other.
    Local,
    /// A named one.
    Named(Tz),
    /// A fixed offset from UTC.
    Fixed(FixedOffset),
}

impl Zone {
    fn local(self, at: i64) -> Option<NaiveDateTime> {
        let at = DateTime::<Utc>::from_timestamp_millis(at)?;
        Some(match self {
            Zone::Local => at.with_timezone(&chrono::Local).naive_local(),
            Zone::Named(zone) => at.with_timezone(&zone).naive_local(),
            Zone::Fixed(offset) => at.with_timezone(&offset).naive_local(),
        })
    }

    /// Returns the moment of a local time: the later one of two, the next one that exists.
    fn moment(self, local: NaiveDateTime) -> Option<i64> {
        fn latest<T: TimeZone>(zone: &T, local: NaiveDateTime) -> Option<i64> {
            match zone.from_local_datetime(&local) {
                MappedLocalTime::Single(at) | MappedLocalTime::Ambiguous(_, at) => Some(at.timestamp_millis()),
                MappedLocalTime::None => None,
            }
        }
        let of = |local| match self {
            Zone::Local => latest(&chrono::Local, local),
            Zone::Named(zone) => latest(&zone, local),
            Zone::Fixed(offset) => latest(&offset, local),
        };
        of(local).or_else(|| of(local.checked_add_signed(chrono::TimeDelta::hours(1))?))
    }
}

/// Returns all moments in a text that say when a limit ends, as milliseconds since the epoch.
pub fn moments(text: &str, now: Timestamp, local: Zone) -> Vec<i64> {
    let lower = text.to_ascii_lowercase();
    let mut found = Vec::new();
    for anchor in ANCHORS {
        for (at, _) in lower.match_indices(anchor).take(MAX_ANCHORS) {
            let from = at + anchor.len();
            let to = text.floor_char_boundary((from + MAX_MOMENT_BYTES).min(text.len()));
            if let (Some(lower), Some(exact)) = (lower.get(from..to), text.get(from..to)) {
                found.extend(Reader { lower, exact, at: 0 }.moment(now.0, local));
            }
        }
    }
    found
}

/// Parses `1h2m3.5s`, `20ms`, `6m0s`, `34.07s` or `2 days, 3 hours and 15 minutes` at the beginning of a text:
/// milliseconds, and the number of bytes parsed.
pub fn duration(text: &str) -> Option<(i64, usize)> {
    let (mut sum, mut end, mut at) = (0.0, 0, 0);
    loop {
        let rest = &text[at..];
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        // "try again in 6s." ends with a period that does not belong to a number.
        let Ok(number) = rest[..digits].parse::<f64>() else { break };
        let after = &rest[digits..];
        let spaces = after.len() - after.trim_start_matches(' ').len();
        let word: String = after.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
        let unit = match word.to_ascii_lowercase().as_str() {
            "ms" | "msec" | "millisecond" | "milliseconds" => 1.0,
            "s" | "sec" | "secs" | "second" | "seconds" => 1000.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60_000.0,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3_600_000.0,
            "d" | "day" | "days" => 86_400_000.0,
            "w" | "week" | "weeks" => 604_800_000.0,
            _ => break,
        };
        sum += number * unit;
        end = at + digits + spaces + word.len();
        let more = text[end..].trim_start_matches([' ', ',']);
        let more = more.strip_prefix("and ").unwrap_or(more).trim_start_matches(' ');
        at = text.len() - more.len();
    }
    if end == 0 { None } else { Some((millis(sum)?, end)) }
}

/// Rounds milliseconds up, if the number is valid.
pub fn millis(ms: f64) -> Option<i64> {
    #[allow(clippy::cast_possible_truncation)] // within what a double holds exactly
    (ms.is_finite() && (0.0..9e15).contains(&ms)).then_some(ms.ceil() as i64)
}

/// Reads one moment, from left to right.
struct Reader<'t> {
    lower: &'t str,
    /// The same text with its capitals, which the names of time zones have.
    exact: &'t str,
    at: usize,
}

/// Parts of a moment that were read.
#[derive(Default)]
struct Parts {
    year: Option<i32>,
    month: Option<u32>,
    day: Option<u32>,
    weekday: Option<Weekday>,
    days_ahead: Option<u64>,
    time: Option<NaiveTime>,
    zone: Option<Zone>,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.lower[self.at..]
    }

    fn skip(&mut self, n: usize) {
        self.at = (self.at + n).min(self.lower.len());
    }

    fn skip_separators(&mut self) {
        let rest = self.rest();
        let kept = rest.trim_start_matches([
            ' ', ',', '\u{b7}', '\u{2219}', '\u{2022}', ':', '\n', '\t', '(', '[', ')', ']', '"', '*', '`',
        ]);
        self.skip(rest.len() - kept.len());
    }

    fn word(&self) -> &str {
        let rest = self.rest();
        &rest[..rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len())]
    }

    fn number(&self) -> &str {
        let rest = self.rest();
        &rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())]
    }

    fn moment(&mut self, now: i64, local: Zone) -> Option<i64> {
        loop {
            self.skip_separators();
            let filler = FILLERS.iter().find(|filler| **filler == self.word());
            match filler {
                Some(filler) => self.skip(filler.len()),
                None => break,
            }
        }
        let digits = self.number();
        if (10..=13).contains(&digits.len()) {
            let number: i64 = digits.parse().ok()?;
            return Some(if digits.len() > 11 { number } else { number.checked_mul(1000)? });
        }
        if let Some((ms, _)) = duration(self.rest()) {
            return now.checked_add(ms);
        }
        let parts = self.parts();
        parts.moment(now, parts.zone.unwrap_or(local))
    }

    fn parts(&mut self) -> Parts {
        let mut parts = Parts::default();
        loop {
            self.skip_separators();
            let before = self.at;
            if !(self.iso_date(&mut parts) || self.time(&mut parts) || self.zone(&mut parts) || self.day(&mut parts)) {
                let filler = ["at", "on", "of", "t"].into_iter().find(|filler| *filler == self.word());
                match filler {
                    Some(filler) => self.skip(filler.len()),
                    None => return parts,
                }
            }
            if self.at == before {
                return parts;
            }
        }
    }

    /// Reads `2026-11-09` or `2026/11/09`.
    fn iso_date(&mut self, parts: &mut Parts) -> bool {
        let Some(text) = self.rest().get(..10) else { return false };
        let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").or_else(|_| NaiveDate::parse_from_str(text, "%Y/%m/%d"));
        let Ok(date) = date else { return false };
        (parts.year, parts.month, parts.day) = (Some(date.year()), Some(date.month()), Some(date.day()));
        self.skip(10);
        true
    }

    /// Reads `3pm`, `4:50 p.m.`, `15:00` or `15:00:30.5`.
    fn time(&mut self, parts: &mut Parts) -> bool {
        let digits = self.number();
        let (Ok(mut hour), 1..=2) = (digits.parse::<u32>(), digits.len()) else { return false };
        let start = self.at;
        self.skip(digits.len());
        let (mut minute, mut second, mut clock) = (0, 0, false);
        for part in [&mut minute, &mut second] {
            let digits = self.rest().strip_prefix(':').and_then(|rest| rest.get(..2)).and_then(|two| two.parse().ok());
            let Some(number) = digits else { break };
            (*part, clock) = (number, true);
            self.skip(3);
        }
        if clock && self.rest().starts_with('.') {
            let fraction = self.rest()[1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest().len() - 1);
            self.skip(1 + fraction);
        }
        let rest = self.rest().trim_start();
        let spaces = self.rest().len() - rest.len();
        let half = [("a.m.", 0), ("p.m.", 12), ("am", 0), ("pm", 12)].into_iter().find(|(name, _)| {
            rest.strip_prefix(name).is_some_and(|after| !after.starts_with(|c: char| c.is_ascii_alphabetic()))
        });
        if let Some((name, add)) = half.filter(|_| (1..=12).contains(&hour)) {
            hour = hour % 12 + add;
            clock = true;
            self.skip(spaces + name.len());
        }
        match NaiveTime::from_hms_opt(hour, minute, second).filter(|_| clock && parts.time.is_none()) {
            Some(time) => {
                parts.time = Some(time);
                true
            }
            None => {
                self.at = start;
                false
            }
        }
    }

    /// Reads `Europe/Berlin`, `UTC`, `GMT+2`, `+02:00` or `PDT`, after a time.
    fn zone(&mut self, parts: &mut Parts) -> bool {
        if parts.time.is_none() || parts.zone.is_some() {
            return false;
        }
        let exact = &self.exact[self.at..];
        let name =
            &exact[..exact.find(|c: char| !(c.is_ascii_alphanumeric() || "/_+-".contains(c))).unwrap_or(exact.len())];
        if name.contains('/')
            && let Ok(zone) = name.parse::<Tz>()
        {
            parts.zone = Some(Zone::Named(zone));
            self.skip(name.len());
            return true;
        }
        let word = self.word();
        let known = ABBREVIATIONS.iter().find(|(name, _)| *name == word);
        let (hours, after) = match known {
            Some((name, hours)) => (*hours, name.len()),
            None if word.is_empty() => (0, 0),
            None => return false,
        };
        let rest = &self.rest()[after..];
        let offset = match rest.as_bytes().first() {
            Some(sign @ (b'+' | b'-')) if hours == 0 => {
                offset(&rest[1..]).map(|(secs, len)| (if *sign == b'-' { -secs } else { secs }, len + 1))
            }
            _ if known.is_some() => Some((hours * 3600, 0)),
            _ => None,
        };
        let Some((secs, len)) = offset else { return false };
        let Some(fixed) = FixedOffset::east_opt(secs) else { return false };
        parts.zone = Some(Zone::Fixed(fixed));
        self.skip(after + len);
        true
    }

    /// Reads `Nov 9th`, `9 November`, `2026`, `Monday`, `today` or `tomorrow`.
    fn day(&mut self, parts: &mut Parts) -> bool {
        let word = self.word();
        if word.len() >= 3 {
            let index = |names: &[&str]| names.iter().position(|name| name.starts_with(word));
            let length = word.len();
            match word {
                "today" => parts.days_ahead = Some(0),
                "tomorrow" => parts.days_ahead = Some(1),
                _ => match (index(&MONTHS), index(&WEEKDAYS)) {
                    (Some(month), _) if parts.month.is_none() => parts.month = u32::try_from(month + 1).ok(),
                    (_, Some(day)) if parts.weekday.is_none() => {
                        parts.weekday = u8::try_from(day).ok().and_then(|day| Weekday::try_from(day).ok());
                    }
                    _ => return false,
                },
            }
            self.skip(length);
            if self.rest().starts_with('.') {
                self.skip(1);
            }
            return true;
        }
        let digits = self.number();
        let length = digits.len();
        match (length, digits.parse::<u32>()) {
            (1..=2, Ok(day)) if parts.day.is_none() && (1..=31).contains(&day) => {
                self.skip(length);
                let suffix = ["st", "nd", "rd", "th"].into_iter().find(|suffix| self.rest().starts_with(suffix));
                self.skip(suffix.map_or(0, str::len));
                // A number counts as a day only beside the name of a month.
                self.skip_separators();
                let word = self.word();
                let is_month = word.len() >= 3 && MONTHS.iter().any(|month| month.starts_with(word));
                parts.day = Some(day).filter(|_| parts.month.is_some() || is_month);
                parts.day.is_some()
            }
            (4, Ok(year)) if parts.year.is_none() && parts.month.is_some() => {
                parts.year = i32::try_from(year).ok();
                self.skip(length);
                true
            }
            _ => false,
        }
    }
}

/// Parses the digits of an offset (`2`, `02`, `0200`, `02:00`): seconds, and the number of bytes parsed.
fn offset(text: &str) -> Option<(i32, usize)> {
    let length = text.find(|c: char| !c.is_ascii_digit() && c != ':').unwrap_or(text.len());
    let digits: String = text[..length].chars().filter(char::is_ascii_digit).collect();
    let (hours, minutes) = match digits.len() {
        1 | 2 => (digits.parse::<i32>().ok()?, 0),
        4 => (digits[..2].parse::<i32>().ok()?, digits[2..].parse::<i32>().ok()?),
        _ => return None,
    };
    (hours <= 14 && minutes < 60).then_some((hours * 3600 + minutes * 60, length))
}

impl Parts {
    /// Returns the moment that these parts mean, the next one from `now` on.
    fn moment(&self, now: i64, zone: Zone) -> Option<i64> {
        let today = zone.local(now)?.date();
        let at = |date: NaiveDate| zone.moment(date.and_time(self.time.unwrap_or(NaiveTime::MIN)));
        let ahead = |at: i64| at > now.saturating_sub(JUST_REACHED_MS);
        match (self.month, self.day, self.weekday, self.days_ahead) {
            (Some(month), Some(day), ..) => match self.year {
                Some(year) => at(NaiveDate::from_ymd_opt(year, month, day)?),
                None => {
                    // February 29th may be up to eight years away.
                    let dates = (0..=8).filter_map(|n| NaiveDate::from_ymd_opt(today.year() + n, month, day));
                    let dates = dates.filter(|date| date.checked_add_days(Days::new(1)).is_some_and(|d| d >= today));
                    at(dates.into_iter().next()?)
                }
            },
            (Some(month), None, ..) => {
                let first = NaiveDate::from_ymd_opt(self.year.unwrap_or(today.year()), month, 1)?;
                at(if first < today { first.checked_add_months(Months::new(12))? } else { first })
            }
            (None, _, Some(weekday), _) => {
                let days = u64::from(weekday.days_since(today.weekday()));
                let next = at(today.checked_add_days(Days::new(days))?)?;
                if ahead(next) { Some(next) } else { at(today.checked_add_days(Days::new(days + 7))?) }
            }
            (None, _, None, Some(days)) => at(today.checked_add_days(Days::new(days))?),
            (None, _, None, None) => {
                self.time?;
                let next = at(today)?;
                if ahead(next) { Some(next) } else { at(today.checked_add_days(Days::new(1))?) }
            }
        }
    }
}

#[cfg(test)]
mod tests;
