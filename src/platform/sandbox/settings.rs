//! What the configuration needs to know of the sandbox: its levels, and the variables that secrets may not replace.

pub use super::environment::is_protected;
pub use super::policy::Level;
