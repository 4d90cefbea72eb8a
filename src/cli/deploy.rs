//! Deployments and sponsors: `deploy …`, `sponsor …`.

use super::args::{DeployArgs, DeployCommand, SponsorCommand, SponsorName as SponsorArgs};
use super::client::{Client, encode};
use super::exit::{CliError, ExitStatus, Stop};
use super::terminal::{Style, Terminal};
use super::text::{brief, moment, short_sha, table};
use crate::http::rest::wire::{
    Deployment, DeploymentReason, NewRollback, NewRollout, NewSponsor, Rollout, RolloutApproval, Sponsor, SponsorName,
};
use crate::render;
use serde_json::json;

/// Longest reason in a table.
const MAX_WHY_CHARS: usize = 80;

/// `skep deploy …`.
pub async fn deploy(client: &Client, terminal: &Terminal, args: DeployArgs) -> Result<ExitStatus, Stop> {
    let path = |target: &str, action: &str| format!("/deployments/{}{action}", encode(target));
    let Some(command) = args.command else {
        let Some(target) = args.target else {
            return Err(CliError::usage("no target is named", "`skep deploy list` lists the targets").into());
        };
        let body = NewRollout { sha: args.sha, approve: args.yes };
        let rollout: Rollout = client.post(&path(&target, "/deploy"), &body, None).await?;
        return queued(client, terminal, &rollout);
    };
    match command {
        DeployCommand::List => list(client, terminal).await,
        DeployCommand::Show { target } => show(terminal, &client.get(&path(&target, "")).await?),
        DeployCommand::Approve { target, rollout } => {
            let rollout: Rollout = client.post(&path(&target, "/approve"), &RolloutApproval { rollout }, None).await?;
            queued(client, terminal, &rollout)
        }
        DeployCommand::Decline { target, rollout, why } => {
            let reason = DeploymentReason { why, rollout };
            let rollout: Rollout = client.post(&path(&target, "/decline"), &reason, None).await?;
            terminal.object(&json!({ "rollout": rollout }))?;
            terminal.line(Style::Green, &format!("rollout {} of {} is declined", rollout.number, rollout.target))?;
            Ok(ExitStatus::Success)
        }
        DeployCommand::Rollback { target, to } => {
            let rollout: Rollout = client.post(&path(&target, "/rollback"), &NewRollback { to }, None).await?;
            queued(client, terminal, &rollout)
        }
        DeployCommand::Suspend { target, why } => show(
            terminal,
            &client.post(&path(&target, "/suspend"), &DeploymentReason { why, rollout: None }, None).await?,
        ),
        DeployCommand::Resume { target } => {
            show(terminal, &client.post(&path(&target, "/resume"), &json!({}), None).await?)
        }
        DeployCommand::Probe { target } => {
            show(terminal, &client.post(&path(&target, "/probe"), &json!({}), None).await?)
        }
        DeployCommand::Report { target, number } => {
            let number = match number {
                Some(number) => number,
                None => {
                    let shown: Deployment = client.get(&path(&target, "")).await?;
                    let newest = shown.rollouts.first().map(|rollout| rollout.number);
                    newest.ok_or_else(|| {
                        let fix = format!("`skep deploy {target}` starts the first one");
                        CliError::usage(format!("{target} has no rollout yet"), fix)
                    })?
                }
            };
            terminal.content(&client.bytes(&path(&target, &format!("/rollouts/{number}/report"))).await?)?;
            Ok(ExitStatus::Success)
        }
        DeployCommand::Runbook { target } => {
            terminal.content(&client.bytes(&path(&target, "/runbook")).await?)?;
            Ok(ExitStatus::Success)
        }
    }
}

/// Returns whether a command only reads.
pub fn only_reads(args: &DeployArgs) -> bool {
    use DeployCommand::{List, Report, Runbook, Show};
    matches!(args.command, Some(List | Show { .. } | Report { .. } | Runbook { .. }))
}

fn queued(client: &Client, terminal: &Terminal, rollout: &Rollout) -> Result<ExitStatus, Stop> {
    terminal.object(&json!({ "rollout": rollout }))?;
    let Rollout { number, target, sha, .. } = rollout;
    terminal.print(&format!("rollout {number} of {target}: {}", short_sha(sha)))?;
    terminal.suggest(&match client.is_service() {
        true => format!("Follow it with `skep deploy show {target}`."),
        false => "It is carried out as soon as a service runs: `skep serve`.".to_owned(),
    })?;
    Ok(ExitStatus::Success)
}

async fn list(client: &Client, terminal: &Terminal) -> Result<ExitStatus, Stop> {
    let all: Vec<Deployment> = client.get("/deployments").await?;
    terminal.object(&json!({ "deployments": all }))?;
    if all.is_empty() {
        terminal.suggest("There are no targets. Add a table such as [deploy.test] to the configuration.")?;
        return Ok(ExitStatus::Success);
    }
    let none = || "-".to_owned();
    let rows = all.iter().map(|d| {
        let newest = d.rollouts.first();
        vec![
            d.target.clone(),
            d.status.clone(),
            d.sha.as_deref().map_or_else(none, |sha| short_sha(sha).to_owned()),
            newest.map_or_else(none, |r| format!("#{} {}", r.number, words(&r.state))),
            d.kind.clone(),
            d.project.clone(),
            d.url.clone().unwrap_or_else(none),
        ]
    });
    let head = ["target", "status", "version", "last rollout", "kind", "project", "address"];
    terminal.print(&table(&head, rows.collect(), terminal.width))?;
    for d in &all {
        remarks(terminal, d)?;
    }
    Ok(ExitStatus::Success)
}

fn words(state: &str) -> String {
    state.replace('_', " ")
}

fn remarks(terminal: &Terminal, d: &Deployment) -> Result<(), Stop> {
    if let Some(why) = &d.suspended_why {
        terminal.line(Style::Yellow, &format!("{}: {why}", d.target))?;
        terminal.suggest(&format!("{}.", d.suspended_fix.as_deref().unwrap_or_default()))?;
    }
    if let Some(number) = d.waiting {
        terminal.line(Style::Yellow, &format!("{}: rollout {number} waits for approval", d.target))?;
        let waiting = d.rollouts.iter().find(|rollout| rollout.number == number);
        if let Some(proof) = waiting.and_then(|rollout| rollout.proof.as_deref()) {
            terminal.print(&format!("{}.", render::line(proof)))?;
        }
        terminal.suggest(&format!("`skep deploy approve {0}` or `skep deploy decline {0} --why TEXT`", d.target))?;
    }
    Ok(())
}

fn show(terminal: &Terminal, d: &Deployment) -> Result<ExitStatus, Stop> {
    terminal.object(&json!({ "deployment": d }))?;
    let version = d.sha.as_deref().map_or("nothing deployed", short_sha);
    terminal.print(&format!("{}: {}, {version}", d.target, d.status))?;
    remarks(terminal, d)?;
    let rows = d.rollouts.iter().map(|r| {
        let cause = match (&r.run, &r.asked_by) {
            (Some(run), _) => format!("run {}", run.get(run.len().saturating_sub(8)..).unwrap_or(run)),
            (None, by) => by.clone().unwrap_or_default(),
        };
        vec![
            r.number.to_string(),
            words(&r.state),
            short_sha(&r.sha).to_owned(),
            cause,
            moment(r.created_at),
            brief(&r.why, MAX_WHY_CHARS),
        ]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    if !rows.is_empty() {
        terminal.print(&table(&["n", "state", "version", "from", "queued", "result"], rows, terminal.width))?;
        terminal.suggest(&format!("`skep deploy report {} N` prints what was observed.", d.target))?;
    }
    Ok(ExitStatus::Success)
}

/// `skep sponsor …`.
pub async fn sponsor(client: &Client, terminal: &Terminal, command: SponsorCommand) -> Result<ExitStatus, Stop> {
    match command {
        SponsorCommand::List => {
            let all: Vec<Sponsor> = client.get("/sponsors").await?;
            terminal.object(&json!({ "sponsors": all }))?;
            if all.is_empty() {
                terminal.suggest("There are no sponsors. Add one with `skep sponsor add NAME --project NAME`.")?;
                return Ok(ExitStatus::Success);
            }
            let rows = all.into_iter().map(|s| {
                let covers = [(s.hosting, "hosting"), (s.domain, "domain")];
                let covers: Vec<&str> = covers.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
                let monthly = s.monthly_micros.map_or_else(|| "-".to_owned(), render::money);
                vec![s.name, s.project, s.state, covers.join(", "), monthly, moment(s.since)]
            });
            let head = ["sponsor", "project", "state", "covers", "monthly", "since"];
            terminal.print(&table(&head, rows.collect(), terminal.width))?;
        }
        SponsorCommand::Add { name, project, hosting, domain, monthly, public, notes } => {
            let new = NewSponsor { name, project, hosting, domain, monthly_micros: monthly, public, notes };
            let sponsor: Sponsor = client.post("/sponsors", &new, None).await?;
            terminal.object(&json!({ "sponsor": sponsor }))?;
            terminal.line(Style::Green, &format!("{} sponsors {}", sponsor.name, sponsor.project))?;
        }
        SponsorCommand::Pause(of) => change(client, terminal, of, "pause", "no longer covers anything of").await?,
        SponsorCommand::Resume(of) => change(client, terminal, of, "resume", "sponsors").await?,
        SponsorCommand::End(of) => change(client, terminal, of, "end", "no longer sponsors").await?,
    }
    Ok(ExitStatus::Success)
}

/// Pauses, resumes or ends a sponsor.
async fn change(client: &Client, terminal: &Terminal, of: SponsorArgs, act: &str, words: &str) -> Result<(), Stop> {
    let body = SponsorName { name: of.name, project: of.project };
    let sponsor: Sponsor = client.post(&format!("/sponsors/{act}"), &body, None).await?;
    terminal.object(&json!({ "sponsor": sponsor }))?;
    terminal.line(Style::Green, &format!("{} {words} {}", sponsor.name, sponsor.project))
}
