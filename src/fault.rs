//! Named points where a test can end the process: `SKEP_FAULT=<name>[:<n>]` aborts at the n-th passing (from 1).
//!
//! Invariant: release builds have none of it.

/// The names of all points, so that a test can go through them.
pub const POINTS: &[&str] = &[
    "before-commit",
    "after-commit",
    "before-start",
    "before-engine",
    "after-engine",
    "after-task-commit",
    "before-act",
    "after-act",
];

/// Marks a point.
#[macro_export]
macro_rules! fault {
    ($name:literal) => {
        #[cfg(debug_assertions)]
        $crate::fault::pass($name);
    };
}

/// Passes a point; aborts the process if a test asked for it.
#[cfg(debug_assertions)]
pub fn pass(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    debug_assert!(POINTS.contains(&name), "fault point {name} is not listed");
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("SKEP_FAULT").ok()?;
        let (name, n) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), n.parse().unwrap_or(1)))
    });
    if let Some((wanted, n)) = wanted
        && wanted == name
        && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *n
    {
        // No unwinding, no flushing: as a kill -9 would.
        std::process::abort();
    }
}
