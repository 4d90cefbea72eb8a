//! Named points where a test can end the process: `SKEP_FAULT=<name>[:<n>]` aborts at the n-th passing (from 1).
//!
//! With `SKEP_TEST_FAULTS=<file>` every passing adds its name to that file, so that a test knows how often each is reached.
//!
//! Invariant: release builds have none of it.

/// The names of all points, so that a test can go through them.
pub const POINTS: &[&str] = &[
    // The run's first row, and its lease.
    "before-open",
    "after-open",
    "after-take",
    "after-orphan",
    "before-give-back",
    // Each transition: decided, in the writer's hands, durable, acknowledged.
    "before-commit",
    "before-flush",
    "after-flush",
    "after-commit",
    // An attempt.
    "before-start",
    "after-start",
    "mid-checkout",
    "before-engine",
    "after-engine",
    "before-keep",
    "before-task-commit",
    "mid-task-commit",
    "after-task-commit",
    "before-report",
    // An act.
    "before-begin",
    "after-begin",
    "before-act",
    "after-act",
    // What acts do outside.
    "after-check",
    "mid-rebase",
    "before-push",
    "after-push",
    "before-change",
    "after-change",
    "before-comment",
    "after-comment",
    "before-land",
    "mid-land",
    "after-land-push",
    "mid-release",
    // The files of the data directory.
    "mid-secret",
    "mid-mirror",
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
    use std::io::Write;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    debug_assert!(POINTS.contains(&name), "fault point {name} is not listed");
    if let Some(path) = std::env::var_os("SKEP_TEST_FAULTS") {
        let told = std::fs::File::options().create(true).append(true).open(path);
        // One write: points are passed by many threads.
        told.and_then(|mut f| f.write_all(format!("{name}\n").as_bytes())).unwrap_or_else(|e| eprintln!("{name}: {e}"));
    }
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
