//! The watch over base branches: if CI turns red with what a run has landed, a revert is proposed.
//!
//! Whatever was found is stored before it is acted on, with the id of the run that reverts it, so that a process that
//! was killed in between acts once. While nothing that landed is inside its window, no forge is asked.
//!
//! Invariant: a proposed revert never lands without the approval of a person.

use super::moved_runs::MovedRuns;
use super::reverts;
use super::{Caller, ErrorKind, Right, ServiceResult, Services, Via, runs};
use crate::domain::landing_watch::{Finding, MAX_COMMITS, judge};
use crate::domain::{
    ChangeNumber, CommitCi, ForgeName, GoalSource, LandingWatch, Message, MessageEvent, Principal, ProjectName, Run,
    RunId, Sha, Timestamp, WatchState, WorkflowRun,
};
use crate::ports::landing_watches::LandingWatches;
use crate::ports::{Forge, PortError, PortResult, Repo};
use crate::render;
use crate::secrets::redact_all;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How often CI is read while something is inside its window, and how often at most.
const INTERVAL: Duration = Duration::from_secs(60);
const MIN_INTERVAL: Duration = Duration::from_secs(5);
/// Longest wait while nothing is.
const MAX_WAIT: Duration = Duration::from_secs(600);
/// The longest window, in seconds: how far back ended runs are looked for after a start.
const MAX_WINDOW_SECS: i64 = 24 * 3_600;
/// The clock of the database may differ a little, and a transaction takes its time.
const LATE_MS: i64 = 300_000;
/// Ended runs that are read at once.
const MAX_ENDED: u64 = 1_000;
/// Commits whose CI is read for one landing in one pass.
const MAX_READS: usize = 2 * MAX_COMMITS;
/// Ended runs that are remembered, to spare the store.
const MAX_KNOWN: usize = 10_000;

/// What the use cases about landings work with.
#[derive(Clone)]
pub struct LandingParts {
    /// The stored watches.
    pub store: Arc<dyn LandingWatches>,
    /// Wakes the worker.
    pub wake: Arc<Notify>,
}

/// What the worker remembers between its passes.
#[derive(Default)]
pub struct Progress {
    ended_before: Option<Timestamp>,
    known: BTreeSet<RunId>,
    looked: Option<Instant>,
}

/// A base branch as it was read in one pass.
struct Branch {
    repo: Repo,
    forge: Arc<dyn Forge>,
    history: Vec<Sha>,
    ci: BTreeMap<Sha, CommitCi>,
}

/// Watches what runs land until the process ends.
pub async fn run(s: Services) {
    if s.forges.with_issues().is_empty() {
        return;
    }
    let mut moved = MovedRuns::new(&s.notifications);
    let mut progress = Progress::default();
    loop {
        let wait = match pass(&s, &mut progress).await {
            Ok(wait) => wait,
            Err(error) => {
                tracing::warn!(%error, "cannot watch what runs have landed; it is tried again");
                INTERVAL
            }
        };
        tokio::select! {
            () = s.landings.wake.notified() => progress.hurry(),
            () = moved.wait() => {}
            () = tokio::time::sleep(wait) => {}
        }
        // One that has ended is found in the store.
        moved.take();
    }
}

impl Progress {
    /// Makes the next pass read CI, unless it was read just now.
    fn hurry(&mut self) {
        if self.looked.is_some_and(|at| at.elapsed() >= MIN_INTERVAL) {
            self.looked = None;
        }
    }
}

/// Starts the watches over what has landed, and reads CI if that is due. Returns how long nothing is due.
///
/// # Errors
/// If the store cannot be used.
pub async fn pass(s: &Services, progress: &mut Progress) -> PortResult<Duration> {
    begin(s, progress).await?;
    let open = s.landings.store.open_landing_watches().await?;
    if open.is_empty() {
        return Ok(MAX_WAIT);
    }
    let elapsed = progress.looked.map(|at| at.elapsed());
    if let Some(elapsed) = elapsed.filter(|elapsed| *elapsed < INTERVAL) {
        return Ok(INTERVAL.saturating_sub(elapsed));
    }
    progress.looked = Some(Instant::now());
    let mut branches = BTreeMap::new();
    for watch in open {
        let run = watch.run;
        if let Err(error) = advance(s, &mut branches, watch).await {
            tracing::warn!(%run, %error, "cannot tell whether CI is green since a run has landed; it is tried again");
        }
    }
    Ok(INTERVAL)
}

/// Starts a watch over each run that has ended inside its window.
async fn begin(s: &Services, progress: &mut Progress) -> PortResult<()> {
    let now = s.clock.now();
    let from = progress.ended_before.unwrap_or(Timestamp(now.0 - MAX_WINDOW_SECS * 1_000));
    let forges = s.forges.with_issues();
    if progress.known.len() > MAX_KNOWN {
        progress.known.clear();
    }
    for (id, ended_at) in s.messages.ended_since(from, MAX_ENDED).await? {
        if progress.known.contains(&id) {
            continue;
        }
        if s.landings.store.landing_watch(id).await?.is_none() {
            let run = match s.store.load(id).await {
                Ok(run) => run,
                // One run that cannot be read must not stop the others.
                Err(PortError::Permanent { .. }) => None,
                Err(other) => return Err(other),
            };
            let run = run.filter(|run| forges.contains(&run.settings.forge));
            let watch = run.and_then(|run| LandingWatch::over(&run, ended_at)).filter(|watch| watch.until > now);
            if let Some(watch) = watch {
                s.landings.store.put_landing_watch(&watch).await?;
                progress.looked = None;
            }
        }
        progress.known.insert(id);
    }
    progress.ended_before = Some(Timestamp(now.0 - LATE_MS));
    Ok(())
}

/// Does what follows for one watch.
async fn advance(
    s: &Services,
    branches: &mut BTreeMap<(ForgeName, String, String), Branch>,
    mut watch: LandingWatch,
) -> ServiceResult<()> {
    if watch.state != WatchState::Watching {
        return finish(s, watch).await;
    }
    let now = s.clock.now();
    let key = (watch.forge.clone(), watch.origin.clone(), watch.branch.clone());
    let found = async {
        let branch = match branches.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Branch::read(s, &watch).await?),
        };
        let finding = branch.judge(&watch).await?;
        if let Finding::Restart(sha, restartable) = &finding {
            branch.restart(sha, restartable).await?;
        }
        let has_no_ci = finding == Finding::Wait && branch.has_no_ci(s, &watch).await?;
        PortResult::Ok((finding, has_no_ci))
    };
    let is_over = now >= watch.until;
    let finding = match found.await {
        Ok((_, true)) => return end(s, watch, WatchState::NoCi).await,
        Ok((finding, false)) => finding,
        Err(error) if is_over => {
            tracing::warn!(run = %watch.run, %error, "CI could not be read until the end of the window");
            Finding::Wait
        }
        Err(error) => return Err(error.into()),
    };
    watch.state = match finding {
        Finding::Wait | Finding::Read(_) if is_over => WatchState::Untested,
        Finding::Wait | Finding::Read(_) => return Ok(()),
        Finding::Restart(sha, _) => {
            watch.restarted.insert(sha);
            return Ok(s.landings.store.put_landing_watch(&watch).await?);
        }
        Finding::Green => WatchState::Green,
        Finding::RedBefore(checks) => WatchState::RedBefore { checks: shown(checks) },
        Finding::Unclear { sha, checks, commits } => WatchState::Unclear { sha, checks: shown(checks), commits },
        Finding::Blamed { sha, green, checks } => {
            let revert = s.clock.new_run_id();
            WatchState::Blamed { sha, green, checks: shown(checks), revert, error: None }
        }
    };
    s.landings.store.put_landing_watch(&watch).await?;
    crate::fault!("after-landing-judged");
    finish(s, watch).await
}

/// Returns the names of checks, which are from outside, as they are shown: a few short lines.
fn shown(checks: Vec<String>) -> Vec<String> {
    checks.into_iter().take(10).map(|name| redact_all(&render::line(&name)).chars().take(100).collect()).collect()
}

async fn end(s: &Services, watch: LandingWatch, state: WatchState) -> ServiceResult<()> {
    let now = s.clock.now();
    Ok(s.landings.store.put_landing_watch(&watch.ended(state, now)).await?)
}

/// Acts on what was found, and ends the watch. It may be repeated.
async fn finish(s: &Services, mut watch: LandingWatch) -> ServiceResult<()> {
    let Some(landed) = s.store.load(watch.run).await? else {
        let state = watch.state.clone();
        return end(s, watch, state).await;
    };
    if let WatchState::Blamed { revert, error, .. } = &mut watch.state {
        // Unless the process was killed after it had started that run.
        if s.store.load(*revert).await?.is_none() {
            let caller = Caller::new(Principal::skep(), [Right::Read, Right::Run].into(), Via::Watch);
            let why = render::landing_watch::reason(&watch.branch, &watch.sha);
            match reverts::propose(s, &caller, &landed, &why, *revert).await {
                Ok(opened) => *revert = opened.run.id,
                Err(failed) if failed.kind == ErrorKind::Unavailable => return Err(failed),
                Err(failed) => *error = Some(format!("{}. {}", failed.detail, failed.fix)),
            }
        }
        crate::fault!("after-revert-proposed");
    }
    if matches!(watch.state, WatchState::Unclear { .. }) {
        notify(s, &watch, &landed).await?;
    }
    comment(s, &watch, &landed).await?;
    crate::fault!("after-landing-comment");
    let state = watch.state.clone();
    end(s, watch, state).await
}

/// Comments on the change, and on the issue that the run began at. People who are asked otherwise as well do not wait
/// for a comment that the forge refuses.
async fn comment(s: &Services, watch: &LandingWatch, landed: &Run) -> PortResult<()> {
    let Some(text) = render::landing_watch::comment(watch) else { return Ok(()) };
    let text = redact_all(&text).into_owned();
    let marker = format!("skep:{}:landed", watch.run);
    let repo = Repo { project: watch.project.clone(), origin: watch.origin.clone() };
    let mut written = Vec::new();
    if let Some(change) = &landed.change {
        written.push(s.forges.get(&watch.forge)?.ensure_comment(&repo, change.number, &marker, &text).await);
    }
    if let GoalSource::Issue { forge, number, .. } = &landed.goal.source
        && *forge == watch.forge
    {
        let tracker = s.forges.issues(forge)?;
        written.push(tracker.put_comment(&repo, ChangeNumber(*number), &marker, &text).await);
    }
    for result in written {
        match result {
            Err(error @ PortError::Permanent { .. }) => {
                tracing::warn!(run = %watch.run, %error, "cannot comment that CI turned red");
            }
            other => other?,
        }
    }
    Ok(())
}

/// Asks people which change is to blame, by the channels that want questions.
async fn notify(s: &Services, watch: &LandingWatch, landed: &Run) -> PortResult<()> {
    let at = s.clock.now();
    let message = Message {
        key: format!("{}.landed.unclear", watch.run),
        event: MessageEvent::Question,
        run: Some(watch.run),
        block: None,
        project: watch.project.to_string(),
        title: landed.goal.title(),
        summary: redact_all(&render::landing_watch::words(watch)).into_owned(),
        needs: vec![format!("Find the change to blame; `skep revert {}` reverts this one", watch.run.abbrev())],
        cost_micros: landed.ledger.spent.cost_micros,
        path: format!("/runs/{}", watch.run),
        at,
    };
    let project = watch.project.as_str();
    for channel in s.channels.iter().filter(|channel| channel.rules().wants(MessageEvent::Question, project)) {
        s.messages.put(channel.name(), &message, at).await?;
    }
    Ok(())
}

impl Branch {
    async fn read(s: &Services, watch: &LandingWatch) -> PortResult<Branch> {
        let repo = Repo { project: watch.project.clone(), origin: watch.origin.clone() };
        let forge = s.forges.get(&watch.forge)?;
        let (_, head) = s.workspaces.fetch(&repo, Some(&watch.branch)).await?;
        let mut history = s.workspaces.first_parents(&repo, &head, MAX_COMMITS).await?;
        history.reverse();
        Ok(Branch { repo, forge, history, ci: BTreeMap::new() })
    }

    /// Reads the CI of a commit, once in a pass.
    async fn ci(&mut self, sha: &Sha) -> PortResult<&CommitCi> {
        if !self.ci.contains_key(sha) {
            let ci = self.forge.commit_ci(&self.repo, sha).await?;
            self.ci.insert(sha.clone(), ci);
        }
        Ok(&self.ci[sha])
    }

    /// Judges a landing, and reads as many commits as that takes.
    async fn judge(&mut self, watch: &LandingWatch) -> PortResult<Finding> {
        for _ in 0..MAX_READS {
            match judge(watch, &self.history, &self.ci) {
                Finding::Read(sha) => self.ci(&sha).await.map(drop)?,
                finding => return Ok(finding),
            }
        }
        Ok(Finding::Wait)
    }

    /// Starts cancelled CI again. What the forge refuses counts as tried.
    async fn restart(&self, sha: &Sha, runs: &BTreeSet<WorkflowRun>) -> PortResult<()> {
        match self.forge.rerun_ci(&self.repo, runs).await {
            Err(error @ PortError::Permanent { .. }) => {
                tracing::warn!(project = %self.repo.project, %sha, %error, "cannot start cancelled CI again");
                Ok(())
            }
            other => other,
        }
    }

    /// Returns whether CI has reported nothing on the change, on its base or on what landed.
    async fn has_no_ci(&mut self, s: &Services, watch: &LandingWatch) -> PortResult<bool> {
        if !self.ci(&watch.sha).await?.is_empty() || !self.ci(&watch.base).await?.is_empty() {
            return Ok(false);
        }
        let run = s.store.load(watch.run).await?;
        Ok(run.is_none_or(|run| {
            run.facts.observed.is_none_or(|seen| seen.statuses.is_empty() && seen.required.is_empty())
        }))
    }
}

/// Lets the worker read CI now if something that landed in this project is inside its window, and returns whether there
/// is something.
///
/// # Errors
/// If the store cannot be read.
pub(super) async fn tested(s: &Services, project: &ProjectName) -> PortResult<bool> {
    let is_watched = s.landings.store.open_landing_watches().await?.iter().any(|watch| watch.project == *project);
    if is_watched {
        s.landings.wake.notify_one();
    }
    Ok(is_watched)
}

/// Returns what is known about the base branch since a run has landed there; `None` = it is not watched.
///
/// # Errors
/// As [`runs::find_id`].
pub async fn show(s: &Services, caller: &Caller, id: &str) -> ServiceResult<Option<LandingWatch>> {
    let id = runs::find_id(s, caller, Right::Read, id).await?;
    Ok(s.landings.store.landing_watch(id).await?)
}
