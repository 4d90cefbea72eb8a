//! Obeys a forge's rate limits: after an answer that says so, no request is sent until the limit is reset.

use super::answer::Answer;
use crate::telemetry::{Gauge, metrics};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Pause after a secondary limit that names none.
const SECONDARY_PAUSE: Duration = Duration::from_secs(60);
/// Upper bound on a pause: the primary limit is reset every hour.
const MAX_PAUSE: Duration = Duration::from_secs(3_700);

/// Blocks requests until a limit is reset.
#[derive(Default)]
pub(super) struct RateGate(Mutex<Option<Instant>>);

impl RateGate {
    /// Returns how long to wait before the next request; `None` = it may be sent now.
    pub fn wait(&self) -> Option<Duration> {
        let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        until.map(|until| until.saturating_duration_since(Instant::now())).filter(|wait| !wait.is_zero())
    }

    /// Notes what an answer says about the limits.
    pub fn observe(&self, answer: &Answer, kind: &'static str) {
        if is_core(answer) {
            let set = |gauge: &Gauge, name: &str| {
                if let Some(requests) = number(answer, name) {
                    gauge.set(requests as f64, &[("forge", kind)]);
                }
            };
            set(&metrics().forge_quota, "x-ratelimit-remaining");
            set(&metrics().forge_quota_limit, "x-ratelimit-limit");
        }
        let Some(pause) = pause(answer, SystemTime::now()) else { return };
        let until = Instant::now() + pause;
        let mut blocked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *blocked = Some(blocked.map_or(until, |before| before.max(until)));
    }
}

/// Returns a number from a header. GitLab's names are the same without the `x-`.
fn number(answer: &Answer, name: &str) -> Option<u64> {
    let value = |name: &str| answer.headers.get(name)?.to_str().ok()?.trim().parse().ok();
    value(name).or_else(|| value(name.strip_prefix("x-")?))
}

/// Returns whether the answer's numbers are those of the REST limit.
fn is_core(answer: &Answer) -> bool {
    answer.headers.get("x-ratelimit-resource").is_none_or(|resource| resource == "core")
}

/// Returns the pause that an answer demands. GitHub's GraphQL has a limit of its own, which Skep does not come near.
pub(super) fn pause(answer: &Answer, now: SystemTime) -> Option<Duration> {
    let is_refused = matches!(answer.status.as_u16(), 403 | 429);
    let after = number(answer, "retry-after").map(Duration::from_secs);
    let is_used_up = number(answer, "x-ratelimit-remaining") == Some(0);
    let is_core = is_core(answer);
    let until_reset = || {
        let reset = UNIX_EPOCH + Duration::from_secs(number(answer, "x-ratelimit-reset")?);
        // The clocks may differ by a second.
        Some(reset.duration_since(now).unwrap_or_default() + Duration::from_secs(1))
    };
    let secondary = || {
        let text = String::from_utf8_lossy(&answer.body).to_ascii_lowercase();
        text.contains("rate limit") || text.contains("abuse detection")
    };
    let pause = match () {
        () if is_refused && after.is_some() => after,
        () if is_used_up && (is_core || is_refused) => until_reset().or(Some(SECONDARY_PAUSE)),
        () if answer.status.as_u16() == 429 || is_refused && secondary() => Some(SECONDARY_PAUSE),
        () => None,
    };
    pause.map(|pause| pause.min(MAX_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        Answer { status: status.try_into().unwrap(), headers, body: body.into() }
    }

    #[test]
    fn a_pause_is_what_the_forge_demands() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        let seconds = |a: &Answer| pause(a, now).map(|p| p.as_secs());
        assert_eq!(seconds(&answer(429, &[("retry-after", "7")], "")), Some(7));
        assert_eq!(seconds(&answer(403, &[("retry-after", "999999")], "")), Some(3_700));
        let used_up = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1030"), ("x-ratelimit-resource", "core")];
        assert_eq!(seconds(&answer(200, &used_up, "")), Some(31));
        assert_eq!(seconds(&answer(403, &used_up, "")), Some(31));
        assert_eq!(seconds(&answer(403, &[], "You have exceeded a secondary rate limit.")), Some(60));
        assert_eq!(seconds(&answer(403, &[("x-ratelimit-remaining", "12")], "Resource not accessible")), None);
        assert_eq!(
            seconds(&answer(200, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-resource", "search")], "")),
            None
        );
        assert_eq!(seconds(&answer(502, &[("retry-after", "7")], "")), None);
        let of_gitlab = [("ratelimit-remaining", "0"), ("ratelimit-reset", "1030")];
        assert_eq!(seconds(&answer(200, &of_gitlab, "")), Some(31));
        assert_eq!(seconds(&answer(429, &[("ratelimit-remaining", "0")], "Retry later")), Some(60));
    }
}
