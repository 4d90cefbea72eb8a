//! Changes on the local forge: list, show, review, merge.

use super::args::{ChangeCommand, State};
use super::client::{Client, encode};
use super::exit::{CliError, ExitStatus, Stop};
use super::parse::ChangeName;
use super::project;
use super::select::{self, Fits};
use super::terminal::{Style, Terminal};
use super::text::{moment, short_sha, table};
use crate::http::rest::wire::{Change, ChangeState, Run, StatusState};
use serde_json::{Value, json};

/// `skep change …`.
pub async fn change(client: &Client, terminal: &Terminal, command: ChangeCommand) -> Result<ExitStatus, Stop> {
    let (name, action, body) = match command {
        ChangeCommand::List { project } => return list(client, terminal, project).await,
        ChangeCommand::Show { change, patch } => return show(client, terminal, &change, patch).await,
        ChangeCommand::Approve { change, text } => (change, "approve", json!({ "text": text })),
        ChangeCommand::Decline { change, text } => (change, "decline", json!({ "text": text })),
        ChangeCommand::Comment { change, text } => (change, "comment", json!({ "text": text })),
        ChangeCommand::Merge { change } => (change, "merge", json!({ "text": "" })),
        ChangeCommand::Close { change } => (change, "close", json!({ "text": "" })),
        ChangeCommand::Status { change, context, state, text, sha } => {
            let body = json!({ "text": text, "sha": sha, "context": context, "state": state_word(state) });
            (change, "status", body)
        }
    };
    act(client, terminal, &name, action, &body).await
}

/// Returns the name of a state in REST.
pub(super) fn state_word(state: State) -> &'static str {
    match state {
        State::Pending => "pending",
        State::Success => "success",
        State::Failure => "failure",
    }
}

/// Returns whether a command only reads.
pub fn only_reads(command: &ChangeCommand) -> bool {
    matches!(command, ChangeCommand::List { .. } | ChangeCommand::Show { .. })
}

async fn act(
    client: &Client,
    terminal: &Terminal,
    name: &ChangeName,
    action: &str,
    body: &Value,
) -> Result<ExitStatus, Stop> {
    let (project, number) = find(client, name).await?;
    let path = format!("/projects/{}/changes/{number}/{action}", encode(&project));
    let change: Change = client.post(&path, body, None).await?;
    let verb = match action {
        "approve" => "approved",
        "decline" => "changes requested on",
        "comment" => "commented on",
        "merge" => "merged",
        "close" => "closed",
        _ => "status set on",
    };
    let line = format!("{verb} {project}#{number} ({}) at {}", state(&change), short_sha(&change.head));
    terminal.line(Style::Green, &line)?;
    if let (false, Some(run)) = (client.is_remote(), run_of(&change)) {
        terminal
            .suggest(&format!("No service uses this data directory. Continue the run with `skep resume {run}`."))?;
    }
    terminal.object(&change)?;
    Ok(ExitStatus::Success)
}

/// Finds the project and number of a change.
async fn find(client: &Client, name: &ChangeName) -> Result<(String, u64), CliError> {
    match name {
        ChangeName::Numbered { project, number } => Ok((project.clone(), *number)),
        ChangeName::OfRun(run) => {
            let run = select::run(client, Some(run), Fits::Newest).await?;
            let view: Run = client.get(&format!("/runs/{}", encode(&run))).await?;
            let Some(number) = view.change else {
                return Err(CliError::usage(
                    format!("run {} has no change yet (it is {})", view.short_id, view.phase),
                    format!("see how far it is with `skep show {}`", view.short_id),
                ));
            };
            Ok((view.project, number))
        }
    }
}

async fn list(client: &Client, terminal: &Terminal, project: Option<String>) -> Result<ExitStatus, Stop> {
    let projects = match project {
        Some(project) => vec![project],
        None => project::names_on_local_forge(client).await?,
    };
    let mut rows = Vec::new();
    let mut listed = Vec::new();
    for project in projects {
        let found: Vec<Change> = client.get(&format!("/projects/{}/changes", encode(&project))).await?;
        for change in found {
            rows.push(vec![
                format!("{project}#{}", change.number),
                state(&change),
                change.branch.clone(),
                change.base_branch.clone(),
                moment(change.opened_at),
                change.title.clone(),
            ]);
            listed.push(json!({ "project": project, "change": change }));
        }
    }
    terminal.object(&json!({ "changes": listed }))?;
    if rows.is_empty() {
        terminal.print("No changes yet. A run opens one when its checks pass.")?;
    } else {
        terminal.print(&table(&["change", "state", "branch", "base", "opened", "title"], rows, terminal.width))?;
    }
    Ok(ExitStatus::Success)
}

async fn show(client: &Client, terminal: &Terminal, name: &ChangeName, patch: bool) -> Result<ExitStatus, Stop> {
    let (project, number) = find(client, name).await?;
    let change: Change = client.get(&format!("/projects/{}/changes/{number}", encode(&project))).await?;
    let run = run_of(&change);
    if patch {
        let Some(run) = run else {
            return Err(CliError::usage(
                format!(
                    "{project}#{number} does not belong to a run (branch {}), so its diff is not stored",
                    change.branch
                ),
                "compare the branches with git",
            )
            .into());
        };
        return super::show::patch(client, terminal, run, None).await;
    }
    terminal.object(&change)?;
    terminal.line(Style::Bold, &format!("{project}#{number}: {}", change.title))?;
    let line = |name: &str, text: &str| terminal.line(Style::Plain, &format!("  {name:<8} {text}"));
    line("state", &state(&change))?;
    line("branch", &format!("{} onto {}", change.branch, change.base_branch))?;
    line("head", &change.head)?;
    line("opened", &format!("{} by {}", moment(change.opened_at), change.by))?;
    if let Some(run) = run {
        line("diff", &terminal.with_options(&format!("`skep show {run} --patch` prints it")))?;
    }
    for (context, status) in change.statuses.get(&change.head).into_iter().flatten() {
        let (style, word) = match status.state {
            StatusState::Success => (Style::Green, "success"),
            StatusState::Failure => (Style::Red, "failure"),
            StatusState::Pending => (Style::Yellow, "pending"),
        };
        terminal.line(style, &format!("  {:<8} {context}: {word} {}", "status", status.text))?;
    }
    quote(terminal, &change.body)?;
    for review in &change.reviews {
        let word = if review.approved { "approved" } else { "requested changes on" };
        let stale = if review.head == change.head { "" } else { " (outdated)" };
        post(
            terminal,
            &format!("{} {} {word} {}{stale}", moment(review.at), review.by, short_sha(&review.head)),
            &review.text,
        )?;
    }
    for comment in &change.comments {
        post(terminal, &format!("{} {}", moment(comment.at), comment.by), &comment.text)?;
    }
    Ok(ExitStatus::Success)
}

/// Returns the run a change belongs to, by the name of its branch (`skep/3f9a12bc`).
fn run_of(change: &Change) -> Option<&str> {
    let last = change.branch.rsplit('/').next()?;
    (last.len() == 8 && last.bytes().all(|b| b.is_ascii_hexdigit())).then_some(last)
}

fn state(change: &Change) -> String {
    match &change.state {
        ChangeState::Open if change.draft => "open (draft)".to_owned(),
        ChangeState::Open => "open".to_owned(),
        ChangeState::Closed { by } => format!("closed by {by}"),
        ChangeState::Merged { sha, by } => format!("merged by {by} as {}", short_sha(sha)),
    }
}

fn post(terminal: &Terminal, head: &str, text: &str) -> Result<(), Stop> {
    terminal.print("")?;
    terminal.line(Style::Bold, head)?;
    quote(terminal, text)
}

/// Prints foreign text, marked line by line.
fn quote(terminal: &Terminal, text: &str) -> Result<(), Stop> {
    for line in text.trim_end().lines() {
        terminal.line(Style::Plain, format!("  | {line}").trim_end())?;
    }
    Ok(())
}
