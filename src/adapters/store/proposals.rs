//! Proposals in the table `proposal`.

use super::SeaStore;
use super::ledger::{number, signed};
use crate::domain::improve::Proposal;
use crate::ports::PortResult;
use crate::ports::proposals::{Proposals, StoredProposal};
use async_trait::async_trait;
use sea_orm::{DatabaseTransaction, DbErr, QueryResult};

const LIST: &str = "SELECT body, revision FROM proposal ORDER BY created_at DESC, id LIMIT $1";
const COUNT_OPEN: &str = "SELECT count(*) AS open FROM proposal WHERE state = 'open'";
const INSERT: &str = "INSERT INTO proposal (id, project, state, revision, created_at, body) \
    VALUES ($1, $2, $3, 1, $4, $5) ON CONFLICT (id) DO NOTHING RETURNING id";
const UPDATE: &str = "UPDATE proposal SET state = $2, revision = revision + 1, created_at = $3, body = $4 \
    WHERE id = $1 AND revision = $5 RETURNING id";

#[async_trait]
impl Proposals for SeaStore {
    async fn list_proposals(&self, limit: u64) -> PortResult<Vec<StoredProposal>> {
        let rows = self.read(LIST, [signed(limit).into()]).await?;
        rows.iter().map(|row| stored(row).map_err(|e| self.reading(&e))).collect()
    }

    async fn open_proposal(&self, proposal: &Proposal, most: u32, replace: Option<u64>) -> PortResult<bool> {
        // No other process may open one between counting and writing.
        let tx = self.exclusive().await?;
        let opened = open_in(self, &tx, proposal, most, replace).await;
        self.end(tx, opened).await
    }

    async fn update_proposal(&self, proposal: &Proposal, revision: u64) -> PortResult<bool> {
        let body = body_of(proposal).map_err(|e| self.writing(&e))?;
        let values = [
            proposal.id.as_str().into(),
            proposal.state.name().into(),
            proposal.created_at.0.into(),
            body.into(),
            signed(revision).into(),
        ];
        Ok(!self.write(UPDATE, values).await?.is_empty())
    }
}

async fn open_in(
    store: &SeaStore,
    tx: &DatabaseTransaction,
    proposal: &Proposal,
    most: u32,
    replace: Option<u64>,
) -> Result<bool, DbErr> {
    let open = store.query_in(tx, COUNT_OPEN, []).await?;
    let open = open.first().map_or(Ok(0), |row| number(row, "open"))?;
    if open >= u64::from(most) {
        return Ok(false);
    }
    let (id, state, at) = (proposal.id.as_str(), proposal.state.name(), proposal.created_at.0);
    let body = body_of(proposal)?;
    let written = match replace {
        Some(revision) => {
            let values = [id.into(), state.into(), at.into(), body.into(), signed(revision).into()];
            store.query_in(tx, UPDATE, values).await?
        }
        None => {
            let values = [id.into(), proposal.project.as_str().into(), state.into(), at.into(), body.into()];
            store.query_in(tx, INSERT, values).await?
        }
    };
    Ok(!written.is_empty())
}

/// Returns a proposal as JSON. Postgres stores no NUL.
fn body_of(proposal: &Proposal) -> Result<String, DbErr> {
    let body =
        serde_json::to_string(proposal).map_err(|e| DbErr::Custom(format!("cannot serialize a proposal: {e}")))?;
    Ok(body.replace("\\u0000", ""))
}

fn stored(row: &QueryResult) -> Result<StoredProposal, DbErr> {
    let body: String = row.try_get("", "body")?;
    let proposal = serde_json::from_str(&body).map_err(|e| DbErr::Type(format!("cannot read a proposal: {e}")))?;
    Ok(StoredProposal { proposal, revision: number(row, "revision")? })
}
