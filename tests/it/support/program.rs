//! The real program as child processes, on a temporary data directory and origin.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Timeout of one command.
const COMMAND: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(10);

/// Waits until `found` returns a value; fails with `what` after `limit`.
pub fn until<T>(what: &str, limit: Duration, mut found: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < end, "not within {} s: {what}", limit.as_secs());
        std::thread::sleep(LOOK);
    }
}

/// Runs git and returns its output.
pub fn git(dir: &Path, args: &[&str]) -> String {
    let out = Command::new("git")
        .args(["-c", "user.name=A", "-c", "user.email=a@localhost"])
        .args(args)
        .current_dir(dir)
        .output()
        .expect("git runs");
    assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// Setting of a story: an origin with one commit, a data directory, a script.
pub struct Scene {
    tmp: tempfile::TempDir,
    pub origin: PathBuf,
    pub data: PathBuf,
    script: PathBuf,
    /// The database, if it is not SQLite in the data directory.
    pub url: Option<String>,
    settings: Vec<(String, String)>,
}

impl Scene {
    /// Creates a scene.
    pub fn new(script: &str, url: Option<String>) -> Scene {
        let tmp = tempfile::tempdir().expect("a temporary folder");
        let (seed, origin, data) = (tmp.path().join("seed"), tmp.path().join("tally"), tmp.path().join("data"));
        std::fs::create_dir_all(&seed).expect("seed");
        git(&seed, &["init", "-q", "-b", "main"]);
        std::fs::write(seed.join("a.txt"), "one\n").expect("a file");
        git(&seed, &["add", "."]);
        git(&seed, &["commit", "-qm", "first"]);
        // With a working copy, which moves when a change lands.
        git(tmp.path(), &["clone", "-q", "seed", "tally"]);
        let written = tmp.path().join("script.toml");
        std::fs::write(&written, script).expect("the script");
        Scene { tmp, origin, data, script: written, url, settings: Vec::new() }
    }

    /// Sets a configuration key through its variable `SKEP_<TABLE>__<KEY>`.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Scene {
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Path of a file in the scene.
    pub fn path(&self, name: &str) -> PathBuf {
        self.tmp.path().join(name)
    }

    /// URL of the store.
    pub fn store(&self) -> String {
        self.url.clone().unwrap_or_else(|| format!("sqlite://{}/skep.db", self.data.display()))
    }

    /// Returns a command on the scene's data directory.
    pub fn skep(&self, args: &[&str]) -> Command {
        self.skep_at(&self.data, args)
    }

    /// Returns a command on another data directory.
    pub fn skep_at(&self, data: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
        for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("SKEP_")) {
            command.env_remove(name);
        }
        command.args(args).env("SKEP_DATA_DIR", data).env("SKEP_SERVER__LISTEN", "127.0.0.1:0");
        command.env("USER", "ada");
        if let Some(url) = &self.url {
            command.env("SKEP_STORE__URL", url);
        }
        command.envs(self.settings.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::null());
        command
    }

    /// Returns `skep run` with the script, for a goal.
    pub fn order(&self, goal: &str, more: &[&str]) -> Command {
        let engine = format!("script:{}", self.script.display());
        self.order_by(goal, &engine, more)
    }

    /// Returns `skep run` with an engine, for a goal.
    pub fn order_by(&self, goal: &str, engine: &str, more: &[&str]) -> Command {
        let origin = self.origin.display().to_string();
        let base = ["run", "--repo", &origin, "--goal", goal, "--engine", engine, "--check", "test -f a.txt"];
        self.skep(&[&base, more].concat())
    }

    /// Starts a command, with its output in a file.
    pub fn start(&self, mut command: Command) -> Running {
        let log = tempfile::Builder::new().suffix(".log").tempfile_in(self.tmp.path()).expect("a log");
        let (_, path) = log.keep().expect("the log stays");
        let file = || std::fs::File::options().append(true).open(&path).expect("the log");
        let child = command.stdout(file()).stderr(file()).spawn().expect("the program starts");
        Running { child, log: path }
    }

    /// Runs a command to its end. Returns its exit code (`None` = killed) and its output.
    pub fn run(&self, command: Command) -> (Option<i32>, String) {
        let mut running = self.start(command);
        let code = running.wait();
        (code, running.output())
    }

    /// Starts a service and waits until it answers.
    pub fn serve(&self) -> Running {
        self.serving(self.start(self.skep(&["serve"])), &self.data)
    }

    /// Waits until a service has written its `service.json`.
    pub fn serving(&self, mut running: Running, data: &Path) -> Running {
        let pid = running.pid();
        until("the service answers", COMMAND, || {
            assert!(running.ended().is_none(), "the service ended: {}", running.output());
            let text = std::fs::read_to_string(data.join("service.json")).ok()?;
            let sign: serde_json::Value = serde_json::from_str(&text).ok()?;
            (sign["pid"].as_u64() == Some(u64::from(pid))).then_some(())
        });
        running
    }

    /// Processes that still work in the scene's folders.
    pub fn processes(&self) -> Vec<String> {
        let mark = self.tmp.path().to_string_lossy().into_owned();
        let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
        let found = processes.flatten().filter_map(|p| {
            let pid: u32 = p.file_name().to_str()?.parse().ok()?;
            let read = |name: &str| std::fs::read(p.path().join(name)).unwrap_or_default();
            let (line, environ) = (read("cmdline"), read("environ"));
            let is_here = [&line, &environ].iter().any(|b| String::from_utf8_lossy(b).contains(&mark));
            (is_here && pid != std::process::id())
                .then(|| format!("{pid} {}", String::from_utf8_lossy(&line).replace('\0', " ")))
        });
        found.collect()
    }

    /// Waits until no process works in the scene's folders any more.
    pub fn wait_until_processes_end(&self) {
        until("every process is gone", Duration::from_secs(10), || self.processes().is_empty().then_some(()));
    }
}

/// A started program; killed when dropped.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the exit code if the program has ended; `Some(None)` = killed.
    pub fn ended(&mut self) -> Option<Option<i32>> {
        self.child.try_wait().expect("its state").map(|status| status.code())
    }

    /// Waits for the program to end and returns its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        let end = Instant::now() + COMMAND;
        loop {
            if let Some(code) = self.ended() {
                return code;
            }
            assert!(Instant::now() < end, "it does not end:\n{}", self.output());
            std::thread::sleep(LOOK);
        }
    }

    /// Kills the program with SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it is gone");
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
        rustix::process::kill_process(pid, signal).expect("the signal is sent");
    }

    /// Returns what the program has written so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The program may have ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
