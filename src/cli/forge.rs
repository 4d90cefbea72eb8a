//! Forges: `forge list`, `forge add`, `forge test`, `forge deliveries`.

use super::client::{Client, encode};
use super::context::CliContext;
use super::exit::{CliError, ExitStatus, Stop};
use super::terminal::{Style, Terminal};
use super::text::{moment, table};
use crate::http::rest::wire::{Delivery, DeliveryState};
use crate::service::host::{ForgeTest, NewForge};
use serde_json::json;

/// `skep forge list`.
pub async fn list(cli: &CliContext<'_>) -> Result<ExitStatus, Stop> {
    let terminal = cli.terminal;
    let rows = cli.backend.list_forges(cli.host).await?;
    terminal.object(&json!({ "forges": rows }))?;
    if rows.is_empty() {
        terminal.print(
            "No forge is configured; docs/github.md, docs/gitlab.md and docs/forgejo.md show how to add one.\n",
        )?;
        return Ok(ExitStatus::Success);
    }
    let rows = rows.into_iter().map(|r| vec![r.name, r.kind, r.url, r.account]).collect();
    terminal.print(&table(&["forge", "kind", "address", "account"], rows, terminal.width))?;
    Ok(ExitStatus::Success)
}

/// `skep forge add`.
pub async fn add(cli: &CliContext<'_>, new: NewForge) -> Result<ExitStatus, Stop> {
    let token_file = new.token_file.map(std::path::absolute).transpose();
    let token_file = token_file
        .map_err(|e| CliError::usage(format!("--token-file: {e}"), "name a file that exists, by its path"))?;
    let new = NewForge { token_file, ..new };
    let added = cli.backend.add_forge(cli.host, &new).await?;
    cli.terminal.object(&json!(added))?;
    cli.terminal.print(&format!("Added [forges.{}], {}, to {}.", new.name, added.account, added.file))?;
    show(cli.terminal, &added.test, new.repo.as_deref())
}

/// `skep forge test`.
pub async fn test(cli: &CliContext<'_>, name: &str, repo: Option<&str>) -> Result<ExitStatus, Stop> {
    let tested = cli.backend.test_forge(cli.host, name, repo).await?;
    cli.terminal.object(&json!(tested))?;
    show(cli.terminal, &tested, repo)
}

/// Prints each permission, and what is missing.
fn show(terminal: &Terminal, tested: &ForgeTest, repo: Option<&str>) -> Result<ExitStatus, Stop> {
    let rows = tested.permissions.iter().map(|p| {
        let state = match (p.granted, p.optional) {
            (true, _) => "ok",
            (false, true) => "missing (optional)",
            (false, false) => "MISSING",
        };
        vec![p.permission.clone(), state.to_owned(), p.detail.clone()]
    });
    terminal.print(&table(&["permission", "state", "details"], rows.collect(), terminal.width))?;
    if !tested.passed {
        terminal.styled(Style::Red, &format!("The forge {} lacks a permission that Skep needs.", tested.name))?;
        return Ok(ExitStatus::Undelivered);
    }
    let what = match repo {
        Some(repo) => format!("The forge {} works for {repo}.", tested.name),
        None => format!("The forge {} answers. Name a repository to test its permissions there.", tested.name),
    };
    terminal.styled(Style::Green, &what)?;
    Ok(ExitStatus::Success)
}

/// `skep forge deliveries`.
pub async fn deliveries(
    client: &Client,
    terminal: &Terminal,
    name: &str,
    limit: Option<u64>,
) -> Result<ExitStatus, Stop> {
    let limit = limit.map_or_else(String::new, |limit| format!("?limit={limit}"));
    let rows: Vec<Delivery> = client.get(&format!("/forges/{}/deliveries{limit}", encode(name))).await?;
    terminal.object(&json!({ "deliveries": rows }))?;
    if rows.is_empty() {
        terminal.print(&format!("The forge {name} has reported nothing yet.\n"))?;
        return Ok(ExitStatus::Success);
    }
    let rows = rows.into_iter().map(|d| {
        let state = match d.state {
            DeliveryState::Received => "received",
            DeliveryState::Applied => "applied",
            DeliveryState::Done => "done",
            DeliveryState::Ignored => "ignored",
            DeliveryState::Failed => "FAILED",
        };
        vec![moment(d.received_at), d.event, d.repository, state.to_owned(), d.reason]
    });
    terminal.print(&table(&["received", "event", "repository", "state", "details"], rows.collect(), terminal.width))?;
    Ok(ExitStatus::Success)
}
