//! Any program as an engine: it receives the order by files and environment and works in its worktree.
//!
//! | variable | value |
//! |---|---|
//! | `SKEP_STEP` | `explore`, `plan`, `develop` or `review` |
//! | `SKEP_GOAL`, `SKEP_TASK`, `SKEP_TASK_TEXT` | the goal; the task's name and text (`develop`) |
//! | `SKEP_RUN`, `SKEP_ATTEMPT`, `SKEP_TRY`, `SKEP_ROUND`, `SKEP_HEAD`, `SKEP_BASE` | identity of the attempt and its commits |
//! | `SKEP_ORDER_FILE` | the complete order as JSON |
//! | `SKEP_QUESTION` | the question to answer (`explore`, asked by an attempt); else empty |
//! | `SKEP_NOTES_FILE` | notes as text: failed checks, findings, answers |
//! | `SKEP_PATCH_FILE` | the patch to review (`review`) |
//! | `SKEP_REPORT_FILE` | path for the report (see [`answer`](super::answer)); required for `plan` and `review` |
//! | `SKEP_SCRATCH` | a folder for temporary files, removed afterwards |
//!
//! Exit code 0: done; without a change there was nothing to do. 75 (EX_TEMPFAIL): retry later, no try is used up. One of
//! `engines.partial_exit_codes`: linters end like this when they leave something unfixed, so if the command changed
//! something, the checks decide. Any other: failed, with the end of the output.

use super::answer::{self, Answer};
use super::model_access;
use crate::domain::{ArtifactKind, BudgetKind, Order, Step, Usage};
use crate::platform::access::broker::{AccessBroker, AccessRequest, Audience};
use crate::platform::process::{OnOutput, ProcessOutput, StopReason, TRUNCATION_NOTICE};
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

/// Name of the report in the scratch folder.
const REPORT: &str = "report.json";
/// Upper bound of the stored output, in bytes.
const MAX_TRANSCRIPT_BYTES: usize = 1024 * 1024;
/// Upper bound of the output in a failure or in notes, in bytes.
const MAX_TAIL_BYTES: usize = 4 * 1024;
/// Upper bound of a text passed by environment: four bytes per character at worst.
const MAX_ENV_CHARS: usize = 32 * 1024 - 64;
/// Exit code for "try again later".
const TEMPFAIL: i32 = 75;
/// Upper bounds of the lines reported per attempt, and of one line.
const MAX_LINES: usize = 2_000;
const MAX_LINE_CHARS: usize = 400;

/// The engine.
#[derive(Clone, Debug)]
pub struct CommandEngine {
    line: String,
    sandbox: Sandbox,
    access_broker: AccessBroker,
    partial_exit_codes: Vec<i32>,
}

impl CommandEngine {
    /// Runs `line` by `sh -c`. The line comes from a person, with the run or in the configuration.
    ///
    /// # Errors
    /// If the line is empty.
    pub fn new(line: &str, sandbox: Sandbox) -> Result<Self, String> {
        let line = line.trim();
        if line.is_empty() || line.contains('\0') {
            return Err("engine command needs a shell command; write command:<shell command>".to_owned());
        }
        let partial_exit_codes = super::settings::PARTIAL_EXIT_CODES.to_vec();
        Ok(Self { line: line.to_owned(), sandbox, access_broker: AccessBroker::default(), partial_exit_codes })
    }

    /// Sets the exit codes with which the command may end after work that it could not finish.
    pub fn with_partial_exit_codes(self, partial_exit_codes: Vec<i32>) -> Self {
        Self { partial_exit_codes, ..self }
    }

    /// Sets the broker that grants the command the access of its project.
    pub fn with_access_broker(self, access_broker: AccessBroker) -> Self {
        Self { access_broker, ..self }
    }
}

#[async_trait]
impl Engine for CommandEngine {
    async fn run(&self, order: &Order, env: &AttemptEnv, sink: Sink) -> PortResult<EngineResult> {
        let label = format!("the engine's command ({} {})", order.run, order.attempt);
        let request = AccessRequest {
            project: &env.project,
            audience: Audience::Engine,
            level: self.sandbox.level(),
            label: &label,
        };
        let given = match self.access_broker.grant(request).await {
            Ok(given) => given,
            Err(error) => return Ok(model_access::access_denied(error)),
        };
        model_access::report_secrets(&given, &sink);
        let orders = write_order(order, env)
            .map_err(|e| PortError::transient(format!("cannot write the order to {}: {e}", env.scratch.display())))?;
        // Variables of the order override all others.
        let vars = [given.env(), orders].concat();
        sink(EngineEvent::Did(format!("$ {}", self.line)));
        let job = Job {
            command: &self.line,
            purpose: Purpose::Agent,
            origin: env.origin.as_deref(),
            dir: &env.dir,
            cache: &env.cache,
            scratch: &env.scratch,
            env: &vars,
            timeout: Duration::from_millis(order.caps.wall_ms.max(1_000)),
            max_output: MAX_TRANSCRIPT_BYTES - TRUNCATION_NOTICE.len(),
            proxy: given.endpoint(),
        };
        let ended = self.sandbox.run(&job, Some(report_lines(sink))).await.map_err(|e| not_started(&e))?;
        let output = terminal_text::tail(&ended.stdout, MAX_TAIL_BYTES);
        if ended.code == Some(TEMPFAIL) && !ended.timed_out {
            let last_line = terminal_text::last_line(&output, 300).unwrap_or_default();
            return Err(PortError::transient(format!(
                "the command asked to be retried later (exit code 75): {last_line}"
            )));
        }
        let report = read_report(&env.scratch);
        let usage = charged_usage(order, report.as_ref().ok().and_then(Option::as_ref));
        let mut result = outcome(order, env, &ended, &output, report, &self.partial_exit_codes);
        let mut transcript = ended.into_log();
        let failed = matches!(result, StepOutcome::Failed(_));
        let refused = given.network_note(&output, failed);
        if let Some(refused) = refused {
            transcript.extend_from_slice(format!("\nSkep: {refused}\n").as_bytes());
            if let StepOutcome::Failed(why) | StepOutcome::EditedInPart { why, .. } = &mut result {
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
            PortError::permanent(e.to_string(), "check that /bin/sh and the worktree exist and are accessible")
        }
        _ => PortError::transient(e.to_string()),
    }
}

/// Writes the order's files and returns the variables that name them.
fn write_order(order: &Order, env: &AttemptEnv) -> std::io::Result<Vec<(&'static str, String)>> {
    std::fs::create_dir_all(&env.scratch)?;
    let text = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    let write = |name: &str, bytes: &[u8]| -> std::io::Result<String> {
        let path = env.scratch.join(name);
        std::fs::write(&path, bytes)?;
        Ok(text(path))
    };
    let notes: String =
        order.notes.iter().map(|n| format!("from {}:\n{}\n\n", n.source.name(), n.text.trim_end())).collect();
    // An environment has no NUL and no entry over 128 KiB. The order's file has the exact text.
    let clean = |s: &str| s.chars().filter(|c| *c != '\0').take(MAX_ENV_CHARS).collect::<String>();
    let (task, task_text) =
        order.task.as_ref().map_or((String::new(), String::new()), |t| (clean(&t.spec.name), clean(&t.spec.text)));
    let report = env.scratch.join(REPORT);
    // The report of an earlier attempt must not count for this one.
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
        ("SKEP_ORDER_FILE", write("order.json", &serde_json::to_vec_pretty(order)?)?),
        ("SKEP_NOTES_FILE", write("notes.txt", notes.as_bytes())?),
        ("SKEP_PATCH_FILE", write("review.patch", env.patch.as_bytes())?),
        ("SKEP_REPORT_FILE", text(report)),
    ])
}

/// Reads the report, if there is one.
fn read_report(scratch: &Path) -> Result<Option<Answer>, String> {
    let folder = RootedDir::open(scratch).map_err(|e| format!("cannot open the scratch folder: {e}"))?;
    match folder.read(REPORT, answer::MAX_BYTES as u64) {
        Err(RootedFsError::Missing(_)) => Ok(None),
        Err(why) => Err(format!("its report file is invalid: {why}")),
        Ok(bytes) => answer::parse(&bytes).map(Some).map_err(|why| format!("its report file is invalid: {why}")),
    }
}

/// Returns the usage apart from time. A command that reports none is charged its reservation, if there is a limit at
/// all: an agent that uses its own account must not be free.
fn charged_usage(order: &Order, report: Option<&Answer>) -> Usage {
    let reported = report.and_then(|r| r.usage);
    Usage {
        tokens: reported.map_or(order.caps.tokens, |u| u.tokens),
        cost_micros: reported.map_or(order.caps.cost_micros, |u| u.cost_micros),
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
    partial_exit_codes: &[i32],
) -> StepOutcome {
    if ended.timed_out {
        let secs = order.caps.wall_ms / 1000;
        let why = format!("the command was killed: still running after {secs} s; its last output:\n{output}");
        return StepOutcome::BudgetExhausted { budget: BudgetKind::Time, why };
    }
    if let Some(StopReason::FullDisk(why)) = &ended.stop_reason {
        // Nothing the command did: it starts again, and once there is space it goes on.
        let why = format!("what the command wrote may be incomplete: {why}");
        return StepOutcome::Unavailable { why, until: None, fix: None };
    }
    if let Some(why) = &ended.stop_reason {
        return StepOutcome::Failed(format!("the command was killed: {why}; its last output:\n{output}"));
    }
    let report = match report {
        Ok(report) => report,
        Err(why) => return StepOutcome::Failed(why),
    };
    if ended.code != Some(0) {
        let last_output = if output.trim().is_empty() {
            "it wrote no output".to_owned()
        } else {
            format!("its last output:\n{output}")
        };
        // A failed program may have written a report before; only a question or a failure in it counts.
        if let Some(outcome) = report.and_then(Answer::question_or_failure) {
            return outcome;
        }
        let how = match (ended.code, ended.signal) {
            (Some(code), _) => format!("with exit code {code}"),
            (None, Some(signal)) => format!("by signal {signal}"),
            (None, None) => "for an unknown reason".to_owned(),
        };
        let why = format!("the command ended {how}; {last_output}");
        if order.step == Step::Develop && ended.code.is_some_and(|code| partial_exit_codes.contains(&code)) {
            let line = terminal_text::last_line(output, 300).unwrap_or_default();
            let summary = format!("the command ended {how}: {line}");
            return StepOutcome::EditedInPart { summary, why };
        }
        return StepOutcome::Failed(why);
    }
    if let Some(report) = report {
        return report
            .into_outcome(order, env)
            .unwrap_or_else(|why| StepOutcome::Failed(format!("its report file is invalid: {why}")));
    }
    match order.step {
        Step::Develop => StepOutcome::Edited { summary: terminal_text::last_line(output, 300).unwrap_or_default() },
        Step::Explore => StepOutcome::Notes(output.to_owned()),
        Step::Plan | Step::Review => StepOutcome::Failed(format!(
            "a command for the {} step must write {} to $SKEP_REPORT_FILE, but it wrote nothing",
            order.step.name(),
            answer_schema::example(order.step),
        )),
    }
}

/// Reports output line by line, bounded.
fn report_lines(sink: Sink) -> OnOutput {
    let state = Mutex::new((Vec::new(), 0usize));
    Arc::new(move |_is_err, chunk: &[u8]| {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let (rest, reported) = &mut *state;
        for part in chunk.split_inclusive(|b| *b == b'\n') {
            if *reported > MAX_LINES {
                return;
            }
            // The excess of an overlong line is dropped.
            rest.extend_from_slice(&part[..part.len().min((8 * MAX_LINE_CHARS).saturating_sub(rest.len()))]);
            if part.ends_with(b"\n") {
                let line = terminal_text::sanitize(&std::mem::take(rest));
                if line.trim().is_empty() {
                    continue;
                }
                *reported += 1;
                let line = line.trim_end().chars().take(MAX_LINE_CHARS).collect();
                sink(EngineEvent::Said(if *reported > MAX_LINES {
                    "[more: see the transcript]".to_owned()
                } else {
                    line
                }));
            }
        }
    })
}
