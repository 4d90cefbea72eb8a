//! Infrastructure that adapters build on: processes, files, git, the sandbox, the egress proxy. The only ports
//! implemented here are the clock and isolation.

pub mod access;
pub mod clock;
pub mod egress;
pub mod git;
pub mod init;
pub mod process;
pub mod rooted_fs;
pub mod sandbox;
pub mod stop_signal;
pub mod terminal_text;
pub mod umask;
