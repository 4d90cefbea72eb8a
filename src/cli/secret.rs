//! Secrets: kept, listed by name, forgotten, sealed with a new key.
//!
//! Invariant: a value is read from standard input, a file or a variable; never from the command line, which others can see.

use super::args::SecretCommand;
use super::client::{Client, encode};
use super::exit::{CliError, ExitStatus, Stop};
use super::terminal::{Style, Terminal};
use super::text::table;
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
            // Should an error of this process hold it.
            register(&name, &value).keep();
            let new = NewSecret { name, project, value: value.expose().to_owned() };
            let kept: StoredSecret = client.post("/secrets", &new, None).await?;
            terminal.object(&kept)?;
            let row = &kept.secret;
            let whose = row.project.as_ref().map_or_else(|| "all projects".to_owned(), |p| format!("project {p}"));
            terminal.line(Style::Green, &format!("{} is kept for {whose} (value {})", row.name, row.version))?;
            if let Some(notice) = &kept.notice {
                terminal.suggest(&format!("note: {notice}"))?;
            }
        }
        SecretCommand::List => {
            let found: Vec<wire::Secret> = client.get("/secrets").await?;
            terminal.object(&json!({ "secrets": found }))?;
            if found.is_empty() {
                terminal.suggest("There are no secrets yet. `skep secret set NAME` keeps one.")?;
                return Ok(ExitStatus::Success);
            }
            let rows = found.into_iter().map(|s| {
                let project = s.project.unwrap_or_else(|| "(all)".to_owned());
                let used = if s.last_used_at.is_some() { "yes" } else { "never" };
                vec![s.name, project, s.version.to_string(), s.key_id, used.to_owned()]
            });
            terminal.print(&table(&["secret", "project", "value", "key", "used"], rows.collect(), terminal.width))?;
        }
        SecretCommand::Remove { name, project } => {
            let gone: SecretScope =
                client.post(&format!("/secrets/{}/remove", encode(&name)), &SecretScope { project }, None).await?;
            terminal.object(&json!({ "removed": name, "project": gone.project }))?;
            terminal.line(
                Style::Green,
                &format!("{name} is forgotten; where it was used it may still be valid: revoke it there"),
            )?;
        }
        SecretCommand::Rekey { new_key_file } => {
            let file = std::path::absolute(&new_key_file).unwrap_or(new_key_file);
            let file = file.to_string_lossy().into_owned();
            let done: Rekeyed = client.post("/secrets/rekey", &NewKey { file }, None).await?;
            terminal.object(&done)?;
            terminal
                .line(Style::Green, &format!("{} secrets are sealed with the key {}", done.secrets, done.key_id))?;
            if !done.next_step.is_empty() {
                terminal.line(Style::Bold, &format!("next: {}", done.next_step))?;
            }
        }
    }
    Ok(ExitStatus::Success)
}

/// Whether a command only reads.
pub fn only_reads(command: &SecretCommand) -> bool {
    matches!(command, SecretCommand::List)
}

/// The value, without the line end that files and terminals put after it.
fn value(terminal: &Terminal, from_env: Option<&str>, from_file: Option<&Path>) -> Result<Secret, Stop> {
    let text = match (from_env, from_file) {
        (Some(name), _) => std::env::var(name).map_err(|_| {
            CliError::usage(format!("the variable {name} is not set, or is no text"), "set it, or use standard input")
        })?,
        (None, Some(path)) => {
            let unreadable = |e: std::io::Error| {
                CliError::usage(format!("{} cannot be read: {e}", path.display()), "name a file this user can read")
            };
            read_capped(std::fs::File::open(path).map_err(unreadable)?).map_err(unreadable)?
        }
        (None, None) => {
            let silent = std::io::stdin().is_terminal().then(Silence::begin).flatten();
            if silent.is_some() {
                terminal.print("Type the value (it is not shown), then Enter and Ctrl-D:")?;
            }
            let unreadable =
                |e| CliError::usage(format!("standard input cannot be read: {e}"), "give the value as text");
            read_capped(std::io::stdin().lock()).map_err(unreadable)?
        }
    };
    let value = Secret::new(text.strip_suffix('\n').map_or(text.as_str(), |t| t.strip_suffix('\r').unwrap_or(t)));
    match value.expose().len() {
        0 => Err(CliError::usage("the value is empty", "give it on standard input, or with --from-file or --from-env")
            .into()),
        n if n > MAX_SECRET_BYTES => {
            Err(CliError::usage(format!("the value has more than {MAX_SECRET_BYTES} bytes"), "keep something smaller")
                .into())
        }
        _ => Ok(value),
    }
}

fn read_capped(from: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    // A little more than is allowed, so that too much is seen.
    from.take(MAX_SECRET_BYTES as u64 + 3).read_to_string(&mut text)?;
    Ok(text)
}

/// A terminal that does not show what is typed; as it was when dropped.
struct Silence(Termios);

impl Silence {
    fn begin() -> Option<Silence> {
        let before = tcgetattr(std::io::stdin()).ok()?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(std::io::stdin(), OptionalActions::Now, &silent).ok()?;
        Some(Silence(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // The shell sets it right, too.
        let _unset = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}
