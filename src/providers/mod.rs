//! Model providers: endpoints, prices, usage metering, rate limits, and what their errors mean.

pub mod cause;
pub mod clock_time;
pub mod meter;
pub mod meter_file;
pub mod prices;
pub mod quota;
pub mod rate_limit;
pub mod settings;
