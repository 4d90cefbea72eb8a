//! Model providers: endpoints, prices, usage metering, rate limits and quota resets.

pub mod meter;
pub mod meter_file;
pub mod prices;
pub mod quota;
pub mod rate_limit;
pub mod settings;
