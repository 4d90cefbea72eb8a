//! Runs the real binary as a person does: one command at a time, on a temporary data directory and repositories.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Timeout of one command.
const TIMEOUT: Duration = Duration::from_secs(90);

/// Exit code and output of a command.
#[derive(Debug)]
pub struct CommandOutput {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl CommandOutput {
    /// Asserts the exit code.
    #[track_caller]
    pub fn exits_with(self, code: i32) -> CommandOutput {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }
    /// Asserts that standard output contains a text.
    #[track_caller]
    pub fn prints(self, text: &str) -> CommandOutput {
        assert!(self.out.contains(text), "no {text:?} in\n{}", self.out);
        self
    }
    /// Asserts that exactly one error was printed, and that error and fix contain these texts.
    #[track_caller]
    pub fn one_error(&self, what: &str, fix: &str) {
        let lines: Vec<&str> = self.err.lines().collect();
        let errors = lines.iter().filter(|l| l.starts_with("error: ")).count();
        assert_eq!(errors, 1, "{}", self.err);
        assert!(self.err.contains(what) && self.err.contains(fix), "{what:?}, {fix:?} not in\n{}", self.err);
        assert!(!self.err.contains("panicked") && !self.err.contains("RUST_BACKTRACE"), "{}", self.err);
    }
    /// Parses standard output as one JSON object.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}:\n{}", self.out))
    }
}

/// A machine with a data directory and repositories.
pub struct Cli {
    pub dir: tempfile::TempDir,
}

impl Cli {
    pub fn new() -> Cli {
        Cli { dir: tempfile::tempdir().unwrap() }
    }
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    /// Returns a command of the program without this machine's settings.
    pub fn skep(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        for name in ["SKEP_CONFIG", "SKEP_PROFILE", "SKEP_FAULT", "XDG_DATA_HOME"] {
            command.env_remove(name);
        }
        command.env("SKEP_DATA_DIR", self.path("data")).env("USER", "ann").env("TZ", "UTC");
        command
    }
    /// Runs a command to its end.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> CommandOutput {
        ended(self.skep(args))
    }
    /// Starts a command in the background; it is killed when the returned value is dropped.
    pub fn spawn(&self, args: &[&str]) -> BackgroundProcess {
        let child = self.skep(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        BackgroundProcess(child)
    }
    /// Starts `skep serve` and waits until it responds.
    pub fn serve(&self) -> BackgroundProcess {
        let service = self.spawn(&["serve", "--listen", "127.0.0.1:0"]);
        self.until("the service responds", || self.path("data/service.json").is_file());
        service
    }
    /// Starts `skep serve` after a killed one, which has left its `service.json`, and waits until it responds.
    pub fn serve_again(&self) -> BackgroundProcess {
        let left = self.path("data/service.json");
        let _nothing_left = std::fs::remove_file(&left);
        self.serve()
    }
    /// Creates a working copy with one commit on `main` and a bare clone next to it. Returns the clone.
    pub fn repo(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let work = self.path(name);
        std::fs::create_dir_all(&work).unwrap();
        for (path, text) in files {
            let path = work.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        git(&work, &["init", "-q", "-b", "main"]);
        git(&work, &["add", "-A"]);
        git(&work, &["commit", "-q", "--allow-empty", "-m", "one"]);
        let bare = self.path(&format!("{name}.git"));
        git(self.dir.path(), &["clone", "-q", "--bare", name, &format!("{name}.git")]);
        bare
    }
    /// Returns the abbreviated id of the newest run.
    #[track_caller]
    pub fn newest(&self) -> String {
        let runs = self.run(&["runs", "--json"]).exits_with(0).json();
        let id = runs["runs"][0]["run"].as_str().unwrap().to_owned();
        id[id.len() - 8..].to_owned()
    }
    /// Returns a run as printed by `show --json`.
    #[track_caller]
    pub fn show(&self, run: &str) -> Value {
        self.run(&["show", run, "--json"]).exits_with(0).json()
    }
    /// Polls until a condition holds.
    #[track_caller]
    pub fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let end = Instant::now() + TIMEOUT;
        while !holds() {
            assert!(Instant::now() < end, "not within {TIMEOUT:?}: {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Background process, killed on drop.
pub struct BackgroundProcess(pub Child);

impl Drop for BackgroundProcess {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// Runs a command to its end; kills it after the timeout.
#[track_caller]
pub fn ended(mut command: Command) -> CommandOutput {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let (finished, is_finished) = std::sync::mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if is_finished.recv_timeout(TIMEOUT) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
            let _ended = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    });
    let mut err = child.stderr.take().unwrap();
    let errors = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _partial = std::io::Read::read_to_end(&mut err, &mut text);
        text
    });
    let output = child.wait_with_output().unwrap();
    let _watchdog_gone = finished.send(());
    watchdog.join().unwrap();
    CommandOutput {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&errors.join().unwrap()).into_owned(),
    }
}

/// Runs git as the person.
#[track_caller]
pub fn git(dir: &Path, args: &[&str]) -> String {
    let identity = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org"];
    let output = Command::new("git").arg("-C").arg(dir).args(identity).args(args).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
