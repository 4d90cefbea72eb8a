//! `check`: only the setup and the checks of a repository, as a run would carry them out.

use super::args::CheckArgs;
use super::client::Client;
use super::context::{Access, CliContext};
use super::exit::{CliError, ExitStatus, Stop};
use super::network;
use super::show::on_runner;
use super::terminal::{Style, Terminal};
use super::text::{duration, escape_lines, short_sha};
use crate::http::rest::wire::{CheckKind, CheckPlan, CheckResult, NewCheckPlan, Problem};
use crate::platform::stop_signal;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};

/// Time that the checks get to end and to be removed after an interruption.
const CLEANUP: std::time::Duration = std::time::Duration::from_millis(500);

/// `skep check`.
pub async fn check(cli: &CliContext<'_>, args: CheckArgs) -> Result<ExitStatus, Stop> {
    let order = NewCheckPlan {
        repo: if args.project.is_some() { None } else { Some(args.repo.0) },
        project: args.project,
        base: args.base,
        checks: args.check,
        spec: None,
        working_copy: args.dirty,
    };
    let connection = cli.connect(Access::Drive).await?;
    let end = match network::ask(cli, &connection.client, &order).await {
        Ok(()) => run(cli, &connection.client, &order).await,
        Err(stop) => Err(stop),
    };
    connection.close().await;
    end
}

/// Runs the checks of an order and prints what they do.
pub async fn run(cli: &CliContext<'_>, client: &Client, order: &NewCheckPlan) -> Result<ExitStatus, Stop> {
    tokio::select! {
        end = follow(cli.terminal, client, order) => end,
        () = stop_signal::requested(1) => {
            // The stream was dropped, which ends the checks and removes their checkout.
            tokio::time::sleep(CLEANUP).await;
            cli.terminal.print("Stopped.").map(|()| ExitStatus::Undelivered)
        }
    }
}

#[derive(Deserialize)]
struct Started {
    name: String,
    command: String,
}

#[derive(Deserialize)]
struct Output {
    text: String,
}

#[derive(Deserialize)]
struct End {
    results: Vec<CheckResult>,
}

async fn follow(terminal: &Terminal, client: &Client, order: &NewCheckPlan) -> Result<ExitStatus, Stop> {
    let mut events = client.post_stream("/checks/run", order).await?;
    let mut plan: Option<CheckPlan> = None;
    // Output arrives in pieces, which need not be lines.
    let mut line = String::new();
    while let Some(event) = events.next().await {
        let event = event?;
        if !matches!(event.event.as_str(), "") {
            let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
            terminal.object(&json!({ &event.event: data }))?;
        }
        match event.event.as_str() {
            "plan" => {
                let found: CheckPlan = parsed(&event.data)?;
                let (project, branch) = (&found.project, &found.base_branch);
                let headline = match order.working_copy {
                    true => format!("checks of the working copy of {project}, {branch}"),
                    false => format!("checks of {project} at {}, {branch}", short_sha(&found.base)),
                };
                terminal.line(Style::Bold, &headline)?;
                plan = Some(found);
            }
            "started" => {
                let started: Started = parsed(&event.data)?;
                let runner = plan
                    .iter()
                    .flat_map(|p| &p.checks)
                    .find(|c| c.name == started.name)
                    .map_or_else(String::new, on_runner);
                terminal.line(Style::Bold, &format!("{}{runner}: {}", started.name, started.command))?;
            }
            "output" => {
                line.push_str(&parsed::<Output>(&event.data)?.text);
                while let Some((whole, rest)) = line.split_once('\n') {
                    terminal.styled(Style::Dim, &format!("  {}", escape_lines(whole)))?;
                    line = rest.to_owned();
                }
            }
            "finished" => {
                if !line.is_empty() {
                    terminal.styled(Style::Dim, &format!("  {}", escape_lines(&std::mem::take(&mut line))))?;
                }
                finished(terminal, &parsed(&event.data)?)?;
            }
            "end" => {
                let results = parsed::<End>(&event.data)?.results;
                return match order.spec {
                    Some(_) => acceptance(terminal, &results),
                    None => verdict(terminal, plan.as_ref(), &results),
                };
            }
            "error" => return Err(CliError::from(parsed::<Problem>(&event.data)?).into()),
            _ => {}
        }
    }
    Err(CliError::unavailable("the stream of the checks ended early", "run the command again").into())
}

fn parsed<T: for<'d> Deserialize<'d>>(data: &str) -> Result<T, CliError> {
    serde_json::from_str(data).map_err(|e| CliError::internal(format!("cannot parse an event of the checks: {e}")))
}

fn finished(terminal: &Terminal, result: &CheckResult) -> Result<(), Stop> {
    let took = duration(result.duration_ms);
    if result.green {
        let tests = result.tests.map_or_else(String::new, |t| format!(", {} tests", t.run));
        return terminal.line(Style::Green, &format!("✓ {} ({took}{tests})", result.name));
    }
    terminal.line(Style::Red, &format!("✗ {} ({took}): {}", result.name, result.why))?;
    for failure in &result.failures {
        terminal.line(Style::Red, &format!("    {failure}"))?;
    }
    Ok(())
}

/// Prints which criteria of a spec are met, and returns whether all are as an exit status.
fn acceptance(terminal: &Terminal, results: &[CheckResult]) -> Result<ExitStatus, Stop> {
    terminal.print("")?;
    if let Some(setup) = results.iter().find(|r| r.kind == CheckKind::Setup && !r.green) {
        let what = format!("The setup {} failed, so that no criterion was tested.", setup.name);
        terminal.styled(Style::Red, &what)?;
        return Ok(ExitStatus::Undelivered);
    }
    let tested: Vec<&CheckResult> = results.iter().filter(|r| r.kind == CheckKind::Accept).collect();
    let unmet: Vec<&str> = tested.iter().filter(|r| !r.green).map(|r| r.name.as_str()).collect();
    let met = format!("{} of {} tested criteria are met", tested.len() - unmet.len(), tested.len());
    match unmet.is_empty() {
        true => terminal.styled(Style::Green, &format!("{met}."))?,
        false => terminal.styled(Style::Red, &format!("{met}; not met: {}.", unmet.join(", ")))?,
    }
    Ok(if unmet.is_empty() { ExitStatus::Success } else { ExitStatus::Undelivered })
}

/// Prints what to change, and returns the verdict as an exit status.
fn verdict(terminal: &Terminal, plan: Option<&CheckPlan>, results: &[CheckResult]) -> Result<ExitStatus, Stop> {
    terminal.print("")?;
    let red: Vec<&CheckResult> = results.iter().filter(|r| !r.green).collect();
    if red.is_empty() {
        let count = super::text::count(u64::try_from(results.len()).unwrap_or(u64::MAX), "check");
        terminal.styled(Style::Green, &format!("{count} passed. A run can prove changes of this repository."))?;
        return not_covered(terminal, plan).map(|()| ExitStatus::Success);
    }
    let names: Vec<&str> = red.iter().map(|r| r.name.as_str()).collect();
    terminal.styled(Style::Red, &format!("failed: {}. A run could not land a change as it is.", names.join(", ")))?;
    terminal.print("What to change:")?;
    let network = plan.map(|plan| network::lines(&plan.project, &plan.network)).unwrap_or_default();
    for text in &network {
        terminal.suggest(&format!("  {text}"))?;
    }
    for (check, lacks) in red.iter().filter_map(|r| Some((&r.name, r.lacks.as_ref()?))) {
        terminal.suggest(&format!("  {check} needs {lacks}."))?;
    }
    if red.iter().any(|r| r.kind == CheckKind::Setup) {
        terminal.print("  The setup failed, so that nothing was checked: fix what it prints above.")?;
    }
    terminal.suggest("  `skep check --check COMMAND` tries another command; [[check]] in .skep.toml keeps it.")?;
    not_covered(terminal, plan).map(|()| ExitStatus::Undelivered)
}

/// Prints which projects of the repository its checks do not cover.
fn not_covered(terminal: &Terminal, plan: Option<&CheckPlan>) -> Result<(), Stop> {
    for text in plan.iter().flat_map(|plan| &plan.missing) {
        terminal.styled(Style::Yellow, &format!("{text}; if it has tests, name them as [[check]] in .skep.toml."))?;
    }
    Ok(())
}
