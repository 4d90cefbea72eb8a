//! Forges: hosts of repositories and changes.

mod answer;
mod ci;
mod client;
mod comment;
pub mod forgejo;
pub mod github;
mod job_log;
pub mod local;
mod once;
pub mod permission;
mod rate;
mod rest;
mod secret;
pub mod settings;
mod unsure;
mod webhook;
