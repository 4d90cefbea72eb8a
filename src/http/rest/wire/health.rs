//! Health of the service.

use crate::service::health;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Health of the service.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`, or what is wrong.
    pub status: String,
    /// Version of the program.
    pub version: String,
    /// Number of live runs.
    pub live: u64,
    /// Whether the store can be written.
    pub store: bool,
    /// Isolation level of commands.
    pub sandbox: String,
    /// Seconds since the service started.
    pub uptime_secs: u64,
}

impl From<health::Health> for Health {
    fn from(health: health::Health) -> Health {
        Health {
            status: health.status.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            live: health.live,
            store: health.store,
            sandbox: health.sandbox,
            uptime_secs: health.uptime_secs,
        }
    }
}
