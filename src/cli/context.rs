//! The context of every command, and its REST client: of a running service if there is one, else of routes in this
//! process.

use super::client::{Client, Driver};
use super::exit::CliError;
use super::terminal::Terminal;
use crate::http::backend::Backend;
use crate::service::host::{HostContext, HostErrorKind};
use futures::future::BoxFuture;

/// How often a command that lost the race for the data directory tries to reach the winner.
const MAX_RACES: u32 = 20;

/// A command's context.
#[derive(Clone, Copy)]
pub struct CliContext<'a> {
    /// The installation, and the way to its routes.
    pub backend: &'a dyn Backend,
    /// The data directory, the configuration's sources and the log level.
    pub host: &'a HostContext,
    /// Where output goes and where questions are put.
    pub terminal: &'a Terminal,
}

/// Access a command needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads only.
    Read,
    /// Writes, but starts no work.
    Write,
    /// Drives runs.
    Drive,
}

/// A client, and the server that has to be shut down after it.
pub struct Connection {
    /// The client.
    pub client: Client,
    close: Option<BoxFuture<'static, ()>>,
}

impl Connection {
    /// Creates a connection to another process.
    pub fn remote(client: Client) -> Connection {
        Connection { client, close: None }
    }

    /// Shuts down the server that was started for this client, if any.
    pub async fn close(self) {
        if let Some(close) = self.close {
            close.await;
        }
    }
}

impl CliContext<'_> {
    /// Connects to a running service, or starts the routes in this process. Checking for a service first makes sure
    /// that a data directory never has two owners.
    pub async fn connect(&self, access: Access) -> Result<Connection, CliError> {
        let mut races = 0;
        loop {
            if let Some(service) = self.backend.running_service(self.host).await? {
                let driver = Driver { is_service: service.is_service, pid: service.pid };
                let client = Client::remote(&service.base_url, &service.token, driver)?;
                return Ok(Connection::remote(client));
            }
            let server = match access {
                Access::Read => self.backend.open_reading(self.host).await,
                Access::Write => self.backend.open_writing(self.host).await,
                Access::Drive => self.backend.open_driving(self.host).await,
            };
            match server {
                Ok(server) => {
                    return Ok(Connection {
                        client: Client::in_process(server.router, server.token),
                        close: Some(server.close),
                    });
                }
                // Another command locked the data directory first; it also answers for this one.
                Err(error) if races < MAX_RACES && error.kind == HostErrorKind::Locked => races += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }
}
