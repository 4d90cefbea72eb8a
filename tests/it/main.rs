//! The one integration-test binary.

mod checks_contract;
mod config;
mod demo;
mod detect;
mod engines_contract;
mod factory;
mod hostile_bytes;
mod sandbox;
mod store_contract;
mod support;
mod telemetry;
