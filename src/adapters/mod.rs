//! The ports' real counterparts. One file (or folder) each; none imports another's business.

pub mod process;
pub mod store;
