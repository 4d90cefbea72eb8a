//! The one integration-test binary.

mod forge_contract;
mod git_cut;
mod git_measure;
mod git_world;
mod hostile_git;
mod workspace_contract;
