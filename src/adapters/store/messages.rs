//! The outbox of messages to people, in the tables `message` and `message_channel`.

use super::SeaStore;
use super::run_index::{bounded, id_of};
use crate::domain::{Message, RunId, Timestamp};
use crate::ports::messages::{MessageState, Messages, PendingMessage};
use crate::ports::{PortError, PortResult};
use async_trait::async_trait;
use sea_orm::{QueryResult, Value};

/// Upper bound on rows of one read.
const MAX_ROWS: u64 = 1_000;
/// Upper bound on the characters of a reason.
const MAX_REASON_CHARS: usize = 500;

const KNOW: &str = "INSERT INTO message_channel (home, name, known_since) VALUES ($1, $2, $3) \
    ON CONFLICT (home, name) DO NOTHING";
const KNOWN: &str = "SELECT known_since AS at FROM message_channel WHERE home = $1 AND name = $2";
/// A message that is stored already stays as it is.
const PUT: &str = "INSERT INTO message (home, channel, key, body, state, reason, tries, created_at, due_at) \
    VALUES ($1, $2, $3, $4, 'pending', '', 0, $5, $5) ON CONFLICT (home, channel, key) DO NOTHING RETURNING key";
const DUE: &str = "SELECT body, tries, created_at FROM message \
    WHERE home = $1 AND channel = $2 AND settled_at IS NULL AND due_at <= $3 ORDER BY created_at, key LIMIT $4";
const NEXT_DUE: &str = "SELECT min(due_at) AS at FROM message \
    WHERE home = $1 AND channel = $2 AND settled_at IS NULL";
const SENT: &str = "SELECT count(*) AS n FROM message \
    WHERE home = $1 AND channel = $2 AND settled_at >= $3 AND state = 'sent'";
const SETTLE: &str = "UPDATE message SET state = $4, reason = $5, settled_at = $6 \
    WHERE home = $1 AND channel = $2 AND key = $3 AND settled_at IS NULL";
const POSTPONE: &str = "UPDATE message SET tries = tries + 1, reason = $4, due_at = $5 \
    WHERE home = $1 AND channel = $2 AND key = $3 AND settled_at IS NULL";
const ENDED: &str = "SELECT id, ended_at FROM run \
    WHERE home = $1 AND ended_at >= $2 AND quarantined IS NULL ORDER BY ended_at, id LIMIT $3";
const FORGET: &str = "DELETE FROM message WHERE home = $1 AND settled_at < $2";

#[async_trait]
impl Messages for SeaStore {
    async fn known_since(&self, channel: &str, now: Timestamp) -> PortResult<Timestamp> {
        if let Some(at) = self.moment(KNOWN, [self.home(), channel.into()]).await? {
            return Ok(at);
        }
        self.write(KNOW, [self.home(), channel.into(), now.0.into()]).await?;
        Ok(self.moment(KNOWN, [self.home(), channel.into()]).await?.unwrap_or(now))
    }

    async fn put(&self, channel: &str, message: &Message, now: Timestamp) -> PortResult<bool> {
        Ok(!self.write(PUT, self.row(channel, message, now)?).await?.is_empty())
    }

    async fn due(&self, channel: &str, now: Timestamp, limit: u64) -> PortResult<Vec<PendingMessage>> {
        let rows = self.read(DUE, [self.home(), channel.into(), now.0.into(), bounded(limit, MAX_ROWS).into()]).await?;
        rows.iter().map(|row| self.pending(row)).collect()
    }

    async fn next_due(&self, channel: &str) -> PortResult<Option<Timestamp>> {
        self.moment(NEXT_DUE, [self.home(), channel.into()]).await
    }

    async fn sent_since(&self, channel: &str, since: Timestamp) -> PortResult<u64> {
        let rows = self.read(SENT, [self.home(), channel.into(), since.0.into()]).await?;
        let n: i64 = match rows.first() {
            Some(row) => row.try_get("", "n").map_err(|e| self.reading(&e))?,
            None => 0,
        };
        Ok(u64::try_from(n).unwrap_or(0))
    }

    async fn settle(
        &self,
        channel: &str,
        key: &str,
        state: MessageState,
        reason: &str,
        at: Timestamp,
    ) -> PortResult<()> {
        let values = [self.home(), channel.into(), key.into(), state.name().into(), clean(reason).into(), at.0.into()];
        self.write(SETTLE, values).await.map(drop)
    }

    async fn postpone(&self, channel: &str, key: &str, reason: &str, until: Timestamp) -> PortResult<()> {
        let values = [self.home(), channel.into(), key.into(), clean(reason).into(), until.0.into()];
        self.write(POSTPONE, values).await.map(drop)
    }

    async fn fold(&self, channel: &str, keys: &[String], into: &Message, now: Timestamp) -> PortResult<()> {
        let new = self.row(channel, into, now)?;
        let tx = self.exclusive().await?;
        let folded = async {
            self.query_in(&tx, PUT, new).await?;
            for key in keys {
                let (state, reason) = (MessageState::Folded.name().into(), into.key.as_str().into());
                let values = [self.home(), channel.into(), key.as_str().into(), state, reason, now.0.into()];
                self.execute_in(&tx, SETTLE, values).await?;
            }
            Ok(())
        }
        .await;
        self.end(tx, folded).await
    }

    async fn ended_since(&self, since: Timestamp, limit: u64) -> PortResult<Vec<(RunId, Timestamp)>> {
        let rows = self.read(ENDED, [self.home(), since.0.into(), bounded(limit, MAX_ROWS).into()]).await?;
        let readable = |row: &QueryResult| {
            let at = || row.try_get("", "ended_at").map(Timestamp).map_err(|e| e.to_string());
            let ended = id_of(row).and_then(|id| Ok((id, at()?)));
            ended.inspect_err(|why| tracing::warn!("{}: cannot read an ended run: {why}", self.location)).ok()
        };
        Ok(rows.iter().filter_map(readable).collect())
    }

    async fn forget(&self, before: Timestamp) -> PortResult<()> {
        self.write(FORGET, [self.home(), before.0.into()]).await.map(drop)
    }
}

impl SeaStore {
    /// Returns the moment in the column `at` of the first row, if there is one.
    async fn moment(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> PortResult<Option<Timestamp>> {
        let rows = self.read(sql, values).await?;
        let at: Option<i64> = match rows.first() {
            Some(row) => row.try_get("", "at").map_err(|e| self.reading(&e))?,
            None => None,
        };
        Ok(at.map(Timestamp))
    }

    fn row(&self, channel: &str, message: &Message, now: Timestamp) -> PortResult<[Value; 5]> {
        let body = serde_json::to_string(message).map_err(|e| {
            PortError::permanent(
                format!("cannot write a message as JSON: {e}"),
                "report this as a bug with this message",
            )
        })?;
        Ok([self.home(), channel.into(), message.key.as_str().into(), body.into(), now.0.into()])
    }

    fn pending(&self, row: &QueryResult) -> PortResult<PendingMessage> {
        let number = |column: &str| row.try_get::<i64>("", column).map_err(|e| self.reading(&e));
        let body: String = row.try_get("", "body").map_err(|e| self.reading(&e))?;
        let message = serde_json::from_str(&body).map_err(|e| {
            PortError::permanent(
                format!("{}: cannot read a message: {e}", self.location),
                "delete its row from the table `message`",
            )
        })?;
        let tries = u32::try_from(number("tries")?).unwrap_or(u32::MAX);
        Ok(PendingMessage { message, tries, created_at: Timestamp(number("created_at")?) })
    }
}

fn clean(reason: &str) -> String {
    reason.chars().filter(|c| !c.is_control()).take(MAX_REASON_CHARS).collect()
}
