//! Frees disk space: what a data directory keeps although nothing needs it any more.
//!
//! Invariant: no commit that exists only here is dropped, and nothing of a run that has not ended.

use super::listing::names;
use super::owner;
use super::program::{Program, prepare};
use crate::adapters::store::{self, SeaStore};
use crate::adapters::workspace::GitWorkspaces;
use crate::config::{Config, Retention};
use crate::domain::{ProjectName, RunId, Timestamp};
use crate::platform::clock::SystemClock;
use crate::platform::git::durable_fs::{remove_path, run_blocking};
use crate::platform::git::{Git, Identity, Mirrors};
use crate::platform::sandbox;
use crate::ports::run_index::RunFilter;
use crate::ports::{Blobs, Clock, Journal, PortResult, Projects, Repo, RunIndex, Workspaces};
use crate::service::host::{CleanupItem, CleanupReport, CleanupRequest, HostContext, HostResult};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Folders with one subfolder for each run.
const RUN_FOLDERS: [&str; 3] = ["work", "sealed", "scratch"];
/// Longest wait of a service before it frees space for the first time.
const FIRST_WAIT: Duration = Duration::from_secs(3_600);
/// Upper bound of open runs that are listed. Above it, no mirror counts as unused.
const MAX_OPEN_RUNS: u64 = 500;

/// Frees space, or reports what would be freed.
pub(super) async fn run(
    program: &Program,
    context: &HostContext,
    request: &CleanupRequest,
) -> HostResult<CleanupReport> {
    let config = program.config(context)?;
    let data = &context.sources.data_dir;
    prepare(data, &config)?;
    program.init_logs(context, &config, false)?;
    Ok(free(&config, data, request).await?)
}

/// Frees space at the configured interval, until the process ends.
pub(super) async fn repeat(config: Config, data: PathBuf) {
    let Retention { interval: Some(interval), logs, caches } = config.retention else { return };
    let request = CleanupRequest { dry_run: false, caches_unused: caches, logs_older: logs };
    // A service that is restarted every day cleans up, too.
    let mut wait = interval.min(FIRST_WAIT);
    loop {
        tokio::time::sleep(wait).await;
        wait = interval;
        match free(&config, &data, &request).await {
            Ok(report) if report.bytes > 0 => tracing::info!(bytes = report.bytes, "freed disk space"),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "cannot free disk space; it is tried again"),
        }
    }
}

async fn free(config: &Config, data: &Path, request: &CleanupRequest) -> PortResult<CleanupReport> {
    let store = store::connect(config.store.database.url(data).expose()).await?.at_home(&owner::home(data)?);
    let identity = Identity { name: config.git.author_name.clone(), email: config.git.author_email.clone() };
    let mirrors = Arc::new(Mirrors::new(data.to_owned(), Arc::new(Git::find(identity).await?)));
    let cleanup = Cleanup { data: data.to_owned(), store, mirrors, dry_run: request.dry_run };
    let mut report = CleanupReport { dry_run: request.dry_run, ..CleanupReport::default() };
    cleanup.workspaces(&mut report).await?;
    cleanup.unused_mirrors(&mut report).await?;
    cleanup.old_caches(request.caches_unused, &mut report).await?;
    if let Some(age) = request.logs_older {
        cleanup.old_logs(age, &mut report).await?;
    }
    report.bytes = report.items.iter().filter(|item| item.kept.is_none()).map(|item| item.bytes).sum();
    Ok(report)
}

struct Cleanup {
    data: PathBuf,
    store: SeaStore,
    mirrors: Arc<Mirrors>,
    dry_run: bool,
}

impl Cleanup {
    /// Releases workspaces that are left of ended runs. Uncommitted work in them is saved under a WIP ref first.
    async fn workspaces(&self, report: &mut CleanupReport) -> PortResult<()> {
        let mut runs = BTreeSet::new();
        for folder in RUN_FOLDERS {
            runs.extend(names(&self.data.join(folder))?);
        }
        let workspaces = GitWorkspaces::new(self.data.clone(), self.mirrors.clone());
        for name in runs {
            let folders: Vec<PathBuf> = RUN_FOLDERS.iter().map(|folder| self.data.join(folder).join(&name)).collect();
            let mut item = CleanupItem::new("workspace", &name, size(folders).await?);
            let run = match RunId::try_from(name.clone()) {
                Ok(run) => self.store.load(run).await,
                Err(_) => continue,
            };
            match run {
                Ok(Some(run)) if run.ended() && run.pending.is_empty() => {
                    item.why = "its run has ended".to_owned();
                    let repo = Repo { project: run.project.clone(), origin: run.settings.origin.clone() };
                    if !self.dry_run {
                        workspaces.release(&repo, run.id, &run.settings.branch).await?;
                    }
                }
                // The run works in it, or waits for someone.
                Ok(Some(_)) => continue,
                Ok(None) => item.kept = Some("its run is not in the store".to_owned()),
                Err(error) => item.kept = Some(error.to_string()),
            }
            report.items.push(item);
        }
        Ok(())
    }

    /// Removes mirrors of projects that were removed, if they hold no work of their own.
    async fn unused_mirrors(&self, report: &mut CleanupReport) -> PortResult<()> {
        let filter = RunFilter { open_only: true, own_only: true, limit: MAX_OPEN_RUNS, ..RunFilter::default() };
        let open = self.store.list(&filter).await?;
        if open.len() as u64 >= MAX_OPEN_RUNS {
            return Ok(());
        }
        for file in names(&self.data.join("mirrors"))? {
            let Some(project) = file.strip_suffix(".git").and_then(|name| ProjectName::new(name).ok()) else {
                continue;
            };
            let is_used =
                self.store.project(&project).await?.is_some() || open.iter().any(|run| run.project == project.as_str());
            if is_used {
                continue;
            }
            let mut item = CleanupItem::new("mirror", project.as_str(), size(vec![self.mirrors.dir(&project)]).await?);
            item.why = "its project was removed, and it has no open run".to_owned();
            let repo = Repo { project: project.clone(), origin: String::new() };
            let refs =
                self.mirrors.call(&repo).args(["for-each-ref", "--format=%(refname)", "refs/skep/wip", "refs/heads"]);
            let refs = refs.output_line("list the mirror's refs").await?;
            if let Some(first) = refs.lines().next() {
                let others = refs.lines().count() - 1;
                let others = if others > 0 { format!(" and {others} more") } else { String::new() };
                item.kept = Some(format!("it holds work that is nowhere else: {first}{others}"));
            } else if !self.dry_run {
                self.mirrors.remove(&project).await?;
            }
            report.items.push(item);
        }
        Ok(())
    }

    /// Removes kept caches of base commits that no check has made or replaced for a long time.
    async fn old_caches(&self, unused: Duration, report: &mut CleanupReport) -> PortResult<()> {
        let limit = SystemTime::now().checked_sub(unused).unwrap_or(SystemTime::UNIX_EPOCH);
        for folder in names(&self.data.join("caches"))? {
            for name in names(&self.data.join("caches").join(&folder))? {
                let path = self.data.join("caches").join(&folder).join(&name);
                let modified = std::fs::symlink_metadata(&path).and_then(|meta| meta.modified());
                if !modified.is_ok_and(|at| at < limit) {
                    continue;
                }
                let mut item = CleanupItem::new("cache", &format!("{folder}/{name}"), size(vec![path.clone()]).await?);
                item.why = format!("no check has filled it for {}", humantime::format_duration(unused));
                if !self.dry_run {
                    run_blocking(move || remove_path(&path)).await?;
                }
                report.items.push(item);
            }
        }
        Ok(())
    }

    /// Removes what people read while they look into a run, of runs that ended long ago.
    async fn old_logs(&self, age: Duration, report: &mut CleanupReport) -> PortResult<()> {
        let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let before = Timestamp(SystemClock.now().0.saturating_sub(age_ms));
        let removable = self.store.removable_artifacts(before).await?;
        if removable.count == 0 {
            return Ok(());
        }
        if !self.dry_run {
            self.store.remove_artifacts(before).await?;
        }
        let mut item = CleanupItem::new("logs", &removable.count.to_string(), removable.bytes);
        item.why = format!("their runs ended more than {} ago", humantime::format_duration(age));
        report.items.push(item);
        Ok(())
    }
}

/// Returns the number of bytes of disk that folders take.
async fn size(folders: Vec<PathBuf>) -> PortResult<u64> {
    run_blocking(move || {
        let present = folders.iter().filter(|folder| folder.is_dir());
        Ok(present.map(|folder| sandbox::tree_size(folder, u64::MAX).unwrap_or(0)).sum())
    })
    .await
}
