//! Usage that an agent reports about itself: used only if nothing was measured, and only if it is plausible.

use crate::domain::{Order, Usage};
use crate::providers::meter::Cap;

/// Converts US dollars to micro-USD; `None` if the amount is invalid.
pub fn micros(usd: f64) -> Option<u64> {
    let micros = (usd * 1_000_000.0).ceil();
    // Within the exact range of a float; larger amounts are absurd anyway.
    (micros.is_finite() && (0.0..=9.0e15).contains(&micros)).then_some(micros as u64)
}

/// Returns the usage to charge for an unmetered agent: its own figures if they are plausible, else the reservation.
pub fn charged(order: &Order, tokens: Option<u64>, cost_micros: Option<u64>) -> Usage {
    let reported = Usage { tokens: tokens.unwrap_or(0), cost_micros: cost_micros.unwrap_or(0), wall_ms: 0, turns: 0 };
    let (tokens, cost_micros) = if reported.is_absurd() { (None, None) } else { (tokens, cost_micros) };
    Usage {
        tokens: tokens.unwrap_or(order.caps.tokens),
        cost_micros: cost_micros.unwrap_or(order.caps.cost_micros),
        wall_ms: 0,
        turns: order.caps.turns,
    }
}

/// Returns the budget that an agent exceeds by its own figures.
pub fn over(order: &Order, tokens: Option<u64>, cost_micros: Option<u64>) -> Option<Cap> {
    let above = |used: Option<u64>, cap: u64| cap > 0 && used.is_some_and(|u| u > cap);
    if above(cost_micros, order.caps.cost_micros) {
        return Some(Cap::Cost);
    }
    above(tokens, order.caps.tokens).then_some(Cap::Tokens)
}
