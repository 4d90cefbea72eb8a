//! Terminals of an agent: commands it has Skep run for it, each in a sandbox of its own with the agent's way out and none of its keys.
//!
//! | | |
//! |---|---|
//! | command | its words as they are, taken apart by no shell |
//! | folder | the worktree, or one beneath it behind no link |
//! | environment | the sandbox's, and what the agent asks for, but nothing of Skep's own names |
//! | output | the last bytes, at most what was asked for and [`OUTPUT_BYTES_MAX`], cut at a character |
//! | end | `terminal/kill`, `terminal/release`, the attempt's time, the session's end: with all it started |

use super::super::driven::output_log::OutputLog;
use super::super::driven::placeholders;
use super::permit::Rooms;
use crate::platform::process::{OnOutput, ProcessOutput};
use crate::platform::rooted_fs::RootedDir;
use crate::platform::sandbox::{Job, ProxyEndpoint, Purpose, Sandbox};
use agent_client_protocol::v1::schema::{
    CreateTerminalRequest, CreateTerminalResponse, EnvVariable, KillTerminalResponse, ReleaseTerminalResponse,
    TerminalExitStatus, TerminalId, TerminalOutputResponse, WaitForTerminalExitResponse,
};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The most terminals that are not released yet.
const OPEN_MAX: usize = 16;
/// The most output kept of each.
const OUTPUT_BYTES_MAX: usize = 1024 * 1024;
/// The longest command line, and the most environment an agent may ask for.
const LINE_BYTES_MAX: usize = 64 * 1024;
const ENV_MAX: usize = 64;
const ENV_BYTES_MAX: usize = 32 * 1024;
/// What the sandbox keeps of the output for itself: what it says when it could not be made.
const KEEP: usize = 4 * 1024;

/// Where an attempt's commands run.
pub struct Room {
    pub sandbox: Sandbox,
    pub dir: PathBuf,
    pub cache: PathBuf,
    pub scratch: PathBuf,
    pub gate: Option<ProxyEndpoint>,
    pub env: Vec<(String, String)>,
    pub rooms: Rooms,
    pub deadline: Instant,
}

/// The terminals of one session.
#[derive(Clone)]
pub struct Terminals {
    room: Arc<Room>,
    heard: Arc<OutputLog>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    last: u64,
    open: BTreeMap<String, Terminal>,
    /// Their commands. Dropped, they are ended.
    commands: JoinSet<()>,
    closed: bool,
}

struct Terminal {
    output: Arc<Mutex<Output>>,
    exit: watch::Receiver<Option<TerminalExitStatus>>,
    /// Told, or dropped, it ends the command.
    stop: watch::Sender<bool>,
}

impl Terminals {
    pub fn new(room: Room, heard: Arc<OutputLog>) -> Terminals {
        Terminals { room: Arc::new(room), heard, state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a command.
    ///
    /// # Errors
    /// Why not, in words for the agent.
    pub fn create(&self, ask: CreateTerminalRequest) -> Result<CreateTerminalResponse, String> {
        let words: Vec<String> = std::iter::once(ask.command).chain(ask.args).collect();
        self.heard.did(&format!("$ {}", words.join(" ")));
        let line = self.line(&words, ask.cwd)?;
        let env = self.env(ask.env)?;
        let limit = ask.output_byte_limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(OUTPUT_BYTES_MAX);
        let output = Arc::new(Mutex::new(Output { limit: limit.min(OUTPUT_BYTES_MAX), ..Output::default() }));
        let (stop, stopped) = watch::channel(false);
        let (tell, exit) = watch::channel(None);

        let mut state = self.state();
        if state.closed {
            return Err("the session is over".to_owned());
        }
        if state.open.len() >= OPEN_MAX {
            return Err(format!("{OPEN_MAX} terminals are open: release one first"));
        }
        state.last += 1;
        let id = format!("terminal-{}", state.last);
        let command = carry(self.room.clone(), self.heard.clone(), line, env, output.clone(), stopped);
        while state.commands.try_join_next().is_some() {}
        state.commands.spawn(async move {
            let status = command.await;
            tell.send_replace(Some(status));
        });
        state.open.insert(id.clone(), Terminal { output, exit, stop });
        Ok(CreateTerminalResponse::new(TerminalId::new(id)))
    }

    /// What it has written so far, and how it ended if it did.
    ///
    /// # Errors
    /// When there is no such terminal.
    pub fn output(&self, id: &TerminalId) -> Result<TerminalOutputResponse, String> {
        self.heard.alive();
        let state = self.state();
        let terminal = state.open.get(&*id.0).ok_or_else(|| unknown(id))?;
        // Before the output: what a command wrote that has ended is all there.
        let exit = terminal.exit.borrow().clone();
        let output = terminal.output.lock().unwrap_or_else(PoisonError::into_inner);
        let (text, truncated) = output.text();
        Ok(TerminalOutputResponse::new(text, truncated).exit_status(exit))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When there is no such terminal.
    pub async fn wait(&self, id: &TerminalId) -> Result<WaitForTerminalExitResponse, String> {
        self.heard.alive();
        let mut exit = self.state().open.get(&*id.0).ok_or_else(|| unknown(id))?.exit.clone();
        let status = exit.wait_for(Option::is_some).await.map(|status| status.clone());
        self.heard.alive();
        let status = status.ok().flatten().ok_or_else(|| unknown(id))?;
        Ok(WaitForTerminalExitResponse::new(status))
    }

    /// Ends its command. Its output and its end can be asked for still.
    ///
    /// # Errors
    /// When there is no such terminal.
    pub fn kill(&self, id: &TerminalId) -> Result<KillTerminalResponse, String> {
        self.heard.alive();
        let state = self.state();
        let terminal = state.open.get(&*id.0).ok_or_else(|| unknown(id))?;
        terminal.stop.send_replace(true);
        Ok(KillTerminalResponse::new())
    }

    /// Ends its command and forgets it.
    ///
    /// # Errors
    /// When there is no such terminal.
    pub fn release(&self, id: &TerminalId) -> Result<ReleaseTerminalResponse, String> {
        self.heard.alive();
        self.state().open.remove(&*id.0).ok_or_else(|| unknown(id))?;
        Ok(ReleaseTerminalResponse::new())
    }

    /// Ends all of them, and returns when they are gone.
    pub async fn end(&self) {
        let mut commands = {
            let mut state = self.state();
            state.closed = true;
            state.open.clear();
            std::mem::take(&mut state.commands)
        };
        while commands.join_next().await.is_some() {}
    }

    /// The words as one line for the shell that replaces itself by the program.
    fn line(&self, words: &[String], cwd: Option<PathBuf>) -> Result<String, String> {
        let line = placeholders::line(words)?;
        let folder = match cwd {
            None => String::new(),
            Some(path) => {
                let outside = || format!("{} is outside the workspace", path.display());
                let inner = self.room.rooms.within(&path).ok_or_else(outside)?;
                let tree =
                    RootedDir::open(&self.room.dir).map_err(|e| format!("the worktree cannot be opened: {e}"))?;
                tree.entries(&inner, 1).map_err(|why| why.to_string())?;
                inner
            }
        };
        let line = match folder.as_str() {
            "" => line,
            folder => format!("cd {} && {line}", placeholders::quoted(&format!("./{folder}"))),
        };
        if line.len() > LINE_BYTES_MAX {
            return Err(format!("a command line may have {LINE_BYTES_MAX} bytes"));
        }
        Ok(line)
    }

    fn env(&self, asked: Vec<EnvVariable>) -> Result<Vec<(String, String)>, String> {
        let size: usize = asked.iter().map(|v| v.name.len() + v.value.len()).sum();
        if asked.len() > ENV_MAX || size > ENV_BYTES_MAX {
            return Err(format!("a command may be given {ENV_MAX} variables of {ENV_BYTES_MAX} bytes together"));
        }
        let is_name = |name: &str| {
            !name.is_empty()
                && !name.starts_with(|c: char| c.is_ascii_digit())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        // By its own names Skep finds what belongs to it.
        let wrong = asked.iter().find(|v| !is_name(&v.name) || v.name.starts_with("SKEP") || v.value.contains('\0'));
        if let Some(wrong) = wrong {
            return Err(format!("the variable {:?} cannot be set", wrong.name));
        }
        Ok(self.room.env.iter().cloned().chain(asked.into_iter().map(|v| (v.name, v.value))).collect())
    }
}

/// Runs a command to its end, or until it is stopped: then it is gone when this returns.
async fn carry(
    room: Arc<Room>,
    heard: Arc<OutputLog>,
    line: String,
    env: Vec<(String, String)>,
    output: Arc<Mutex<Output>>,
    mut stopped: watch::Receiver<bool>,
) -> TerminalExitStatus {
    let kept = output.clone();
    let on_output: OnOutput = Arc::new(move |_, chunk| {
        heard.alive();
        kept.lock().unwrap_or_else(PoisonError::into_inner).add(chunk);
    });
    let env: Vec<(&str, String)> = env.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let job = Job {
        command: &line,
        purpose: Purpose::Agent,
        dir: &room.dir,
        cache: &room.cache,
        scratch: &room.scratch,
        env: &env,
        timeout: room.deadline.saturating_duration_since(Instant::now()),
        max_output: KEEP,
        proxy: room.gate.as_ref(),
    };
    tokio::select! {
        ended = room.sandbox.run(&job, Some(on_output)) => match ended {
            Ok(ended) => status(&ended),
            Err(error) => {
                let said = format!("the command could not be started: {error}\n");
                output.lock().unwrap_or_else(PoisonError::into_inner).add(said.as_bytes());
                TerminalExitStatus::new().exit_code(126)
            }
        },
        // Told so, or forgotten.
        _stop = stopped.wait_for(|stop| *stop) => TerminalExitStatus::new().signal("SIGKILL".to_owned()),
    }
}

fn unknown(id: &TerminalId) -> String {
    format!("there is no terminal {:?}", id.0.chars().take(100).collect::<String>())
}

fn status(ended: &ProcessOutput) -> TerminalExitStatus {
    match ended.code.and_then(|code| u32::try_from(code).ok()) {
        Some(code) if !ended.timed_out && ended.stop_reason.is_none() => TerminalExitStatus::new().exit_code(code),
        _ => {
            let signal = match ended.signal {
                None | Some(9) => "SIGKILL".to_owned(),
                Some(6) => "SIGABRT".to_owned(),
                Some(11) => "SIGSEGV".to_owned(),
                Some(15) => "SIGTERM".to_owned(),
                Some(other) => format!("signal {other}"),
            };
            TerminalExitStatus::new().signal(signal)
        }
    }
}

/// The end of what a command wrote.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    limit: usize,
    cut: bool,
}

impl Output {
    fn add(&mut self, chunk: &[u8]) {
        self.bytes.extend_from_slice(chunk);
        // Only now and then, so that a flood does not move the same bytes for each chunk.
        if self.bytes.len() > self.limit.saturating_mul(2) + chunk.len() {
            self.bytes.drain(..self.bytes.len() - self.limit);
            self.cut = true;
        }
    }

    /// The last of it that fits, from the beginning of a character, and whether something is missing before it.
    fn text(&self) -> (String, bool) {
        let over = self.bytes.len().saturating_sub(self.limit);
        let mut text = String::from_utf8_lossy(&self.bytes[over..]).into_owned();
        // Half a character at the cut, and what stands for bytes that are none, take more room than they had.
        let mut start = text.len().saturating_sub(self.limit);
        while !text.is_char_boundary(start) {
            start += 1;
        }
        if over > 0 || self.cut {
            start = start.max(text.len() - text.trim_start_matches('\u{fffd}').len());
        }
        (text.split_off(start), self.cut || over > 0 || start > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_cut_from_its_beginning_at_a_character() {
        let shown = |limit: usize, chunks: &[&[u8]]| {
            let mut output = Output { limit, ..Output::default() };
            chunks.iter().for_each(|chunk| output.add(chunk));
            assert!(output.bytes.len() <= 2 * limit + chunks.iter().map(|c| c.len()).max().unwrap_or(0));
            output.text()
        };
        assert_eq!(shown(10, &[b"short"]), ("short".to_owned(), false));
        assert_eq!(shown(4, &[b"abcdefgh"]), ("efgh".to_owned(), true));
        assert_eq!(shown(3, &["aüü".as_bytes()]), ("ü".to_owned(), true), "half a character is none");
        assert_eq!(shown(0, &[b"x"]), (String::new(), true));
        let (text, cut) = shown(8, &[&[0xff; 100]]);
        assert!(text.len() <= 8 && cut, "{text:?}");
        let flood = vec![b"0123456789".as_slice(); 1_000];
        assert_eq!(shown(5, &flood), ("56789".to_owned(), true));
    }
}
