//! Terminals of an agent: commands that Skep runs for it, each in a sandbox with the agent's network access and none of
//! its keys.
//!
//! | | |
//! |---|---|
//! | command | its arguments unchanged, not parsed by a shell |
//! | folder | the worktree, or a folder below it without links |
//! | environment | of the sandbox, and variables the agent sets, except Skep's own |
//! | output | the last bytes, up to the requested limit and [`MAX_OUTPUT_BYTES`], cut at a character |
//! | end | `terminal/kill`, `terminal/release`, the attempt's time limit or the session's end: with all its processes |

use super::super::driven::output_log::OutputLog;
use super::super::driven::placeholders;
use super::permit::AllowedPaths;
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

/// Upper bound of open terminals.
const MAX_OPEN: usize = 16;
/// Upper bound of the stored output of a terminal, in bytes.
const MAX_OUTPUT_BYTES: usize = 1024 * 1024;
/// Upper bounds of a command line, and of the variables an agent sets.
const MAX_LINE_BYTES: usize = 64 * 1024;
const MAX_ENV_VARIABLES: usize = 64;
const MAX_ENV_BYTES: usize = 32 * 1024;
/// Bytes of output that the sandbox itself stores, for errors of its setup.
const SANDBOX_OUTPUT_BYTES: usize = 4 * 1024;

/// Environment of an attempt's commands.
pub struct TerminalEnv {
    pub sandbox: Sandbox,
    pub dir: PathBuf,
    pub cache: PathBuf,
    pub origin: Option<PathBuf>,
    pub scratch: PathBuf,
    pub gate: Option<ProxyEndpoint>,
    pub variables: Vec<(String, String)>,
    pub allowed_paths: AllowedPaths,
    pub deadline: Instant,
}

/// The terminals of one session.
#[derive(Clone)]
pub struct Terminals {
    env: Arc<TerminalEnv>,
    log: Arc<OutputLog>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    last: u64,
    open: BTreeMap<String, Terminal>,
    /// Running commands; dropping them ends them.
    commands: JoinSet<()>,
    closed: bool,
}

struct Terminal {
    output: Arc<Mutex<Output>>,
    exit: watch::Receiver<Option<TerminalExitStatus>>,
    /// Sending on it, or dropping it, ends the command.
    stop: watch::Sender<bool>,
}

impl Terminals {
    pub fn new(env: TerminalEnv, log: Arc<OutputLog>) -> Terminals {
        Terminals { env: Arc::new(env), log, state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a command in a new terminal.
    ///
    /// # Errors
    /// The reason, worded for the agent.
    pub fn create(&self, ask: CreateTerminalRequest) -> Result<CreateTerminalResponse, String> {
        let argv: Vec<String> = std::iter::once(ask.command).chain(ask.args).collect();
        self.log.push_tool_call(&format!("$ {}", argv.join(" ")));
        let line = self.line(&argv, ask.cwd)?;
        let variables = self.variables(ask.env)?;
        let limit = ask.output_byte_limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(MAX_OUTPUT_BYTES);
        let output = Arc::new(Mutex::new(Output { limit: limit.min(MAX_OUTPUT_BYTES), ..Output::default() }));
        let (stop, stopped) = watch::channel(false);
        let (tell, exit) = watch::channel(None);

        let mut state = self.state();
        if state.closed {
            return Err("the session is over".to_owned());
        }
        if state.open.len() >= MAX_OPEN {
            return Err(format!("{MAX_OPEN} terminals are open; release one first"));
        }
        state.last += 1;
        let id = format!("terminal-{}", state.last);
        let command = run(self.env.clone(), self.log.clone(), line, variables, output.clone(), stopped);
        while state.commands.try_join_next().is_some() {}
        state.commands.spawn(async move {
            let status = command.await;
            tell.send_replace(Some(status));
        });
        state.open.insert(id.clone(), Terminal { output, exit, stop });
        Ok(CreateTerminalResponse::new(TerminalId::new(id)))
    }

    /// Returns the output so far, and the exit status if the command ended.
    ///
    /// # Errors
    /// If there is no such terminal.
    pub fn output(&self, id: &TerminalId) -> Result<TerminalOutputResponse, String> {
        self.log.touch();
        let state = self.state();
        let terminal = state.open.get(&*id.0).ok_or_else(|| unknown(id))?;
        // Read the status before the output, so that the output of an ended command is complete.
        let exit = terminal.exit.borrow().clone();
        let output = terminal.output.lock().unwrap_or_else(PoisonError::into_inner);
        let (text, truncated) = output.text();
        Ok(TerminalOutputResponse::new(text, truncated).exit_status(exit))
    }

    /// Waits for the end of the command.
    ///
    /// # Errors
    /// If there is no such terminal.
    pub async fn wait(&self, id: &TerminalId) -> Result<WaitForTerminalExitResponse, String> {
        self.log.touch();
        let mut exit = self.state().open.get(&*id.0).ok_or_else(|| unknown(id))?.exit.clone();
        let status = exit.wait_for(Option::is_some).await.map(|status| status.clone());
        self.log.touch();
        let status = status.ok().flatten().ok_or_else(|| unknown(id))?;
        Ok(WaitForTerminalExitResponse::new(status))
    }

    /// Kills the command. Its output and status remain available.
    ///
    /// # Errors
    /// If there is no such terminal.
    pub fn kill(&self, id: &TerminalId) -> Result<KillTerminalResponse, String> {
        self.log.touch();
        let state = self.state();
        let terminal = state.open.get(&*id.0).ok_or_else(|| unknown(id))?;
        terminal.stop.send_replace(true);
        Ok(KillTerminalResponse::new())
    }

    /// Kills the command and removes the terminal.
    ///
    /// # Errors
    /// If there is no such terminal.
    pub fn release(&self, id: &TerminalId) -> Result<ReleaseTerminalResponse, String> {
        self.log.touch();
        self.state().open.remove(&*id.0).ok_or_else(|| unknown(id))?;
        Ok(ReleaseTerminalResponse::new())
    }

    /// Kills all commands and returns when they are gone.
    pub async fn end(&self) {
        let mut commands = {
            let mut state = self.state();
            state.closed = true;
            state.open.clear();
            std::mem::take(&mut state.commands)
        };
        while commands.join_next().await.is_some() {}
    }

    /// Quotes the arguments as a line for the shell, which replaces itself by the program.
    fn line(&self, argv: &[String], cwd: Option<PathBuf>) -> Result<String, String> {
        let line = placeholders::line(argv)?;
        let folder = match cwd {
            None => String::new(),
            Some(path) => {
                let outside = || format!("{} is outside the workspace", path.display());
                let inner = self.env.allowed_paths.within(&path).ok_or_else(outside)?;
                let tree = RootedDir::open(&self.env.dir).map_err(|e| format!("cannot open the worktree: {e}"))?;
                tree.entries(&inner, 1).map_err(|why| why.to_string())?;
                inner
            }
        };
        let line = match folder.as_str() {
            "" => line,
            folder => format!("cd {} && {line}", shlex::try_quote(&format!("./{folder}")).map_err(|e| e.to_string())?),
        };
        if line.len() > MAX_LINE_BYTES {
            return Err(format!("the limit of a command line is {MAX_LINE_BYTES} bytes"));
        }
        Ok(line)
    }

    fn variables(&self, asked: Vec<EnvVariable>) -> Result<Vec<(String, String)>, String> {
        let size: usize = asked.iter().map(|v| v.name.len() + v.value.len()).sum();
        if asked.len() > MAX_ENV_VARIABLES || size > MAX_ENV_BYTES {
            return Err(format!("the limit is {MAX_ENV_VARIABLES} variables with {MAX_ENV_BYTES} bytes in total"));
        }
        let is_name = |name: &str| {
            !name.is_empty()
                && !name.starts_with(|c: char| c.is_ascii_digit())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        // Skep finds its own processes by these variables.
        let wrong = asked.iter().find(|v| !is_name(&v.name) || v.name.starts_with("SKEP") || v.value.contains('\0'));
        if let Some(wrong) = wrong {
            return Err(format!("the variable {:?} must not be set", wrong.name));
        }
        Ok(self.env.variables.iter().cloned().chain(asked.into_iter().map(|v| (v.name, v.value))).collect())
    }
}

/// Runs a command until it ends or is stopped. It is gone when this returns.
async fn run(
    env: Arc<TerminalEnv>,
    log: Arc<OutputLog>,
    line: String,
    variables: Vec<(String, String)>,
    output: Arc<Mutex<Output>>,
    mut stopped: watch::Receiver<bool>,
) -> TerminalExitStatus {
    let stored = output.clone();
    let on_output: OnOutput = Arc::new(move |_, chunk| {
        log.touch();
        stored.lock().unwrap_or_else(PoisonError::into_inner).add(chunk);
    });
    let variables: Vec<(&str, String)> = variables.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let job = Job {
        command: &line,
        purpose: Purpose::Agent,
        origin: env.origin.as_deref(),
        dir: &env.dir,
        cache: &env.cache,
        scratch: &env.scratch,
        env: &variables,
        timeout: env.deadline.saturating_duration_since(Instant::now()),
        max_output: SANDBOX_OUTPUT_BYTES,
        proxy: env.gate.as_ref(),
    };
    tokio::select! {
        ended = env.sandbox.run(&job, Some(on_output)) => match ended {
            Ok(ended) => status(&ended),
            Err(error) => {
                let message = format!("cannot start the command: {error}\n");
                output.lock().unwrap_or_else(PoisonError::into_inner).add(message.as_bytes());
                TerminalExitStatus::new().exit_code(126)
            }
        },
        // Killed or released.
        _stop = stopped.wait_for(|stop| *stop) => TerminalExitStatus::new().signal("SIGKILL".to_owned()),
    }
}

fn unknown(id: &TerminalId) -> String {
    format!("no terminal {:?}", id.0.chars().take(100).collect::<String>())
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

/// End of a command's output.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    limit: usize,
    truncated: bool,
}

impl Output {
    fn add(&mut self, chunk: &[u8]) {
        self.bytes.extend_from_slice(chunk);
        // Trimmed only occasionally, so that a flood does not move the same bytes for each chunk.
        if self.bytes.len() > self.limit.saturating_mul(2) + chunk.len() {
            self.bytes.drain(..self.bytes.len() - self.limit);
            self.truncated = true;
        }
    }

    /// Returns the last part that fits, starting at a character, and whether something before it is missing.
    fn text(&self) -> (String, bool) {
        let over = self.bytes.len().saturating_sub(self.limit);
        let mut text = String::from_utf8_lossy(&self.bytes[over..]).into_owned();
        // Replacement characters, for half a character at the cut and for invalid bytes, take more room than the bytes
        // had.
        let mut start = text.ceil_char_boundary(text.len().saturating_sub(self.limit));
        if over > 0 || self.truncated {
            start = start.max(text.len() - text.trim_start_matches('\u{fffd}').len());
        }
        (text.split_off(start), self.truncated || over > 0 || start > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_truncated_at_a_character() {
        let shown = |limit: usize, chunks: &[&[u8]]| {
            let mut output = Output { limit, ..Output::default() };
            chunks.iter().for_each(|chunk| output.add(chunk));
            assert!(output.bytes.len() <= 2 * limit + chunks.iter().map(|c| c.len()).max().unwrap_or(0));
            output.text()
        };
        assert_eq!(shown(10, &[b"short"]), ("short".to_owned(), false));
        assert_eq!(shown(4, &[b"abcdefgh"]), ("efgh".to_owned(), true));
        assert_eq!(shown(3, &["aüü".as_bytes()]), ("ü".to_owned(), true), "half a character is dropped");
        assert_eq!(shown(0, &[b"x"]), (String::new(), true));
        let (text, truncated) = shown(8, &[&[0xff; 100]]);
        assert!(text.len() <= 8 && truncated, "{text:?}");
        let flood = vec![b"0123456789".as_slice(); 1_000];
        assert_eq!(shown(5, &flood), ("56789".to_owned(), true));
    }
}
