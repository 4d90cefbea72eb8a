//! Common part of driven agents: command, home, model access, limits, and how output becomes a result.
//!
//! | the agent gets | how |
//! |---|---|
//! | its prompt | by the protocol, on standard input, or by `{prompt_file}` or `{prompt}` |
//! | a home | a folder of the attempt with the files of its table; the real one only if `pass_env` names HOME |
//! | environment | of the sandbox and the table, and Skep's variables named in `pass_env`; no secret is an argument |
//! | models | with a provider: the egress proxy's address, which holds the key and measures; else the agent's own access |
//!
//! Invariant: changes are read from the worktree. The agent's words only answer, in the form that its step requires.

use super::answer;
use super::model_access::ModelAccess;
use super::settings::{Agent, Protocol, Settings};
use crate::domain::{ArtifactKind, Order, Step, Usage};
use crate::platform::process::{ProcessHandle, ProcessOutput};
use crate::platform::rooted_fs::RootedDir;
use crate::platform::sandbox::{Job, ProxyEndpoint, Purpose, Sandbox};
use crate::platform::terminal_text;
use crate::ports::engine::{AttemptEnv, EngineResult, StepOutcome};
use crate::ports::{Clock, PortError, PortResult};
use crate::providers::meter::Cap;
use crate::providers::settings::Effort;
use crate::secrets::{redact_bytes, redact_end, redact_live};
use output_log::OutputLog;
use placeholders::Placeholders;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

mod failure;
pub mod figures;
pub mod output_log;
pub mod placeholders;
pub mod wire;

/// Time that an agent has to exit after its input is closed, and again after SIGTERM.
pub const GRACE: Duration = Duration::from_secs(3);
/// Upper bound of the stored standard error, in bytes.
const MAX_STDERR_BYTES: usize = 16 * 1024;
/// Upper bound of the output in a failure, in bytes.
pub const MAX_TAIL_BYTES: usize = 2 * 1024;
/// Upper bound of the summary, in characters.
const MAX_SUMMARY_CHARS: usize = 1_000;
/// Upper bound of the command line, in bytes. Linux limits a single argument to 128 KiB.
const MAX_LINE_BYTES: usize = 120 * 1024;
/// Time that an agent may keep retrying while its provider rejects its calls.
const STUCK: Duration = Duration::from_secs(30);
/// Time to wait until a call of an ended agent counts as cut off.
const CUT_OFF: Duration = Duration::from_secs(2);
/// Interval at which time and budget are checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Driven agent with the chosen model.
#[derive(Clone, Debug)]
pub struct DrivenAgent {
    /// Configuration of the agent.
    pub agent: Agent,
    /// Sandbox of its process.
    pub sandbox: Sandbox,
    /// Current time, for limits that end at a time of day.
    clock: Arc<dyn Clock>,
    model: Option<String>,
    effort: Option<Effort>,
}

/// Command of an agent, prepared for one attempt.
pub struct PreparedAgent {
    /// Prompt.
    pub prompt: String,
    /// Whether the prompt is sent on standard input (headless agents only).
    pub by_stdin: bool,
    line: String,
    env: Vec<(String, String)>,
}

/// Session and usage that an agent reports about itself.
#[derive(Default)]
pub struct AgentReport {
    /// Id of its session.
    pub session: Option<String>,
    /// Tokens used, and their cost in micro-USD.
    pub usage: (Option<u64>, Option<u64>),
    /// Whether it never received its order, and so used nothing.
    pub idle: bool,
}

/// Why a running agent was stopped.
#[derive(Debug, PartialEq, Eq)]
pub enum Interruption {
    /// Its time limit is nearly reached.
    Time,
    /// It wrote nothing for too long.
    Idle,
    /// This budget is used up.
    Exhausted(Cap),
    /// Its provider keeps rejecting its calls.
    Refused,
}

impl Interruption {
    /// Converts to the outcome of the attempt.
    pub fn into_outcome(self, agent: &Agent, order: &Order) -> StepOutcome {
        let why = self.why(agent, order);
        match self {
            Interruption::Exhausted(cap) => match cap.budget() {
                Some(budget) => StepOutcome::BudgetExhausted { budget, why },
                None => StepOutcome::Failed(why),
            },
            Interruption::Time | Interruption::Idle | Interruption::Refused => StepOutcome::Failed(why),
        }
    }

    /// Describes the reason.
    pub fn why(&self, agent: &Agent, order: &Order) -> String {
        match self {
            Interruption::Time => format!(
                "the agent {} was stopped: it was still running shortly before its time limit of {} s",
                agent.name,
                order.caps.wall_ms / 1000
            ),
            Interruption::Idle => format!(
                "the agent {} was stopped: it wrote nothing for {} s",
                agent.name,
                agent.idle_timeout.as_secs_f32().ceil()
            ),
            Interruption::Refused => format!("the agent {} was stopped: its provider refuses its calls", agent.name),
            Interruption::Exhausted(what) => {
                format!("the agent {} was stopped: the attempt's budget of {what} is used up", agent.name)
            }
        }
    }
}

impl DrivenAgent {
    /// Finds the agent that `arg` (`AGENT` or `AGENT/MODEL`) names.
    ///
    /// # Errors
    /// If no agent has that name and protocol, or its table does not fit the model.
    pub fn find(
        arg: &str,
        protocol: Protocol,
        settings: &Settings,
        sandbox: Sandbox,
        clock: Arc<dyn Clock>,
    ) -> Result<DrivenAgent, String> {
        let (arg, effort) = Effort::split(arg)?;
        let (name, model) = arg.split_once('/').map_or((arg, None), |(name, model)| (name, Some(model)));
        let kind = kind(protocol);
        let known = || {
            let names: Vec<_> =
                settings.agents.values().filter(|a| a.protocol == protocol).map(|a| a.name.as_str()).collect();
            if names.is_empty() {
                "none is configured".to_owned()
            } else {
                format!("configured are: {}", names.join(", "))
            }
        };
        if name.is_empty() {
            return Err(format!("engine {kind} needs an agent; write {kind}:AGENT or {kind}:AGENT/MODEL; {}", known()));
        }
        let found = settings.agents.get(name).filter(|a| a.protocol == protocol);
        let agent = found.ok_or_else(|| format!("no agent {name:?} for {kind}; {}", known()))?.clone();
        let wrong = |why: String| format!("the agent {name} cannot be used: {why}");
        if let Some(model) = model {
            // The name goes into files of any format, so only characters without a meaning in all of them are allowed.
            let fits = |c: char| c.is_ascii_alphanumeric() || "._:/@+-".contains(c);
            if model.is_empty() || model.len() > 128 || !model.chars().all(fits) {
                return Err(wrong("a model name has 1 to 128 letters, digits and . _ : / @ + -".to_owned()));
            }
        }
        if effort.is_some() && !agent.takes_effort() {
            return Err(wrong("it takes no effort; put {effort} into its command, env or files".to_owned()));
        }
        let texts = || agent.command.iter().chain(agent.env.values()).chain(agent.files.values());
        let takes = texts().any(|t| placeholders::has(t, "model"));
        match (takes, model) {
            (true, None) => return Err(wrong(format!("it needs a model; write {kind}:{name}/MODEL"))),
            (false, Some(_)) => {
                return Err(wrong(format!(
                    "it takes no model; write {kind}:{name}, or put {{model}} into its command, env or files"
                )));
            }
            _ => {}
        }
        if let Some(word) = agent.command.iter().chain(agent.env.values()).find_map(|t| placeholders::unknown(t)) {
            return Err(wrong(format!(
                "unknown placeholder {{{word}}}; the placeholders are: {}",
                placeholders::NAMES.join(", ")
            )));
        }
        if agent.command.iter().any(|t| placeholders::has(t, "proxy_url")) {
            // The URL holds the attempt's token, and every user of the machine can read arguments.
            return Err(wrong("{proxy_url} must not be an argument; put it into env or files".to_owned()));
        }
        if agent.provider.is_none() && texts().any(|t| placeholders::has(t, "proxy_url")) {
            return Err(wrong("it uses {proxy_url} but has no provider; set its provider".to_owned()));
        }
        if let Some(provider) = agent.provider.as_ref().filter(|p| !settings.providers.contains_key(*p)) {
            return Err(wrong(format!("its provider {provider:?} is not configured")));
        }
        if let Some(path) = agent.files.keys().find_map(|p| crate::platform::rooted_fs::check(p).err()) {
            return Err(wrong(format!("its file {path}")));
        }
        Ok(DrivenAgent { agent, sandbox, clock, model: model.map(str::to_owned), effort })
    }

    /// Creates the agent's home, or reuses the one of a resumed attempt, and prepares its command.
    ///
    /// # Errors
    /// `Permanent` if the table or the order is unusable, `Transient` if the disk fails.
    pub fn ready(&self, order: &Order, env: &AttemptEnv, model_access: &ModelAccess) -> PortResult<PreparedAgent> {
        let wrong = |why: String| {
            let agent = &self.agent.name;
            PortError::permanent(
                format!("the agent {agent} cannot be started: {why}"),
                format!("correct agents.{agent}"),
            )
        };
        let disk = |e: std::io::Error| PortError::transient(format!("cannot create the agent's home: {e}"));
        let rendered = env.prompt.as_ref().ok_or_else(|| wrong("no prompt was rendered".to_owned()))?;
        let prompt = format!("{}\n\n{}", rendered.system.trim_end(), rendered.user);
        let home = env.scratch.join("home");
        if order.resume.is_none() {
            match std::fs::remove_dir_all(&home) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(disk(e)),
                _ => {}
            }
            std::fs::create_dir_all(&env.scratch).map_err(disk)?;
        }
        // An earlier process of the agent may have left anything, so no link is followed.
        let scratch = RootedDir::open(&env.scratch).map_err(disk)?;
        if order.resume.is_some() && scratch.entries("home", 1).is_err() {
            return Err(PortError::transient("the agent's home no longer exists"));
        }
        let write =
            |path: &str, text: &str| scratch.write(path, text.as_bytes()).map_err(|why| wrong(format!("file {why}")));
        scratch.make_dir("home").map_err(|why| wrong(why.to_string()))?;

        let mut placeholders = Placeholders::default();
        for (name, path) in [("dir", &env.dir), ("home", &home), ("scratch", &env.scratch)] {
            placeholders.set(name, plain_path(path).map_err(wrong)?);
        }
        if let Some(model) = &self.model {
            placeholders.set("model", model);
        }
        if let Some(effort) = self.effort {
            placeholders.set("effort", effort.name());
        }
        // Without an effort, everything that mentions it is left out (an argument, a variable, a line of a file): the
        // agent has its own default.
        let applies = |text: &str| self.effort.is_some() || !placeholders::has(text, "effort");
        if let Some(url) = model_access.url(&self.sandbox) {
            placeholders.set("proxy_url", url.expose());
        }
        let uses = |name: &str| self.agent.command.iter().any(|word| placeholders::has(word, name));
        let by_stdin = !uses("prompt") && !uses("prompt_file");
        for (path, text) in &self.agent.files {
            let text: String = text.split_inclusive('\n').filter(|line| applies(line)).collect();
            let text = placeholders.fill(&text).map_err(|why| wrong(format!("file {path}: {why}")))?;
            write(&format!("home/{path}"), &text)?;
        }
        let mut vars = vec![("SKEP_STEP".to_owned(), order.step.name().to_owned())];
        vars.extend(model_access.env());
        // Variables that a person passes by name, such as HOME for the agent's own login, override those of the
        // sandbox.
        if !self.agent.pass_env.iter().any(|name| name == "HOME") {
            vars.push(("HOME".to_owned(), plain_path(&home).map_err(wrong)?));
            write("home/.gitconfig", "[user]\n\tname = Skep\n\temail = skep@localhost\n")?;
        }
        for name in &self.agent.pass_env {
            match std::env::var(name) {
                Ok(value) => vars.push((name.clone(), value)),
                Err(std::env::VarError::NotPresent) => {}
                Err(_) => return Err(wrong(format!("the environment variable {name} is not valid UTF-8"))),
            }
        }
        for (name, value) in self.agent.env.iter().filter(|(_, value)| applies(value)) {
            let value = placeholders.fill(value).map_err(|why| wrong(format!("env {name}: {why}")))?;
            vars.push((name.clone(), value));
        }
        if uses("prompt_file") {
            write("prompt.md", &prompt)?;
            placeholders.set("prompt_file", plain_path(&env.scratch.join("prompt.md")).map_err(wrong)?);
        }
        placeholders.set("prompt", &prompt);
        let words = self.agent.command.iter().filter(|word| applies(word)).map(|word| placeholders.fill(word));
        let words: Result<Vec<_>, _> = words.collect();
        let line = words.and_then(|words| placeholders::line(&words)).map_err(wrong)?;
        if line.len() > MAX_LINE_BYTES {
            return Err(wrong(format!(
                "its command line has {} bytes, the limit is {MAX_LINE_BYTES}; pass the prompt by {{prompt_file}} or on standard input",
                line.len()
            )));
        }
        Ok(PreparedAgent { prompt, by_stdin, line, env: vars })
    }

    /// Returns the deadline of an attempt: shortly before that of its order, so that the agent is stopped cleanly and
    /// its usage is known.
    pub fn deadline(order: &Order) -> Instant {
        let limit_ms = order.caps.wall_ms.max(1_000);
        Instant::now() + Duration::from_millis(limit_ms - (limit_ms / 10).min(15_000))
    }

    /// Waits until the agent has to be stopped and returns the reason.
    pub async fn watch(
        &self,
        output: &OutputLog,
        deadline: Instant,
        model_access: &ModelAccess,
        exhausted: impl Fn() -> Option<Cap>,
    ) -> Interruption {
        let mut stuck_since = None;
        loop {
            stuck_since =
                model_access.is_stuck(self.model.as_deref()).then(|| stuck_since.unwrap_or_else(Instant::now));
            if stuck_since.is_some_and(|since| since.elapsed() >= STUCK) {
                return Interruption::Refused;
            }
            if Instant::now() >= deadline {
                return Interruption::Time;
            }
            if output.idle_for() >= self.agent.idle_timeout {
                return Interruption::Idle;
            }
            if let Some(what) = exhausted() {
                return Interruption::Exhausted(what);
            }
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
    }

    /// Ends an attempt: determines its usage (measured by the proxy, else reported by the agent), corrects its result,
    /// and collects its transcript.
    pub async fn finish(
        &self,
        order: &Order,
        model_access: &ModelAccess,
        output: &OutputLog,
        own: AgentReport,
        result: StepOutcome,
    ) -> EngineResult {
        // The agent is gone, so its calls in flight end now.
        model_access.wait_idle(CUT_OFF).await;
        // An agent describes an exhausted budget or a rejecting provider in its own words; Skep's record is exact.
        let result = match (model_access.exhausted(), result) {
            (Some(what), StepOutcome::Failed(_) | StepOutcome::Unavailable { .. }) => {
                Interruption::Exhausted(what).into_outcome(&self.agent, order)
            }
            (_, result) => model_access.explain(self.model.as_deref(), result),
        };
        let (tokens, cost_micros) = own.usage;
        let unmetered = || {
            if own.idle && order.resume.is_none() {
                return Usage::default();
            }
            let reported = figures::charged(order, tokens, cost_micros);
            // A resumed agent may not report what it used before.
            if order.resume.is_some() { reported.max(order.caps) } else { reported }
        };
        let usage = model_access.usage().unwrap_or_else(unmetered);
        output.report_usage(Usage { wall_ms: 0, ..usage });
        let files = vec![(ArtifactKind::Transcript, "transcript.log".to_owned(), output.transcript())];
        let session = own.session.map(|id| format!("{}:{}:{id}", kind(self.agent.protocol), self.agent.name));
        EngineResult { result, usage: Some(usage), usage_by_model: model_access.usage_by_model(), session, files }
    }
}

impl PreparedAgent {
    /// Returns the environment of the agent.
    pub fn env(&self) -> Vec<(&str, String)> {
        self.env.iter().map(|(name, value)| (name.as_str(), value.clone())).collect()
    }

    /// Returns the job of the agent in the sandbox.
    pub fn job<'a>(
        &'a self,
        env: &'a AttemptEnv,
        vars: &'a [(&'a str, String)],
        gate: Option<&'a ProxyEndpoint>,
    ) -> Job<'a> {
        Job {
            command: &self.line,
            purpose: Purpose::Agent,
            origin: env.origin.as_deref(),
            dir: &env.dir,
            cache: &env.cache,
            scratch: &env.scratch,
            env: vars,
            // [`DrivenAgent::watch`] enforces the limit.
            timeout: Duration::MAX,
            max_output: MAX_STDERR_BYTES,
            proxy: gate,
        }
    }
}

/// Returns the engine kind of a protocol.
fn kind(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Acp => "acp",
        Protocol::Cli => "cli",
    }
}

/// Ends an agent whose input is closed, and notes the end of its standard error.
pub async fn end(end: ProcessHandle, output: &OutputLog) -> ProcessOutput {
    let (stderr, truncated) = end.stderr();
    let mut ended = end.shut_down(GRACE).await.unwrap_or_else(|e| {
        tracing::warn!(error = %e, "cannot end a driven agent");
        let took = Duration::ZERO;
        ProcessOutput {
            code: None,
            signal: None,
            timed_out: true,
            stdout: vec![],
            stderr,
            truncated,
            stop_reason: None,
            took,
        }
    });
    // Redact before anything is shortened: half a secret would not be recognized.
    let clean = if ended.truncated { redact_end } else { redact_live };
    ended.stderr = clean(&ended.stderr).into_owned();
    let last = terminal_text::tail(&ended.stderr, MAX_TAIL_BYTES);
    if !last.trim().is_empty() {
        output.note(&format!("standard error ended with:\n{last}"));
    }
    ended
}

/// Parses the result in an agent's output.
///
/// # Errors
/// The cause, for the agent.
pub fn answer(order: &Order, env: &AttemptEnv, output: &OutputLog) -> Result<StepOutcome, String> {
    let text = output.text();
    match (order.step, answer::from_output(&text).and_then(|answer| answer.into_outcome(order, env))) {
        (_, Ok(work)) => Ok(work),
        // The worktree holds the result; text without an answer serves as the summary.
        (Step::Develop, Err(_)) => Ok(StepOutcome::Edited { summary: summary(&output.message()) }),
        // Notes are plain text and need no block.
        (Step::Explore, Err(_)) if answer::last_json_block(&text).is_none() && !text.trim().is_empty() => {
            Ok(StepOutcome::Notes(terminal_text::tail(text.as_bytes(), 32 * 1024)))
        }
        (_, Err(why)) => Err(why),
    }
}

/// Returns the first lines of a message.
fn summary(message: &str) -> String {
    let lines: Vec<&str> = message.lines().map(str::trim_end).skip_while(|l| l.is_empty()).take(6).collect();
    lines.join("\n").trim().chars().take(MAX_SUMMARY_CHARS).collect()
}

/// Returns the last `max_bytes` of an agent's output, redacted and sanitized.
pub fn tail(text: &[u8], max_bytes: usize) -> String {
    terminal_text::tail(&redact_bytes(text), max_bytes)
}

/// Returns a path as text without a special meaning in files of any format.
fn plain_path(path: &PathBuf) -> Result<String, String> {
    let text = path.to_str().filter(|t| !t.chars().any(|c| c.is_control() || "\"'\\".contains(c)));
    text.map(str::to_owned)
        .ok_or_else(|| format!("the path {path:?} contains quotes, backslashes or control characters"))
}
