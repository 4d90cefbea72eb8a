//! Parses amounts with units: durations, money and sizes. A number without a unit is refused, because it is ambiguous.

use figment::value::{Num, Value};
use std::time::Duration;

/// Reason why a text is not an amount, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Cause.
    pub why: String,
    /// The fix.
    pub fix: String,
}

fn unreadable<T>(why: impl Into<String>, fix: impl Into<String>) -> Result<T, Unreadable> {
    Err(Unreadable { why: why.into(), fix: fix.into() })
}

fn is_bare(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// Parses "30s", "20m", "1h 30m", "500ms", "2days".
///
/// # Errors
/// If the text is not a duration with a unit, or is longer than a year.
pub fn duration(text: &str) -> Result<Duration, Unreadable> {
    let text = text.trim();
    if text.is_empty() {
        return unreadable("a duration is required", "write one such as \"30s\", \"20m\" or \"4h\"");
    }
    if is_bare(text) {
        return unreadable(
            "a duration needs a unit",
            format!("write \"{text}s\" for seconds or \"{text}m\" for minutes"),
        );
    }
    match humantime::parse_duration(text) {
        Ok(d) if d.as_secs() > 366 * 86_400 => {
            unreadable("the duration is longer than a year", "write a shorter duration such as \"4h\"")
        }
        Ok(d) => Ok(d),
        Err(humantime::DurationError::NumberOverflow) => {
            unreadable("the duration is longer than a year", "write a shorter duration such as \"4h\"")
        }
        Err(_) => {
            unreadable("this is not a duration", "write a number and a unit: ms, s, m, h or days, such as \"30s\"")
        }
    }
}

/// Parses "5.00 USD" and returns micro-USD.
///
/// # Errors
/// If the text is not an amount in USD with at most six decimals.
pub fn money(text: &str) -> Result<u64, Unreadable> {
    let text = text.trim();
    if is_bare(text) {
        return unreadable("money needs a currency", format!("write \"{text} USD\""));
    }
    let example = "write an amount and USD, such as \"5.00 USD\"";
    if text.starts_with('$') {
        return unreadable("the currency must follow the amount, as USD", example);
    }
    if text.starts_with('-') {
        return unreadable("an amount cannot be negative", example);
    }
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (amount, unit) = text.split_at(at);
    match unit.trim() {
        "USD" => {}
        u if u.len() == 3 && u.bytes().all(|b| b.is_ascii_uppercase()) => {
            return unreadable("only USD is supported", "convert the amount and write it as USD, such as \"5.00 USD\"");
        }
        _ => return unreadable("this is not an amount of money", example),
    }
    let (whole, part) = amount.trim().split_once('.').unwrap_or((amount, ""));
    if part.len() > 6 {
        return unreadable("the amount has more than six decimals", "write at most six digits after the decimal point");
    }
    let micros = format!("{part:0<6}").parse::<u64>().ok();
    let sum = whole.parse::<u64>().ok().and_then(|w| w.checked_mul(1_000_000)).zip(micros);
    match sum.and_then(|(w, m)| w.checked_add(m)) {
        Some(n) => Ok(n),
        None if !whole.is_empty() && whole.bytes().all(|b| b.is_ascii_digit()) => {
            unreadable("the amount is too large", example)
        }
        None => unreadable("this is not an amount of money", example),
    }
}

/// Parses "512MiB", "4GiB", "2 TiB" and returns bytes.
///
/// # Errors
/// If the text is not a size with a unit, or is larger than 1 PiB.
pub fn size(text: &str) -> Result<u64, Unreadable> {
    let example = "write a number and a unit: KiB, MiB, GiB or TiB, such as \"4GiB\"";
    let text = text.trim();
    if is_bare(text) {
        return unreadable("a size needs a unit", format!("write \"{text}MiB\" or \"{text}GiB\""));
    }
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (count, unit) = text.split_at(at);
    let shift = match unit.trim() {
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return unreadable("this is not a size", example),
    };
    match count.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift)).filter(|n| *n <= 1 << 50) {
        Some(n) if n > 0 => Ok(n),
        _ => unreadable("the size is out of range", example),
    }
}

/// Formats micro-USD as "5.00 USD".
pub fn money_text(micros: u64) -> String {
    let (whole, part) = (micros / 1_000_000, micros % 1_000_000);
    let part = format!("{part:06}");
    let digits = part.trim_end_matches('0').len().max(2);
    format!("{whole}.{} USD", &part[..digits])
}

/// Returns the entries of a list of whole numbers, `None` for one that is none; in the environment separated by commas.
pub(super) fn whole_numbers(v: &Value, texts: bool) -> Option<Vec<Option<i128>>> {
    match v {
        Value::Array(_, items) => {
            let number = |item: &Value| match item {
                Value::Num(_, n) if !matches!(n, Num::F32(_) | Num::F64(_)) => n.to_i128(),
                _ => None,
            };
            Some(items.iter().map(number).collect())
        }
        Value::Num(_, n) if texts => Some(vec![n.to_i128()]),
        Value::String(_, s) if texts => {
            Some(s.split(',').map(str::trim).filter(|s| !s.is_empty()).map(|s| s.parse().ok()).collect())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_parsed_with_their_units() {
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(money("5.00 USD"), Ok(5_000_000));
        assert_eq!(money("0.000001 USD"), Ok(1));
        assert_eq!((size("4GiB"), size("1 KiB")), (Ok(4 << 30), Ok(1024)));
        for micros in [0, 1, 10_000, 5_000_000, 1_234_567] {
            assert_eq!(money(&money_text(micros)), Ok(micros));
        }
    }

    #[test]
    fn amounts_that_do_not_fit_are_called_too_large() {
        for long in ["9999999999999999999999h", "99999999999999999999s", "9999999999999999y", "400days"] {
            assert!(duration(long).is_err_and(|e| e.why.contains("longer than a year")), "{long}");
        }
        for large in ["99999999999999999999 USD", "9999999999999999 USD"] {
            assert!(money(large).is_err_and(|e| e.why == "the amount is too large"), "{large}");
        }
        assert!(size("99999999999999999999GiB").is_err_and(|e| e.why == "the size is out of range"));
    }

    #[test]
    fn numbers_without_units_are_refused_with_the_fix() {
        assert!(duration("30").is_err_and(|e| e.fix.contains("\"30s\"")));
        assert!(size("5").is_err_and(|e| e.fix.contains("\"5MiB\"")));
        for bad in ["", "GiB", "4GB", "0MiB", "-1MiB", "99999999999TiB", "1.5GiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert!(money("5").is_err_and(|e| e.fix.contains("\"5 USD\"")));
        for bad in ["5 EUR", "$5", "-1 USD", "1.1234567 USD", "USD", "99999999999999999999 USD", ". USD"] {
            assert!(money(bad).is_err(), "{bad}");
        }
    }
}
