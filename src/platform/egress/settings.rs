//! The part of the egress proxy that the configuration uses.

pub use super::hosts::may_be_listed;
