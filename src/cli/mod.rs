//! The command line: every command is a client of REST, in this process or of a running service.

pub mod args;
pub mod client;
pub mod exit;
pub mod parse;
pub mod render;
pub mod screen;
pub mod sse;
