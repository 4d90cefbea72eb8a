//! The one integration-test binary.

mod checks_contract;
mod demo;
mod detect;
mod engines_contract;
mod hostile_bytes;
mod sandbox;
