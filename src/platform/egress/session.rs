//! One attempt's way out while it is open: what it may reach, what was refused, what went wrong.

use super::hosts::{Hosts, Resolver};
use crate::domain::Timestamp;
use crate::ports::Clock;
use crate::providers::meter::Meter;
use crate::providers::rate_limit::Limits;
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

/// Denials that are told one by one.
const DENIALS_MAX: usize = 256;
/// Silence after which a plain request's body is given up.
const IDLE: Duration = Duration::from_secs(300);

/// What a pass may do.
#[derive(Debug)]
pub struct SessionSpec {
    /// The providers its calls may go to.
    pub providers: Vec<Provider>,
    /// Hosts it may reach besides: `pypi.org`, `*.crates.io:443`, `10.0.0.5:3000`. A name reaches public addresses only, unless the
    /// address is listed, too.
    pub hosts: Vec<String>,
    /// What its calls are counted on and held to.
    pub meter: Arc<Meter>,
    /// Whose it is, for the log.
    pub label: String,
}

/// What kept the last call from its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The provider.
    pub provider: String,
    /// The model that was asked; "" = none was.
    pub model: String,
    /// When that was.
    pub at: Timestamp,
    /// What it answered; `None` = nothing, or nothing in time.
    pub status: Option<u16>,
    /// What happened, in plain words without a key.
    pub why: String,
    /// When it can be asked again, where that is known.
    pub until: Option<Timestamp>,
    /// What a person has to do first; `None` = waiting helps.
    pub fix: Option<String>,
}

/// What all passes share.
pub struct SharedState {
    pub(super) limits: Limits,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) resolver: Arc<dyn Resolver>,
    /// To providers elsewhere: by the operator's proxy, if there is one.
    pub(super) far: reqwest::Client,
    /// To providers on this machine.
    pub(super) near: reqwest::Client,
    /// Room for requests' bodies, in pieces.
    pub(super) room: Arc<Semaphore>,
}

/// A pass that is open.
pub struct SessionState {
    pub(super) shared: Arc<SharedState>,
    pub(super) providers: BTreeMap<String, Provider>,
    pub(super) hosts: Hosts,
    pub(super) resolver: Arc<dyn Resolver>,
    pub(super) meter: Arc<Meter>,
    pub(super) token: Secret,
    pub(super) closed: CancellationToken,
    /// Bytes carried to and from hosts.
    pub(super) traffic: AtomicU64,
    label: String,
    denials: Mutex<BTreeSet<(String, String)>>,
    fault: Mutex<Option<Fault>>,
}

impl fmt::Debug for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open").field("label", &self.label).finish_non_exhaustive()
    }
}

impl SessionState {
    pub(super) fn new(shared: Arc<SharedState>, pass: SessionSpec, token: Secret) -> Result<SessionState, String> {
        Ok(SessionState {
            hosts: Hosts::parse(&pass.hosts)?,
            resolver: shared.resolver.clone(),
            shared,
            providers: pass.providers.into_iter().map(|p| (p.name.clone(), p)).collect(),
            meter: pass.meter,
            token,
            closed: CancellationToken::new(),
            traffic: AtomicU64::new(0),
            label: pass.label,
            denials: Mutex::default(),
            fault: Mutex::default(),
        })
    }

    /// Notes what was refused; each once in the log.
    pub(super) fn deny(&self, what: &str, why: &str) {
        let mut denials = self.denials.lock().unwrap_or_else(PoisonError::into_inner);
        if denials.len() < DENIALS_MAX && denials.insert((what.to_owned(), why.to_owned())) {
            // Escaped: it is an agent's text.
            tracing::warn!(pass = ?self.label, ?what, why, "refused at the gate");
        }
    }

    /// What was refused so far, with the reason.
    pub(super) fn denials(&self) -> Vec<(String, String)> {
        self.denials.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Notes what kept a call from its answer, or that one got it.
    pub(super) fn note(&self, fault: Option<Fault>) {
        if let Some(fault) = &fault {
            tracing::info!(pass = ?self.label, provider = ?fault.provider, status = fault.status, why = ?fault.why, "a model's provider gave no answer");
        }
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a text is this pass's token; takes as long for any text of its length.
    pub(super) fn is_token(&self, text: &str) -> bool {
        let token = self.token.expose().as_bytes();
        let differs = token.iter().zip(text.as_bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
        token.len() == text.len() && differs == 0
    }
}

/// A body whose bytes are counted, and which is given up when it is silent.
pub(super) fn counted(body: Body, open: Arc<SessionState>) -> Body {
    let data = body.into_data_stream().map(|piece| piece.map_err(io::Error::other));
    Body::from_stream(unless_silent(data, IDLE).inspect(move |piece| {
        if let Ok(bytes) = piece {
            open.traffic.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
    }))
}

/// A stream that ends with an error when nothing comes for `silence`.
pub(super) fn unless_silent(
    from: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    silence: Duration,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    futures::stream::unfold(Some(Box::pin(from)), move |from| async move {
        let mut from = from?;
        match tokio::time::timeout(silence, from.next()).await {
            Ok(Some(Ok(bytes))) => Some((Ok(bytes), Some(from))),
            Ok(Some(Err(error))) => Some((Err(error), None)),
            Ok(None) => None,
            Err(_) => Some((Err(io::Error::new(io::ErrorKind::TimedOut, "silent for too long")), None)),
        }
    })
}
