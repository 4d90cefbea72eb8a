//! Forges: hosts of repositories and changes.

mod answer;
mod ci;
mod client;
mod comment;
pub mod forgejo;
mod fork;
pub mod github;
pub mod gitlab;
mod job_log;
pub mod local;
mod once;
pub mod permission;
mod plain;
mod rate;
mod remote;
mod repo_name;
mod rest;
mod secret;
pub mod settings;
mod token;
mod unsure;
mod webhook;
