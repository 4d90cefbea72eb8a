//! Recurring failures and proposals: `improve`.

use super::args::{ImproveArgs, ImproveCommand};
use super::client::{Client, encode};
use super::exit::{CliError, ExitStatus, Stop};
use super::terminal::{Style, Terminal};
use super::text::{count, moment, money, table};
use crate::http::rest::wire::{DropProposal, ImprovePass, NewImprovePass, Proposal, Rate, Symptom};
use serde_json::json;

/// Symptoms that a pass without proposals shows.
const MAX_SHOWN: usize = 5;

/// `skep improve …`.
pub async fn improve(client: &Client, terminal: &Terminal, args: ImproveArgs) -> Result<ExitStatus, Stop> {
    let of = |id: &str, action: &str| format!("/proposals/{}{action}", encode(id));
    match args.command {
        None => return pass(client, terminal, args).await,
        Some(ImproveCommand::List) => {
            let proposals: Vec<Proposal> = client.get("/proposals").await?;
            terminal.object(&json!({ "proposals": proposals }))?;
            if proposals.is_empty() {
                terminal.suggest("No proposals. `skep improve` looks for failures that recur.")?;
                return Ok(ExitStatus::Success);
            }
            let rows = proposals.into_iter().map(|p| {
                let effect = p.measurement.as_ref().map_or_else(String::new, |m| {
                    format!("{} before, {} after, p = {:.3}", rate(m.before), rate(m.after), m.p_value)
                });
                vec![p.id, p.project, p.state, p.kind, p.title, effect]
            });
            let head = ["proposal", "project", "state", "kind", "failure", "effect"];
            terminal.print(&table(&head, rows.collect(), terminal.width))?;
        }
        Some(ImproveCommand::Show { id }) => {
            let proposal: Proposal = client.get(&of(&id, "")).await?;
            terminal.object(&proposal)?;
            print_proposal(terminal, &proposal)?;
        }
        Some(ImproveCommand::Accept { id }) => {
            let proposal: Proposal = client.post(&of(&id, "/accept"), &json!({}), None).await?;
            terminal.object(&proposal)?;
            terminal.line(Style::Green, &format!("{} is accepted. Now make the change yourself:", proposal.id))?;
            terminal.prose(Style::Plain, &format!("  {}", proposal.change), 2)?;
            terminal.suggest(&format!(
                "Its effect is measured over the next 30 ends of the step {}, or 28 days; `skep improve` shows it.",
                proposal.signature.step
            ))?;
        }
        Some(ImproveCommand::Drop { id, why }) => {
            let proposal: Proposal = client.post(&of(&id, "/drop"), &DropProposal { why }, None).await?;
            terminal.object(&proposal)?;
            let dropped = format!("{} is dropped; its failure is not proposed again for 90 days", proposal.id);
            terminal.line(Style::Green, &dropped)?;
        }
    }
    Ok(ExitStatus::Success)
}

/// Returns whether a command only reads.
pub fn only_reads(args: &ImproveArgs) -> bool {
    match &args.command {
        None => args.dry_run,
        Some(command) => matches!(command, ImproveCommand::List | ImproveCommand::Show { .. }),
    }
}

async fn pass(client: &Client, terminal: &Terminal, args: ImproveArgs) -> Result<ExitStatus, Stop> {
    let since_secs = args.since.as_deref().map(seconds).transpose()?;
    let as_issue = args.publish.is_some();
    let new = NewImprovePass { since_secs, project: args.project, dry_run: args.dry_run, as_issue };
    let pass: ImprovePass = client.post("/improve", &new, None).await?;
    terminal.object(&pass)?;
    for measured in &pass.measured {
        print_verdict(terminal, measured)?;
    }
    for proposal in &pass.proposed {
        print_proposal(terminal, proposal)?;
        terminal.print("")?;
    }
    for published in &pass.published {
        let url = published.issue.as_deref().unwrap_or_default();
        terminal.line(Style::Plain, &format!("{} is published at {url}", published.id))?;
    }
    for problem in &pass.problems {
        terminal.prose(Style::Red, &format!("cannot publish {problem}"), 2)?;
    }
    terminal.prose(Style::Plain, &summary(&pass, args.dry_run), 0)?;
    if pass.proposed.is_empty() {
        recurring(terminal, &pass.symptoms)?;
    }
    Ok(if pass.problems.is_empty() { ExitStatus::Success } else { ExitStatus::TryAgain })
}

/// Returns the length of a window in seconds.
fn seconds(text: &str) -> Result<u64, CliError> {
    let window = crate::config::units::duration(text).map_err(|e| {
        CliError::usage(format!("--since {text}: {}", e.why), "write a duration such as 14d, 12h or 90m")
    })?;
    Ok(window.as_secs())
}

/// Returns one line about a pass.
fn summary(pass: &ImprovePass, dry_run: bool) -> String {
    let new = match (pass.proposed.len() as u64, dry_run) {
        (0, _) => "nothing new to propose".to_owned(),
        (n, false) => count(n, "new proposal"),
        (n, true) => format!("{} if this were not a dry run", count(n, "new proposal")),
    };
    let unclassified = match pass.unclassified {
        0 => String::new(),
        n => format!(", {n} of them of an unknown kind"),
    };
    let mut text = format!("{}, {}{unclassified}: {new}.", count(pass.runs, "run"), count(pass.failures, "failure"));
    if pass.unreadable > 0 {
        text.push_str(&format!(" {} could not be read.", count(pass.unreadable, "run")));
    }
    if pass.is_cut {
        text.push_str(" There are more runs than a pass reads; the oldest were left out.");
    }
    text
}

/// Prints what recurs, but is proposed already or too rare.
fn recurring(terminal: &Terminal, symptoms: &[Symptom]) -> Result<(), Stop> {
    for symptom in symptoms.iter().filter(|s| s.runs > 1).take(MAX_SHOWN) {
        let Symptom { project, signature, rate: found, runs, .. } = symptom;
        let line = format!("  {project}: {} in {}: {}", rate(*found), count(*runs, "run"), signature.line);
        terminal.prose(Style::Plain, &line, 4)?;
    }
    Ok(())
}

fn print_verdict(terminal: &Terminal, proposal: &Proposal) -> Result<(), Stop> {
    let Some(measured) = &proposal.measurement else { return Ok(()) };
    let (style, verdict) = match proposal.state.as_str() {
        "kept" => (Style::Green, "helped"),
        "worse" => (Style::Red, "made it worse: undo the change"),
        _ => (Style::Plain, "had no effect distinguishable from chance"),
    };
    let numbers =
        format!("{} before, {} after, p = {:.3}", rate(measured.before), rate(measured.after), measured.p_value);
    terminal.prose(style, &format!("{} {verdict} ({numbers}): {}", proposal.id, proposal.title), 2)
}

fn print_proposal(terminal: &Terminal, proposal: &Proposal) -> Result<(), Stop> {
    let Proposal { signature, .. } = proposal;
    let field = |name: &str, text: &str| match text.is_empty() {
        true => Ok(()),
        false => terminal.prose(Style::Plain, &format!("  {name:<9} {text}"), 12),
    };
    terminal.prose(Style::Plain, &format!("{} {}", proposal.id, proposal.title), 4)?;
    field("project", &proposal.project)?;
    field("state", &proposal.state)?;
    let tool = if signature.tool.is_empty() { String::new() } else { format!(" in {}", signature.tool) };
    field("failure", &format!("{} {}{tool}: {}", signature.step, signature.ending, signature.line))?;
    let lost = if proposal.lost_micros > 0 { format!(", {} lost", money(proposal.lost_micros)) } else { String::new() };
    field("how often", &format!("{} in {}{lost}", rate(proposal.found), count(proposal.runs, "run")))?;
    field("change", &format!("({}) {}", proposal.kind, proposal.change))?;
    let runs: Vec<&str> =
        proposal.samples.iter().map(|run| run.get(run.len().saturating_sub(8)..).unwrap_or(run)).collect();
    field("runs", &runs.join(" "))?;
    field("proposed", &moment(proposal.created_at))?;
    if let (Some(by), Some(at)) = (&proposal.decided_by, proposal.decided_at) {
        field("decided", &format!("{} by {by}", moment(at)))?;
    }
    field("reason", proposal.why.as_deref().unwrap_or_default())?;
    if let Some(m) = &proposal.measurement {
        let numbers = format!("{} before, {} after, p = {:.3}", rate(m.before), rate(m.after), m.p_value);
        field("effect", &numbers)?;
    }
    field("issue", proposal.issue.as_deref().unwrap_or_default())?;
    if proposal.state == "open" {
        terminal.suggest(&format!("  skep improve accept {}   measure the effect of your change", proposal.id))?;
        terminal.suggest(&format!("  skep improve drop {} --why TEXT", proposal.id))?;
    }
    Ok(())
}

/// Formats a rate: `3 of 12 (25 %)`.
fn rate(rate: Rate) -> String {
    let percent = rate.hits.saturating_mul(100).checked_div(rate.ends).unwrap_or(0);
    format!("{} of {} ({percent} %)", rate.hits, rate.ends)
}
