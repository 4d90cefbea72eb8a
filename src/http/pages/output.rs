//! Output of engines and checks: the list, and one output with its colors, page by page.

use super::parts::ansi;
use super::problem::PageResult;
use super::shell::{self, Page};
use super::visit::Person;
use super::{State, look, run};
use crate::domain::ArtifactKind;
use crate::secrets::redact_all;
use crate::service::{artifacts, runs, watch};
use axum::extract::{Path, Query, State as Shared};
use maud::{Markup, PreEscaped, html};
use serde::Deserialize;

/// Lines of a page.
const PAGE_LINES: usize = 2_000;
/// Characters of the text that lines are filtered by.
const MAX_FILTER: usize = 200;
/// Outputs in the list; the newest are listed.
const MAX_OUTPUTS: usize = 300;

/// `GET /runs/{id}/output`.
pub async fn list(Shared(state): Shared<State>, person: Person, Path(id): Path<String>) -> PageResult<Markup> {
    let run = runs::show(&state.services, &person.caller, &id).await?;
    let logs = artifacts::logs(&state.services, &person.caller, &id).await?;
    let recent = watch::recent_output(&state.services, &run);
    let text: String = recent.iter().map(|(_, line)| format!("{}\n", redact_all(line))).collect();
    let printed = ansi::lines(text.as_bytes());
    let content = html! {
        (run::head(&person.visit, &run, "/output"))
        @if !printed.is_empty() { section aria-labelledby="now" {
            h2 id="now" { "Now" }
            p.quiet { "The last lines of what is at work; all of it is listed below when it has ended." }
            pre { @for line in &printed { (line) "\n" } }
        } }
        @else if logs.is_empty() { (look::empty("There is no output yet.", html! { "What engines and checks print appears here." })) }
        @if !logs.is_empty() {
            table.list {
                caption.hidden-title { "Outputs, newest first" }
                thead { tr { th scope="col" { "Output" } th scope="col" { "Of" } th scope="col" { "Kind" } th.num scope="col" { "Size" } } }
                tbody { @for log in logs.iter().rev().take(MAX_OUTPUTS) {
                    tr data-row {
                        td.wide data-th="Output" { a href={ "/runs/" (run.id) "/output/" (log.artifact.digest) } { (look::line(&log.artifact.name)) } }
                        td data-th="Of" {
                            @if let Some(attempt) = log.attempt { code { (attempt) } " " @if let Some(a) = run.attempt(attempt) { (a.step.name()) } }
                            @else { "check" }
                            @if let Some(task) = log.task { " " code { (task) } }
                        }
                        td data-th="Kind" { (kind(log.artifact.kind)) }
                        td.num data-th="Size" { (size(log.artifact.size)) }
                    }
                } }
            }
            @if logs.len() > MAX_OUTPUTS { p.quiet { (logs.len() - MAX_OUTPUTS) " older outputs are not listed." } }
        }
    };
    let title = format!("Output · {}", run.goal.title());
    Ok(shell::page(&person.visit, Page { title: &title, live: Some(format!("output:{}", run.id)), content }))
}

/// Part of an output.
#[derive(Deserialize)]
pub struct OutputQuery {
    #[serde(default)]
    q: String,
    from: Option<usize>,
}

/// `GET /runs/{id}/output/{digest}`.
pub async fn show(
    Shared(state): Shared<State>,
    person: Person,
    Path((id, digest)): Path<(String, String)>,
    Query(query): Query<OutputQuery>,
) -> PageResult<Markup> {
    let run = runs::show(&state.services, &person.caller, &id).await?;
    let file = artifacts::bytes(&state.services, &person.caller, &id, &digest).await?;
    let filter: String = query.q.chars().take(MAX_FILTER).collect();
    let lines: Vec<(usize, Markup)> = (1..).zip(ansi::lines(&file.bytes)).collect();
    let total = lines.len();
    let needle = html! { (super::parts::hidden::visible(&filter)) }.into_string().to_lowercase();
    let matches = |line: &Markup| needle.is_empty() || plain(&line.0).to_lowercase().contains(&needle);
    let lines: Vec<(usize, Markup)> = lines.into_iter().filter(|(_, line)| matches(line)).collect();
    // The end of the output shows how the command ended, so it comes first.
    let last = lines.len().saturating_sub(PAGE_LINES);
    let from = query.from.unwrap_or(last).min(lines.len());
    let to = from.saturating_add(PAGE_LINES).min(lines.len());
    let digest = digest.to_ascii_lowercase();
    let part = |from: usize| format!("/runs/{}/output/{digest}?from={from}&q={}", run.id, look::in_query(&filter));
    let pager = html! {
        @if from > 0 { a.button href=(part(0)) { "Beginning" } a.button href=(part(from.saturating_sub(PAGE_LINES))) { "Earlier lines" } }
        @if to < lines.len() { a.button href=(part(to)) { "Later lines" } a.button href=(part(last)) { "End" } }
    };
    let content = html! {
        (run::head(&person.visit, &run, "/output"))
        div.toolbar {
            p { a href={ "/runs/" (run.id) "/output" } { "All outputs" } " / " strong { (look::line(&file.name)) }
                span.quiet { " " (total) " lines, " (size(file.bytes.len() as u64)) } }
            form.filters method="get" { label { "Only lines with " input name="q" value=(filter) maxlength="200"; } button.button type="submit" { "Filter" } }
        }
        @if lines.is_empty() { (look::empty("No line matches.", html! { a href={ "/runs/" (run.id) "/output/" (digest) } { "Show the whole output" } })) }
        @else {
            (look::pager("Parts of the output", &pager))
            div.scroll { table.log { tbody { @for (n, line) in &lines[from..to] {
                tr id={ "L" (n) } { td.n { a href={ "#L" (n) } { (n) } } td.c { bdi { (line) } } }
            } } } }
            (look::pager("Parts of the output, below it", &pager))
        }
    };
    let title = format!("{} · {}", file.name, run.goal.title());
    Ok(shell::page(&person.visit, Page { title: &title, live: None, content }))
}

/// Returns a line of markup without its tags.
fn plain(markup: &str) -> String {
    let mut text = String::with_capacity(markup.len());
    let mut in_tag = false;
    for c in markup.chars() {
        match c {
            '<' => in_tag = true,
            '>' => in_tag = false,
            c if !in_tag => text.push(c),
            _ => {}
        }
    }
    text
}

fn kind(kind: ArtifactKind) -> &'static str {
    match kind {
        ArtifactKind::Patch => "diff",
        ArtifactKind::Transcript => "transcript",
        ArtifactKind::Log => "log",
        ArtifactKind::TestReport => "test report",
        ArtifactKind::Review => "review",
        ArtifactKind::Prompt => "prompt",
    }
}

fn size(bytes: u64) -> PreEscaped<String> {
    let text = match bytes {
        0..=1_023 => format!("{bytes} B"),
        1_024..=1_048_575 => format!("{} KiB", bytes.div_ceil(1_024)),
        _ => format!("{}.{} MiB", bytes / 1_048_576, bytes % 1_048_576 * 10 / 1_048_576),
    };
    html! { (text) }
}
