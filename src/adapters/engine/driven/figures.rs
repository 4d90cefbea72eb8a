//! Usage that an agent reports about itself: used only if nothing was measured, and only if it is plausible.

use crate::domain::{Order, Usage};
use crate::providers::meter::Cap;
pub use crate::providers::prices::micros;

/// Returns the usage to charge for an unmetered agent: its own figures if they are plausible, else the reservation. No
/// agent reports its model calls. They are not counted, as any number would be made up.
pub fn charged(order: &Order, tokens: Option<u64>, cost_micros: Option<u64>) -> Usage {
    let reported = Usage { tokens: tokens.unwrap_or(0), cost_micros: cost_micros.unwrap_or(0), wall_ms: 0, turns: 0 };
    let (tokens, cost_micros) = if reported.is_absurd() { (None, None) } else { (tokens, cost_micros) };
    Usage {
        tokens: tokens.unwrap_or(order.caps.tokens),
        cost_micros: cost_micros.unwrap_or(order.caps.cost_micros),
        wall_ms: 0,
        turns: 0,
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
