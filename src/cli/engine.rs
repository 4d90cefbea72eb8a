//! Engines: `engine list`, `engine test`.

use super::context::CliContext;
use super::exit::{ExitStatus, Stop};
use super::terminal::{Style, Terminal};
use super::text::{count, money, table};
use crate::service::host::{EngineTest, EngineVerdict};
use serde_json::json;
use tokio::sync::mpsc;

/// Lines of engine output that may wait to be printed; the engine drops more.
const OUTPUT_BUFFER: usize = 256;
/// Longest line printed, in characters.
const MAX_LINE_CHARS: usize = 300;

/// `skep engine list`.
pub async fn list(cli: &CliContext<'_>) -> Result<ExitStatus, Stop> {
    let terminal = cli.terminal;
    let rows = cli.backend.list_engines(cli.host).await?;
    terminal.object(&json!({ "engines": rows }))?;
    let rows = rows
        .into_iter()
        .map(|r| vec![r.what, r.name, if r.usable { "yes".to_owned() } else { "no".to_owned() }, r.detail])
        .collect();
    terminal.print(&table(&["type", "name", "usable", "details"], rows, terminal.width))?;
    Ok(ExitStatus::Success)
}

/// `skep engine test`.
pub async fn test(cli: &CliContext<'_>, engine: &str) -> Result<ExitStatus, Stop> {
    let terminal = cli.terminal;
    let (output, mut lines) = mpsc::channel::<String>(OUTPUT_BUFFER);
    let print_output = async {
        while let Some(text) = lines.recv().await {
            for line in text.lines().filter(|l| !l.trim().is_empty()) {
                let line: String = line.chars().take(MAX_LINE_CHARS).collect();
                terminal.line(Style::Dim, &format!("  {line}"))?;
            }
        }
        Ok::<(), Stop>(())
    };
    let (tested, printed) = tokio::join!(cli.backend.test_engine(cli.host, engine, output), print_output);
    printed?;
    print_result(terminal, &tested?)
}

fn print_result(terminal: &Terminal, test: &EngineTest) -> Result<ExitStatus, Stop> {
    terminal.object(test)?;
    let seconds = std::time::Duration::from_millis(test.duration_ms).as_secs_f64();
    let (style, verdict) = match test.verdict {
        EngineVerdict::Passed => (Style::Green, "works"),
        _ => (Style::Red, "does not work"),
    };
    terminal.line(style, &format!("{} {verdict} ({}, {seconds:.1} s)", test.engine, test.step))?;
    terminal.line(Style::Plain, &format!("  {}", test.detail))?;
    if !test.fix.is_empty() {
        terminal.line(Style::Plain, &format!("  fix: {}", test.fix))?;
    }
    match test.usage {
        Some(used) if used.tokens > 0 || used.turns > 0 => {
            let cost = match test.usage_by_model.iter().all(|m| m.priced) {
                true => money(used.cost_micros),
                false => "unknown cost".to_owned(),
            };
            let calls = count(used.turns, "call");
            terminal.line(Style::Plain, &format!("  used {} tokens in {calls}, {cost}", used.tokens))?;
        }
        Some(_) => {}
        None => terminal.line(Style::Plain, "  usage not reported")?,
    }
    for model in &test.usage_by_model {
        let calls = count(model.calls, "call");
        let line = format!(
            "  {}: {calls}, {} tokens in ({} cached), {} out",
            model.model, model.input, model.cached, model.output
        );
        terminal.line(Style::Plain, &line)?;
    }
    Ok(match test.verdict {
        EngineVerdict::Passed => ExitStatus::Success,
        EngineVerdict::Failed => ExitStatus::Undelivered,
        EngineVerdict::Unavailable => ExitStatus::TryAgain,
        EngineVerdict::Misconfigured => ExitStatus::Config,
    })
}
