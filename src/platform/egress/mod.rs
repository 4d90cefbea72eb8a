//! The egress proxy: the only way out of a sandbox, metered and limited, with no API key visible to the agent.
//!
//! ```text
//! agent ──▶ Unix socket or loopback port ──▶ listener ──┬─ /llm/PROVIDER/… ──▶ route ▶ request ▶ meter ▶ rate limit ▶ key ──▶ provider
//!                                                       └─ CONNECT, http://… ─▶ hosts ▶ resolve ▶ check address ───────────▶ host
//! ```
//!
//! Invariant: an agent never sees a key. It names a provider; the proxy adds the key and removes it from the response.
//! Invariant: nothing can be reached except the models of a session's providers and the hosts on its list.

use crate::platform::sandbox::ProxyEndpoint;
use crate::ports::Clock;
use crate::providers::rate_limit::RateLimits;
use crate::secrets::{Live, Secret, register};
use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::DropGuard;

pub mod hosts;
mod listener;
mod response;
mod tunnel;

mod key_mask;
mod provider;
mod session;
pub mod settings;

mod request;
mod route;
mod wire;

pub use hosts::{Hosts, Resolver, SystemResolver};

pub use session::{Fault, SessionSpec};

/// Maximum length of a socket path, in bytes. The kernel allows 108, and a sandbox needs a few of them itself.
const SOCKET_PATH_MAX: usize = 99;
/// Timeout for connecting to a provider.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Prefix of the sockets' directories.
const DIR_PREFIX: &str = "skep-egress-";
/// Minimum age of a socket to be swept. A younger one may belong to a session that is still being opened.
const STALE_AFTER: Duration = Duration::from_secs(60);

/// Opens proxy sessions. There is one for the whole process.
pub struct EgressProxy {
    shared: Arc<session::SharedState>,
    base_dir: PathBuf,
}

impl fmt::Debug for EgressProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EgressProxy").field("base_dir", &self.base_dir).finish_non_exhaustive()
    }
}

impl EgressProxy {
    /// Creates a proxy whose sockets live in directories below `base_dir`, which every user must be able to pass
    /// through (`/tmp`).
    ///
    /// # Errors
    /// When the HTTP clients cannot be created.
    pub fn new(limits: RateLimits, clock: Arc<dyn Clock>, base_dir: &Path) -> io::Result<EgressProxy> {
        let client = || {
            reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .connect_timeout(CONNECT_TIMEOUT)
        };
        let shared = session::SharedState {
            limits,
            clock,
            resolver: Arc::new(SystemResolver),
            remote_client: client().build().map_err(io::Error::other)?,
            local_client: client().no_proxy().build().map_err(io::Error::other)?,
            body_memory: Arc::new(Semaphore::new(provider::BODY_MEMORY_CHUNKS)),
        };
        sweep(base_dir);
        Ok(EgressProxy { shared: Arc::new(shared), base_dir: base_dir.to_owned() })
    }

    /// Replaces the resolver of host names.
    pub fn with_resolver(self, resolver: Arc<dyn Resolver>) -> EgressProxy {
        let old = &self.shared;
        let shared = session::SharedState {
            limits: old.limits.clone(),
            clock: old.clock.clone(),
            resolver,
            remote_client: old.remote_client.clone(),
            local_client: old.local_client.clone(),
            body_memory: old.body_memory.clone(),
        };
        EgressProxy { shared: Arc::new(shared), ..self }
    }

    /// Returns the rate limits, which are shared with everything else that calls the providers.
    pub fn limits(&self) -> &RateLimits {
        &self.shared.limits
    }

    /// Opens a session for one attempt. Needs a Tokio runtime.
    ///
    /// # Errors
    /// When a host pattern is invalid, or the socket or the port cannot be opened.
    pub fn open_session(&self, spec: SessionSpec) -> io::Result<ProxySession> {
        let token = token()?;
        let live = register("egress-token", &token);
        let state = session::SessionState::new(self.shared.clone(), spec, token)
            .map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
        let state = Arc::new(state);
        let dir = tempfile::Builder::new().prefix(DIR_PREFIX).rand_bytes(20).tempdir_in(&self.base_dir)?;
        // The directory's name is the secret: without it the socket cannot be found, and with it the socket works for
        // any user id.
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o711))?;
        let socket = dir.path().join("s");
        if socket.as_os_str().len() > SOCKET_PATH_MAX {
            let why = format!(
                "the socket path {} is longer than {SOCKET_PATH_MAX} bytes: set TMPDIR to a shorter path",
                socket.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let unix = UnixListener::bind(&socket)?;
        std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o666))?;
        let tcp = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        tcp.set_nonblocking(true)?;
        let login = Secret::new(format!("skep:{}", state.token.expose()));
        let endpoint = ProxyEndpoint { socket, tcp: tcp.local_addr()?, login };
        listener::serve(state.clone(), unix, TcpListener::from_std(tcp)?);
        let closes = state.closed.clone().drop_guard();
        Ok(ProxySession { endpoint, state, _live: live, _closes: closes, _dir: dir })
    }
}

/// Removes the sockets of killed processes, on which nothing listens any more. Those of other users cannot be removed.
fn sweep(base_dir: &Path) {
    for entry in std::fs::read_dir(base_dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let old =
            entry.metadata().and_then(|m| m.modified()).is_ok_and(|at| at.elapsed().is_ok_and(|age| age > STALE_AFTER));
        if !old || !entry.file_name().to_string_lossy().starts_with(DIR_PREFIX) {
            continue;
        }
        let socket = path.join("s");
        let refused = std::os::unix::net::UnixStream::connect(&socket)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if refused && std::fs::remove_file(&socket).and_then(|()| std::fs::remove_dir(&path)).is_err() {
            tracing::debug!(?path, "cannot remove a stale egress socket");
        }
    }
}

/// Draws a token of 256 random bits, in hexadecimal.
fn token() -> io::Result<Secret> {
    use std::fmt::Write;
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let mut text = String::new();
    bytes.iter().for_each(|b| {
        // Writing to a string cannot fail.
        let _written = write!(text, "{b:02x}");
    });
    Ok(Secret::new(text))
}

/// An open session. On drop, it closes its listeners, connections and calls in flight.
#[derive(Debug)]
pub struct ProxySession {
    /// Address of the session's listeners.
    pub endpoint: ProxyEndpoint,
    state: Arc<session::SessionState>,
    // Registered as a secret, because agents report the addresses they called, which contain the token.
    _live: Live,
    _closes: DropGuard,
    _dir: TempDir,
}

impl ProxySession {
    /// Returns the path prefix of every request to the loopback port, optional on the socket: `http://ADDRESS` + this
    /// + `/llm/PROVIDER`. It contains the session's token: for the agent's environment, never for a log.
    pub fn path_prefix(&self) -> Secret {
        Secret::new(format!("/p/{}", self.state.token.expose()))
    }

    /// Returns the loopback port as a proxy URL with its token: `http://skep:TOKEN@ADDRESS`.
    pub fn proxy_url(&self) -> Secret {
        Secret::new(format!("http://{}@{}", self.endpoint.login.expose(), self.endpoint.tcp))
    }

    /// Returns why the last model call failed; `None` if it succeeded.
    pub fn fault(&self) -> Option<Fault> {
        self.state.fault()
    }

    /// Returns the denied requests so far, each with its reason, without repetitions; at most 256.
    pub fn denials(&self) -> Vec<(String, String)> {
        self.state.denials()
    }

    /// Returns the entries of the list of hosts that would have allowed the denied connections; at most 256.
    pub fn missing_hosts(&self) -> Vec<String> {
        self.state.missing_hosts()
    }

    /// Returns the allowed hosts that could not be resolved or connected to the last time, each with the reason; at
    /// most 256.
    pub fn unreachable(&self) -> Vec<(String, String)> {
        self.state.unreachable()
    }

    /// Returns the number of bytes relayed to and from hosts (not providers).
    pub fn traffic(&self) -> u64 {
        self.state.traffic.load(Ordering::Relaxed)
    }
}
