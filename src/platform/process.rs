//! Runs one program with limits: emptied environment, its own process group, time and output caps.
//!
//! Invariant: knows nothing of agents and checks; their commands are started through [`super::sandbox`].

use super::umask;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// A program to run. Never a shell command line: a shell is a program like any other, named by the caller.
#[derive(Clone, Debug)]
pub struct Program {
    /// Name or path of the program; looked up in the PATH of `env` when it has no slash.
    pub name: OsString,
    /// Command-line arguments.
    pub args: Vec<OsString>,
    /// The complete environment: nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory.
    pub dir: PathBuf,
    /// Bytes for standard input; for an interactive process, the first bytes.
    pub stdin: Vec<u8>,
    /// Time limit.
    pub timeout: Duration,
    /// Number of bytes of each output stream to keep (the last ones); the rest is read and dropped.
    pub max_output: usize,
}

/// Result of a finished program.
#[derive(Debug)]
pub struct ProcessOutput {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Signal that ended it, if any.
    pub signal: Option<i32>,
    /// Whether it was killed because it exceeded its time limit.
    pub timed_out: bool,
    /// Why it was killed, if not for exceeding its time limit.
    pub stop_reason: Option<StopReason>,
    /// The last [`Program::max_output`] bytes of standard output.
    pub stdout: Vec<u8>,
    /// The last [`Program::max_output`] bytes of standard error.
    pub stderr: Vec<u8>,
    /// Whether output was dropped.
    pub truncated: bool,
    /// Run time.
    pub took: Duration,
}

/// Why a monitor killed a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The command used more than it may.
    Excess(String),
    /// The machine has almost no disk space left, whoever used it.
    FullDisk(String),
}

impl std::fmt::Display for StopReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StopReason::Excess(why) | StopReason::FullDisk(why) => f.write_str(why),
        }
    }
}

/// Notice that precedes truncated output.
pub const TRUNCATION_NOTICE: &[u8] = b"[output truncated: only the end is shown]\n";

impl ProcessOutput {
    /// Returns whether it exited by itself with code 0.
    pub fn ok(&self) -> bool {
        self.code == Some(0) && !self.timed_out && self.stop_reason.is_none()
    }

    /// Returns standard output for a log, preceded by [`TRUNCATION_NOTICE`] if only the end was kept.
    pub fn into_log(self) -> Vec<u8> {
        if self.truncated { [TRUNCATION_NOTICE, &self.stdout].concat() } else { self.stdout }
    }
}

/// Standard input of a program.
#[derive(Debug)]
pub enum Input {
    /// [`Program::stdin`], then end of file.
    Closed,
    /// [`Program::stdin`], with the pipe held open until the program ends. The reader sees the end of file only when
    /// this process dies, and can treat it as the signal to stop.
    HeldOpen,
    /// [`Program::stdin`], then the content of a file, then end of file.
    ThenFile(std::fs::File),
}

/// Callback for each chunk of output as it arrives; the flag is `true` for standard error.
pub type OnOutput = std::sync::Arc<dyn Fn(bool, &[u8]) + Send + Sync>;

/// Guaranteed capacity of a new pipe, in bytes.
const PIPE_BYTES: usize = 32 * 1024;
/// Time that the pipes may stay open after the program has exited. Only a process that left the group can hold them
/// open.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Time that a killed program may take to disappear (a hung network file system can hold it in the kernel).
const REAP_TIMEOUT: Duration = Duration::from_secs(10);

/// A child process and its process group. The whole group is killed on drop, so that a dropped future leaves no
/// process behind.
struct ProcessGroup {
    pid: Option<rustix::process::Pid>,
    child: Child,
}

impl ProcessGroup {
    fn kill(&self) {
        if let Some(pid) = self.pid {
            // The group may have ended already; then there is nothing to do.
            let _gone = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A running program that is driven over its pipes. Dropping it kills its process group.
pub struct InteractiveProcess {
    /// Standard input of the program.
    pub stdin: ChildStdin,
    /// Standard output of the program.
    pub stdout: ChildStdout,
    /// Controls the process.
    pub handle: ProcessHandle,
}

/// Control over an interactive process, apart from its pipes.
pub struct ProcessHandle {
    group: ProcessGroup,
    stderr: std::sync::Arc<Mutex<OutputTail>>,
    stderr_reader: tokio::task::JoinHandle<()>,
    max_output: usize,
    started: Instant,
    stop_reason: std::sync::Arc<Mutex<Option<StopReason>>>,
    monitor: Option<tokio::task::JoinHandle<()>>,
    terminate: Option<Terminate>,
}

/// Asks a program to terminate gracefully; returns `false` if no process could be signalled.
pub type Terminate = Box<dyn Fn() -> bool + Send + Sync>;

impl Drop for ProcessHandle {
    fn drop(&mut self) {
        if let Some(monitor) = &self.monitor {
            monitor.abort();
        }
    }
}

impl ProcessHandle {
    /// Kills the process when the future that `monitor` returns for its process id completes; its output becomes
    /// [`ProcessOutput::stop_reason`].
    pub fn kill_when<F: Future<Output = StopReason> + Send + 'static>(&mut self, monitor: impl FnOnce(u32) -> F) {
        let Some(pid) = self.group.pid else { return };
        // By pidfd, because by then the process id may belong to another process.
        let Ok(handle) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else { return };
        let (exceeded, stop_reason) = (monitor(pid.as_raw_nonzero().get().unsigned_abs()), self.stop_reason.clone());
        self.monitor = Some(tokio::spawn(async move {
            let why = exceeded.await;
            *stop_reason.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(why);
            // The process may have ended in the meantime.
            let _gone = rustix::process::pidfd_send_signal(&handle, rustix::process::Signal::KILL);
        }));
    }

    /// Sets how the process is asked to terminate when its group consists only of a wrapper around it.
    pub fn terminate_with(&mut self, terminate: Terminate) {
        self.terminate = Some(terminate);
    }

    /// Waits until the process exits by itself. Cancel-safe.
    ///
    /// # Errors
    /// When the operating system reports an error.
    pub async fn wait(&mut self) -> std::io::Result<std::process::ExitStatus> {
        self.group.child.wait().await
    }

    /// Returns the last bytes of standard error so far, and whether earlier bytes were dropped.
    pub fn stderr(&self) -> (Vec<u8>, bool) {
        let mut tail = self.stderr.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        tail.trim(self.max_output);
        (tail.bytes.clone(), tail.truncated)
    }

    /// Ends the process. It may first exit by itself within `grace` (the caller should have closed its input); then it
    /// is asked to terminate (see [`ProcessHandle::terminate_with`]; by default, SIGTERM to its group) and gets
    /// `grace` again; then its group is killed.
    ///
    /// # Errors
    /// When the process does not disappear after it was killed.
    pub async fn shut_down(mut self, grace: Duration) -> std::io::Result<ProcessOutput> {
        let mut status = tokio::time::timeout(grace, self.group.child.wait()).await.ok().transpose()?;
        if status.is_none() {
            let signalled = self.terminate.as_ref().is_some_and(|terminate| terminate());
            if let Some(pid) = self.group.pid.filter(|_| !signalled) {
                // The group may have ended in the meantime.
                let _gone = rustix::process::kill_process_group(pid, rustix::process::Signal::TERM);
            }
            status = tokio::time::timeout(grace, self.group.child.wait()).await.ok().transpose()?;
        }
        let forced = status.is_none();
        self.group.kill();
        let status = match status {
            Some(status) => status,
            None => tokio::time::timeout(REAP_TIMEOUT, self.group.child.wait()).await.map_err(|_| {
                std::io::Error::new(std::io::ErrorKind::TimedOut, "the process was killed but has not exited")
            })??,
        };
        self.group.pid = None;
        // The last output may still be in the pipe; a process that left the group may hold the pipe open.
        let _all = tokio::time::timeout(DRAIN_TIMEOUT, &mut self.stderr_reader).await;
        let (stderr, truncated) = self.stderr();
        let stop_reason = self.stop_reason.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        Ok(ProcessOutput {
            code: status.code(),
            signal: status.signal(),
            timed_out: forced,
            stop_reason,
            stdout: Vec::new(),
            stderr,
            truncated,
            took: self.started.elapsed(),
        })
    }
}

/// Starts a program to be driven over its pipes. [`Program::timeout`] is not used, `stdin` is written before this
/// returns, and the last [`Program::max_output`] bytes of standard error are kept.
///
/// # Errors
/// When it cannot be started (the error names the program), or `stdin` does not fit into a pipe (1 MiB for most
/// users).
pub fn spawn(program: &Program) -> std::io::Result<InteractiveProcess> {
    let mut group = start(program, None)?;
    let taken = (group.child.stdin.take(), group.child.stdout.take(), group.child.stderr.take());
    let (Some(stdin), Some(stdout), err) = taken else {
        return Err(std::io::Error::other("the program was started without pipes"));
    };
    write_initial(&stdin, &program.stdin)?;
    let (stderr, max_output) = (std::sync::Arc::new(Mutex::new(OutputTail::default())), program.max_output);
    let tail = stderr.clone();
    // Ends when the pipe closes, which the end of the group causes.
    let stderr_reader = tokio::spawn(async move { read_tail(err, max_output, true, None, &tail).await });
    let stop_reason = std::sync::Arc::default();
    let (started, monitor, terminate) = (Instant::now(), None, None);
    let handle = ProcessHandle { group, stderr, stderr_reader, max_output, started, stop_reason, monitor, terminate };
    Ok(InteractiveProcess { stdin, stdout, handle })
}

/// Writes into a new pipe, enlarged if necessary so that nothing has to be read meanwhile.
fn write_initial(pipe: &ChildStdin, mut bytes: &[u8]) -> std::io::Result<()> {
    if bytes.len() > PIPE_BYTES {
        rustix::pipe::fcntl_setpipe_size(pipe, bytes.len())?;
    }
    while !bytes.is_empty() {
        let written = rustix::io::write(pipe, bytes)?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Starts the program in its own process group, with pipes. It inherits `descriptor` under the same number.
fn start(program: &Program, descriptor: Option<OwnedFd>) -> std::io::Result<ProcessGroup> {
    let mut command = Command::new(&program.name);
    command
        .args(&program.args)
        .env_clear()
        .envs(program.env.iter().map(|(k, v)| (k, v)))
        .current_dir(&program.dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(umask) = umask::inherited() {
        let restore = move || {
            rustix::process::umask(umask);
            Ok(())
        };
        #[allow(unsafe_code)] // only makes a system call, which is allowed between fork and exec
        unsafe {
            command.pre_exec(restore);
        }
    }
    if let Some(descriptor) = descriptor {
        let none = rustix::io::FdFlags::empty();
        let keep_open = move || rustix::io::fcntl_setfd(&descriptor, none).map_err(std::io::Error::from);
        #[allow(unsafe_code)] // only makes a system call, which is allowed between fork and exec
        unsafe {
            command.pre_exec(keep_open);
        }
    }
    let child = command.spawn().map_err(|e| {
        std::io::Error::new(e.kind(), format!("cannot start {:?} in {}: {e}", program.name, program.dir.display()))
    })?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    Ok(ProcessGroup { pid, child })
}

/// Keeps this process's memory, which contains secrets, from the disk and from other processes of this user: no core
/// dump is written, and none of them can trace it or read its environment. Programs that it starts are not affected.
pub fn protect_memory() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    // Both can only fail in a container that filters these calls, and nothing else depends on them.
    let _filtered = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _filtered = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Runs a program until it exits or hits its time limit. When it exits, everything still running in its process group
/// is killed. Dropping the future kills the group, too.
///
/// # Errors
/// When it cannot be started (the error names the program), or does not disappear after it was killed.
pub async fn run(program: &Program, on_output: Option<OnOutput>) -> std::io::Result<ProcessOutput> {
    run_with_monitor(program, on_output, |_| std::future::pending()).await
}

/// Like [`run`], with another kind of input.
///
/// # Errors
/// As for [`run`].
pub async fn run_with_input(program: &Program, input: Input) -> std::io::Result<ProcessOutput> {
    run_all(program, input, None, None, |_| std::future::pending()).await
}

/// Like [`run`], for a program that inherits one more file descriptor, under the same number.
///
/// # Errors
/// As for [`run`].
pub async fn run_with_descriptor(program: &Program, descriptor: OwnedFd) -> std::io::Result<ProcessOutput> {
    run_all(program, Input::Closed, Some(descriptor), None, |_| std::future::pending()).await
}

/// Like [`run`], but also kills the program when the future that `monitor` returns for its process id completes; its
/// output becomes [`ProcessOutput::stop_reason`].
///
/// # Errors
/// As for [`run`].
pub async fn run_with_monitor<F: Future<Output = StopReason>>(
    program: &Program,
    on_output: Option<OnOutput>,
    monitor: impl FnOnce(u32) -> F,
) -> std::io::Result<ProcessOutput> {
    run_all(program, Input::Closed, None, on_output, monitor).await
}

async fn run_all<F: Future<Output = StopReason>>(
    program: &Program,
    input: Input,
    descriptor: Option<OwnedFd>,
    on_output: Option<OnOutput>,
    monitor: impl FnOnce(u32) -> F,
) -> std::io::Result<ProcessOutput> {
    let started = Instant::now();
    let mut group = start(program, descriptor)?;
    let stdin = group.child.stdin.take();
    let (out, err) = (group.child.stdout.take(), group.child.stderr.take());

    // Outside the reading futures, so that giving up on a pipe does not lose what already came through it.
    let (tail_out, tail_err) = (Mutex::new(OutputTail::default()), Mutex::new(OutputTail::default()));
    // Held until the end of this function, which is the end of the program.
    let held_stdin: Mutex<Option<ChildStdin>> = Mutex::new(None);
    let feed = async {
        if let Some(mut pipe) = stdin {
            // A program that does not read its input closes the pipe; that is not an error.
            let _closed = pipe.write_all(&program.stdin).await;
            match input {
                Input::Closed => {}
                Input::ThenFile(file) => {
                    let _closed = tokio::io::copy(&mut tokio::fs::File::from_std(file), &mut pipe).await;
                }
                Input::HeldOpen => *held_stdin.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(pipe),
            }
        }
    };
    let pipes = async {
        tokio::join!(
            feed,
            read_tail(out, program.max_output, false, on_output.as_ref(), &tail_out),
            read_tail(err, program.max_output, true, on_output.as_ref(), &tail_err),
        );
    };
    tokio::pin!(pipes);
    let deadline = tokio::time::sleep(program.timeout);
    tokio::pin!(deadline);

    // Wait for the group leader, not for the pipes: a program may close its output and keep running, or leave a child
    // that holds them open.
    let exceeded = monitor(group.child.id().unwrap_or(0));
    tokio::pin!(exceeded);
    let (mut status, mut closed, mut timed_out, mut stop_reason) = (None, false, false, None);
    while status.is_none() && !timed_out && stop_reason.is_none() {
        tokio::select! {
            ended = group.child.wait() => status = Some(ended?),
            () = &mut pipes, if !closed => closed = true,
            () = &mut deadline => timed_out = true,
            why = &mut exceeded => stop_reason = Some(why),
        }
    }
    group.kill();
    if !closed {
        let _held = tokio::time::timeout(DRAIN_TIMEOUT, &mut pipes).await;
    }
    let status = match status {
        Some(status) => status,
        None => tokio::time::timeout(REAP_TIMEOUT, group.child.wait()).await.map_err(|_| {
            std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                format!("{:?} was killed but has not exited after {} s", program.name, REAP_TIMEOUT.as_secs()),
            )
        })??,
    };
    // The child is reaped: its process id may be reused, so it must not be killed again.
    group.pid = None;
    let (stdout, cut_out) = OutputTail::take(&tail_out, program.max_output);
    let (stderr, cut_err) = OutputTail::take(&tail_err, program.max_output);
    Ok(ProcessOutput {
        code: status.code(),
        signal: status.signal(),
        timed_out,
        stop_reason,
        stdout,
        stderr,
        truncated: cut_out || cut_err,
        took: started.elapsed(),
    })
}

/// The last bytes of an output stream.
#[derive(Default)]
struct OutputTail {
    bytes: Vec<u8>,
    truncated: bool,
}

impl OutputTail {
    fn add(&mut self, chunk: &[u8], max_bytes: usize) {
        self.bytes.extend_from_slice(chunk);
        // Trimmed only occasionally, so that a flood of output does not move the same bytes for every chunk.
        if self.bytes.len() > max_bytes.saturating_mul(2) {
            self.trim(max_bytes);
        }
    }
    fn trim(&mut self, max_bytes: usize) {
        if self.bytes.len() > max_bytes {
            self.bytes.drain(..self.bytes.len() - max_bytes);
            self.truncated = true;
        }
    }
    fn take(tail: &Mutex<OutputTail>, max_bytes: usize) -> (Vec<u8>, bool) {
        let mut tail = tail.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        tail.trim(max_bytes);
        (std::mem::take(&mut tail.bytes), tail.truncated)
    }
}

/// Reads a stream to its end into `tail`.
async fn read_tail(
    stream: Option<impl AsyncRead + Unpin>,
    max_bytes: usize,
    is_err: bool,
    on_output: Option<&OnOutput>,
    tail: &Mutex<OutputTail>,
) {
    let Some(mut stream) = stream else { return };
    let mut chunk = vec![0; 16 * 1024];
    while let Ok(n @ 1..) = stream.read(&mut chunk).await {
        if let Some(on_output) = on_output {
            on_output(is_err, &chunk[..n]);
        }
        tail.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(&chunk[..n], max_bytes);
    }
}
