//! Headless agent: one command that receives its order, works and exits. An output table says how to read its output.

use super::driven::figures;
use super::driven::output_log::OutputLog;
use super::driven::wire::{self, Line};
use super::driven::{self, AgentReport, DrivenAgent, Interruption, PreparedAgent};
use super::model_access::{self, ModelAccessProvider};
use super::output_table::{Event, Format};
use crate::domain::Order;
use crate::platform::process::InteractiveProcess;
use crate::platform::terminal_text;
use crate::ports::engine::{AttemptEnv, Engine, EngineResult, Sink, StepOutcome};
use crate::ports::{PortError, PortResult};
use async_trait::async_trait;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};

/// Upper bound of a line and of a document, in bytes. Longer ones are dropped.
const MAX_LINE_BYTES: usize = 8 * 1024 * 1024;
/// Time that the agent's output may stay open after its exit, because a process that it started holds it.
const DRAIN: Duration = Duration::from_secs(1);
/// Time that the agent may keep running after it closed its output.
const LINGER: Duration = Duration::from_secs(30);

/// Engine `cli`.
#[derive(Clone, Debug)]
pub struct CliEngine {
    driven: DrivenAgent,
    model_access: ModelAccessProvider,
}

/// Result fields read from the output.
#[derive(Default)]
struct Fields {
    answer: Option<String>,
    session: Option<String>,
    error: Option<String>,
    tokens: Option<f64>,
    cost_usd: Option<f64>,
}

impl CliEngine {
    /// Creates the engine of an agent.
    pub fn new(driven: DrivenAgent, model_access: ModelAccessProvider) -> Self {
        Self { driven, model_access }
    }

    async fn converse(
        &self,
        ready: &PreparedAgent,
        talk: (ChildStdin, ChildStdout),
        output: &OutputLog,
        read: &Mutex<Fields>,
    ) {
        let (mut stdin, stdout) = talk;
        let send_prompt = async move {
            if ready.by_stdin {
                // An agent that ignores its input may close the pipe.
                let _closed = stdin.write_all(ready.prompt.as_bytes()).await;
            }
        };
        let format = self.driven.agent.output.format();
        let mut reader = BufReader::with_capacity(64 * 1024, stdout);
        let read_output = async {
            let mut document = Vec::new();
            while let Ok(Some(line)) = wire::next(&mut reader, MAX_LINE_BYTES).await {
                output.touch();
                match (line, format) {
                    (Line::TooLong, _) => output.note("a line of its output was too long and was dropped"),
                    (Line::Whole(line), Format::Text) if line.trim_ascii().is_empty() => output.paragraph(),
                    (Line::Whole(line), Format::Text) => {
                        output.push_text(&format!("{}\n", terminal_text::sanitize(&line)))
                    }
                    (Line::Whole(line), Format::Json) => {
                        if document.len() + line.len() < MAX_LINE_BYTES {
                            document.extend_from_slice(&line);
                            document.push(b'\n');
                        }
                    }
                    (Line::Whole(line), Format::Lines) => self.read_event(&line, output, read),
                }
            }
            if format == Format::Json {
                self.read_event(&document, output, read);
            }
        };
        tokio::join!(send_prompt, read_output);
    }

    /// Reads one JSON value of the output.
    fn read_event(&self, text: &[u8], output: &OutputLog, read: &Mutex<Fields>) {
        let event = match serde_json::from_slice(text) {
            Ok(value) => Event::new(value),
            // Warnings and banners between JSON lines are normal.
            Err(_) => return output.stray(text),
        };
        let table = &self.driven.agent.output;
        for reasoning in event.texts(&table.reasoning) {
            output.push_reasoning(&format!("{reasoning}\n"));
        }
        for text in event.texts(&table.text) {
            output.push_text(&format!("{text}\n"));
        }
        for tool_call in event.texts(&table.tool_call) {
            output.push_tool_call(&tool_call);
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

impl Fields {
    fn tokens(&self) -> Option<u64> {
        // An amount beyond the range of a float is absurd, and saturates.
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
        let deadline = DrivenAgent::deadline(order);
        let model_access =
            match self.model_access.open(&self.driven.agent, &self.driven.sandbox, order, env, &sink).await {
                Ok(model_access) => model_access,
                Err(error) => return Ok(model_access::access_denied(error)),
            };
        let ready = self.driven.ready(order, env, &model_access)?;
        let vars = ready.env();
        let job = ready.job(env, &vars, model_access.place());
        let started = self.driven.sandbox.spawn(&job).map_err(|e| PortError::transient(e.to_string()))?;
        let (InteractiveProcess { stdin, stdout, handle: mut end }, reaper) = started;
        let (output, read) = (OutputLog::new(sink), Mutex::new(Fields::default()));
        output.start_turn();

        let exhausted = || {
            let read = read.lock().unwrap_or_else(PoisonError::into_inner);
            model_access.exhausted().or_else(|| figures::over(order, read.tokens(), read.cost_micros()))
        };
        let stopped = {
            let converse = self.converse(&ready, (stdin, stdout), &output, &read);
            let watch = self.driven.watch(&output, deadline, &model_access, exhausted);
            tokio::pin!(converse, watch);
            tokio::select! {
                () = &mut converse => {
                    // The output is closed, so the agent should exit soon.
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
        let ended = driven::end(end, &output).await;
        drop(reaper);
        if let Some(refused) = model_access.refused() {
            output.note(&format!("Skep: {refused}"));
        }

        let read = read.into_inner().unwrap_or_else(PoisonError::into_inner);
        let result = self.outcome(order, env, &output, &read, stopped, &ended);
        let usage = (read.tokens(), read.cost_micros());
        let own = AgentReport { usage, session: read.session, idle: false };
        Ok(self.driven.finish(order, &model_access, &output, own, result).await)
    }
}

impl CliEngine {
    fn outcome(
        &self,
        order: &Order,
        env: &AttemptEnv,
        output: &OutputLog,
        read: &Fields,
        stopped: Option<Interruption>,
        ended: &crate::platform::process::ProcessOutput,
    ) -> StepOutcome {
        if let Some(stop) = stopped {
            return stop.into_outcome(&self.driven.agent, order);
        }
        if ended.code != Some(0) || read.error.is_some() {
            let said = || Some(output.text()).filter(|text| !text.trim().is_empty());
            let reason = read.error.clone().or_else(said).unwrap_or_else(|| output.stray_lines());
            return self.driven.failure(ended, &reason);
        }
        if let Some(answer) = &read.answer {
            output.start_turn();
            output.push_text(answer);
        }
        driven::answer(order, env, output).unwrap_or_else(|why| {
            StepOutcome::Failed(format!("the answer of the agent {} is invalid: {why}", self.driven.agent.name))
        })
    }
}
