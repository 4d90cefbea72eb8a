//! Makes a backup while a service may be running: first a snapshot of the store, then the files to which it refers.

use super::program::{Program, prepare};
use super::{key_source, owner};
use crate::adapters::backup::{BackupWriter, EntryPath, FORMAT, Manifest, data_files};
use crate::adapters::store::dump::{DumpSource, TablePart};
use crate::adapters::store::{self, KeySource, SeaStore};
use crate::config::Config;
use crate::platform::clock::SystemClock;
use crate::platform::git::durable_fs::run_blocking;
use crate::ports::{Clock, PortResult};
use crate::secrets::read_private;
use crate::service::host::{BackupReport, BackupRequest, HostContext, HostError, HostResult};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// Upper bound of a key file, in bytes.
const MAX_KEY_BYTES: u64 = 4096;

/// Writes a backup of this installation.
pub(super) async fn create(
    program: &Program,
    context: &HostContext,
    request: &BackupRequest,
) -> HostResult<BackupReport> {
    let config = program.config(context)?;
    let data = &context.sources.data_dir;
    if !data.join("home").is_file() {
        return Err(HostError::usage(
            format!("{} is not a data directory that Skep has used: there is nothing to back up", data.display()),
            "name the data directory with --data-dir",
        ));
    }
    prepare(data, &config)?;
    program.init_logs(context, &config, false)?;
    let home = owner::home(data)?;
    let store = store::connect(config.store.database.url(data).expose()).await?;
    let created_at = SystemClock.now();
    let path = match std::path::absolute(&request.to) {
        Ok(to) if to.is_dir() => to.join(format!("skep-backup-{}.tar", file_time(created_at.0))),
        Ok(to) => to,
        Err(e) => return Err(HostError::usage(format!("{}: {e}", request.to.display()), "name a file to write")),
    };
    let key = if request.with_vault_key { vault_key(&config, data)? } else { None };
    let has_key = key.is_some();
    let writer = run_blocking(move || BackupWriter::create(&path)).await?;
    let (writer, source, rows) = write_store(writer, &store).await?;
    let configuration = context.sources.file.clone().unwrap_or_else(|| data.join("skep.toml"));
    let folder = data.clone();
    let writer = run_blocking(move || {
        let mut writer = writer.add_file(EntryPath::CONFIG, &configuration)?;
        if let Some(key) = key {
            writer = writer.add_file(EntryPath::VAULT_KEY, &key)?;
        }
        data_files(&folder)?.into_iter().try_fold(writer, |writer, file| writer.add_file(&file.path, &file.from))
    })
    .await?;
    let manifest = Manifest {
        format: FORMAT,
        id: uuid::Uuid::now_v7().simple().to_string(),
        created_at,
        skep: env!("CARGO_PKG_VERSION").to_owned(),
        database: source.database.to_owned(),
        schema: source.schema,
        document_version: source.version,
        home,
        rows,
        files: BTreeMap::new(),
    };
    let (written, manifest) = run_blocking(move || writer.finish(manifest)).await?;
    let mut notes = Vec::new();
    let secrets = manifest.rows.get("secret").copied().unwrap_or_default();
    if secrets > 0 && !request.with_vault_key {
        let where_key = match key_source(&config) {
            KeySource::File(file) => format!("the file {}", file.display()),
            KeySource::Env(name, _) => format!("the variable {name}"),
            KeySource::DataDir => format!("the file {}", data.join(EntryPath::VAULT_KEY).display()),
        };
        notes.push(format!(
            "The vault's secrets are in the backup, encrypted; their key is not. It is in {where_key}: keep a copy of it \
             somewhere else."
        ));
    }
    if request.with_vault_key {
        let note = match has_key {
            true => "The backup holds the vault's key: anyone who has this file has every secret in the vault.",
            false => "The vault has no key yet: it is created with the first secret.",
        };
        notes.push(note.to_owned());
    }
    notes.push(
        "The backup holds goals, code, logs and names in plain text. Keep it as private as the data directory."
            .to_owned(),
    );
    Ok(report(&manifest, &written.path, written.bytes, None, notes))
}

/// Describes a backup.
pub(super) fn report(
    manifest: &Manifest,
    path: &Path,
    bytes: u64,
    config: Option<String>,
    notes: Vec<String>,
) -> BackupReport {
    let mut files = BTreeMap::new();
    for name in manifest.files.keys() {
        let kind = match EntryPath::parse(name) {
            None | Some(EntryPath::Store) => continue,
            Some(EntryPath::Config) => "config",
            Some(EntryPath::VaultKey) => "vault_key",
            Some(EntryPath::Mirror(..) | EntryPath::Data(_)) => name.split('/').next().unwrap_or_default(),
        };
        *files.entry(kind.to_owned()).or_default() += 1;
    }
    BackupReport {
        id: manifest.id.clone(),
        path: path.display().to_string(),
        bytes,
        created_at: manifest.created_at,
        rows: manifest.rows.clone(),
        files,
        config,
        notes,
    }
}

/// Copies the store into the backup, while it is being read.
async fn write_store(
    writer: BackupWriter,
    store: &SeaStore,
) -> PortResult<(BackupWriter, DumpSource, BTreeMap<String, u64>)> {
    let (send, receive) = mpsc::channel(1);
    // A failure to write ends the copy of the store, too. It is the cause, so it is reported first.
    let (source, written) = tokio::join!(store.dump(send), write_parts(writer, receive));
    let (writer, rows) = written?;
    Ok((writer, source?, rows))
}

/// Writes the parts of the store, and counts their rows by table.
async fn write_parts(
    mut writer: BackupWriter,
    mut parts: mpsc::Receiver<TablePart>,
) -> PortResult<(BackupWriter, BTreeMap<String, u64>)> {
    let (mut rows, mut numbers) = (BTreeMap::new(), BTreeMap::<_, u32>::new());
    while let Some(part) = parts.recv().await {
        let number = numbers.entry(part.table).or_default();
        *number += 1;
        *rows.entry(part.table.to_owned()).or_default() += part.rows;
        let name = format!("store/{}.{number:05}.jsonl", part.table);
        writer = run_blocking(move || writer.add_bytes(&name, &part.text)).await?;
    }
    Ok((writer, rows))
}

/// Returns the file that holds the vault's key.
fn vault_key(config: &Config, data: &Path) -> HostResult<Option<PathBuf>> {
    let file = match key_source(config) {
        KeySource::File(file) => file,
        KeySource::DataDir => data.join(EntryPath::VAULT_KEY),
        KeySource::Env(name, _) => {
            return Err(HostError::usage(
                format!("the vault's key is in the variable {name}, not in a file"),
                "keep a copy of its value yourself, and leave out --with-vault-key",
            ));
        }
    };
    match read_private(&file, MAX_KEY_BYTES) {
        Ok(_) => Ok(Some(file)),
        // The first secret creates it.
        Err(problem) if problem.is_missing && matches!(key_source(config), KeySource::DataDir) => Ok(None),
        Err(problem) => {
            Err(HostError::config(format!("the vault's key file {} {}", file.display(), problem.why), problem.fix))
        }
    }
}

/// Returns a moment as part of a file name: `20261129T221503Z`.
fn file_time(ms: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(ms).unwrap_or_default();
    time.format("%Y%m%dT%H%M%SZ").to_string()
}
