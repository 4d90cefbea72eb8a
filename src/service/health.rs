//! Health of the service. Needs no right: probes have no token.

use super::{ErrorKind, ServiceError, ServiceResult, Services};
use std::time::Duration;
use tokio::time::timeout;

/// Time the store and the runtime have to answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Health of the service.
#[derive(Clone, Debug)]
pub struct Health {
    /// `ok`, or what is wrong.
    pub status: &'static str,
    /// Number of live runs.
    pub live: u64,
    /// Whether the store can be written.
    pub store: bool,
    /// Isolation level of commands.
    pub sandbox: String,
    /// Seconds since the start.
    pub uptime_secs: u64,
}

impl Health {
    /// Returns whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.status == "ok"
    }
}

/// Checks the store, the runtime and the sandbox.
pub async fn health(s: &Services) -> Health {
    let (store, live) = tokio::join!(store_answers(s), timeout(TIMEOUT, s.runtime.live()));
    let status = match (store, &live) {
        (false, _) => "the store cannot be written",
        (true, Err(_)) => "the runtime does not answer",
        (true, Ok(_)) if s.sandbox.broken().is_some() => "the sandbox is broken",
        (true, Ok(_)) => "ok",
    };
    Health {
        status,
        live: live.map_or(0, |runs| runs.len() as u64),
        store,
        sandbox: s.sandbox.level().to_owned(),
        uptime_secs: s.started_at.elapsed().as_secs(),
    }
}

/// Checks that the service can work.
///
/// # Errors
/// `unavailable` if the store cannot be written, `sandbox` if the sandbox is broken.
pub async fn ready(s: &Services) -> ServiceResult<()> {
    if let Some((what, fix)) = s.sandbox.broken() {
        return Err(ServiceError::new(ErrorKind::Unavailable, "sandbox", &*what, &*fix));
    }
    if store_answers(s).await {
        return Ok(());
    }
    Err(ServiceError::unavailable(
        "the store cannot be written, or did not answer within two seconds",
        "Check the database; the service resumes on its own once it answers",
    ))
}

async fn store_answers(s: &Services) -> bool {
    matches!(timeout(TIMEOUT, s.store.ping()).await, Ok(Ok(())))
}
