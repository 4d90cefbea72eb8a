//! Memory in the tables `memory` and `memory_given`.

use super::SeaStore;
use super::ledger::{number, signed};
use crate::domain::memory::{Memory, MemoryId, MemoryKind, MemoryState, Record};
use crate::domain::{AttemptId, OutcomeWord, Principal, ProjectName, RunId, Step, Timestamp};
use crate::ports::PortResult;
use crate::ports::memories::{Forget, GivenMemory, Memories, MemoryFilter, NewMemories};
use async_trait::async_trait;
use sea_orm::{DatabaseTransaction, DbErr, QueryResult, Value};
use std::collections::BTreeMap;

const COLUMNS: &str =
    "id, project, kind, state, author, step, title, body, cites, run, seq, created_at, seen_at, ends_at";
/// A row that was seen later replaces the one that is stored, but its age counts from the first.
const PUT: &str = "INSERT INTO memory (id, project, kind, state, author, step, title, body, cites, run, seq, created_at, \
    seen_at, ends_at) VALUES ($1, $2, $3, 'live', $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
    ON CONFLICT (id) DO UPDATE SET state = 'live', author = excluded.author, step = excluded.step, \
    title = excluded.title, body = excluded.body, cites = excluded.cites, run = excluded.run, seq = excluded.seq, \
    seen_at = excluded.seen_at, \
    ends_at = CASE WHEN excluded.ends_at < memory.created_at + $14 THEN excluded.ends_at \
    ELSE memory.created_at + $14 END \
    WHERE memory.state <> 'forgotten' AND excluded.seen_at >= memory.seen_at";
const END: &str = "UPDATE memory SET state = 'stale' WHERE id = $1 AND state = 'live' AND seen_at < $2";
const EXPIRE: &str = "DELETE FROM memory WHERE project = $1 AND state <> 'forgotten' AND ends_at <= $2";
/// A row that was given stays known by its id in `memory_given`.
const SPARE: &str = "DELETE FROM memory WHERE project = $1 AND state <> 'forgotten' AND id IN \
    (SELECT id FROM memory WHERE project = $1 AND state <> 'forgotten' ORDER BY seen_at DESC, id LIMIT 1000000 OFFSET $2)";
/// Text of a forgotten row does not stay. Its project and id do.
const FORGET: &str = "UPDATE memory SET state = 'forgotten', author = 'skep', title = '', body = '', cites = '[]', \
    run = '', seq = 0 WHERE id = $1 AND state <> 'forgotten'";
const FORGET_PROJECT: &str = "DELETE FROM memory WHERE project = $1 RETURNING id";
const STALE: &str = "UPDATE memory SET state = 'stale' WHERE id = $1 AND state = 'live'";
const GIVE: &str = "INSERT INTO memory_given (run, attempt, memory, project) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (run, attempt, memory) DO NOTHING";
const GIVEN: &str = "SELECT run, attempt, memory FROM memory_given WHERE run = $1 ORDER BY attempt, memory LIMIT 10000";
const RECORDS: &str = "SELECT g.memory AS memory, o.word AS word, count(DISTINCT g.run) AS runs FROM memory_given g \
    JOIN memory m ON m.id = g.memory AND m.state = 'live' JOIN outcome o ON o.run = g.run AND o.attempt = 0 \
    WHERE g.project = $1 GROUP BY g.memory, o.word";
/// Upper bound on rows that are looked up at once.
const MAX_LOOKED_UP: usize = 500;
/// Upper bound on rows that one command may forget.
const MAX_FORGOTTEN: u64 = 10_000;

#[async_trait]
impl Memories for SeaStore {
    async fn remember(&self, project: &ProjectName, new: &NewMemories, now: Timestamp) -> PortResult<()> {
        // Most runs only show again that nothing is wrong, and reading that takes no lock.
        if new.rows.is_empty() && !self.is_any_live(&new.ended).await? {
            return Ok(());
        }
        let tx = self.exclusive().await?;
        let written = remember_in(self, &tx, project, new, now).await;
        self.end(tx, written).await
    }

    async fn recall(&self, project: &ProjectName, now: Timestamp) -> PortResult<Vec<(Memory, Record)>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM memory WHERE project = $1 AND state = 'live' AND ends_at > $2 ORDER BY id LIMIT $3"
        );
        let values = [project.as_str().into(), now.0.into(), signed(Memory::MAX_ROWS).into()];
        let rows = self.read(&sql, values).await?;
        let records = records(&self.read(RECORDS, [project.as_str().into()]).await?).map_err(|e| self.reading(&e))?;
        let with_record = |row: &QueryResult| {
            let memory = memory(row)?;
            let record = records.get(&memory.id).copied().unwrap_or_default();
            Ok((memory, record))
        };
        rows.iter().map(|row| with_record(row).map_err(|e: DbErr| self.reading(&e))).collect()
    }

    async fn list_memories(&self, filter: &MemoryFilter) -> PortResult<Vec<Memory>> {
        let mut conditions = Conditions::default();
        conditions.and("project =", filter.project.as_ref().map(ProjectName::as_str));
        conditions.and("id =", filter.id.as_ref().map(MemoryId::as_str));
        conditions.and("kind =", filter.kind.map(MemoryKind::name));
        match filter.state {
            Some(state) => conditions.and("state =", Some(state.name())),
            None => conditions.and("state <>", Some(MemoryState::Forgotten.name())),
        }
        let Conditions { wheres, mut values } = conditions;
        values.push(signed(filter.limit).into());
        let sql = format!(
            "SELECT {COLUMNS} FROM memory WHERE {} ORDER BY seen_at DESC, id LIMIT ${}",
            wheres.join(" AND "),
            values.len()
        );
        let rows = self.read(&sql, values).await?;
        rows.iter().map(|row| memory(row).map_err(|e| self.reading(&e))).collect()
    }

    async fn forget(&self, which: &Forget) -> PortResult<Vec<MemoryId>> {
        if which.id.is_none() && which.run.is_none() && which.path.is_none() && which.author.is_none() {
            return Ok(Vec::new());
        }
        let tx = self.exclusive().await?;
        let forgotten = forget_in(self, &tx, which).await;
        self.end(tx, forgotten).await
    }

    async fn forget_project(&self, project: &ProjectName) -> PortResult<()> {
        self.write(FORGET_PROJECT, [project.as_str().into()]).await.map(drop)
    }

    async fn mark_stale(&self, ids: &[MemoryId]) -> PortResult<()> {
        let tx = self.exclusive().await?;
        let marked = async {
            for id in ids {
                self.execute_in(&tx, STALE, [id.as_str().into()]).await?;
            }
            Ok(())
        };
        let marked = marked.await;
        self.end(tx, marked).await
    }

    async fn give(&self, project: &ProjectName, given: &[GivenMemory]) -> PortResult<()> {
        let tx = self.exclusive().await?;
        let written = async {
            for GivenMemory { run, attempt, memory } in given {
                let values = [
                    run.to_string().into(),
                    i64::from(attempt.0).into(),
                    memory.as_str().into(),
                    project.as_str().into(),
                ];
                self.execute_in(&tx, GIVE, values).await?;
            }
            Ok(())
        };
        let written = written.await;
        self.end(tx, written).await
    }

    async fn given(&self, run: RunId) -> PortResult<Vec<GivenMemory>> {
        let rows = self.read(GIVEN, [run.to_string().into()]).await?;
        let given = |row: &QueryResult| {
            let attempt = u32::try_from(number(row, "attempt")?).unwrap_or(u32::MAX);
            Ok(GivenMemory { run, attempt: AttemptId(attempt), memory: MemoryId(row.try_get("", "memory")?) })
        };
        rows.iter().map(|row| given(row).map_err(|e: DbErr| self.reading(&e))).collect()
    }
}

impl SeaStore {
    /// Returns whether one of these rows is live, so that ending them changes something.
    async fn is_any_live(&self, ended: &[(MemoryId, Timestamp)]) -> PortResult<bool> {
        if ended.is_empty() || ended.len() > MAX_LOOKED_UP {
            return Ok(!ended.is_empty());
        }
        let places: Vec<String> = (1..=ended.len()).map(|n| format!("${n}")).collect();
        let sql = format!("SELECT 1 AS one FROM memory WHERE state = 'live' AND id IN ({}) LIMIT 1", places.join(", "));
        Ok(!self.read(&sql, ended.iter().map(|(id, _)| id.as_str().into())).await?.is_empty())
    }
}

async fn remember_in(
    store: &SeaStore,
    tx: &DatabaseTransaction,
    project: &ProjectName,
    new: &NewMemories,
    now: Timestamp,
) -> Result<(), DbErr> {
    for row in &new.rows {
        store.execute_in(tx, PUT, values(project, row)?).await?;
    }
    for (id, at) in &new.ended {
        store.execute_in(tx, END, [id.as_str().into(), at.0.into()]).await?;
    }
    store.execute_in(tx, EXPIRE, [project.as_str().into(), now.0.into()]).await?;
    store.execute_in(tx, SPARE, [project.as_str().into(), signed(Memory::MAX_ROWS).into()]).await
}

/// Returns the values for [`PUT`].
fn values(project: &ProjectName, row: &Memory) -> Result<Vec<Value>, DbErr> {
    let cites = serde_json::to_string(&row.cites)
        .map_err(|e| DbErr::Custom(format!("cannot serialize the citations of a memory: {e}")))?;
    let run = row.run.map(|run| run.to_string()).unwrap_or_default();
    let longest = row.kind.max_days().saturating_mul(crate::domain::memory::DAY_MS);
    Ok(vec![
        row.id.as_str().into(),
        project.as_str().into(),
        row.kind.name().into(),
        row.author.as_str().into(),
        row.step.map_or("", Step::name).into(),
        row.title.as_str().into(),
        row.body.as_str().into(),
        // Postgres stores no NUL.
        cites.replace("\\u0000", "").into(),
        run.into(),
        signed(row.seq).into(),
        row.created_at.0.into(),
        row.seen_at.0.into(),
        row.ends_at.0.into(),
        longest.into(),
    ])
}

async fn forget_in(store: &SeaStore, tx: &DatabaseTransaction, which: &Forget) -> Result<Vec<MemoryId>, DbErr> {
    let mut conditions = Conditions::default();
    conditions.and("state <>", Some(MemoryState::Forgotten.name()));
    conditions.and("project =", which.project.as_ref().map(ProjectName::as_str));
    conditions.and("id =", which.id.as_ref().map(MemoryId::as_str));
    conditions.and("run =", which.run.map(|run| run.to_string()).as_deref());
    conditions.and("author =", which.author.as_ref().map(Principal::as_str));
    let Conditions { wheres, mut values } = conditions;
    values.push(signed(MAX_FORGOTTEN).into());
    let sql =
        format!("SELECT {COLUMNS} FROM memory WHERE {} ORDER BY id LIMIT ${}", wheres.join(" AND "), values.len());
    let mut forgotten = Vec::new();
    for row in store.query_in(tx, &sql, values).await? {
        let row = memory(&row)?;
        // Citations are JSON in the table, so paths are compared here.
        if which.path.as_ref().is_none_or(|path| row.cites.iter().any(|cite| cite.path == *path)) {
            store.execute_in(tx, FORGET, [row.id.as_str().into()]).await?;
            forgotten.push(row.id);
        }
    }
    Ok(forgotten)
}

/// Conditions of a statement with their values.
#[derive(Default)]
struct Conditions {
    wheres: Vec<String>,
    values: Vec<Value>,
}

impl Conditions {
    fn and(&mut self, condition: &str, value: Option<&str>) {
        let Some(value) = value else { return };
        self.values.push(value.into());
        self.wheres.push(format!("{condition} ${}", self.values.len()));
    }
}

fn records(rows: &[QueryResult]) -> Result<BTreeMap<MemoryId, Record>, DbErr> {
    let mut records: BTreeMap<MemoryId, Record> = BTreeMap::new();
    for row in rows {
        let (word, runs) = (row.try_get::<String>("", "word")?, number(row, "runs")?);
        let record = records.entry(MemoryId(row.try_get("", "memory")?)).or_default();
        match OutcomeWord::named(&word) {
            Some(OutcomeWord::Landed) => record.won += runs,
            Some(OutcomeWord::LandedLate | OutcomeWord::Unlanded) => record.lost += runs,
            _ => {}
        }
    }
    Ok(records)
}

fn memory(row: &QueryResult) -> Result<Memory, DbErr> {
    let text = |column: &str| row.try_get::<String>("", column);
    let unknown = |column: &str, value: &str| DbErr::Type(format!("memory.{column}: unknown value {value:?}"));
    let time = |column: &str| row.try_get::<i64>("", column).map(Timestamp);
    let (kind, state, step, run) = (text("kind")?, text("state")?, text("step")?, text("run")?);
    let steps = [Step::Explore, Step::Plan, Step::Develop, Step::Review];
    Ok(Memory {
        id: MemoryId(text("id")?),
        project: ProjectName::new(&text("project")?).map_err(DbErr::Type)?,
        kind: MemoryKind::named(&kind).ok_or_else(|| unknown("kind", &kind))?,
        state: MemoryState::named(&state).ok_or_else(|| unknown("state", &state))?,
        author: Principal(text("author")?),
        step: match step.as_str() {
            "" => None,
            name => Some(steps.into_iter().find(|s| s.name() == name).ok_or_else(|| unknown("step", name))?),
        },
        title: text("title")?,
        body: text("body")?,
        cites: serde_json::from_str(&text("cites")?).map_err(|e| DbErr::Type(format!("memory.cites: {e}")))?,
        run: match run.as_str() {
            "" => None,
            id => Some(RunId::try_from(id.to_owned()).map_err(|e| DbErr::Type(e.to_string()))?),
        },
        seq: number(row, "seq")?,
        created_at: time("created_at")?,
        seen_at: time("seen_at")?,
        ends_at: time("ends_at")?,
    })
}
