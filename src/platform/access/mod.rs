//! Access of a project's commands beyond the sandbox. It is granted in the configuration, by a person, and never by a
//! repository.

pub mod broker;
mod network_need;
pub mod settings;

pub use settings::{Grants, ProjectGrants};
