//! Meters and bar charts. The numbers always stand next to them as text.

use maud::{Markup, html};

/// Width of a chart in its own units.
const WIDTH: u64 = 1_000;

/// Returns how much of a limit is used and reserved.
pub fn meter(used: u64, reserved: u64, limit: u64) -> Markup {
    let part =
        |n: u64| u64::try_from(u128::from(n.min(limit)) * u128::from(WIDTH) / u128::from(limit.max(1))).unwrap_or(0);
    let (used, all) = (part(used), part(used.saturating_add(reserved)));
    let level = match used {
        0..=799 => "ok",
        800..=999 => "near",
        _ => "full",
    };
    html! {
        svg class={ "meter " (level) } viewBox="0 0 1000 8" preserveAspectRatio="none" aria-hidden="true" focusable="false" {
            rect.rest width="1000" height="8" {}
            rect.reserved width=(all) height="8" {}
            rect.used width=(used) height="8" {}
        }
    }
}

/// Returns a bar as long as its share of the largest value.
pub fn bar(value: u64, max: u64) -> Markup {
    let width = u64::try_from(u128::from(value) * u128::from(WIDTH) / u128::from(max.max(1))).unwrap_or(WIDTH);
    // A small amount is not nothing.
    let width = if value > 0 { width.clamp(4, WIDTH) } else { 0 };
    html! {
        svg.bar viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true" focusable="false" {
            rect.used width=(width) height="10" {}
        }
    }
}
