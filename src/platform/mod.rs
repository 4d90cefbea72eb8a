//! Tools that several adapters build on and that implement no port of the product: processes, files, git, the sandbox, and the
//! egress proxy.

pub mod access;
pub mod clock;
pub mod egress;
pub mod git;
pub mod process;
pub mod rooted_fs;
pub mod sandbox;
pub mod terminal_text;
