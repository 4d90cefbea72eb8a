//! Results of any CI: `ci report`.

use super::args::CiCommand;
use super::change::state_word;
use super::client::Client;
use super::exit::{ExitStatus, Stop};
use super::terminal::{Style, Terminal};
use super::text::short_sha;
use crate::http::rest::wire::Run;
use serde_json::json;

/// `skep ci …`.
pub async fn ci(client: &Client, terminal: &Terminal, command: CiCommand) -> Result<ExitStatus, Stop> {
    let CiCommand::Report { state, branch, sha, context, url } = command;
    let body = json!({ "branch": branch, "sha": sha, "context": context, "state": state_word(state), "url": url });
    let run: Run = client.post("/ci", &body, None).await?;
    let line = format!("{context} is {} at {} of run {}", state_word(state), short_sha(&sha), run.short_id);
    terminal.line(Style::Green, &line)?;
    terminal.object(&run)?;
    Ok(ExitStatus::Success)
}
