//! Runners of checks: `runner list`, `runner test`.

use super::context::CliContext;
use super::exit::{ExitStatus, Stop};
use super::terminal::Style;
use super::text::table;
use serde_json::json;

/// `skep runner list`.
pub async fn list(cli: &CliContext<'_>) -> Result<ExitStatus, Stop> {
    let terminal = cli.terminal;
    let rows = cli.backend.list_runners(cli.host).await?;
    terminal.object(&json!({ "runners": rows }))?;
    let rows = rows.into_iter().map(|r| vec![r.name, r.kind, r.used_by.join(", "), r.detail]).collect();
    terminal.print(&table(&["runner", "kind", "used by", "details"], rows, terminal.width))?;
    Ok(ExitStatus::Success)
}

/// `skep runner test`.
pub async fn test(cli: &CliContext<'_>, name: &str) -> Result<ExitStatus, Stop> {
    let terminal = cli.terminal;
    let tested = cli.backend.test_runner(cli.host, name).await?;
    terminal.object(&json!(tested))?;
    let rows = tested.requirements.iter().map(|r| {
        let met = if r.met { "yes" } else { "NO" };
        vec![r.requirement.clone(), met.to_owned(), r.observed.clone()]
    });
    terminal.print(&table(&["requirement", "met", "observed"], rows.collect(), terminal.width))?;
    let seconds = std::time::Duration::from_millis(tested.duration_ms).as_secs_f64();
    if tested.passed {
        terminal.styled(Style::Green, &format!("The runner {} works ({seconds:.1} s).", tested.name))?;
        return Ok(ExitStatus::Success);
    }
    terminal.styled(Style::Red, &format!("The runner {} does not meet every requirement of checks.", tested.name))?;
    Ok(ExitStatus::Undelivered)
}
