//! `run --dry-run`: what a run would start with, without starting it.

use super::client::Client;
use super::exit::{ExitStatus, Stop};
use super::show::on_runner;
use super::terminal::{Style, Terminal};
use super::text::{count, duration, money};
use crate::http::rest::wire::{NewRun, Preview, Prompt, Role};

/// Requests the preview and prints it.
pub async fn dry_run(client: &Client, terminal: &Terminal, order: &NewRun) -> Result<ExitStatus, Stop> {
    let preview: Preview = client.post("/runs/preview", order, None).await?;
    terminal.object(&preview)?;
    show(terminal, &preview)?;
    Ok(ExitStatus::Success)
}

fn show(terminal: &Terminal, preview: &Preview) -> Result<(), Stop> {
    let line = |name: &str, text: &str| terminal.line(Style::Plain, &format!("  {name:<9} {text}"));
    terminal.line(Style::Bold, "dry run: nothing is started, nothing is spent")?;
    line("project", &format!("{} ({})", preview.project, preview.repo))?;
    line("base", &format!("{} at {}", preview.base_branch, preview.base.get(..8).unwrap_or(&preview.base)))?;
    if let Some(run) = &preview.existing_run {
        let short = run.get(run.len().saturating_sub(8)..).unwrap_or(run);
        match preview.differences.as_slice() {
            [] => line("run", &format!("{short} has this goal and would continue; --new starts another"))?,
            differences => {
                line(
                    "run",
                    &format!("{short} has this goal and other settings; nothing would start without a choice:"),
                )?;
                for difference in differences {
                    line("", difference)?;
                }
                line("", "--update gives it the settings below, --new starts another run")?;
            }
        }
    }
    for (role, engine) in &preview.engines {
        let arg = if engine.arg.is_empty() { String::new() } else { format!(":{}", engine.arg) };
        line(role.name(), &format!("{}{arg}", engine.kind))?;
    }
    for check in &preview.checks {
        line("check", &format!("{}{}: {}", check.name, on_runner(check), check.command))?;
    }
    for text in super::network::lines(&preview.project, &preview.network) {
        terminal.styled(Style::Yellow, &terminal.with_options(&format!("  {text}")))?;
    }
    section(terminal, "Budget")?;
    let limits = &preview.limits;
    let limit = |amount: Option<String>| amount.map_or_else(|| "no limit".to_owned(), |a| format!("at most {a}"));
    line("time", &limit(Some(duration(limits.timeout_secs.saturating_mul(1_000)))))?;
    line("tokens", &limit(limits.tokens.map(|t| t.to_string())))?;
    line("cost", &limit(limits.cost_micros.map(money)))?;
    line("attempts", &format!("at most {}, {}", limits.attempts, count(limits.rounds.into(), "rework round")))?;
    match &preview.prompt {
        Some(prompt) => print_prompt(terminal, preview, prompt),
        None if preview.existing_run.is_some() => Ok(()),
        None => {
            section(terminal, "The manager's prompt")?;
            let kind = preview.engines.get(&Role::Manager).map_or("", |e| e.kind.as_str());
            terminal.line(Style::Plain, &format!("  none: the engine {kind} takes no prompt"))
        }
    }
}

fn print_prompt(terminal: &Terminal, preview: &Preview, prompt: &Prompt) -> Result<(), Stop> {
    let cost = match prompt.cost_micros {
        Some(micros) => format!("about {}", money(micros)),
        None => "the price of its model is unknown".to_owned(),
    };
    let text = format!("about {} tokens per call ({cost})", prompt.tokens);
    terminal.line(Style::Plain, &format!("  {:<9} {text}", "prompt"))?;
    section(terminal, "The manager's prompt")?;
    if preview.explores {
        terminal.line(Style::Plain, "  A scout explores first; its notes will be added.")?;
    }
    terminal.line(Style::Plain, &format!("  version {}", prompt.version.get(..12).unwrap_or(&prompt.version)))?;
    for (name, text) in [("system", &prompt.system), ("user", &prompt.user)] {
        terminal.line(Style::Bold, &format!("--- {name}"))?;
        for text in text.lines() {
            terminal.line(Style::Plain, text)?;
        }
    }
    Ok(())
}

fn section(terminal: &Terminal, title: &str) -> Result<(), Stop> {
    terminal.print("")?;
    terminal.line(Style::Bold, title)
}
