//! One temporary PostgreSQL server for all test processes, and a separate database for each test.
//!
//! If `SKEP_TEST_DATABASE_URL` is set, that server is used. Without a server, the tests fail and report what to
//! install.

use sea_orm::sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, query};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/postgres_server.sh");

/// The server's URL, and the lock that keeps it alive while this process lives.
static SERVER: OnceLock<(String, Option<File>)> = OnceLock::new();

/// Returns the URL of the server's maintenance database.
pub fn server() -> &'static str {
    &SERVER
        .get_or_init(|| match std::env::var("SKEP_TEST_DATABASE_URL") {
            Ok(url) => (url, None),
            Err(_) => shared_server(),
        })
        .0
}

/// Creates an empty database and returns its URL.
pub async fn database() -> String {
    let name = format!("skep_{}", uuid::Uuid::now_v7().simple());
    execute(server(), &format!("CREATE DATABASE {name}")).await;
    let (front, query) = server().split_once('?').map_or((server(), None), |(f, q)| (f, Some(q)));
    let host = front.rsplit_once('/').map_or(front, |(host, _)| host);
    query.map_or_else(|| format!("{host}/{name}"), |q| format!("{host}/{name}?{q}"))
}

/// Removes a test's database.
pub async fn drop_database(url: &str) {
    let name = url.split('?').next().and_then(|u| u.rsplit('/').next()).expect("a database in the URL");
    execute(server(), &format!("DROP DATABASE {name} WITH (FORCE)")).await;
}

/// Runs a statement outside the store.
pub async fn execute(url: &str, sql: &str) {
    let options: sea_orm::sqlx::postgres::PgConnectOptions = url.parse().expect("a Postgres URL");
    let mut connection: PgConnection =
        options.disable_statement_logging().connect().await.unwrap_or_else(|e| panic!("no connection to {url}: {e}"));
    query(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    connection.close().await.expect("closing the connection");
}

/// Returns how many rows a query gives, outside the store.
pub async fn count(url: &str, sql: &str) -> usize {
    let options: sea_orm::sqlx::postgres::PgConnectOptions = url.parse().expect("a Postgres URL");
    let mut connection: PgConnection =
        options.disable_statement_logging().connect().await.unwrap_or_else(|e| panic!("no connection to {url}: {e}"));
    let rows = query(AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    connection.close().await.expect("closing the connection");
    rows.len()
}

fn shared_server() -> (String, Option<File>) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = |name: &str| folder.join(format!("postgres.{name}"));
    let open = |name: &str| {
        std::fs::create_dir_all(folder).expect("target/tmp");
        OpenOptions::new().create(true).append(true).open(path(name)).expect("a lock file under target/tmp")
    };
    let mutex = open("mutex");
    mutex.lock().expect("the lock on starting a server");
    let users = open("users");
    users.lock_shared().expect("the lock on using the server");
    // While both locks are held, the server in the state file cannot stop, because it needs both to do so.
    let running = std::fs::read_to_string(path("url")).ok().map(|url| url.trim().to_owned()).filter(|url| answers(url));
    let url = running.unwrap_or_else(|| start(&path("users"), &path("mutex"), &path("url")));
    (url, Some(users))
}

fn answers(url: &str) -> bool {
    let socket = url.split_once("host=").map_or("", |(_, dir)| dir);
    std::os::unix::net::UnixStream::connect(Path::new(socket).join(".s.PGSQL.5432")).is_ok()
}

/// Starts the server. It outlives this process on purpose, to serve the next one, so it is not waited for.
#[expect(clippy::zombie_processes)]
fn start(users: &Path, mutex: &Path, state: &Path) -> String {
    // The server gets its own session, so that a Ctrl-C or the test runner cannot kill it before it has cleaned up.
    let mut child = Command::new("setsid")
        .args(["sh", SCRIPT])
        .args([users, mutex, state])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("setsid and sh");
    let mut line = String::new();
    let out = child.stdout.take().expect("its output");
    BufReader::new(out).read_line(&mut line).expect("the server's first line");
    let line = line.trim();
    assert!(line.starts_with("postgres://"), "no PostgreSQL for the tests: {line}");
    line.to_owned()
}
