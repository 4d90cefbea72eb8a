//! From the loopback of a command's own network to the one socket that leads out of it: Skep's gate.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The port commands find it at.
pub const PORT: u16 = 7390;
/// Where the gate's socket is, as seen by commands.
pub const SOCKET: &str = "/run/skep/gate.sock";

/// Connections carried at the same time; more are closed at once.
const CONNECTIONS: usize = 128;
/// The stack of a thread that only copies.
const STACK: usize = 128 * 1024;
/// How long it waits when no more connections can be had.
const PAUSE: Duration = Duration::from_millis(50);

/// Carries connections until its process is killed, which the end of the command's process namespace does. The listener is standard
/// input: it was opened before the command started, so that nothing else can have the port.
///
/// # Errors
/// When standard input is no listener.
pub fn run() -> io::Result<()> {
    let listener = TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    listener.local_addr()?;
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((client, _)) = listener.accept() else {
            std::thread::sleep(PAUSE);
            continue;
        };
        let place = Counted::one_more(&open);
        if open.load(Ordering::Relaxed) > CONNECTIONS {
            continue;
        }
        // Without a thread the connection is closed: the command sees it and may try again.
        let _full = std::thread::Builder::new().stack_size(STACK).spawn(move || {
            let _place = place;
            let _broken = carry(client, Path::new(SOCKET));
        });
    }
}

/// Copies both ways until both sides have said all, or one is gone.
fn carry(client: TcpStream, gate: &Path) -> io::Result<()> {
    let gate = UnixStream::connect(gate)?;
    let (mut from_client, mut to_gate) = (client.try_clone()?, gate.try_clone()?);
    let up = std::thread::Builder::new().stack_size(STACK).spawn(move || {
        let _gone = io::copy(&mut from_client, &mut to_gate);
        let _closed = to_gate.shutdown(Shutdown::Write);
    })?;
    let (mut from_gate, mut to_client) = (gate, client);
    let _gone = io::copy(&mut from_gate, &mut to_client);
    let _closed = to_client.shutdown(Shutdown::Write);
    // A panic there says nothing more than a broken connection does.
    let _ended = up.join();
    Ok(())
}

/// One connection, until dropped.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn one_more(open: &Arc<AtomicUsize>) -> Counted {
        open.fetch_add(1, Ordering::Relaxed);
        Counted(open.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
