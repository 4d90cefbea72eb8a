//! Any program as an engine: it gets the order by file and environment and works in its worktree.
//!
//! | it sees | what |
//! |---|---|
//! | `SKEP_STEP` | `explore`, `plan`, `develop` or `review` |
//! | `SKEP_GOAL`, `SKEP_TASK`, `SKEP_TASK_TEXT` | the goal; the task's name and text (`develop`) |
//! | `SKEP_RUN`, `SKEP_ATTEMPT`, `SKEP_TRY`, `SKEP_ROUND`, `SKEP_HEAD`, `SKEP_BASE` | which attempt this is, on what |
//! | `SKEP_ORDER_FILE` | the whole order as JSON |
//! | `SKEP_QUESTION` | what somebody wants to know (`explore`, asked by an attempt); else empty |
//! | `SKEP_NOTES_FILE` | what it is told besides, as text: red checks, findings, answers |
//! | `SKEP_PATCH_FILE` | the patch to judge (`review`) |
//! | `SKEP_REPORT_FILE` | where it may write its report (see [`answer`](super::answer)); needed for `plan` and `review` |
//! | `SKEP_SCRATCH` | a folder for its own files, removed afterwards |
//!
//! Exit code 0: done. 75 (EX_TEMPFAIL): the same may work later, no try is lost. Any other: failed, with the end of its output.

use super::answer::{self, Answer};
use super::model_access;
use crate::domain::{ArtifactKind, Order, Step, Usage};
use crate::platform::access::broker::{AccessBroker, AccessRequest, Audience};
use crate::platform::process::{OnOutput, ProcessOutput, TRUNCATION_NOTICE};
use crate::platform::rooted_fs::{RootedDir, RootedFsError};
use crate::platform::sandbox::{Job, Purpose, Sandbox};
use crate::platform::terminal_text;
use crate::ports::answer_schema;
use crate::ports::engine::{AttemptEnv, Engine, EngineEvent, EngineResult, Sink, StepOutcome};
use crate::ports::{PortError, PortResult};
use async_trait::async_trait;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The report's name in the scratch folder.
const REPORT: &str = "report.json";
/// The most of its output that is kept.
const TRANSCRIPT_BYTES_MAX: usize = 1024 * 1024;
/// The most of it that goes into a failure or into notes.
const TAIL_BYTES_MAX: usize = 4 * 1024;
/// The longest text handed over by environment: four bytes a character at worst.
const ENV_CHARS_MAX: usize = 32 * 1024 - 64;
/// The exit code that says "try again later".
const TEMPFAIL: i32 = 75;
/// Signs of life passed on per attempt, and the longest of them: people watch, nobody reads a flood.
const SAID_MAX: usize = 2_000;
const SAID_CHARS_MAX: usize = 400;

/// The engine.
#[derive(Clone, Debug)]
pub struct CommandEngine {
    line: String,
    sandbox: Sandbox,
    access_broker: AccessBroker,
}

impl CommandEngine {
    /// Runs `line` by `sh -c`. The line is a person's, given with the run or in the configuration.
    ///
    /// # Errors
    /// When there is none.
    pub fn new(line: &str, sandbox: Sandbox) -> Result<Self, String> {
        let line = line.trim();
        if line.is_empty() || line.contains('\0') {
            return Err("engine command needs a shell line; write command:<shell line>".to_owned());
        }
        Ok(Self { line: line.to_owned(), sandbox, access_broker: AccessBroker::default() })
    }

    /// The same, with what its project is granted.
    pub fn with_access_broker(self, access_broker: AccessBroker) -> Self {
        Self { access_broker, ..self }
    }
}

#[async_trait]
impl Engine for CommandEngine {
    async fn run(&self, order: &Order, env: &AttemptEnv, sink: Sink) -> PortResult<EngineResult> {
        let label = format!("the engine's command ({} {})", order.run, order.attempt);
        let asker = AccessRequest {
            project: &env.project,
            audience: Audience::Engine,
            level: self.sandbox.level(),
            label: &label,
        };
        let given = match self.access_broker.grant(asker).await {
            Ok(given) => given,
            Err(error) => return Ok(model_access::not_given(error)),
        };
        model_access::tell(&given, &sink);
        let orders = hand_over(order, env).map_err(|e| {
            PortError::transient(format!("the order cannot be written to {}: {e}", env.scratch.display()))
        })?;
        // What Skep says of the order stands over everything else.
        let vars = [given.env(), orders].concat();
        sink(EngineEvent::Did(format!("$ {}", self.line)));
        let job = Job {
            command: &self.line,
            purpose: Purpose::Agent,
            dir: &env.dir,
            cache: &env.cache,
            scratch: &env.scratch,
            env: &vars,
            timeout: Duration::from_millis(order.caps.wall_ms.max(1_000)),
            max_output: TRANSCRIPT_BYTES_MAX - TRUNCATION_NOTICE.len(),
            proxy: given.endpoint(),
        };
        let ended = self.sandbox.run(&job, Some(lines(sink))).await.map_err(|e| not_started(&e))?;
        let output = terminal_text::tail(&ended.stdout, TAIL_BYTES_MAX);
        if ended.code == Some(TEMPFAIL) && !ended.timed_out {
            let said = terminal_text::last_line(&output, 300).unwrap_or_default();
            return Err(PortError::transient(format!(
                "the command asked to be tried again later (exit code 75): {said}"
            )));
        }
        let report = read_report(&env.scratch);
        let usage = used(order, report.as_ref().ok().and_then(Option::as_ref));
        let mut result = outcome(order, env, &ended, &output, report);
        let mut transcript = ended.into_log();
        if let Some(refused) = given.denied_hosts() {
            transcript.extend_from_slice(format!("\nSkep: {refused}\n").as_bytes());
            if let StepOutcome::Failed(why) = &mut result {
                why.push_str(&format!("\n{refused}"));
            }
        }
        let files = vec![(ArtifactKind::Transcript, "transcript.log".to_owned(), transcript)];
        Ok(EngineResult { result, usage: Some(usage), usage_by_model: Vec::new(), session: None, files })
    }
}

fn not_started(e: &std::io::Error) -> PortError {
    use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    match e.kind() {
        NotFound | NotADirectory | PermissionDenied => {
            PortError::permanent(e.to_string(), "look whether /bin/sh and the worktree are there and may be used")
        }
        _ => PortError::transient(e.to_string()),
    }
}

/// Writes the order's files and names them.
fn hand_over(order: &Order, env: &AttemptEnv) -> std::io::Result<Vec<(&'static str, String)>> {
    std::fs::create_dir_all(&env.scratch)?;
    let text = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    let put = |name: &str, bytes: &[u8]| -> std::io::Result<String> {
        let path = env.scratch.join(name);
        std::fs::write(&path, bytes)?;
        Ok(text(path))
    };
    let notes: String =
        order.notes.iter().map(|n| format!("from {}:\n{}\n\n", n.source.name(), n.text.trim_end())).collect();
    // An environment has no NUL and no entry over 128 KiB; the order's file has the exact text.
    let clean = |s: &str| s.chars().filter(|c| *c != '\0').take(ENV_CHARS_MAX).collect::<String>();
    let (task, task_text) =
        order.task.as_ref().map_or((String::new(), String::new()), |t| (clean(&t.spec.name), clean(&t.spec.text)));
    let report = env.scratch.join(REPORT);
    // An earlier attempt's report must not answer for this one.
    match std::fs::remove_file(&report) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    Ok(vec![
        ("SKEP_STEP", order.step.name().to_owned()),
        ("SKEP_RUN", order.run.to_string()),
        ("SKEP_ATTEMPT", order.attempt.to_string()),
        ("SKEP_TRY", order.try_number.to_string()),
        ("SKEP_ROUND", order.round.to_string()),
        ("SKEP_HEAD", clean(order.head.as_str())),
        ("SKEP_BASE", clean(order.base.as_str())),
        ("SKEP_GOAL", clean(&order.goal)),
        ("SKEP_QUESTION", clean(order.question.as_deref().unwrap_or_default())),
        ("SKEP_TASK", task),
        ("SKEP_TASK_TEXT", task_text),
        ("SKEP_SCRATCH", text(env.scratch.clone())),
        ("SKEP_ORDER_FILE", put("order.json", &serde_json::to_vec_pretty(order)?)?),
        ("SKEP_NOTES_FILE", put("notes.txt", notes.as_bytes())?),
        ("SKEP_PATCH_FILE", put("review.patch", env.patch.as_bytes())?),
        ("SKEP_REPORT_FILE", text(report)),
    ])
}

/// Its report, if it wrote one.
fn read_report(scratch: &Path) -> Result<Option<Answer>, String> {
    let folder = RootedDir::open(scratch).map_err(|e| format!("the scratch folder is gone: {e}"))?;
    match folder.read(REPORT, answer::BYTES_MAX as u64) {
        Err(RootedFsError::Missing(_)) => Ok(None),
        Err(why) => Err(format!("its report file is not usable: {why}")),
        Ok(bytes) => answer::parse(&bytes).map(Some).map_err(|why| format!("its report file is not usable: {why}")),
    }
}

/// What it spent besides time. A command that does not say is taken to have spent what was set aside, where a limit was
/// set at all: an agent with an account of its own must not be free.
fn used(order: &Order, report: Option<&Answer>) -> Usage {
    let said = report.and_then(|r| r.usage);
    Usage {
        tokens: said.map_or(order.caps.tokens, |u| u.tokens),
        cost_micros: said.map_or(order.caps.cost_micros, |u| u.cost_micros),
        wall_ms: 0,
        turns: 0,
    }
}

fn outcome(
    order: &Order,
    env: &AttemptEnv,
    ended: &ProcessOutput,
    output: &str,
    report: Result<Option<Answer>, String>,
) -> StepOutcome {
    if ended.timed_out {
        let secs = order.caps.wall_ms / 1000;
        return StepOutcome::Failed(format!(
            "the command was still running after {secs} s and was ended; its last output:\n{output}"
        ));
    }
    if let Some(why) = &ended.stop_reason {
        return StepOutcome::Failed(format!("the command was killed: {why}; its last output:\n{output}"));
    }
    let report = match report {
        Ok(report) => report,
        Err(why) => return StepOutcome::Failed(why),
    };
    if ended.code != Some(0) {
        let said = if output.trim().is_empty() {
            "it wrote nothing".to_owned()
        } else {
            format!("its last output:\n{output}")
        };
        // A program that fell over may have reported before; only a report of trouble is believed then.
        if let Some(trouble) = report.and_then(Answer::trouble) {
            return trouble;
        }
        let how = match (ended.code, ended.signal) {
            (Some(code), _) => format!("with exit code {code}"),
            (None, Some(signal)) => format!("by signal {signal}"),
            (None, None) => "in an unknown way".to_owned(),
        };
        return StepOutcome::Failed(format!("the command ended {how}; {said}"));
    }
    if let Some(report) = report {
        return report
            .work(order, env)
            .unwrap_or_else(|why| StepOutcome::Failed(format!("its report file is not usable: {why}")));
    }
    match order.step {
        Step::Develop => StepOutcome::Edited { summary: terminal_text::last_line(output, 300).unwrap_or_default() },
        Step::Explore => StepOutcome::Notes(output.to_owned()),
        Step::Plan | Step::Review => StepOutcome::Failed(format!(
            "a command that does the {} step must write {} to $SKEP_REPORT_FILE, and it wrote none",
            order.step.name(),
            answer_schema::example(order.step),
        )),
    }
}

/// Passes output on line by line, bounded.
fn lines(sink: Sink) -> OnOutput {
    let state = Mutex::new((Vec::new(), 0usize));
    Arc::new(move |_is_err, chunk: &[u8]| {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let (rest, said) = &mut *state;
        for part in chunk.split_inclusive(|b| *b == b'\n') {
            if *said > SAID_MAX {
                return;
            }
            // What is too long for a line is not kept for one.
            rest.extend_from_slice(&part[..part.len().min((8 * SAID_CHARS_MAX).saturating_sub(rest.len()))]);
            if part.ends_with(b"\n") {
                let line = terminal_text::sanitize(&std::mem::take(rest));
                if line.trim().is_empty() {
                    continue;
                }
                *said += 1;
                let line = line.trim_end().chars().take(SAID_CHARS_MAX).collect();
                sink(EngineEvent::Said(if *said > SAID_MAX { "[more: see the transcript]".to_owned() } else { line }));
            }
        }
    })
}
