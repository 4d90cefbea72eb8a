//! Shared test support: temporary databases, runs to store in them, and a simulated world with its checkers.

pub mod away;
pub mod baseline;
pub mod browser;
pub mod checker;
pub mod cli;
pub mod engines;
pub mod fixtures;
pub mod github;
pub mod models;
pub mod people;
pub mod postgres;
pub mod process;
pub mod program;
pub mod provider;
pub mod rest;
pub mod rng;
pub mod runs;
pub mod sameness;
pub mod sandbox;
pub mod schema;
pub mod search;
pub mod site;
pub mod sshd;
pub mod stores;
pub mod story;
pub mod world;
