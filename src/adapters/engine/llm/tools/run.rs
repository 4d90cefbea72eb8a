//! `run`: a shell line in the worktree, through the sandbox.

use super::{Did, Spec, ToolEnv, middle_cut, object};
use crate::platform::access::broker::{AccessRequest, Audience};
use crate::platform::sandbox::{Job, Purpose, Sandbox};
use crate::platform::terminal_text;
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

/// The longest line, the time a command gets when the model does not say, and the most it may ask for.
const LINE_BYTES_MAX: usize = 16 * 1024;
const SECONDS: u64 = 120;
const SECONDS_MAX: u64 = 900;
/// What is kept of its output, and what the model is shown of that.
const KEEP: usize = 256 * 1024;
const SHOWN_BYTES_MAX: usize = 32 * 1024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    command: String,
    seconds: Option<u64>,
}

pub(super) fn spec() -> Spec {
    Spec {
        name: super::RUN,
        about: "Runs a shell line (/bin/sh) at the root of the worktree and shows its exit code and output. What it leaves running is \
                ended with it.",
        schema: object(
            json!({
                "command": {"type": "string"},
                "seconds": {"type": "integer", "minimum": 1, "maximum": SECONDS_MAX, "description": "Its time limit; 120 when not given."},
            }),
            &["command"],
        ),
    }
}

pub(super) async fn run(sandbox: &Sandbox, place: &ToolEnv, args: Args, left: Duration) -> Result<Did, String> {
    let line = args.command.trim();
    if line.is_empty() || line.len() > LINE_BYTES_MAX || line.contains('\0') {
        return Err(format!("the command must have 1 to {LINE_BYTES_MAX} bytes and no NUL"));
    }
    let limit = Duration::from_secs(args.seconds.unwrap_or(SECONDS).clamp(1, SECONDS_MAX)).min(left);
    let asker = AccessRequest {
        project: &place.project,
        audience: Audience::Model,
        level: sandbox.level(),
        label: "a model's command",
    };
    let given = place.access_broker.grant(asker).await.map_err(|e| format!("the command could not be started: {e}"))?;
    let job = Job {
        command: line,
        purpose: Purpose::Agent,
        dir: &place.dir,
        cache: &place.cache,
        scratch: &place.scratch,
        env: &[],
        timeout: limit,
        max_output: KEEP,
        proxy: given.endpoint(),
    };
    let ended = sandbox.run(&job, None).await.map_err(|e| format!("the command could not be started: {e}"))?;
    let ok = ended.ok();
    let how = match (ended.timed_out, ended.code, ended.signal) {
        (true, ..) => format!("it was still running after {:.0} s and was ended", limit.as_secs_f32()),
        (_, Some(code), _) => format!("exit code {code} after {:.1} s", ended.took.as_secs_f32()),
        (_, None, signal) => format!("ended by signal {}", signal.unwrap_or_default()),
    };
    let cut = if ended.truncated { ", only the end of its output was kept" } else { "" };
    let output = middle_cut(terminal_text::sanitize(&ended.stdout).trim_end(), SHOWN_BYTES_MAX);
    let output = if output.is_empty() { "(no output)" } else { &output };
    let refused =
        given.denied_hosts().map_or_else(String::new, |why| format!("\nSkep: {why}; only a person can change that"));
    Ok(Did { text: format!("{how}{cut}\n{output}{refused}"), changed: Vec::new(), ok })
}
