//! The self-test's hostile actions, tried inside the sandbox; each reports its result.
//!
//! A system call counts as blocked when the filter or the kernel answers "not permitted" or "no such call". Its
//! arguments are chosen so that nothing happens if it is not blocked.

use rustix::process::Resource;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Variable that holds the canaries.
pub const CANARIES: &str = "SKEP_CANARIES";

/// The targets outside the sandbox.
#[derive(Debug, Serialize, Deserialize)]
pub struct Canaries {
    /// A world-readable file outside.
    pub secret: PathBuf,
    /// A world-writable directory outside.
    pub folder: PathBuf,
    /// A listening TCP socket.
    pub tcp: SocketAddr,
    /// A UDP socket.
    pub udp: SocketAddr,
    /// Path of a listening Unix socket that everyone may connect to.
    pub socket: PathBuf,
    /// A file in a directory that is shown to the test: it must be readable, or the following prove nothing.
    pub shown: PathBuf,
    /// A listening Unix socket in that directory.
    pub shown_socket: PathBuf,
    /// Skep's own files and directories, and canaries in place of them in the shown directory.
    pub hidden: Vec<PathBuf>,
    /// Name of a listening abstract Unix socket.
    pub name: String,
    /// Skep's process id, and its PID namespace.
    pub skep: (i32, String),
    /// Command-line argument that only the stray process of this test has.
    pub stray: String,
    /// File size limit of this test, in bytes.
    pub file: u64,
    /// Memory limit in bytes.
    pub memory: u64,
    /// Limit of processes and threads.
    pub processes: u64,
}

/// Result of one action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// The action.
    pub action: String,
    /// Whether it was blocked.
    pub blocked: bool,
    /// The observed result.
    pub observed: String,
}

/// Tries all actions and prints the results as JSON.
///
/// # Errors
/// When the canaries are missing, or the output is closed.
pub fn run() -> io::Result<()> {
    let canaries = std::env::var(CANARIES).map_err(io::Error::other)?;
    let results = all(&serde_json::from_str(&canaries)?);
    serde_json::to_writer(io::stdout(), &results)?;
    Ok(())
}

fn all(canaries: &Canaries) -> Vec<ProbeResult> {
    let mut results = Vec::new();
    let mut add = |action: &str, (blocked, observed): (bool, String)| {
        results.push(ProbeResult { action: action.to_owned(), blocked, observed });
    };
    add("Read a file outside", blocked_if_err(std::fs::read(&canaries.secret)));
    add("See that a file exists outside", blocked_if_err(std::fs::metadata(&canaries.secret)));
    add("Read Skep's own data and secrets", hidden(canaries));
    add("Write a file outside", blocked_if_err(std::fs::write(canaries.folder.join("written"), "x")));
    add("Read a file outside through a symbolic link", by_link(&canaries.secret));
    add("Change the mode of a file outside", blocked_if_err(std::fs::set_permissions(&canaries.secret, mode(0o640))));
    add("Write to /usr", blocked_if_err(std::fs::write("/usr/skep-probe", "x")));
    add("See other processes", others());
    add("Read the environment of another process", environments());
    add("Send a signal to Skep", signal(canaries));
    for (action, result) in [
        (
            "Connect to a TCP port of this machine",
            blocked_if_err(TcpStream::connect_timeout(&canaries.tcp, Duration::from_secs(1))),
        ),
        ("Send a UDP datagram to this machine", datagram(canaries.udp)),
        ("Connect to a Unix socket", blocked_if_err(UnixStream::connect(&canaries.socket))),
        (
            "Connect to a Unix socket in a visible directory",
            blocked_if_err(UnixStream::connect(&canaries.shown_socket)),
        ),
        ("Connect to an abstract Unix socket", abstract_socket(&canaries.name)),
    ] {
        add(action, result);
    }
    for (action, family, kind) in [
        ("Create a VM socket", libc::AF_VSOCK, libc::SOCK_STREAM),
        ("Create a netlink socket", libc::AF_NETLINK, libc::SOCK_RAW),
        ("Create a packet socket", libc::AF_PACKET, libc::SOCK_RAW),
    ] {
        add(action, call(libc::SYS_socket, [family.into(), kind.into(), 0, 0, 0]));
    }
    for (action, number, args) in CALLS {
        add(action, call(*number, *args));
    }
    add("Become root", blocked_if_errno(raw(libc::SYS_setuid, [0; 5])));
    add(
        "Gain privileges by executing a program",
        match rustix::thread::no_new_privs() {
            Ok(true) => (true, "no new privileges".into()),
            Ok(false) => (false, "a set-user-ID program would work".into()),
            Err(e) => (false, e.to_string()),
        },
    );
    add("Use an inherited file descriptor", inherited_files());
    add("Open a device", devices());
    add(
        "Create a device",
        blocked_if_errno(raw(libc::SYS_mknodat, [libc::AT_FDCWD.into(), c"dev".as_ptr() as _, 0o20666, 0x0101, 0])),
    );
    add("Write more than the file size limit", exceed_file_size(canaries.file));
    add("Allocate more than the memory limit", exceed_memory(canaries.memory));
    add("Leave a process running", stray(&canaries.stray));
    // Must be last: nothing more can be started afterwards.
    add("Start more processes than allowed", exceed_processes(canaries.processes));
    results
}

type Call = (&'static str, libc::c_long, [libc::c_long; 5]);

const NEWUSER: libc::c_long = libc::CLONE_NEWUSER as libc::c_long;
/// Flags that are never valid together: if the call reaches the kernel, it fails.
const INVALID_FLAGS: libc::c_long = (libc::CLONE_NEWUSER | libc::CLONE_FS | libc::CLONE_NEWNS) as libc::c_long;

const CALLS: &[Call] = &[
    ("Trace a process", libc::SYS_ptrace, [0x10000, 0, 0, 0, 0]),
    ("Read the memory of another process", libc::SYS_process_vm_readv, [0; 5]),
    ("Take an open file of another process", libc::SYS_pidfd_getfd, [-1, 0, 0, 0, 0]),
    ("Mount a file system", libc::SYS_mount, [0; 5]),
    ("Mount a file system with fsopen", libc::SYS_fsopen, [0; 5]),
    ("Create a namespace", libc::SYS_unshare, [NEWUSER, 0, 0, 0, 0]),
    ("Create a process in a new namespace", libc::SYS_clone, [INVALID_FLAGS, 0, 0, 0, 0]),
    ("Create a process in a new namespace with clone3", libc::SYS_clone3, [0; 5]),
    ("Enter a namespace", libc::SYS_setns, [-1, 0, 0, 0, 0]),
    ("Mount a file system with open_tree_attr", 467, [0; 5]),
    ("Hide memory in an anonymous file", libc::SYS_memfd_create, [0; 5]),
    ("Leave large shared memory behind", libc::SYS_shmget, [0, -1, 0, 0, 0]),
    ("Use the kernel's keyrings", libc::SYS_keyctl, [0, -3, 0, 0, 0]),
    ("Add a key to a keyring", libc::SYS_add_key, [0; 5]),
    ("Use io_uring", libc::SYS_io_uring_setup, [1, 0, 0, 0, 0]),
    ("Load a BPF program", libc::SYS_bpf, [5, 0, 0, 0, 0]),
    ("Handle page faults", libc::SYS_userfaultfd, [-1, 0, 0, 0, 0]),
    ("Open a performance counter", libc::SYS_perf_event_open, [0; 5]),
    ("Open a file by its handle", libc::SYS_open_by_handle_at, [-1, 0, 0, 0, 0]),
    ("Load a kernel module", libc::SYS_init_module, [0; 5]),
    ("Inject input into a terminal", libc::SYS_ioctl, [-1, libc::TIOCSTI as libc::c_long, 0, 0, 0]),
];

fn raw(number: libc::c_long, a: [libc::c_long; 5]) -> Result<(), i32> {
    // Only numbers and null pointers are passed; every call fails, or affects this short-lived process alone.
    #[allow(unsafe_code)] // existing wrappers cannot make calls that must fail
    let ended = unsafe { libc::syscall(number, a[0], a[1], a[2], a[3], a[4]) };
    if ended == -1 { Err(io::Error::last_os_error().raw_os_error().unwrap_or(0)) } else { Ok(()) }
}

/// Makes a call. Reports "blocked" if it does not get past the filter or the kernel's permission checks.
fn call(number: libc::c_long, args: [libc::c_long; 5]) -> (bool, String) {
    match raw(number, args) {
        Ok(()) => (false, "done".into()),
        Err(errno) => (matches!(errno, libc::EPERM | libc::ENOSYS | libc::EACCES), errno_text(errno)),
    }
}

/// Reports "blocked" if the call fails.
fn blocked_if_errno(ended: Result<(), i32>) -> (bool, String) {
    ended.map_or_else(|errno| (true, errno_text(errno)), |()| (false, "done".into()))
}

fn errno_text(errno: i32) -> String {
    io::Error::from_raw_os_error(errno).to_string()
}

fn blocked_if_err<T>(ended: io::Result<T>) -> (bool, String) {
    ended.map_or_else(|e| (true, e.to_string()), |_| (false, "done".into()))
}

fn mode(bits: u32) -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(bits)
}

/// Checks for open descriptors other than the three standard streams.
fn inherited_files() -> (bool, String) {
    let open = (3..1024).filter(|fd| raw(libc::SYS_fcntl, [*fd, libc::F_GETFD.into(), 0, 0, 0]).is_ok()).count();
    (open == 0, format!("{open} open"))
}

/// Tries to read every hidden path: the content of a file, and any entry of a directory that is not the command's own.
fn hidden(canaries: &Canaries) -> (bool, String) {
    if let Err(e) = std::fs::read(&canaries.shown) {
        return (false, format!("not tried: the visible file cannot be read: {e}"));
    }
    let read = |path: &PathBuf| match std::fs::read(path) {
        Ok(bytes) => !bytes.is_empty(),
        Err(_) => false,
    };
    match canaries.hidden.iter().find(|path| read(path)) {
        Some(path) => (false, format!("{} was read", path.display())),
        None => (true, format!("{} paths tried", canaries.hidden.len())),
    }
}

fn by_link(secret: &Path) -> (bool, String) {
    match std::os::unix::fs::symlink(secret, "link-outside") {
        Ok(()) => blocked_if_err(std::fs::read("link-outside")),
        Err(e) => (false, format!("not tried: {e}")),
    }
}

/// Lists the ids of all visible processes. This process is one of them, and at `strict` so is the namespace's init.
fn visible_processes() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let names = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
    names.filter(|n| n.bytes().all(|b| b.is_ascii_digit())).collect()
}

fn others() -> (bool, String) {
    let own_pid = std::process::id().to_string();
    let others = visible_processes().into_iter().filter(|pid| *pid != own_pid && pid != "1").count();
    (others == 0, format!("{others} visible"))
}

fn environments() -> (bool, String) {
    let own_pid = std::process::id().to_string();
    for pid in visible_processes().into_iter().filter(|pid| *pid != own_pid) {
        let Ok(environ) = std::fs::read(format!("/proc/{pid}/environ")) else { continue };
        let names: Vec<String> = environ
            .split(|b| *b == 0)
            .map(|entry| String::from_utf8_lossy(entry).split('=').next().unwrap_or_default().to_owned())
            .filter(|name| !name.is_empty() && name != super::super::JOB_MARKER_VAR)
            .collect();
        if let Some(name) = names.first() {
            return (false, format!("{name} of process {pid}"));
        }
    }
    (true, "none could be read".into())
}

fn signal(canaries: &Canaries) -> (bool, String) {
    let namespace = std::fs::read_link("/proc/self/ns/pid").map(|l| l.to_string_lossy().into_owned());
    if namespace.is_ok_and(|namespace| namespace != canaries.skep.1) {
        return (true, "own PID namespace".into());
    }
    let Some(pid) = rustix::process::Pid::from_raw(canaries.skep.0) else { return (false, "no process id".into()) };
    blocked_if_err(rustix::process::test_kill_process(pid).map_err(Into::into))
}

fn datagram(to: SocketAddr) -> (bool, String) {
    blocked_if_err(UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(b"x", to)))
}

fn abstract_socket(name: &str) -> (bool, String) {
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name);
    blocked_if_err(address.and_then(|address| UnixStream::connect_addr(&address)))
}

fn devices() -> (bool, String) {
    const DEVICES: &[&str] =
        &["/dev/mem", "/dev/kmsg", "/dev/kvm", "/dev/sda", "/dev/vda", "/dev/nvme0n1", "/dev/fuse", "/dev/net/tun"];
    let open = DEVICES.iter().find(|path| std::fs::File::open(path).is_ok());
    open.map_or((true, "none could be opened".into()), |path| (false, (*path).to_owned()))
}

/// Returns a shell that finds the system's tools, whatever PATH commands have.
fn shell() -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.env("PATH", "/usr/local/bin:/usr/bin:/bin");
    shell
}

fn exceed_file_size(limit: u64) -> (bool, String) {
    // In another process, because a signal kills it at the limit.
    let line = format!("head -c {} /dev/zero > large", limit.saturating_mul(2));
    let _ended = shell().args(["-c", &line]).stderr(Stdio::null()).status();
    match std::fs::metadata("large").map(|m| m.len()) {
        Ok(bytes) => (bytes > 0 && bytes <= limit, format!("{bytes} bytes written, {limit} allowed")),
        Err(e) => (false, format!("not tried: {e}")),
    }
}

fn exceed_memory(limit: u64) -> (bool, String) {
    let Some(limit) = usize::try_from(limit).ok().filter(|n| *n > 0) else { return (false, "no limit".into()) };
    let mut bytes = Vec::<u8>::new();
    match bytes.try_reserve_exact(limit) {
        Ok(()) => (false, format!("{} MiB allocated", limit >> 20)),
        Err(e) => (true, e.to_string()),
    }
}

/// Starts a process that leaves the process group and drops its environment; whether it survives is checked from
/// outside.
fn stray(argument: &str) -> (bool, String) {
    let mut command = shell();
    command.args(["-c", "setsid env -i /bin/sh -c 'sleep 600; : '\"$1\" & read _ < /dev/null; exit 0", "sh", argument]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.status() {
        Ok(_) => (true, "checked from outside".into()),
        Err(e) => (false, format!("not tried: {e}")),
    }
}

fn exceed_processes(limit: u64) -> (bool, String) {
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Arc::new(std::sync::Mutex::new(wait));
    let (mut started, mut blocked) = (0, false);
    for _ in 0..limit.saturating_add(8) {
        let wait = wait.clone();
        let thread = std::thread::Builder::new().stack_size(32 * 1024).spawn(move || {
            // Ends when the sender is dropped.
            let _over = wait.lock().map(|w| w.recv());
        });
        if thread.is_err() {
            blocked = true;
            break;
        }
        started += 1;
    }
    drop(release);
    let max = rustix::process::getrlimit(Resource::Nproc).maximum;
    (blocked, format!("{started} started, {} allowed", max.map_or("any number".into(), |n| n.to_string())))
}
