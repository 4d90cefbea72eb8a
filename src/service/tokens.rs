//! Access tokens: for people's programs, which act as them, for programs that act as themselves, and for outside
//! agents.
//!
//! A token is `skep_pat_<id>_<secret>` (a person's), `skep_svc_<id>_<secret>` (a program's) or
//! `skep_agt_<id>_<secret>` (an outside agent's). The id finds the row; the secret holds 32 random bytes, of which only
//! the SHA-256 is stored.
//!
//! Invariant: a token has at most the rights that its person has now, and never [`Right::People`].

use super::audit::record;
use super::error::shown;
use super::secret_text::{digest, random};
use super::{Caller, Right, ServiceError, ServiceResult, Services, Via, agents, input, people, projects};
use crate::domain::open_work::AGENT;
use crate::domain::{Agent, PersonName, Principal, ProjectName, Timestamp};
use crate::ports::accounts::AccessToken;
use crate::secrets::Secret;
use std::collections::BTreeSet;

/// Bytes of an id.
const ID_BYTES: usize = 6;
/// Bytes of randomness in a token.
const SECRET_BYTES: usize = 32;
/// Bytes of the longest token that is looked at.
const MAX_BYTES: usize = 128;
/// Prefix of a person's token.
const PERSONAL: &str = "skep_pat_";
/// Prefix of a program's token.
const SERVICE: &str = "skep_svc_";
/// Prefix of an outside agent's token.
const OF_AGENT: &str = "skep_agt_";
/// Prefix of the principal of a program's token.
const PROGRAM: &str = "token:";
/// Days after which a token expires if its creator says nothing else.
const DEFAULT_DAYS: u32 = 90;
/// Longest time for which a token that expires works, in days.
const MAX_DAYS: u32 = 3_650;
/// Maximum number of tokens that work at once.
const MAX_TOKENS: usize = 1_000;
/// Maximum number of tokens that work at once for one person, as far as the person creates them.
const MAX_OWN: usize = 50;
/// Time for which a token that was rotated still works, in seconds.
pub const OVERLAP_SECS: u64 = 3_600;
/// Time before the end of a token in which its user is warned, in seconds.
const WARNING_SECS: u64 = 7 * 86_400;
/// Maximum number of projects that one token is limited to.
const MAX_PROJECTS: usize = 50;
/// Rows that are read to list tokens.
const MAX_ROWS: u64 = 10_000;
/// Interval at which the use of a token is recorded, in seconds.
const TOUCH_SECS: u64 = 60;

/// Token to create.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// What it is for. A program's token acts as `token:<name>`.
    pub name: String,
    /// The person it acts as; a program's token has none.
    pub person: Option<String>,
    /// Names of its rights; `read` if empty.
    pub rights: Vec<String>,
    /// Names of the projects that it is limited to; empty: it is not.
    pub projects: Vec<String>,
    /// When it stops working.
    pub expires: Expiry,
}

/// When a token stops working.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    /// After 90 days.
    #[default]
    Default,
    /// After this many days.
    Days(u32),
    /// Never.
    Never,
}

/// Token that was created.
#[derive(Debug)]
pub struct CreatedToken {
    /// The whole token, which is stored nowhere.
    pub token: Secret,
    /// Its row.
    pub row: AccessToken,
}

/// Caller of a token.
#[derive(Debug)]
pub struct TokenCaller {
    /// The caller.
    pub caller: Caller,
    /// When the token ends, if that is within a week.
    pub ends_soon: Option<Timestamp>,
}

/// Creates a token.
///
/// # Errors
/// `missing_right` without [`Right::People`], `invalid` if a field is not usable, `no_person`, `disabled`,
/// `too_many_tokens`.
pub async fn create(s: &Services, caller: &Caller, new: NewToken) -> ServiceResult<CreatedToken> {
    caller.require(Right::People)?;
    let name = parse_name(&new.name)?;
    let rights = parse_rights(&new.rights)?;
    let expires_at = end(new.expires, s.clock.now())?;
    let principal = match &new.person {
        Some(person) => people::enabled(s, person).await?,
        None => Principal::from(format!("{PROGRAM}{name}").as_str()),
    };
    let projects = limits(s, caller, &new.projects, &rights).await?;
    let rights = rights.into_iter().map(|right| right.name().to_owned()).collect();
    issue(s, caller, Draft { name: name.to_string(), principal, rights, projects, expires_at }).await
}

/// Checks the projects that a token shall be limited to.
async fn limits(
    s: &Services,
    caller: &Caller,
    names: &[String],
    rights: &BTreeSet<Right>,
) -> ServiceResult<BTreeSet<ProjectName>> {
    if names.len() > MAX_PROJECTS {
        let detail = format!("projects: more than {MAX_PROJECTS}");
        return Err(ServiceError::invalid(detail, "Limit the token to fewer projects, or to none"));
    }
    if let Some(right) = rights.iter().find(|right| !names.is_empty() && !right.is_of_projects()) {
        let detail = format!("the right `{}` concerns the whole service", right.name());
        return Err(ServiceError::invalid(detail, "Leave out that right, or the projects"));
    }
    let mut projects = BTreeSet::new();
    for name in names {
        projects.insert(projects::find_for(s, caller, Right::Read, name).await?.name);
    }
    Ok(projects)
}

/// Creates a token that acts as the caller, a person who is logged in to the pages.
///
/// # Errors
/// `no_session` (forbidden) if the caller is not, `missing_right` without [`Right::Run`], `invalid` if a field is not
/// usable or the caller's role lacks one of the rights, `too_many_tokens`.
pub async fn create_own(s: &Services, caller: &Caller, new: NewToken) -> ServiceResult<CreatedToken> {
    require_session(caller)?;
    caller.require_somewhere(Right::Run)?;
    let name = parse_name(&new.name)?;
    let rights = parse_rights(&new.rights)?;
    if let Some(right) = rights.iter().find(|right| !caller.has_somewhere(**right)) {
        let detail = format!("your role does not have the right `{}`", right.name());
        return Err(ServiceError::invalid(detail, "Choose rights that you have yourself"));
    }
    let at = s.clock.now();
    let expires_at = end(new.expires, at)?;
    let own = s.accounts.tokens_of(&caller.principal, MAX_ROWS).await?;
    if own.iter().filter(|row| is_usable(row, at)).count() >= MAX_OWN {
        let detail = format!("{MAX_OWN} of your tokens are in use");
        return Err(ServiceError::conflict("too_many_tokens", detail, "Revoke those that you do not need"));
    }
    let projects = limits(s, caller, &new.projects, &rights).await?;
    let rights = rights.into_iter().map(|right| right.name().to_owned()).collect();
    let principal = caller.principal.clone();
    issue(s, caller, Draft { name: name.to_string(), principal, rights, projects, expires_at }).await
}

/// Replaces a token by a new one of the same name, rights and lifetime. The old one works for an hour more.
///
/// # Errors
/// `missing_right` without [`Right::People`], unless it is the token of the caller, who is logged in to the pages;
/// `no_token`, `token_ended` if it no longer works or is being replaced, `too_many_tokens`.
pub async fn rotate(s: &Services, caller: &Caller, id: &str) -> ServiceResult<CreatedToken> {
    let (old, at) = (managed(s, caller, id).await?, s.clock.now());
    if !is_usable(&old, at) {
        let detail = format!("the token {} has expired or was revoked", old.id);
        return Err(ServiceError::conflict("token_ended", detail, "Create a new one"));
    }
    if old.expires_at.is_some_and(|end| end <= at.plus_secs(OVERLAP_SECS)) {
        let detail = format!("the token {} was replaced already, or ends within an hour", old.id);
        return Err(ServiceError::conflict("token_ended", detail, "Create a new one"));
    }
    let lifetime_ms = old.expires_at.map(|end| end.0.saturating_sub(old.created_at.0));
    let expires_at = lifetime_ms.map(|ms| Timestamp(at.0.saturating_add(ms)));
    let draft = Draft {
        name: old.name.clone(),
        principal: old.principal.clone(),
        rights: old.rights.clone(),
        projects: old.projects.clone(),
        expires_at,
    };
    let created = issue(s, caller, draft).await?;
    s.accounts.expire_token(&old.id, at.plus_secs(OVERLAP_SECS)).await?;
    record(s, caller, "token.rotate", subject(&old), &format!("replaced by {}", created.row.id)).await;
    Ok(created)
}

struct Draft {
    name: String,
    principal: Principal,
    rights: Vec<String>,
    projects: BTreeSet<ProjectName>,
    expires_at: Option<Timestamp>,
}

async fn issue(s: &Services, caller: &Caller, draft: Draft) -> ServiceResult<CreatedToken> {
    let at = s.clock.now();
    let usable = s.accounts.tokens(MAX_ROWS).await?.iter().filter(|row| is_usable(row, at)).count();
    if usable >= MAX_TOKENS {
        return Err(ServiceError::conflict(
            "too_many_tokens",
            format!("{MAX_TOKENS} tokens are in use"),
            "Revoke those that nobody needs: `skep token list`",
        ));
    }
    let prefix = match draft.principal.as_str() {
        principal if principal.starts_with(PROGRAM) => SERVICE,
        principal if principal.starts_with(AGENT) => OF_AGENT,
        _ => PERSONAL,
    };
    let (id, secret) = (random(ID_BYTES)?, random(SECRET_BYTES)?);
    let row = AccessToken {
        digest: digest(&secret),
        principal: draft.principal,
        name: draft.name,
        rights: draft.rights,
        projects: draft.projects,
        created_by: caller.principal.clone(),
        created_at: at,
        expires_at: draft.expires_at,
        last_used_at: None,
        revoked_at: None,
        id,
    };
    s.accounts.add_token(&row).await?;
    record(s, caller, "token.create", subject(&row), &row.rights.join(" ")).await;
    Ok(CreatedToken { token: Secret::new(format!("{prefix}{}_{secret}", row.id)), row })
}

/// Creates the token of an outside agent, which works until the agent is revoked.
pub(super) async fn create_for(s: &Services, agent: &Agent) -> ServiceResult<Secret> {
    let (id, secret) = (random(ID_BYTES)?, random(SECRET_BYTES)?);
    let row = AccessToken {
        digest: digest(&secret),
        principal: agent.principal(),
        name: agent.name.to_string(),
        rights: vec![Right::Work.name().to_owned()],
        projects: BTreeSet::new(),
        created_by: agent.invited_by.clone(),
        created_at: s.clock.now(),
        expires_at: None,
        last_used_at: None,
        revoked_at: None,
        id,
    };
    s.accounts.add_token(&row).await?;
    Ok(Secret::new(format!("{OF_AGENT}{}_{secret}", row.id)))
}

/// Lists the newest tokens, newest first; those that were revoked or have expired, too.
///
/// # Errors
/// `missing_right` without [`Right::People`], `invalid` if the limit is out of range.
pub async fn list(s: &Services, caller: &Caller, limit: Option<u64>) -> ServiceResult<Vec<AccessToken>> {
    caller.require(Right::People)?;
    Ok(s.accounts.tokens(input::rows(limit)?).await?)
}

/// Lists the tokens of the caller that work, newest first.
///
/// # Errors
/// `no_session` (forbidden) if the caller is not a person who is logged in to the pages.
pub async fn own(s: &Services, caller: &Caller) -> ServiceResult<Vec<AccessToken>> {
    require_session(caller)?;
    let (mut rows, at) = (s.accounts.tokens_of(&caller.principal, MAX_ROWS).await?, s.clock.now());
    rows.retain(|row| is_usable(row, at));
    Ok(rows)
}

/// Revokes a token: it stops working at once.
///
/// # Errors
/// `missing_right` without [`Right::People`], unless it is the token of the caller, who is logged in to the pages;
/// `no_token`.
pub async fn revoke(s: &Services, caller: &Caller, id: &str) -> ServiceResult<AccessToken> {
    let (row, at) = (managed(s, caller, id).await?, s.clock.now());
    s.accounts.revoke_token(&row.id, at).await?;
    record(s, caller, "token.revoke", subject(&row), "").await;
    Ok(AccessToken { revoked_at: row.revoked_at.or(Some(at)), ..row })
}

/// Revokes all tokens that are limited to projects of which one is removed: another project of that name is not theirs.
pub(super) async fn revoke_for(s: &Services, caller: &Caller, removed: &ProjectName) -> ServiceResult<()> {
    let at = s.clock.now();
    for row in s.accounts.tokens(MAX_ROWS).await? {
        if row.projects.contains(removed) && is_usable(&row, at) {
            s.accounts.revoke_token(&row.id, at).await?;
            record(s, caller, "token.revoke", subject(&row), &format!("project {removed} was removed")).await;
        }
    }
    Ok(())
}

/// Returns a token that the caller may rotate and revoke.
async fn managed(s: &Services, caller: &Caller, id: &str) -> ServiceResult<AccessToken> {
    let no_token = || {
        let detail = format!("there is no token {}", shown(id));
        ServiceError::not_found("no_token", detail, "`skep token list` lists them by id")
    };
    if require_session(caller).is_err() {
        caller.require(Right::People)?;
    }
    let row = s.accounts.token(id).await?.ok_or_else(no_token)?;
    // 404, not 403: a caller without `people` must not learn which ids exist.
    if row.principal != caller.principal && caller.require(Right::People).is_err() {
        return Err(no_token());
    }
    Ok(row)
}

/// Checks that a person calls from the pages. A token must not create others, so that a stolen one ends for good when
/// it is revoked.
fn require_session(caller: &Caller) -> ServiceResult<()> {
    if caller.via == Via::Page && caller.principal.is_person() {
        return Ok(());
    }
    let detail = "only people who are logged in to the pages manage their own tokens";
    Err(ServiceError::forbidden("no_session", detail, "Log in to the pages, and open /me"))
}

/// Returns the caller of a token or an invite code; `None` if it is unknown, expired or revoked, or its person can do
/// nothing now.
///
/// # Errors
/// `unavailable` if the store does not answer.
pub async fn caller(s: &Services, token: &str) -> ServiceResult<Option<TokenCaller>> {
    if let Some(code) = token.strip_prefix(agents::CODE) {
        return Ok(agents::invited(s, code).await?.map(|caller| TokenCaller { caller, ends_soon: None }));
    }
    let Some((prefix, id, secret)) = parts(token) else { return Ok(None) };
    let at = s.clock.now();
    let Some(row) = s.accounts.token(id).await? else { return Ok(None) };
    // Digests are compared, so the time taken says nothing about the secret.
    if digest(secret) != row.digest || !is_usable(&row, at) {
        return Ok(None);
    }
    let mut rights: BTreeSet<Right> = row.rights.iter().filter_map(|name| Right::named(name)).collect();
    rights.remove(&Right::People);
    let is_program = row.principal.as_str().starts_with(PROGRAM);
    let caller = match (prefix, is_program) {
        (SERVICE, true) => Caller::new(row.principal.clone(), rights, Via::Rest),
        (OF_AGENT, false) if row.principal.as_str().starts_with(AGENT) => {
            match agents::caller_of(s, &row.principal).await? {
                Some(agent) => agent,
                None => return Ok(None),
            }
        }
        (PERSONAL, false) => match people::caller_of(s, &row.principal, Via::Rest).await? {
            Some(person) => person.limited_to(&rights, Via::Rest),
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    let caller = if row.projects.is_empty() { caller } else { caller.within(&row.projects) };
    let is_recorded = row.last_used_at.is_some_and(|used| at < used.plus_secs(TOUCH_SECS));
    if !is_recorded && let Err(error) = s.accounts.touch_token(&row.id, at).await {
        tracing::warn!(%error, "cannot record the use of a token");
    }
    let ends_soon = row.expires_at.filter(|end| *end <= at.plus_secs(WARNING_SECS));
    Ok(Some(TokenCaller { caller, ends_soon }))
}

/// Splits a token into prefix, id and secret.
fn parts(token: &str) -> Option<(&'static str, &str, &str)> {
    let token = Some(token).filter(|token| token.len() <= MAX_BYTES)?;
    let prefix = [PERSONAL, SERVICE, OF_AGENT].into_iter().find(|prefix| token.starts_with(prefix))?;
    let (id, secret) = token[prefix.len()..].split_once('_')?;
    Some((prefix, id, secret))
}

/// Returns whether a token works, as far as its row says.
pub fn is_usable(row: &AccessToken, at: Timestamp) -> bool {
    row.revoked_at.is_none() && row.expires_at.is_none_or(|end| at < end)
}

fn parse_name(name: &str) -> ServiceResult<PersonName> {
    PersonName::new(name).map_err(|what| {
        ServiceError::invalid(what.replacen(&format!("{name:?}"), &shown(name), 1), "Send another name")
    })
}

fn end(expires: Expiry, at: Timestamp) -> ServiceResult<Option<Timestamp>> {
    let days = match expires {
        Expiry::Default => DEFAULT_DAYS,
        Expiry::Days(days @ 1..=MAX_DAYS) => days,
        Expiry::Days(_) => {
            let detail = format!("a token works for 1 to {MAX_DAYS} days");
            return Err(ServiceError::invalid(detail, "Send another number of days, or let it never expire"));
        }
        Expiry::Never => return Ok(None),
    };
    Ok(Some(at.plus_secs(u64::from(days) * 86_400)))
}

fn parse_rights(names: &[String]) -> ServiceResult<BTreeSet<Right>> {
    if names.is_empty() {
        return Ok([Right::Read].into());
    }
    let allowed = || Right::ALL.into_iter().filter(|right| *right != Right::People);
    let mut rights = BTreeSet::new();
    for name in names {
        let Some(right) = allowed().find(|right| right.name() == name) else {
            let known = allowed().map(Right::name).collect::<Vec<_>>().join(", ");
            let detail = format!("a token cannot have the right {}", shown(name));
            return Err(ServiceError::invalid(detail, format!("Use some of: {known}")));
        };
        rights.insert(right);
    }
    Ok(rights)
}

fn subject(row: &AccessToken) -> String {
    format!("token:{} {}", row.id, row.principal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_split_into_its_parts() {
        assert_eq!(parts("skep_pat_0a1b_ff"), Some((PERSONAL, "0a1b", "ff")));
        assert_eq!(parts("skep_svc_0a1b_ff_"), Some((SERVICE, "0a1b", "ff_")));
        for other in ["", "skep_pat_", "skep_pat_0a1b", "skep_hook_0a1b_ff", "pat_0a1b_ff"] {
            assert_eq!(parts(other), None, "{other}");
        }
        assert_eq!(parts(&format!("skep_pat_0a_{}", "f".repeat(200))), None);
    }

    #[test]
    fn rights_are_named_and_people_are_not_among_them() {
        let parse = |names: &[&str]| parse_rights(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        assert_eq!(parse(&[]).unwrap(), [Right::Read].into());
        assert_eq!(parse(&["run", "read", "run"]).unwrap(), [Right::Read, Right::Run].into());
        for bad in ["people", "Read", "everything", ""] {
            assert_eq!(parse(&[bad]).unwrap_err().code, "invalid", "{bad}");
        }
    }
}
