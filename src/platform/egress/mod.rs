//! The way out: what leaves a sandbox leaves through here, counted, limited and without a key in sight.
//!
//! ```text
//! agent ──▶ unix socket or loopback port ──▶ door ──┬─ /llm/PROVIDER/… ──▶ route ▶ request ▶ limits ▶ meter ▶ key ──▶ provider
//!                                                   └─ CONNECT, http://… ─▶ hosts ▶ resolve ▶ address judged ──────▶ host
//! ```
//!
//! Invariant: an agent never sees a key. It names a provider, the gate puts the key in, and keeps it out of the answer.
//! Invariant: nothing is reached that is neither a provider's model nor on the list of hosts.

use crate::platform::sandbox::ProxyEndpoint;
use crate::ports::Clock;
use crate::providers::rate_limit::Limits;
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

mod answer;
pub mod hosts;
mod listener;
mod tunnel;

mod mask;
mod provider;
mod session;

mod request;
mod route;
mod wire;

pub use hosts::{Hosts, Resolver, SystemResolver};

pub use session::{Fault, SessionSpec};

/// A path of a socket may have 108 bytes; a sandbox needs a few of its own.
const SOCKET_PATH_MAX: usize = 99;
/// How long a connection to a provider may take to come about.
const CONNECT_WITHIN: Duration = Duration::from_secs(20);
/// How the sockets' folders begin.
const FOLDER: &str = "skep-gate-";
/// A younger socket may be one that is just being opened.
const STALE_AFTER: Duration = Duration::from_secs(60);

/// Opens ways out. One for the whole process.
pub struct EgressProxy {
    shared: Arc<session::SharedState>,
    folder: PathBuf,
}

impl fmt::Debug for EgressProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl EgressProxy {
    /// A gate whose sockets stand in folders beneath `folder`, which any user must be able to pass through (`/tmp`).
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(limits: Limits, clock: Arc<dyn Clock>, folder: &Path) -> io::Result<EgressProxy> {
        let client = || {
            reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .connect_timeout(CONNECT_WITHIN)
        };
        let shared = session::SharedState {
            limits,
            clock,
            resolver: Arc::new(SystemResolver),
            far: client().build().map_err(io::Error::other)?,
            near: client().no_proxy().build().map_err(io::Error::other)?,
            room: Arc::new(Semaphore::new(provider::ROOM)),
        };
        sweep(folder);
        Ok(EgressProxy { shared: Arc::new(shared), folder: folder.to_owned() })
    }

    /// The same with another way to find hosts' addresses.
    pub fn with_resolver(self, resolver: Arc<dyn Resolver>) -> EgressProxy {
        let old = &self.shared;
        let shared = session::SharedState {
            limits: old.limits.clone(),
            clock: old.clock.clone(),
            resolver,
            far: old.far.clone(),
            near: old.near.clone(),
            room: old.room.clone(),
        };
        EgressProxy { shared: Arc::new(shared), ..self }
    }

    /// The limits that are shared with whatever else calls the providers.
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// Opens a way out for one attempt. Needs a runtime.
    ///
    /// # Errors
    /// When a host's pattern is none, or the socket or the port cannot be opened.
    pub fn open(&self, pass: SessionSpec) -> io::Result<ProxySession> {
        let token = token()?;
        let live = register("gate-pass", &token);
        let open = session::SessionState::new(self.shared.clone(), pass, token)
            .map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
        let open = Arc::new(open);
        let folder = tempfile::Builder::new().prefix(FOLDER).rand_bytes(20).tempdir_in(&self.folder)?;
        // The name is the secret: whoever was not told it cannot find the socket, whoever was can use it under any uid.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o711))?;
        let socket = folder.path().join("s");
        if socket.as_os_str().len() > SOCKET_PATH_MAX {
            let why = format!(
                "{} is too long for a socket's path ({SOCKET_PATH_MAX} bytes): choose a shorter TMPDIR",
                socket.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let unix = UnixListener::bind(&socket)?;
        std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o666))?;
        let tcp = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        tcp.set_nonblocking(true)?;
        let login = Secret::new(format!("skep:{}", open.token.expose()));
        let place = ProxyEndpoint { socket, tcp: tcp.local_addr()?, login };
        listener::serve(open.clone(), unix, TcpListener::from_std(tcp)?);
        let closes = open.closed.clone().drop_guard();
        Ok(ProxySession { place, open, _live: live, _closes: closes, _folder: folder })
    }
}

/// Removes the sockets of processes that were killed: nobody listens at them any more. What is not ours cannot be removed.
fn sweep(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let old =
            entry.metadata().and_then(|m| m.modified()).is_ok_and(|at| at.elapsed().is_ok_and(|age| age > STALE_AFTER));
        if !old || !entry.file_name().to_string_lossy().starts_with(FOLDER) {
            continue;
        }
        let socket = path.join("s");
        let refused = std::os::unix::net::UnixStream::connect(&socket)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if refused && std::fs::remove_file(&socket).and_then(|()| std::fs::remove_dir(&path)).is_err() {
            tracing::debug!(?path, "a socket left behind could not be removed");
        }
    }
}

/// 256 bits, in hexadecimal.
fn token() -> io::Result<Secret> {
    use std::fmt::Write;
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let mut text = String::new();
    bytes.iter().for_each(|b| {
        // Writing to a text cannot fail.
        let _written = write!(text, "{b:02x}");
    });
    Ok(Secret::new(text))
}

/// A way out that is open. Dropped, it is closed: listeners, connections, calls under way.
#[derive(Debug)]
pub struct ProxySession {
    /// Where it is.
    pub place: ProxyEndpoint,
    open: Arc<session::SessionState>,
    // Agents tell of addresses they called, with the token in them.
    _live: Live,
    _closes: DropGuard,
    _folder: TempDir,
}

impl ProxySession {
    /// What comes after the gate's address in every address that is called at the loopback port, and may at the socket:
    /// `http://ADDRESS` + this + `/llm/PROVIDER`. It holds the pass's token: for the agent's environment, never for a log.
    pub fn prefix(&self) -> Secret {
        Secret::new(format!("/p/{}", self.open.token.expose()))
    }

    /// The loopback port as a proxy's address, with its token: `http://skep:TOKEN@ADDRESS`.
    pub fn proxy(&self) -> Secret {
        Secret::new(format!("http://{}@{}", self.place.login.expose(), self.place.tcp))
    }

    /// What kept the last call of a model from its answer; `None` when it got one.
    pub fn fault(&self) -> Option<Fault> {
        self.open.fault()
    }

    /// What was refused so far: what was wanted, and why not. Each once, the first 256.
    pub fn denials(&self) -> Vec<(String, String)> {
        self.open.denials()
    }

    /// Bytes carried to and from hosts (not providers).
    pub fn traffic(&self) -> u64 {
        self.open.traffic.load(Ordering::Relaxed)
    }
}
