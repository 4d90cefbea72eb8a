//! Model providers: who serves a model, what it costs, what has been used, and how fast it may be called.

pub mod meter;
pub mod meter_file;
pub mod prices;
pub mod quota;
pub mod rate_limit;
pub mod settings;
