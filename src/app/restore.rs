//! Restores a backup into a new data directory and an empty database.
//!
//! The store is loaded in one transaction, which is committed once all files are on disk. Until the data directory is
//! complete, a marker in it makes every other command refuse it, and the same restore can be repeated.

use super::backup::report;
use super::program::{Program, prepare_folder};
use super::{key_source, owner};
use crate::adapters::backup::{BackupReader, EntryPath, Item};
use crate::adapters::store::KeySource;
use crate::adapters::store::dump::{Load, RESTORED};
use crate::config::{self, Config, Sources};
use crate::domain::ProjectName;
use crate::platform::clock::SystemClock;
use crate::platform::git::durable_fs::{read_text, remove_path, run_blocking, write_atomic};
use crate::platform::git::{Git, Identity, Mirrors};
use crate::ports::audit::AuditEntry;
use crate::ports::{Clock, PortError, PortResult};
use crate::service::host::{BackupReport, HostContext, HostError, HostErrorKind, HostResult};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Marks a data directory whose restore has not finished. Holds the path of the backup.
const MARKER: &str = "restore.unfinished";
/// Entries of a data directory that has been used.
const USED: &[&str] = &["home", "mirrors", "forge", "sealed", "work", "scratch"];
/// Name of the restored configuration if it is not used as it is.
const CONFIG_ASIDE: &str = "skep.toml.restored";

/// Refuses a data directory whose restore has not finished.
///
/// # Errors
/// If it is marked as unfinished.
pub(super) fn require_finished(data: &Path) -> HostResult<()> {
    let Some(backup) = read_text(&data.join(MARKER))? else { return Ok(()) };
    Err(HostError::config(
        format!("the restore of {} has not finished", data.display()),
        format!("repeat it: skep restore {}", backup.trim()),
    ))
}

/// Restores the backup `from`.
pub(super) async fn restore(program: &Program, context: &HostContext, from: &Path) -> HostResult<BackupReport> {
    let config = program.config(context)?;
    program.init_logs(context, &config, false)?;
    let data = context.sources.data_dir.clone();
    let from = std::path::absolute(from).unwrap_or_else(|_| from.to_owned());
    if owner::taken(&data) {
        return Err(in_use(&data));
    }
    let backup = Arc::new(run_blocking(move || BackupReader::open(&from)).await?);
    let manifest = backup.manifest();
    prepare_folder(&data, &config)?;
    let Some(_owned) = owner::take(&data)? else { return Err(in_use(&data)) };
    let subject = format!("backup:{}", manifest.id);
    let (marker, path) = (data.join(MARKER), backup.path().display().to_string());
    if !marker.exists()
        && let Some(entry) = USED.iter().find(|entry| std::fs::symlink_metadata(data.join(entry)).is_ok())
    {
        return Err(HostError::usage(
            format!("{} is not empty: it contains `{entry}`", data.display()),
            "restore into a new data directory: name one with --data-dir",
        ));
    }
    let url = config.store.database.url(&data);
    // Before anything is written: it refuses a database with rows, and a newer schema.
    let load = Load::begin(url.expose(), &manifest.schema, manifest.document_version, &subject).await?;
    let folder = data.clone();
    run_blocking(move || {
        write_atomic(&marker, format!("{path}\n").as_bytes())?;
        // What an interrupted restore has left.
        USED.iter().try_for_each(|entry| remove_path(&folder.join(entry)))
    })
    .await?;
    crate::fault!("restore-begun");
    create_mirrors(&data, manifest.files.keys()).await?;
    let rows = read_into(&backup, &data, load.as_ref()).await?;
    if load.is_some() && rows != manifest.rows {
        return Err(HostError::config(
            "the backup does not have the rows that its manifest counts",
            "use another backup",
        ));
    }
    crate::fault!("restore-files");
    sync(&data)?;
    if let Some(load) = load {
        let counts = |table: &str| manifest.rows.get(table).copied().unwrap_or_default();
        let record = AuditEntry {
            at: SystemClock.now(),
            principal: owner::person(),
            via: "cli".to_owned(),
            action: RESTORED.to_owned(),
            subject,
            detail: format!("{} runs, {} events", counts("run"), counts("event")),
        };
        load.finish(&record).await?;
    }
    crate::fault!("restore-loaded");
    let config_file = place_config(&context.sources, &config, &data)?;
    let home = format!("{}\n", manifest.home);
    let folder = data.clone();
    run_blocking(move || {
        write_atomic(&folder.join("home"), home.trim_end().as_bytes())?;
        remove_path(&folder.join(MARKER))
    })
    .await?;
    sync(&data)?;
    let bytes = std::fs::metadata(backup.path()).map_or(0, |meta| meta.len());
    let notes = notes(&config, &data, manifest.rows.get("secret").copied().unwrap_or_default(), &config_file);
    Ok(report(manifest, backup.path(), bytes, config_file.map(|file| file.display().to_string()), notes))
}

fn in_use(data: &Path) -> HostError {
    HostError::new(
        HostErrorKind::Locked,
        format!("another process uses the data directory {}", data.display()),
        "stop it first, or restore into a new data directory",
    )
}

/// Creates the git directories of the mirrors. A backup brings their objects and refs only.
async fn create_mirrors(data: &Path, names: impl Iterator<Item = &String>) -> PortResult<()> {
    let projects: BTreeSet<ProjectName> = names
        .filter_map(|name| match EntryPath::parse(name) {
            Some(EntryPath::Mirror(project, _)) => Some(project),
            _ => None,
        })
        .collect();
    if projects.is_empty() {
        return Ok(());
    }
    let mirrors = Mirrors::new(data.to_owned(), Arc::new(Git::find(Identity::default()).await?));
    for project in &projects {
        mirrors.create(project).await?;
    }
    Ok(())
}

/// Writes the files of a backup, and loads the parts of its store. Returns the number of rows by table.
async fn read_into(backup: &Arc<BackupReader>, data: &Path, load: Option<&Load>) -> PortResult<BTreeMap<String, u64>> {
    let (send, mut receive) = mpsc::channel(1);
    let (reader, folder, wants_store) = (Arc::clone(backup), data.to_owned(), load.is_some());
    let read = tokio::task::spawn_blocking(move || {
        reader.read(&mut |mut item: Item<'_>| {
            let fail = |name: &str, e: std::io::Error| {
                PortError::permanent(
                    format!("cannot restore {name}: {e}"),
                    "fix the cause (a full disk, a missing right), then repeat the restore",
                )
            };
            let target = match &item.path {
                EntryPath::Store if wants_store => {
                    let part = item.read_part().map_err(|e| fail(&item.name, e))?;
                    return send.blocking_send(part).map_err(|_| PortError::transient("the restore was abandoned"));
                }
                EntryPath::Store => return Ok(()),
                EntryPath::Config => folder.join(CONFIG_ASIDE),
                EntryPath::VaultKey => folder.join(EntryPath::VAULT_KEY),
                EntryPath::Mirror(project, file) => folder.join("mirrors").join(format!("{project}.git")).join(file),
                EntryPath::Data(file) => folder.join(file),
            };
            if matches!(item.path, EntryPath::Config | EntryPath::VaultKey) {
                // An interrupted restore may have written it.
                remove_path(&target)?;
            }
            item.write_to(&target).map_err(|e| fail(&item.name, e))
        })
    });
    let mut rows = BTreeMap::new();
    let mut failure = None;
    while let Some(part) = receive.recv().await {
        let Some(load) = load else { continue };
        match load.insert(&part).await {
            Ok((table, n)) => *rows.entry(table).or_default() += n,
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    // Ends the reader, if it is still at work.
    drop(receive);
    let read = read.await.map_err(|e| PortError::transient(format!("the restore was aborted: {e}")))?;
    failure.map_or(read, Err)?;
    Ok(rows)
}

/// Makes the restored configuration the one of the data directory, if it names the store that was restored. Returns
/// where it is.
fn place_config(sources: &Sources, config: &Config, data: &Path) -> HostResult<Option<PathBuf>> {
    let (aside, used) = (data.join(CONFIG_ASIDE), data.join("skep.toml"));
    if !aside.is_file() {
        return Ok(Some(used).filter(|file| file.is_file()));
    }
    // Without the environment, which may differ at the next start.
    let alone = Sources { file: Some(aside.clone()), env: Vec::new(), ..sources.clone() };
    let same = config::load(&alone).is_ok_and(|loaded| {
        loaded.config.store.database.url(data).expose() == config.store.database.url(data).expose()
    });
    if !same || sources.file.is_some() || used.exists() {
        return Ok(Some(aside));
    }
    std::fs::rename(&aside, &used)
        .map_err(|e| HostError::config(format!("cannot write {}: {e}", used.display()), "make it writable"))?;
    Ok(Some(used))
}

fn notes(config: &Config, data: &Path, secrets: u64, config_file: &Option<PathBuf>) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(aside) = config_file.as_ref().filter(|file| file.ends_with(CONFIG_ASIDE)) {
        notes.push(format!(
            "The backup's configuration is in {}. It is not in force, because another one is, or because it names \
             another store; compare them.",
            aside.display()
        ));
    }
    let key = data.join(EntryPath::VAULT_KEY);
    if secrets > 0 && matches!(key_source(config), KeySource::DataDir) && !key.exists() {
        notes.push(format!("The vault's key is missing: copy it to {} (mode 0600).", key.display()));
    }
    notes.push(
        "Stop the service of the original data directory, if there is one, before you start this one: both would work on \
         the same runs."
            .to_owned(),
    );
    notes
}

/// Waits until everything below the data directory is on disk.
fn sync(data: &Path) -> HostResult<()> {
    let synced = std::fs::File::open(data).and_then(|dir| rustix::fs::syncfs(dir).map_err(Into::into));
    synced.map_err(|e| HostError::unavailable(format!("cannot sync {}: {e}", data.display()), "repeat the restore"))
}
