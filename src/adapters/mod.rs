//! The ports' real counterparts. One file (or folder) each; none imports another's business.

pub mod forge;
pub mod git;
pub mod process;
pub mod workspace;
