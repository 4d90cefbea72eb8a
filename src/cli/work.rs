//! Open work, for outside agents: `work …`.

use super::args::{WorkCommand, WorkReviewArgs};
use super::client::{Client, encode};
use super::exit::{CliError, ExitStatus, Stop};
use super::terminal::{Style, Terminal};
use super::text::{moment, short_sha, table};
use crate::http::rest::wire::{
    AbandonOffer, NewFinding, NewPatch, NewWorkReview, Offer, OfferDetails, OfferedFile, OfferedFiles, OwnWork,
    RegisteredAgent, Registration, SubmittedWork, WorkStatus,
};
use crate::secrets::{Secret, register};
use serde_json::json;
use std::io::Read;
use std::path::Path;

/// Maximum bytes of a patch. The service has the same limit.
const MAX_PATCH_BYTES: u64 = 512 * 1024;

/// `skep work …`.
pub async fn work(client: &Client, terminal: &Terminal, command: WorkCommand) -> Result<ExitStatus, Stop> {
    let of = |id: &str, action: &str| format!("/work/offers/{}{action}", encode(id));
    match command {
        WorkCommand::Join { about } => {
            let joined: RegisteredAgent = client.post("/work/register", &Registration { about }, None).await?;
            // Nothing but the line below may print it.
            register("agent token", &Secret::new(joined.token.clone())).keep();
            terminal.object(&joined)?;
            terminal.print(&joined.token)?;
            terminal.suggest(&format!(
                "You are registered as {}. Keep this token in SKEP_TOKEN; it is not shown again.",
                joined.agent.name
            ))?;
        }
        WorkCommand::Feed => {
            let offers: Vec<Offer> = client.get("/work/feed").await?;
            terminal.object(&json!({ "offers": offers }))?;
            if offers.is_empty() {
                terminal.suggest("Nothing is offered to you now.")?;
                return Ok(ExitStatus::Success);
            }
            let rows = offers.into_iter().map(|o| vec![o.id, o.project, o.step, moment(o.opened_at), o.title]);
            terminal.print(&table(&["offer", "project", "step", "since", "title"], rows.collect(), terminal.width))?;
        }
        WorkCommand::Status => {
            let status: WorkStatus = client.get("/work/status").await?;
            terminal.object(&status)?;
            terminal.print(&format!(
                "{} of {}: {} of {} offers held, leases of {} min",
                status.agent.name,
                status.agent.owner,
                status.claims,
                status.max_claims,
                status.lease_ms / 60_000
            ))?;
        }
        WorkCommand::Mine => {
            let own: Vec<OwnWork> = client.get("/work/mine").await?;
            terminal.object(&json!({ "offers": own }))?;
            let rows = own.into_iter().map(|own| {
                let until = own.offer.lease_ends_at.map_or_else(|| "-".to_owned(), moment);
                let run = match (own.landed, own.run_status) {
                    (Some(sha), _) => format!("landed as {}", short_sha(&sha)),
                    (None, status) => status.unwrap_or_else(|| "unknown".to_owned()),
                };
                vec![own.offer.id, own.offer.step, own.offer.state, until, run, own.offer.title]
            });
            let head = ["offer", "step", "state", "lease ends", "run", "title"];
            terminal.print(&table(&head, rows.collect(), terminal.width))?;
        }
        WorkCommand::Details { id } => details(terminal, &client.get(&of(&id, "")).await?)?,
        WorkCommand::Files { id, path: None } => {
            let files: OfferedFiles = client.get(&of(&id, "/files")).await?;
            terminal.object(&files)?;
            terminal.print(&files.paths.join("\n"))?;
        }
        WorkCommand::Files { id, path: Some(path) } => {
            let file: OfferedFile = client.get(&of(&id, &format!("/file?path={}", encode(&path)))).await?;
            terminal.object(&file)?;
            terminal.print(file.text.trim_end_matches('\n'))?;
        }
        WorkCommand::Claim { id } => {
            let offer: Offer = client.post(&of(&id, "/claim"), &json!({}), None).await?;
            terminal.object(&offer)?;
            let until = offer.lease_ends_at.map_or_else(String::new, |at| format!(" until {}", moment(at)));
            terminal.line(Style::Green, &format!("{} is yours{until}", offer.id))?;
        }
        WorkCommand::Submit { id, patch, summary } => {
            let new = NewPatch { patch: read_patch(&patch)?, summary };
            submitted(terminal, &client.post(&of(&id, "/submit"), &new, None).await?)?;
        }
        WorkCommand::Review(WorkReviewArgs { id, approve, finding, summary }) => {
            let verdict = if approve { "approve" } else { "rework" };
            let findings = finding.iter().map(|text| finding_of(text)).collect();
            let new = NewWorkReview { verdict: verdict.to_owned(), summary, findings, criteria: Vec::new() };
            submitted(terminal, &client.post(&of(&id, "/review"), &new, None).await?)?;
        }
        WorkCommand::Abandon { id, why } => {
            let offer: Offer = client.post(&of(&id, "/abandon"), &AbandonOffer { why }, None).await?;
            terminal.object(&offer)?;
            terminal.line(Style::Green, &format!("{} is open for others again", offer.id))?;
        }
    }
    Ok(ExitStatus::Success)
}

fn submitted(terminal: &Terminal, submitted: &SubmittedWork) -> Result<(), Stop> {
    terminal.object(submitted)?;
    let id = &submitted.offer.id;
    match submitted.accepted {
        true => {
            terminal.line(Style::Green, &format!("{id} is accepted: checks, reviews and gates decide about it now"))
        }
        false => terminal.line(Style::Yellow, &format!("{id} is submitted, and not looked at yet")),
    }
}

fn details(terminal: &Terminal, details: &OfferDetails) -> Result<(), Stop> {
    terminal.object(details)?;
    let offer = &details.offer;
    terminal.line(Style::Bold, &format!("{} · {} · {} · {}", offer.id, offer.project, offer.step, offer.state))?;
    terminal.print(&format!("commit {}\n\n{}", details.commit, details.goal))?;
    if !details.task.is_empty() {
        terminal.print(&format!("\n{}", details.task))?;
    }
    for check in &details.checks {
        terminal.line(Style::Plain, &format!("check {}: {}", check.name, check.command))?;
    }
    for criterion in &details.criteria {
        terminal.line(Style::Plain, &format!("criterion {}: {}", criterion.id, criterion.text))?;
    }
    for note in &details.notes {
        terminal.print(&format!("\n{}:\n{}", note.source, note.text))?;
    }
    for (what, paths) in [("may touch", &details.paths), ("must not change", &details.forbidden_paths)] {
        if !paths.is_empty() {
            terminal.line(Style::Plain, &format!("{what}: {}", paths.join(", ")))?;
        }
    }
    if !offer.problem.is_empty() {
        terminal.line(Style::Yellow, &format!("last submission: {}", offer.problem))?;
    }
    if !details.patch.is_empty() {
        terminal.print(&format!("\n{}", details.patch.trim_end()))?;
    }
    Ok(())
}

/// Parses `PATH:LINE:TEXT`; a text without a path and a line is about the change as a whole.
fn finding_of(text: &str) -> NewFinding {
    let mut parts = text.splitn(3, ':');
    if let (Some(path), Some(line), Some(rest)) = (parts.next(), parts.next(), parts.next())
        && let Ok(line) = line.trim().parse()
    {
        return NewFinding { path: path.trim().to_owned(), line, text: rest.trim().to_owned() };
    }
    NewFinding { path: String::new(), line: 0, text: text.to_owned() }
}

fn read_patch(path: &Path) -> Result<String, CliError> {
    let unusable = |why: String| {
        CliError::usage(format!("cannot read the patch {}: {why}", path.display()), "name a file made by `git diff`")
    };
    let mut bytes = Vec::new();
    let limit = MAX_PATCH_BYTES + 1;
    match path == Path::new("-") {
        true => std::io::stdin().lock().take(limit).read_to_end(&mut bytes),
        false => std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)),
    }
    .map_err(|e| unusable(e.to_string()))?;
    if bytes.len() as u64 > MAX_PATCH_BYTES {
        return Err(unusable(format!("it is larger than {} KiB", MAX_PATCH_BYTES / 1024)));
    }
    String::from_utf8(bytes).map_err(|_| unusable("it is not UTF-8 text".to_owned()))
}

/// Returns whether a command only reads.
pub fn only_reads(command: &WorkCommand) -> bool {
    matches!(
        command,
        WorkCommand::Feed
            | WorkCommand::Status
            | WorkCommand::Mine
            | WorkCommand::Details { .. }
            | WorkCommand::Files { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::finding_of;

    #[test]
    fn a_finding_names_its_place_or_the_whole_change() {
        let parsed = |text: &str| {
            let finding = finding_of(text);
            (finding.path, finding.line, finding.text)
        };
        assert_eq!(parsed("src/a.rs:7: wrong: use b"), ("src/a.rs".to_owned(), 7, "wrong: use b".to_owned()));
        assert_eq!(parsed("note: a thing: here"), (String::new(), 0, "note: a thing: here".to_owned()));
        assert_eq!(parsed("too slow"), (String::new(), 0, "too slow".to_owned()));
    }
}
