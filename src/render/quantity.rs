//! Amounts: money, durations, counts, usage.

use crate::domain::{BudgetKind, DiffStat, Timestamp, Usage};

/// Returns an amount of micro-USD: `$1.23`. Amounts below ten cents show two significant digits: `$0.0042`.
pub fn money(micros: u64) -> String {
    let digits = micros.checked_ilog10().map_or(0, |log| log + 1);
    // The number of micro-USD in the last digit shown.
    let unit = if micros >= 100_000 { 10_000 } else { 10_u64.pow(digits.saturating_sub(2)) };
    let rounded = micros.saturating_add(unit / 2) / unit * unit;
    let fraction = format!("{:06}", rounded % 1_000_000);
    let shown = fraction.trim_end_matches('0').len().max(2);
    format!("${}.{}", rounded / 1_000_000, &fraction[..shown])
}

/// Returns a duration: `340 ms`, `4.2 s`, `2 m 13 s`, `2 h 10 m`.
pub fn duration(ms: u64) -> String {
    let secs = ms / 1000;
    match secs {
        0 => format!("{ms} ms"),
        1..=59 => format!("{secs}.{} s", ms % 1000 / 100),
        60..=3599 => format!("{} m {} s", secs / 60, secs % 60),
        _ => format!("{} h {} m", secs / 3600, secs % 3600 / 60),
    }
}

/// Returns the duration between two moments.
pub fn elapsed(from: Timestamp, to: Timestamp) -> String {
    duration(u64::try_from(to.0.saturating_sub(from.0)).unwrap_or(0))
}

/// Returns a count with its noun: `1 task`, `2 tasks`.
pub fn count(n: u64, singular: &str) -> String {
    match (n, singular.strip_suffix('y')) {
        (1, _) => format!("1 {singular}"),
        // "retry" becomes "retries"; "key" becomes "keys".
        (_, Some(stem)) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{n} {stem}ies"),
        _ => format!("{n} {singular}s"),
    }
}

/// Returns a number of bytes: `340 B`, `4.2 KiB`, `1.5 MiB`, `2.0 GiB`.
pub fn bytes(n: u64) -> String {
    let in_unit = |unit: u64, name: &str| format!("{}.{} {name}", n / unit, n % unit * 10 / unit);
    match n {
        0..1024 => format!("{n} B"),
        1024..0x10_0000 => in_unit(1024, "KiB"),
        0x10_0000..0x4000_0000 => in_unit(0x10_0000, "MiB"),
        _ => in_unit(0x4000_0000, "GiB"),
    }
}

/// Returns the size of a diff: `3 files changed, +10 -2`.
pub fn files_changed(diff: &DiffStat) -> String {
    format!("{} changed, +{} -{}", count(diff.files_total, "file"), diff.added, diff.removed)
}

/// Returns an amount of usage: `3 m 5 s, 1200 tokens, $0.02, 3 model calls`. Zero amounts are omitted, except the time.
pub fn usage(usage: Usage) -> String {
    let mut parts = vec![duration(usage.wall_ms)];
    if usage.tokens > 0 {
        parts.push(count(usage.tokens, "token"));
    }
    if usage.cost_micros > 0 {
        parts.push(money(usage.cost_micros));
    }
    if usage.turns > 0 {
        parts.push(count(usage.turns, "model call"));
    }
    parts.join(", ")
}

/// Returns the noun of what a budget limits.
pub fn budget_word(budget: BudgetKind) -> &'static str {
    match budget {
        BudgetKind::Tokens => "tokens",
        BudgetKind::Cost => "money",
        BudgetKind::Turns => "model calls",
        BudgetKind::Time => "time",
        BudgetKind::StepTime => "time of a step",
        BudgetKind::Attempts => "attempts",
        BudgetKind::Rounds => "rounds of rework",
    }
}

/// Returns an amount of what a budget limits: micro-USD as money, seconds as a duration, other amounts as they are.
pub fn budget_amount(budget: BudgetKind, amount: u64) -> String {
    match budget {
        BudgetKind::Cost => money(amount),
        BudgetKind::Time | BudgetKind::StepTime => duration(amount.saturating_mul(1000)),
        BudgetKind::Tokens | BudgetKind::Turns | BudgetKind::Attempts | BudgetKind::Rounds => amount.to_string(),
    }
}

/// Returns text from outside as one line, so that it cannot pass for lines of Skep: breaks become spaces.
pub fn line(text: &str) -> String {
    let is_break = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    let words = text.split(is_break).map(str::trim).filter(|part| !part.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// Returns the first line that is not empty, cut to `max` characters.
pub fn brief(text: &str, max: usize) -> String {
    let line = text.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or("");
    let cut: String = line.chars().take(max).collect();
    let ellipsis = if line.chars().count() > max { "…" } else { "" };
    format!("{}{ellipsis}", cut.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_shows_cents_and_small_amounts_two_digits() {
        let table = [
            (0, "$0.00"),
            (1, "$0.000001"),
            (42, "$0.000042"),
            (4_200, "$0.0042"),
            (4_256, "$0.0043"),
            (9_990, "$0.01"),
            (42_500, "$0.043"),
            (50_000, "$0.05"),
            (99_999, "$0.10"),
            (230_000, "$0.23"),
            (1_234_567, "$1.23"),
            (1_235_000, "$1.24"),
            (5_000_000, "$5.00"),
            (12_000_000, "$12.00"),
        ];
        for (micros, text) in table {
            assert_eq!(money(micros), text, "{micros}");
        }
        assert!(money(u64::MAX).starts_with("$1844674407370"));
    }

    #[test]
    fn durations_and_counts_read_well() {
        let texts = [340, 4_250, 133_000, 7_800_000].map(duration);
        assert_eq!(texts, ["340 ms", "4.2 s", "2 m 13 s", "2 h 10 m"]);
        let counts = [count(1, "file"), count(3, "file"), count(2, "try"), count(2, "key"), count(0, "token")];
        assert_eq!(counts, ["1 file", "3 files", "2 tries", "2 keys", "0 tokens"]);
        assert_eq!([340, 4_301, 1_572_864, 1 << 31].map(bytes), ["340 B", "4.2 KiB", "1.5 MiB", "2.0 GiB"]);
        assert_eq!(brief("\n  first line\nsecond", 72), "first line");
        assert_eq!(brief("abcdef", 3), "abc…");
    }
}
