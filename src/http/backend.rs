//! How a client in this process reaches the REST routes: at a running service, or in a server of its own.

use crate::service::host::{Finding, Host, HostContext, HostResult};
use async_trait::async_trait;
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Running service.
#[derive(Clone, Debug)]
pub struct RunningService {
    /// Its base URL, such as `http://127.0.0.1:7117`.
    pub base_url: String,
    /// The token it expects.
    pub token: String,
    /// Whether it is a service, rather than a command that ends with its own runs.
    pub is_service: bool,
    /// Its process id.
    pub pid: u32,
}

/// REST routes in this process.
pub struct InProcessServer {
    /// The routes.
    pub router: axum::Router,
    /// The token they expect.
    pub token: String,
    /// Shuts down in order: releases leases, removes `service.json`.
    pub close: BoxFuture<'static, ()>,
}

/// Returns the URL of a path at an address, for a browser on this machine: an address that stands for all interfaces is
/// not one that a browser can name.
pub fn local_url(address: SocketAddr, path: &str) -> String {
    let address = match address {
        SocketAddr::V4(a) if a.ip().is_unspecified() => SocketAddr::from(([127, 0, 0, 1], a.port())),
        SocketAddr::V6(a) if a.ip().is_unspecified() => SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, a.port())),
        other => other,
    };
    format!("http://{address}{path}")
}

/// State of a service that has just become ready.
#[derive(Clone, Debug)]
pub struct ServiceReady {
    /// Where it listens.
    pub address: SocketAddr,
    /// Path of a link that logs the owner in to the pages once, if it could be created.
    pub login: Option<String>,
    /// The data directory.
    pub data_dir: PathBuf,
    /// Time from the start of the process until ready.
    pub startup: Duration,
    /// How many runs may work at once.
    pub max_live_runs: u32,
    /// Whether every merge needs the approval of a person.
    pub approve_merge: bool,
    /// The level of isolation reached.
    pub sandbox: &'static str,
    /// The engine of each role.
    pub engines: BTreeMap<&'static str, String>,
    /// Version of the price list; empty when it cannot be read.
    pub prices: String,
    /// Findings about engines and money that the owner of the service should see.
    pub findings: Vec<Finding>,
}

/// Everything a client in this process needs: the use cases of the installation, and a way to the routes.
#[async_trait]
pub trait Backend: Host {
    /// Finds the service that owns the data directory and answers, if there is one.
    async fn running_service(&self, context: &HostContext) -> HostResult<Option<RunningService>>;
    /// Locks the data directory and drives the runs that are requested from this process.
    async fn open_driving(&self, context: &HostContext) -> HostResult<InProcessServer>;
    /// Locks the data directory and writes, but starts no work.
    async fn open_writing(&self, context: &HostContext) -> HostResult<InProcessServer>;
    /// Reads without a lock.
    async fn open_reading(&self, context: &HostContext) -> HostResult<InProcessServer>;
    /// Drives all runs and serves REST until the process is asked to stop; calls `on_ready` once it listens.
    async fn serve(
        &self,
        context: &HostContext,
        listen: Option<&str>,
        on_ready: &(dyn Fn(ServiceReady) + Send + Sync),
    ) -> HostResult<()>;
}
