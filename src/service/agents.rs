//! Outside agents: programs of people, which take open work. A person invites one by a code; with the code it registers
//! itself, once, and receives its token.
//!
//! Invariant: an agent's only right is [`Right::Work`]. It can do nothing once it, or its owner, may do nothing.

use super::audit::record;
use super::error::shown;
use super::secret_text::{digest, random};
use super::{Caller, Right, ServiceError, ServiceResult, Services, Via, people, tokens};
use crate::domain::open_work::AGENT;
use crate::domain::{Agent, PersonName, Principal, Timestamp};
use crate::ports::open_work::Invited;
use crate::secrets::{Secret, redact_all};

/// Prefix of an invite code, `skep_inv_<name>_<secret>`.
pub const CODE: &str = "skep_inv_";

/// Bytes of randomness in a code.
const SECRET_BYTES: usize = 32;
/// Longest code that is looked at, in bytes.
const MAX_CODE_BYTES: usize = 160;
/// Time for which a code works, in hours, if its creator says nothing else.
const DEFAULT_HOURS: u32 = 24;
/// Longest time for which a code works, in hours.
const MAX_HOURS: u32 = 7 * 24;
/// Longest text that an agent says about itself, in characters.
const MAX_ABOUT_CHARS: usize = 200;
/// Maximum number of agents that are listed.
const MAX_AGENTS: u64 = 500;

/// Agent that was invited.
#[derive(Debug)]
pub struct Invitation {
    /// The code, which is stored nowhere.
    pub code: Secret,
    /// The agent.
    pub agent: Agent,
}

/// Invites an agent of a person.
///
/// # Errors
/// `missing_right` without [`Right::People`], `invalid` if the name or the time is not usable, `no_person`, `disabled`,
/// `agent_exists`, `too_many_agents`.
pub async fn invite(
    s: &Services,
    caller: &Caller,
    name: &str,
    owner: Option<&str>,
    hours: Option<u32>,
) -> ServiceResult<Invitation> {
    caller.require(Right::People)?;
    let name = PersonName::new(name).map_err(|what| {
        ServiceError::invalid(what.replacen(&format!("{name:?}"), &shown(name), 1), "Send another name")
    })?;
    let owner = match owner {
        Some(owner) => people::enabled(s, owner).await?,
        None if caller.principal.is_person() => caller.principal.clone(),
        None => {
            let detail = "an agent belongs to a person, and you are a program";
            return Err(ServiceError::invalid(detail, "Name the person as `owner`"));
        }
    };
    let hours = match hours.unwrap_or(DEFAULT_HOURS) {
        hours @ 1..=MAX_HOURS => hours,
        _ => {
            let detail = format!("hours: an invite code works for 1 to {MAX_HOURS} hours");
            return Err(ServiceError::invalid(detail, "Send another number"));
        }
    };
    let (secret, at) = (random(SECRET_BYTES)?, s.clock.now());
    let agent = Agent {
        name,
        owner,
        about: String::new(),
        invite_digest: digest(&secret),
        invite_ends_at: at.plus_secs(u64::from(hours) * 3_600),
        invited_by: caller.principal.clone(),
        created_at: at,
        registered_at: None,
        seen_at: None,
        revoked_at: None,
        lapses: 0,
    };
    let limit = s.open_work_settings.agents_per_owner;
    match s.open_work.add_agent(&agent, limit).await? {
        Invited::Added => {}
        Invited::NameTaken => {
            let detail = format!("there is an agent {} already; a name is never used twice", agent.name);
            return Err(ServiceError::conflict("agent_exists", detail, "Choose another name"));
        }
        Invited::OwnerLimit => {
            let detail = format!("{} has {limit} agents, as many as a person may", agent.owner);
            let fix = "Revoke one with `skep agents revoke NAME`, or raise `open.agents_per_owner`";
            return Err(ServiceError::conflict("too_many_agents", detail, fix));
        }
    }
    record(s, caller, "agent.invite", subject(&agent), agent.owner.as_str()).await;
    Ok(Invitation { code: Secret::new(format!("{CODE}{}_{secret}", agent.name)), agent })
}

/// Lists the agents, by name.
///
/// # Errors
/// `missing_right` without [`Right::Read`].
pub async fn list(s: &Services, caller: &Caller) -> ServiceResult<Vec<Agent>> {
    caller.require(Right::Read)?;
    Ok(s.open_work.agents(MAX_AGENTS).await?)
}

/// Revokes an agent: its token and its invite code stop working, and the offers that it holds are open again.
///
/// # Errors
/// `missing_right` without [`Right::People`], `no_agent`.
pub async fn revoke(s: &Services, caller: &Caller, name: &str) -> ServiceResult<Agent> {
    caller.require(Right::People)?;
    let no_agent = || {
        let detail = format!("there is no agent {}", shown(name));
        ServiceError::not_found("no_agent", detail, "`skep agents list` lists them")
    };
    let valid = PersonName::new(name).map_err(|_| no_agent())?;
    s.open_work.revoke_agent(&valid, s.clock.now()).await?;
    let agent = s.open_work.agent(&valid).await?.ok_or_else(no_agent)?;
    record(s, caller, "agent.revoke", subject(&agent), "").await;
    Ok(agent)
}

/// Registers the agent whose invite code the caller has sent, and returns its token. The code is used up.
///
/// # Errors
/// `missing_right` without [`Right::Register`], `invalid` if the text is too long, `code_used` if the code was used in
/// the meantime.
pub async fn register(s: &Services, caller: &Caller, about: &str) -> ServiceResult<(Agent, Secret)> {
    caller.require(Right::Register)?;
    if about.chars().count() > MAX_ABOUT_CHARS || about.chars().any(char::is_control) {
        let detail = format!("about: more than {MAX_ABOUT_CHARS} characters, or not one line");
        return Err(ServiceError::invalid(detail, "Say which model and program you are, in one line"));
    }
    let used = || {
        let fix = "Ask your owner for another invite code";
        ServiceError::conflict("code_used", "the invite code was used, or has ended", fix)
    };
    let agent = find(s, &caller.principal).await?.ok_or_else(used)?;
    if !s.open_work.register_agent(&agent.name, &redact_all(about), s.clock.now()).await? {
        return Err(used());
    }
    let token = tokens::create_for(s, &agent).await?;
    record(s, caller, "agent.register", subject(&agent), about).await;
    let agent = find(s, &caller.principal).await?.ok_or_else(used)?;
    Ok((agent, token))
}

/// Returns the caller of an invite code without its prefix; `None` if the code is unknown, used or over.
pub(super) async fn invited(s: &Services, code: &str) -> ServiceResult<Option<Caller>> {
    let Some((name, secret)) = code.rsplit_once('_').filter(|_| code.len() <= MAX_CODE_BYTES) else { return Ok(None) };
    let Ok(name) = PersonName::new(name) else { return Ok(None) };
    let Some(agent) = s.open_work.agent(&name).await? else { return Ok(None) };
    // Digests are compared, so the time taken says nothing about the secret.
    if digest(secret) != agent.invite_digest || agent.state(s.clock.now()) != "invited" {
        return Ok(None);
    }
    if !is_enabled(s, &agent.owner).await? {
        return Ok(None);
    }
    Ok(Some(Caller::new(agent.principal(), [Right::Register].into(), Via::Rest)))
}

/// Returns a registered agent as a caller; `None` if it is unknown or revoked, or its owner can do nothing now.
pub(super) async fn caller_of(s: &Services, principal: &Principal) -> ServiceResult<Option<Caller>> {
    let agent = find(s, principal).await?.filter(|agent| agent.state(Timestamp(0)) == "active");
    let Some(agent) = agent else { return Ok(None) };
    if !is_enabled(s, &agent.owner).await? {
        return Ok(None);
    }
    Ok(Some(Caller::new(agent.principal(), [Right::Work].into(), Via::Rest)))
}

/// Returns the agent of a principal, if it is one.
pub(super) async fn find(s: &Services, principal: &Principal) -> ServiceResult<Option<Agent>> {
    let Some(Ok(name)) = principal.as_str().strip_prefix(AGENT).map(PersonName::new) else { return Ok(None) };
    Ok(s.open_work.agent(&name).await?)
}

async fn is_enabled(s: &Services, owner: &Principal) -> ServiceResult<bool> {
    Ok(people::caller_of(s, owner, Via::Rest).await?.is_some())
}

fn subject(agent: &Agent) -> String {
    agent.principal().to_string()
}
