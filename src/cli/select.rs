//! Which run a command is for: the one named, the newest (`@`), or the only one that the command fits.

use super::client::{Client, with_query};
use super::exit::CliError;
use super::text::brief;
use crate::http::rest::wire::{Project, RunSummary};

/// The name of the newest run.
pub const NEWEST: &str = "@";
/// Runs listed where a command fits several.
const MAX_LISTED: usize = 5;

/// The run that a command fits if none is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fits {
    /// The run that waits for an approval.
    Approval,
    /// The run that waits for an answer.
    Answer,
    /// The run that waits for an answer, else the newest.
    Retry,
    /// The open run.
    Open,
    /// The run that waits for a person, else the newest.
    Newest,
    /// Only the run that is named.
    Named,
}

/// Returns the id of a run as the API takes it. Asks the API only if no id was given.
pub async fn run(client: &Client, named: Option<&str>, fits: Fits) -> Result<String, CliError> {
    match named {
        Some(id) if id != NEWEST => Ok(id.to_owned()),
        Some(_) => newest(client).await,
        None => the_one(client, fits).await,
    }
}

async fn newest(client: &Client) -> Result<String, CliError> {
    let runs: Vec<RunSummary> = client.get("/runs?limit=1").await?;
    runs.into_iter().next().map(|r| r.run).ok_or_else(none_at_all)
}

async fn the_one(client: &Client, fits: Fits) -> Result<String, CliError> {
    if fits == Fits::Named {
        return Err(CliError::usage("no run is named", "`skep runs` lists the runs; name one"));
    }
    let query = [("open", Some("true".to_owned())), ("limit", Some("500".to_owned()))];
    let open: Vec<RunSummary> = client.get(&with_query("/runs", &query)).await?;
    let mut fitting: Vec<&RunSummary> = open.iter().filter(|r| is_fitting(r, fits)).collect();
    if fitting.len() > 1 && !client.is_remote() {
        let here = projects_here(client).await?;
        let of_here: Vec<&RunSummary> = fitting.iter().copied().filter(|run| here.contains(&run.project)).collect();
        // Of several runs, those of the repository that the command is given in are meant.
        if !of_here.is_empty() {
            fitting = of_here;
        }
    }
    match (fitting.as_slice(), fits) {
        ([one], _) => Ok(one.run.clone()),
        ([], Fits::Newest | Fits::Retry) => newest(client).await,
        // The oldest question is not more urgent than another: the newest run is the one that was just seen.
        (_, Fits::Newest) => Ok(fitting.first().map(|r| r.run.clone()).unwrap_or_default()),
        ([], _) => Err(CliError::usage(
            match fits {
                Fits::Approval => "no run waits for an approval",
                Fits::Answer => "no run waits for an answer",
                _ => "no run is open",
            },
            "`skep runs` lists the runs; name one",
        )),
        (several, _) => {
            let list: Vec<String> = several
                .iter()
                .take(MAX_LISTED)
                .map(|r| format!("{} ({})", r.short_id(), brief(&r.title, 40)))
                .collect();
            let more = several.len().saturating_sub(MAX_LISTED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let what = format!("{} runs fit: {}{more}", several.len(), list.join(", "));
            Err(CliError::usage(what, "name one of them by its id"))
        }
    }
}

/// Returns the projects whose repository is the current folder, or one above it.
async fn projects_here(client: &Client) -> Result<Vec<String>, CliError> {
    let Ok(here) = std::env::current_dir() else { return Ok(Vec::new()) };
    let projects: Vec<Project> = client.get("/projects").await?;
    let is_here = |project: &Project| project.repo.starts_with('/') && here.starts_with(&project.repo);
    Ok(projects.into_iter().filter(is_here).map(|project| project.name).collect())
}

fn is_fitting(run: &RunSummary, fits: Fits) -> bool {
    let approval = |code: &String| code.starts_with("approve_");
    match fits {
        Fits::Approval => run.blocks.iter().any(approval),
        Fits::Answer | Fits::Retry | Fits::Newest => !run.blocks.is_empty(),
        Fits::Open | Fits::Named => true,
    }
}

fn none_at_all() -> CliError {
    CliError::usage("there is no run yet", "start one with `skep run \"what should be different\"`")
}
