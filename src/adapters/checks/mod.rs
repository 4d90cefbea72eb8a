//! Runs a project's checks in a fresh checkout, and believes only what it saw itself.

pub mod detect;
pub mod junit;
pub mod repo_file;

use super::beneath::{Beneath, Why};
use super::grants::give::{Asker, Giver, To};
use super::plain;
use super::process::{CUT, Finished};
use super::sandbox::{Job, Purpose, Sandbox};
use crate::domain::check::TestCounts;
use crate::domain::{ArtifactKind, CheckKind, CheckResult, CheckSpec, ProjectName};
use crate::ports::checks::{Checked, Checks, RepoRules};
use crate::ports::{PortError, PortResult};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// The most of a check's output that is kept.
const LOG_BYTES_MAX: usize = 1024 * 1024;
/// The most of it that goes into the result.
const TAIL_BYTES_MAX: usize = 4 * 1024;

/// Checks as commands in a sandbox.
#[derive(Clone, Debug)]
pub struct CommandChecks {
    sandbox: Sandbox,
    giver: Giver,
}

impl CommandChecks {
    /// Checks that run in `sandbox`.
    pub fn new(sandbox: Sandbox) -> Self {
        Self { sandbox, giver: Giver::default() }
    }

    /// The same, with what each project is granted.
    pub fn giving(self, giver: Giver) -> Self {
        Self { giver, ..self }
    }

    async fn one(&self, project: &ProjectName, dir: &Path, cache: &Path, spec: &CheckSpec) -> PortResult<Checked> {
        let tree = Beneath::open(dir).map_err(|e| not_run(dir, &e))?;
        if let Some(path) = &spec.junit {
            // A report that came with the commit must not pass for this run's.
            match tree.remove(path) {
                Ok(()) | Err(Why::Missing(_)) => {}
                Err(why) => return Ok(red(spec, format!("its report's place is not usable: {why}"))),
            }
        }
        std::fs::create_dir_all(cache).map_err(|e| not_run(cache, &e))?;
        let scratch = tempfile::tempdir_in(cache).map_err(|e| not_run(cache, &e))?;
        let label = format!("the check {}", spec.name);
        let given =
            self.giver.give(Asker { project, to: To::Check, level: self.sandbox.wall(), label: &label }).await?;
        let env = given.env();
        let job = Job {
            line: &spec.command,
            purpose: Purpose::Check,
            dir,
            cache,
            scratch: scratch.path(),
            env: &env,
            limit: Duration::from_secs(spec.limit_secs.max(1)),
            keep: LOG_BYTES_MAX - CUT.len(),
            gate: given.place(),
        };
        let ended = self.sandbox.run(&job, None).await.map_err(|e| not_run(dir, &e))?;
        let (mut why, mut tests) = (complaint(spec, &ended), None);
        let exit = if ended.timed_out { None } else { ended.code };
        let duration_ms = u64::try_from(ended.took.as_millis()).unwrap_or(u64::MAX);
        let tail = plain::tail(&ended.stdout, TAIL_BYTES_MAX);
        let mut log = ended.into_log();
        let refused = given.refused().or_else(|| given.kept_in(&tail).filter(|_| why.is_some()));
        if let Some(refused) = refused {
            log.extend_from_slice(format!("\nSkep: {refused}\n").as_bytes());
            why = why.map(|why| format!("{why}; {refused}"));
        }
        let mut files = vec![(ArtifactKind::Log, format!("{}.log", spec.name), log)];
        if let Some(path) = &spec.junit {
            match read_report(&tree, path) {
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

    async fn run(
        &self,
        project: &ProjectName,
        dir: &Path,
        cache: &Path,
        specs: &[CheckSpec],
    ) -> PortResult<Vec<Checked>> {
        let mut done: Vec<Checked> = Vec::with_capacity(specs.len());
        let mut stopped: Option<&str> = None;
        for spec in specs {
            let checked = match stopped {
                Some(setup) => red(spec, format!("not run, because the setup check {setup} is red")),
                None => self.one(project, dir, cache, spec).await?,
            };
            if spec.kind == CheckKind::Setup && !checked.result.green && stopped.is_none() {
                stopped = Some(&spec.name);
            }
            done.push(checked);
        }
        Ok(done)
    }
}

/// A check that is red without having run.
fn red(spec: &CheckSpec, why: String) -> Checked {
    let result = CheckResult {
        name: spec.name.clone(),
        kind: spec.kind,
        green: false,
        exit: None,
        duration_ms: 0,
        why,
        tail: String::new(),
        tests: None,
        artifacts: Vec::new(),
        given: Vec::new(),
    };
    Checked { result, files: Vec::new() }
}

fn not_run(place: &Path, e: &std::io::Error) -> PortError {
    use std::io::ErrorKind;
    let what = format!("checks cannot run at {}: {e}", place.display());
    match e.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            PortError::permanent(what, "look whether the folder was removed")
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            PortError::permanent(what, "let the user Skep runs as write there")
        }
        ErrorKind::InvalidInput => PortError::permanent(what, "take the NUL character out of the check's command"),
        _ => PortError::transient(what),
    }
}

/// What is wrong with how the command ended.
fn complaint(spec: &CheckSpec, ended: &Finished) -> Option<String> {
    if let Some(why) = &ended.stopped {
        return Some(format!("it was killed: {why}"));
    }
    match (ended.timed_out, ended.code) {
        (true, _) => {
            Some(format!("it was still running after its limit of {} s and was killed", spec.limit_secs.max(1)))
        }
        (_, Some(0)) => None,
        (_, Some(127)) => Some("it ended with exit code 127: a command was not found".to_owned()),
        (_, Some(code)) => Some(format!("it ended with exit code {code}")),
        (_, None) => {
            let signal = ended.signal.map_or_else(String::new, |s| format!(" {s}"));
            Some(format!("it was killed by signal{signal}"))
        }
    }
}

fn read_report(tree: &Beneath, path: &str) -> Result<(Vec<u8>, TestCounts), String> {
    let bytes = tree.read(path, junit::BYTES_MAX).map_err(|why| match why {
        Why::Missing(path) => format!("it did not write its report {path:?}"),
        why => format!("its report is not usable: {why}"),
    })?;
    let counts = junit::count(&bytes).map_err(|why| format!("its report {path:?} {why}"))?;
    Ok((bytes, counts))
}

/// What is wrong with a report of a command that ended well. Tests that prove nothing are not green.
fn doubt(kind: CheckKind, counts: TestCounts) -> Option<String> {
    match counts {
        TestCounts { failed: 1.., run, .. } => {
            Some(format!("it ended with exit code 0, but its report shows {} of {run} tests failed", counts.failed))
        }
        TestCounts { run: 0, .. } if kind == CheckKind::Test => Some("its report shows that no test ran".to_owned()),
        TestCounts { run, skipped, .. } if kind == CheckKind::Test && run == skipped => {
            Some(format!("its report shows that all {run} tests were skipped"))
        }
        _ => None,
    }
}
