//! The file that a new spec starts from.

/// Returns a valid spec of that name, to be filled in.
pub fn template(id: &str) -> String {
    format!(
        r#"# A task spec: a goal with the criteria that decide whether it was delivered.
# Check it with `skep spec check FILE`, run it with `skep run --spec FILE`.
spec: 1
id: {id}
title: "Say in one line what should be different"
goal: |
  Describe what should be different when the run is done, and why.
  Name files, examples and limits that a developer would ask for.
acceptance:
  # A criterion with a command is tested: the command runs in a fresh checkout of the change
  # and exits with 0 if the criterion is met.
  - id: documented
    text: README.md describes the new behavior
    command: grep -q "new behavior" README.md
    timeout: 1m
  # A criterion without a command is judged by the reviewer.
  - id: readable-errors
    text: Every new error message says what failed and what to do next
non_goals:
  - What is not part of this goal, although it could seem so
forbidden_paths:
  - vendor/**
"#
    )
}
