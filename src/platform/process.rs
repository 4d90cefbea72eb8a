//! Running one program with limits: emptied environment, own process group, time and output caps.
//!
//! Invariant: knows nothing of agents and checks; what they start goes through [`super::sandbox`].

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// What to run. Never a shell line: a shell is a program like any other, named by the caller.
#[derive(Clone, Debug)]
pub struct Program {
    /// The program; looked up in `env`'s PATH when it has no slash.
    pub name: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment: nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    /// Its working folder.
    pub dir: PathBuf,
    /// What it reads from standard input, or first from it when it is talked to.
    pub stdin: Vec<u8>,
    /// How long it may take.
    pub limit: Duration,
    /// How many bytes of each output stream are kept (the last ones); the rest is read and dropped.
    pub keep: usize,
}

/// How it ended.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; `None` = killed by a signal.
    pub code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// Whether it was killed because its time was up.
    pub timed_out: bool,
    /// Why it was stopped, if another limit than time stopped it.
    pub stopped: Option<String>,
    /// The last `keep` bytes of standard output.
    pub stdout: Vec<u8>,
    /// The last `keep` bytes of standard error.
    pub stderr: Vec<u8>,
    /// Whether output was dropped.
    pub truncated: bool,
    /// How long it ran.
    pub took: Duration,
}

/// Stands before output of which only the end was kept.
pub const CUT: &[u8] = b"[output cut: this is the end of it]\n";

impl Finished {
    /// Whether it ended by itself with exit code 0.
    pub fn ok(&self) -> bool {
        self.code == Some(0) && !self.timed_out && self.stopped.is_none()
    }

    /// Standard output for keeping, with [`CUT`] before it when it is only the end.
    pub fn into_log(self) -> Vec<u8> {
        if self.truncated { [CUT, &self.stdout].concat() } else { self.stdout }
    }
}

/// What a program reads from standard input.
#[derive(Debug)]
pub enum Input {
    /// [`Program::stdin`], then its end.
    Given,
    /// [`Program::stdin`]; its end comes only with the end of this process, or of the run: whoever reads it knows by that.
    Kept,
    /// [`Program::stdin`], then a file's content, then its end.
    Then(std::fs::File),
}

/// Called with each chunk of output as it comes: `true` = standard error.
pub type OnOutput = std::sync::Arc<dyn Fn(bool, &[u8]) + Send + Sync>;

/// What a pipe holds at least, as made.
const PIPE: usize = 32 * 1024;
/// How long the pipes may stay open after the program itself is gone. Only a process that left the group can hold them.
const DRAIN: Duration = Duration::from_secs(1);
/// How long a killed program may take to be gone (a hung network file system can hold it in the kernel).
const REAP: Duration = Duration::from_secs(10);

/// Kills the whole process group when dropped, so that a dropped future leaves no stray behind.
struct Group {
    pid: Option<rustix::process::Pid>,
    child: Child,
}

impl Group {
    fn kill(&self) {
        if let Some(pid) = self.pid {
            // The group may be gone already; there is nothing else to do then.
            let _gone = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A program that is talked to while it runs. Dropped, its process group is killed.
pub struct Talk {
    /// What it reads.
    pub stdin: ChildStdin,
    /// What it writes.
    pub stdout: ChildStdout,
    /// The rest of it.
    pub end: TalkEnd,
}

/// A program that is talked to, apart from its pipes.
pub struct TalkEnd {
    group: Group,
    stderr: std::sync::Arc<Mutex<Kept>>,
    gathering: tokio::task::JoinHandle<()>,
    keep: usize,
    started: Instant,
    stopped: std::sync::Arc<Mutex<Option<String>>>,
    guard: Option<tokio::task::JoinHandle<()>>,
    tell: Option<Tell>,
}

/// Tells a program to end in good order; `false` = there was nobody to tell.
pub type Tell = Box<dyn Fn() -> bool + Send + Sync>;

impl Drop for TalkEnd {
    fn drop(&mut self) {
        if let Some(guard) = &self.guard {
            guard.abort();
        }
    }
}

impl TalkEnd {
    /// Kills it when what `over` gives for its number ends, and keeps the words of that for [`Finished::stopped`].
    pub fn stop_when<F: Future<Output = String> + Send + 'static>(&mut self, over: impl FnOnce(u32) -> F) {
        let Some(pid) = self.group.pid else { return };
        // By handle: the number may be another's by then.
        let Ok(handle) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else { return };
        let (over, stopped) = (over(pid.as_raw_nonzero().get().unsigned_abs()), self.stopped.clone());
        self.guard = Some(tokio::spawn(async move {
            let why = over.await;
            *stopped.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(why);
            // It may have gone just now.
            let _gone = rustix::process::pidfd_send_signal(&handle, rustix::process::Signal::KILL);
        }));
    }

    /// How it is told to end, where its group is only what stands around it.
    pub fn tell_by(&mut self, tell: Tell) {
        self.tell = Some(tell);
    }

    /// Waits until it ends by itself. Cancel-safe.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub async fn wait(&mut self) -> std::io::Result<std::process::ExitStatus> {
        self.group.child.wait().await
    }

    /// The last bytes of its standard error so far, and whether there was more before them.
    pub fn stderr(&self) -> (Vec<u8>, bool) {
        let mut kept = self.stderr.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        kept.trim(self.keep);
        (kept.bytes.clone(), kept.cut)
    }

    /// Ends it: it may end by itself within `grace` (its input should be closed already), then it is told to (see [`TalkEnd::tell_by`]; else
    /// by SIGTERM to its group) and given `grace` again, then its group is killed.
    ///
    /// # Errors
    /// When it cannot be got rid of.
    pub async fn end(mut self, grace: Duration) -> std::io::Result<Finished> {
        let mut status = tokio::time::timeout(grace, self.group.child.wait()).await.ok().transpose()?;
        if status.is_none() {
            let told = self.tell.as_ref().is_some_and(|tell| tell());
            if let Some(pid) = self.group.pid.filter(|_| !told) {
                // It may have gone just now.
                let _gone = rustix::process::kill_process_group(pid, rustix::process::Signal::TERM);
            }
            status = tokio::time::timeout(grace, self.group.child.wait()).await.ok().transpose()?;
        }
        let forced = status.is_none();
        self.group.kill();
        let status = match status {
            Some(status) => status,
            None => tokio::time::timeout(REAP, self.group.child.wait())
                .await
                .map_err(|_| std::io::Error::new(std::io::ErrorKind::TimedOut, "it was killed and is still there"))??,
        };
        self.group.pid = None;
        // Its last words may be in the pipe still; who left the group may hold that open.
        let _all = tokio::time::timeout(DRAIN, &mut self.gathering).await;
        let (stderr, truncated) = self.stderr();
        let stopped = self.stopped.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        Ok(Finished {
            code: status.code(),
            signal: status.signal(),
            timed_out: forced,
            stopped,
            stdout: Vec::new(),
            stderr,
            truncated,
            took: self.started.elapsed(),
        })
    }
}

/// Starts a program to talk to: `limit` of it is not used, `stdin` is written before this returns, and of standard error the last `keep`
/// bytes are kept.
///
/// # Errors
/// When it cannot be started (the text names the program), or `stdin` is more than a pipe holds (1 MiB for most users).
pub fn open(program: &Program) -> std::io::Result<Talk> {
    let mut group = start(program)?;
    let taken = (group.child.stdin.take(), group.child.stdout.take(), group.child.stderr.take());
    let (Some(stdin), Some(stdout), err) = taken else {
        return Err(std::io::Error::other("the program was started without its pipes"));
    };
    write_first(&stdin, &program.stdin)?;
    let (stderr, keep) = (std::sync::Arc::new(Mutex::new(Kept::default())), program.keep);
    let kept = stderr.clone();
    // Ends when the pipe closes: the group's end closes it.
    let gathering = tokio::spawn(async move { gather(err, keep, true, None, &kept).await });
    let stopped = std::sync::Arc::default();
    let end = TalkEnd { group, stderr, gathering, keep, started: Instant::now(), stopped, guard: None, tell: None };
    Ok(Talk { stdin, stdout, end })
}

/// Writes into a fresh pipe, made large enough that nobody needs to read meanwhile.
fn write_first(pipe: &ChildStdin, mut bytes: &[u8]) -> std::io::Result<()> {
    if bytes.len() > PIPE {
        rustix::pipe::fcntl_setpipe_size(pipe, bytes.len())?;
    }
    while !bytes.is_empty() {
        let written = rustix::io::write(pipe, bytes)?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Starts it in a process group of its own, with pipes.
fn start(program: &Program) -> std::io::Result<Group> {
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
    let child = command.spawn().map_err(|e| {
        std::io::Error::new(e.kind(), format!("cannot start {:?} in {}: {e}", program.name, program.dir.display()))
    })?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    Ok(Group { pid, child })
}

/// Runs a program to its end or its limit. Its end ends its process group: what it left running in the group is killed.
/// Dropping the future kills the group too.
///
/// # Errors
/// When it cannot be started (the text names the program), or cannot be got rid of.
pub async fn run(program: &Program, on_output: Option<OnOutput>) -> std::io::Result<Finished> {
    run_until(program, on_output, |_| std::future::pending()).await
}

/// The same with another input.
///
/// # Errors
/// As for [`run`].
pub async fn run_fed(program: &Program, input: Input) -> std::io::Result<Finished> {
    run_all(program, input, None, |_| std::future::pending()).await
}

/// The same, and it is also killed when what `over` gives for its number ends: with the words for [`Finished::stopped`].
///
/// # Errors
/// As for [`run`].
pub async fn run_until<F: Future<Output = String>>(
    program: &Program,
    on_output: Option<OnOutput>,
    over: impl FnOnce(u32) -> F,
) -> std::io::Result<Finished> {
    run_all(program, Input::Given, on_output, over).await
}

async fn run_all<F: Future<Output = String>>(
    program: &Program,
    input: Input,
    on_output: Option<OnOutput>,
    over: impl FnOnce(u32) -> F,
) -> std::io::Result<Finished> {
    let started = Instant::now();
    let mut group = start(program)?;
    let stdin = group.child.stdin.take();
    let (out, err) = (group.child.stdout.take(), group.child.stderr.take());

    // Outside the reading futures, so that giving up on a pipe does not give up what came through it.
    let (kept_out, kept_err) = (Mutex::new(Kept::default()), Mutex::new(Kept::default()));
    // Held to the end of this function, which is the end of the program.
    let held: Mutex<Option<ChildStdin>> = Mutex::new(None);
    let feed = async {
        if let Some(mut pipe) = stdin {
            // A program that does not read its input closes the pipe: that is its business.
            let _closed = pipe.write_all(&program.stdin).await;
            match input {
                Input::Given => {}
                Input::Then(file) => {
                    let _closed = tokio::io::copy(&mut tokio::fs::File::from_std(file), &mut pipe).await;
                }
                Input::Kept => *held.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(pipe),
            }
        }
    };
    let (limit, pipes) = (program.limit, async {
        tokio::join!(
            feed,
            gather(out, program.keep, false, on_output.as_ref(), &kept_out),
            gather(err, program.keep, true, on_output.as_ref(), &kept_err),
        );
    });
    tokio::pin!(pipes);
    let deadline = tokio::time::sleep(limit);
    tokio::pin!(deadline);

    // The leader's end counts, not the pipes': a program may close its output and run on, or leave a child holding them.
    let over = over(group.child.id().unwrap_or(0));
    tokio::pin!(over);
    let (mut status, mut closed, mut timed_out, mut stopped) = (None, false, false, None);
    while status.is_none() && !timed_out && stopped.is_none() {
        tokio::select! {
            ended = group.child.wait() => status = Some(ended?),
            () = &mut pipes, if !closed => closed = true,
            () = &mut deadline => timed_out = true,
            why = &mut over => stopped = Some(why),
        }
    }
    group.kill();
    if !closed {
        let _held = tokio::time::timeout(DRAIN, &mut pipes).await;
    }
    let status = match status {
        Some(status) => status,
        None => tokio::time::timeout(REAP, group.child.wait()).await.map_err(|_| {
            std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                format!("{:?} was killed and is still there after {} s", program.name, REAP.as_secs()),
            )
        })??,
    };
    // It is reaped: its number may be another's soon, so it must not be killed again.
    group.pid = None;
    let (stdout, cut_out) = Kept::take(&kept_out, program.keep);
    let (stderr, cut_err) = Kept::take(&kept_err, program.keep);
    Ok(Finished {
        code: status.code(),
        signal: status.signal(),
        timed_out,
        stopped,
        stdout,
        stderr,
        truncated: cut_out || cut_err,
        took: started.elapsed(),
    })
}

/// The end of a stream.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    cut: bool,
}

impl Kept {
    fn add(&mut self, chunk: &[u8], keep: usize) {
        self.bytes.extend_from_slice(chunk);
        // Only now and then, so that a flood does not move the same bytes for each chunk.
        if self.bytes.len() > keep.saturating_mul(2) {
            self.trim(keep);
        }
    }
    fn trim(&mut self, keep: usize) {
        if self.bytes.len() > keep {
            self.bytes.drain(..self.bytes.len() - keep);
            self.cut = true;
        }
    }
    fn take(kept: &Mutex<Kept>, keep: usize) -> (Vec<u8>, bool) {
        let mut kept = kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        kept.trim(keep);
        (std::mem::take(&mut kept.bytes), kept.cut)
    }
}

/// Reads to the end into `kept`.
async fn gather(
    stream: Option<impl AsyncRead + Unpin>,
    keep: usize,
    is_err: bool,
    on_output: Option<&OnOutput>,
    kept: &Mutex<Kept>,
) {
    let Some(mut stream) = stream else { return };
    let mut chunk = vec![0; 16 * 1024];
    while let Ok(n @ 1..) = stream.read(&mut chunk).await {
        if let Some(tell) = on_output {
            tell(is_err, &chunk[..n]);
        }
        kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(&chunk[..n], keep);
    }
}
