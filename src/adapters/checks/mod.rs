//! Runs a project's checks in a fresh checkout, and believes only what it saw itself.

pub mod detect;
pub mod junit;
mod place;
pub mod proof;
pub mod repo_file;
mod verdict;

use super::grants::Granted;
use super::grants::Grants;
use super::grants::give::{Asker, Given, Giver, To};
use super::places::{LOCAL, Place};
use super::plain;
use super::process::CUT;
use super::sandbox::Sandbox;
use crate::domain::{ArtifactKind, CheckKind, CheckResult, CheckSpec, ProjectName};
use crate::ports::checks::{Checked, Checks, RepoRules};
use crate::ports::{PortError, PortResult};
use async_trait::async_trait;
pub use place::Grounds;
use place::{Here, Site, Unwritten};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use verdict::{complaint, doubt, red};

/// The most of a check's output that is kept.
const LOG_BYTES_MAX: usize = 1024 * 1024;
/// The same without the words that stand before the rest of a cut one.
const LOG_KEPT: usize = LOG_BYTES_MAX - CUT.len();
/// The most of it that goes into the result.
const TAIL_BYTES_MAX: usize = 4 * 1024;

/// Checks as commands: in a sandbox, or at the places a person configured.
#[derive(Clone, Debug)]
pub struct CommandChecks {
    sandbox: Sandbox,
    giver: Giver,
    places: Arc<BTreeMap<String, Place>>,
    grounds: Grounds,
}

impl CommandChecks {
    /// Checks that run in `sandbox` and nowhere else.
    pub fn new(sandbox: Sandbox) -> Self {
        Self { sandbox, giver: Giver::default(), places: Arc::default(), grounds: Grounds::new("test-none") }
    }

    /// The same, with what each project is given.
    #[must_use]
    pub fn giving(self, giver: Giver) -> Self {
        Self { giver, ..self }
    }

    /// The same with places, and what projects may use of them. `grounds` outlives a change of the configuration.
    #[must_use]
    pub fn with_places(mut self, places: BTreeMap<String, Place>, granted: Granted, grounds: Grounds) -> Self {
        (self.places, self.giver, self.grounds) = (Arc::new(places), self.giver.granting(Arc::new(granted)), grounds);
        self
    }

    /// Ends and removes what an earlier process left in Docker engines; for the start of a service. Hosts are swept when they are
    /// used: there a command ends with its connection.
    pub async fn sweep(&self) {
        for (name, place) in self.places.iter().filter(|(_, place)| matches!(place, Place::Docker(_))) {
            let remote = place::remote(name, place);
            if let Err(error) = self.grounds.of(&key(name, place)).sweep(remote.as_ref()).await {
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
    ) -> PortResult<Box<dyn Site>> {
        let Some(name) = at else { return Ok(Box::new(Here::new(&self.sandbox, dir, cache)?)) };
        allowed(self.giver.grants(project), project, name).map_err(|(what, fix)| PortError::permanent(what, fix))?;
        let place = self.places.get(name).ok_or_else(|| {
            let (what, fix) = unknown(&self.places, name);
            PortError::permanent(what, fix)
        })?;
        place::settle(place::remote(name, place), &self.grounds, &key(name, place), dir, cache).await
    }

    async fn one(&self, project: &ProjectName, site: &mut dyn Site, spec: &CheckSpec) -> PortResult<Checked> {
        if spec.command.contains('\0') {
            let what = format!("the check {} cannot run: its command has a NUL character", spec.name);
            return Err(PortError::permanent(what, "take the NUL character out of the check's command"));
        }
        if let Some(Err(why)) = spec.junit.as_deref().map(super::beneath::check) {
            return Ok(red(spec, format!("its report's place is not usable: {why}")));
        }
        let label = format!("the check {}", spec.name);
        let asker = Asker { project, to: To::Check, level: self.sandbox.wall(), label: &label };
        let given = match spec.place {
            None => self.giver.give(asker).await?,
            // Whoever has another machine has what is given to commands there.
            Some(_) => Given::nothing(&asker),
        };
        let ended = match site.run(spec, &given).await? {
            Ok(ended) => ended,
            Err(why) => return Ok(red(spec, format!("its report's place {why}"))),
        };
        let (mut why, mut tests) = (complaint(spec, &ended), None);
        let exit = if ended.timed_out { None } else { ended.code };
        let duration_ms = u64::try_from(ended.took.as_millis()).unwrap_or(u64::MAX);
        let tail = plain::tail(&ended.stdout, TAIL_BYTES_MAX);
        let mut log = ended.into_log();
        let kept = match &spec.place {
            None => given.refused().or_else(|| given.kept_in(&tail).filter(|_| why.is_some())),
            Some(place) => {
                let names = self.giver.grants(project).check_secrets.join(", ");
                let missed = why.is_some() && !names.is_empty();
                missed.then(|| format!("the project's secrets ({names}) are not given to checks at the place {place}"))
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
                Err(Unwritten::Missing) => Err(format!("it did not write its report {path:?}")),
                Err(Unwritten::Refused(why)) => Err(format!("its report {why}")),
            };
            match counted {
                Ok((bytes, counts)) => {
                    files.push((ArtifactKind::TestReport, format!("{}.junit.xml", spec.name), bytes));
                    tests = Some(counts);
                    why = why.or_else(|| doubt(spec.kind, counts));
                }
                Err(text) => why = why.or(Some(text)),
            }
        }
        Ok(Checked {
            result: CheckResult {
                name: spec.name.clone(),
                kind: spec.kind,
                green: why.is_none(),
                exit,
                duration_ms,
                why: why.unwrap_or_default(),
                tail,
                tests,
                artifacts: Vec::new(),
                given: given.names(),
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
        let grants = self.giver.grants(project);
        let mut placed = Vec::with_capacity(checks.len());
        for mut check in checks {
            if let Some(name) = &check.place {
                allowed(grants, project, name)
                    .map_err(|(what, fix)| (format!("the check {} can't be run: {what}", check.name), fix))?;
            } else {
                check.place.clone_from(&grants.place);
            }
            if check.place.as_deref() == Some(LOCAL) {
                check.place = None;
            }
            if let Some(name) = check.place.as_ref().filter(|name| !self.places.contains_key(*name)) {
                return Err(unknown(&self.places, name));
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
        let mut sites: BTreeMap<Option<&str>, Box<dyn Site>> = BTreeMap::new();
        for spec in specs {
            let checked = match stopped {
                Some(setup) => red(spec, format!("not run, because the setup check {setup} is red")),
                None => {
                    let at = spec.place.as_deref();
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
fn key(name: &str, place: &Place) -> String {
    format!("{name} {place:?}")
}

/// Whether a person lets a project use a place.
fn allowed(grants: &Grants, project: &ProjectName, name: &str) -> Result<(), (String, String)> {
    let default = grants.place.as_deref().unwrap_or(LOCAL);
    if name == default || grants.places.iter().any(|place| place == name) {
        return Ok(());
    }
    Err((
        format!("nobody allowed the project {project} to use the place {name}"),
        format!(
            "allow it with places = [\"{name}\"] in [project.{project}.checks], or take the place out of the check"
        ),
    ))
}

fn unknown(places: &BTreeMap<String, Place>, name: &str) -> (String, String) {
    let names: Vec<&str> = places.keys().map(String::as_str).collect();
    let there =
        if names.is_empty() { "none is configured".to_owned() } else { format!("there are {}", names.join(", ")) };
    (format!("there is no place {name}: {there}"), format!("add the table [places.{name}], or name another place"))
}
