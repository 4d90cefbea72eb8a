//! Outside agents in the table `agent`, and their calls in `agent_call`.

use super::super::SeaStore;
use super::super::ledger::number;
use super::row::{AGENT_COLUMNS, agent};
use crate::domain::{Agent, PersonName, Timestamp};
use crate::ports::PortResult;
use crate::ports::open_work::Invited;
use sea_orm::{DatabaseTransaction, DbErr};

const HOUR_MS: i64 = 3_600_000;
/// Hours for which calls are counted.
const KEPT_HOURS: i64 = 24;

const OF_OWNER: &str = "SELECT count(*) AS n FROM agent WHERE home = $1 AND owner = $2 AND revoked_at IS NULL \
    AND (registered_at IS NOT NULL OR invite_ends_at > $3)";
const INSERT: &str = "INSERT INTO agent (home, name, owner, about, invite_digest, invite_ends_at, invited_by, \
    created_at, lapses) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0) ON CONFLICT (home, name) DO NOTHING RETURNING name";
/// An invitation that expired unused does not keep its name.
const FORGET_EXPIRED: &str = "DELETE FROM agent WHERE home = $1 AND name = $2 AND registered_at IS NULL \
    AND revoked_at IS NULL AND invite_ends_at <= $3";
const REGISTER: &str = "UPDATE agent SET registered_at = $3, seen_at = $3, about = $4 WHERE home = $1 AND name = $2 \
    AND registered_at IS NULL AND revoked_at IS NULL AND invite_ends_at > $3 RETURNING name";
const REVOKE: &str = "UPDATE agent SET revoked_at = COALESCE(revoked_at, $3) WHERE home = $1 AND name = $2 \
    RETURNING name";
const OPEN_CLAIMS: &str = "UPDATE offer SET state = 'open', agent = NULL, owner = NULL, claimed_at = NULL, \
    lease_ends = NULL, problem = '', submission = NULL \
    WHERE home = $1 AND agent = $2 AND state IN ('claimed', 'submitted')";
const REVOKE_TOKENS: &str = "UPDATE access_token SET revoked_at = $3 WHERE home = $1 AND principal = $2 \
    AND revoked_at IS NULL";
const COUNT: &str = "INSERT INTO agent_call (home, who, what, hour, n) VALUES ($1, $2, $3, $4, 1) \
    ON CONFLICT (home, who, what, hour) DO UPDATE SET n = agent_call.n + 1 RETURNING n";
const FORGET_CALLS: &str = "DELETE FROM agent_call WHERE home = $1 AND hour < $2 RETURNING hour";

impl SeaStore {
    pub(super) async fn insert_agent(&self, agent: &Agent, limit: u32) -> PortResult<Invited> {
        let tx = self.exclusive().await?;
        let added = async {
            let (name, created) = (agent.name.as_str(), agent.created_at.0);
            self.execute_in(&tx, FORGET_EXPIRED, [self.home(), name.into(), created.into()]).await?;
            let key = [self.home(), agent.owner.as_str().into(), created.into()];
            let rows = self.query_in(&tx, OF_OWNER, key).await?;
            let count = rows.first().map(|row| number(row, "n")).transpose()?.unwrap_or(0);
            if count >= u64::from(limit) {
                return Ok(Invited::OwnerLimit);
            }
            let values = [
                self.home(),
                name.into(),
                agent.owner.as_str().into(),
                agent.about.as_str().into(),
                agent.invite_digest.as_str().into(),
                agent.invite_ends_at.0.into(),
                agent.invited_by.as_str().into(),
                created.into(),
            ];
            let is_added = !self.query_in(&tx, INSERT, values).await?.is_empty();
            Ok(if is_added { Invited::Added } else { Invited::NameTaken })
        };
        let added = added.await;
        self.end(tx, added).await
    }

    pub(super) async fn find_agent(&self, name: &PersonName) -> PortResult<Option<Agent>> {
        let sql = format!("SELECT {AGENT_COLUMNS} FROM agent WHERE home = $1 AND name = $2");
        let rows = self.read(&sql, [self.home(), name.as_str().into()]).await?;
        rows.first().map(|row| agent(row).map_err(|e| self.reading(&e))).transpose()
    }

    pub(super) async fn list_agents(&self, limit: i64) -> PortResult<Vec<Agent>> {
        let sql = format!("SELECT {AGENT_COLUMNS} FROM agent WHERE home = $1 ORDER BY name LIMIT $2");
        let rows = self.read(&sql, [self.home(), limit.into()]).await?;
        rows.iter().map(|row| agent(row).map_err(|e| self.reading(&e))).collect()
    }

    pub(super) async fn set_registered(&self, name: &PersonName, about: &str, at: Timestamp) -> PortResult<bool> {
        let values = [self.home(), name.as_str().into(), at.0.into(), about.into()];
        Ok(!self.write(REGISTER, values).await?.is_empty())
    }

    pub(super) async fn revoke_in(
        &self,
        tx: &DatabaseTransaction,
        name: &PersonName,
        at: Timestamp,
    ) -> Result<bool, DbErr> {
        let revoked = self.query_in(tx, REVOKE, [self.home(), name.as_str().into(), at.0.into()]).await?;
        self.execute_in(tx, OPEN_CLAIMS, [self.home(), name.as_str().into()]).await?;
        let principal = format!("{}{name}", crate::domain::open_work::AGENT);
        self.execute_in(tx, REVOKE_TOKENS, [self.home(), principal.into(), at.0.into()]).await?;
        Ok(!revoked.is_empty())
    }

    pub(super) async fn add_call(&self, who: &str, what: &str, at: Timestamp) -> PortResult<u64> {
        let hour = at.0.div_euclid(HOUR_MS);
        let rows = self.write(COUNT, [self.home(), who.into(), what.into(), hour.into()]).await?;
        let count = rows.first().map(|row| number(row, "n").map_err(|e| self.reading(&e))).transpose()?.unwrap_or(1);
        if count == 1 {
            self.write(FORGET_CALLS, [self.home(), (hour - KEPT_HOURS).into()]).await?;
        }
        Ok(count)
    }
}
