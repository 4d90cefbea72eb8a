//! Metrics of a service: the listener without a token, and the readings that an export needs.

use super::http_state;
use crate::config::Config;
use crate::http;
use crate::service::Services;
use crate::service::host::{HostError, HostResult};
use crate::service::metrics::refresh;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Interval at which values of the store are read for the OTLP export.
const REFRESH_INTERVAL: Duration = Duration::from_secs(15);

/// Starts what `[telemetry]` asks for. Dropping the set ends it.
pub(super) async fn start(services: &Services, config: &Config) -> HostResult<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    if config.telemetry.otlp_endpoint.is_some() {
        let services = services.clone();
        tasks.spawn(async move {
            let mut interval = tokio::time::interval(REFRESH_INTERVAL);
            loop {
                interval.tick().await;
                refresh(&services).await;
            }
        });
    }
    if let Some(address) = config.telemetry.metrics_listen {
        let listener = TcpListener::bind(address).await.map_err(|e| {
            HostError::config(
                format!("cannot listen on {address}: {e}"),
                "choose another address in telemetry.metrics_listen",
            )
        })?;
        // No route of this router looks at a token.
        let router = http::metrics_router(http_state(services.clone(), config, "")?);
        tasks.spawn(async move {
            if let Err(error) = http::serve(listener, router, std::future::pending()).await {
                tracing::error!(%error, "the listener for metrics ended");
            }
        });
    }
    Ok(tasks)
}
