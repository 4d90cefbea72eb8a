//! Skep: a self-hosted software factory. See ARCHITECTURE.md for the map.

pub mod adapters;
pub mod config;
pub mod domain;
pub mod ports;
pub mod telemetry;
