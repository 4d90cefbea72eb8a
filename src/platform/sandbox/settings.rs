//! The part of the sandbox that the configuration uses: its levels, and the variables that secrets may not replace.

pub use super::environment::is_protected;
pub use super::policy::Level;
