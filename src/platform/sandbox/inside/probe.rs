//! Hostile actions, tried behind the walls by the self-test; each tells what came of it.
//!
//! A system call counts as held when the filter or the kernel says "not permitted" or "no such call" to it; its arguments are such that
//! nothing happens where it is not held.

use rustix::process::Resource;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The variable that holds the canaries.
pub const CANARIES: &str = "SKEP_CANARIES";

/// What is out there to be reached.
#[derive(Debug, Serialize, Deserialize)]
pub struct Canaries {
    /// A file everybody may read, outside.
    pub secret: PathBuf,
    /// A folder everybody may write, outside.
    pub folder: PathBuf,
    /// A listening TCP socket.
    pub tcp: SocketAddr,
    /// A UDP socket.
    pub udp: SocketAddr,
    /// A listening socket everybody may connect to, as a path.
    pub socket: PathBuf,
    /// The same with an abstract name.
    pub name: String,
    /// The number of Skep's process, and of its process namespace.
    pub skep: (i32, String),
    /// An argument only the stray of this test has.
    pub stray: String,
    /// The limits given to this test.
    pub file: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Processes and threads.
    pub processes: u64,
}

/// What came of one action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// Which.
    pub action: String,
    /// Whether it was held back.
    pub held: bool,
    /// What was seen.
    pub found: String,
}

/// Tries everything and prints it as JSON.
///
/// # Errors
/// When the canaries were not given, or the output is closed.
pub fn run() -> io::Result<()> {
    let given = std::env::var(CANARIES).map_err(io::Error::other)?;
    let tried = all(&serde_json::from_str(&given)?);
    serde_json::to_writer(io::stdout(), &tried)?;
    Ok(())
}

fn all(canaries: &Canaries) -> Vec<Tried> {
    let mut tried = Vec::new();
    let mut add = |action: &str, (held, found): (bool, String)| {
        tried.push(Tried { action: action.to_owned(), held, found });
    };
    add("read a file outside", open_is(std::fs::read(&canaries.secret)));
    add("look at a file outside", open_is(std::fs::metadata(&canaries.secret)));
    add("write a file outside", open_is(std::fs::write(canaries.folder.join("written"), "x")));
    add("read outside by a link", by_link(&canaries.secret));
    add("change the mode of a file outside", open_is(std::fs::set_permissions(&canaries.secret, mode(0o640))));
    add("write to /usr", open_is(std::fs::write("/usr/skep-probe", "x")));
    add("see other processes", others());
    add("read another's environment", environments());
    add("signal Skep", signal(canaries));
    for (action, held) in [
        (
            "connect to a TCP port of this machine",
            open_is(TcpStream::connect_timeout(&canaries.tcp, Duration::from_secs(1))),
        ),
        ("send a datagram to this machine", datagram(canaries.udp)),
        ("connect to a unix socket", open_is(UnixStream::connect(&canaries.socket))),
        ("connect to an abstract socket", abstract_socket(&canaries.name)),
    ] {
        add(action, held);
    }
    for (action, family, kind) in [
        ("make a VM socket", libc::AF_VSOCK, libc::SOCK_STREAM),
        ("make a netlink socket", libc::AF_NETLINK, libc::SOCK_RAW),
        ("make a packet socket", libc::AF_PACKET, libc::SOCK_RAW),
    ] {
        add(action, call(libc::SYS_socket, [family.into(), kind.into(), 0, 0, 0]));
    }
    for (action, number, args) in CALLS {
        add(action, call(*number, *args));
    }
    add("become root", open_errno(raw(libc::SYS_setuid, [0; 5])));
    add(
        "gain rights by running a program",
        match rustix::thread::no_new_privs() {
            Ok(true) => (true, "no new privileges".into()),
            Ok(false) => (false, "a set-user-id program would work".into()),
            Err(e) => (false, e.to_string()),
        },
    );
    add("use a file somebody left open", left_open());
    add("open a device", devices());
    add(
        "make a device",
        open_errno(raw(libc::SYS_mknodat, [libc::AT_FDCWD.into(), c"dev".as_ptr() as _, 0o20666, 0x0101, 0])),
    );
    add("write a file without end", file_size(canaries.file));
    add("take memory without end", memory(canaries.memory));
    add("leave a process running", stray(&canaries.stray));
    // Last: afterwards nothing more can be started.
    add("start processes without end", processes(canaries.processes));
    tried
}

type Call = (&'static str, libc::c_long, [libc::c_long; 5]);

const NEWUSER: libc::c_long = libc::CLONE_NEWUSER as libc::c_long;
/// Two flags that never go together: the kernel refuses them, if it is asked.
const NEVER: libc::c_long = (libc::CLONE_NEWUSER | libc::CLONE_FS | libc::CLONE_NEWNS) as libc::c_long;

const CALLS: &[Call] = &[
    ("trace a process", libc::SYS_ptrace, [0x10000, 0, 0, 0, 0]),
    ("read another's memory", libc::SYS_process_vm_readv, [0; 5]),
    ("take another's open file", libc::SYS_pidfd_getfd, [-1, 0, 0, 0, 0]),
    ("mount", libc::SYS_mount, [0; 5]),
    ("mount, the new way", libc::SYS_fsopen, [0; 5]),
    ("make a namespace", libc::SYS_unshare, [NEWUSER, 0, 0, 0, 0]),
    ("make a namespace with a process", libc::SYS_clone, [NEVER, 0, 0, 0, 0]),
    ("make a namespace with a process, the new way", libc::SYS_clone3, [0; 5]),
    ("enter a namespace", libc::SYS_setns, [-1, 0, 0, 0, 0]),
    ("mount, the newest way", 467, [0; 5]),
    ("keep memory in no process", libc::SYS_memfd_create, [0; 5]),
    ("leave much shared memory behind", libc::SYS_shmget, [0, -1, 0, 0, 0]),
    ("use the kernel's keys", libc::SYS_keyctl, [0, -3, 0, 0, 0]),
    ("add a key", libc::SYS_add_key, [0; 5]),
    ("use io_uring", libc::SYS_io_uring_setup, [1, 0, 0, 0, 0]),
    ("load a BPF program", libc::SYS_bpf, [5, 0, 0, 0, 0]),
    ("catch page faults", libc::SYS_userfaultfd, [-1, 0, 0, 0, 0]),
    ("measure the kernel", libc::SYS_perf_event_open, [0; 5]),
    ("open a file by its handle", libc::SYS_open_by_handle_at, [-1, 0, 0, 0, 0]),
    ("load a kernel module", libc::SYS_init_module, [0; 5]),
    ("type into a terminal", libc::SYS_ioctl, [-1, libc::TIOCSTI as libc::c_long, 0, 0, 0]),
];

fn raw(number: libc::c_long, a: [libc::c_long; 5]) -> Result<(), i32> {
    // The call is made with numbers and null pointers only; all of them fail, or do something to this short-lived process alone.
    #[allow(unsafe_code)] // the wrappers there are can't make calls that must fail
    let ended = unsafe { libc::syscall(number, a[0], a[1], a[2], a[3], a[4]) };
    if ended == -1 { Err(io::Error::last_os_error().raw_os_error().unwrap_or(0)) } else { Ok(()) }
}

/// Held when the call does not get into the kernel proper.
fn call(number: libc::c_long, args: [libc::c_long; 5]) -> (bool, String) {
    match raw(number, args) {
        Ok(()) => (false, "done".into()),
        Err(errno) => (matches!(errno, libc::EPERM | libc::ENOSYS | libc::EACCES), words(errno)),
    }
}

/// Held when the call fails.
fn open_errno(ended: Result<(), i32>) -> (bool, String) {
    ended.map_or_else(|errno| (true, words(errno)), |()| (false, "done".into()))
}

fn words(errno: i32) -> String {
    io::Error::from_raw_os_error(errno).to_string()
}

fn open_is<T>(ended: io::Result<T>) -> (bool, String) {
    ended.map_or_else(|e| (true, e.to_string()), |_| (false, "done".into()))
}

fn mode(bits: u32) -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(bits)
}

/// Descriptors besides the three streams.
fn left_open() -> (bool, String) {
    let open = (3..1024).filter(|fd| raw(libc::SYS_fcntl, [*fd, libc::F_GETFD.into(), 0, 0, 0]).is_ok()).count();
    (open == 0, format!("{open} open"))
}

fn by_link(secret: &Path) -> (bool, String) {
    match std::os::unix::fs::symlink(secret, "way-out") {
        Ok(()) => open_is(std::fs::read("way-out")),
        Err(e) => (false, format!("not tried: {e}")),
    }
}

/// Numbers of the processes seen. Its own are this one, and at `strict` the first of the namespace.
fn seen() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let names = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
    names.filter(|n| n.bytes().all(|b| b.is_ascii_digit())).collect()
}

fn others() -> (bool, String) {
    let own = std::process::id().to_string();
    let others = seen().into_iter().filter(|pid| *pid != own && pid != "1").count();
    (others == 0, format!("{others} seen"))
}

fn environments() -> (bool, String) {
    let own = std::process::id().to_string();
    for pid in seen().into_iter().filter(|pid| *pid != own) {
        let Ok(environ) = std::fs::read(format!("/proc/{pid}/environ")) else { continue };
        let names: Vec<String> = environ
            .split(|b| *b == 0)
            .map(|entry| String::from_utf8_lossy(entry).split('=').next().unwrap_or_default().to_owned())
            .filter(|name| !name.is_empty() && name != super::super::MARK)
            .collect();
        if let Some(name) = names.first() {
            return (false, format!("{name} of process {pid}"));
        }
    }
    (true, "none can be read".into())
}

fn signal(canaries: &Canaries) -> (bool, String) {
    let here = std::fs::read_link("/proc/self/ns/pid").map(|l| l.to_string_lossy().into_owned());
    if here.is_ok_and(|here| here != canaries.skep.1) {
        return (true, "a process namespace of its own".into());
    }
    let Some(pid) = rustix::process::Pid::from_raw(canaries.skep.0) else { return (false, "no number".into()) };
    open_is(rustix::process::test_kill_process(pid).map_err(Into::into))
}

fn datagram(to: SocketAddr) -> (bool, String) {
    open_is(UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(b"x", to)))
}

fn abstract_socket(name: &str) -> (bool, String) {
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name);
    open_is(address.and_then(|address| UnixStream::connect_addr(&address)))
}

fn devices() -> (bool, String) {
    const DEVICES: &[&str] =
        &["/dev/mem", "/dev/kmsg", "/dev/kvm", "/dev/sda", "/dev/vda", "/dev/nvme0n1", "/dev/fuse", "/dev/net/tun"];
    let open = DEVICES.iter().find(|path| std::fs::File::open(path).is_ok());
    open.map_or((true, "none can be opened".into()), |path| (false, (*path).to_owned()))
}

/// A shell that finds the system's own tools, whatever the PATH of commands is.
fn shell() -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.env("PATH", "/usr/local/bin:/usr/bin:/bin");
    shell
}

fn file_size(limit: u64) -> (bool, String) {
    // By another process: it is killed by a signal at the limit.
    let line = format!("head -c {} /dev/zero > large", limit.saturating_mul(2));
    let _ended = shell().args(["-c", &line]).stderr(Stdio::null()).status();
    match std::fs::metadata("large").map(|m| m.len()) {
        Ok(bytes) => (bytes > 0 && bytes <= limit, format!("{bytes} bytes written, {limit} allowed")),
        Err(e) => (false, format!("not tried: {e}")),
    }
}

fn memory(limit: u64) -> (bool, String) {
    let Some(limit) = usize::try_from(limit).ok().filter(|n| *n > 0) else { return (false, "no limit".into()) };
    let mut bytes = Vec::<u8>::new();
    match bytes.try_reserve_exact(limit) {
        Ok(()) => (false, format!("{} MiB taken", limit >> 20)),
        Err(e) => (true, e.to_string()),
    }
}

/// Leaves the group and the environment behind; whether it runs on is seen from outside.
fn stray(argument: &str) -> (bool, String) {
    let mut command = shell();
    command.args(["-c", "setsid env -i /bin/sh -c 'sleep 600; : '\"$1\" & read _ < /dev/null; exit 0", "sh", argument]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.status() {
        Ok(_) => (true, "to be seen".into()),
        Err(e) => (false, format!("not tried: {e}")),
    }
}

fn processes(limit: u64) -> (bool, String) {
    let (hold, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Arc::new(std::sync::Mutex::new(wait));
    let (mut started, mut held) = (0, false);
    for _ in 0..limit.saturating_add(8) {
        let wait = wait.clone();
        let thread = std::thread::Builder::new().stack_size(32 * 1024).spawn(move || {
            // Ends when the other side is dropped.
            let _over = wait.lock().map(|w| w.recv());
        });
        if thread.is_err() {
            held = true;
            break;
        }
        started += 1;
    }
    drop(hold);
    let most = rustix::process::getrlimit(Resource::Nproc).maximum;
    (held, format!("{started} started, {} allowed", most.map_or("any number".into(), |n| n.to_string())))
}
