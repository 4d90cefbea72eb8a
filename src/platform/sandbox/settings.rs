//! The part of the sandbox that the configuration uses: its levels, the variables that may not be passed or replaced, and
//! the paths that may not be shown.

pub use super::environment::{decides_execution, is_protected};
pub use super::policy::Level;
pub use super::view::refusal_to_add;
