//! An open proxy session of one attempt: what it may reach, what was denied, what failed.

use super::hosts::{Hosts, Resolver};
use crate::domain::Timestamp;
use crate::ports::Clock;
use crate::providers::meter::Meter;
use crate::providers::rate_limit::RateLimits;
use crate::providers::settings::Provider;
use crate::secrets::Secret;
use axum::body::{Body, Bytes};
use futures::{Stream, StreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Maximum number of denials recorded for a session.
const DENIALS_MAX: usize = 256;
/// Idle timeout for the body of a plain HTTP request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// Specification of a session: what it may reach, and how its calls are limited.
#[derive(Debug)]
pub struct SessionSpec {
    /// The providers it may call.
    pub providers: Vec<Provider>,
    /// The hosts it may reach: `pypi.org`, `*.crates.io:443`, `10.0.0.5:3000`. A name only reaches public addresses,
    /// unless the address is listed as well.
    pub hosts: Vec<String>,
    /// Counts and limits its model calls.
    pub meter: Arc<Meter>,
    /// Owner of the session, for logs.
    pub label: String,
}

/// Why the last model call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Name of the provider.
    pub provider: String,
    /// Requested model; empty if the request named none.
    pub model: String,
    /// Time of the failure.
    pub at: Timestamp,
    /// HTTP status of the response; `None` = no response, or none in time.
    pub status: Option<u16>,
    /// Description of the failure, for people and without the key.
    pub why: String,
    /// When the provider may be called again, if known.
    pub until: Option<Timestamp>,
    /// Action that a person has to take first; `None` = waiting helps.
    pub fix: Option<String>,
}

/// State shared by all sessions.
pub struct SharedState {
    pub(super) limits: RateLimits,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) resolver: Arc<dyn Resolver>,
    /// Client for remote providers; uses the operator's proxy, if there is one.
    pub(super) remote_client: reqwest::Client,
    /// Client for providers on this machine.
    pub(super) local_client: reqwest::Client,
    /// Memory available for request bodies, in chunks.
    pub(super) body_memory: Arc<Semaphore>,
}

/// State of an open session.
pub struct SessionState {
    pub(super) shared: Arc<SharedState>,
    pub(super) providers: BTreeMap<String, Provider>,
    pub(super) hosts: Hosts,
    pub(super) resolver: Arc<dyn Resolver>,
    pub(super) meter: Arc<Meter>,
    pub(super) token: Secret,
    pub(super) closed: CancellationToken,
    /// Bytes relayed to and from hosts.
    pub(super) traffic: AtomicU64,
    label: String,
    denials: Mutex<BTreeSet<(String, String)>>,
    /// Entries of the list of hosts that would have allowed what was denied.
    missing_hosts: Mutex<BTreeSet<String>>,
    /// Allowed hosts that could not be reached, with the reason.
    unreachable: Mutex<BTreeMap<String, String>>,
    fault: Mutex<Option<Fault>>,
}

impl fmt::Debug for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionState").field("label", &self.label).finish_non_exhaustive()
    }
}

impl SessionState {
    pub(super) fn new(shared: Arc<SharedState>, spec: SessionSpec, token: Secret) -> Result<SessionState, String> {
        Ok(SessionState {
            hosts: Hosts::parse(&spec.hosts)?,
            resolver: shared.resolver.clone(),
            shared,
            providers: spec.providers.into_iter().map(|p| (p.name.clone(), p)).collect(),
            meter: spec.meter,
            token,
            closed: CancellationToken::new(),
            traffic: AtomicU64::new(0),
            label: spec.label,
            denials: Mutex::default(),
            missing_hosts: Mutex::default(),
            unreachable: Mutex::default(),
            fault: Mutex::default(),
        })
    }

    /// Records a denial, and logs it the first time.
    pub(super) fn deny(&self, what: &str, why: &str) {
        let mut denials = self.denials.lock().unwrap_or_else(PoisonError::into_inner);
        if denials.len() < DENIALS_MAX && denials.insert((what.to_owned(), why.to_owned())) {
            // Logged escaped: it is the agent's text.
            tracing::warn!(session = ?self.label, ?what, why, "the egress proxy denied a request");
        }
    }

    /// Records a denied connection; `entry` would allow it.
    pub(super) fn deny_host(&self, name: &str, why: &str, entry: Option<String>) {
        self.deny(name, why);
        let mut missing = self.missing_hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = missing.len() < DENIALS_MAX;
        missing.extend(entry.filter(|_| has_room));
    }

    pub(super) fn missing_hosts(&self) -> Vec<String> {
        self.missing_hosts.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Records whether an allowed host could be reached the last time; `Err` has the reason.
    pub(super) fn set_reached(&self, name: &str, reached: Result<(), String>) {
        let mut unreachable = self.unreachable.lock().unwrap_or_else(PoisonError::into_inner);
        match reached {
            Ok(()) => drop(unreachable.remove(name)),
            Err(why) if unreachable.len() < DENIALS_MAX => drop(unreachable.insert(name.to_owned(), why)),
            Err(_) => {}
        }
    }

    /// Returns the allowed hosts that could not be reached, with the reasons.
    pub(super) fn unreachable(&self) -> Vec<(String, String)> {
        let unreachable = self.unreachable.lock().unwrap_or_else(PoisonError::into_inner);
        unreachable.iter().map(|(name, why)| (name.clone(), why.clone())).collect()
    }

    /// Returns the denials so far, with their reasons.
    pub(super) fn denials(&self) -> Vec<(String, String)> {
        self.denials.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Records the result of a model call: why it failed, or `None` if it succeeded.
    pub(super) fn set_fault(&self, fault: Option<Fault>) {
        if let Some(fault) = &fault {
            tracing::info!(session = ?self.label, provider = ?fault.provider, status = fault.status, why = ?fault.why, "a model call failed");
        }
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Compares a text with this session's token in time that only depends on the length.
    pub(super) fn is_token(&self, text: &str) -> bool {
        let token = self.token.expose().as_bytes();
        let differs = token.iter().zip(text.as_bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
        token.len() == text.len() && differs == 0
    }
}

/// Wraps a body so that its bytes are counted and it fails when it stalls.
pub(super) fn count_traffic(body: Body, session: Arc<SessionState>) -> Body {
    let data = body.into_data_stream().map(|piece| piece.map_err(io::Error::other));
    Body::from_stream(with_idle_timeout(data, IDLE_TIMEOUT).inspect(move |piece| {
        if let Ok(bytes) = piece {
            session.traffic.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
    }))
}

/// Wraps a stream so that it fails when nothing arrives for `idle_timeout`.
pub(super) fn with_idle_timeout(
    stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    idle_timeout: Duration,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    futures::stream::unfold(Some(Box::pin(stream)), move |stream| async move {
        let mut stream = stream?;
        match tokio::time::timeout(idle_timeout, stream.next()).await {
            Ok(Some(Ok(bytes))) => Some((Ok(bytes), Some(stream))),
            Ok(Some(Err(error))) => Some((Err(error), None)),
            Ok(None) => None,
            Err(_) => Some((Err(io::Error::new(io::ErrorKind::TimedOut, "no data within the idle timeout")), None)),
        }
    })
}
