//! Relay from the loopback of a command's own network namespace to the one socket that leads out of it: the egress
//! proxy.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Port at which commands find the proxy.
pub const PORT: u16 = 7390;
/// Path of the proxy's socket, as commands see it.
pub const SOCKET: &str = "/run/skep/egress.sock";

/// Maximum number of simultaneous connections; further ones are closed at once.
const CONNECTIONS: usize = 128;
/// Stack size of a copying thread.
const STACK: usize = 128 * 1024;
/// Pause after a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(50);

/// Relays connections until its process is killed by the end of the command's PID namespace. The listener is its
/// standard input: it was opened before the command started, so that nothing else can take the port.
///
/// # Errors
/// When standard input is not a listening socket.
pub fn run() -> io::Result<()> {
    let listener = TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    listener.local_addr()?;
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((client, _)) = listener.accept() else {
            std::thread::sleep(PAUSE);
            continue;
        };
        let connection = ConnectionCount::increment(&open);
        if open.load(Ordering::Relaxed) > CONNECTIONS {
            continue;
        }
        // Without a thread the connection is closed: the command sees it and may try again.
        let _full = std::thread::Builder::new().stack_size(STACK).spawn(move || {
            let _connection = connection;
            let _disconnected = relay(client, Path::new(SOCKET));
        });
    }
}

/// Copies in both directions until both sides have finished, or one is gone.
fn relay(client: TcpStream, proxy: &Path) -> io::Result<()> {
    let proxy = UnixStream::connect(proxy)?;
    let (mut from_client, mut to_proxy) = (client.try_clone()?, proxy.try_clone()?);
    let up = std::thread::Builder::new().stack_size(STACK).spawn(move || {
        let _gone = io::copy(&mut from_client, &mut to_proxy);
        let _closed = to_proxy.shutdown(Shutdown::Write);
    })?;
    let (mut from_proxy, mut to_client) = (proxy, client);
    let _gone = io::copy(&mut from_proxy, &mut to_client);
    let _closed = to_client.shutdown(Shutdown::Write);
    // A panic in the thread means no more than a broken connection.
    let _ended = up.join();
    Ok(())
}

/// Counts one connection until dropped.
struct ConnectionCount(Arc<AtomicUsize>);

impl ConnectionCount {
    fn increment(open: &Arc<AtomicUsize>) -> ConnectionCount {
        open.fetch_add(1, Ordering::Relaxed);
        ConnectionCount(open.clone())
    }
}

impl Drop for ConnectionCount {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
