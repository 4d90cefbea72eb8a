//! The network that checks need: asked for once, before anything is spent.

use super::client::Client;
use super::context::{Access, CliContext};
use super::exit::{CliError, Stop};
use super::parse::{Origin, origin_here};
use super::terminal::{Style, Terminal};
use super::text::shell_quoted;
use crate::http::rest::wire::{CheckPlan, NetworkNeed, NewCheckPlan, Project};
use crate::service::host::{Finding, Severity};
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
    let entries = entries(&plan.network);
    if entries.is_empty() {
        return Ok(());
    }
    if cli.host.server.is_some() || !terminal.can_prompt() {
        let lines = lines(&plan.project, &plan.network);
        return lines.iter().try_for_each(|text| terminal.styled(Style::Yellow, &terminal.with_options(text)));
    }
    let question = format!("{} Allow? [y/N]", what(&plan.network));
    let answer = terminal.ask(&question).await?.unwrap_or_default();
    if !matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return terminal.print("Continuing without. The checks run with what is on this machine.");
    }
    allow(cli, client, order, &plan.project, &entries).await
}

/// Allows hosts and addresses for a project, and waits until that is in effect.
pub async fn allow(
    cli: &CliContext<'_>,
    client: &Client,
    order: &NewCheckPlan,
    project: &str,
    entries: &[String],
) -> Result<(), Stop> {
    let terminal = cli.terminal;
    let allowed = cli.backend.allow_hosts(cli.host, project, entries).await.map_err(CliError::from)?;
    terminal.line(Style::Green, &format!("allowed for {project}: {} ({})", entries.join(", "), allowed.file))?;
    wait_for_reload(terminal, client, order, entries).await
}

/// Waits until the changed configuration is in effect.
async fn wait_for_reload(
    terminal: &Terminal,
    client: &Client,
    order: &NewCheckPlan,
    allowed: &[String],
) -> Result<(), Stop> {
    for _ in 0..RELOADS {
        let plan: CheckPlan = client.post("/checks/plan", order, None).await?;
        if !entries(&plan.network).iter().any(|entry| allowed.contains(entry)) {
            return Ok(());
        }
        tokio::time::sleep(RELOAD_INTERVAL).await;
    }
    terminal.styled(Style::Yellow, "The service has not read the new configuration yet.")
}

/// Returns all hosts of the needs, each once.
pub fn hosts(needs: &[NetworkNeed]) -> Vec<String> {
    unique(needs.iter().flat_map(|need| &need.hosts))
}

/// Returns the addresses outside the public internet that the hosts lead to, each once.
pub fn addresses(needs: &[NetworkNeed]) -> Vec<String> {
    unique(needs.iter().flat_map(|need| &need.addresses))
}

/// Returns everything that has to be allowed: hosts, then addresses.
fn entries(needs: &[NetworkNeed]) -> Vec<String> {
    [hosts(needs), addresses(needs)].concat()
}

fn unique<'n>(all: impl Iterator<Item = &'n String>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for one in all {
        if !found.contains(one) {
            found.push(one.clone());
        }
    }
    found
}

/// Inspects what the checks of the repository around the current directory need from the network, if it is a known
/// project. A new one would have to be fetched first, which `skep check` does.
pub async fn inspect(cli: &CliContext<'_>) -> Result<Option<Finding>, CliError> {
    let Ok(Origin(repo)) = origin_here() else { return Ok(None) };
    let connection = cli.connect(Access::Write).await?;
    let found = inspect_known(&connection.client, repo).await;
    connection.close().await;
    found
}

async fn inspect_known(client: &Client, repo: String) -> Result<Option<Finding>, CliError> {
    let projects: Vec<Project> = client.get("/projects").await?;
    let Some(project) = projects.into_iter().find(|project| project.repo == repo) else { return Ok(None) };
    let order = NewCheckPlan { repo: Some(repo), ..NewCheckPlan::default() };
    let plan: CheckPlan = client.post("/checks/plan", &order, None).await?;
    let entries = entries(&plan.network);
    let (severity, detail, fix) = match entries.as_slice() {
        [] => (
            Severity::Ok,
            format!("{}: the checks may reach every host that they are known to need", project.name),
            String::new(),
        ),
        _ => (
            Severity::Warning,
            format!("{}: {}", project.name, what(&plan.network)),
            allow_command(&project.name, &entries),
        ),
    };
    Ok(Some(Finding { subject: "network".to_owned(), severity, detail, fix }))
}

fn allow_command(project: &str, entries: &[String]) -> String {
    let quoted: Vec<String> = entries.iter().map(|entry| shell_quoted(entry)).collect();
    format!("skep project allow {project} {}", quoted.join(" "))
}

/// Returns whether nothing is known of what a package manager needs.
pub fn is_unknown(need: &NetworkNeed) -> bool {
    need.hosts.is_empty() && need.addresses.is_empty()
}

/// Describes the needs: which check needs which hosts, and where these lead if that is not the public internet.
fn what(needs: &[NetworkNeed]) -> String {
    let known = needs.iter().filter(|need| !is_unknown(need));
    let each = known.map(|need| {
        let names = if need.hosts.is_empty() { &need.addresses } else { &need.hosts };
        let need_word = if need.checks.len() == 1 { "needs" } else { "need" };
        format!("{} {need_word} {}.", need.checks.join(", "), names.join(", "))
    });
    let text = each.collect::<Vec<_>>().join(" ");
    let leads = match hosts(needs).len() {
        0 if addresses(needs).is_empty() => return text,
        0 => return format!("{text} An allowed host leads there, outside the public internet."),
        1 => "it leads",
        _ => "at least one of them leads",
    };
    match addresses(needs).as_slice() {
        [] => text,
        [one] => format!("{text} Here {leads} to {one}, an address outside the public internet."),
        more => format!("{text} Here {leads} to {}, addresses outside the public internet.", more.join(", ")),
    }
}

/// Returns what is missing, one line each, and the command that allows it.
pub fn lines(project: &str, needs: &[NetworkNeed]) -> Vec<String> {
    let mut lines = Vec::new();
    let entries = entries(needs);
    if !entries.is_empty() {
        let named = if hosts(needs).is_empty() { addresses(needs) } else { hosts(needs) };
        let they = if named.len() == 1 { "it" } else { "them" };
        lines.push(format!("{} The project may not reach {they}. To allow {they}:", what(needs)));
        lines.push(format!("  {}", allow_command(project, &entries)));
    }
    for need in needs.iter().filter(|need| is_unknown(need)) {
        let checks = need.checks.join(", ");
        let (start, fail) = match need.checks.len() {
            1 => ("starts", "If it fails, it names"),
            _ => ("start", "If they fail, they name"),
        };
        lines.push(format!("{checks} {start} {}, which may need the network. {fail} the host to allow.", need.manager));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_put_once_with_the_command_that_allows_it() {
        let own = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let need = |checks: &[&str], hosts: &[&str], addresses: &[&str]| NetworkNeed {
            manager: "npm".to_owned(),
            checks: own(checks),
            hosts: own(hosts),
            addresses: own(addresses),
        };
        for (needs, expected) in [
            (
                vec![need(&["npm-install"], &["npm.example"], &[])],
                "npm-install needs npm.example. The project may not reach it. To allow it:\n  \
                 skep project allow tally npm.example",
            ),
            (
                vec![need(&["a"], &["npm.example"], &["10.1.2.3"]), need(&["b"], &["npm.example"], &["10.1.2.3"])],
                "a needs npm.example. b needs npm.example. Here it leads to 10.1.2.3, an address outside the public \
                 internet. The project may not reach it. To allow it:\n  skep project allow tally npm.example 10.1.2.3",
            ),
            (
                vec![need(&["a"], &[], &["10.1.2.3", "10.1.2.4"])],
                "a needs 10.1.2.3, 10.1.2.4. An allowed host leads there, outside the public internet. The project may not reach them. To allow them:\n  skep project allow tally 10.1.2.3 10.1.2.4",
            ),
            (
                vec![need(&["a", "b"], &["one.example", "two.example"], &["10.1.2.3"])],
                "a, b need one.example, two.example. Here at least one of them leads to 10.1.2.3, an address outside \
                 the public internet. The project may not reach them. To allow them:\n  \
                 skep project allow tally one.example two.example 10.1.2.3",
            ),
            (
                vec![need(&["a"], &[], &[])],
                "a starts npm, which may need the network. If it fails, it names the host to allow.",
            ),
            (Vec::new(), ""),
        ] {
            assert_eq!(lines("tally", &needs).join("\n"), expected);
        }
    }
}
