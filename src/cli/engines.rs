//! Engines by name, and the choice of one where none is set.

use super::context::CliContext;
use super::exit::{CliError, Stop};
use super::parse::EngineChoice;
use super::terminal::Style;

/// Replaces names (`claude`, `anthropic`, a model) by the engines that the configuration knows under them.
pub async fn by_name(cli: &CliContext<'_>, mut choices: Vec<EngineChoice>) -> Result<Vec<EngineChoice>, CliError> {
    for choice in choices.iter_mut().filter(|c| c.is_name()) {
        if cli.host.server.is_some() {
            return Err(CliError::usage(
                format!("the engine {} is a name, and the service is elsewhere", choice.spec),
                "write it as KIND:ARG, as in `acp: claude-agent-acp` or `command: …`",
            ));
        }
        choice.spec = cli.backend.find_engine(cli.host, &choice.spec).await?;
    }
    Ok(choices)
}

/// Asks for an engine of the role that has none; without a person to ask, lists those that are ready here.
pub async fn ask(cli: &CliContext<'_>, mut error: CliError) -> Result<String, Stop> {
    let (terminal, offers) = (cli.terminal, cli.backend.offer_engines(cli.host).await?);
    if !terminal.can_prompt() {
        let mut fix = match offers.is_empty() {
            true => "no model key, model server or agent was found here".to_owned(),
            false => {
                let each = offers.iter().map(|o| format!("--engine {} ({})", o.engine, o.because));
                format!("ready here: {}", each.collect::<Vec<_>>().join(", "))
            }
        };
        fix.push_str("\nany program that edits files: --engine 'command: …'");
        fix.push_str("\nfor every run: `skep doctor --propose` prints a configuration");
        if let Some(problem) = error.problems.first_mut() {
            problem.fix = fix;
        }
        return Err(error.into());
    }
    let what = error.problems.first().map(|p| p.detail.clone()).unwrap_or_default();
    terminal.line(Style::Yellow, &format!("{what}. Which engine should edit the files?"))?;
    for (number, offer) in (1..).zip(&offers) {
        terminal.line(Style::Plain, &format!("  [{number}] {:<44} {}", offer.engine, offer.because))?;
    }
    loop {
        let question = match offers.len() {
            0 => "A command line that edits files, such as `make fix` (Enter: start nothing):".to_owned(),
            n => format!("[1-{n}], or a command line that edits files, such as `make fix` (Enter: start nothing):"),
        };
        let Some(answer) = terminal.ask(&question).await?.filter(|a| !a.is_empty()) else {
            return Err(error.into());
        };
        match answer.parse::<usize>() {
            Ok(number) => match number.checked_sub(1).and_then(|n| offers.get(n)) {
                Some(offer) => return Ok(offer.engine.clone()),
                None => terminal.print("There is no such number.")?,
            },
            Err(_) if answer.split(':').next().is_some_and(|kind| crate::config::is_engine_kind(kind.trim())) => {
                return Ok(answer);
            }
            Err(_) => return Ok(format!("command: {answer}")),
        }
    }
}
