//! Open work for outside agents: what is offered, claiming it, and submitting it.
//!
//! Every call counts towards the limits of the agent and of its owner, and extends the leases of the agent's claims.
//!
//! Invariant: what an agent submits is data. It is applied by the attempt that offered the step, checked like any other
//! work, and never read as a command.

mod submit;
mod view;

pub use submit::{NewReview, Submitted, patch as submit_patch, review as submit_review};
pub use view::{Details, OwnOffer, WorkerStatus};

use super::audit::record;
use super::error::shown;
use super::{Caller, ErrorKind, Right, ServiceError, ServiceResult, Services, agents, input};
use crate::domain::open_work::{Claim, ClaimRefusal, MAX_LEASES, may_claim};
use crate::domain::{Agent, Offer, Run, Timestamp};
use crate::ports::Repo;
use crate::render::utc;
use std::collections::BTreeMap;

/// Offers that are read to fill a feed.
const MAX_SEARCHED: u64 = 200;
/// Maximum number of an agent's own offers that are listed.
const MAX_OWN: u64 = 50;
/// Maximum bytes of a file that is shown.
const MAX_FILE_BYTES: usize = 512 * 1024;
/// Maximum bytes of a path.
const MAX_PATH_BYTES: usize = 1024;

/// Kind of call, for limits.
#[derive(Clone, Copy, Debug)]
enum Call {
    Read,
    Claim,
    Submit,
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Call::Read => "read",
            Call::Claim => "claim",
            Call::Submit => "submit",
        }
    }

    /// Calls that an agent may make in an hour; its owner's agents together may make twice as many.
    fn per_hour(self) -> u64 {
        match self {
            Call::Read => 1_200,
            Call::Claim => 30,
            Call::Submit => 30,
        }
    }
}

/// Lists the offers that the agent may claim now, oldest first.
///
/// # Errors
/// `missing_right` without [`Right::Work`], `too_many_calls`, `invalid` if the limit is out of range.
pub async fn feed(s: &Services, caller: &Caller, limit: Option<u64>) -> ServiceResult<Vec<Offer>> {
    let limit = usize::try_from(input::rows(limit)?).unwrap_or(usize::MAX);
    let agent = enter(s, caller, Call::Read).await?;
    let now = s.clock.now();
    let mut runs = Runs::default();
    let mut offers = Vec::new();
    for offer in s.open_work.open_offers(now, MAX_SEARCHED).await? {
        if offers.len() >= limit {
            break;
        }
        let facts = s.open_work.claim_facts(&agent.name, &agent.owner, offer.order.run).await?;
        // Limits on claims do not hide what is offered.
        let facts = crate::domain::open_work::ClaimFacts { agent_claims: 0, owner_claims: 0, ..facts };
        let may = may_claim(&offer, &agent.name, &facts, &s.open_work_settings, now).is_ok();
        if may && runs.needs(s, &offer).await? {
            offers.push(view::redacted(offer));
        }
    }
    Ok(offers)
}

/// Returns who the agent is, what it holds, and its limits.
///
/// # Errors
/// `missing_right` without [`Right::Work`], `too_many_calls`.
pub async fn status(s: &Services, caller: &Caller) -> ServiceResult<WorkerStatus> {
    let agent = enter(s, caller, Call::Read).await?;
    let now = s.clock.now();
    let own = s.open_work.offers_of(&agent.name, MAX_OWN).await?;
    let held = own.iter().filter(|offer| offer.is_held_by(&agent.name, now)).count();
    Ok(WorkerStatus { agent, held, settings: s.open_work_settings, at: now })
}

/// Lists the offers that the agent has claimed, newest first, with what became of them.
///
/// # Errors
/// `missing_right` without [`Right::Work`], `too_many_calls`.
pub async fn mine(s: &Services, caller: &Caller) -> ServiceResult<Vec<OwnOffer>> {
    let agent = enter(s, caller, Call::Read).await?;
    let mut runs = Runs::default();
    let mut own = Vec::new();
    for offer in s.open_work.offers_of(&agent.name, MAX_OWN).await? {
        let run = runs.get(s, &offer).await?;
        own.push(OwnOffer::of(view::redacted(offer), run));
    }
    Ok(own)
}

/// Returns everything that an agent needs to know about an offer.
///
/// # Errors
/// `missing_right` without [`Right::Work`], `too_many_calls`, `no_offer`.
pub async fn details(s: &Services, caller: &Caller, id: &str) -> ServiceResult<Details> {
    let agent = enter(s, caller, Call::Read).await?;
    let offer = visible(s, &agent, id).await?;
    let patch = s.open_work.offered_patch(&offer.id).await?;
    let is_mine = offer.is_held_by(&agent.name, s.clock.now());
    Ok(Details { offer: view::redacted(offer), patch, is_mine })
}

/// Lists the paths of the files at the offer's commit.
///
/// # Errors
/// As [`details`].
pub async fn files(s: &Services, caller: &Caller, id: &str) -> ServiceResult<Vec<String>> {
    let agent = enter(s, caller, Call::Read).await?;
    let (offer, repo) = source(s, &agent, id).await?;
    Ok(s.workspaces.paths(&repo, &offer.order.head).await?)
}

/// Returns a text file at the offer's commit, with secrets redacted.
///
/// # Errors
/// As [`details`], `no_file`, and `invalid` if it is not a text or too large.
pub async fn file(s: &Services, caller: &Caller, id: &str, path: &str) -> ServiceResult<String> {
    let agent = enter(s, caller, Call::Read).await?;
    let no_file = || {
        let detail = format!("there is no file {} at the commit of the offer", shown(path));
        ServiceError::not_found("no_file", detail, "List the files of the offer")
    };
    let is_usable = (1..=MAX_PATH_BYTES).contains(&path.len()) && !path.chars().any(char::is_control);
    if !is_usable || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(no_file());
    }
    let (offer, repo) = source(s, &agent, id).await?;
    let bytes = s.workspaces.read_at(&repo, &offer.order.head, path).await?.ok_or_else(no_file)?;
    if bytes.len() > MAX_FILE_BYTES {
        let detail = format!("{} is larger than {} KiB", shown(path), MAX_FILE_BYTES / 1024);
        return Err(ServiceError::invalid(detail, "Work without it, or clone the repository"));
    }
    let text = String::from_utf8(bytes);
    let text = text.map_err(|_| ServiceError::invalid(format!("{} is not UTF-8 text", shown(path)), "Skip it"))?;
    Ok(crate::secrets::redact(&text).into_owned())
}

/// Claims an offer. Claiming one again that the agent holds returns it as it is.
///
/// # Errors
/// `missing_right` without [`Right::Work`], `too_many_calls`, `no_offer`, and a conflict with the code of the
/// [`ClaimRefusal`].
pub async fn claim(s: &Services, caller: &Caller, id: &str) -> ServiceResult<Offer> {
    let agent = enter(s, caller, Call::Claim).await?;
    let offer = find(s, id).await?;
    if !Runs::default().needs(s, &offer).await? {
        return Err(over());
    }
    let now = s.clock.now();
    let claim = Claim { agent: agent.name.clone(), owner: agent.owner.clone(), at: now, until: lease_end(s, now) };
    match s.open_work.claim(&offer.id, &claim, &s.open_work_settings).await? {
        None => Err(no_offer(id)),
        Some(Err(refusal)) => {
            let fix = match refusal {
                ClaimRefusal::Taken(until) => {
                    format!("Look at the feed for another offer, or wait until {}", utc(until))
                }
                _ => "Look at the feed for another offer".to_owned(),
            };
            Err(ServiceError::conflict(refusal.code(), refusal.to_string(), fix))
        }
        Some(Ok(offer)) => {
            record(s, caller, "work.claim", subject(&offer), "").await;
            Ok(view::redacted(offer))
        }
    }
}

/// Gives an offer back. The agent cannot claim it again.
///
/// # Errors
/// `missing_right` without [`Right::Work`], `too_many_calls`, `no_offer`, `not_claimed`.
pub async fn abandon(s: &Services, caller: &Caller, id: &str, why: &str) -> ServiceResult<Offer> {
    let agent = enter(s, caller, Call::Submit).await?;
    let offer = find(s, id).await?;
    if !s.open_work.give_back(&offer.id, &agent.name, s.clock.now()).await? {
        return Err(not_claimed(id));
    }
    record(s, caller, "work.abandon", subject(&offer), why).await;
    find(s, id).await.map(view::redacted)
}

/// Admits a call of an agent.
async fn enter(s: &Services, caller: &Caller, call: Call) -> ServiceResult<Agent> {
    caller.require(Right::Work)?;
    let not_an_agent = || {
        let detail = format!("{} is not an outside agent", caller.principal);
        ServiceError::forbidden("missing_right", detail, "Use the token of an agent")
    };
    let agent = agents::find(s, &caller.principal).await?.ok_or_else(not_an_agent)?;
    let now = s.clock.now();
    let (principal, owner) = (agent.principal(), format!("owner:{}", agent.owner));
    for (who, limit) in [(principal.as_str(), call.per_hour()), (owner.as_str(), 2 * call.per_hour())] {
        if s.open_work.count_call(who, call.name(), now).await? > limit {
            let detail = format!("{who} has made {limit} calls of the kind `{}` in this hour", call.name());
            let fix = "Wait until the next hour, and call less often";
            return Err(ServiceError::new(ErrorKind::TooMany, "too_many_calls", detail, fix));
        }
    }
    let most = s.open_work_settings.lease_ms.saturating_mul(MAX_LEASES);
    s.open_work.extend_claims(&agent.name, now, lease_end(s, now), most).await?;
    Ok(agent)
}

fn lease_end(s: &Services, now: Timestamp) -> Timestamp {
    Timestamp(now.0.saturating_add(s.open_work_settings.lease_ms))
}

async fn find(s: &Services, id: &str) -> ServiceResult<Offer> {
    let is_id = id.len() <= 64 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    let found = if is_id { s.open_work.offer(id).await? } else { None };
    found.ok_or_else(|| no_offer(id))
}

/// Returns an offer that an agent may see: one that it claimed, or that its run still needs.
async fn visible(s: &Services, agent: &Agent, id: &str) -> ServiceResult<Offer> {
    let offer = find(s, id).await?;
    let is_mine = offer.claim.as_ref().is_some_and(|claim| claim.agent == agent.name);
    match is_mine || Runs::default().needs(s, &offer).await? {
        true => Ok(offer),
        false => Err(over()),
    }
}

async fn source(s: &Services, agent: &Agent, id: &str) -> ServiceResult<(Offer, Repo)> {
    let offer = visible(s, agent, id).await?;
    let run = Runs::default().get(s, &offer).await?.cloned().ok_or_else(over)?;
    let repo = Repo { project: run.project.clone(), origin: run.settings.origin.clone() };
    Ok((offer, repo))
}

/// Runs of offers, each read once per request.
#[derive(Default)]
struct Runs(BTreeMap<String, Option<Run>>);

impl Runs {
    /// Returns the run of an offer; `None` if it is gone or cannot be read.
    async fn get(&mut self, s: &Services, offer: &Offer) -> ServiceResult<Option<&Run>> {
        let key = offer.order.run.to_string();
        if !self.0.contains_key(&key) {
            let run = match s.store.load(offer.order.run).await {
                Ok(run) => run,
                Err(crate::ports::PortError::Permanent { .. }) => None,
                Err(error) => return Err(error.into()),
            };
            self.0.insert(key.clone(), run);
        }
        Ok(self.0.get(&key).and_then(Option::as_ref))
    }

    /// Returns whether the attempt that offered the step still waits for it. The offer of a run that has ended is
    /// closed.
    async fn needs(&mut self, s: &Services, offer: &Offer) -> ServiceResult<bool> {
        let attempt = offer.order.attempt;
        let Some(run) = self.get(s, offer).await? else { return Ok(false) };
        let is_live = run.attempt(attempt).is_some_and(|a| a.live()) && run.stopping.is_none();
        if run.ended() {
            s.open_work.close_offer(&offer.id).await?;
        }
        Ok(is_live && !run.ended())
    }
}

fn no_offer(id: &str) -> ServiceError {
    ServiceError::not_found("no_offer", format!("there is no offer {}", shown(id)), "Look at the feed for its id")
}

fn over() -> ServiceError {
    let fix = "Look at your own offers: a later attempt at the same task has another id";
    ServiceError::conflict("offer_closed", "the offer is over: its attempt has ended", fix)
}

fn not_claimed(id: &str) -> ServiceError {
    let detail = format!("you do not hold the offer {}", shown(id));
    ServiceError::conflict("not_claimed", detail, "Claim it first; your own offers show what became of it")
}

fn subject(offer: &Offer) -> String {
    format!("offer:{}", offer.id)
}
