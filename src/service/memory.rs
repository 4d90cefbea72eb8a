//! Memory: what ended runs have shown about a project, listed, added to, checked, forgotten, and measured.

mod promote;

pub use promote::promote;

use super::audit::record;
use super::error::shown;
use super::{Caller, Right, ServiceError, ServiceResult, Services, input, projects, runs};
use crate::domain::memory::{
    Arm, ArmResult, Citation, Effect, Memory, MemoryId, MemoryKind, MemoryState, Query, one_line, rank,
};
use crate::domain::{OutcomeWord, Phase, Principal, Project, ProjectName, Run, Sha, Timestamp};
use crate::ports::memories::{Forget, GivenMemory, MemoryFilter, NewMemories};
use crate::ports::outcomes::OutcomeFilter;
use crate::ports::run_index::RunFilter;
use crate::ports::{PortError, Repo};
use crate::secrets::redact_all;
use std::collections::BTreeMap;

/// Runs that are read at once, and at most for one comparison: the newest.
const PAGE: u64 = 500;
const MAX_RUNS: usize = 5_000;
/// Words of a query that may be paths.
const MAX_QUERY_PATHS: usize = 50;
/// Upper bound on the bytes of an id that is looked up.
const MAX_ID_BYTES: usize = 64;

/// Query for rows.
#[derive(Clone, Debug, Default)]
pub struct MemoryQuery {
    /// Only of this project.
    pub project: Option<String>,
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only in this state; all but forgotten ones if absent.
    pub state: Option<String>,
    /// Ranked by relevance to this text, best first; citations are not checked. It needs a project.
    pub q: Option<String>,
    /// Maximum number of rows, 1 to 500; 100 if absent.
    pub limit: Option<u64>,
}

/// Row with its score, if it was ranked.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The row.
    pub memory: Memory,
    /// Its score; `None` = it was not ranked.
    pub score: Option<f64>,
}

/// Lists rows: those seen last first, or the best first.
///
/// # Errors
/// `missing_right` without [`Right::Read`]; `invalid` if the query is not usable, `no_project`.
pub async fn list(s: &Services, caller: &Caller, query: &MemoryQuery) -> ServiceResult<Vec<Found>> {
    let named = projects::named(caller, Right::Read, query.project.as_deref())?;
    let limit = input::rows(query.limit)?;
    let kind = query.kind.as_deref().map(kind).transpose()?;
    if let Some(text) = &query.q {
        input::text(text)?;
        if query.state.is_some() {
            return Err(ServiceError::invalid("state: only live rows are ranked", "Leave `state` or `q` out"));
        }
        let Some(project) = &named else {
            return Err(ServiceError::invalid("q: it ranks the rows of one project", "Give the `project` as well"));
        };
        let project = projects::find(s, project.as_str()).await?;
        let now = s.clock.now();
        let mut rows = s.store.recall(&project.name, now).await?;
        rows.retain(|(row, _)| kind.is_none_or(|kind| row.kind == kind));
        let paths = text.split_whitespace().filter(|word| word.contains(['/', '.'])).take(MAX_QUERY_PATHS);
        let query = Query { text: text.clone(), paths: paths.map(str::to_owned).collect() };
        let ranked = rank(&rows, &query, now).into_iter().take(usize::try_from(limit).unwrap_or(usize::MAX));
        let found = |(index, score): (usize, f64)| {
            rows.get(index).map(|(row, _)| Found { memory: row.clone(), score: Some(score) })
        };
        return Ok(ranked.filter_map(found).collect());
    }
    let filter =
        MemoryFilter { project: named, id: None, kind, state: query.state.as_deref().map(state).transpose()?, limit };
    let rows = s.store.list_memories(&filter).await?;
    Ok(rows.into_iter().map(|memory| Found { memory, score: None }).collect())
}

fn kind(text: &str) -> ServiceResult<MemoryKind> {
    MemoryKind::named(text).ok_or_else(|| {
        let detail = format!("kind: unknown kind {}", shown(text));
        ServiceError::invalid(detail, "Use fact, change, lesson or document")
    })
}

fn state(text: &str) -> ServiceResult<MemoryState> {
    MemoryState::named(text).ok_or_else(|| {
        let detail = format!("state: unknown state {}", shown(text));
        ServiceError::invalid(detail, "Use live, stale or forgotten")
    })
}

/// Returns a row by its id.
///
/// # Errors
/// `missing_right` without [`Right::Read`]; `no_memory`.
pub async fn show(s: &Services, caller: &Caller, id: &str) -> ServiceResult<Memory> {
    find_for(s, caller, Right::Read, id).await
}

/// Returns a row by its id. For callers who cannot read its project, it does not exist.
async fn find_for(s: &Services, caller: &Caller, right: Right, id: &str) -> ServiceResult<Memory> {
    caller.require_somewhere(right)?;
    let memory = find(s, id).await?;
    match caller.has(right, &memory.project) || caller.has(Right::Read, &memory.project) {
        true => caller.require_in(right, &memory.project).map(|()| memory),
        false => Err(no_memory(id)),
    }
}

fn no_memory(id: &str) -> ServiceError {
    let detail = format!("there is no memory {}", shown(id));
    ServiceError::not_found("no_memory", detail, "List the memory; an id has twelve digits")
}

async fn find(s: &Services, id: &str) -> ServiceResult<Memory> {
    // Postgres refuses a NUL.
    if id.len() > MAX_ID_BYTES || id.contains('\0') {
        return Err(no_memory(id));
    }
    let mut filter = MemoryFilter { id: Some(MemoryId(id.to_ascii_lowercase())), limit: 1, ..MemoryFilter::default() };
    for state in [None, Some(MemoryState::Forgotten)] {
        filter.state = state;
        if let Some(memory) = s.store.list_memories(&filter).await?.into_iter().next() {
            return Ok(memory);
        }
    }
    Err(no_memory(id))
}

/// What a run was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenToRun {
    /// Its arm.
    pub arm: Arm,
    /// What its attempts were given, by attempt; the row is `None` if it is gone, as sections of documents always are.
    pub given: Vec<(GivenMemory, Option<Memory>)>,
}

/// Returns what the attempts of a run were given, and why it may have been nothing.
///
/// # Errors
/// `missing_right` without [`Right::Read`]; `no_run`, `several_runs`.
pub async fn given(s: &Services, caller: &Caller, run: &str) -> ServiceResult<GivenToRun> {
    let run = runs::load(s, caller, Right::Read, run).await?;
    let mut known: BTreeMap<MemoryId, Option<Memory>> = BTreeMap::new();
    let mut given = Vec::new();
    for one in s.store.given(run.id).await? {
        if !known.contains_key(&one.memory) {
            let memory = match find(s, one.memory.as_str()).await {
                Ok(memory) => Some(memory),
                Err(error) if error.code == "no_memory" => None,
                Err(error) => return Err(error),
            };
            known.insert(one.memory.clone(), memory);
        }
        let memory = known.get(&one.memory).cloned().flatten();
        given.push((one, memory));
    }
    Ok(GivenToRun { arm: run.settings.policy.memory.arm(run.id), given })
}

/// Lesson to add.
#[derive(Clone, Debug, Default)]
pub struct NewLesson {
    /// The project.
    pub project: String,
    /// The lesson, at most 1,200 characters.
    pub text: String,
    /// The file it is about; it is given only while that file, or the line, is as it is now.
    pub path: Option<String>,
    /// The line, from 1; the file as a whole if absent.
    pub line: Option<u64>,
}

/// Adds a lesson by a person. The same lesson again lives longer.
///
/// # Errors
/// `missing_right` without [`Right::Approve`]; `not_a_person`, `no_project`, `invalid`, `forgotten`.
pub async fn add(s: &Services, caller: &Caller, new: &NewLesson) -> ServiceResult<Memory> {
    caller.require_somewhere(Right::Approve)?;
    if !caller.principal.is_person() {
        let detail = format!("{} is not a person, and only people write lessons", caller.principal);
        return Err(ServiceError::forbidden("not_a_person", detail, "Use the token of a person"));
    }
    let project = projects::find_for(s, caller, Right::Approve, &new.project).await?;
    let text = one_line(&new.text, Memory::MAX_BODY_CHARS + 1);
    if text.is_empty() || text.chars().count() > Memory::MAX_BODY_CHARS {
        let detail = format!("text: must have 1 to {} characters", Memory::MAX_BODY_CHARS);
        return Err(ServiceError::invalid(detail, "Write one lesson in a few sentences"));
    }
    if redact_all(&text) != text.as_str() {
        return Err(ServiceError::invalid("text: it looks like a secret", "Leave the secret out"));
    }
    let cites = match &new.path {
        Some(path) => vec![cited(s, &project, path, new.line.unwrap_or(0)).await?],
        None => Vec::new(),
    };
    let now = s.clock.now();
    let places: Vec<String> = cites.iter().map(|cite| cite.path.clone()).collect();
    let memory = Memory {
        id: MemoryId::of(&project.name, MemoryKind::Lesson, &format!("added/{}\n{text}", places.join(","))),
        project: project.name.clone(),
        kind: MemoryKind::Lesson,
        state: MemoryState::Live,
        author: caller.principal.clone(),
        step: None,
        title: one_line(&text, Memory::MAX_TITLE_CHARS),
        body: text,
        cites,
        run: None,
        seq: 0,
        created_at: now,
        seen_at: now,
        ends_at: Memory::end(MemoryKind::Lesson, now, now),
    };
    let new = NewMemories { rows: vec![memory.clone()], ended: Vec::new() };
    s.store.remember(&project.name, &new, now).await?;
    let stored = find(s, memory.id.as_str()).await?;
    if stored.state == MemoryState::Forgotten {
        let detail = "this lesson was forgotten, and what was forgotten is not stored again";
        return Err(ServiceError::conflict("forgotten", detail, "Write it in other words if it holds after all"));
    }
    // Without its text, which would stay in the audit log when the row is forgotten.
    record(s, caller, "memory.add", subject(&stored.id), "").await;
    Ok(stored)
}

/// Cites a place in a project's repository as it is now.
async fn cited(s: &Services, project: &Project, path: &str, line: u64) -> ServiceResult<Citation> {
    let (repo, head) = head(s, project).await?;
    let file = s.workspaces.read_at(&repo, &head, path).await?;
    let Some(bytes) = file.filter(|_| !path.is_empty()) else {
        let detail = format!("path: there is no file {} in {}", shown(path), project.name);
        return Err(ServiceError::invalid(detail, "Give its path from the root of the repository"));
    };
    let text = String::from_utf8_lossy(&bytes);
    if line > text.lines().count() as u64 {
        let detail = format!("line: {} has no line {line}", shown(path));
        return Err(ServiceError::invalid(detail, "Give a line of the file, or leave it out"));
    }
    Ok(Citation::of_line(path, line, &text))
}

async fn head(s: &Services, project: &Project) -> ServiceResult<(Repo, Sha)> {
    let repo = Repo { project: project.name.clone(), origin: project.repo.clone() };
    let (_, head) = s.workspaces.fetch(&repo, project.base.as_deref()).await?;
    Ok((repo, head))
}

fn subject(id: &MemoryId) -> String {
    format!("memory:{id}")
}

/// What to forget: the rows that fit every condition that is given.
#[derive(Clone, Debug, Default)]
pub struct ForgetRequest {
    /// Only of this project.
    pub project: Option<String>,
    /// The row with this id.
    pub id: Option<String>,
    /// Rows that this run showed last.
    pub run: Option<String>,
    /// Rows that cite this file.
    pub path: Option<String>,
    /// Rows that this author stated.
    pub author: Option<String>,
}

/// Forgets rows: their text is removed, and they are not made again. Returns their ids.
///
/// # Errors
/// `missing_right` without [`Right::Approve`]; `invalid` without a condition, `no_run`, `no_memory`.
pub async fn forget(s: &Services, caller: &Caller, request: &ForgetRequest) -> ServiceResult<Vec<MemoryId>> {
    caller.require_somewhere(Right::Approve)?;
    let id = match &request.id {
        Some(id) => Some(find_for(s, caller, Right::Approve, id).await?.id),
        None => None,
    };
    let run = match &request.run {
        Some(run) => Some(runs::find_id(s, caller, Right::Approve, run).await?),
        None => None,
    };
    // An id or a run belongs to a project that was checked.
    let project = match &request.project {
        None if id.is_some() || run.is_some() => None,
        name => projects::named(caller, Right::Approve, name.as_deref())?,
    };
    input::lines(request.path.iter().chain(&request.author))?;
    let (path, author) = (request.path.clone(), request.author.clone().map(Principal));
    if id.is_none() && run.is_none() && path.is_none() && author.is_none() {
        return Err(ServiceError::invalid("nothing says what to forget", "Give an id, a run, a path or an author"));
    }
    let which = Forget { project, id, run, path, author };
    let forgotten = s.store.forget(&which).await?;
    for id in &forgotten {
        record(s, caller, "memory.forget", subject(id), "").await;
    }
    Ok(forgotten)
}

/// Result of a sweep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Rows whose citations were checked.
    pub checked: u64,
    /// Rows that are stale now.
    pub stale: u64,
    /// Rows that had expired and were removed.
    pub expired: u64,
    /// Projects whose repository could not be read, with the reason.
    pub problems: Vec<String>,
}

/// Checks the citations of all live rows at the base as it is now, and removes those that have expired. Attempts check
/// what they are given anyway; a sweep makes the lists say the same.
///
/// # Errors
/// `missing_right` without [`Right::Run`]; `no_project`.
pub async fn sweep(s: &Services, caller: &Caller, project: Option<&str>) -> ServiceResult<Swept> {
    let all = match project {
        Some(name) => vec![projects::find_for(s, caller, Right::Run, name).await?],
        None => caller.require(Right::Run).map(|()| s.store.projects())?.await?,
    };
    let mut swept = Swept::default();
    for project in &all {
        if let Err(error) = sweep_project(s, project, &mut swept).await {
            swept.problems.push(redact_all(&format!("{}: {}", project.name, error.detail)).into_owned());
        }
    }
    let detail = format!("checked={} stale={} expired={}", swept.checked, swept.stale, swept.expired);
    record(s, caller, "memory.sweep", project.map_or("memory".to_owned(), |p| format!("project:{p}")), &detail).await;
    Ok(swept)
}

async fn sweep_project(s: &Services, project: &Project, swept: &mut Swept) -> ServiceResult<()> {
    let now = s.clock.now();
    let of_project = |state| MemoryFilter {
        project: Some(project.name.clone()),
        state,
        limit: Memory::MAX_ROWS,
        ..MemoryFilter::default()
    };
    let before = s.store.list_memories(&of_project(None)).await?.len();
    s.store.remember(&project.name, &NewMemories::default(), now).await?;
    let rows = s.store.list_memories(&of_project(None)).await?;
    swept.expired += before.saturating_sub(rows.len()) as u64;
    let live: Vec<&Memory> =
        rows.iter().filter(|row| row.state == MemoryState::Live && !row.cites.is_empty()).collect();
    if live.is_empty() {
        return Ok(());
    }
    let (repo, head) = head(s, project).await?;
    let mut files: BTreeMap<&str, Option<String>> = BTreeMap::new();
    let mut stale = Vec::new();
    for row in live {
        swept.checked += 1;
        let mut holds = true;
        for cite in &row.cites {
            if !files.contains_key(cite.path.as_str()) {
                let bytes = s.workspaces.read_at(&repo, &head, &cite.path).await?;
                let text = bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                files.insert(&cite.path, text);
            }
            let text = files.get(cite.path.as_str()).and_then(Option::as_deref);
            holds = holds && text.is_some_and(|text| cite.locate(text).is_some());
        }
        if !holds {
            stale.push(row.id.clone());
        }
    }
    s.store.mark_stale(&stale).await?;
    swept.stale += stale.len() as u64;
    Ok(())
}

/// The comparison of runs with and without memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeasuredEffect {
    /// The comparison.
    pub effect: Effect,
    /// Whether there were more runs than are read; the newest were.
    pub is_cut: bool,
}

/// Compares the ended runs that were given rows with the holdout.
///
/// # Errors
/// `missing_right` without [`Right::Read`]; `no_project`.
pub async fn effect(s: &Services, caller: &Caller, project: Option<&str>) -> ServiceResult<MeasuredEffect> {
    let project = match project {
        Some(name) => Some(projects::find_for(s, caller, Right::Read, name).await?.name),
        None => caller.require(Right::Read).map(|()| None)?,
    };
    let mut measured = MeasuredEffect::default();
    let (mut before, mut read) = (None, 0);
    loop {
        let filter = RunFilter { projects: project.clone().into(), before, limit: PAGE, ..RunFilter::default() };
        let page = s.store.list(&filter).await?;
        for row in page.iter().filter(|row| row.phase == Phase::Ended.name() && row.quarantined.is_none()) {
            match s.store.load(row.run).await {
                Ok(Some(run)) => count(s, &run, &mut measured.effect).await?,
                // Another process may have removed it, or it is written by a newer version.
                Ok(None) | Err(PortError::Permanent { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        read += page.len();
        match page.last() {
            Some(last) if page.len() as u64 == PAGE && read < MAX_RUNS => before = Some(last.run),
            last => {
                measured.is_cut = last.is_some() && page.len() as u64 == PAGE;
                return Ok(measured);
            }
        }
    }
}

/// Adds an ended run to its arm.
async fn count(s: &Services, run: &Run, effect: &mut Effect) -> ServiceResult<()> {
    let arm: &mut ArmResult = match run.settings.policy.memory.arm(run.id) {
        Arm::Off => return Ok(()),
        Arm::Given => &mut effect.given,
        Arm::Holdout => &mut effect.holdout,
    };
    let filter = OutcomeFilter { run: Some(run.id), limit: 1, ..OutcomeFilter::default() };
    let of_run = s.outcomes.list_outcomes(&filter).await?.into_iter().find(|row| row.attempt.is_none());
    match of_run.map(|row| row.word) {
        Some(OutcomeWord::Landed) => arm.landed += 1,
        Some(OutcomeWord::LandedLate) => arm.landed_late += 1,
        Some(OutcomeWord::Unlanded) => {}
        _ => {
            effect.void += 1;
            return Ok(());
        }
    }
    arm.runs += 1;
    arm.rounds += u64::from(run.rounds);
    arm.cost_micros = arm.cost_micros.saturating_add(run.ledger.spent.cost_micros);
    arm.with_rows += u64::from(!s.store.given(run.id).await?.is_empty());
    Ok(())
}

/// Returns the newest live rows of a project, for its page.
///
/// # Errors
/// `missing_right` without [`Right::Read`].
pub async fn newest(s: &Services, caller: &Caller, project: &ProjectName, limit: u64) -> ServiceResult<Vec<Memory>> {
    caller.require_in(Right::Read, project)?;
    let now: Timestamp = s.clock.now();
    let filter = MemoryFilter {
        project: Some(project.clone()),
        state: Some(MemoryState::Live),
        limit,
        ..MemoryFilter::default()
    };
    let mut rows = s.store.list_memories(&filter).await?;
    rows.retain(|row| now < row.ends_at);
    Ok(rows)
}
