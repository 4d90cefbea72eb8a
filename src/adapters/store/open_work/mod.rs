//! Open work in the tables `agent`, `offer` and `agent_call`.

mod agents;
mod row;

use super::SeaStore;
use super::ledger::number;
use super::run_index::bounded;
use crate::domain::open_work::{Claim, ClaimFacts, ClaimRefusal, may_claim};
use crate::domain::{
    Agent, Offer, OfferState, OpenWorkSettings, Order, PersonName, Principal, ProjectName, RunId, Step, Submission,
    Timestamp,
};
use crate::ports::open_work::{Invited, OpenWork};
use crate::ports::{PortError, PortResult};
use async_trait::async_trait;
use row::{COLUMNS, offer};
use sea_orm::{DatabaseTransaction, DbErr, QueryResult, Value};

/// Upper bound on rows of one read.
const MAX_ROWS: u64 = 500;
/// Upper bound on the characters of a problem.
const MAX_PROBLEM_CHARS: usize = 4_000;

const INSERT: &str = "INSERT INTO offer (home, id, run, attempt, project, step, task, order_body, patch, state, agent, \
    owner, claimed_at, lease_ends, turned, submission, problem, opened_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, '', $17)";
const PATCH: &str = "SELECT patch FROM offer WHERE home = $1 AND id = $2";
const FACTS: &str = "SELECT \
    (SELECT count(*) FROM offer WHERE home = $1 AND agent = $2 AND state IN ('claimed', 'submitted', 'applying')) \
        AS agent_claims, \
    (SELECT count(*) FROM offer WHERE home = $1 AND owner = $3 AND state IN ('claimed', 'submitted', 'applying')) \
        AS owner_claims, \
    (SELECT count(*) FROM offer WHERE home = $1 AND owner = $3 AND run = $4 AND step = 'develop' \
        AND submission IS NOT NULL) AS owner_wrote, \
    (SELECT count(*) FROM offer WHERE home = $1 AND agent = $2 AND run = $4 AND step = 'review' \
        AND state = 'delivered') AS agent_reviewed";
const SET_CLAIM: &str = "UPDATE offer SET state = 'claimed', agent = $3, owner = $4, claimed_at = $5, lease_ends = $6, \
    turned = $7, problem = '', submission = NULL WHERE home = $1 AND id = $2";
const SET_OPEN: &str = "UPDATE offer SET state = 'open', agent = NULL, owner = NULL, claimed_at = NULL, \
    lease_ends = NULL, turned = $3, problem = '', submission = NULL, opened_at = $4 WHERE home = $1 AND id = $2";
const SUBMIT: &str = "UPDATE offer SET state = 'submitted', submission = $4, problem = '' \
    WHERE home = $1 AND id = $2 AND agent = $3 AND state = 'claimed' AND lease_ends > $5 RETURNING id";
const START: &str =
    "UPDATE offer SET state = 'applying' WHERE home = $1 AND id = $2 AND state = 'submitted' RETURNING id";
const REFUSE: &str = "UPDATE offer SET state = 'claimed', problem = $3, submission = NULL, \
    lease_ends = CASE WHEN lease_ends < $4 THEN $4 ELSE lease_ends END \
    WHERE home = $1 AND id = $2 AND state = 'applying' RETURNING id";
const ACCEPT: &str =
    "UPDATE offer SET state = 'delivered' WHERE home = $1 AND id = $2 AND state = 'applying' RETURNING id";
const CLOSE: &str =
    "UPDATE offer SET state = 'closed' WHERE home = $1 AND id = $2 AND state <> 'delivered' RETURNING id";
const SUPERSEDE: &str = "UPDATE offer SET state = $3 WHERE home = $1 AND id = $2";
const EXTEND: &str = "UPDATE offer SET lease_ends = CASE WHEN claimed_at + $5 < $4 THEN claimed_at + $5 ELSE $4 END \
    WHERE home = $1 AND agent = $2 AND state = 'claimed' AND lease_ends > $3 AND lease_ends < $4 \
    AND lease_ends < claimed_at + $5 RETURNING id";
const SEEN: &str = "UPDATE agent SET seen_at = $3 WHERE home = $1 AND name = $2 AND (seen_at IS NULL OR seen_at < $3) \
    RETURNING name";
const LAPSED: &str = "UPDATE agent SET lapses = lapses + 1 WHERE home = $1 AND name = $2";

#[async_trait]
impl OpenWork for SeaStore {
    async fn add_agent(&self, agent: &Agent, limit: u32) -> PortResult<Invited> {
        self.insert_agent(agent, limit).await
    }

    async fn agent(&self, name: &PersonName) -> PortResult<Option<Agent>> {
        self.find_agent(name).await
    }

    async fn agents(&self, limit: u64) -> PortResult<Vec<Agent>> {
        self.list_agents(bounded(limit, MAX_ROWS)).await
    }

    async fn register_agent(&self, name: &PersonName, about: &str, at: Timestamp) -> PortResult<bool> {
        self.set_registered(name, about, at).await
    }

    async fn revoke_agent(&self, name: &PersonName, at: Timestamp) -> PortResult<bool> {
        let tx = self.exclusive().await?;
        let revoked = self.revoke_in(&tx, name, at).await;
        self.end(tx, revoked).await
    }

    async fn count_call(&self, who: &str, what: &str, at: Timestamp) -> PortResult<u64> {
        self.add_call(who, what, at).await
    }

    async fn extend_claims(&self, agent: &PersonName, at: Timestamp, until: Timestamp, most_ms: i64) -> PortResult<()> {
        self.write(SEEN, [self.home(), agent.as_str().into(), at.0.into()]).await?;
        let values = [self.home(), agent.as_str().into(), at.0.into(), until.0.into(), most_ms.into()];
        self.write(EXTEND, values).await.map(drop)
    }

    async fn open_offer(&self, order: &Order, project: &ProjectName, patch: &str, at: Timestamp) -> PortResult<Offer> {
        let body = serde_json::to_string(order)
            .map_err(|e| PortError::permanent(format!("cannot serialize an order: {e}"), "report this as a bug"))?;
        let tx = self.exclusive().await?;
        let opened = self.open_in(&tx, order, body, project, patch, at).await;
        self.end(tx, opened).await
    }

    async fn offer(&self, id: &str) -> PortResult<Option<Offer>> {
        let sql = format!("SELECT {COLUMNS}, submission FROM offer WHERE home = $1 AND id = $2");
        let rows = self.read(&sql, [self.home(), id.into()]).await?;
        rows.first().map(|row| offer(row, true).map_err(|e| self.reading(&e))).transpose()
    }

    async fn offered_patch(&self, id: &str) -> PortResult<String> {
        let rows = self.read(PATCH, [self.home(), id.into()]).await?;
        let patch = rows.first().map(|row| row.try_get("", "patch").map_err(|e| self.reading(&e))).transpose()?;
        Ok(patch.unwrap_or_default())
    }

    async fn open_offers(&self, at: Timestamp, limit: u64) -> PortResult<Vec<Offer>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM offer WHERE home = $1 \
             AND (state = 'open' OR (state = 'claimed' AND lease_ends <= $2)) ORDER BY opened_at, id LIMIT $3"
        );
        self.offers(&sql, [self.home(), at.0.into(), bounded(limit, MAX_ROWS).into()]).await
    }

    async fn offers_of(&self, agent: &PersonName, limit: u64) -> PortResult<Vec<Offer>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM offer WHERE home = $1 AND agent = $2 ORDER BY claimed_at DESC, opened_at DESC \
             LIMIT $3"
        );
        self.offers(&sql, [self.home(), agent.as_str().into(), bounded(limit, MAX_ROWS).into()]).await
    }

    async fn claim(
        &self,
        id: &str,
        claim: &Claim,
        settings: &OpenWorkSettings,
    ) -> PortResult<Option<Result<Offer, ClaimRefusal>>> {
        let tx = self.exclusive().await?;
        let claimed = self.claim_in(&tx, id, claim, settings).await;
        self.end(tx, claimed).await
    }

    async fn give_back(&self, id: &str, agent: &PersonName, at: Timestamp) -> PortResult<bool> {
        let tx = self.exclusive().await?;
        let given = self.give_back_in(&tx, id, agent, at).await;
        self.end(tx, given).await
    }

    async fn submit(&self, id: &str, agent: &PersonName, work: &Submission, at: Timestamp) -> PortResult<bool> {
        let body = serde_json::to_string(work)
            .map_err(|e| PortError::permanent(format!("cannot serialize a submission: {e}"), "send plain text"))?;
        let values = [self.home(), id.into(), agent.as_str().into(), body.into(), at.0.into()];
        Ok(!self.write(SUBMIT, values).await?.is_empty())
    }

    async fn start_applying(&self, id: &str) -> PortResult<bool> {
        Ok(!self.write(START, [self.home(), id.into()]).await?.is_empty())
    }

    async fn refuse_submission(&self, id: &str, problem: &str, until: Timestamp) -> PortResult<()> {
        let problem: String = problem.chars().filter(|c| *c != '\0').take(MAX_PROBLEM_CHARS).collect();
        self.write(REFUSE, [self.home(), id.into(), problem.into(), until.0.into()]).await.map(drop)
    }

    async fn accept_submission(&self, id: &str) -> PortResult<()> {
        self.write(ACCEPT, [self.home(), id.into()]).await.map(drop)
    }

    async fn close_offer(&self, id: &str) -> PortResult<()> {
        self.write(CLOSE, [self.home(), id.into()]).await.map(drop)
    }

    async fn claim_facts(&self, agent: &PersonName, owner: &Principal, run: RunId) -> PortResult<ClaimFacts> {
        let key = [self.home(), agent.as_str().into(), owner.as_str().into(), run.to_string().into()];
        let rows = self.read(FACTS, key).await?;
        facts(&rows).map_err(|e| self.reading(&e))
    }
}

impl SeaStore {
    async fn offers(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> PortResult<Vec<Offer>> {
        let rows = self.read(sql, values).await?;
        rows.iter().map(|row| offer(row, false).map_err(|e| self.reading(&e))).collect()
    }

    async fn offer_in(&self, tx: &DatabaseTransaction, id: &str) -> Result<Option<Offer>, DbErr> {
        let sql = format!("SELECT {COLUMNS}, submission FROM offer WHERE home = $1 AND id = $2");
        let rows = self.query_in(tx, &sql, [self.home(), id.into()]).await?;
        rows.first().map(|row| offer(row, true)).transpose()
    }

    async fn open_in(
        &self,
        tx: &DatabaseTransaction,
        order: &Order,
        body: String,
        project: &ProjectName,
        patch: &str,
        at: Timestamp,
    ) -> Result<Offer, DbErr> {
        let run = order.run.to_string();
        let of_attempt =
            format!("SELECT {COLUMNS}, submission FROM offer WHERE home = $1 AND run = $2 AND attempt = $3");
        let key = [self.home(), run.as_str().into(), i64::from(order.attempt.0).into()];
        if let Some(row) = self.query_in(tx, &of_attempt, key).await?.first() {
            return offer(row, true);
        }
        let task = order.task.as_ref().map_or(0, |task| i64::from(task.id.0));
        let before = format!(
            "SELECT {COLUMNS}, submission FROM offer WHERE home = $1 AND run = $2 AND step = $3 AND task = $4 \
             ORDER BY attempt DESC LIMIT 1"
        );
        let key = [self.home(), run.as_str().into(), order.step.name().into(), task.into()];
        let before = self.query_in(tx, &before, key).await?.first().map(|row| offer(row, true)).transpose()?;
        let carried = before.as_ref().map(|before| Carried::from(before, order, at)).unwrap_or_default();
        let submission = carried.submission.as_ref().map(serde_json::to_string).transpose();
        let submission = submission.map_err(|e| DbErr::Json(e.to_string()))?;
        // Abbreviations of two runs may be equal.
        let short = Offer::id_of(order.run, order.attempt);
        let id = match self.offer_in(tx, &short).await? {
            None => short,
            Some(_) => format!("{run}-{}", order.attempt.0),
        };
        let (state, claim) = (carried.state(), carried.claim.as_ref());
        let values: [Value; 17] = [
            self.home(),
            id.as_str().into(),
            run.as_str().into(),
            i64::from(order.attempt.0).into(),
            project.as_str().into(),
            order.step.name().into(),
            task.into(),
            body.into(),
            patch.replace('\0', "\u{fffd}").into(),
            state.name().into(),
            claim.map(|claim| claim.agent.to_string()).into(),
            claim.map(|claim| claim.owner.as_str().to_owned()).into(),
            claim.map(|claim| claim.at.0).into(),
            claim.map(|claim| claim.until.0).into(),
            carried.turned.join(" ").into(),
            submission.into(),
            at.0.into(),
        ];
        self.execute_in(tx, INSERT, values).await?;
        if let Some(before) = before {
            let is_judged = before.state == OfferState::Delivered && carried.submission.is_none();
            let state = if is_judged { OfferState::Delivered } else { OfferState::Closed };
            self.execute_in(tx, SUPERSEDE, [self.home(), before.id.into(), state.name().into()]).await?;
        }
        self.offer_in(tx, &id).await?.ok_or_else(|| DbErr::RecordNotFound(id))
    }

    async fn claim_in(
        &self,
        tx: &DatabaseTransaction,
        id: &str,
        claim: &Claim,
        settings: &OpenWorkSettings,
    ) -> Result<Option<Result<Offer, ClaimRefusal>>, DbErr> {
        let Some(offer) = self.offer_in(tx, id).await? else { return Ok(None) };
        if offer.is_held_by(&claim.agent, claim.at) {
            return Ok(Some(Ok(offer)));
        }
        let (agent, owner) = (claim.agent.as_str(), claim.owner.as_str());
        let key = [self.home(), agent.into(), owner.into(), offer.order.run.to_string().into()];
        let facts = facts(&self.query_in(tx, FACTS, key).await?)?;
        if let Err(refusal) = may_claim(&offer, &claim.agent, &facts, settings, claim.at) {
            return Ok(Some(Err(refusal)));
        }
        let turned = self.turned_after_lapse(tx, &offer, claim.at).await?;
        let values = [
            self.home(),
            id.into(),
            agent.into(),
            owner.into(),
            claim.at.0.into(),
            claim.until.0.into(),
            turned.into(),
        ];
        self.execute_in(tx, SET_CLAIM, values).await?;
        let offer = self.offer_in(tx, id).await?;
        Ok(offer.map(Ok))
    }

    async fn give_back_in(
        &self,
        tx: &DatabaseTransaction,
        id: &str,
        agent: &PersonName,
        at: Timestamp,
    ) -> Result<bool, DbErr> {
        let Some(offer) = self.offer_in(tx, id).await? else { return Ok(false) };
        // What is being applied will end in a moment, one way or the other.
        let may_open = matches!(offer.state, OfferState::Claimed | OfferState::Submitted);
        if !may_open || offer.claim.as_ref().is_none_or(|claim| claim.agent != *agent) {
            return Ok(false);
        }
        let turned = match offer.has_lapsed(at) {
            true => self.turned_after_lapse(tx, &offer, at).await?,
            false => with_name(&offer.turned, agent.as_str()),
        };
        self.execute_in(tx, SET_OPEN, [self.home(), id.into(), turned.into(), at.0.into()]).await?;
        Ok(true)
    }

    /// Returns who may not claim the offer any more, and counts the lapse of its claim, if it has lapsed.
    async fn turned_after_lapse(
        &self,
        tx: &DatabaseTransaction,
        offer: &Offer,
        at: Timestamp,
    ) -> Result<String, DbErr> {
        let lapsed = offer.claim.as_ref().filter(|_| offer.has_lapsed(at));
        let Some(lapsed) = lapsed else { return Ok(offer.turned.join(" ")) };
        self.execute_in(tx, LAPSED, [self.home(), lapsed.agent.as_str().into()]).await?;
        Ok(with_name(&offer.turned, lapsed.agent.as_str()))
    }
}

fn facts(rows: &[QueryResult]) -> Result<ClaimFacts, DbErr> {
    let row = rows.first().ok_or_else(|| DbErr::RecordNotFound("the facts of a claim".to_owned()))?;
    let count = |column: &str| number(row, column).map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    Ok(ClaimFacts {
        agent_claims: count("agent_claims")?,
        owner_claims: count("owner_claims")?,
        owner_wrote: count("owner_wrote")? > 0,
        agent_reviewed: count("agent_reviewed")? > 0,
    })
}

fn with_name(turned: &[String], name: &str) -> String {
    let mut names: Vec<&str> = turned.iter().map(String::as_str).filter(|n| *n != name).collect();
    names.push(name);
    names.join(" ")
}

/// What the offer of a later attempt takes over.
#[derive(Default)]
struct Carried {
    claim: Option<Claim>,
    submission: Option<Submission>,
    turned: Vec<String>,
}

impl Carried {
    fn from(before: &Offer, order: &Order, at: Timestamp) -> Carried {
        // A lost attempt gives back its try, so the next one has the same number: nobody has judged its work.
        let place = |order: &Order| (order.round, order.try_number, order.head.clone());
        let is_unjudged = place(&before.order) == place(order);
        let submission = before.submission.clone().filter(|_| is_unjudged);
        // A change that needs more work goes back to its author; a second review is another agent's.
        let goes_back = order.step == Step::Develop || before.state != OfferState::Delivered;
        let may_keep = |claim: &Claim| submission.is_some() || (goes_back && claim.until > at);
        let claim = before.claim.clone().filter(may_keep);
        Carried { claim, submission, turned: before.turned.clone() }
    }

    fn state(&self) -> OfferState {
        match (&self.claim, &self.submission) {
            (Some(_), Some(_)) => OfferState::Submitted,
            (Some(_), None) => OfferState::Claimed,
            (None, _) => OfferState::Open,
        }
    }
}
