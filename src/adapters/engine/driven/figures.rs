//! An agent's own figures of what it used: believed only where nothing was counted, and only as far as they can be true.

use crate::domain::{Order, Usage};
use crate::providers::meter::Cap;

/// Money in US dollars as micro-USD; `None` for what is no amount.
pub fn micros(usd: f64) -> Option<u64> {
    let micros = (usd * 1_000_000.0).ceil();
    // Within what a float counts exactly; anything larger is absurd anyway.
    (micros.is_finite() && (0.0..=9.0e15).contains(&micros)).then_some(micros as u64)
}

/// What is charged for an agent that was not metered: its own figures where they are there and sane, else what was set aside.
pub fn charged(order: &Order, tokens: Option<u64>, cost_micros: Option<u64>) -> Usage {
    let said = Usage { tokens: tokens.unwrap_or(0), cost_micros: cost_micros.unwrap_or(0), wall_ms: 0, turns: 0 };
    let (tokens, cost_micros) = if said.is_absurd() { (None, None) } else { (tokens, cost_micros) };
    Usage {
        tokens: tokens.unwrap_or(order.caps.tokens),
        cost_micros: cost_micros.unwrap_or(order.caps.cost_micros),
        wall_ms: 0,
        turns: order.caps.turns,
    }
}

/// What an agent says it has spent against what it was given.
pub fn over(order: &Order, tokens: Option<u64>, cost_micros: Option<u64>) -> Option<Cap> {
    let above = |used: Option<u64>, cap: u64| cap > 0 && used.is_some_and(|u| u > cap);
    if above(cost_micros, order.caps.cost_micros) {
        return Some(Cap::Cost);
    }
    above(tokens, order.caps.tokens).then_some(Cap::Tokens)
}
