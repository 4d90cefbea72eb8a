//! The network that checks need: asked for once, before anything is spent.

use super::client::Client;
use super::context::CliContext;
use super::exit::{CliError, Stop};
use super::terminal::{Style, Terminal};
use super::text::shell_quoted;
use crate::http::rest::wire::{CheckPlan, NetworkNeed, NewCheckPlan};
use std::time::Duration;

/// How often, and at which interval, the routes are asked whether a changed configuration is in effect.
const RELOADS: u32 = 80;
const RELOAD_INTERVAL: Duration = Duration::from_millis(500);

/// Puts the hosts that the checks of an order need to the person at the terminal, and allows them. Without a terminal,
/// it prints the command that allows them.
pub async fn ask(cli: &CliContext<'_>, client: &Client, order: &NewCheckPlan) -> Result<(), Stop> {
    let terminal = cli.terminal;
    // Whatever is wrong with the order is reported by what comes next.
    let Ok(plan) = client.post::<CheckPlan>("/checks/plan", order, None).await else { return Ok(()) };
    let hosts = hosts(&plan.network);
    if hosts.is_empty() {
        return Ok(());
    }
    if !terminal.can_prompt() {
        let lines = lines(&plan.project, &plan.network);
        return lines.iter().try_for_each(|text| terminal.styled(Style::Yellow, &terminal.with_options(text)));
    }
    let question = format!("{} Allow? [y/N]", what(&plan.network));
    let answer = terminal.ask(&question).await?.unwrap_or_default();
    if !matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return terminal.print("Continuing without. The checks run with what is on this machine.");
    }
    allow(cli, client, order, &plan).await
}

/// Allows the hosts of a plan, and waits until that is in effect.
pub async fn allow(cli: &CliContext<'_>, client: &Client, order: &NewCheckPlan, plan: &CheckPlan) -> Result<(), Stop> {
    let (terminal, hosts) = (cli.terminal, hosts(&plan.network));
    let allowed = cli.backend.allow_hosts(cli.host, &plan.project, &hosts).await.map_err(CliError::from)?;
    let line = format!("allowed for {}: {} ({})", plan.project, hosts.join(", "), allowed.file);
    terminal.line(Style::Green, &line)?;
    wait_for_reload(terminal, client, order).await
}

/// Waits until the changed configuration is in effect.
async fn wait_for_reload(terminal: &Terminal, client: &Client, order: &NewCheckPlan) -> Result<(), Stop> {
    for _ in 0..RELOADS {
        let plan: CheckPlan = client.post("/checks/plan", order, None).await?;
        if hosts(&plan.network).is_empty() {
            return Ok(());
        }
        tokio::time::sleep(RELOAD_INTERVAL).await;
    }
    terminal.styled(Style::Yellow, "The service has not read the new configuration yet.")
}

/// Returns all hosts of the needs, each once.
pub fn hosts(needs: &[NetworkNeed]) -> Vec<String> {
    let mut hosts: Vec<String> = Vec::new();
    for host in needs.iter().flat_map(|need| &need.hosts) {
        if !hosts.contains(host) {
            hosts.push(host.clone());
        }
    }
    hosts
}

/// Describes the needs: which check needs which hosts.
fn what(needs: &[NetworkNeed]) -> String {
    let each = needs.iter().filter(|need| !need.hosts.is_empty());
    let each = each.map(|need| format!("{} needs {}.", need.checks.join(", "), need.hosts.join(", ")));
    each.collect::<Vec<_>>().join(" ")
}

/// Returns what is missing, one line each, and the command that allows it.
pub fn lines(project: &str, needs: &[NetworkNeed]) -> Vec<String> {
    let mut lines = Vec::new();
    let hosts = hosts(needs);
    if !hosts.is_empty() {
        let quoted: Vec<String> = hosts.iter().map(|host| shell_quoted(host)).collect();
        lines.push(format!("{} The project may not reach them. To allow it:", what(needs)));
        lines.push(format!("  skep project allow {project} {}", quoted.join(" ")));
    }
    for need in needs.iter().filter(|need| need.hosts.is_empty()) {
        let checks = need.checks.join(", ");
        lines.push(format!(
            "{checks} starts {}, which may need the network. If it fails, it names the host to allow.",
            need.manager
        ));
    }
    lines
}
