//! Verifies the store and the files of the data directory. Changes nothing; a service may be running.

use super::listing::names;
use super::program::Program;
use super::restore::require_finished;
use crate::adapters::store;
use crate::domain::ChangeNumber;
use crate::platform::git::durable_fs::run_blocking;
use crate::platform::git::{Git, Identity, TREE_TIMEOUT, output_tail};
use crate::ports::{Change, PortError, PortResult};
use crate::service::host::{Finding, HostContext, HostError, HostResult, Severity, Verification};
use std::path::{Path, PathBuf};

const RESTORE: &str = "restore a backup with `skep restore`; what is not named here is not affected";
/// Repetitions of a check of a mirror that changes while it is checked.
const MIRROR_TRIES: usize = 2;

/// Verifies this installation.
pub(super) async fn verify(program: &Program, context: &HostContext) -> HostResult<Verification> {
    let config = program.config(context)?;
    let data = &context.sources.data_dir;
    if !data.join("home").is_file() {
        return Err(HostError::usage(
            format!("{} is not a data directory that Skep has used: there is nothing to verify", data.display()),
            "name the data directory with --data-dir",
        ));
    }
    require_finished(data)?;
    program.init_logs(context, &config, false)?;
    let mut result = Verification::default();
    match store::connect(config.store.database.url(data).expose()).await {
        Ok(store) => {
            let found = store.verify().await?;
            let counts = [
                ("runs", found.runs),
                ("events", found.events),
                ("audit", found.audit),
                ("artifacts", found.artifacts),
            ];
            result.checked.extend(counts.map(|(name, n)| (name.to_owned(), n)));
            result.problems_total = found.damage_count;
            result
                .problems
                .extend(found.damages.into_iter().map(|damage| error(damage.subject, damage.detail, RESTORE)));
        }
        // A store that cannot be opened is the most important finding; the files are still verified.
        Err(PortError::Permanent { what, fix }) => report(&mut result, error("store".to_owned(), what, &fix)),
        Err(other) => return Err(other.into()),
    }
    verify_mirrors(data, &mut result).await?;
    let folder = data.clone();
    let (changes, damaged) = run_blocking(move || verify_changes(&folder)).await?;
    result.checked.insert("changes".to_owned(), changes);
    damaged.into_iter().for_each(|finding| report(&mut result, finding));
    Ok(result)
}

fn error(subject: String, detail: String, fix: &str) -> Finding {
    Finding { subject, severity: Severity::Error, detail, fix: fix.to_owned() }
}

fn report(result: &mut Verification, finding: Finding) {
    result.problems_total += 1;
    result.problems.push(finding);
}

/// Checks that each mirror has every object that its refs need.
async fn verify_mirrors(data: &Path, result: &mut Verification) -> HostResult<()> {
    let mirrors: Vec<PathBuf> = folders(&data.join("mirrors"))?.filter(|dir| dir.join("HEAD").is_file()).collect();
    result.checked.insert("mirrors".to_owned(), mirrors.len() as u64);
    if mirrors.is_empty() {
        return Ok(());
    }
    let git = Git::find(Identity::default()).await?;
    for mirror in mirrors {
        let mut wrong = None;
        for _ in 0..MIRROR_TRIES {
            let fsck = git.call(&mirror).args(["fsck", "--connectivity-only", "--no-dangling", "--no-progress"]);
            let finished = fsck.timeout(TREE_TIMEOUT).run("check a mirror").await?;
            wrong = (!finished.ok()).then(|| output_tail(&[finished.stdout, finished.stderr].concat()));
            if wrong.is_none() {
                break;
            }
        }
        if let Some(why) = wrong {
            let name = mirror.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let fix = "if its unpushed work is not needed, stop Skep and remove the folder: the mirror is made again from \
                       the repository; else restore a backup";
            report(result, error(format!("mirror {name}"), format!("git finds it damaged: {why}"), fix));
        }
    }
    Ok(())
}

/// Reads every change of the local forge. Returns their number, and the damaged ones.
fn verify_changes(data: &Path) -> PortResult<(u64, Vec<Finding>)> {
    let (mut number, mut damaged) = (0, Vec::new());
    for project in folders(&data.join("forge"))? {
        for entry in std::fs::read_dir(&project).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(expected) = name.strip_suffix(".json").and_then(|n| n.parse().ok()) else { continue };
            number += 1;
            let read = std::fs::read(&path).map_err(|e| e.to_string());
            let change = read.and_then(|bytes| serde_json::from_slice::<Change>(&bytes).map_err(|e| e.to_string()));
            let why = match change {
                Ok(change) if change.number == ChangeNumber(expected) => continue,
                Ok(change) => format!("it holds the change {}", change.number),
                Err(why) => why,
            };
            let subject = format!("change {}#{expected}", project.file_name().unwrap_or_default().to_string_lossy());
            damaged.push(error(subject, format!("{} is damaged: {why}", path.display()), RESTORE));
        }
    }
    Ok((number, damaged))
}

/// Returns the folders in a folder, sorted by name.
fn folders(dir: &Path) -> PortResult<impl Iterator<Item = PathBuf>> {
    let dir = dir.to_owned();
    Ok(names(&dir)?.into_iter().map(move |name| dir.join(name)).filter(|path| path.is_dir()))
}
