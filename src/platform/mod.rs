//! Infrastructure that adapters build on and that implements no port except the clock: processes, files, git, the
//! sandbox, the egress proxy.

pub mod access;
pub mod clock;
pub mod egress;
pub mod git;
pub mod process;
pub mod rooted_fs;
pub mod sandbox;
pub mod terminal_text;
