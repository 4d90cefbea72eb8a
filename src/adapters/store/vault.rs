//! The vault's rows: sealed before they are written, opened after they are read.
//!
//! A ciphertext is bound to its name, scope and version: moved to another row, or changed, it does not open. A secret
//! that does not open affects no other secret.

use super::SeaStore;
use super::vault_keys::{KeySource, VaultKeys, no_random, read};
use crate::domain::{ProjectName, Timestamp};
use crate::ports::vault::{MAX_SECRET_BYTES, Rekeyed, SecretName, SecretRow, Vault};
use crate::ports::{PortError, PortResult};
use crate::secrets::{Sealed, Secret, register};
use async_trait::async_trait;
use sea_orm::{ConnectionTrait, QueryResult, SqliteTransactionMode, TransactionOptions, TransactionTrait};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use tokio::sync::RwLock;

/// Upper bound of secrets in one store.
const MAX_SECRETS: i64 = 1_000;
/// Maximum number of tries of a write while others write the same name.
const MAX_TRIES: u32 = 100;

const COLUMNS: &str = "scope, name, version, key_id, nonce, ciphertext, created_at, updated_at, last_used_at";
const ONE: &str = "WHERE scope = $1 AND name = $2";
/// The project's own secret sorts after the one for all projects.
const NEAREST: &str = "WHERE name = $1 AND scope IN ('', $2) ORDER BY scope DESC LIMIT 1";
const COUNT: &str = "SELECT count(*) AS n FROM secret";
const ADD: &str = "INSERT INTO secret (scope, name, version, key_id, nonce, ciphertext, created_at, updated_at) \
    VALUES ($1, $2, $3, $4, $5, $6, {now}, {now}) ON CONFLICT (scope, name) DO NOTHING RETURNING version";
const REPLACE: &str = "UPDATE secret SET version = $3, key_id = $4, nonce = $5, ciphertext = $6, updated_at = {now} \
    WHERE scope = $1 AND name = $2 AND version = $3 - 1 RETURNING version";
const RESEAL: &str = "UPDATE secret SET key_id = $4, nonce = $5, ciphertext = $6 \
    WHERE scope = $1 AND name = $2 AND version = $3 RETURNING version";
const SEALED_WITH: &str = "SELECT key_id, count(*) AS n FROM secret GROUP BY key_id ORDER BY key_id LIMIT 1000";
const RESTORE_KEY: &str = "restore that key (vault.key in the data directory, secrets.key_file or secrets.key_env), or \
    remove the secrets with `skep secret remove` and set them again";
const USED: &str = "UPDATE secret SET last_used_at = {now} WHERE scope = $1 AND name = $2 RETURNING version";
const REMOVE: &str = "DELETE FROM secret WHERE scope = $1 AND name = $2 RETURNING version";

const ALL: &str = "ORDER BY name, scope LIMIT 10000";

/// Versions of the values that were made known, by scope and name.
type Known = BTreeMap<(String, String), u64>;

/// The vault of a store.
#[derive(Debug)]
pub struct SeaVault {
    store: SeaStore,
    keys: VaultKeys,
    /// Sealing a value holds it for reading, resealing everything for writing: no value is sealed with the old key
    /// afterwards.
    sealing: RwLock<()>,
    known: Mutex<Known>,
}

impl SeaStore {
    /// Returns the vault of this store.
    pub fn vault(&self, source: KeySource, data_dir: &Path) -> SeaVault {
        SeaVault {
            store: self.clone(),
            keys: VaultKeys::new(source, data_dir),
            sealing: RwLock::default(),
            known: Mutex::default(),
        }
    }
}

/// A row with its sealed value.
struct Row {
    row: SecretRow,
    sealed: Sealed,
}

impl Row {
    fn scope(&self) -> &str {
        self.row.project.as_deref().unwrap_or_default()
    }
}

/// Returns the associated data that a ciphertext is bound to.
fn binding(scope: &str, name: &str, version: u64) -> Vec<u8> {
    format!("skep secret\0{}:{scope}\0{}:{name}\0{version}", scope.len(), name.len()).into_bytes()
}

fn scope_of(project: Option<&ProjectName>) -> &str {
    project.map_or("", ProjectName::as_str)
}

fn secrets_are(count: i64) -> String {
    if count == 1 { "1 secret is".to_owned() } else { format!("{count} secrets are") }
}

fn label(scope: &str, name: &str) -> String {
    if scope.is_empty() { format!("the secret {name}") } else { format!("the secret {name} of project {scope}") }
}

impl SeaVault {
    async fn rows(&self, clause: &str, values: Vec<sea_orm::Value>) -> PortResult<Vec<Row>> {
        let sql = format!("SELECT {COLUMNS} FROM secret {clause}");
        let rows = self.store.read(&sql, values).await?;
        rows.iter().map(|row| self.row_of(row)).collect()
    }

    fn row_of(&self, row: &QueryResult) -> PortResult<Row> {
        let fail = |e: sea_orm::DbErr| self.store.reading(&e);
        let number = |name: &str| row.try_get::<i64>("", name).map_err(fail);
        let scope: String = row.try_get("", "scope").map_err(fail)?;
        let key_id: String = row.try_get("", "key_id").map_err(fail)?;
        Ok(Row {
            row: SecretRow {
                name: row.try_get("", "name").map_err(fail)?,
                project: (!scope.is_empty()).then_some(scope),
                version: u64::try_from(number("version")?).unwrap_or(0),
                key_id: key_id.clone(),
                created_at: Timestamp(number("created_at")?),
                updated_at: Timestamp(number("updated_at")?),
                last_used_at: row.try_get::<Option<i64>>("", "last_used_at").map_err(fail)?.map(Timestamp),
            },
            sealed: Sealed {
                key_id,
                nonce: row.try_get("", "nonce").map_err(fail)?,
                ciphertext: row.try_get("", "ciphertext").map_err(fail)?,
            },
        })
    }

    fn unseal(&self, row: &Row) -> PortResult<Secret> {
        let (scope, name) = (row.scope(), row.row.name.as_str());
        let Some(key) = self.keys.by_id(&row.sealed.key_id)? else {
            return Err(PortError::permanent(
                format!(
                    "{} is sealed with key {}, but this Skep has key {}",
                    label(scope, name),
                    row.sealed.key_id,
                    self.keys.current(false)?.id()
                ),
                "configure the key it was sealed with (secrets.key_file, secrets.key_env), or set the secret again",
            ));
        };
        key.open(&binding(scope, name, row.row.version), &row.sealed).map_err(|e| {
            PortError::permanent(
                format!("cannot open {}: {e}", label(scope, name)),
                format!("set it again with `skep secret set {name}`, or restore the store from a backup; other secrets are not affected"),
            )
        })
    }

    /// Returns the keys that seal the stored values, each with the number of values.
    async fn sealing_keys(&self) -> PortResult<Vec<(String, i64)>> {
        let fail = |e: sea_orm::DbErr| self.store.reading(&e);
        let rows = self.store.read(SEALED_WITH, []).await?;
        let of =
            |row: &QueryResult| Ok((row.try_get("", "key_id").map_err(fail)?, row.try_get("", "n").map_err(fail)?));
        rows.iter().map(of).collect()
    }

    /// Refuses to create a key while values are sealed with one whose file is gone: it may have been lost or moved by
    /// mistake, and a new one would hide that.
    async fn refuse_new_key(&self) -> PortResult<()> {
        match self.sealing_keys().await?.first() {
            Some((id, count)) if !self.keys.is_configured() => Err(PortError::permanent(
                format!("the vault's key file is missing, and {} sealed with key {id}", secrets_are(*count)),
                RESTORE_KEY,
            )),
            _ => Ok(()),
        }
    }

    fn values(scope: &str, name: &str, version: u64, sealed: Sealed) -> [sea_orm::Value; 6] {
        let version = i64::try_from(version).unwrap_or(i64::MAX);
        [scope.into(), name.into(), version.into(), sealed.key_id.into(), sealed.nonce.into(), sealed.ciphertext.into()]
    }
}

#[async_trait]
impl Vault for SeaVault {
    async fn set(
        &self,
        name: &SecretName,
        project: Option<&ProjectName>,
        value: &Secret,
    ) -> PortResult<(SecretRow, Option<String>)> {
        let size = value.expose().len();
        if size == 0 || size > MAX_SECRET_BYTES {
            return Err(PortError::permanent(
                format!("the value of {name} has {size} bytes"),
                format!("use a value of 1 to {MAX_SECRET_BYTES} bytes"),
            ));
        }
        register(name.as_str(), value).keep();
        let _sealing = self.sealing.read().await;
        let (scope, name) = (scope_of(project), name.as_str());
        self.refuse_new_key().await?;
        let key = self.keys.current(true)?;
        for _ in 0..MAX_TRIES {
            let existing = self.rows(ONE, vec![scope.into(), name.into()]).await?;
            let version = existing.first().map_or(1, |row| row.row.version + 1);
            if existing.is_empty() {
                let rows = self.store.read(COUNT, []).await?;
                let count: i64 = match rows.first() {
                    Some(row) => row.try_get("", "n").map_err(|e| self.store.reading(&e))?,
                    None => 0,
                };
                if count >= MAX_SECRETS {
                    return Err(PortError::permanent(
                        format!("there are already {count} secrets"),
                        "remove some with `skep secret remove`",
                    ));
                }
            }
            let sealed = key.seal(&binding(scope, name, version), value.expose()).map_err(no_random)?;
            let sql = if existing.is_empty() { ADD } else { REPLACE };
            // No row is returned if another process wrote in the meantime: try again.
            if self.store.write(sql, Self::values(scope, name, version, sealed)).await?.is_empty() {
                continue;
            }
            let row = self.rows(ONE, vec![scope.into(), name.into()]).await?.pop();
            let row = row.ok_or_else(|| PortError::transient(format!("{name} was removed at the same moment")))?;
            return Ok((row.row, self.keys.notice()));
        }
        Err(PortError::transient(format!("{} is being written by other processes", label(scope, name))))
    }

    async fn open(&self, name: &SecretName, project: Option<&ProjectName>) -> PortResult<Secret> {
        let scope = scope_of(project);
        let row = self.rows(NEAREST, vec![name.as_str().into(), scope.into()]).await?.pop();
        let Some(row) = row else {
            let scopes =
                project.map_or_else(String::new, |p| format!(", neither for project {p} nor for all projects"));
            return Err(PortError::permanent(
                format!("there is no secret {name}{scopes}"),
                match project {
                    Some(project) => format!(
                        "set it with `skep secret set {name} --project {project}`, or for all projects without --project"
                    ),
                    None => format!("set it with `skep secret set {name}`"),
                },
            ));
        };
        let value = self.unseal(&row)?;
        register(name.as_str(), &value).keep();
        if let Err(error) = self.store.write(USED, [row.scope().into(), name.as_str().into()]).await {
            tracing::debug!(%name, %error, "cannot record the use of a secret");
        }
        Ok(value)
    }

    async fn remember(&self) -> PortResult<()> {
        for row in self.rows(ALL, Vec::new()).await? {
            let of = (row.scope().to_owned(), row.row.name.clone());
            let is_known = |known: &Known| known.get(&of) == Some(&row.row.version);
            if is_known(&self.known.lock().unwrap_or_else(PoisonError::into_inner)) {
                continue;
            }
            match self.unseal(&row) {
                Ok(value) => register(&row.row.name, &value).keep(),
                Err(error) => {
                    tracing::debug!(name = row.row.name, %error, "a secret cannot be opened, so it is not known");
                    continue;
                }
            }
            self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(of, row.row.version);
        }
        Ok(())
    }

    async fn list(&self) -> PortResult<Vec<SecretRow>> {
        let rows = self.rows(ALL, Vec::new()).await?;
        Ok(rows.into_iter().map(|row| row.row).collect())
    }

    async fn remove(&self, name: &SecretName, project: Option<&ProjectName>) -> PortResult<bool> {
        let removed = self.store.write(REMOVE, [scope_of(project).into(), name.as_str().into()]).await?;
        Ok(!removed.is_empty())
    }

    async fn check(&self) -> PortResult<()> {
        let sealed = self.sealing_keys().await?;
        if sealed.is_empty() && !self.keys.is_configured() {
            return Ok(());
        }
        let current = self.keys.current(false)?;
        for (id, count) in sealed {
            if self.keys.by_id(&id)?.is_none() {
                let sealed = secrets_are(count);
                let what = format!("{sealed} sealed with key {id}, but this Skep has key {}", current.id());
                return Err(PortError::permanent(what, RESTORE_KEY));
            }
        }
        Ok(())
    }

    async fn rekey(&self, new_key_file: &Path) -> PortResult<Rekeyed> {
        let new = read(new_key_file)?;
        let _resealing = self.sealing.write().await;
        // Immediate: on SQLite no other process writes between the read and the write.
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let fail = |e| self.store.writing(&e);
        let tx = self.store.write.begin_with_options(options).await.map_err(fail)?;
        let sql = format!("SELECT {COLUMNS} FROM secret ORDER BY scope, name");
        let rows = tx.query_all_raw(self.store.statement(&sql, [])).await.map_err(fail)?;
        self.keys.announce(&new)?;
        let mut secrets = 0;
        for row in &rows {
            let row = self.row_of(row)?;
            let (scope, name, version) = (row.scope(), row.row.name.as_str(), row.row.version);
            // A secret that does not open ends the rekeying: under the new key it would be lost for good.
            let value = self.unseal(&row)?;
            let sealed = new.seal(&binding(scope, name, version), value.expose()).map_err(no_random)?;
            let statement = self.store.statement(RESEAL, Self::values(scope, name, version, sealed));
            if tx.query_all_raw(statement).await.map_err(fail)?.is_empty() {
                return Err(PortError::transient(format!("{} was written in the meantime", label(scope, name))));
            }
            secrets += 1;
        }
        self.store.written(tx.commit().await)?;
        let key_id = new.id();
        let next = self.keys.adopt(new, new_key_file)?;
        Ok(Rekeyed { secrets, key_id, next })
    }
}
