//! Implementations of the ports. One file or folder each; an adapter does not use another adapter.

pub mod checks;
pub mod demo;
pub mod engine;
pub mod forge;
pub mod prompts;
pub mod runner;
pub mod store;
pub mod workspace;
