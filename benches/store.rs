//! Durable transitions per second through the store, compared with the bare database, measured in the same run.
//!
//! `raw` = one prepared insert per commit. `floor` = the minimum of a transition (an event and its run's row) for a
//! whole batch in one commit, with the same payloads. Rounds are interleaved and the median counts, because the machine
//! is shared.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a benchmark that cannot run should fail loudly

#[allow(dead_code)]
#[path = "../tests/it/support/postgres.rs"]
mod postgres;
#[allow(dead_code)]
#[path = "../tests/it/support/runs.rs"]
mod runs;

use runs::{finishing, moving, no_lease, opening, owner};
use sea_orm::sqlx::postgres::PgPoolOptions;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sea_orm::sqlx::{ConnectOptions, PgPool, SqlitePool, query};
use skep::adapters::store::{SeaStore, connect, migrate};
use skep::domain::{Phase, Run};
use skep::ports::journal::Transition;
use skep::ports::leases::Lease;
use skep::ports::{Journal, Leases};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

const BATCHES: [usize; 3] = [1, 16, 256];
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_millis(1500);

/// The database itself, without the store.
enum Raw {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let folder = tempfile::tempdir().expect("a temporary folder");
        measure("sqlite", &format!("sqlite://{}/skep.db", folder.path().display())).await;
        let url = postgres::database().await;
        measure("postgres", &url).await;
        postgres::drop_database(&url).await;
    });
}

async fn measure(name: &str, url: &str) {
    migrate(url).await.expect("the schema");
    let store = connect(url).await.expect("the store");
    let raw = Raw::open(url).await;
    let mut carried = Carried::new(&store, 256).await;
    let (event, snapshot) = carried.payloads();
    println!("\n{name}: events of {} bytes, snapshots of {} bytes", event.len(), snapshot.len());
    println!(
        "{:>6} {:>12} {:>12} {:>12} {:>10} {:>10}",
        "batch", "store tr/s", "floor tr/s", "raw/s", "of floor", "of raw"
    );
    for batch in BATCHES {
        let (mut through, mut floor, mut alone) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            alone.push(rate(1, async || raw.insert(&event).await).await);
            floor.push(rate(batch, async || raw.group(batch, &event, &snapshot).await).await);
            through.push(rate(batch, async || carried.commit(&store, batch).await).await);
        }
        let (through, floor, alone) = (median(through), median(floor), median(alone));
        println!(
            "{batch:>6} {through:>12.0} {floor:>12.0} {alone:>12.0} {:>10.2} {:>10.2}",
            through / floor,
            through / alone
        );
    }
}

/// Transitions per second of `act`, which writes `batch` transitions and returns how long the database took.
async fn rate(batch: usize, mut act: impl AsyncFnMut() -> Duration) -> f64 {
    act().await;
    let start = Instant::now();
    let (mut done, mut took) = (0, Duration::ZERO);
    while start.elapsed() < ROUND {
        took += act().await;
        done += batch;
    }
    done as f64 / took.as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Live runs; each transition adds one effect and finishes the previous one.
struct Carried(Vec<(Run, Lease)>);

impl Carried {
    async fn new(store: &SeaStore, count: usize) -> Carried {
        let mut all = Vec::with_capacity(count);
        for _ in 0..count {
            let run = runs::run();
            store.commit(vec![opening(&run, no_lease(run.id)).into()]).await.remove(0).expect("opening");
            let lease = store.acquire(run.id, &owner("bench"), 3600).await.expect("an answer").expect("a run").lease;
            all.push((run, lease));
        }
        Carried(all)
    }

    fn next(&mut self, batch: usize) -> Vec<Arc<Transition>> {
        let next = |(run, lease): &mut (Run, Lease)| {
            let finished = finishing(run, lease, Phase::Working).finished;
            run.seq -= 1;
            let mut transition = moving(run, lease, Phase::Working, 1);
            transition.finished = finished;
            if let skep::domain::Event::Paused { by } = &mut transition.event {
                by.0 = "x".repeat(1000);
            }
            Arc::new(transition)
        };
        self.0.iter_mut().take(batch).map(next).collect()
    }

    fn payloads(&self) -> (String, String) {
        let snapshot = serde_json::to_string(&self.0[0].0).expect("a snapshot");
        ("x".repeat(1030), snapshot)
    }

    /// Only the commit is timed; building the transitions is not the store's work.
    async fn commit(&mut self, store: &SeaStore, batch: usize) -> Duration {
        let transitions = self.next(batch);
        let start = Instant::now();
        let answers = store.commit(transitions).await;
        let took = start.elapsed();
        for answer in answers {
            answer.expect("a transition");
        }
        took
    }
}

const RAW_TABLES: [&str; 3] = [
    "CREATE TABLE raw_event (run bigint, seq bigint, body text, PRIMARY KEY (run, seq))",
    "CREATE TABLE raw_run (id bigint PRIMARY KEY, seq bigint, snapshot text)",
    "INSERT INTO raw_run SELECT n, 0, '' FROM (WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n < 255) \
     SELECT n FROM c) AS s",
];
const RAW_INSERT: &str = "INSERT INTO raw_event (run, seq, body) VALUES ($1, $2, $3)";
const RAW_UPDATE: &str = "UPDATE raw_run SET seq = seq + 1, snapshot = $2 WHERE id = $1";
const RAW_GROUP: &str = "WITH t AS (SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[]) AS t (id, event, snapshot)), \
    moved AS (UPDATE raw_run SET seq = seq + 1, snapshot = t.snapshot FROM t WHERE raw_run.id = t.id) \
    INSERT INTO raw_event (run, seq, body) SELECT id, $4, event FROM t";

/// Returns a number that was not used before: the sequence number of an event in its raw run.
fn count() -> i64 {
    static LAST: AtomicI64 = AtomicI64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}

impl Raw {
    async fn open(url: &str) -> Raw {
        if url.starts_with("sqlite:") {
            let options: SqliteConnectOptions = url.parse().expect("a URL");
            let options = options
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .disable_statement_logging();
            let pool = SqlitePoolOptions::new().max_connections(1).test_before_acquire(false);
            let pool = pool.connect_with(options).await.expect("a connection");
            for sql in RAW_TABLES {
                query(sql).execute(&pool).await.expect(sql);
            }
            return Raw::Sqlite(pool);
        }
        let pool = PgPoolOptions::new().max_connections(1).test_before_acquire(false);
        let pool = pool.connect(url).await.expect("a connection");
        for sql in RAW_TABLES {
            query(sql).execute(&pool).await.expect(sql);
        }
        Raw::Postgres(pool)
    }

    async fn insert(&self, event: &str) -> Duration {
        let start = Instant::now();
        match self {
            Raw::Sqlite(pool) => {
                query(RAW_INSERT).bind(-1i64).bind(count()).bind(event).execute(pool).await.map(|_| ())
            }
            Raw::Postgres(pool) => {
                query(RAW_INSERT).bind(-1i64).bind(count()).bind(event).execute(pool).await.map(|_| ())
            }
        }
        .expect("an insert");
        start.elapsed()
    }

    async fn group(&self, batch: usize, event: &str, snapshot: &str) -> Duration {
        let start = Instant::now();
        let ids = 0..batch as i64;
        match self {
            Raw::Postgres(pool) => {
                let copies = |text: &str| vec![text.to_owned(); batch];
                let group = query(RAW_GROUP)
                    .bind(ids.collect::<Vec<_>>())
                    .bind(copies(event))
                    .bind(copies(snapshot))
                    .bind(count());
                group.execute(pool).await.expect("a group");
            }
            Raw::Sqlite(pool) => {
                let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.expect("a transaction");
                for id in ids {
                    query(RAW_INSERT).bind(id).bind(count()).bind(event).execute(&mut *tx).await.expect("an insert");
                    query(RAW_UPDATE).bind(id).bind(snapshot).execute(&mut *tx).await.expect("an update");
                }
                tx.commit().await.expect("a commit");
            }
        }
        start.elapsed()
    }
}
