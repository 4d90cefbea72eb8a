//! `skep backup`, `skep restore`, `skep verify` and `skep gc`.

use super::args::{BackupArgs, GcArgs, RestoreArgs};
use super::context::CliContext;
use super::exit::{ExitStatus, Stop};
use super::terminal::{Style, Terminal};
use super::text::{moment, table};
use crate::render;
use crate::service::host::{BackupReport, BackupRequest, CleanupRequest};

/// `skep backup`.
pub async fn backup(cli: &CliContext<'_>, args: BackupArgs) -> Result<ExitStatus, Stop> {
    let request = BackupRequest { to: args.to, with_vault_key: args.with_vault_key };
    let report = cli.backend.backup(cli.host, &request).await?;
    let terminal = cli.terminal;
    terminal.object(&report)?;
    terminal.styled(Style::Green, &format!("Backed up to {} ({}).", report.path, render::bytes(report.bytes)))?;
    contents(terminal, &report)?;
    Ok(ExitStatus::Success)
}

/// `skep restore`.
pub async fn restore(cli: &CliContext<'_>, args: RestoreArgs) -> Result<ExitStatus, Stop> {
    let report = cli.backend.restore(cli.host, &args.from).await?;
    let terminal = cli.terminal;
    terminal.object(&report)?;
    let (data, at) = (cli.host.sources.data_dir.display(), moment(report.created_at.into()));
    terminal.styled(Style::Green, &format!("Restored the backup of {at} into {data}."))?;
    contents(terminal, &report)?;
    terminal.suggest("Check it with `skep doctor`, then start `skep serve`: open runs continue.")?;
    Ok(ExitStatus::Success)
}

/// Prints what is in a backup, and what to know about it.
fn contents(terminal: &Terminal, report: &BackupReport) -> Result<(), Stop> {
    let rows = |table: &str| report.rows.get(table).copied().unwrap_or_default();
    let files = |kind: &str| report.files.get(kind).copied().unwrap_or_default();
    let store = ["project", "run", "event", "artifact", "secret"].map(|noun| render::count(rows(noun), noun));
    let line = |name: &str, text: &str| terminal.print(&format!("  {name:<14} {text}"));
    line("store", &store.join(", "))?;
    line("mirrors", &render::count(files("mirrors"), "file"))?;
    line("local forge", &render::count(files("forge"), "change"))?;
    line("configuration", if files("config") > 0 { report.config.as_deref().unwrap_or("yes") } else { "none" })?;
    line("vault key", if files("vault_key") > 0 { "yes" } else { "no" })?;
    for note in &report.notes {
        terminal.prose(Style::Plain, note, 0)?;
    }
    Ok(())
}

/// `skep verify`.
pub async fn verify(cli: &CliContext<'_>) -> Result<ExitStatus, Stop> {
    let result = cli.backend.verify(cli.host).await?;
    let terminal = cli.terminal;
    terminal.object(&result)?;
    let mut fix = None;
    for problem in &result.problems {
        // The same fix for many problems is printed once.
        if let Some(fix) = fix.replace(&problem.fix).filter(|before| *before != &problem.fix) {
            terminal.prose(Style::Plain, &format!("  fix: {fix}"), 7)?;
        }
        terminal.prose(Style::Red, &format!("  {}: {}", problem.subject, problem.detail), 4)?;
    }
    if let Some(fix) = fix {
        terminal.prose(Style::Plain, &format!("  fix: {fix}"), 7)?;
    }
    let checked = |kind: &str, noun: &str| render::count(result.checked.get(kind).copied().unwrap_or_default(), noun);
    let checked = [
        checked("runs", "run"),
        checked("events", "event"),
        checked("audit", "audit record"),
        checked("artifacts", "artifact"),
        checked("mirrors", "mirror"),
        checked("changes", "change"),
    ];
    terminal.print(&format!("Verified {}.", checked.join(", ")))?;
    if result.problems_total == 0 {
        terminal.styled(Style::Green, "Everything is intact.")?;
        return Ok(ExitStatus::Success);
    }
    terminal.styled(Style::Red, &format!("{} found.", render::count(result.problems_total, "problem")))?;
    Ok(ExitStatus::Undelivered)
}

/// `skep gc`.
pub async fn gc(cli: &CliContext<'_>, args: GcArgs) -> Result<ExitStatus, Stop> {
    let request =
        CleanupRequest { dry_run: args.dry_run, caches_unused: args.caches_unused, logs_older: args.logs_older };
    let report = cli.backend.gc(cli.host, &request).await?;
    let terminal = cli.terminal;
    terminal.object(&report)?;
    let rows: Vec<Vec<String>> = report
        .items
        .iter()
        .map(|item| {
            let why = item.kept.as_ref().map_or_else(|| item.why.clone(), |why| format!("kept: {why}"));
            vec![item.kind.clone(), item.name.clone(), render::bytes(item.bytes), why]
        })
        .collect();
    if !rows.is_empty() {
        terminal.print(&table(&["what", "name", "size", "why"], rows, terminal.width))?;
    }
    let verb = if report.dry_run { "would be freed" } else { "freed" };
    terminal.print(&format!("{} {verb}.", render::bytes(report.bytes)))?;
    Ok(ExitStatus::Success)
}
