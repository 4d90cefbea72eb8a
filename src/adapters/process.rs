//! Running one program with limits: emptied environment, own process group, time and output caps, no strays.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

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
    /// What it reads from standard input.
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
    /// Whether it was killed because its time was up.
    pub timed_out: bool,
    /// The last `keep` bytes of standard output.
    pub stdout: Vec<u8>,
    /// The last `keep` bytes of standard error.
    pub stderr: Vec<u8>,
    /// Whether output was dropped.
    pub truncated: bool,
    /// How long it ran.
    pub took: Duration,
}

impl Finished {
    /// Whether it ended by itself with exit code 0.
    pub fn ok(&self) -> bool {
        self.code == Some(0) && !self.timed_out
    }
}

/// Called with each chunk of output as it comes: `true` = standard error.
pub type OnOutput = std::sync::Arc<dyn Fn(bool, &[u8]) + Send + Sync>;

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

/// Runs a program to its end or its limit. Dropping the future kills the process group.
///
/// # Errors
/// Only when it cannot be started; the text names the program.
pub async fn run(program: &Program, on_output: Option<OnOutput>) -> std::io::Result<Finished> {
    let started = Instant::now();
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
    let mut child = command.spawn().map_err(|e| {
        std::io::Error::new(e.kind(), format!("cannot start {:?} in {}: {e}", program.name, program.dir.display()))
    })?;
    let pid = child.id().and_then(|id| rustix::process::Pid::from_raw(id as i32));
    let stdin = child.stdin.take();
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let mut group = Group { pid, child };

    let feed = async {
        if let Some(mut pipe) = stdin {
            // A program that does not read its input closes the pipe: that is its business.
            let _closed = pipe.write_all(&program.stdin).await;
        }
    };
    let work = async {
        let (_, stdout, stderr) = tokio::join!(
            feed,
            tail(out, program.keep, false, on_output.as_ref()),
            tail(err, program.keep, true, on_output.as_ref()),
        );
        (stdout, stderr)
    };
    tokio::pin!(work);
    let mut timed_out = false;
    let deadline = tokio::time::sleep(program.limit);
    tokio::pin!(deadline);
    let ((stdout, cut_out), (stderr, cut_err)) = tokio::select! {
        // The leader's end ends the group: a grandchild that holds the pipes open must not hold us.
        both = async {
            let waited = async { group.child.wait().await };
            tokio::select! {
                both = &mut work => both,
                _ = waited => {
                    group.kill();
                    work.as_mut().await
                }
            }
        } => both,
        () = &mut deadline => {
            timed_out = true;
            group.kill();
            // What it wrote so far is kept; the pipes close with the group.
            tokio::time::timeout(Duration::from_secs(2), work.as_mut()).await.unwrap_or_default()
        }
    };
    let status = group.child.wait().await?;
    group.kill();
    Ok(Finished {
        code: status.code(),
        timed_out,
        stdout,
        stderr,
        truncated: cut_out || cut_err,
        took: started.elapsed(),
    })
}

/// Reads to the end, keeping the last `keep` bytes.
async fn tail(
    stream: Option<impl AsyncRead + Unpin>,
    keep: usize,
    is_err: bool,
    on_output: Option<&OnOutput>,
) -> (Vec<u8>, bool) {
    let (mut kept, mut cut) = (Vec::new(), false);
    let Some(mut stream) = stream else { return (kept, cut) };
    let mut chunk = vec![0; 16 * 1024];
    while let Ok(n @ 1..) = stream.read(&mut chunk).await {
        if let Some(tell) = on_output {
            tell(is_err, &chunk[..n]);
        }
        kept.extend_from_slice(&chunk[..n]);
        if kept.len() > keep.saturating_mul(2) {
            kept.drain(..kept.len() - keep);
            cut = true;
        }
    }
    if kept.len() > keep {
        kept.drain(..kept.len() - keep);
        cut = true;
    }
    (kept, cut)
}
