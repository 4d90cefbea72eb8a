//! Adds up amounts of money written as text, without floating point.

/// Why an amount could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// It is not a number like `12`, `12.3` or `12.34`.
    NotAnAmount(String),
}

/// Reads an amount like `12.34` as whole cents.
pub fn cents(text: &str) -> Result<i64, Error> {
    let wrong = || Error::NotAnAmount(text.to_string());
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), "0"));
    let whole: i64 = whole.parse().map_err(|_| wrong())?;
    let fraction: i64 = fraction.parse().map_err(|_| wrong())?;
    Ok(whole * 100 + fraction)
}

/// Adds up a list, one amount a line; empty lines are skipped.
pub fn total(list: &str) -> Result<i64, Error> {
    list.lines().filter(|line| !line.trim().is_empty()).map(cents).sum()
}
