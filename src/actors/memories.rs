//! Memory: what a run that ends has shown is stored, and an attempt that starts is given what fits it.
//!
//! Invariant: no run fails because of memory: what cannot be read is not given, and an ended run waits for the store only as
//! long as for any other write.

use super::deps::Deps;
use super::retry::patiently;
use super::target::RunTarget;
use crate::domain::memory::document::{MAX_DOCUMENTS, MAX_SECTIONS, is_document, sections};
use crate::domain::memory::rank::{MAX_CHECKED, Selection};
use crate::domain::memory::{Citation, Derived, Draft, Memory, MemoryId, MemoryKind, MemoryState, Query, Record, rank};
use crate::domain::{Order, Run, Sha, Step, Timestamp};
use crate::ports::memories::{GivenMemory, NewMemories};
use crate::ports::{PortResult, Repo, Workspaces};
use crate::secrets::redact_all;
use std::collections::BTreeMap;
use std::time::Duration;

/// Stores what an ended run has shown. Doing it again changes nothing, so it comes before the run's last event is
/// written: a process that is killed in between does it once more. What cannot be stored within `patience` is lost.
pub(super) async fn remember(deps: &Deps, run: &Run, derived: &Derived, patience: Duration) {
    let repo = Repo { project: run.project.clone(), origin: run.settings.origin.clone() };
    let mut files = Files { workspaces: deps.workspaces.as_ref(), repo: &repo, sha: &run.head, read: BTreeMap::new() };
    let mut rows = Vec::new();
    for draft in &derived.found {
        if holds_secret(draft) {
            tracing::warn!(run = %run.id, seq = draft.seq, "a memory was not stored: its text looks like a secret");
            continue;
        }
        let mut cites = Vec::new();
        for place in draft.places.iter().take(Memory::MAX_CITES) {
            if let Some(text) = files.text(&place.path).await {
                cites.push(Citation::of_line(&place.path, place.line, &text));
            }
        }
        // What is about files that are not there has nothing to be checked against.
        if cites.is_empty() && !draft.places.is_empty() {
            continue;
        }
        rows.push(row(run, draft.clone(), cites));
    }
    let ended =
        derived.ended.iter().map(|(key, at)| (MemoryId::of(&run.project, MemoryKind::Fact, key), *at)).collect();
    let new = NewMemories { rows, ended };
    if new.rows.is_empty() && new.ended.is_empty() {
        return;
    }
    crate::fault!("before-memory");
    let stored = patiently(patience, || deps.store.remember(&run.project, &new, deps.clock.now())).await;
    crate::fault!("after-memory");
    if let Err(error) = stored {
        tracing::warn!(run = %run.id, %error, "what the run has shown is not stored");
    }
}

fn holds_secret(draft: &Draft) -> bool {
    [&draft.title, &draft.body].into_iter().any(|text| redact_all(text) != text.as_str())
}

fn row(run: &Run, draft: Draft, cites: Vec<Citation>) -> Memory {
    Memory {
        id: MemoryId::of(&run.project, draft.kind, &draft.key),
        project: run.project.clone(),
        kind: draft.kind,
        state: MemoryState::Live,
        author: draft.author,
        step: draft.step,
        title: draft.title,
        body: draft.body,
        cites,
        run: Some(run.id),
        seq: draft.seq,
        created_at: draft.at,
        seen_at: draft.at,
        ends_at: Memory::end(draft.kind, draft.at, draft.at),
    }
}

/// Returns the rows that an attempt is given, with their citations as they are at its base, and records that it is.
pub(super) async fn choose(deps: &Deps, target: &RunTarget, order: &Order) -> Vec<Memory> {
    // An outside agent is given what its offer says, and explorers look for themselves.
    let is_given = !order.engine.is_open() && order.step != Step::Explore && !target.memory.is_empty();
    if !is_given {
        return Vec::new();
    }
    match chosen(deps, target, order).await {
        Ok(rows) => rows,
        Err(error) => {
            tracing::warn!(run = %order.run, attempt = %order.attempt, %error, "the attempt is given no memory");
            Vec::new()
        }
    }
}

async fn chosen(deps: &Deps, target: &RunTarget, order: &Order) -> PortResult<Vec<Memory>> {
    let (repo, now) = (&target.repo, deps.clock.now());
    let mut files = Files { workspaces: deps.workspaces.as_ref(), repo, sha: &order.base, read: BTreeMap::new() };
    let mut rows = deps.store.recall(&repo.project, now).await?;
    rows.retain(|(row, _)| target.memory.contains(&row.kind) && row.is_usable(order.step, now));
    if target.memory.contains(&MemoryKind::Document) {
        rows.extend(documents(&mut files, now).await?.into_iter().map(|row| (row, Record::default())));
    }
    let mut selection = Selection::default();
    for (index, _) in rank(&rows, &Query::of(order), now).into_iter().take(MAX_CHECKED) {
        let Some((row, _)) = rows.get(index).filter(|(row, _)| selection.has_room_for(row)) else { continue };
        match current(&mut files, row).await {
            Some(row) => selection.add(row),
            None => tracing::debug!(memory = %row.id, "a memory is out of date at the base, and not given"),
        }
    }
    let given = |row: &Memory| GivenMemory { run: order.run, attempt: order.attempt, memory: row.id.clone() };
    let given: Vec<GivenMemory> = selection.rows.iter().map(given).collect();
    if !given.is_empty() {
        // What is not recorded would distort what memory is measured by.
        deps.store.give(&repo.project, &given).await?;
    }
    Ok(selection.rows)
}

/// Returns a row with its citations where they are now; `None` = one of them is gone.
async fn current(files: &mut Files<'_>, row: &Memory) -> Option<Memory> {
    let mut cites = Vec::with_capacity(row.cites.len());
    for cite in &row.cites {
        cites.push(cite.locate(&files.text(&cite.path).await?)?);
    }
    Some(Memory { cites, ..row.clone() })
}

async fn documents(files: &mut Files<'_>, now: Timestamp) -> PortResult<Vec<Memory>> {
    let paths = files.workspaces.paths(files.repo, files.sha).await?;
    let mut found = Vec::new();
    for path in paths.iter().filter(|path| is_document(path)).take(MAX_DOCUMENTS) {
        if let Some(text) = files.text(path).await {
            found.extend(sections(&files.repo.project, path, &text, now));
        }
    }
    found.truncate(MAX_SECTIONS);
    Ok(found)
}

/// Files of a repository at one commit, each read once.
struct Files<'f> {
    workspaces: &'f dyn Workspaces,
    repo: &'f Repo,
    sha: &'f Sha,
    read: BTreeMap<String, Option<String>>,
}

impl Files<'_> {
    /// Returns a file's text; `None` = there is no such file, or it cannot be read.
    async fn text(&mut self, path: &str) -> Option<String> {
        if !self.read.contains_key(path) {
            let bytes = self.workspaces.read_at(self.repo, self.sha, path).await;
            let bytes = bytes.inspect_err(|error| tracing::debug!(path, %error, "a cited file cannot be read"));
            let text = bytes.ok().flatten().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            self.read.insert(path.to_owned(), text);
        }
        self.read.get(path).cloned().flatten()
    }
}
