//! A real OpenSSH server on loopback for the duration of a test, with its own keys, known hosts and settings.

use skep::adapters::runner::settings::{Runner, Ssh};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Upper bound on the time until the server listens.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A running server.
pub struct Sshd {
    dir: tempfile::TempDir,
    server: Child,
    pub port: u16,
}

fn keygen(path: &Path) {
    let status = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status();
    assert!(status.is_ok_and(|s| s.success()), "ssh-keygen; scripts/test installs openssh");
}

impl Sshd {
    /// Starts a server with additional lines of settings.
    pub fn start(settings: &str) -> Sshd {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["host", "other", "user"] {
            keygen(&path(name));
        }
        // Privilege separation needs a folder that systemd would create.
        if rustix::process::geteuid().is_root() {
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        std::fs::copy(path("user.pub"), path("authorized")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self::serve(dir.path(), port, "host", settings);
        let mut sshd = Sshd { dir, server, port };
        // Another process may have taken the port since it was found to be free.
        for _ in 0..5 {
            if sshd.listens() {
                sshd.set_known_key("host.pub");
                return sshd;
            }
            sshd.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            sshd.server = Self::serve(sshd.dir.path(), sshd.port, "host", settings);
        }
        panic!("sshd did not start: {}", std::fs::read_to_string(sshd.path("log")).unwrap_or_default());
    }

    fn serve(dir: &Path, port: u16, key: &str, settings: &str) -> Child {
        let text = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {0}/{key}\nAuthorizedKeysFile {0}/authorized\nPidFile none\nUsePAM no\n\
             StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
             MaxStartups 100\n{settings}\n",
            dir.display()
        );
        std::fs::write(dir.join("config"), text).unwrap();
        let program = ["/usr/sbin/sshd", "/usr/bin/sshd"].into_iter().find(|p| Path::new(p).is_file());
        let program = program.expect("sshd; scripts/test installs openssh-server");
        let log = std::fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
        let mut command = Command::new(program);
        command.args(["-D", "-e", "-f"]).arg(dir.join("config")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.spawn().unwrap()
    }

    fn listens(&mut self) -> bool {
        let end = Instant::now() + START_TIMEOUT;
        while Instant::now() < end && matches!(self.server.try_wait(), Ok(None)) {
            if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// Path of one of its files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Replaces the known hosts with one public key.
    fn set_known_key(&self, key: &str) {
        let key = std::fs::read_to_string(self.path(key)).unwrap();
        std::fs::write(self.path("known"), format!("[127.0.0.1]:{} {key}", self.port)).unwrap();
    }

    /// Replaces the known host key with another one, as if another machine answered for the host.
    pub fn replace_known_key(&self) {
        self.set_known_key("other.pub");
    }

    /// Skep's folder on the host.
    pub fn root(&self) -> PathBuf {
        self.path("skep")
    }

    /// Folders of the existing sessions.
    pub fn sessions(&self) -> Vec<PathBuf> {
        let list = |dir: &Path| -> Vec<PathBuf> {
            std::fs::read_dir(dir).map(|d| d.flatten().map(|e| e.path()).collect()).unwrap_or_default()
        };
        list(&self.root()).iter().flat_map(|owner| list(owner)).collect()
    }

    /// Kills the server and its connections.
    pub fn cut(&mut self) {
        self.cut_connections();
        let _gone = self.server.kill();
        let _ended = self.server.wait();
    }

    /// Kills the open connections.
    pub fn cut_connections(&self) {
        for pid in descendants(self.server.id()) {
            if name_of(pid).starts_with("sshd") {
                let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
                let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }

    /// Restarts the server after [`Sshd::cut`].
    pub fn restart(&mut self) {
        self.server = Self::serve(self.dir.path(), self.port, "host", "");
        assert!(self.listens());
    }

    /// The user who may log in: the one of this process.
    pub fn user() -> String {
        let output = Command::new("id").arg("-un").output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// The server's settings as a runner.
    pub fn runner(&self) -> Runner {
        Runner::Ssh(Ssh {
            host: "127.0.0.1".into(),
            port: self.port,
            user: Self::user(),
            identity_file: self.path("user"),
            known_hosts: self.path("known"),
            dir: self.root().to_str().unwrap().to_owned(),
        })
    }

    /// The server's settings as a configuration table.
    pub fn table(&self, name: &str) -> String {
        format!(
            "[runners.{name}]\nkind = \"ssh\"\nhost = \"127.0.0.1\"\nport = {}\nuser = {:?}\nidentity_file = {:?}\nknown_hosts = {:?}\ndir = {:?}\n",
            self.port,
            Self::user(),
            self.path("user"),
            self.path("known"),
            self.root()
        )
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.cut();
    }
}

fn name_of(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default()
}

fn descendants(of: u32) -> Vec<u32> {
    let path = format!("/proc/{of}/task/{of}/children");
    let children = std::fs::read_to_string(path).unwrap_or_default();
    let children = children.split_ascii_whitespace().filter_map(|p| p.parse().ok());
    children.flat_map(|pid| [descendants(pid), vec![pid]].concat()).collect()
}

/// Returns the processes whose command line starts with a text.
pub fn running(text: &str) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|p| p.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        *pid != std::process::id() && String::from_utf8_lossy(&line).replace('\0', " ").starts_with(text)
    })
    .collect()
}
