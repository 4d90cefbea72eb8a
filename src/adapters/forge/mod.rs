//! Forges: hosts of repositories and changes.

mod comment;
pub mod github;
pub mod local;
pub mod settings;
