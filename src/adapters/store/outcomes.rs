//! Verified outcomes in the table `outcome`.

use super::SeaStore;
use super::ledger::{number, signed};
use crate::domain::{AttemptId, Evidence, OutcomeRow, OutcomeWord, ProjectName, RunId, Sha, Step, Timestamp, Usage};
use crate::ports::PortResult;
use crate::ports::outcomes::{OutcomeFilter, Outcomes};
use async_trait::async_trait;
use sea_orm::{DbErr, QueryResult, Value};

/// A transition that is written again finds its rows.
pub(super) const ADD_OUTCOME: &str = "INSERT INTO outcome (run, attempt, word, project, step, engine, prompt_digest, \
    round, tokens, cost_micros, turns, wall_ms, evidence, at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) ON CONFLICT (run, attempt, word) DO NOTHING";
const REMOVE: &str = "DELETE FROM outcome WHERE run = $1";
const COLUMNS: &str = "run, attempt, word, project, step, engine, prompt_digest, round, tokens, cost_micros, turns, \
    wall_ms, evidence, at";

/// An outcome as it is written; the field names are the column names.
#[derive(serde::Serialize)]
pub(super) struct OutcomeRecord {
    run: String,
    attempt: i64,
    word: &'static str,
    project: String,
    step: &'static str,
    engine: String,
    prompt_digest: Option<String>,
    round: i64,
    tokens: i64,
    cost_micros: i64,
    turns: i64,
    wall_ms: i64,
    evidence: String,
    at: i64,
}

impl OutcomeRecord {
    pub(super) fn of(row: &OutcomeRow) -> OutcomeRecord {
        OutcomeRecord {
            run: row.run.to_string(),
            attempt: row.attempt.map_or(0, |id| i64::from(id.0)),
            word: row.word.name(),
            project: row.project.as_str().to_owned(),
            step: row.step.map_or("", Step::name),
            engine: row.engine.clone(),
            prompt_digest: row.prompt_digest.clone(),
            round: i64::from(row.round),
            tokens: signed(row.usage.tokens),
            cost_micros: signed(row.usage.cost_micros),
            turns: signed(row.usage.turns),
            wall_ms: signed(row.usage.wall_ms),
            evidence: row.evidence.to_string(),
            at: row.at.0,
        }
    }

    /// Returns the values for [`ADD_OUTCOME`].
    pub(super) fn values(&self) -> Vec<Value> {
        vec![
            self.run.as_str().into(),
            self.attempt.into(),
            self.word.into(),
            self.project.as_str().into(),
            self.step.into(),
            self.engine.as_str().into(),
            self.prompt_digest.as_deref().into(),
            self.round.into(),
            self.tokens.into(),
            self.cost_micros.into(),
            self.turns.into(),
            self.wall_ms.into(),
            self.evidence.as_str().into(),
            self.at.into(),
        ]
    }
}

#[async_trait]
impl Outcomes for SeaStore {
    async fn list_outcomes(&self, filter: &OutcomeFilter) -> PortResult<Vec<OutcomeRow>> {
        let (mut wheres, mut values) = (Vec::new(), Vec::new());
        let mut filter_by = |condition: &str, value: Value| {
            values.push(value);
            wheres.push(format!("{condition} ${}", values.len()));
        };
        if let Some(project) = &filter.project {
            filter_by("project =", project.as_str().into());
        }
        if let Some(run) = filter.run {
            filter_by("run =", run.to_string().into());
        }
        if let Some(word) = filter.word {
            filter_by("word =", word.name().into());
        }
        if let Some(since) = filter.since {
            filter_by("at >=", since.0.into());
        }
        if let Some(before) = filter.before {
            filter_by("run <", before.to_string().into());
        }
        let wheres = if wheres.is_empty() { String::new() } else { format!(" WHERE {}", wheres.join(" AND ")) };
        values.push(signed(filter.limit).into());
        let sql =
            format!("SELECT {COLUMNS} FROM outcome{wheres} ORDER BY run DESC, attempt, word LIMIT ${}", values.len());
        let rows = self.read(&sql, values).await?;
        rows.iter().map(|row| outcome(row).map_err(|e| self.reading(&e))).collect()
    }

    async fn replace_outcomes(&self, run: RunId, rows: &[OutcomeRow]) -> PortResult<()> {
        let tx = self.exclusive().await?;
        let replaced = async {
            self.execute_in(&tx, REMOVE, [run.to_string().into()]).await?;
            for row in rows {
                self.execute_in(&tx, ADD_OUTCOME, OutcomeRecord::of(row).values()).await?;
            }
            Ok(())
        };
        let replaced = replaced.await;
        self.end(tx, replaced).await
    }
}

fn outcome(row: &QueryResult) -> Result<OutcomeRow, DbErr> {
    let text = |column: &str| row.try_get::<String>("", column);
    let unknown = |column: &str, value: &str| DbErr::Type(format!("outcome.{column}: unknown value {value:?}"));
    let (word, step, evidence, attempt) = (text("word")?, text("step")?, text("evidence")?, number(row, "attempt")?);
    let steps = [Step::Explore, Step::Plan, Step::Develop, Step::Review];
    Ok(OutcomeRow {
        run: RunId::try_from(text("run")?).map_err(|e| DbErr::Type(e.to_string()))?,
        project: ProjectName::new(&text("project")?).map_err(DbErr::Type)?,
        attempt: (attempt > 0).then(|| AttemptId(u32::try_from(attempt).unwrap_or(u32::MAX))),
        word: OutcomeWord::named(&word).ok_or_else(|| unknown("word", &word))?,
        step: match step.as_str() {
            "" => None,
            name => Some(steps.into_iter().find(|s| s.name() == name).ok_or_else(|| unknown("step", name))?),
        },
        engine: text("engine")?,
        prompt_digest: row.try_get("", "prompt_digest")?,
        round: u32::try_from(number(row, "round")?).unwrap_or(u32::MAX),
        usage: Usage {
            tokens: number(row, "tokens")?,
            cost_micros: number(row, "cost_micros")?,
            wall_ms: number(row, "wall_ms")?,
            turns: number(row, "turns")?,
        },
        evidence: match evidence.split_once(':') {
            Some(("seq", seq)) => Evidence::Event(seq.parse().map_err(|_| unknown("evidence", &evidence))?),
            Some(("sha", sha)) => Evidence::Commit(Sha::from(sha)),
            _ => return Err(unknown("evidence", &evidence)),
        },
        at: Timestamp(row.try_get("", "at")?),
    })
}
