//! Exclusive transactions, for work that must read and then write with no other process in between.

use super::SeaStore;
use crate::ports::PortResult;
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, QueryResult, SqliteTransactionMode, TransactionOptions,
    TransactionTrait, Value,
};

/// One lock for all shared budgets of a database: reservations are rare, one per attempt.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7377)";

impl SeaStore {
    /// Begins a transaction that excludes every other one begun here, in all processes.
    pub(super) async fn exclusive(&self) -> PortResult<DatabaseTransaction> {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..Default::default()
        };
        let tx = self.write.begin_with_options(options).await.map_err(|e| self.writing(&e))?;
        if self.backend() == DbBackend::Postgres {
            self.query_in(&tx, LOCK, []).await.map_err(|e| self.writing(&e))?;
        }
        Ok(tx)
    }

    /// Ends a transaction: commits it, or rolls it back if its work failed.
    pub(super) async fn end<T>(&self, tx: DatabaseTransaction, result: Result<T, DbErr>) -> PortResult<T> {
        match result {
            Ok(value) => self.written(tx.commit().await.map(|()| value)),
            Err(e) => {
                let error = self.writing(&e);
                // Its writes are gone, whether or not the rollback succeeds.
                let _ended = tx.rollback().await;
                Err(error)
            }
        }
    }

    /// Reads all rows of a statement in a transaction.
    pub(super) async fn query_in(
        &self,
        tx: &DatabaseTransaction,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<QueryResult>, DbErr> {
        tx.query_all_raw(self.statement(sql, values)).await
    }

    /// Executes a statement in a transaction.
    pub(super) async fn execute_in(
        &self,
        tx: &DatabaseTransaction,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<(), DbErr> {
        tx.execute_raw(self.statement(sql, values)).await.map(drop)
    }
}
