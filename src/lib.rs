//! Skep: a self-hosted software factory. See ARCHITECTURE.md for the map.

pub mod actors;
pub mod adapters;
pub mod app;
pub mod cli;
pub mod config;
pub mod domain;
pub mod fault;
pub mod http;
pub mod platform;
pub mod ports;
pub mod providers;
pub mod render;
pub mod secrets;
pub mod service;
pub mod specs;
pub mod telemetry;
