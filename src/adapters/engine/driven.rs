//! What every driven agent needs: its job, its home, its way out, its patience, and how its words become a result.
//!
//! | it gets | how |
//! |---|---|
//! | the prompt | by the protocol, on standard input, or by `{prompt_file}`, `{prompt}` |
//! | a home | a folder of the attempt's own with the files of its table in it; the real one only when `pass_env` names HOME |
//! | environment | the sandbox's, the table's, and Skep's variables named in `pass_env`; nothing secret by argument |
//! | models | with a provider: the gate's address, which holds the key and counts; else whatever the agent has itself |
//!
//! Invariant: what it did is read from the worktree; its words only answer, and only in the form its step asks for.

use super::answer;
use super::model_access::ModelAccess;
use super::settings::{Agent, Protocol, Settings};
use crate::domain::{ArtifactKind, Order, Step, Usage};
use crate::platform::process::{ProcessHandle, ProcessOutput};
use crate::platform::rooted_fs::RootedDir;
use crate::platform::sandbox::{Job, ProxyEndpoint, Purpose, Sandbox};
use crate::platform::terminal_text;
use crate::ports::engine::{AttemptEnv, EngineResult, StepOutcome};
use crate::ports::{PortError, PortResult};
use crate::providers::meter::Cap;
use crate::providers::settings::Effort;
use crate::secrets::{redact_bytes, redact_end, redact_live};
use output_log::OutputLog;
use placeholders::Blanks;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;

mod failure;
pub mod figures;
pub mod output_log;
pub mod placeholders;
pub mod wire;

/// How long an agent may take to end by itself once its input is closed, and again once it is told to.
pub const GRACE: Duration = Duration::from_secs(3);
/// What is kept of its standard error.
const STDERR_BYTES_MAX: usize = 16 * 1024;
/// The most of its output that goes into a failure.
pub const TAIL_BYTES_MAX: usize = 2 * 1024;
/// The most of its last message that is its summary.
const SUMMARY_CHARS_MAX: usize = 1_000;
/// A command line longer than this is not taken by the system as one.
const LINE_BYTES_MAX: usize = 120 * 1024;
/// How long an agent whose provider refuses it for long may go on trying.
const STUCK: Duration = Duration::from_secs(30);
/// How long it may take until a call of an agent that is gone is known to be cut off.
const CUT_OFF: Duration = Duration::from_secs(2);
/// How often it is looked whether time or budget is up.
const LOOK: Duration = Duration::from_millis(250);

/// An agent, with the model it was asked for.
#[derive(Clone, Debug)]
pub struct Driven {
    /// Its table.
    pub agent: Agent,
    /// Where its commands start.
    pub sandbox: Sandbox,
    model: Option<String>,
    effort: Option<Effort>,
}

/// An agent ready to be started for one attempt.
pub struct Ready {
    /// What it is told.
    pub prompt: String,
    /// Whether it is told on standard input (headless agents only).
    pub by_stdin: bool,
    line: String,
    env: Vec<(String, String)>,
}

/// What an agent says of itself.
#[derive(Default)]
pub struct Own {
    /// Its session's name.
    pub session: Option<String>,
    /// Tokens it has used, and what they cost in micro-USD.
    pub figures: (Option<u64>, Option<u64>),
}

/// Why an agent that was still at work was stopped.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// Its time is nearly up.
    Time,
    /// It said nothing for too long.
    Silence,
    /// It spent what it was given.
    Spent(Cap),
    /// Its provider refuses it, and will for long.
    Refused,
}

impl Stop {
    /// As the end of the attempt.
    pub fn work(self, agent: &Agent, order: &Order) -> StepOutcome {
        let why = self.why(agent, order);
        match self {
            Stop::Spent(cap) => match cap.budget() {
                Some(budget) => StepOutcome::BudgetExhausted { budget, why },
                None => StepOutcome::Failed(why),
            },
            Stop::Time | Stop::Silence | Stop::Refused => StepOutcome::Failed(why),
        }
    }

    /// In words.
    pub fn why(&self, agent: &Agent, order: &Order) -> String {
        match self {
            Stop::Time => format!(
                "the agent {} was still at work when its {} s were nearly over, and was stopped",
                agent.name,
                order.caps.wall_ms / 1000
            ),
            Stop::Silence => format!(
                "the agent {} gave no sign of life for {} s and was stopped",
                agent.name,
                agent.idle_timeout.as_secs_f32().ceil()
            ),
            Stop::Refused => format!("the agent {} was stopped: its provider refuses it for now", agent.name),
            Stop::Spent(what) => {
                format!("the agent {} was stopped: the attempt's budget of {what} is used up", agent.name)
            }
        }
    }
}

impl Driven {
    /// The agent that `arg` (`AGENT` or `AGENT/MODEL`) names.
    ///
    /// # Errors
    /// When there is none of that name and protocol, or its table and the model do not fit.
    pub fn find(arg: &str, protocol: Protocol, settings: &Settings, sandbox: Sandbox) -> Result<Driven, String> {
        let (arg, effort) = Effort::split(arg)?;
        let (name, model) = arg.split_once('/').map_or((arg, None), |(name, model)| (name, Some(model)));
        let kind = kind(protocol);
        let known = || {
            let names: Vec<_> =
                settings.agents.values().filter(|a| a.protocol == protocol).map(|a| a.name.as_str()).collect();
            if names.is_empty() { "none is configured".to_owned() } else { format!("there are: {}", names.join(", ")) }
        };
        if name.is_empty() {
            return Err(format!("engine {kind} needs an agent; write {kind}:AGENT or {kind}:AGENT/MODEL; {}", known()));
        }
        let found = settings.agents.get(name).filter(|a| a.protocol == protocol);
        let agent = found.ok_or_else(|| format!("there is no agent {name:?} for {kind}; {}", known()))?.clone();
        let wrong = |why: String| format!("the agent {name} cannot be used: {why}");
        if let Some(model) = model {
            // It goes into files of any format: only what is plain in all of them.
            let fits = |c: char| c.is_ascii_alphanumeric() || "._:/@+-".contains(c);
            if model.is_empty() || model.len() > 128 || !model.chars().all(fits) {
                return Err(wrong("a model's name has 1 to 128 letters, digits and . _ : / @ + -".to_owned()));
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
            return Err(wrong(format!("{{{word}}} stands for nothing; there are: {}", placeholders::NAMES.join(", "))));
        }
        if agent.command.iter().any(|t| placeholders::has(t, "proxy_url")) {
            // The address holds the attempt's token, and everybody on the machine can read arguments.
            return Err(wrong("{proxy_url} cannot be an argument; put it into its env or files".to_owned()));
        }
        if agent.provider.is_none() && texts().any(|t| placeholders::has(t, "proxy_url")) {
            return Err(wrong("it asks for {proxy_url} and has no provider; set its provider".to_owned()));
        }
        if let Some(provider) = agent.provider.as_ref().filter(|p| !settings.providers.contains_key(*p)) {
            return Err(wrong(format!("its provider {provider:?} is not configured")));
        }
        if let Some(path) = agent.files.keys().find_map(|p| crate::platform::rooted_fs::check(p).err()) {
            return Err(wrong(format!("its file {path}")));
        }
        Ok(Driven { agent, sandbox, model: model.map(str::to_owned), effort })
    }

    /// Makes the agent's home, or finds it as it was left, and puts its job together.
    ///
    /// # Errors
    /// `Permanent` when the table or the order cannot be carried out, `Transient` when the disk fails.
    pub fn ready(&self, order: &Order, env: &AttemptEnv, model_access: &ModelAccess) -> PortResult<Ready> {
        let wrong = |why: String| {
            let agent = &self.agent.name;
            PortError::permanent(
                format!("the agent {agent} cannot be started: {why}"),
                format!("correct agents.{agent}"),
            )
        };
        let disk = |e: std::io::Error| PortError::transient(format!("the agent's home cannot be made: {e}"));
        let told = env.prompt.as_ref().ok_or_else(|| wrong("no prompt was rendered for it".to_owned()))?;
        let prompt = format!("{}\n\n{}", told.system.trim_end(), told.user);
        let home = env.scratch.join("home");
        if order.resume.is_none() {
            match std::fs::remove_dir_all(&home) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(disk(e)),
                _ => {}
            }
            std::fs::create_dir_all(&env.scratch).map_err(disk)?;
        }
        // An agent that was here before may have left anything: no link of its is followed.
        let scratch = RootedDir::open(&env.scratch).map_err(disk)?;
        if order.resume.is_some() && scratch.entries("home", 1).is_err() {
            return Err(PortError::transient("the agent's home is not there any more"));
        }
        let write =
            |path: &str, text: &str| scratch.write(path, text.as_bytes()).map_err(|why| wrong(format!("file {why}")));
        scratch.make_dir("home").map_err(|why| wrong(why.to_string()))?;

        let mut blanks = Blanks::default();
        for (name, path) in [("dir", &env.dir), ("home", &home), ("scratch", &env.scratch)] {
            blanks.set(name, plain_path(path).map_err(wrong)?);
        }
        if let Some(model) = &self.model {
            blanks.set("model", model);
        }
        if let Some(effort) = self.effort {
            blanks.set("effort", effort.name());
        }
        // What is about an effort nobody asked for is left out (a word, a variable, a line of a file): the agent has its own.
        let said = |text: &str| self.effort.is_some() || !placeholders::has(text, "effort");
        if let Some(gate) = model_access.url(&self.sandbox) {
            blanks.set("proxy_url", gate.expose());
        }
        let asks = |name: &str| self.agent.command.iter().any(|word| placeholders::has(word, name));
        let by_stdin = !asks("prompt") && !asks("prompt_file");
        for (path, text) in &self.agent.files {
            let text: String = text.split_inclusive('\n').filter(|line| said(line)).collect();
            let text = blanks.fill(&text).map_err(|why| wrong(format!("file {path}: {why}")))?;
            write(&format!("home/{path}"), &text)?;
        }
        let mut vars = vec![("SKEP_STEP".to_owned(), order.step.name().to_owned())];
        vars.extend(model_access.env());
        // What a person gave by name, HOME for the agent's own login among it, goes over what the sandbox makes up.
        if !self.agent.pass_env.iter().any(|name| name == "HOME") {
            vars.push(("HOME".to_owned(), plain_path(&home).map_err(wrong)?));
            write("home/.gitconfig", "[user]\n\tname = Skep\n\temail = skep@localhost\n")?;
        }
        for name in &self.agent.pass_env {
            match std::env::var(name) {
                Ok(value) => vars.push((name.clone(), value)),
                Err(std::env::VarError::NotPresent) => {}
                Err(_) => return Err(wrong(format!("the environment variable {name} is not text"))),
            }
        }
        for (name, value) in self.agent.env.iter().filter(|(_, value)| said(value)) {
            let value = blanks.fill(value).map_err(|why| wrong(format!("env {name}: {why}")))?;
            vars.push((name.clone(), value));
        }
        if asks("prompt_file") {
            write("prompt.md", &prompt)?;
            blanks.set("prompt_file", plain_path(&env.scratch.join("prompt.md")).map_err(wrong)?);
        }
        blanks.set("prompt", &prompt);
        let words = self.agent.command.iter().filter(|word| said(word)).map(|word| blanks.fill(word));
        let words: Result<Vec<_>, _> = words.collect();
        let line = words.and_then(|words| placeholders::line(&words)).map_err(wrong)?;
        if line.len() > LINE_BYTES_MAX {
            return Err(wrong(format!(
                "its command line has {} bytes and may have {LINE_BYTES_MAX}; give the prompt by {{prompt_file}} or on standard input",
                line.len()
            )));
        }
        Ok(Ready { prompt, by_stdin, line, env: vars })
    }

    /// When an attempt has to be over: a little before its order's deadline, so that it is stopped in good order and what it spent is known.
    pub fn deadline(order: &Order) -> Instant {
        let whole = order.caps.wall_ms.max(1_000);
        Instant::now() + Duration::from_millis(whole - (whole / 10).min(15_000))
    }

    /// Returns when the agent has to be stopped, with why.
    pub async fn watch(
        &self,
        heard: &OutputLog,
        deadline: Instant,
        model_access: &ModelAccess,
        spent_out: impl Fn() -> Option<Cap>,
    ) -> Stop {
        let mut stuck_since = None;
        loop {
            stuck_since =
                model_access.is_stuck(self.model.as_deref()).then(|| stuck_since.unwrap_or_else(Instant::now));
            if stuck_since.is_some_and(|since| since.elapsed() >= STUCK) {
                return Stop::Refused;
            }
            if Instant::now() >= deadline {
                return Stop::Time;
            }
            if heard.silent_for() >= self.agent.idle_timeout {
                return Stop::Silence;
            }
            if let Some(what) = spent_out() {
                return Stop::Spent(what);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The end of an attempt: what it is charged, which is what was counted on its way and only without that what it says itself, and
    /// what is kept of it.
    pub async fn worked(
        &self,
        order: &Order,
        model_access: &ModelAccess,
        heard: &OutputLog,
        own: Own,
        result: StepOutcome,
    ) -> EngineResult {
        // It is gone: what it left under way ends now.
        model_access.at_rest(CUT_OFF).await;
        // An agent that met the end of its budget or a provider's refusal says so in words of its own; ours are exact.
        let result = match (model_access.spent_out(), result) {
            (Some(what), StepOutcome::Failed(_) | StepOutcome::Unavailable { .. }) => {
                Stop::Spent(what).work(&self.agent, order)
            }
            (_, result) => model_access.explain(self.model.as_deref(), result),
        };
        let (tokens, cost_micros) = own.figures;
        let usage = model_access.usage().unwrap_or_else(|| {
            let said = figures::charged(order, tokens, cost_micros);
            // What it used before it was taken up again, it may not say.
            if order.resume.is_some() { said.max(order.caps) } else { said }
        });
        heard.spent(Usage { wall_ms: 0, ..usage });
        let files = vec![(ArtifactKind::Transcript, "transcript.log".to_owned(), heard.transcript())];
        let session = own.session.map(|id| format!("{}:{}:{id}", kind(self.agent.protocol), self.agent.name));
        EngineResult { result, usage: Some(usage), usage_by_model: model_access.usage_by_model(), session, files }
    }
}

impl Ready {
    /// The agent's environment.
    pub fn env(&self) -> Vec<(&str, String)> {
        self.env.iter().map(|(name, value)| (name.as_str(), value.clone())).collect()
    }

    /// The agent's job in the sandbox.
    pub fn job<'a>(
        &'a self,
        env: &'a AttemptEnv,
        vars: &'a [(&'a str, String)],
        gate: Option<&'a ProxyEndpoint>,
    ) -> Job<'a> {
        Job {
            command: &self.line,
            purpose: Purpose::Agent,
            dir: &env.dir,
            cache: &env.cache,
            scratch: &env.scratch,
            env: vars,
            // Kept here, by [`Driven::watch`].
            timeout: Duration::MAX,
            max_output: STDERR_BYTES_MAX,
            proxy: gate,
        }
    }
}

/// How an engine of this protocol begins.
fn kind(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Acp => "acp",
        Protocol::Cli => "cli",
    }
}

/// Ends an agent whose input is closed; what cannot be told of its end is told as it is.
pub async fn end(end: ProcessHandle, heard: &OutputLog) -> ProcessOutput {
    let (stderr, truncated) = end.stderr();
    let mut ended = end.shut_down(GRACE).await.unwrap_or_else(|e| {
        tracing::warn!(error = %e, "a driven agent could not be ended");
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
    // Here, before anybody shortens it: of a value that is cut in two nobody could tell.
    let clean = if ended.truncated { redact_end } else { redact_live };
    ended.stderr = clean(&ended.stderr).into_owned();
    let last = terminal_text::tail(&ended.stderr, TAIL_BYTES_MAX);
    if !last.trim().is_empty() {
        heard.note(&format!("its standard error ended with:\n{last}"));
    }
    ended
}

/// The result in an agent's words.
///
/// # Errors
/// What is wrong with them, in words for the agent.
pub fn answer(order: &Order, env: &AttemptEnv, heard: &OutputLog) -> Result<StepOutcome, String> {
    let text = heard.text();
    match (order.step, answer::from_words(&text).and_then(|answer| answer.work(order, env))) {
        (_, Ok(work)) => Ok(work),
        // The worktree is the truth: words that are no answer are a summary.
        (Step::Develop, Err(_)) => Ok(StepOutcome::Edited { summary: summary(&heard.message()) }),
        // Notes are words; that they are not in a block is no loss.
        (Step::Explore, Err(_)) if answer::last_json_block(&text).is_none() && !text.trim().is_empty() => {
            Ok(StepOutcome::Notes(terminal_text::tail(text.as_bytes(), 32 * 1024)))
        }
        (_, Err(why)) => Err(why),
    }
}

/// The first lines of a message.
fn summary(message: &str) -> String {
    let lines: Vec<&str> = message.lines().map(str::trim_end).skip_while(|l| l.is_empty()).take(6).collect();
    lines.join("\n").trim().chars().take(SUMMARY_CHARS_MAX).collect()
}

/// The end of what an agent wrote, at most `most` bytes, as it can be shown.
pub fn tail(text: &[u8], most: usize) -> String {
    terminal_text::tail(&redact_bytes(text), most)
}

/// A path as text that is plain in files of any format.
fn plain_path(path: &PathBuf) -> Result<String, String> {
    let text = path.to_str().filter(|t| !t.chars().any(|c| c.is_control() || "\"'\\".contains(c)));
    text.map(str::to_owned)
        .ok_or_else(|| format!("the path {path:?} has quotes, backslashes or control characters in it"))
}
