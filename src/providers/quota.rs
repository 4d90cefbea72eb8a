//! Reads from a provider's headers and body when it can be called again. A pure function.
//!
//! | sender | format |
//! |---|---|
//! | all | `retry-after` (seconds or a date), `retry-after-ms`, `ratelimit-reset` |
//! | Anthropic | `anthropic-ratelimit-*-reset` (a date, for exhausted limits), `anthropic-ratelimit-unified-reset` (epoch) |
//! | OpenAI and compatible | `x-ratelimit-reset-*` (`6m0s`), "try again in 6m0s", `resets_at`, `resets_in_seconds` |
//! | Gemini | `RetryInfo.retryDelay`, "retry in 34.07s"; a daily quota ends at midnight, Pacific time |
//! | texts, also those of agents | times, dates and durations (see [`clock_time`]) |
//!
//! The latest time counts: asking too early costs an attempt, asking late costs only a moment.

use crate::domain::Timestamp;
use crate::providers::clock_time::{self, Zone, duration, millis};
use chrono::{DateTime, Days, NaiveTime, Utc};
use reqwest::header::HeaderMap;
use serde_json::Value;

/// Longest credible wait: even monthly limits are shorter.
const MAX_WAIT_SECS: i64 = 32 * 24 * 3600;
/// Number of bytes of a body that are searched.
const BODY_MAX: usize = 64 * 1024;
/// Maximum depth to which a JSON body is searched.
const DEPTH_MAX: usize = 8;
/// Midnight in California in UTC, in winter; an hour late in summer.
const PACIFIC_MIDNIGHT: (u32, u32) = (8, 0);

/// Returns when the provider can be called again, according to a response that means "not now". `None` = it contains
/// no credible time (up to 32 days ahead).
pub fn reset(headers: &HeaderMap, body: &[u8], now: Timestamp) -> Option<Timestamp> {
    let mut found: Vec<i64> = Vec::new();
    from_headers(headers, now.0, &mut found);
    let text = String::from_utf8_lossy(&body[..body.len().min(BODY_MAX)]);
    if let Ok(json) = serde_json::from_str::<Value>(&text) {
        from_json(&json, now.0, DEPTH_MAX, &mut found);
    } else {
        from_text(&text, now.0, &mut found);
    }
    latest(found, now)
}

/// Returns when an agent can call its provider again, according to its words. They may contain the provider's error.
pub fn reset_in_text(text: &str, now: Timestamp) -> Option<Timestamp> {
    let text = &text[..text.floor_char_boundary(BODY_MAX)];
    let mut found = Vec::new();
    from_text(text, now.0, &mut found);
    let json = text.find('{').zip(text.rfind('}')).and_then(|(from, to)| text.get(from..=to));
    if let Some(json) = json.and_then(|json| serde_json::from_str::<Value>(json).ok()) {
        from_json(&json, now.0, DEPTH_MAX, &mut found);
    }
    latest(found, now)
}

/// Returns the latest credible moment.
fn latest(found: Vec<i64>, now: Timestamp) -> Option<Timestamp> {
    let credible = now.0.saturating_add(MAX_WAIT_SECS * 1000);
    found.into_iter().filter(|at| *at <= credible).max().map(|at| Timestamp(at.max(now.0)))
}

fn from_headers(headers: &HeaderMap, now: i64, found: &mut Vec<i64>) {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim);
    if let Some(value) = text("retry-after") {
        found.extend(seconds(value).map(|ms| now.saturating_add(ms)).or_else(|| http_date(value)));
    }
    if let Some(ms) = text("retry-after-ms").and_then(|v| v.parse::<f64>().ok()) {
        found.extend(millis(ms).map(|ms| now.saturating_add(ms)));
    }
    // Of several limits, only the exhausted ones count; if the headers do not show which those are, all limits count.
    let (mut exhausted, mut all) = (Vec::new(), Vec::new());
    for (name, value) in headers {
        let (name, Ok(value)) = (name.as_str(), value.to_str()) else { continue };
        let known = ["anthropic-ratelimit-", "x-ratelimit-", "ratelimit-"].iter().any(|p| name.starts_with(p));
        if !known || !name.contains("reset") {
            continue;
        }
        let Some(at) = parse_time(value.trim(), now) else { continue };
        match text(&name.replace("reset", "remaining")) {
            Some(left) if left.parse::<f64>().is_ok_and(|n| n > 0.0) => {}
            Some(_) => exhausted.push(at),
            None if name.starts_with("anthropic-ratelimit-unified") => {
                // The plain header belongs to the exhausted window; the others accompany it.
                let status = text(&name.replace("reset", "status")).unwrap_or("rejected");
                if status == "rejected" && name == "anthropic-ratelimit-unified-reset" {
                    exhausted.push(at);
                }
            }
            None => all.push(at),
        }
    }
    if exhausted.is_empty() && found.is_empty() {
        found.append(&mut all);
    }
    found.append(&mut exhausted);
}

/// Parses a time in a header: a date, an epoch in seconds or milliseconds, or an offset from now.
fn parse_time(value: &str, now: i64) -> Option<i64> {
    if let Ok(date) = DateTime::parse_from_rfc3339(value) {
        return Some(date.timestamp_millis());
    }
    if let Ok(number) = value.parse::<f64>() {
        return Some(match number {
            n if n > 1e11 => millis(n)?,
            n if n > 1e9 => millis(n * 1000.0)?,
            n => now.saturating_add(millis(n * 1000.0)?),
        });
    }
    duration(value).map(|(ms, _)| now.saturating_add(ms)).or_else(|| http_date(value))
}

fn http_date(value: &str) -> Option<i64> {
    DateTime::parse_from_rfc2822(value).ok().map(|date| date.timestamp_millis())
}

fn seconds(value: &str) -> Option<i64> {
    millis(value.parse::<f64>().ok()? * 1000.0)
}

fn from_json(json: &Value, now: i64, depth: usize, found: &mut Vec<i64>) {
    if depth == 0 {
        return;
    }
    match json {
        Value::Array(items) => items.iter().for_each(|item| from_json(item, now, depth - 1, found)),
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("retryDelay", Value::String(delay)) => {
                        found.extend(duration(delay).map(|(ms, _)| now.saturating_add(ms)));
                    }
                    ("quotaId", Value::String(id)) if id.contains("PerDay") => found.extend(pacific_midnight(now)),
                    ("resets_in_seconds" | "retry_after" | "retry_after_seconds", Value::Number(secs)) => {
                        let ms = secs.as_f64().and_then(|s| millis(s * 1000.0));
                        found.extend(ms.map(|ms| now.saturating_add(ms)));
                    }
                    ("resets_at" | "reset_at", Value::Number(at)) => found.extend(parse_time(&at.to_string(), now)),
                    ("resets_at" | "reset_at", Value::String(at)) => found.extend(parse_time(at, now)),
                    ("message" | "error" | "detail", Value::String(text)) => from_text(text, now, found),
                    (_, inner) => from_json(inner, now, depth - 1, found),
                }
            }
        }
        _ => {}
    }
}

/// Parses a text of the provider or an agent, with the time zone of this machine where it names none.
fn from_text(text: &str, now: i64, found: &mut Vec<i64>) {
    found.extend(clock_time::moments(text, Timestamp(now), Zone::Local));
}

fn pacific_midnight(now: i64) -> Option<i64> {
    let now = DateTime::<Utc>::from_timestamp_millis(now)?;
    let midnight = NaiveTime::from_hms_opt(PACIFIC_MIDNIGHT.0, PACIFIC_MIDNIGHT.1, 0)?;
    let today = now.date_naive().and_time(midnight).and_utc();
    let next = if today > now { today } else { today.checked_add_days(Days::new(1))? };
    Some(next.timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderName, HeaderValue};

    /// 2026-11-20T12:00:00Z.
    const NOW: i64 = 1_795_176_000_000;

    /// Returns the number of seconds until the provider can be called again.
    fn wait(headers: &[(&str, &str)], body: &str) -> Option<f64> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        #[allow(clippy::cast_precision_loss)]
        reset(&map, body.as_bytes(), Timestamp(NOW)).map(|at| (at.0 - NOW) as f64 / 1000.0)
    }

    #[test]
    fn headers_as_providers_send_them() {
        type Sent = &'static [(&'static str, &'static str)];
        let table: &[(Sent, Option<f64>)] = &[
            (&[("retry-after", "30")], Some(30.0)),
            (&[("retry-after", "0.25")], Some(0.25)),
            (&[("retry-after", "Fri, 20 Nov 2026 12:01:00 GMT")], Some(60.0)),
            (&[("retry-after-ms", "1500")], Some(1.5)),
            (&[("retry-after", "-5")], None),
            (&[("retry-after", "soon")], None),
            (&[("retry-after", "99999999999")], None),
            // A date that has passed: now.
            (&[("retry-after", "Fri, 20 Nov 2026 11:00:00 GMT")], Some(0.0)),
            // Anthropic: tokens are used up, requests are not.
            (
                &[
                    ("anthropic-ratelimit-requests-remaining", "49"),
                    ("anthropic-ratelimit-requests-reset", "2026-11-20T12:05:00Z"),
                    ("anthropic-ratelimit-input-tokens-remaining", "0"),
                    ("anthropic-ratelimit-input-tokens-reset", "2026-11-20T12:00:42Z"),
                    ("retry-after", "41"),
                ],
                Some(42.0),
            ),
            // Anthropic subscription: the five-hour window is used up, the weekly window is not.
            (
                &[
                    ("anthropic-ratelimit-unified-status", "rejected"),
                    ("anthropic-ratelimit-unified-reset", "1795186800"),
                    ("anthropic-ratelimit-unified-7d-status", "allowed"),
                    ("anthropic-ratelimit-unified-7d-reset", "1795600000"),
                ],
                Some(10_800.0),
            ),
            (
                &[
                    ("x-ratelimit-remaining-requests", "9998"),
                    ("x-ratelimit-reset-requests", "8.64s"),
                    ("x-ratelimit-remaining-tokens", "0"),
                    ("x-ratelimit-reset-tokens", "6m0s"),
                ],
                Some(360.0),
            ),
            (&[("x-ratelimit-reset-tokens", "27.5ms")], Some(0.028)),
            (&[("x-ratelimit-reset", "1795176060000")], Some(60.0)),
            (&[("x-ratelimit-reset", "1795176060")], Some(60.0)),
            (&[("ratelimit-reset", "17")], Some(17.0)),
            (&[("date", "Fri, 20 Nov 2026 12:00:00 GMT"), ("content-type", "application/json")], None),
        ];
        for (headers, expected) in table {
            assert_eq!(wait(headers, ""), *expected, "{headers:?}");
        }
    }

    #[test]
    fn bodies_as_providers_send_them() {
        let gemini = r#"[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"You exceeded your current quota. Please retry in 34.074824224s.",
            "details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaId":"GenerateRequestsPerMinutePerProject"}]},
            {"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34s"}]}}]"#;
        let daily = gemini.replace("PerMinute", "PerDay");
        let openai = r#"{"error":{"message":"Rate limit reached for gpt-5 in organization org-x on tokens per min (TPM): Limit 30000. Please try again in 6m0s. Visit https://x","type":"tokens","code":"rate_limit_exceeded"}}"#;
        let table = [
            (gemini, Some(34.075)),
            (daily.as_str(), Some(20.0 * 3600.0)),
            (openai, Some(360.0)),
            ("Please try again in 1h2m3.5s.", Some(3723.5)),
            ("try again in 20ms", Some(0.02)),
            ("Try again in 5 minutes", Some(300.0)),
            (r#"{"error":{"type":"usage_limit_reached","resets_in_seconds":1234}}"#, Some(1234.0)),
            (r#"{"error":{"type":"usage_limit_reached","resets_at":1795176100}}"#, Some(100.0)),
            ("Claude AI usage limit reached|1795176100", Some(100.0)),
            (r#"{"error":"overloaded"}"#, None),
            ("try again in a while", None),
            ("try again in 9999999d", None),
            ("resets at 2026-11-20T12:01:00Z", Some(60.0)),
            ("", None),
        ];
        for (body, expected) in table {
            assert_eq!(wait(&[], body), expected, "{body}");
        }
    }

    #[test]
    fn words_of_agents_and_the_errors_they_repeat() {
        let wait = |text: &str| reset_in_text(text, Timestamp(NOW)).map(|at| (at.0 - NOW) / 1000);
        assert_eq!(
            wait(
                "Codex error: {\"type\":\"error\",\"error\":{\"type\":\"usage_limit_reached\",\"resets_in_seconds\":13872}}"
            ),
            Some(13_872)
        );
        assert_eq!(wait("Claude AI usage limit reached|1795176100"), Some(100));
        assert_eq!(wait("try again in 2h 13m"), Some(7_980));
        assert_eq!(wait("{ not json } and no time"), None);
    }

    proptest::proptest! {
        #[test]
        fn garbage_is_tolerated(header in "[ -~]{0,40}", body in ".{0,200}", now in proptest::num::i64::ANY) {
            let mut map = HeaderMap::new();
            for name in ["retry-after", "retry-after-ms", "x-ratelimit-reset-tokens", "anthropic-ratelimit-tokens-reset"] {
                map.insert(name, HeaderValue::from_str(&header).unwrap());
            }
            let text = format!("try again in {body}");
            for body in [body.as_str(), text.as_str(), "{\"error\":{\"retryDelay\":\"1e308s\",\"quotaId\":\"PerDay\"}}"] {
                if let Some(at) = reset(&map, body.as_bytes(), Timestamp(now)) {
                    proptest::prop_assert!(at.0 >= now);
                }
            }
        }
    }
}
