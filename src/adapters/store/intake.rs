//! Deliveries, the runs of issues and the cursors of sweeps, in the tables `delivery`, `issue_run` and `intake_cursor`.

use super::SeaStore;
use super::run_index::bounded;
use crate::domain::{CommandTarget, DeliveryState, ForgeName, RunId, Timestamp};
use crate::ports::intake::{COMMENTED, Delivery, Intake, IssueRun, NewDelivery};
use crate::ports::{PortError, PortResult};
use async_trait::async_trait;
use sea_orm::{DbErr, QueryResult, Value};

/// Upper bound on rows of one read.
const MAX_ROWS: u64 = 1_000;
/// Upper bound on the bytes of a reason.
const MAX_REASON_BYTES: usize = 8 * 1024;

/// A delivery that is stored already stays as it is.
const RECEIVE: &str = "INSERT INTO delivery \
    (home, forge, id, event, repository, fact, key, state, reason, tries, received_at, due_at, settled_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, $10, $10, $11) ON CONFLICT (home, forge, id) DO NOTHING RETURNING seq";
const DUE: &str = "SELECT * FROM delivery WHERE home = $1 AND settled_at IS NULL AND due_at <= $2 \
    ORDER BY CASE WHEN event = $4 THEN 0 ELSE 1 END, seq LIMIT $3";
const NEXT_DUE: &str = "SELECT min(due_at) AS at FROM delivery WHERE home = $1 AND settled_at IS NULL";
const PIN: &str = "UPDATE delivery SET target = $3 WHERE home = $1 AND seq = $2 AND target IS NULL";
const PUT_KEY: &str = "UPDATE delivery SET key = $3 WHERE home = $1 AND seq = $2";
const TARGET: &str = "SELECT target FROM delivery WHERE home = $1 AND seq = $2";
const SETTLE: &str =
    "UPDATE delivery SET state = $3, reason = $4, settled_at = $5, due_at = $6 WHERE home = $1 AND seq = $2";
const POSTPONE: &str = "UPDATE delivery SET tries = tries + 1, reason = $3, due_at = $4 WHERE home = $1 AND seq = $2 AND settled_at IS NULL";
/// Keeps the text of the reply that is still to be written.
const POSTPONE_REPLY: &str =
    "UPDATE delivery SET tries = tries + 1, due_at = $3 WHERE home = $1 AND seq = $2 AND state = 'applied'";
const WAS_APPLIED: &str = "SELECT seq FROM delivery \
    WHERE home = $1 AND forge = $2 AND key = $3 AND seq <> $4 AND state IN ('applied', 'done', 'failed') LIMIT 1";
const LIST: &str = "SELECT * FROM delivery WHERE home = $1 AND forge = $2 AND seq < $3 ORDER BY seq DESC LIMIT $4";
const FORGET: &str = "DELETE FROM delivery WHERE home = $1 AND forge = $2 AND settled_at IS NOT NULL AND seq <= \
    (SELECT seq FROM delivery WHERE home = $1 AND forge = $2 ORDER BY seq DESC LIMIT 1 OFFSET $3)";

const CLAIM: &str = "INSERT INTO issue_run (forge, repository, number, home, run, asked_at, progress, finished) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, false) ON CONFLICT (forge, repository, number) DO NOTHING";
const REPLACE: &str = "UPDATE issue_run SET run = $5, asked_at = $6, progress = $7, finished = false \
    WHERE forge = $1 AND repository = $2 AND number = $3 AND home = $4 AND run = $8 RETURNING number";
const PUT_PROGRESS: &str = "UPDATE issue_run SET progress = $6, finished = $7 \
    WHERE forge = $1 AND repository = $2 AND number = $3 AND home = $4 AND run = $5";
const ISSUE: &str = "SELECT * FROM issue_run WHERE forge = $1 AND repository = $2 AND number = $3 AND home = $4";
const OPEN: &str = "SELECT * FROM issue_run WHERE home = $1 AND NOT finished ORDER BY run LIMIT $2";

const CURSOR: &str = "SELECT at FROM intake_cursor WHERE home = $1 AND forge = $2 AND repository = $3";
const PUT_CURSOR: &str = "INSERT INTO intake_cursor (home, forge, repository, at) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (home, forge, repository) DO UPDATE SET at = excluded.at";

#[async_trait]
impl Intake for SeaStore {
    async fn receive(&self, new: &NewDelivery) -> PortResult<bool> {
        let (fact, state, reason) = match &new.fact {
            Ok(fact) => (Some(json(fact)?), DeliveryState::Received, ""),
            Err(why) => (None, DeliveryState::Ignored, why.as_str()),
        };
        let settled_at = fact.is_none().then_some(new.at.0);
        let values = [
            self.home(),
            new.forge.as_str().into(),
            new.id.as_str().into(),
            new.event.as_str().into(),
            new.repository.as_str().into(),
            fact.into(),
            new.key.clone().into(),
            state.name().into(),
            clean(reason).into(),
            new.at.0.into(),
            settled_at.into(),
        ];
        Ok(!self.write(RECEIVE, values).await?.is_empty())
    }

    async fn due(&self, now: Timestamp, limit: u64) -> PortResult<Vec<Delivery>> {
        let values = [self.home(), now.0.into(), bounded(limit, MAX_ROWS).into(), COMMENTED.into()];
        let rows = self.read(DUE, values).await?;
        self.all(&rows, delivery)
    }

    async fn next_due(&self) -> PortResult<Option<Timestamp>> {
        let rows = self.read(NEXT_DUE, [self.home()]).await?;
        let at: Option<i64> = match rows.first() {
            Some(row) => row.try_get("", "at").map_err(|e| self.reading(&e))?,
            None => None,
        };
        Ok(at.map(Timestamp))
    }

    async fn pin(&self, seq: u64, target: &CommandTarget) -> PortResult<CommandTarget> {
        self.write(PIN, [self.home(), number(seq), json(target)?.into()]).await?;
        let rows = self.read(TARGET, [self.home(), number(seq)]).await?;
        let row = rows.first().ok_or_else(|| PortError::transient("the delivery was removed meanwhile"))?;
        let stored: String = row.try_get("", "target").map_err(|e| self.reading(&e))?;
        parsed(&stored).map_err(|e| self.reading(&e))
    }

    async fn put_key(&self, seq: u64, key: &str) -> PortResult<()> {
        self.write(PUT_KEY, [self.home(), number(seq), key.into()]).await.map(drop)
    }

    async fn settle(&self, seq: u64, state: DeliveryState, reason: &str, at: Timestamp) -> PortResult<()> {
        let is_settled = !matches!(state, DeliveryState::Received | DeliveryState::Applied);
        let values = [
            self.home(),
            number(seq),
            state.name().into(),
            clean(reason).into(),
            is_settled.then_some(at.0).into(),
            at.0.into(),
        ];
        self.write(SETTLE, values).await.map(drop)
    }

    async fn postpone(&self, seq: u64, reason: &str, until: Timestamp) -> PortResult<()> {
        let rows = self.read("SELECT state FROM delivery WHERE home = $1 AND seq = $2", [self.home(), number(seq)]);
        let rows = rows.await?;
        let state: Option<String> = rows.first().and_then(|row| row.try_get("", "state").ok());
        if state.as_deref() == Some(DeliveryState::Applied.name()) {
            return self.write(POSTPONE_REPLY, [self.home(), number(seq), until.0.into()]).await.map(drop);
        }
        let values = [self.home(), number(seq), clean(reason).into(), until.0.into()];
        self.write(POSTPONE, values).await.map(drop)
    }

    async fn was_applied(&self, forge: &ForgeName, key: &str, seq: u64) -> PortResult<bool> {
        let values = [self.home(), forge.as_str().into(), key.into(), number(seq)];
        Ok(!self.read(WAS_APPLIED, values).await?.is_empty())
    }

    async fn deliveries(&self, forge: &ForgeName, before: Option<u64>, limit: u64) -> PortResult<Vec<Delivery>> {
        let before = before.map_or(i64::MAX, |seq| i64::try_from(seq).unwrap_or(i64::MAX));
        let values = [self.home(), forge.as_str().into(), before.into(), bounded(limit, MAX_ROWS).into()];
        let rows = self.read(LIST, values).await?;
        self.all(&rows, delivery)
    }

    async fn forget_deliveries(&self, forge: &ForgeName, keep: u64) -> PortResult<()> {
        let keep = i64::try_from(keep).unwrap_or(i64::MAX);
        self.write(FORGET, [self.home(), forge.as_str().into(), keep.into()]).await.map(drop)
    }

    async fn claim_issue(&self, issue: &IssueRun) -> PortResult<Option<IssueRun>> {
        let [forge, repository, number, home, run] = self.issue_values(issue);
        let values = [forge, repository, number, home, run, issue.asked_at.0.into(), json(&issue.progress)?.into()];
        self.write(CLAIM, values).await?;
        self.issue_run(&issue.forge, &issue.repository, issue.number).await
    }

    async fn replace_issue_run(&self, issue: &IssueRun, before: RunId) -> PortResult<bool> {
        let [forge, repository, number, home, run] = self.issue_values(issue);
        let progress = json(&issue.progress)?;
        let values =
            [forge, repository, number, home, run, issue.asked_at.0.into(), progress.into(), before.to_string().into()];
        Ok(!self.write(REPLACE, values).await?.is_empty())
    }

    async fn put_progress(&self, issue: &IssueRun) -> PortResult<()> {
        let [forge, repository, number, home, run] = self.issue_values(issue);
        let progress = json(&issue.progress)?;
        let values = [forge, repository, number, home, run, progress.into(), issue.is_finished.into()];
        self.write(PUT_PROGRESS, values).await.map(drop)
    }

    async fn issue_run(&self, forge: &ForgeName, repository: &str, issue: u64) -> PortResult<Option<IssueRun>> {
        let rows = self.read(ISSUE, [forge.as_str().into(), repository.into(), number(issue), self.home()]).await?;
        Ok(self.all(&rows, issue_run)?.pop())
    }

    async fn open_issues(&self, limit: u64) -> PortResult<Vec<IssueRun>> {
        let rows = self.read(OPEN, [self.home(), bounded(limit, MAX_ROWS).into()]).await?;
        self.all(&rows, issue_run)
    }

    async fn cursor(&self, forge: &ForgeName, repository: &str) -> PortResult<Option<Timestamp>> {
        let rows = self.read(CURSOR, [self.home(), forge.as_str().into(), repository.into()]).await?;
        rows.first().map(|row| row.try_get("", "at").map(Timestamp).map_err(|e| self.reading(&e))).transpose()
    }

    async fn put_cursor(&self, forge: &ForgeName, repository: &str, at: Timestamp) -> PortResult<()> {
        let values = [self.home(), forge.as_str().into(), repository.into(), at.0.into()];
        self.write(PUT_CURSOR, values).await.map(drop)
    }
}

impl SeaStore {
    fn all<T>(&self, rows: &[QueryResult], read: fn(&QueryResult) -> Result<T, DbErr>) -> PortResult<Vec<T>> {
        rows.iter().map(|row| read(row).map_err(|e| self.reading(&e))).collect()
    }

    fn issue_values(&self, issue: &IssueRun) -> [Value; 5] {
        let IssueRun { forge, repository, number: issue_number, run, .. } = issue;
        [forge.as_str().into(), repository.as_str().into(), number(*issue_number), self.home(), run.to_string().into()]
    }
}

fn number(n: u64) -> Value {
    i64::try_from(n).unwrap_or(i64::MAX).into()
}

/// Shortens a text; no database stores a NUL in one.
fn clean(text: &str) -> String {
    let text = text.replace('\0', "");
    text[..text.floor_char_boundary(MAX_REASON_BYTES)].to_owned()
}

fn json<T: serde::Serialize>(value: &T) -> PortResult<String> {
    serde_json::to_string(value)
        .map_err(|e| PortError::permanent(format!("cannot write a row of the intake: {e}"), "report this as a bug"))
}

fn parsed<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, DbErr> {
    serde_json::from_str(text).map_err(|e| DbErr::Type(e.to_string()))
}

fn unsigned(row: &QueryResult, column: &str) -> Result<u64, DbErr> {
    let n: i64 = row.try_get("", column)?;
    Ok(u64::try_from(n).unwrap_or_default())
}

fn delivery(row: &QueryResult) -> Result<Delivery, DbErr> {
    let (fact, reason): (Option<String>, String) = (row.try_get("", "fact")?, row.try_get("", "reason")?);
    let state: String = row.try_get("", "state")?;
    let target: Option<String> = row.try_get("", "target")?;
    let state = DeliveryState::ALL.into_iter().find(|s| s.name() == state);
    let new = NewDelivery {
        forge: ForgeName(row.try_get("", "forge")?),
        id: row.try_get("", "id")?,
        event: row.try_get("", "event")?,
        repository: row.try_get("", "repository")?,
        fact: match fact {
            Some(fact) => Ok(parsed(&fact)?),
            None => Err(reason.clone()),
        },
        key: row.try_get("", "key")?,
        at: Timestamp(row.try_get("", "received_at")?),
    };
    Ok(Delivery {
        seq: unsigned(row, "seq")?,
        new,
        state: state.ok_or_else(|| DbErr::Type("unknown state of a delivery".to_owned()))?,
        reason,
        tries: u32::try_from(unsigned(row, "tries")?).unwrap_or(u32::MAX),
        target: target.as_deref().map(parsed).transpose()?,
        settled_at: row.try_get::<Option<i64>>("", "settled_at")?.map(Timestamp),
    })
}

fn issue_run(row: &QueryResult) -> Result<IssueRun, DbErr> {
    let run: String = row.try_get("", "run")?;
    let progress: String = row.try_get("", "progress")?;
    Ok(IssueRun {
        forge: ForgeName(row.try_get("", "forge")?),
        repository: row.try_get("", "repository")?,
        number: unsigned(row, "number")?,
        run: RunId::try_from(run).map_err(|e| DbErr::Type(e.to_string()))?,
        asked_at: Timestamp(row.try_get("", "asked_at")?),
        progress: parsed(&progress)?,
        is_finished: row.try_get("", "finished")?,
    })
}
