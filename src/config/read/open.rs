//! Keys of open work.

use super::super::reader::Reader;
use super::super::sections::Config;
use std::time::Duration;

/// Reads `[open]`.
pub(super) fn read(r: &mut Reader, c: &mut Config) {
    let o = &mut c.open;
    let mut duration = |key: &str, ms: &mut i64| {
        let mut value = Duration::from_millis(u64::try_from(*ms).unwrap_or(0));
        r.duration(key, &mut value, "1s", "30days");
        *ms = i64::try_from(value.as_millis()).unwrap_or(i64::MAX);
    };
    duration("open.patience", &mut o.patience_ms);
    duration("open.lease", &mut o.lease_ms);
    r.number("open.claims_per_agent", &mut o.claims_per_agent, 1..=20);
    r.number("open.claims_per_owner", &mut o.claims_per_owner, 1..=100);
    r.number("open.agents_per_owner", &mut o.agents_per_owner, 1..=100);
}
