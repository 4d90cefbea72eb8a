//! Skep: a self-hosted software factory. See ARCHITECTURE.md for the map.

pub mod adapters;
pub mod domain;
pub mod ports;
