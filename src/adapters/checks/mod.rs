//! Runs a project's checks in a fresh checkout, and trusts only exit codes and reports it observed itself.

mod caches;
pub mod detect;
mod fault;
pub mod junit;
mod live_output;
pub mod network;
mod no_tests;
pub mod repo_file;
pub mod self_test;
mod verdict;

pub use super::runner::RemoteSessions;
use super::runner::settings::{LOCAL, Runner};
use super::runner::{self, LocalSession, NoReport, RunnerSession};
use crate::domain::change::failure_lines;
use crate::domain::check::TestCounts;
use crate::domain::{ArtifactKind, CheckKind, CheckResult, CheckSpec, Fault, ProjectName};
use crate::platform::access::broker::{AccessBroker, AccessRequest, Audience, CommandAccess};
use crate::platform::access::{Grants, ProjectGrants};
use crate::platform::egress::hosts::{Hosts, SystemResolver};
use crate::platform::process::StopReason;
use crate::platform::sandbox::{Level, Purpose, Sandbox};
use crate::platform::terminal_text;
use crate::ports::checks::{CheckProgress, CheckWatch, Checked, Checks, NetworkNeed, RepoRules, Trust};
use crate::ports::{Isolation, PortError, PortResult, Repo};
use async_trait::async_trait;
use caches::{Caches, Network};
use detect::Detected;
use network::UserFiles;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;
use std::sync::Arc;
use verdict::{as_in_repository, command_failure, failed_without_running, report_failure, require_a_test};

/// Upper bound on the end of a check's output that goes into its result, in bytes.
const MAX_TAIL_BYTES: usize = 4 * 1024;

/// Upper bound on a stored test report, in bytes.
const MAX_REPORT_BYTES: usize = 8 * 1024 * 1024;

/// Runs checks as commands, in the sandbox or on a configured runner.
#[derive(Clone, Debug)]
pub struct CommandChecks {
    sandbox: Sandbox,
    access_broker: AccessBroker,
    runners: Arc<BTreeMap<String, Runner>>,
    sessions: RemoteSessions,
    caches: Caches,
    user: Arc<UserFiles>,
}

impl CommandChecks {
    /// Checks that run only in `sandbox`. If it has a data directory, the caches of base commits are kept there.
    pub fn new(sandbox: Sandbox) -> Self {
        let caches = sandbox.data_dir().map(|dir| Caches::in_dir(&dir.join("caches"), &sandbox.fingerprint()));
        Self {
            sandbox,
            access_broker: AccessBroker::default(),
            runners: Arc::default(),
            sessions: RemoteSessions::new("test-none"),
            caches: caches.unwrap_or_default(),
            user: Arc::new(UserFiles::of_process()),
        }
    }

    /// Gives commands the access each project is granted.
    #[must_use]
    pub fn with_access_broker(self, access_broker: AccessBroker) -> Self {
        Self { access_broker, ..self }
    }

    /// Adds runners, and the grants that say which project may use which. `sessions` outlives a reload of the
    /// configuration.
    #[must_use]
    pub fn with_runners(
        mut self,
        runners: BTreeMap<String, Runner>,
        granted: ProjectGrants,
        sessions: RemoteSessions,
    ) -> Self {
        (self.runners, self.access_broker, self.sessions) =
            (Arc::new(runners), self.access_broker.with_grants(Arc::new(granted)), sessions);
        self
    }

    /// Removes what an earlier process left in Docker engines. Called when the service starts; SSH hosts are swept on
    /// their next use, because a command there ends with its connection.
    pub async fn sweep(&self) {
        for (name, runner) in self.runners.iter().filter(|(_, runner)| matches!(runner, Runner::Docker(_))) {
            if let Err(error) = runner::sweep(name, runner, &self.sessions).await {
                tracing::debug!(%error, "cannot sweep a runner at startup; retrying before its next use");
            }
        }
    }

    fn network(&self, project: &ProjectName) -> Network {
        match self.access_broker.has_proxy() && !self.access_broker.grants(project).hosts.is_empty() {
            true => Network::Open,
            false => Network::Closed,
        }
    }

    /// Opens a session on the runner of a check, if this project is allowed to use it.
    async fn open_session(
        &self,
        repo: &Repo,
        runner: Option<&str>,
        dir: &Path,
        cache: &Path,
    ) -> PortResult<Box<dyn RunnerSession>> {
        let Some(name) = runner else { return Ok(Box::new(LocalSession::new(&self.sandbox, repo, dir, cache)?)) };
        let project = &repo.project;
        check_allowed(self.access_broker.grants(project), project, name)
            .map_err(|(what, fix)| PortError::permanent(what, fix))?;
        let runner = self.runners.get(name).ok_or_else(|| {
            let (what, fix) = unknown_runner(&self.runners, name);
            PortError::permanent(what, fix)
        })?;
        runner::open_session(name, runner, &self.sessions, dir, cache).await
    }

    /// Returns what a command that needs the network is known to need and may not reach, by the files of its checkout.
    async fn known_hosts(&self, project: &ProjectName, spec: &CheckSpec, dir: &Path) -> Vec<String> {
        let dir = dir.to_owned();
        // Without them the question names the hosts that the command tried.
        let (paths, files) =
            tokio::task::spawn_blocking(move || network::checkout::read(&dir)).await.unwrap_or_default();
        let needs = self.network_needs(project, std::slice::from_ref(spec), &paths, &files).await;
        needs.into_iter().flat_map(|need| need.hosts.into_iter().chain(need.addresses)).collect()
    }

    async fn run_one(
        &self,
        project: &ProjectName,
        session: &mut dyn RunnerSession,
        dir: &Path,
        spec: &CheckSpec,
        watch: &CheckWatch,
    ) -> PortResult<Checked> {
        if spec.command.contains('\0') {
            let what = format!("cannot run the check {}: its command contains a NUL character", spec.name);
            return Err(PortError::permanent(what, "remove the NUL character from the check's command"));
        }
        if let Some(Err(why)) = spec.junit.as_deref().map(crate::platform::rooted_fs::check) {
            return Ok(failed_without_running(spec, format!("its report path is unusable: {why}")));
        }
        let label = format!("the check {}", spec.name);
        let request = AccessRequest { project, audience: Audience::Check, level: self.sandbox.level(), label: &label };
        let mut access = match spec.runner {
            None => self.access_broker.grant(request).await?,
            // The owner of another machine could read everything that is passed to a command there.
            Some(_) => CommandAccess::none(&request),
        };
        let output = live_output::lines_of(&spec.name, watch);
        let finished = match session.run(spec, &access, output).await? {
            Ok(finished) => finished,
            Err(why) => return Ok(failed_without_running(spec, format!("its report path {why}"))),
        };
        let (mut why, mut tests) = (command_failure(spec, &finished), None);
        if no_tests::says_none(spec, &finished) {
            tests = Some(TestCounts::default());
            why = why.map(|why| format!("no test ran: {why}"));
        }
        let exit = if finished.timed_out { None } else { finished.code };
        let duration_ms = u64::try_from(finished.took.as_millis()).unwrap_or(u64::MAX);
        let tail = as_in_repository(&terminal_text::tail(&finished.stdout, MAX_TAIL_BYTES), dir);
        if spec.runner.is_none() && why.is_some() && access.lacks_network(&tail) {
            access.set_known_hosts(self.known_hosts(project, spec, dir).await);
        }
        let needs_network = spec.runner.is_none() && access.failed_for_network(&tail, spec.kind == CheckKind::Setup);
        let fault = match &finished.stop_reason {
            Some(StopReason::FullDisk(_)) => Some(Fault::Space),
            _ => why.as_ref().and_then(|_| fault::of(exit, &finished.stdout, needs_network, dir)),
        };
        let mut failures = match why {
            Some(_) => failure_lines::lines(&as_in_repository(&terminal_text::sanitize(&finished.stdout), dir)),
            None => Vec::new(),
        };
        let mut log = finished.into_log();
        let withheld = match &spec.runner {
            None => access.network_note(&tail, why.is_some()),
            Some(runner) => {
                let names = self.access_broker.grants(project).check_secrets.join(", ");
                let may_matter = why.is_some() && !names.is_empty();
                may_matter
                    .then(|| format!("the project's secrets ({names}) are not passed to checks on runner {runner}"))
            }
        };
        if let Some(note) = withheld {
            log.extend_from_slice(format!("\nSkep: {note}\n").as_bytes());
            why = why.map(|why| format!("{why}; {note}"));
        }
        let mut files = vec![(ArtifactKind::Log, format!("{}.log", spec.name), log)];
        if let Some(path) = &spec.junit {
            let counted = match session.report(path, junit::MAX_BYTES).await? {
                Ok(bytes) => match junit::read(&bytes) {
                    Ok(read) => Ok((bytes, read)),
                    Err(why) => Err(format!("its report {path:?} {why}")),
                },
                Err(NoReport::Missing) => Err(format!("it did not write its report {path:?}")),
                Err(NoReport::Unusable(why)) => Err(format!("its report {why}")),
            };
            match counted {
                Ok((bytes, read)) => {
                    // A larger report is counted, but not stored: nearly all of it is output that the log holds as well.
                    if bytes.len() <= MAX_REPORT_BYTES {
                        files.push((ArtifactKind::TestReport, format!("{}.junit.xml", spec.name), bytes));
                    }
                    tests = Some(read.counts);
                    why = why.or_else(|| report_failure(spec.kind, read.counts));
                    if !read.failed.is_empty() {
                        failures = read.failed;
                    }
                }
                Err(text) => why = why.or(Some(text)),
            }
        }
        Ok(Checked {
            result: CheckResult {
                name: spec.name.clone(),
                kind: spec.kind,
                green: why.is_none(),
                exit_code: exit,
                duration_ms,
                why: why.unwrap_or_default(),
                failures,
                tail,
                tests,
                artifacts: Vec::new(),
                secrets: access.names(),
                fault,
            },
            files,
        })
    }
}

#[async_trait]
impl Checks for CommandChecks {
    fn rule_files(&self, paths: &[String]) -> Vec<String> {
        let own = paths.iter().filter(|path| *path == repo_file::NAME).cloned();
        own.chain(detect::wanted(paths)).collect()
    }

    fn rules(&self, paths: &[String], files: &BTreeMap<String, Vec<u8>>) -> Result<RepoRules, String> {
        let file = match files.get(repo_file::NAME) {
            Some(bytes) => {
                let text = std::str::from_utf8(bytes).map_err(|_| format!("{}: is not UTF-8 text", repo_file::NAME))?;
                repo_file::parse(text)?
            }
            None if paths.iter().any(|path| repo_file::is_at(path)) => {
                return Err(format!(
                    "{}: is a folder or a symbolic link, which is not followed; make it a regular file",
                    repo_file::NAME
                ));
            }
            None => repo_file::RepoFile::default(),
        };
        let texts = files.iter().map(|(path, bytes)| (path.clone(), String::from_utf8_lossy(bytes).into_owned()));
        let Detected { mut checks, mut missing, proposals } = detect::detect(paths, &texts.collect());
        if !file.checks.is_empty() {
            (checks, missing) = (file.checks, Vec::new());
        }
        Ok(RepoRules { checks, tightening: file.policy, missing, proposals })
    }

    fn network_files(&self, paths: &[String]) -> Vec<String> {
        network::wanted(paths)
    }

    async fn network_needs(
        &self,
        project: &ProjectName,
        checks: &[CheckSpec],
        paths: &[String],
        files: &BTreeMap<String, Vec<u8>>,
    ) -> Vec<NetworkNeed> {
        // Without a sandbox the network is open, and what a runner may reach is decided there.
        let local: Vec<CheckSpec> = checks.iter().filter(|check| check.runner.is_none()).cloned().collect();
        if self.sandbox.level() == Level::None && self.sandbox.broken().is_none() {
            return Vec::new();
        }
        let allowed = Hosts::parse(&self.access_broker.grants(project).hosts).unwrap_or_default();
        let mut missing = Vec::new();
        for need in network::needed(&local, paths, files, &self.user).await {
            let was_known = !need.hosts.is_empty();
            let addresses = network::private_addresses(&need.hosts, &allowed, &SystemResolver).await;
            let hosts: Vec<String> =
                need.hosts.into_iter().filter(|host| !network::is_allowed(&allowed, host)).collect();
            if !was_known || !hosts.is_empty() || !addresses.is_empty() {
                missing.push(NetworkNeed { manager: need.manager.to_owned(), checks: need.checks, hosts, addresses });
            }
        }
        missing
    }

    fn assign_runners(
        &self,
        project: &ProjectName,
        checks: Vec<CheckSpec>,
    ) -> Result<Vec<CheckSpec>, (String, String)> {
        let grants = self.access_broker.grants(project);
        let mut assigned = Vec::with_capacity(checks.len());
        for mut check in checks {
            if let Some(name) = &check.runner {
                check_allowed(grants, project, name)
                    .map_err(|(what, fix)| (format!("cannot run the check {}: {what}", check.name), fix))?;
            } else {
                check.runner.clone_from(&grants.runner);
            }
            if check.runner.as_deref() == Some(LOCAL) {
                check.runner = None;
            }
            if let Some(name) = check.runner.as_ref().filter(|name| !self.runners.contains_key(*name)) {
                return Err(unknown_runner(&self.runners, name));
            }
            assigned.push(check);
        }
        Ok(assigned)
    }

    fn environment(&self, project: &ProjectName, specs: &[CheckSpec]) -> Option<String> {
        // What is installed on another machine is not known here.
        if specs.iter().any(|spec| spec.runner.is_some()) {
            return None;
        }
        let mut hash = Sha256::new();
        hash.update(env!("CARGO_PKG_VERSION"));
        hash.update(format!("{}{:?}{specs:?}", self.sandbox.fingerprint(), self.access_broker.grants(project)));
        // Installing or removing a program changes the folder that has it.
        for folder in std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()) {
            let changed = std::fs::metadata(&folder).and_then(|m| m.modified()).ok();
            hash.update(format!("{folder:?}{changed:?}"));
        }
        Some(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    async fn run_watched(
        &self,
        repo: &Repo,
        dir: &Path,
        cache: &Path,
        trust: Trust,
        specs: &[CheckSpec],
        watch: CheckWatch,
    ) -> PortResult<Vec<Checked>> {
        // Whatever a killed process left there was written by another commit.
        caches::clear(cache).await?;
        let own = cache.join(Purpose::Check.dir_name());
        self.caches.fill(&repo.project, self.network(&repo.project), dir, &own).await;
        let mut results: Vec<Checked> = Vec::with_capacity(specs.len());
        let mut failed_setup: Option<&str> = None;
        // One checkout per runner, shared by all checks that run there. An error drops the sessions, which ends them.
        let mut sessions: BTreeMap<Option<&str>, Box<dyn RunnerSession>> = BTreeMap::new();
        for spec in specs {
            let checked = match failed_setup {
                Some(setup) => failed_without_running(spec, format!("not run, because the setup check {setup} failed")),
                None => {
                    let runner = spec.runner.as_deref();
                    let session = match sessions.entry(runner) {
                        Entry::Occupied(entry) => entry.into_mut(),
                        Entry::Vacant(entry) => entry.insert(self.open_session(repo, runner, dir, cache).await?),
                    };
                    watch(CheckProgress::Started { name: spec.name.clone(), command: spec.command.clone() });
                    self.run_one(&repo.project, session.as_mut(), dir, spec, &watch).await?
                }
            };
            if spec.kind == CheckKind::Setup && !checked.result.green && failed_setup.is_none() {
                failed_setup = Some(&spec.name);
            }
            // Whether that suffices is known once all checks ran.
            if !no_tests::proves_nothing(spec, &checked.result) {
                watch(CheckProgress::Finished(checked.result.clone()));
            }
            results.push(checked);
        }
        require_a_test(specs, &mut results, &watch);
        for session in sessions.into_values() {
            session.close().await;
        }
        if trust == Trust::Base && failed_setup.is_none() {
            self.caches.keep(&repo.project, self.network(&repo.project), dir, &own).await;
        }
        caches::clear(cache).await?;
        Ok(results)
    }

    async fn fill_cache(&self, repo: &Repo, dir: &Path, cache: &Path) {
        let own = cache.join(Purpose::Agent.dir_name());
        self.caches.fill(&repo.project, self.network(&repo.project), dir, &own).await;
    }
}

/// Refuses a runner this project is not allowed to use, with the fix.
fn check_allowed(grants: &Grants, project: &ProjectName, name: &str) -> Result<(), (String, String)> {
    let default = grants.runner.as_deref().unwrap_or(LOCAL);
    if name == default || grants.runners.iter().any(|runner| runner == name) {
        return Ok(());
    }
    Err((
        format!("project {project} is not allowed to use runner {name}"),
        format!(
            "allow it with `runners = [\"{name}\"]` in [project.{}.checks], or remove the runner from the check",
            project.as_key()
        ),
    ))
}

fn unknown_runner(runners: &BTreeMap<String, Runner>, name: &str) -> (String, String) {
    let names: Vec<&str> = runners.keys().map(String::as_str).collect();
    let configured =
        if names.is_empty() { "none is configured".to_owned() } else { format!("configured: {}", names.join(", ")) };
    (format!("unknown runner {name} ({configured})"), format!("add the table [runners.{name}], or use another runner"))
}
