//! `run`: executes a shell command in the worktree, inside the sandbox.

use super::{Spec, ToolEnv, ToolResult, object, truncate};
use crate::platform::access::broker::{AccessRequest, Audience, CommandAccess};
use crate::platform::process::ProcessOutput;
use crate::platform::rooted_fs::RootedDir;
use crate::platform::sandbox::{Job, Purpose, Sandbox};
use crate::platform::terminal_text;
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

/// Upper bounds of a command line and of its time limit, and the default time limit.
const MAX_LINE_BYTES: usize = 16 * 1024;
const DEFAULT_SECONDS: u64 = 120;
const MAX_SECONDS: u64 = 900;
/// Bytes of output that are kept, and that the model sees.
const KEPT_BYTES: usize = 256 * 1024;
const MAX_SHOWN_BYTES: usize = 16 * 1024;
/// File with the last output that was not shown whole, in the scratch folder, and its name in `$TMPDIR`.
const OUTPUT_FILE: &str = "tmp/skep-output.txt";
const OUTPUT_NAME: &str = "skep-output.txt";
/// Part of the shown bytes that is taken from the end, where tools state their verdict.
const END: f64 = 0.75;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    command: String,
    seconds: Option<u64>,
}

pub(super) fn spec() -> Spec {
    Spec {
        name: super::RUN,
        description: "Runs a shell command (/bin/sh) at the root of the worktree and returns its exit code and output. Processes that \
                      are still running when the command ends are killed.",
        schema: object(
            json!({
                "command": {"type": "string"},
                "seconds": {"type": "integer", "minimum": 1, "maximum": MAX_SECONDS, "description": "Time limit in seconds. Default: 120."},
            }),
            &["command"],
        ),
    }
}

pub(super) async fn run(
    sandbox: &Sandbox,
    tool_env: &ToolEnv,
    args: Args,
    left: Duration,
) -> Result<ToolResult, String> {
    let line = args.command.trim();
    if line.is_empty() || line.len() > MAX_LINE_BYTES || line.contains('\0') {
        return Err(format!("the command must have 1 to {MAX_LINE_BYTES} bytes and no NUL character"));
    }
    let limit = Duration::from_secs(args.seconds.unwrap_or(DEFAULT_SECONDS).clamp(1, MAX_SECONDS)).min(left);
    let Executed { output: ended, access: given } =
        execute(sandbox, tool_env, line, limit).await.map_err(|e| format!("the command could not be started: {e}"))?;
    let ok = ended.ok();
    let status = match (ended.timed_out, ended.code, ended.signal) {
        (true, ..) => format!("killed: still running after {:.0} s", limit.as_secs_f32()),
        (_, Some(code), _) => format!("exit code {code} after {:.1} s", ended.took.as_secs_f32()),
        (_, None, signal) => format!("killed by signal {}", signal.unwrap_or_default()),
    };
    let cut = if ended.truncated { "; the beginning of the output was dropped" } else { "" };
    let complete = terminal_text::sanitize(&ended.stdout);
    let complete = complete.trim_end();
    let mut output = truncate(complete, MAX_SHOWN_BYTES, END);
    if output.len() < complete.len() {
        output.push_str(&kept(tool_env, complete).await);
    }
    let output = if output.is_empty() { "(no output)" } else { &output };
    let refused = given.network_note(output, !ok);
    let refused = refused.map_or_else(String::new, |why| format!("\nSkep: {why}. Only a person can change this"));
    Ok(ToolResult { text: format!("{status}{cut}\n{output}{refused}"), changed: Vec::new(), ok })
}

/// A command that ended.
pub struct Executed {
    /// How it ended, and what it printed.
    pub output: ProcessOutput,
    /// The access it had.
    pub access: CommandAccess,
}

/// Executes a command line in the worktree, with the access of a model's commands.
///
/// # Errors
/// Why it could not be started.
pub(super) async fn execute(
    sandbox: &Sandbox,
    tool_env: &ToolEnv,
    line: &str,
    limit: Duration,
) -> Result<Executed, String> {
    let request = AccessRequest {
        project: &tool_env.project,
        audience: Audience::Model,
        level: sandbox.level(),
        label: "a model's command",
    };
    let access = tool_env.access_broker.grant(request).await.map_err(|e| e.to_string())?;
    let job = Job {
        command: line,
        purpose: Purpose::Agent,
        origin: tool_env.origin.as_deref(),
        dir: &tool_env.dir,
        cache: &tool_env.cache,
        scratch: &tool_env.scratch,
        env: &[],
        timeout: limit,
        max_output: KEPT_BYTES,
        proxy: access.endpoint(),
    };
    let output = sandbox.run(&job, None).await.map_err(|e| e.to_string())?;
    Ok(Executed { output, access })
}

/// Writes an output that was shown in part to the temporary folder of commands, and says where. It replaces that of the
/// last such command.
async fn kept(tool_env: &ToolEnv, output: &str) -> String {
    let (scratch, bytes) = (tool_env.scratch.clone(), output.as_bytes().to_vec());
    let write = move || RootedDir::open(&scratch).is_ok_and(|folder| folder.write(OUTPUT_FILE, &bytes).is_ok());
    match tokio::task::spawn_blocking(write).await {
        Ok(true) => format!("\nSkep: all of it is in $TMPDIR/{OUTPUT_NAME} until the next long output"),
        // The model can run the command again.
        _ => String::new(),
    }
}
