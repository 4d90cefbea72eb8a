//! The command line: every command is a client of REST, in this process or of a running service.

pub mod answer;
pub mod args;
pub mod client;
pub mod exit;
pub mod follow;
pub mod list;
pub mod parse;
pub mod reach;
pub mod render;
pub mod run;
pub mod screen;
pub mod show;
pub mod sse;
pub mod summary;
pub mod words;
