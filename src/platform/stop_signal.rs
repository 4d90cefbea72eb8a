//! Requests to stop this process: SIGTERM and SIGINT.

use std::sync::OnceLock;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

static REQUESTS: OnceLock<watch::Sender<u32>> = OnceLock::new();

/// Counts requests from now on, so that none is lost that arrives while nobody waits for one. Until the first call, a
/// signal has its default action and ends the process; it keeps that if no handler can be installed.
///
/// # Panics
/// Outside a Tokio runtime.
pub fn listen() {
    REQUESTS.get_or_init(|| {
        let (requests, _) = watch::channel(0);
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(terminate), Ok(interrupt)) => drop(tokio::spawn(count(terminate, interrupt, requests.clone()))),
            (Err(error), _) | (_, Err(error)) => tracing::warn!(%error, "cannot handle SIGTERM and SIGINT"),
        }
        requests
    });
}

async fn count(mut terminate: Signal, mut interrupt: Signal, requests: watch::Sender<u32>) {
    loop {
        tokio::select! {
            _signal = terminate.recv() => {}
            _signal = interrupt.recv() => {}
        }
        requests.send_modify(|count| *count = count.saturating_add(1));
    }
}

/// Waits until this process has been asked to stop this many times since [`listen`] was first called.
pub async fn requested(times: u32) {
    listen();
    let Some(requests) = REQUESTS.get() else { return std::future::pending().await };
    let mut requests = requests.subscribe();
    if requests.wait_for(|count| *count >= times).await.is_err() {
        std::future::pending().await
    }
}
