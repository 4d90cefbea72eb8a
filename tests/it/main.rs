//! The one integration-test binary.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod config;
mod otel;
mod telemetry;
