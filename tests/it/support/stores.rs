//! A fresh store on either database for one test, with a way to damage it.

use super::postgres;
use super::runs::{no_lease, opening, owner};
use skep::adapters::store::{SeaStore, connect, migrate};
use skep::domain::{Run, RunId};
use skep::ports::journal::Transition;
use skep::ports::leases::Lease;
use skep::ports::store::Store;
use skep::ports::{PortError, PortResult};
use std::future::Future;
use std::sync::Arc;

/// A store under test.
pub struct TestStore {
    /// The store through its port.
    pub store: Arc<dyn Store>,
    /// The adapter itself, for what the port does not cover.
    pub sea: SeaStore,
    /// URL of the database.
    pub url: String,
}

/// Runs `test` on a fresh SQLite store.
pub async fn on_sqlite<F: Future<Output = ()>>(test: impl FnOnce(TestStore) -> F) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = format!("sqlite://{}/skep.db", folder.path().display());
    test(open_store(url).await).await;
}

/// Runs `test` on a fresh Postgres store.
pub async fn on_postgres<F: Future<Output = ()>>(test: impl FnOnce(TestStore) -> F) {
    let url = postgres::database().await;
    test(open_store(url.clone()).await).await;
    postgres::drop_database(&url).await;
}

async fn open_store(url: String) -> TestStore {
    migrate(&url).await.expect("the schema");
    let sea = connect(&url).await.expect("the store");
    TestStore { store: Arc::new(sea.clone()), sea, url }
}

impl TestStore {
    /// Whether the store is on SQLite.
    pub fn sqlite(&self) -> bool {
        self.url.starts_with("sqlite:")
    }

    /// Executes a statement directly on the database, past the store.
    pub async fn damage(&self, sql: &str) {
        use sea_orm::sqlx::{AssertSqlSafe, ConnectOptions, Connection, query, sqlite::SqliteConnectOptions};
        if !self.sqlite() {
            return postgres::execute(&self.url, sql).await;
        }
        let options: SqliteConnectOptions = self.url.parse().expect("a SQLite URL");
        let mut connection = options.connect().await.expect("a connection");
        query(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        connection.close().await.expect("closing the connection");
    }

    /// Returns how many rows a query gives, directly from the database.
    pub async fn count(&self, sql: &str) -> usize {
        use sea_orm::sqlx::{AssertSqlSafe, ConnectOptions, Connection, query, sqlite::SqliteConnectOptions};
        if !self.sqlite() {
            return postgres::count(&self.url, sql).await;
        }
        let options: SqliteConnectOptions = self.url.parse().expect("a SQLite URL");
        let mut connection = options.connect().await.expect("a connection");
        let rows = query(AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        connection.close().await.expect("closing the connection");
        rows.len()
    }

    /// Commits a batch of transitions.
    pub async fn commit_batch(&self, batch: Vec<Transition>) -> Vec<PortResult<()>> {
        self.store.commit(batch.into_iter().map(Arc::new).collect()).await
    }

    /// Commits one transition.
    pub async fn commit(&self, transition: Transition) -> PortResult<()> {
        let mut answers = self.store.commit(vec![transition.into()]).await;
        assert_eq!(answers.len(), 1);
        answers.remove(0)
    }

    /// Opens a run without an owner.
    pub async fn open(&self, run: &Run) {
        self.commit(opening(run, no_lease(run.id))).await.expect("opening a run");
    }

    /// Acquires the lease on a run for `name`.
    pub async fn take(&self, run: RunId, name: &str) -> Lease {
        self.store.acquire(run, &owner(name), 60).await.expect("acquiring a run").expect("a free run").lease
    }
}

/// Returns the text and the fix of a permanent error.
pub fn permanent<T>(answer: PortResult<T>) -> (String, String) {
    match answer {
        Err(PortError::Permanent { what, fix }) => (what, fix),
        Err(e) => panic!("{e} is not permanent"),
        Ok(_) => panic!("no error"),
    }
}

/// Returns the text of a transient error.
pub fn transient<T>(answer: PortResult<T>) -> String {
    match answer {
        Err(PortError::Transient { what, .. }) => what,
        Err(e) => panic!("{e} is not transient"),
        Ok(_) => panic!("no error"),
    }
}

/// Whether the answer is that the lease was lost.
pub fn fenced<T>(answer: &PortResult<T>) -> bool {
    matches!(answer, Err(PortError::Fenced { .. }))
}
