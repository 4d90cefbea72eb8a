//! Implementations of the ports, one file or folder each. Adapters do not use each other, except that `checks`
//! and `deploy` use `runner`.

pub mod backup;
pub mod checks;
pub mod demo;
pub mod deploy;
pub mod engine;
pub mod eval;
pub mod forge;
pub mod notify;
pub mod oidc;
pub mod prompts;
pub mod runner;
pub mod store;
pub mod workspace;
