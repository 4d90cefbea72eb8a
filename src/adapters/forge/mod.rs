//! Forges: hosts of repositories and changes.

pub mod local;
