//! Fault points: named points at which a test can abort the process. `SKEP_FAULT=<name>[:<n>]` aborts at the n-th pass,
//! counted from 1.
//!
//! With `SKEP_TEST_FAULTS=<file>`, every pass appends the name to that file, so that a test knows how often each point
//! is reached.
//!
//! Invariant: release builds contain no fault points.

/// The names of all fault points, so that a test can iterate over them.
pub const POINTS: &[&str] = &[
    // The first row of a run, and its lease.
    "before-open",
    "after-open",
    "after-take",
    "after-orphan",
    "before-give-back",
    // Each transition: decided, queued for the writer, durable, acknowledged.
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
    // An operation.
    "before-begin",
    "after-begin",
    "before-act",
    "after-act",
    // External effects of operations.
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
    "mid-working-copy",
    "mid-release",
    // What an ended run has shown.
    "before-memory",
    "after-memory",
    // The files of the data directory.
    "mid-secret",
    "mid-mirror",
    // A restore: the marker is written, the files are, the store is.
    "restore-begun",
    "restore-files",
    "restore-loaded",
];

/// The names of the fault points of the intake from forges, which a run from the command line does not pass.
pub const INTAKE_POINTS: &[&str] =
    &["before-delivery", "after-delivery", "after-issue-claim", "after-command", "before-settle", "before-issue-close"];

/// Fault points of schedules.
pub const SCHEDULE_POINTS: &[&str] = &["after-schedule-claim", "before-schedule-settle"];

/// The names of the fault points of messages to people, which only a service passes.
pub const MESSAGE_POINTS: &[&str] =
    &["before-message-stored", "after-message-stored", "before-message", "after-message"];

/// The names of the fault points of submissions by outside agents.
pub const OPEN_WORK_POINTS: &[&str] = &["mid-submission", "after-submission"];

/// The names of the fault points of deployments, which only a service passes.
pub const DEPLOY_POINTS: &[&str] = &[
    "after-rollout-queued",
    "after-rollout-start",
    "after-deploy-send",
    "after-deploy-config",
    "after-deploy-up",
    "after-deploy-command",
    "after-deploy-hook",
    "after-deploy-finish",
    "after-rollout-checks",
    "after-rollout-deploy",
    "after-rollout-test",
    "after-rollout-back",
    "before-rollout-end",
];

/// Fault points of the watch over what runs have landed, which only a service passes.
pub const LANDING_POINTS: &[&str] = &["after-landing-judged", "after-revert-proposed", "after-landing-comment"];

/// Fault points of forks, which only a run on a forge without write access passes.
pub const FORK_POINTS: &[&str] = &["before-fork", "after-fork"];

/// Marks a fault point.
#[macro_export]
macro_rules! fault {
    ($name:literal) => {
        #[cfg(debug_assertions)]
        $crate::fault::pass($name);
    };
}

/// Passes a fault point and aborts the process if a test requested it.
#[cfg(debug_assertions)]
pub fn pass(name: &str) {
    use std::io::Write;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static REQUESTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let lists = [
        POINTS,
        INTAKE_POINTS,
        SCHEDULE_POINTS,
        MESSAGE_POINTS,
        OPEN_WORK_POINTS,
        DEPLOY_POINTS,
        LANDING_POINTS,
        FORK_POINTS,
    ];
    let is_listed = lists.iter().any(|points| points.contains(&name));
    debug_assert!(is_listed, "fault point {name} is not listed");
    if let Some(path) = std::env::var_os("SKEP_TEST_FAULTS") {
        let file = std::fs::File::options().create(true).append(true).open(path);
        // A single write, because many threads pass fault points.
        file.and_then(|mut f| f.write_all(format!("{name}\n").as_bytes())).unwrap_or_else(|e| eprintln!("{name}: {e}"));
    }
    let requested = REQUESTED.get_or_init(|| {
        let text = std::env::var("SKEP_FAULT").ok()?;
        let (name, n) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), n.parse().unwrap_or(1)))
    });
    if let Some((requested, n)) = requested
        && requested == name
        && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *n
    {
        // No unwinding and no flushing, like kill -9.
        std::process::abort();
    }
}
