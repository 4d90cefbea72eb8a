//! The ports' real counterparts. One file (or folder) each; none imports another's business.

pub mod beneath;
pub mod checks;
pub mod clock;
pub mod demo;
pub mod engine;
pub mod forge;
pub mod gate;
pub mod git;
pub mod grants;
pub mod places;
pub mod plain;
pub mod process;
pub mod prompts;
pub mod sandbox;
pub mod store;
pub mod workspace;
