//! Listener: limits connections and header time, and lets requests finish when it stops.
//!
//! Connections without a request in progress never keep others out: when all are taken, the one that has been idle for
//! longest makes room.

use super::auth::Peer;
use super::limits::MAX_HEAD_BYTES;
use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt;

/// Maximum number of connections.
const MAX_CONNECTIONS: usize = 256;
/// Time limit for the head of a request; also the idle time after which a connection is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that requests have to finish after the stop.
const GRACE: Duration = Duration::from_secs(5);

/// Serves until `stop` is ready. Then accepts nothing new, gives requests a moment to finish, and returns.
///
/// # Errors
/// None at present; connections that fail are logged.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send,
) -> std::io::Result<()> {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let idle = IdleConnections::default();
    let (closing, _) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    let mut next_id = 0_u64;
    'serving: loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            Some(_ended) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = accept(&listener) => accepted,
        };
        let Some((stream, peer)) = accepted else { continue };
        // An idle connection makes room only when another one is there.
        if permits.available_permits() == 0 {
            idle.evict_oldest();
        }
        let permit = loop {
            tokio::select! {
                biased;
                () = &mut stop => break 'serving,
                Some(_ended) = connections.join_next(), if !connections.is_empty() => {}
                Ok(permit) = permits.clone().acquire_owned() => break permit,
            }
        };
        next_id += 1;
        let connection = Connection { id: next_id, idle: idle.clone(), evicted: Arc::default() };
        connections.spawn(drive(connection, stream, Peer(peer.ip()), router.clone(), closing.subscribe(), permit));
    }
    drop(listener);
    closing.send_replace(true);
    let finished = async { while connections.join_next().await.is_some() {} };
    // Event streams do not end on their own: watchers reconnect with Last-Event-ID.
    if tokio::time::timeout(GRACE, finished).await.is_err() {
        connections.shutdown().await;
    }
    Ok(())
}

async fn accept(listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Small responses are sent at once; without the option they are only delayed.
            let _delayed = stream.set_nodelay(true);
            Some((stream, peer))
        }
        Err(error) => {
            // Usually out of file descriptors: some are free again a moment later.
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

/// Serves one connection to its end.
async fn drive(
    connection: Connection,
    stream: TcpStream,
    peer: Peer,
    router: Router,
    mut closing: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
) {
    connection.set_idle();
    let evicted = connection.evicted.clone();
    let connection = Arc::new(connection);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let busy = Busy::of(&connection);
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        let response = router.clone().oneshot(request);
        async move {
            let response = response.await?;
            Ok::<_, Infallible>(response.map(|body| BusyBody { body, _busy: busy }))
        }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(2 * MAX_HEAD_BYTES);
    let mut served = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = evicted.notified() => return,
        _ = closing.changed() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Connections by the time since they have no request in progress, and by their number.
type ByIdleTime = BTreeMap<(Instant, u64), Arc<Notify>>;

/// Connections that have no request in progress.
#[derive(Clone, Default)]
struct IdleConnections(Arc<Mutex<ByIdleTime>>);

impl IdleConnections {
    /// Closes the connection that has been idle for longest, if there is one.
    fn evict_oldest(&self) {
        let oldest = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_first();
        if let Some((_, evicted)) = oldest {
            evicted.notify_one();
        }
    }
}

/// A connection.
struct Connection {
    id: u64,
    idle: IdleConnections,
    evicted: Arc<Notify>,
}

impl Connection {
    fn set_idle(&self) {
        let mut all = self.idle.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert((Instant::now(), self.id), self.evicted.clone());
    }

    fn set_busy(&self) {
        self.idle.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(_, id), _| *id != self.id);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.set_busy();
    }
}

/// Keeps a connection from being evicted until the response was sent.
struct Busy(Arc<Connection>);

impl Busy {
    fn of(connection: &Arc<Connection>) -> Busy {
        connection.set_busy();
        Busy(connection.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set_idle();
    }
}

/// Body of a response. A stream of events keeps its connection busy to its end.
struct BusyBody {
    body: Body,
    _busy: Busy,
}

impl HttpBody for BusyBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
