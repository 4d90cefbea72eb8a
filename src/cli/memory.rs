//! What ended runs have shown: `memory …`.

use super::args::{ForgetArgs, MemoryCommand};
use super::client::{Client, encode, with_query};
use super::exit::{ExitStatus, Stop};
use super::terminal::{Style, Terminal};
use super::text::{brief, count, moment, money, table};
use crate::http::rest::wire::{
    ForgetMemories, ForgottenMemories, GivenMemories, Memory, MemoryArm, MemoryCitation, MemoryEffect, NewLesson, Run,
    SweepMemories, SweptMemories,
};
use serde_json::json;

/// Longest title in a table, in characters.
const MAX_TITLE: usize = 80;

/// `skep memory …`.
pub async fn memory(client: &Client, terminal: &Terminal, command: MemoryCommand) -> Result<ExitStatus, Stop> {
    match command {
        MemoryCommand::List { text, project, kind, state, limit } => {
            let query = [
                ("project", project),
                ("kind", kind),
                ("state", state),
                ("q", text),
                ("limit", Some(limit.to_string())),
            ];
            let rows: Vec<Memory> = client.get(&with_query("/memories", &query)).await?;
            terminal.object(&json!({ "memories": rows }))?;
            list(terminal, rows)?;
        }
        MemoryCommand::Show { id } => {
            let row: Memory = client.get(&format!("/memories/{}", encode(&id))).await?;
            terminal.object(&row)?;
            show(terminal, &row)?;
        }
        MemoryCommand::Why { run } => {
            let given: GivenMemories = client.get(&format!("/runs/{}/memories", encode(&run))).await?;
            terminal.object(&given)?;
            why(terminal, given)?;
        }
        MemoryCommand::Add { text, project, about } => {
            let (path, line) = match about.as_deref().map(place) {
                Some((path, line)) => (Some(path), line),
                None => (None, None),
            };
            let row: Memory = client.post("/memories", &NewLesson { project, text, path, line }, None).await?;
            terminal.object(&row)?;
            terminal.line(Style::Green, &format!("{} is stored", row.id))?;
            terminal.suggest("Attempts are given lessons if memory.give contains \"lesson\".")?;
        }
        MemoryCommand::Promote { id } => {
            let run: Run = client.post(&format!("/memories/{}/promote", encode(&id)), &json!({}), None).await?;
            terminal.object(&json!({ "run": run }))?;
            terminal.print(&format!("run {}: {}", run.short_id, brief(&run.goal.title, MAX_TITLE)))?;
            terminal.suggest(&format!("Follow it with `skep watch {}`.", run.short_id))?;
        }
        MemoryCommand::Forget(ForgetArgs { id, run, path, author, project }) => {
            let which = ForgetMemories { project, id, run, path, author };
            let done: ForgottenMemories = client.post("/memories/forget", &which, None).await?;
            terminal.object(&done)?;
            let forgotten = count(done.forgotten.len() as u64, "row");
            terminal.line(Style::Green, &format!("{forgotten} forgotten"))?;
        }
        MemoryCommand::Sweep { project } => {
            let swept: SweptMemories = client.post("/memories/sweep", &SweepMemories { project }, None).await?;
            terminal.object(&swept)?;
            let checked = count(swept.checked, "row");
            let found = format!("{checked} checked: {} stale; {} expired and removed", swept.stale, swept.expired);
            terminal.line(Style::Green, &found)?;
            for problem in &swept.problems {
                terminal.prose(Style::Red, &format!("cannot check {problem}"), 2)?;
            }
            if !swept.problems.is_empty() {
                return Ok(ExitStatus::TryAgain);
            }
        }
        MemoryCommand::Effect { project } => {
            let effect: MemoryEffect = client.get(&with_query("/memories/effect", &[("project", project)])).await?;
            terminal.object(&effect)?;
            print_effect(terminal, &effect)?;
        }
    }
    Ok(ExitStatus::Success)
}

/// Returns whether a command only reads.
pub fn only_reads(command: &MemoryCommand) -> bool {
    use MemoryCommand::{Effect, List, Show, Why};
    matches!(command, List { .. } | Show { .. } | Why { .. } | Effect { .. })
}

/// Splits `FILE:LINE`; without a line, the whole text is the file.
fn place(about: &str) -> (String, Option<u64>) {
    let split = about.rsplit_once(':').and_then(|(path, line)| Some((path, line.parse().ok()?)));
    split.map_or_else(|| (about.to_owned(), None), |(path, line)| (path.to_owned(), Some(line)))
}

fn list(terminal: &Terminal, rows: Vec<Memory>) -> Result<(), Stop> {
    if rows.is_empty() {
        return terminal.suggest("No memory. Runs leave some when they end, if they have shown something.");
    }
    let cells = rows.into_iter().map(|row| {
        let places = places(&row.cites);
        vec![row.id, row.project, row.kind, row.state, brief(&row.title, MAX_TITLE), places, moment(row.seen_at)]
    });
    let head = ["id", "project", "kind", "state", "what", "about", "seen"];
    terminal.print(&table(&head, cells.collect(), terminal.width))
}

fn places(cites: &[MemoryCitation]) -> String {
    let place = |cite: &MemoryCitation| match (cite.from, cite.to) {
        (Some(from), Some(to)) if from != to => format!("{}:{from}-{to}", cite.path),
        (Some(from), _) => format!("{}:{from}", cite.path),
        _ => cite.path.clone(),
    };
    cites.iter().map(place).collect::<Vec<_>>().join(", ")
}

fn show(terminal: &Terminal, row: &Memory) -> Result<(), Stop> {
    let field = |name: &str, text: &str| match text.is_empty() {
        true => Ok(()),
        false => terminal.prose(Style::Plain, &format!("  {name:<9} {text}"), 12),
    };
    terminal.prose(Style::Plain, &format!("{} {}", row.id, row.title), 4)?;
    field("project", &row.project)?;
    field("kind", &row.kind)?;
    field("state", &row.state)?;
    field("says", &row.body)?;
    field("about", &places(&row.cites))?;
    field("author", &row.author)?;
    field("given to", row.step.as_deref().unwrap_or("plan, develop, review"))?;
    if let (Some(run), Some(seq)) = (&row.run, row.seq) {
        field("proof", &format!("event {seq} of run {run}"))?;
    }
    field("seen", &format!("{}, first {}", moment(row.seen_at), moment(row.created_at)))?;
    field("ends", &moment(row.ends_at))?;
    if row.state != "forgotten" {
        terminal.suggest(&format!("  skep memory forget --id {}", row.id))?;
    }
    Ok(())
}

fn why(terminal: &Terminal, given: GivenMemories) -> Result<(), Stop> {
    if given.given.is_empty() {
        let reason = match given.arm.as_str() {
            "holdout" => "This run belongs to the holdout: it is given nothing, so that the others can be compared.",
            "off" => "This run was opened without memory (memory.give).",
            _ => "No attempt of this run was given anything: nothing fitted its tasks.",
        };
        return terminal.suggest(reason);
    }
    let cells = given.given.into_iter().map(|given| {
        let (title, about) = match &given.row {
            Some(row) => (brief(&row.title, MAX_TITLE), places(&row.cites)),
            None => ("(a section of a document, or a row that is gone)".to_owned(), String::new()),
        };
        vec![given.attempt, given.memory, title, about]
    });
    terminal.print(&table(&["attempt", "id", "what", "about"], cells.collect(), terminal.width))
}

fn print_effect(terminal: &Terminal, effect: &MemoryEffect) -> Result<(), Stop> {
    let row = |name: &str, arm: &MemoryArm| {
        let share = arm.landed.saturating_mul(100).checked_div(arm.runs).unwrap_or(0);
        vec![
            name.to_owned(),
            arm.runs.to_string(),
            format!("{} ({share} %, 95 %: {:.0} to {:.0} %)", arm.landed, arm.low * 100.0, arm.high * 100.0),
            arm.landed_late.to_string(),
            format!("{:.2}", arm.mean_rounds),
            money(arm.mean_cost_micros.round().max(0.0) as u64),
            arm.with_rows.to_string(),
        ]
    };
    let head = ["memory", "runs", "landed", "late", "rounds", "cost", "got rows"];
    let rows = vec![row("given", &effect.given), row("holdout", &effect.holdout)];
    terminal.print(&table(&head, rows, terminal.width))?;
    let verdict = match effect.is_conclusive {
        true => format!("p = {:.3} (Fisher's exact test, two-sided).", effect.p_value),
        false => "Fewer than 20 runs in one of them: this says nothing yet.".to_owned(),
    };
    terminal.prose(Style::Plain, &verdict, 0)?;
    if effect.void > 0 {
        let left_out = count(effect.void, "run");
        let text = format!("{left_out} ended for reasons that say nothing about the work, and are left out.");
        terminal.prose(Style::Plain, &text, 0)?;
    }
    if effect.is_cut {
        terminal.prose(Style::Plain, "There are more runs than are compared; the newest were.", 0)?;
    }
    Ok(())
}
