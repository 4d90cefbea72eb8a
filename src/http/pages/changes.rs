//! The changes of a run or of a task: all files, then their lines, unified or side by side.

use super::parts::diff_view::{CommentLink, Layout, View};
use super::parts::hidden;
use super::problem::PageResult;
use super::shell::{self, Page};
use super::visit::{Person, Visit};
use super::{State, look, run};
use crate::domain::{Block, BlockKind, Run, Subject};
use crate::ports::seen_changes::SeenChange;
use crate::render;
use crate::render::diff::{self, FileDiff};
use crate::secrets::redact_all;
use crate::service::{ErrorKind, artifacts, runs, seen};
use axum::extract::{Path, Query, State as Shared};
use maud::{Markup, html};
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// Lines of all files on the first page; further files are opened by their links.
const MAX_LINES: usize = 3_000;
/// Lines of one file on its own page.
const FILE_LINES: usize = 2_000;
/// Files in the list.
const MAX_FILES: usize = 1_000;
/// Conflicting files that are named.
const MAX_CONFLICTS: usize = 5;
/// Bytes from which the patch is cut by the store of patches.
const MAX_PATCH_BYTES: usize = 1 << 20;

/// Query of the page.
#[derive(Clone, Default, Deserialize)]
pub struct ChangesQuery {
    task: Option<String>,
    view: Option<String>,
    file: Option<usize>,
    #[serde(default)]
    from: usize,
    /// Whether only what changed since the person last looked is shown.
    since: Option<String>,
    /// A line that the decline is about, `file:line`, with the file by its number.
    at: Option<String>,
}

/// `GET /runs/{id}/changes`.
pub async fn changes(
    Shared(state): Shared<State>,
    person: Person,
    Path(id): Path<String>,
    Query(query): Query<ChangesQuery>,
) -> PageResult<Markup> {
    let run = runs::show(&state.services, &person.caller, &id).await?;
    // The changes of a task are not what a person approves, so it is not remembered that they were seen.
    let before = match query.task {
        None => seen::see(&state.services, &person.caller, &run).await?,
        Some(_) => None,
    };
    let since = match before.as_ref().filter(|_| query.since.is_some()) {
        Some(before) => match seen::since(&state.services, &person.caller, &run, before).await {
            Ok(since) => Some(since),
            Err(error) if error.code == "not_possible" => None,
            Err(error) => return Err(error.into()),
        },
        None => None,
    };
    let is_since = since.is_some();
    let is_lost = before.is_some() && query.since.is_some() && !is_since;
    let conflicts = since.as_ref().map(|since| since.conflicts.clone()).unwrap_or_default();
    let patch = match since {
        Some(since) => since.patch.bytes,
        None => whole_patch(&state, &person, &id, query.task.as_deref()).await?,
    };
    let is_cut = patch.len() >= MAX_PATCH_BYTES;
    let text = String::from_utf8_lossy(&patch);
    let text = redact_all(&text);
    let files = diff::parse(&text);
    let visit = &person.visit;
    let content = html! {
        (run::head(visit, &run, "/changes"))
        (toolbar(&run, &query, &files, question_about(&run, &query).is_some()))
        @if let Some(before) = &before { (switch_since(visit, &run, &query, before, is_since)) }
        @if is_lost { p.notice { "What you saw is no longer stored: these are all changes." } }
        @if !conflicts.is_empty() { p.notice { "The base changed in the same places of "
            @for (n, path) in conflicts.iter().take(MAX_CONFLICTS).enumerate() { @if n > 0 { ", " } code { (look::line(path)) } }
            @if conflicts.len() > MAX_CONFLICTS { " and " (conflicts.len() - MAX_CONFLICTS) " more files" }
            ": what you saw there is shown between conflict markers." } }
        @if files.is_empty() && is_since {
            (look::empty("Nothing of the changes is different.", html! { "Only what they are based on has moved." }))
            (decision(visit, &run, &query, &files))
        } @else if files.is_empty() {
            @let tasks = artifacts::tasks_with_patches(&run);
            @if tasks.is_empty() || query.task.is_some() {
                (look::empty("Nothing has changed yet.", html! { "The work of a task appears here when its attempt ends." }))
            } @else {
                (look::empty("The run's branch has no changes yet.", html! { "A task changed something that did not get there: "
                    @for (n, task) in tasks.iter().enumerate() { @if n > 0 { ", " } a href={ "?task=" (task) } { (task) } } }))
            }
        } @else {
            @if is_cut { p.notice { "The diff is larger than 1 MiB: the files below are its beginning. The branch "
                code { (look::line(&run.settings.branch)) } " has all of it." } }
            div.review {
                (file_list(&run, &query, &files))
                div { (bodies(&run, &query, &files)) (decision(visit, &run, &query, &files)) }
            }
        }
    };
    // A diff that is read must not change under the reader, so it is not replaced: the script shows that the run
    // has moved.
    let live = Some(format!("moved:{}", run.id));
    Ok(shell::page(visit, Page { title: &format!("Changes · {}", run.goal.title()), live, content }))
}

/// Returns the diff of the run's branch or of a task; empty if nothing changed.
async fn whole_patch(state: &State, person: &Person, id: &str, task: Option<&str>) -> PageResult<Vec<u8>> {
    match artifacts::patch(&state.services, &person.caller, id, task).await {
        Ok(file) => Ok(file.bytes),
        Err(error) if error.kind == ErrorKind::NotFound && matches!(error.code, "no_patch" | "no_run_patch") => {
            Ok(Vec::new())
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns the address of the page with another query.
fn address(run: &Run, query: &ChangesQuery, anchor: &str) -> String {
    let mut pairs = Vec::new();
    pairs.extend(query.task.as_ref().map(|task| format!("task={}", look::in_query(task))));
    pairs.extend(query.view.as_ref().filter(|v| *v == "split").map(|_| "view=split".to_owned()));
    pairs.extend(query.since.as_ref().map(|_| "since=seen".to_owned()));
    pairs.extend(query.file.map(|n| format!("file={n}")));
    pairs.extend(Some(query.from).filter(|from| *from > 0).map(|from| format!("from={from}")));
    pairs.extend(query.at.as_ref().map(|at| format!("at={}", look::in_query(at))));
    let sign = if pairs.is_empty() { "" } else { "?" };
    format!("/runs/{}/changes{sign}{}{anchor}", run.id, pairs.join("&"))
}

/// Returns the switch between all changes and those since the person last looked.
fn switch_since(visit: &Visit, run: &Run, query: &ChangesQuery, before: &SeenChange, is_since: bool) -> Markup {
    let of = |since: Option<String>| {
        address(run, &ChangesQuery { since, file: None, from: 0, at: None, ..query.clone() }, "")
    };
    html! {
        div.toolbar {
            p.quiet { "You looked at " (look::sha(&before.head)) " " (look::ago(before.at, visit.at())) "."
                @if before.base != run.base { " The base has moved since: " (look::sha(&before.base)) " → " (look::sha(&run.base)) "." } }
            p.switch role="group" aria-label="Which changes" {
                a.button href=(of(None)) aria-current=[(!is_since).then_some("true")] { "All changes" }
                a.button href=(of(Some("seen".to_owned()))) aria-current=[is_since.then_some("true")] { "Since you last looked" }
            }
        }
    }
}

fn layout(query: &ChangesQuery) -> Layout {
    if query.view.as_deref() == Some("split") { Layout::Split } else { Layout::Unified }
}

fn toolbar(run: &Run, query: &ChangesQuery, files: &[FileDiff<'_>], is_asked: bool) -> Markup {
    let (added, removed) = files.iter().map(FileDiff::counts).fold((0, 0), |(a, r), (x, y)| (a + x, r + y));
    let view = |view: &str| address(run, &ChangesQuery { view: Some(view.to_owned()), at: None, ..query.clone() }, "");
    let is_split = layout(query) == Layout::Split;
    html! {
        div.toolbar {
            p {
                strong { (render::count(files.len() as u64, "file")) } " changed, "
                span.plus { "+" (added) } " " span.minus { "−" (removed) }
                @if let Some(task) = &query.task { ", task " code { (look::line(task)) } ". "
                    a href={ "/runs/" (run.id) "/changes" } { "Show the whole run" } }
                span #viewed {}
            }
            @let tasks: Vec<_> = run.tasks.iter().filter(|t| t.head.is_some()).take(40).collect();
            @if tasks.len() > 1 { p.quiet { "By task: " @for task in tasks {
                a href={ "/runs/" (run.id) "/changes?task=" (task.id) } title=(look::plain(&task.spec.title)) { (task.id) } " " } } }
            p.switch role="group" aria-label="Layout" {
                a.button href=(view("unified")) aria-current=[(!is_split).then_some("true")] { "Unified" }
                a.button href=(view("split")) aria-current=[is_split.then_some("true")] { "Side by side" }
                @if is_asked { a.button.primary href="#decision" { "Decide" } }
            }
        }
    }
}

/// Returns the list of all files with the size of their changes.
fn file_list(run: &Run, query: &ChangesQuery, files: &[FileDiff<'_>]) -> Markup {
    html! {
        nav.files aria-label="Files" { ul.plain {
            @for (n, file) in files.iter().enumerate().take(MAX_FILES) {
                li {
                    @let (added, removed) = file.counts();
                    a href=(address(run, &ChangesQuery { file: None, from: 0, at: None, ..query.clone() }, &format!("#f{n}"))) {
                        (look::line(&file.path)) }
                    " " span.quiet { span.plus { "+" (added) } " " span.minus { "−" (removed) } }
                }
            }
            @if files.len() > MAX_FILES { li.quiet { (files.len() - MAX_FILES) " more files" } }
        } }
    }
}

fn bodies(run: &Run, query: &ChangesQuery, files: &[FileDiff<'_>]) -> Markup {
    let view = View::new(layout(query));
    if let Some((n, file)) = query.file.and_then(|n| Some((n, files.get(n)?))) {
        let (from, lines) = (query.from.min(file.lines()), file.lines());
        let to = from.saturating_add(FILE_LINES).min(lines);
        let part = |from: usize| address(run, &ChangesQuery { from, at: None, ..query.clone() }, "");
        return html! {
            p { a href=(address(run, &ChangesQuery { file: None, from: 0, at: None, ..query.clone() }, &format!("#f{n}"))) { "All files" } }
            (file_card(run, query, &view, n, file, from..to))
            (look::pager("Parts of the file", &html! {
                @if from > 0 { a.button href=(part(from.saturating_sub(FILE_LINES))) { "Earlier lines" } }
                @if to < lines { a.button href=(part(to)) { "Later lines" } }
            }))
        };
    }
    let mut left = MAX_LINES;
    html! {
        @for (n, file) in files.iter().enumerate().take(MAX_FILES) {
            @let lines = file.lines();
            @let fits = lines <= left;
            ({ if fits { left -= lines; } "" })
            (file_card(run, query, &view, n, file, 0..if fits { lines } else { 0 }))
        }
    }
}

fn file_card(
    run: &Run,
    query: &ChangesQuery,
    view: &View,
    n: usize,
    file: &FileDiff<'_>,
    part: std::ops::Range<usize>,
) -> Markup {
    let (added, removed) = file.counts();
    let hidden = file.hunks.iter().flat_map(|h| &h.lines).map(|l| hidden::count(l.text)).sum::<usize>();
    let concern = run.concerns().iter().any(|c| match c {
        crate::domain::Concern::Protected { paths } | crate::domain::Concern::Tests { paths, .. } => {
            paths.contains(&file.path)
        }
        _ => false,
    });
    let comment = |line: u64| {
        let at = Some(format!("{n}:{line}"));
        address(run, &ChangesQuery { at, ..query.clone() }, "#decision")
    };
    let comment: Option<CommentLink<'_>> = question_about(run, query).is_some().then_some(&comment);
    html! {
        section.file id={ "f" (n) } data-path=(file.path) data-digest=(digest(file)) {
            header {
                h2 { (look::line(&file.path)) }
                span.quiet { span.plus { "+" (added) } " " span.minus { "−" (removed) } }
                @for flag in &file.flags { span.tag { (look::line(flag)) } }
                @if concern { span.tag.warn { "needs a look" } }
                @if hidden > 0 { span.tag.warn { (render::count(hidden as u64, "hidden character")) } }
                // Shown by the script, which remembers it.
                label.check.viewed hidden { input type="checkbox"; " Viewed" }
            }
            @if !part.is_empty() { div.scroll { (view.table(file, part, comment)) } }
            @else if file.lines() > 0 {
                p { a.button href=(address(run, &ChangesQuery { file: Some(n), from: 0, at: None, ..query.clone() }, "")) {
                    "Show " (render::count(file.lines() as u64, "line")) } }
            } @else { p.quiet { "No lines to show." } }
        }
    }
}

/// Returns what identifies the changes of a file: a browser remembers by it that they were viewed.
fn digest(file: &FileDiff<'_>) -> String {
    let mut hasher = Sha256::new();
    hasher.update(&file.path);
    for line in file.hunks.iter().flat_map(|h| &h.lines) {
        hasher.update(format!("\n{} {} ", line.old, line.new));
        hasher.update(line.text);
    }
    hasher.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// Returns the question that these changes are about, if the run asks one.
fn question_about<'a>(run: &'a Run, query: &ChangesQuery) -> Option<&'a Block> {
    let is_about = |kind: &BlockKind| match kind {
        BlockKind::Approval(Subject::Merge { .. }) => query.task.is_none(),
        BlockKind::Approval(Subject::Diff { task, .. }) => query.task.as_deref() == Some(&task.to_string()),
        _ => false,
    };
    run.blocks.iter().find(|b| is_about(&b.kind))
}

/// Returns the forms that answer the question about these changes.
fn decision(visit: &Visit, run: &Run, query: &ChangesQuery, files: &[FileDiff<'_>]) -> Markup {
    let Some(block) = question_about(run, query) else { return html! {} };
    let BlockKind::Approval(Subject::Merge { head, .. } | Subject::Diff { head, .. }) = &block.kind else {
        return html! {};
    };
    let Some(seen) = crate::service::actions::subject_of(&block.kind) else { return html! {} };
    let place = query.at.as_deref().and_then(|at| at.split_once(':')).and_then(|(file, line)| {
        let (file, line): (usize, u64) = (file.parse().ok()?, line.parse().ok()?);
        Some(format!("{}:{line}: ", files.get(file)?.path))
    });
    html! {
        section.card.question id="decision" aria-labelledby="decision-title" {
            h2 id="decision-title" { "Your decision" }
            form method="post" action={ "/q/" (run.id) "/" (block.id) } {
                (shell::token(visit))
                input type="hidden" name="answer" value="approve";
                input type="hidden" name="seen" value=(seen);
                button.button.primary type="submit" { "Approve " code { (head.abbrev()) } }
            }
            form.stacked method="post" action={ "/q/" (run.id) "/" (block.id) } {
                (shell::token(visit))
                input type="hidden" name="answer" value="decline";
                label for="reason" { "What should be different?" }
                p.quiet id="reason-hint" { "Follow a line number to put that line here." }
                textarea id="reason" name="text" rows="5" maxlength="60000" required aria-describedby="reason-hint"
                    placeholder="path:line: what is wrong, and what would be right" autofocus[place.is_some()] { (place.unwrap_or_default()) }
                button.button.danger type="submit" { "Decline" }
            }
        }
    }
}
