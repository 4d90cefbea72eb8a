//! Logging in to the pages: a link that works once opens a session, which a cookie carries.
//!
//! Links and cookies hold 32 random bytes each. Only their SHA-256 is stored: with that much randomness a slow hash adds
//! nothing, and who reads the store cannot log in.
//!
//! Invariant: a session belongs to a person. Programs use tokens, which never reach the pages.

use super::audit::record;
use super::secret_text::{digest, random};
use super::{Caller, Right, ServiceError, ServiceResult, Services, Via, people};
use crate::domain::{Principal, Timestamp};
use crate::ports::sessions::{LoginLink, LoginMethod, Session};
use crate::secrets::redact_all;

/// Bytes of randomness in a link and in a cookie.
const SECRET_BYTES: usize = 32;
/// Time for which a login link works, in seconds.
pub const LINK_SECS: u64 = 600;
/// Time after which an unused session ends, in seconds.
pub const IDLE_SECS: u64 = 30 * 86_400;
/// Time after which every session ends, in seconds.
pub const MAX_SECS: u64 = 90 * 86_400;
/// Characters of the public id of a session.
const ID_CHARS: usize = 16;
/// Maximum number of sessions that are listed.
const MAX_LISTED: u64 = 200;
/// Longest text of a browser about itself that is stored, in characters.
const MAX_AGENT_CHARS: usize = 200;
/// Interval at which the use of a session is recorded.
const TOUCH_SECS: u64 = 3_600;

/// Login link that was created.
#[derive(Clone, Debug)]
pub struct NewLink {
    /// Code, which is stored nowhere.
    pub code: String,
    /// When it stops working.
    pub ends_at: Timestamp,
}

/// Session that was opened.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Value of its cookie, which is stored nowhere.
    pub secret: String,
    /// Its person.
    pub caller: Caller,
}

/// Creates a link that logs a person in once: the caller, or somebody who was added by name.
///
/// # Errors
/// `missing_right` without [`Right::People`], `not_a_person` if the caller is a program and names nobody, `no_person` if
/// nobody has that name, `disabled` if the person is.
pub async fn new_link(s: &Services, caller: &Caller, person: Option<&str>) -> ServiceResult<NewLink> {
    caller.require(Right::People)?;
    let principal = match person {
        Some(name) => people::enabled(s, name).await?,
        None => caller.principal.clone(),
    };
    if !principal.is_person() {
        let detail = format!("{principal} is not a person");
        return Err(ServiceError::forbidden("not_a_person", detail, "Create the link as a person"));
    }
    let (code, at) = (random(SECRET_BYTES)?, s.clock.now());
    let ends_at = at.plus_secs(LINK_SECS);
    let link = LoginLink { digest: digest(&code), principal: principal.clone(), ends_at };
    s.sessions.add_link(&link, at).await?;
    record(s, caller, "session.link", format!("person:{principal}"), "").await;
    Ok(NewLink { code, ends_at })
}

/// Returns whether a login link works, without using it: previews of links must not use them up.
///
/// # Errors
/// `unavailable` if the store does not answer.
pub async fn is_link(s: &Services, code: &str) -> ServiceResult<bool> {
    Ok(s.sessions.peek_link(&digest(code), s.clock.now()).await?.is_some())
}

/// Uses a login link and opens a session for its person. `agent` is what the browser says about itself.
///
/// # Errors
/// `login_link` (forbidden) if the link does not exist, was used, or has ended.
pub async fn log_in(s: &Services, code: &str, agent: &str) -> ServiceResult<NewSession> {
    let Some(principal) = s.sessions.use_link(&digest(code), s.clock.now()).await? else {
        return Err(ServiceError::forbidden(
            "login_link",
            "this login link does not work: it was used already, or is older than ten minutes",
            "Create a new one with `skep open`",
        ));
    };
    open(s, principal, LoginMethod::Link, agent).await
}

/// Opens a session for a person who has proved who they are. `agent` is what the browser says about itself.
///
/// # Errors
/// `disabled` (forbidden) if the person was disabled.
pub(super) async fn open(
    s: &Services,
    principal: Principal,
    login: LoginMethod,
    agent: &str,
) -> ServiceResult<NewSession> {
    let Some(caller) = people::caller_of(s, &principal, Via::Page).await? else {
        let detail = format!("{principal} was disabled");
        return Err(ServiceError::forbidden("disabled", detail, "Ask an administrator of this service"));
    };
    let (secret, at) = (random(SECRET_BYTES)?, s.clock.now());
    let agent = redact_all(agent).chars().filter(|c| !c.is_control()).take(MAX_AGENT_CHARS).collect();
    let ends_at = at.plus_secs(MAX_SECS);
    let session = Session { digest: digest(&secret), principal, created_at: at, seen_at: at, ends_at, login, agent };
    s.sessions.add_session(&session).await?;
    record(s, &caller, "session.open", subject(&caller), login.name()).await;
    Ok(NewSession { secret, caller })
}

/// Returns the person of a session, with the rights of their role now; `None` if there is no such session, it has
/// ended, or the person was disabled.
///
/// # Errors
/// `unavailable` if the store does not answer.
pub async fn caller(s: &Services, secret: &str) -> ServiceResult<Option<Caller>> {
    let (digest, at) = (digest(secret), s.clock.now());
    let Some(session) = s.sessions.session(&digest).await? else { return Ok(None) };
    if !works(&session, at) {
        return Ok(None);
    }
    let Some(caller) = people::caller_of(s, &session.principal, Via::Page).await? else { return Ok(None) };
    if at >= session.seen_at.plus_secs(TOUCH_SECS)
        && let Err(error) = s.sessions.touch_session(&digest, at).await
    {
        tracing::warn!(%error, "cannot record the use of a session");
    }
    Ok(Some(caller))
}

/// Returns the public id of a session: the start of its digest, which reveals nothing about the secret.
pub fn id(session: &Session) -> &str {
    session.digest.get(..ID_CHARS).unwrap_or(&session.digest)
}

/// Returns the public id of the session with this secret.
pub fn id_of(secret: &str) -> String {
    digest(secret).chars().take(ID_CHARS).collect()
}

/// Lists the sessions of the caller that work, newest first.
///
/// # Errors
/// `unavailable` if the store does not answer.
pub async fn own(s: &Services, caller: &Caller) -> ServiceResult<Vec<Session>> {
    let mut sessions = s.sessions.sessions_of(&caller.principal, MAX_LISTED).await?;
    let at = s.clock.now();
    sessions.retain(|session| works(session, at));
    Ok(sessions)
}

/// Ends a session of the caller.
///
/// # Errors
/// `no_session` (not found) if the caller has no such session.
pub async fn end_own(s: &Services, caller: &Caller, session_id: &str) -> ServiceResult<()> {
    let sessions = own(s, caller).await?;
    let session = sessions.iter().find(|session| id(session) == session_id).ok_or_else(|| {
        ServiceError::not_found("no_session", "you have no such session", "Open the page again: it may have ended")
    })?;
    s.sessions.end_session(&session.digest).await?;
    record(s, caller, "session.end", subject(caller), session_id).await;
    Ok(())
}

/// Ends all sessions of the caller except the one with this secret; returns how many.
///
/// # Errors
/// `unavailable` if the store does not answer.
pub async fn end_others(s: &Services, caller: &Caller, secret: Option<&str>) -> ServiceResult<usize> {
    let kept = secret.map(digest);
    let mut ended = 0;
    loop {
        let mut sessions = s.sessions.sessions_of(&caller.principal, MAX_LISTED).await?;
        sessions.retain(|session| Some(&session.digest) != kept.as_ref());
        if sessions.is_empty() {
            break;
        }
        for session in &sessions {
            s.sessions.end_session(&session.digest).await?;
        }
        ended += sessions.len();
    }
    record(s, caller, "session.end", subject(caller), &format!("{ended} others")).await;
    Ok(ended)
}

fn works(session: &Session, at: Timestamp) -> bool {
    at < session.ends_at && at < session.seen_at.plus_secs(IDLE_SECS)
}

/// Ends a session.
///
/// # Errors
/// `unavailable` if the store does not answer.
pub async fn log_out(s: &Services, caller: &Caller, secret: &str) -> ServiceResult<()> {
    s.sessions.end_session(&digest(secret)).await?;
    record(s, caller, "session.end", subject(caller), "").await;
    Ok(())
}

fn subject(caller: &Caller) -> String {
    format!("person:{}", caller.principal)
}
