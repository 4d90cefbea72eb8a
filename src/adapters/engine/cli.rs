//! A headless agent: one command that is told its order, works, and ends; its output is read by its [`OutputTable`](super::output_table::OutputTable).

use super::driven::figures;
use super::driven::output_log::OutputLog;
use super::driven::wire::{self, Line};
use super::driven::{self, Driven, Own, Ready, Stop};
use super::model_access::{self, ModelAccessProvider};
use super::output_table::{Event, Format};
use super::settings::{Protocol, Settings};
use crate::domain::Order;
use crate::platform::process::InteractiveProcess;
use crate::platform::sandbox::Sandbox;
use crate::platform::terminal_text;
use crate::ports::engine::{AttemptEnv, Engine, EngineResult, Sink, StepOutcome};
use crate::ports::{PortError, PortResult};
use async_trait::async_trait;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};

/// The longest line and the largest document read; a longer one is dropped.
const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long its output may stay open after it is gone: something it started holds it.
const DRAIN: Duration = Duration::from_secs(1);
/// How long it may still run after it closed its output.
const LINGER: Duration = Duration::from_secs(30);

/// The engine.
#[derive(Clone, Debug)]
pub struct CliEngine {
    driven: Driven,
    model_access: ModelAccessProvider,
}

/// What was read of its output.
#[derive(Default)]
struct Read {
    answer: Option<String>,
    session: Option<String>,
    error: Option<String>,
    tokens: Option<f64>,
    cost_usd: Option<f64>,
}

impl CliEngine {
    /// The agent `arg` (`AGENT` or `AGENT/MODEL`) names.
    ///
    /// # Errors
    /// When there is none, or its table is wrong.
    pub fn new(
        arg: &str,
        settings: &Settings,
        sandbox: Sandbox,
        model_access: ModelAccessProvider,
    ) -> Result<Self, String> {
        let driven = Driven::find(arg, Protocol::Cli, settings, sandbox)?;
        Ok(Self { driven, model_access })
    }

    async fn converse(&self, ready: &Ready, talk: (ChildStdin, ChildStdout), heard: &OutputLog, read: &Mutex<Read>) {
        let (mut stdin, stdout) = talk;
        let tell = async move {
            if ready.by_stdin {
                // An agent that does not read its input closes the pipe: that is its business.
                let _closed = stdin.write_all(ready.prompt.as_bytes()).await;
            }
        };
        let format = self.driven.agent.output.format();
        let mut reader = BufReader::with_capacity(64 * 1024, stdout);
        let listen = async {
            let mut document = Vec::new();
            while let Ok(Some(line)) = wire::next(&mut reader, LINE_BYTES_MAX).await {
                heard.alive();
                match (line, format) {
                    (Line::TooLong, _) => heard.note("a line of its output was too long and was dropped"),
                    (Line::Whole(line), Format::Text) if line.trim_ascii().is_empty() => heard.paragraph(),
                    (Line::Whole(line), Format::Text) => heard.words(&format!("{}\n", terminal_text::sanitize(&line))),
                    (Line::Whole(line), Format::Json) => {
                        if document.len() + line.len() < LINE_BYTES_MAX {
                            document.extend_from_slice(&line);
                            document.push(b'\n');
                        }
                    }
                    (Line::Whole(line), Format::Lines) => self.take(&line, heard, read),
                }
            }
            if format == Format::Json {
                self.take(&document, heard, read);
            }
        };
        tokio::join!(tell, listen);
    }

    /// Takes one JSON value's text apart.
    fn take(&self, text: &[u8], heard: &OutputLog, read: &Mutex<Read>) {
        let event = match serde_json::from_slice(text) {
            Ok(value) => Event::new(value),
            // Warnings and banners between the lines are normal.
            Err(_) => return heard.note(&driven::tail(text, 400)),
        };
        let table = &self.driven.agent.output;
        for reasoning in event.texts(&table.reasoning) {
            heard.thoughts(&format!("{reasoning}\n"));
        }
        for text in event.texts(&table.text) {
            heard.words(&format!("{text}\n"));
        }
        for tool_call in event.texts(&table.tool_call) {
            heard.did(&tool_call);
        }
        let last = |expressions| event.texts(expressions).pop();
        let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
        let read = &mut *read;
        for (slot, expressions) in [(&mut read.answer, &table.answer), (&mut read.error, &table.error)] {
            *slot = last(expressions).or(slot.take());
        }
        read.session = last(&table.session)
            .map(|s| s.chars().filter(|c| !c.is_control()).take(200).collect())
            .or(read.session.take());
        let add = |slot: &mut Option<f64>, more: Option<f64>| {
            *slot = more.map(|m| m + slot.unwrap_or(0.0)).or(*slot);
        };
        add(&mut read.tokens, event.sum(&table.tokens));
        add(&mut read.cost_usd, event.sum(&table.cost_usd));
    }
}

impl Read {
    fn tokens(&self) -> Option<u64> {
        // Anything a float cannot count is absurd, and saturates.
        self.tokens.map(|t| t.ceil() as u64)
    }
    fn cost_micros(&self) -> Option<u64> {
        self.cost_usd.map(|usd| figures::micros(usd).unwrap_or(u64::MAX))
    }
}

#[async_trait]
impl Engine for CliEngine {
    fn reads_prompt(&self) -> bool {
        true
    }

    async fn run(&self, order: &Order, env: &AttemptEnv, sink: Sink) -> PortResult<EngineResult> {
        let deadline = Driven::deadline(order);
        let model_access =
            match self.model_access.open(&self.driven.agent, &self.driven.sandbox, order, env, &sink).await {
                Ok(model_access) => model_access,
                Err(error) => return Ok(model_access::not_given(error)),
            };
        let ready = self.driven.ready(order, env, &model_access)?;
        let vars = ready.env();
        let job = ready.job(env, &vars, model_access.place());
        let started = self.driven.sandbox.spawn(&job).map_err(|e| PortError::transient(e.to_string()))?;
        let (InteractiveProcess { stdin, stdout, handle: mut end }, strays) = started;
        let (heard, read) = (OutputLog::new(sink), Mutex::new(Read::default()));
        heard.turn();

        let spent_out = || {
            let read = read.lock().unwrap_or_else(PoisonError::into_inner);
            model_access.spent_out().or_else(|| figures::over(order, read.tokens(), read.cost_micros()))
        };
        let stopped = {
            let converse = self.converse(&ready, (stdin, stdout), &heard, &read);
            let watch = self.driven.watch(&heard, deadline, &model_access, spent_out);
            tokio::pin!(converse, watch);
            tokio::select! {
                () = &mut converse => {
                    // Its output is closed; it should be gone in a moment.
                    tokio::select! {
                        _ended = end.wait() => None,
                        () = tokio::time::sleep(LINGER) => None,
                        stop = &mut watch => Some(stop),
                    }
                }
                _ended = end.wait() => {
                    let _held = tokio::time::timeout(DRAIN, &mut converse).await;
                    None
                }
                stop = &mut watch => Some(stop),
            }
        };
        let ended = driven::end(end, &heard).await;
        drop(strays);
        if let Some(refused) = model_access.refused() {
            heard.note(&format!("Skep: {refused}"));
        }

        let read = read.into_inner().unwrap_or_else(PoisonError::into_inner);
        let result = self.outcome(order, env, &heard, &read, stopped, &ended);
        let own = Own { figures: (read.tokens(), read.cost_micros()), session: read.session };
        Ok(self.driven.worked(order, &model_access, &heard, own, result).await)
    }
}

impl CliEngine {
    fn outcome(
        &self,
        order: &Order,
        env: &AttemptEnv,
        heard: &OutputLog,
        read: &Read,
        stopped: Option<Stop>,
        ended: &crate::platform::process::ProcessOutput,
    ) -> StepOutcome {
        if let Some(stop) = stopped {
            return stop.work(&self.driven.agent, order);
        }
        if ended.code != Some(0) || read.error.is_some() {
            let said = read.error.clone().unwrap_or_else(|| heard.text());
            return self.driven.fell(ended, &said);
        }
        if let Some(answer) = &read.answer {
            heard.turn();
            heard.words(answer);
        }
        driven::answer(order, env, heard).unwrap_or_else(|why| {
            StepOutcome::Failed(format!("the answer of the agent {} cannot be used: {why}", self.driven.agent.name))
        })
    }
}
