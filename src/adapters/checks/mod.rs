//! Runs a project's checks in a fresh checkout, and believes only what it saw itself.

pub mod detect;
pub mod junit;
pub mod repo_file;
pub mod self_test;
mod verdict;

pub use super::runner::RemoteSessions;
use super::runner::{LocalSession, NoReport, RunnerSession};
use crate::adapters::runner::settings::{LOCAL, Runner};
use crate::domain::{ArtifactKind, CheckKind, CheckResult, CheckSpec, ProjectName};
use crate::platform::access::Grants;
use crate::platform::access::ProjectGrants;
use crate::platform::access::broker::{AccessBroker, AccessRequest, Audience, CommandAccess};
use crate::platform::sandbox::Sandbox;
use crate::platform::terminal_text;
use crate::ports::checks::{Checked, Checks, RepoRules};
use crate::ports::{PortError, PortResult};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use verdict::{command_failure, failed_without_running, report_failure};

/// The most of it that goes into the result.
const TAIL_BYTES_MAX: usize = 4 * 1024;

/// Checks as commands: in a sandbox, or at the places a person configured.
#[derive(Clone, Debug)]
pub struct CommandChecks {
    sandbox: Sandbox,
    access_broker: AccessBroker,
    runners: Arc<BTreeMap<String, Runner>>,
    sessions: RemoteSessions,
}

impl CommandChecks {
    /// Checks that run in `sandbox` and nowhere else.
    pub fn new(sandbox: Sandbox) -> Self {
        Self {
            sandbox,
            access_broker: AccessBroker::default(),
            runners: Arc::default(),
            sessions: RemoteSessions::new("test-none"),
        }
    }

    /// The same, with what each project is given.
    #[must_use]
    pub fn with_access_broker(self, access_broker: AccessBroker) -> Self {
        Self { access_broker, ..self }
    }

    /// The same with places, and what projects may use of them. `sessions` outlives a change of the configuration.
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

    /// Ends and removes what an earlier process left in Docker engines; for the start of a service. Hosts are swept when they are
    /// used: there a command ends with its connection.
    pub async fn sweep(&self) {
        for (name, runner) in self.runners.iter().filter(|(_, runner)| matches!(runner, Runner::Docker(_))) {
            let remote = super::runner::remote(name, runner);
            if let Err(error) = self.sessions.of(&key(name, runner)).sweep(remote.as_ref()).await {
                tracing::debug!(%error, "what an earlier process left at a place is swept before it is used");
            }
        }
    }

    /// The checkout where a check is to run, if a person lets this project use that place.
    async fn site(
        &self,
        project: &ProjectName,
        at: Option<&str>,
        dir: &Path,
        cache: &Path,
    ) -> PortResult<Box<dyn RunnerSession>> {
        let Some(name) = at else { return Ok(Box::new(LocalSession::new(&self.sandbox, dir, cache)?)) };
        allowed(self.access_broker.grants(project), project, name)
            .map_err(|(what, fix)| PortError::permanent(what, fix))?;
        let runner = self.runners.get(name).ok_or_else(|| {
            let (what, fix) = unknown(&self.runners, name);
            PortError::permanent(what, fix)
        })?;
        super::runner::open_session(super::runner::remote(name, runner), &self.sessions, &key(name, runner), dir, cache)
            .await
    }

    async fn one(&self, project: &ProjectName, site: &mut dyn RunnerSession, spec: &CheckSpec) -> PortResult<Checked> {
        if spec.command.contains('\0') {
            let what = format!("the check {} cannot run: its command has a NUL character", spec.name);
            return Err(PortError::permanent(what, "take the NUL character out of the check's command"));
        }
        if let Some(Err(why)) = spec.junit.as_deref().map(crate::platform::rooted_fs::check) {
            return Ok(failed_without_running(spec, format!("its report's place is not usable: {why}")));
        }
        let label = format!("the check {}", spec.name);
        let asker = AccessRequest { project, audience: Audience::Check, level: self.sandbox.level(), label: &label };
        let given = match spec.runner {
            None => self.access_broker.grant(asker).await?,
            // Whoever has another machine has what is given to commands there.
            Some(_) => CommandAccess::none(&asker),
        };
        let ended = match site.run(spec, &given).await? {
            Ok(ended) => ended,
            Err(why) => return Ok(failed_without_running(spec, format!("its report's place {why}"))),
        };
        let (mut why, mut tests) = (command_failure(spec, &ended), None);
        let exit = if ended.timed_out { None } else { ended.code };
        let duration_ms = u64::try_from(ended.took.as_millis()).unwrap_or(u64::MAX);
        let tail = terminal_text::tail(&ended.stdout, TAIL_BYTES_MAX);
        let mut log = ended.into_log();
        let kept = match &spec.runner {
            None => given.denied_hosts().or_else(|| given.offline_hint(&tail).filter(|_| why.is_some())),
            Some(runner) => {
                let names = self.access_broker.grants(project).check_secrets.join(", ");
                let missed = why.is_some() && !names.is_empty();
                missed.then(|| format!("the project's secrets ({names}) are not given to checks at the place {runner}"))
            }
        };
        if let Some(kept) = kept {
            log.extend_from_slice(format!("\nSkep: {kept}\n").as_bytes());
            why = why.map(|why| format!("{why}; {kept}"));
        }
        let mut files = vec![(ArtifactKind::Log, format!("{}.log", spec.name), log)];
        if let Some(path) = &spec.junit {
            let counted = match site.report(path, junit::BYTES_MAX).await? {
                Ok(bytes) => match junit::count(&bytes) {
                    Ok(counts) => Ok((bytes, counts)),
                    Err(why) => Err(format!("its report {path:?} {why}")),
                },
                Err(NoReport::Missing) => Err(format!("it did not write its report {path:?}")),
                Err(NoReport::Refused(why)) => Err(format!("its report {why}")),
            };
            match counted {
                Ok((bytes, counts)) => {
                    files.push((ArtifactKind::TestReport, format!("{}.junit.xml", spec.name), bytes));
                    tests = Some(counts);
                    why = why.or_else(|| report_failure(spec.kind, counts));
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
                tail,
                tests,
                artifacts: Vec::new(),
                secrets: given.names(),
            },
            files,
        })
    }
}

#[async_trait]
impl Checks for CommandChecks {
    fn wanted(&self) -> &'static [&'static str] {
        detect::FILES
    }

    fn rules(&self, names: &[String], files: &BTreeMap<String, Vec<u8>>) -> Result<RepoRules, String> {
        let text = |name: &str| files.get(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let file = match files.get(repo_file::NAME) {
            Some(bytes) => {
                let text = std::str::from_utf8(bytes).map_err(|_| format!("{}: is not UTF-8 text", repo_file::NAME))?;
                repo_file::parse(text)?
            }
            None => repo_file::RepoFile::default(),
        };
        let checks = if file.checks.is_empty() { detect::detect(names, text) } else { file.checks };
        Ok(RepoRules { checks, tightening: file.policy })
    }

    fn placed(&self, project: &ProjectName, checks: Vec<CheckSpec>) -> Result<Vec<CheckSpec>, (String, String)> {
        let grants = self.access_broker.grants(project);
        let mut placed = Vec::with_capacity(checks.len());
        for mut check in checks {
            if let Some(name) = &check.runner {
                allowed(grants, project, name)
                    .map_err(|(what, fix)| (format!("the check {} can't be run: {what}", check.name), fix))?;
            } else {
                check.runner.clone_from(&grants.runner);
            }
            if check.runner.as_deref() == Some(LOCAL) {
                check.runner = None;
            }
            if let Some(name) = check.runner.as_ref().filter(|name| !self.runners.contains_key(*name)) {
                return Err(unknown(&self.runners, name));
            }
            placed.push(check);
        }
        Ok(placed)
    }

    async fn run(
        &self,
        project: &ProjectName,
        dir: &Path,
        cache: &Path,
        specs: &[CheckSpec],
    ) -> PortResult<Vec<Checked>> {
        let mut done: Vec<Checked> = Vec::with_capacity(specs.len());
        let mut stopped: Option<&str> = None;
        // One checkout at each place, for all checks that run there. Dropped by an error, they are ended as well.
        let mut sites: BTreeMap<Option<&str>, Box<dyn RunnerSession>> = BTreeMap::new();
        for spec in specs {
            let checked = match stopped {
                Some(setup) => failed_without_running(spec, format!("not run, because the setup check {setup} is red")),
                None => {
                    let at = spec.runner.as_deref();
                    let site = match sites.entry(at) {
                        std::collections::btree_map::Entry::Occupied(there) => there.into_mut(),
                        std::collections::btree_map::Entry::Vacant(none) => {
                            none.insert(self.site(project, at, dir, cache).await?)
                        }
                    };
                    self.one(project, site.as_mut(), spec).await?
                }
            };
            if spec.kind == CheckKind::Setup && !checked.result.green && stopped.is_none() {
                stopped = Some(&spec.name);
            }
            done.push(checked);
        }
        for site in sites.into_values() {
            site.leave().await;
        }
        Ok(done)
    }
}

/// What tells one place from another, however it was configured before.
fn key(name: &str, runner: &Runner) -> String {
    format!("{name} {runner:?}")
}

/// Whether a person lets a project use a place.
fn allowed(grants: &Grants, project: &ProjectName, name: &str) -> Result<(), (String, String)> {
    let default = grants.runner.as_deref().unwrap_or(LOCAL);
    if name == default || grants.runners.iter().any(|runner| runner == name) {
        return Ok(());
    }
    Err((
        format!("nobody allowed the project {project} to use the place {name}"),
        format!(
            "allow it with places = [\"{name}\"] in [project.{project}.checks], or take the place out of the check"
        ),
    ))
}

fn unknown(runners: &BTreeMap<String, Runner>, name: &str) -> (String, String) {
    let names: Vec<&str> = runners.keys().map(String::as_str).collect();
    let there =
        if names.is_empty() { "none is configured".to_owned() } else { format!("there are {}", names.join(", ")) };
    (format!("there is no place {name}: {there}"), format!("add the table [places.{name}], or name another place"))
}
