//! Skep as the first process of a container or PID namespace: it starts itself once more and is only an init, which
//! reaps the orphans that the kernel gives to process 1, and passes signals on.

use std::io::IsTerminal;
use std::process::{Command, ExitCode};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Process id of an init.
const INIT: u32 = 1;
/// Added to the number of the signal that ended a process, as shells do.
const ENDED_BY: i32 = 128;

/// Runs as an init if this process is one, and returns the exit code of the program; `None` = it is an ordinary process.
pub fn run_if_init() -> Option<ExitCode> {
    if std::process::id() != INIT {
        return None;
    }
    Some(run().unwrap_or_else(|error| {
        eprintln!("error: cannot start Skep as a child of process 1: {error}\nfix: run the container with an init (`docker run --init`)");
        ExitCode::FAILURE
    }))
}

fn run() -> std::io::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before the child starts, so that its end is not missed.
        let mut ended = signal(SignalKind::child())?;
        let mut signals = Forwarded::new()?;
        // Not through the runtime, which would reap only its own children. The loop below reaps it with all others.
        #[allow(clippy::zombie_processes)]
        let child = Command::new(std::env::current_exe()?).args(std::env::args_os().skip(1)).spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.ok_or_else(|| std::io::Error::other("its process id is invalid"))?;
        loop {
            tokio::select! {
                _ = ended.recv() => {}
                forwarded = signals.next() => {
                    // It may have ended in the meantime.
                    let _gone = rustix::process::kill_process(pid, forwarded);
                }
            }
            while let Ok(Some((ended, status))) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
                if ended == pid {
                    let by_signal = status.terminating_signal().map(|signal| ENDED_BY + signal);
                    let code = status.exit_status().or(by_signal).and_then(|code| u8::try_from(code).ok());
                    return Ok(ExitCode::from(code.unwrap_or(u8::MAX)));
                }
            }
        }
    })
}

/// The signals that are passed on.
struct Forwarded {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    quit: Signal,
    /// A terminal sends its signals to the child as well.
    has_terminal: bool,
}

impl Forwarded {
    fn new() -> std::io::Result<Forwarded> {
        Ok(Forwarded {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
            has_terminal: std::io::stdin().is_terminal(),
        })
    }

    async fn next(&mut self) -> rustix::process::Signal {
        use rustix::process::Signal as S;
        loop {
            let (signal, from_terminal) = tokio::select! {
                _ = self.terminate.recv() => (S::TERM, false),
                _ = self.hang_up.recv() => (S::HUP, false),
                _ = self.interrupt.recv() => (S::INT, true),
                _ = self.quit.recv() => (S::QUIT, true),
            };
            if !(from_terminal && self.has_terminal) {
                return signal;
            }
        }
    }
}
