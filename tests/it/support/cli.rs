//! The real program as a person runs it: a throw-away data directory, repositories to work on, one command at a time.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// How a command ended.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Ends the test unless the command ended with this code.
    #[track_caller]
    pub fn ends(self, code: i32) -> Said {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }
    /// Ends the test unless this was printed.
    #[track_caller]
    pub fn says(self, text: &str) -> Said {
        assert!(self.out.contains(text), "no {text:?} in\n{}", self.out);
        self
    }
    /// Ends the test unless exactly one error and one fix were printed, which name these.
    #[track_caller]
    pub fn one_error(&self, what: &str, fix: &str) {
        let lines: Vec<&str> = self.err.lines().collect();
        let errors = lines.iter().filter(|l| l.starts_with("error: ")).count();
        assert_eq!(errors, 1, "{}", self.err);
        assert!(self.err.contains(what) && self.err.contains(fix), "{what:?}, {fix:?} not in\n{}", self.err);
        assert!(!self.err.contains("panicked") && !self.err.contains("RUST_BACKTRACE"), "{}", self.err);
    }
    /// The one JSON object printed.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}:\n{}", self.out))
    }
}

/// A person's machine.
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
    /// The program with nothing of this machine's settings.
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
    pub fn does(&self, args: &[&str]) -> Said {
        ended(self.skep(args))
    }
    /// A command that goes on beside the test; killed with the returned value.
    pub fn beside(&self, args: &[&str]) -> Beside {
        let child = self.skep(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Beside(child)
    }
    /// `serve`, once it answers.
    pub fn serve(&self) -> Beside {
        let service = self.beside(&["serve", "--listen", "127.0.0.1:0"]);
        self.until("the service answers", || self.path("data/service.json").is_file());
        service
    }
    /// A working copy with one commit on `main`, and a bare clone beside it. Gives the clone.
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
    /// The newest run's short id.
    #[track_caller]
    pub fn newest(&self) -> String {
        let runs = self.does(&["runs", "--json"]).ends(0).json();
        let id = runs["runs"][0]["run"].as_str().unwrap().to_owned();
        id[id.len() - 8..].to_owned()
    }
    /// A run as `show --json` gives it.
    #[track_caller]
    pub fn show(&self, run: &str) -> Value {
        self.does(&["show", run, "--json"]).ends(0).json()
    }
    /// Polls until it is so.
    #[track_caller]
    pub fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A process beside the test.
pub struct Beside(pub Child);

impl Drop for Beside {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// Runs a command to its end, which must come in time.
#[track_caller]
pub fn ended(mut command: Command) -> Said {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let (tell, told) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if told.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
            let _ended = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    });
    let mut err = child.stderr.take().unwrap();
    let errors = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _cut = std::io::Read::read_to_end(&mut err, &mut text);
        text
    });
    let output = child.wait_with_output().unwrap();
    let _watched = tell.send(());
    watch.join().unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&errors.join().unwrap()).into_owned(),
    }
}

/// git as the person uses it.
#[track_caller]
pub fn git(dir: &Path, args: &[&str]) -> String {
    let me = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org"];
    let done = Command::new("git").arg("-C").arg(dir).args(me).args(args).output().unwrap();
    assert!(done.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}
