//! Verifies the store: everything that can be derived from something else is derived again and compared.
//!
//! It reads one snapshot of the database, so that what is written meanwhile raises no false alarm, one run at a time.

mod replay;
mod run;

use super::{SeaStore, audit};
use crate::ports::PortResult;
use futures::TryStreamExt;
use sea_orm::{DatabaseTransaction, DbBackend, DbErr, QueryResult, StreamTrait};
use sha2::{Digest, Sha256};

/// Upper bound of damages that are described; all are counted.
const MAX_DESCRIBED: usize = 1_000;
/// Runs whose ids are read at once.
const PAGE: i64 = 500;
/// Longest lease that a process takes, with an hour for clocks that differ.
const MAX_LEASE_MS: i64 = 25 * 3_600_000;

const RUNS: &str = "SELECT id FROM run WHERE id > $1 ORDER BY id LIMIT $2";
const AUDIT: &str = "SELECT id, at, principal, via, action, subject, detail, hash FROM audit ORDER BY id";
const ARTIFACTS: &str = "SELECT digest, size, bytes FROM artifact WHERE removed_at IS NULL ORDER BY digest";
/// An owner without an end, an end without an owner, an epoch that no owner can have.
const LEASES: &str = "SELECT id FROM run WHERE (owner IS NULL AND lease_until <> 0) OR (owner IS NOT NULL AND epoch < 1) \
    OR lease_until > {now} + $1 ORDER BY id LIMIT 100";

/// Something wrong in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What it is in: `run 0190…`, `audit`, `artifact`.
    pub subject: String,
    /// What is wrong.
    pub detail: String,
}

/// What was verified, and what is wrong.
#[derive(Clone, Debug, Default)]
pub struct StoreVerification {
    /// Number of runs.
    pub runs: u64,
    /// Number of journal rows.
    pub events: u64,
    /// Number of audit records.
    pub audit: u64,
    /// Number of artifacts.
    pub artifacts: u64,
    /// The first damages.
    pub damages: Vec<Damage>,
    /// Number of all damages.
    pub damage_count: u64,
}

impl StoreVerification {
    fn report(&mut self, subject: impl Into<String>, detail: impl Into<String>) {
        self.damage_count += 1;
        if self.damages.len() < MAX_DESCRIBED {
            self.damages.push(Damage { subject: subject.into(), detail: detail.into() });
        }
    }
}

impl SeaStore {
    /// Verifies journals, snapshots, outbox, ledger, leases, artifacts and the audit log. Changes nothing.
    ///
    /// # Errors
    /// If the database cannot be read at all. Rows that cannot be read are damages.
    pub async fn verify(&self) -> PortResult<StoreVerification> {
        let tx = self.snapshot().await?;
        let mut found = StoreVerification::default();
        let verified = async {
            self.verify_file(&tx, &mut found).await?;
            self.verify_runs(&tx, &mut found).await?;
            self.verify_leases(&tx, &mut found).await?;
            self.verify_orphans(&tx, &mut found).await?;
            self.verify_artifacts(&tx, &mut found).await?;
            self.verify_audit(&tx, &mut found).await
        };
        let verified: Result<(), DbErr> = verified.await;
        // It has only read.
        let _ended = tx.rollback().await;
        verified.map_err(|e| self.reading(&e))?;
        Ok(found)
    }

    /// Lets SQLite check the form of its file. Postgres has tools of its own for that.
    async fn verify_file(&self, tx: &DatabaseTransaction, found: &mut StoreVerification) -> Result<(), DbErr> {
        if self.backend() == DbBackend::Postgres {
            return Ok(());
        }
        for row in self.query_in(tx, "PRAGMA integrity_check(20)", []).await? {
            let verdict: String = row.try_get_by_index(0)?;
            if verdict != "ok" {
                found.report("database file", verdict);
            }
        }
        Ok(())
    }

    async fn verify_runs(&self, tx: &DatabaseTransaction, found: &mut StoreVerification) -> Result<(), DbErr> {
        let mut after = String::new();
        loop {
            let page = self.query_in(tx, RUNS, [after.as_str().into(), PAGE.into()]).await?;
            let ids: Vec<String> = page.iter().map(|row| row.try_get("", "id")).collect::<Result<_, _>>()?;
            let Some(last) = ids.last() else { return Ok(()) };
            after = last.clone();
            for id in &ids {
                found.runs += 1;
                self.verify_run(tx, id, found).await?;
            }
        }
    }

    async fn verify_leases(&self, tx: &DatabaseTransaction, found: &mut StoreVerification) -> Result<(), DbErr> {
        for row in self.query_in(tx, LEASES, [MAX_LEASE_MS.into()]).await? {
            let id: String = row.try_get("", "id")?;
            found.report(
                format!("run {id}"),
                "its lease has no owner, an impossible epoch, or an end more than a day away",
            );
        }
        Ok(())
    }

    /// Finds rows of runs that do not exist.
    async fn verify_orphans(&self, tx: &DatabaseTransaction, found: &mut StoreVerification) -> Result<(), DbErr> {
        for (table, rows) in [("event", "journal"), ("outbox", "outbox"), ("ledger_row", "ledger")] {
            let sql = format!(
                "SELECT DISTINCT run FROM {table} WHERE NOT EXISTS (SELECT 1 FROM run WHERE run.id = {table}.run) LIMIT 100"
            );
            for row in self.query_in(tx, &sql, []).await? {
                let id: String = row.try_get("", "run")?;
                found.report(format!("run {id}"), format!("the {rows} has rows of this run, which does not exist"));
            }
        }
        Ok(())
    }

    async fn verify_artifacts(&self, tx: &DatabaseTransaction, found: &mut StoreVerification) -> Result<(), DbErr> {
        let mut rows = tx.stream_raw(self.statement(ARTIFACTS, [])).await?;
        while let Some(row) = rows.try_next().await? {
            found.artifacts += 1;
            let read = |row: &QueryResult| -> Result<(String, i64, Vec<u8>), DbErr> {
                Ok((row.try_get("", "digest")?, row.try_get("", "size")?, row.try_get("", "bytes")?))
            };
            match read(&row) {
                Err(e) => found.report("artifact", format!("its row cannot be read: {e}")),
                Ok((digest, size, bytes)) => {
                    let actual: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
                    if actual != digest || usize::try_from(size) != Ok(bytes.len()) {
                        found.report(format!("artifact {digest}"), "its bytes do not match its digest or size");
                    }
                }
            }
        }
        Ok(())
    }

    /// Follows the chain. Records from before it have no hash.
    async fn verify_audit(&self, tx: &DatabaseTransaction, found: &mut StoreVerification) -> Result<(), DbErr> {
        let mut rows = tx.stream_raw(self.statement(AUDIT, [])).await?;
        let mut previous = String::new();
        while let Some(row) = rows.try_next().await? {
            found.audit += 1;
            let read = audit::row_of(&row).and_then(|record| Ok((record, row.try_get::<String>("", "hash")?)));
            match read {
                Err(e) => found.report("audit log", format!("a record cannot be read: {e}")),
                Ok((record, hash)) => {
                    let is_before_chain = hash.is_empty() && previous.is_empty();
                    if !is_before_chain && hash != audit::hash(&previous, &record.entry) {
                        let what =
                            "does not continue the chain: it was changed, or one before it was changed or removed";
                        found.report("audit log", format!("record {} {what}", record.id));
                    }
                    previous = hash;
                }
            }
        }
        Ok(())
    }
}
