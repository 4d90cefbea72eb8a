//! Projects: repositories with their policy, checks and engines.

use super::args::ProjectCommand;
use super::client::{Client, encode};
use super::context::CliContext;
use super::exit::{CliError, ExitStatus, Stop};
use super::parse::by_role;
use super::show::on_runner;
use super::terminal::{Style, Terminal};
use super::text::table;
use crate::http::rest::wire::{NewProject, Project};
use serde_json::json;

/// `skep project …`.
pub async fn project(client: &Client, terminal: &Terminal, command: ProjectCommand) -> Result<ExitStatus, Stop> {
    match command {
        ProjectCommand::Add { repo, name, base, check, engine, replace } => {
            let new = NewProject {
                name,
                repo: repo.0,
                base,
                checks: check,
                engines: by_role(&engine),
                policy: None,
                replace,
            };
            let project: Project = client.post("/projects", &new, None).await?;
            terminal.object(&project)?;
            let name = &project.name;
            let verb = if replace { "replaced" } else { "added" };
            terminal.line(Style::Green, &format!("project {name} {verb}: {}", project.repo))?;
            terminal.suggest(&format!("  skep run --project {name} --goal \"…\"   start a run on it"))?;
        }
        ProjectCommand::Remove { name } => {
            let path = format!("/projects/{}/remove", encode(&name));
            let project: Project = client.post(&path, &json!({}), None).await?;
            terminal.object(&project)?;
            terminal.line(Style::Green, &format!("project {} removed: {}", project.name, project.repo))?;
        }
        ProjectCommand::Allow { .. } => return Err(CliError::internal("a command on the configuration").into()),
        ProjectCommand::List => {
            let found: Vec<Project> = client.get("/projects").await?;
            terminal.object(&json!({ "projects": found }))?;
            if found.is_empty() {
                terminal.suggest(
                    "No projects yet. Add one with `skep project add PATH|URL`; `skep run --repo` also adds one.",
                )?;
                return Ok(ExitStatus::Success);
            }
            let rows = found.into_iter().map(|p| {
                let checks: Vec<String> = p.checks.into_iter().map(|c| c.name).collect();
                let checks = if checks.is_empty() { "(detected)".to_owned() } else { checks.join(", ") };
                vec![p.name.to_string(), p.base.unwrap_or_else(|| "(default)".to_owned()), checks, p.repo]
            });
            terminal.print(&table(&["project", "base", "checks", "repository"], rows.collect(), terminal.width))?;
        }
        ProjectCommand::Show { name } => {
            let project: Project = client.get(&format!("/projects/{}", encode(&name))).await?;
            terminal.object(&project)?;
            show(terminal, &project)?;
        }
    }
    Ok(ExitStatus::Success)
}

/// `skep project allow`.
pub async fn allow(cli: &CliContext<'_>, name: &str, hosts: &[String]) -> Result<ExitStatus, Stop> {
    let terminal = cli.terminal;
    let allowed = cli.backend.allow_hosts(cli.host, name, hosts).await.map_err(CliError::from)?;
    terminal.object(&allowed)?;
    terminal.line(Style::Green, &format!("commands of {name} may reach: {}", allowed.hosts.join(", ")))?;
    terminal.print(&format!("Written to {}. It applies to the next command of every run.", allowed.file))?;
    Ok(ExitStatus::Success)
}

/// Returns whether a command only reads.
pub fn only_reads(command: &ProjectCommand) -> bool {
    !matches!(command, ProjectCommand::Add { .. } | ProjectCommand::Remove { .. })
}

/// Returns the names of the projects on the local forge.
pub async fn names_on_local_forge(client: &Client) -> Result<Vec<String>, CliError> {
    let found: Vec<Project> = client.get("/projects").await?;
    Ok(found.into_iter().filter(|p| p.forge == "local").map(|p| p.name).collect())
}

fn show(terminal: &Terminal, project: &Project) -> Result<(), Stop> {
    terminal.line(Style::Bold, &format!("project {}", project.name))?;
    let line = |name: &str, text: &str| terminal.line(Style::Plain, &format!("  {name:<11} {text}"));
    line("repository", &project.repo)?;
    line("base", project.base.as_deref().unwrap_or("the repository's default branch"))?;
    line("branches", &format!("{}/…", project.branch_prefix))?;
    if project.checks.is_empty() {
        line("checks", "from .skep.toml at the base commit, else detected in the repository")?;
    }
    for check in &project.checks {
        line(
            "check",
            &format!("{}{}: {} (timeout {} s)", check.name, on_runner(check), check.command, check.timeout_secs),
        )?;
    }
    for (role, engine) in &project.engines {
        let arg = if engine.arg.is_empty() { String::new() } else { format!(": {}", engine.arg) };
        line("engine", &format!("{} = {}{arg}", role.name(), engine.kind))?;
    }
    let Some(policy) = &project.policy else {
        return line("policy", "as configured when a run starts");
    };
    terminal.print("  policy")?;
    let policy = serde_json::to_value(policy).unwrap_or_default();
    for (key, value) in policy.as_object().into_iter().flatten() {
        terminal.line(Style::Plain, &format!("    {key} = {value}"))?;
    }
    Ok(())
}
