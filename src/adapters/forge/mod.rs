//! Forges: where people and code are.

pub mod local;
