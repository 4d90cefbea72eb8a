//! Secrets: store, list by name, delete, encrypt with a new key.
//!
//! Invariant: a value is read from standard input, a file or a variable; never from the command line, which is visible
//! to other users.

use super::args::SecretCommand;
use super::client::{Client, encode};
use super::exit::{CliError, ExitStatus, Stop};
use super::terminal::{Style, Terminal};
use super::text::{count, table};
use crate::http::rest::wire::{self, NewKey, NewSecret, Rekeyed, SecretScope, StoredSecret};
use crate::secrets::{Secret, register};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use serde_json::json;
use std::io::{IsTerminal, Read};
use std::path::Path;

/// Maximum bytes of a value; the service has the same limit.
const MAX_SECRET_BYTES: usize = 64 * 1024;

/// `skep secret …`.
pub async fn secret(client: &Client, terminal: &Terminal, command: SecretCommand) -> Result<ExitStatus, Stop> {
    match command {
        SecretCommand::Set { name, project, from_env, from_file } => {
            let value = value(terminal, from_env.as_deref(), from_file.as_deref())?;
            // Errors of this process must not print the value.
            register(&name, &value).keep();
            let new = NewSecret { name, project, value: value.expose().to_owned() };
            let stored: StoredSecret = client.post("/secrets", &new, None).await?;
            terminal.object(&stored)?;
            let row = &stored.secret;
            let whose = row.project.as_ref().map_or_else(|| "all projects".to_owned(), |p| format!("project {p}"));
            terminal.line(Style::Green, &format!("{} stored for {whose} (version {})", row.name, row.version))?;
            if let Some(notice) = &stored.notice {
                terminal.suggest(&format!("note: {notice}"))?;
            }
        }
        SecretCommand::List => {
            let found: Vec<wire::Secret> = client.get("/secrets").await?;
            terminal.object(&json!({ "secrets": found }))?;
            if found.is_empty() {
                terminal.suggest("No secrets yet. Store one with `skep secret set NAME`.")?;
                return Ok(ExitStatus::Success);
            }
            let rows = found.into_iter().map(|s| {
                let project = s.project.unwrap_or_else(|| "(all)".to_owned());
                let used = if s.last_used_at.is_some() { "yes" } else { "never" };
                vec![s.name, project, s.version.to_string(), s.key_id, used.to_owned()]
            });
            terminal.print(&table(&["secret", "project", "version", "key", "used"], rows.collect(), terminal.width))?;
        }
        SecretCommand::Remove { name, project } => {
            let removed: SecretScope =
                client.post(&format!("/secrets/{}/remove", encode(&name)), &SecretScope { project }, None).await?;
            terminal.object(&json!({ "removed": name, "project": removed.project }))?;
            terminal.line(
                Style::Green,
                &format!("{name} deleted. It may still be valid where it was issued: revoke it there."),
            )?;
        }
        SecretCommand::Rekey { new_key_file } => {
            let file = std::path::absolute(&new_key_file).unwrap_or(new_key_file);
            let file = file.to_string_lossy().into_owned();
            let rekeyed: Rekeyed = client.post("/secrets/rekey", &NewKey { file }, None).await?;
            terminal.object(&rekeyed)?;
            let secrets = count(rekeyed.secrets, "secret");
            terminal.line(Style::Green, &format!("{secrets} encrypted with key {}", rekeyed.key_id))?;
            if !rekeyed.next_step.is_empty() {
                terminal.line(Style::Bold, &format!("next: {}", rekeyed.next_step))?;
            }
        }
    }
    Ok(ExitStatus::Success)
}

/// Returns whether a command only reads.
pub fn only_reads(command: &SecretCommand) -> bool {
    matches!(command, SecretCommand::List)
}

/// Reads the value, without the trailing line end of files and terminals.
fn value(terminal: &Terminal, from_env: Option<&str>, from_file: Option<&Path>) -> Result<Secret, Stop> {
    let text = match (from_env, from_file) {
        (Some(name), _) => std::env::var(name).map_err(|_| {
            CliError::usage(
                format!("the environment variable {name} is not set, or not valid UTF-8"),
                "set it, or pass the value on standard input",
            )
        })?,
        (None, Some(path)) => {
            let unreadable = |e: std::io::Error| {
                CliError::usage(format!("cannot read {}: {e}", path.display()), "name a file that this user can read")
            };
            read_capped(std::fs::File::open(path).map_err(unreadable)?).map_err(unreadable)?
        }
        (None, None) => {
            let no_echo = std::io::stdin().is_terminal().then(NoEcho::start).flatten();
            if no_echo.is_some() {
                terminal.print("Type the value (it stays hidden), then press Enter and Ctrl-D:")?;
            }
            let unreadable =
                |e| CliError::usage(format!("cannot read standard input: {e}"), "pass the value as UTF-8 text");
            read_capped(std::io::stdin().lock()).map_err(unreadable)?
        }
    };
    let value = Secret::new(text.strip_suffix('\n').map_or(text.as_str(), |t| t.strip_suffix('\r').unwrap_or(t)));
    match value.expose().len() {
        0 => Err(CliError::usage("the value is empty", "pass it on standard input, or with --from-file or --from-env")
            .into()),
        n if n > MAX_SECRET_BYTES => {
            Err(CliError::usage(format!("the value is longer than {MAX_SECRET_BYTES} bytes"), "shorten it").into())
        }
        _ => Ok(value),
    }
}

fn read_capped(from: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    // Read slightly more than allowed, to detect a value that is too long.
    from.take(MAX_SECRET_BYTES as u64 + 3).read_to_string(&mut text)?;
    Ok(text)
}

/// Turns off the echo of the terminal until dropped.
struct NoEcho(Termios);

impl NoEcho {
    fn start() -> Option<NoEcho> {
        let before = tcgetattr(std::io::stdin()).ok()?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(std::io::stdin(), OptionalActions::Now, &hidden).ok()?;
        Some(NoEcho(before))
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        // The shell restores it as well.
        let _restored = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}
