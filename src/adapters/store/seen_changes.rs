//! What people saw of runs, in the table `seen_change`.

use super::SeaStore;
use crate::domain::{Principal, RunId, Sha, Timestamp};
use crate::ports::PortResult;
use crate::ports::seen_changes::{SeenChange, SeenChanges};
use async_trait::async_trait;
use sea_orm::{DbErr, QueryResult};

const SEEN: &str = "SELECT before_base, before_head, before_at FROM seen_change \
     WHERE home = $1 AND principal = $2 AND run = $3 AND base = $4 AND head = $5";
/// Of several concurrent calls with one version, only the first moves what was seen before.
const SEE: &str = "INSERT INTO seen_change (home, principal, run, base, head, at) VALUES ($1, $2, $3, $4, $5, $6) \
     ON CONFLICT (home, principal, run) DO UPDATE SET before_base = seen_change.base, before_head = seen_change.head, \
     before_at = seen_change.at, base = excluded.base, head = excluded.head, at = excluded.at \
     WHERE seen_change.base <> excluded.base OR seen_change.head <> excluded.head";
const FORGET: &str = "DELETE FROM seen_change WHERE home = $1 AND at < $2";

#[async_trait]
impl SeenChanges for SeaStore {
    async fn see(&self, who: &Principal, run: RunId, seen: &SeenChange) -> PortResult<Option<SeenChange>> {
        let key = [
            self.home(),
            who.as_str().into(),
            run.to_string().into(),
            seen.base.as_str().into(),
            seen.head.as_str().into(),
        ];
        let mut rows = self.read(SEEN, key.clone()).await?;
        if rows.is_empty() {
            let [home, who, run, base, head] = key.clone();
            self.write(SEE, [home, who, run, base, head, seen.at.0.into()]).await?;
            rows = self.read(SEEN, key).await?;
        }
        rows.first().map_or(Ok(None), |row| before(row).map_err(|e| self.reading(&e)))
    }

    async fn forget_seen(&self, before: Timestamp) -> PortResult<()> {
        self.write(FORGET, [self.home(), before.0.into()]).await.map(|_| ())
    }
}

fn before(row: &QueryResult) -> Result<Option<SeenChange>, DbErr> {
    let base: Option<String> = row.try_get("", "before_base")?;
    let head: Option<String> = row.try_get("", "before_head")?;
    let at: Option<i64> = row.try_get("", "before_at")?;
    Ok(base.zip(head).zip(at).map(|((base, head), at)| SeenChange {
        base: Sha(base),
        head: Sha(head),
        at: Timestamp(at),
    }))
}
