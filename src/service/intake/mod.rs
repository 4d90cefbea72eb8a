//! Intake from forges: an issue becomes a run, and the run answers where people work.
//!
//! | module | duty |
//! |---|---|
//! | `worker` | applies what was reported, one delivery after the other, and sweeps for what was not |
//! | `apply` | what a delivery is about, read again from the forge, and who may ask for it |
//! | `start` | opens the run of an issue, once |
//! | `commands` | carries out a command by the use case it names |
//! | `report` | writes on the issue what its run does, asks and ends with |
//! | `sweep` | finds labelled issues and comments that no webhook reported |
//!
//! A delivery only says where to look: its texts are not stored, and everything is read again from the forge. Webhooks
//! and sweeps produce the same facts, so a lost webhook costs time only.
//!
//! Invariant: only people who may write to the repository start or steer anything.

mod apply;
mod commands;
mod report;
mod start;
mod sweep;
mod worker;

pub use worker::{Progress, pass, run};

use super::{Caller, Right, ServiceError, ServiceResult, Services, Via, input};
use crate::domain::{Fact, ForgeName, Principal, Project, ProjectName};
use crate::ports::forge_issues::{WebhookEvent, WebhookRefusal};
use crate::ports::intake::{Delivery, NewDelivery};
use crate::ports::{PortResult, Repo};
use std::collections::BTreeSet;

/// Settled deliveries of a forge that are kept.
const KEPT_DELIVERIES: u64 = 10_000;
/// Deliveries after which older ones are deleted.
const FORGET_EVERY: u64 = 100;

/// What became of a webhook.
#[derive(Debug)]
pub enum Receipt {
    /// It is stored, by this call or an earlier one.
    Stored,
    /// There is no such forge, or its webhooks are off.
    Unknown,
    /// The signature is missing or wrong.
    Unsigned,
    /// It is signed, but not usable.
    Malformed(String),
}

/// Stores what a webhook reports, durably, before it is acknowledged. It authenticates itself by its signature.
///
/// # Errors
/// `unavailable` if the secret cannot be read or the delivery cannot be stored: the forge may deliver it again.
pub async fn receive(
    s: &Services,
    forge: &str,
    header: &(dyn for<'a> Fn(&'a str) -> Option<String> + Send + Sync),
    body: &[u8],
) -> ServiceResult<Receipt> {
    let forge = ForgeName(forge.to_owned());
    let Ok(tracker) = s.forges.issues(&forge) else { return Ok(Receipt::Unknown) };
    let WebhookEvent { id, event, repository, fact } = match tracker.read_webhook(header, body).await {
        Ok(event) => event,
        Err(WebhookRefusal::Off) => return Ok(Receipt::Unknown),
        Err(WebhookRefusal::Signature) => return Ok(Receipt::Unsigned),
        Err(WebhookRefusal::Malformed(why)) => return Ok(Receipt::Malformed(why)),
        Err(WebhookRefusal::Unavailable(error)) => {
            tracing::error!(%forge, %error, "cannot read the webhook secret; {}", error.fix());
            return Err(ServiceError::unavailable("the webhook secret cannot be read", "Deliver it again later"));
        }
    };
    crate::fault!("before-delivery");
    store(s, NewDelivery { forge, id, event, key: key_of(&repository, &fact), repository, fact, at: s.clock.now() })
        .await?;
    crate::fault!("after-delivery");
    Ok(Receipt::Stored)
}

/// Stores a delivery and wakes the worker.
async fn store(s: &Services, new: NewDelivery) -> PortResult<()> {
    if s.intake.receive(&new).await? && new.fact.is_ok() {
        s.intake_wake.notify_one();
    }
    Ok(())
}

/// Returns what a fact is about, for those that take effect once.
fn key_of(repository: &str, fact: &Result<Fact, String>) -> Option<String> {
    match fact {
        Ok(Fact::Commented { comment, .. }) => Some(format!("comment:{repository}:{comment}")),
        // The state of the issue decides, as often as it is looked at.
        Ok(Fact::Labelled { .. } | Fact::Relabelled { .. } | Fact::Moved { .. } | Fact::Tested { .. }) | Err(_) => None,
    }
}

/// Lists the deliveries of a forge, newest first. `before` is the number of a delivery, for paging.
///
/// # Errors
/// `no_forge`, or `invalid` if the limit is out of range.
pub async fn deliveries(
    s: &Services,
    caller: &Caller,
    forge: &str,
    before: Option<u64>,
    limit: Option<u64>,
) -> ServiceResult<Vec<Delivery>> {
    caller.require(Right::Read)?;
    let forge = ForgeName(forge.to_owned());
    let found = s.intake.deliveries(&forge, before, input::rows(limit)?).await?;
    if found.is_empty() {
        // Those of a forge that is no longer configured can still be read.
        s.forges.issues(&forge).map_err(|e| ServiceError::missing("no_forge", e))?;
    }
    Ok(found)
}

/// Returns a caller for a person on a forge who may write to the repository of a project.
fn caller(principal: &Principal, project: &ProjectName) -> Caller {
    let rights = [Right::Read, Right::Run, Right::Approve, Right::Review].into();
    let in_projects = [(project.clone(), rights)].into();
    Caller { in_projects, ..Caller::new(principal.clone(), BTreeSet::new(), Via::Forge) }
}

fn repo_of(project: &Project) -> Repo {
    Repo { project: project.name.clone(), origin: project.repo.clone() }
}

/// Returns the projects of a forge, each with the name of its repository there.
async fn projects_of(s: &Services, forge: &ForgeName) -> PortResult<Vec<(String, Project)>> {
    let tracker = s.forges.issues(forge)?;
    let mut found = Vec::new();
    for project in s.store.projects().await?.into_iter().filter(|project| project.forge == *forge) {
        if let Some(name) = tracker.repository_name(&repo_of(&project)) {
            found.push((name, project));
        }
    }
    Ok(found)
}
