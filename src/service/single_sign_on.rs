//! Logging in at an identity provider: the browser is sent there, returns with a code, and gets a session here.
//!
//! What must be remembered in between is sealed in a cookie of that browser, so that a login is finished only where it
//! was started, within ten minutes.
//!
//! Invariant: an account is known by its issuer and subject. A person who was added here by name is never taken for the
//! account of the same name at the provider, which anybody might have chosen there; an administrator links them.

use super::audit::record;
use super::error::shown;
use super::secret_text::random;
use super::sessions::{self, NewSession};
use super::{Caller, ErrorKind, Right, ServiceError, ServiceResult, Services, Via, people};
use crate::domain::{AccessRole, Admission, Claims, PersonName, Principal, Timestamp};
use crate::ports::IdentityProvider;
use crate::ports::accounts::{Identity, Person};
use crate::ports::identity::{AuthorizationResponse, IdentityError, LoginAttempt};
use crate::ports::sessions::LoginMethod;
use crate::secrets::Key;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Path of the page to which the provider returns browsers.
pub const CALLBACK: &str = "/login/oidc/callback";
/// Time for which a login may be finished, in seconds.
pub const LOGIN_SECS: u64 = 600;
/// Bytes of randomness in each secret of a login.
const SECRET_BYTES: usize = 32;
/// Context of the sealed cookie.
const CONTEXT: &[u8] = b"skep login";
/// Bytes of the longest sealed cookie, and of the longest code, that is looked at.
const MAX_BYTES: usize = 4_096;
/// Bytes of the longest page that a login leads on to.
const MAX_NEXT_BYTES: usize = 1_024;

/// The identity provider of a service, with the key of the cookies of logins in progress.
#[derive(Clone)]
pub struct SingleSignOn {
    /// The provider.
    pub provider: Arc<dyn IdentityProvider>,
    /// Key of this process: a login does not survive a restart.
    key: Arc<Key>,
}

impl SingleSignOn {
    /// Creates it with a new key.
    ///
    /// # Errors
    /// If the system provides no random bytes.
    pub fn new(provider: Arc<dyn IdentityProvider>) -> Result<SingleSignOn, getrandom::Error> {
        Ok(SingleSignOn { provider, key: Arc::new(Key::generate()?) })
    }
}

/// Login that was started.
#[derive(Clone, Debug)]
pub struct StartedLogin {
    /// Address at the provider to which the browser goes.
    pub location: String,
    /// Value of the cookie that the browser must bring back.
    pub cookie: String,
}

/// What a browser brings back from the provider.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Returned {
    /// State of the login.
    pub state: Option<String>,
    /// Code.
    pub code: Option<String>,
    /// Issuer.
    pub iss: Option<String>,
    /// Code of an error.
    pub error: Option<String>,
    /// Words about the error.
    pub error_description: Option<String>,
}

/// Login that was finished.
#[derive(Clone, Debug)]
pub struct FinishedLogin {
    /// The session.
    pub session: NewSession,
    /// Page that the browser wanted to see.
    pub next: String,
}

#[derive(Serialize, Deserialize)]
struct Pending {
    attempt: LoginAttempt,
    next: String,
    ends_at: i64,
}

/// Starts a login that leads on to the page `next` of this service.
///
/// # Errors
/// `no_single_sign_on` if no provider is configured, `unavailable` if it does not answer.
pub async fn begin(s: &Services, next: &str) -> ServiceResult<StartedLogin> {
    let sso = configured(s)?;
    let attempt =
        LoginAttempt { state: random(SECRET_BYTES)?, nonce: random(SECRET_BYTES)?, verifier: random(SECRET_BYTES)? };
    let location = sso.provider.authorization_url(&attempt).await.map_err(of_provider)?;
    let next = if next.len() <= MAX_NEXT_BYTES { next } else { "/" }.to_owned();
    let pending = Pending { attempt, next, ends_at: s.clock.now().plus_secs(LOGIN_SECS).0 };
    let cookie = serde_json::to_string(&pending).ok().and_then(|text| sso.key.seal_text(CONTEXT, &text).ok());
    let cookie = cookie.ok_or_else(|| ServiceError::unavailable("the login cannot be remembered", "Try again"))?;
    Ok(StartedLogin { location, cookie })
}

/// Finishes a login: verifies what the browser brought back, adds the person at the first login, and opens a session.
///
/// # Errors
/// `no_single_sign_on`; `login_state` (forbidden) if the login was not started in this browser, or too long ago;
/// `login_refused` (forbidden) if the provider refuses; `no_access` (forbidden) if no rule lets the person in;
/// `person_exists` if the person's name is taken; `disabled`; `unavailable` if the provider does not answer.
pub async fn finish(
    s: &Services,
    cookie: Option<&str>,
    returned: &Returned,
    agent: &str,
) -> ServiceResult<FinishedLogin> {
    let sso = configured(s)?;
    let at = s.clock.now();
    let pending =
        pending(&sso.key, cookie, at).filter(|pending| Some(&pending.attempt.state) == returned.state.as_ref());
    let pending = pending.ok_or_else(|| {
        let detail = "this login was not started in this browser, was finished already, or took more than ten minutes";
        ServiceError::forbidden("login_state", detail, "Log in again")
    })?;
    let claims = claims(sso, &pending.attempt, returned).await?;
    let person = person(s, sso, &claims, at).await.inspect_err(|error| {
        tracing::warn!(error = error.code, subject = claims.subject, "a login at the identity provider was refused");
    })?;
    let session = sessions::open(s, people::principal(&person), LoginMethod::Oidc, agent).await?;
    Ok(FinishedLogin { session, next: pending.next })
}

/// Makes an account at the provider that of a person who was added here.
///
/// # Errors
/// `missing_right` without [`Right::People`], `no_single_sign_on`, `no_person`, `invalid` if the subject is not usable.
pub async fn link(s: &Services, caller: &Caller, name: &str, subject: &str) -> ServiceResult<Person> {
    caller.require(Right::People)?;
    let person = people::find(s, name).await?;
    let sso = configured(s)?;
    if subject.is_empty() || subject.len() > 255 || subject.chars().any(char::is_control) {
        let fix = "Send the claim `sub` of the account, which the refused login shows";
        return Err(ServiceError::invalid("subject: must be one line of 1 to 255 bytes", fix));
    }
    let identity = Identity { issuer: sso.provider.issuer().to_owned(), subject: subject.to_owned() };
    s.accounts.link(&identity, &person.name, s.clock.now()).await?;
    record(s, caller, "person.link", people::subject(&person.name), &format!("{} {subject}", identity.issuer)).await;
    Ok(person)
}

fn configured(s: &Services) -> ServiceResult<&SingleSignOn> {
    s.single_sign_on.as_ref().ok_or_else(|| {
        let detail = "no identity provider is configured";
        ServiceError::not_found("no_single_sign_on", detail, "Use a login link, or configure `auth.oidc`")
    })
}

fn pending(key: &Key, cookie: Option<&str>, at: Timestamp) -> Option<Pending> {
    let opened = key.open_text(CONTEXT, cookie.filter(|cookie| cookie.len() <= MAX_BYTES)?).ok()?;
    let pending: Pending = serde_json::from_str(opened.expose()).ok()?;
    (at.0 < pending.ends_at).then_some(pending)
}

async fn claims(sso: &SingleSignOn, attempt: &LoginAttempt, returned: &Returned) -> ServiceResult<Claims> {
    if let Some(error) = &returned.error {
        let words = returned.error_description.as_deref().map(|words| format!(", {}", shown(words)));
        let detail = format!("the identity provider answered {}{}", shown(error), words.unwrap_or_default());
        return Err(ServiceError::forbidden("login_refused", detail, "Log in again, and accept the login there"));
    }
    let code = returned.code.clone().filter(|code| !code.is_empty() && code.len() <= MAX_BYTES);
    let code = code.ok_or_else(|| {
        let fix = "Start again from the login page";
        ServiceError::new(ErrorKind::Malformed, "bad_request", "the identity provider sent no usable code", fix)
    })?;
    let response = AuthorizationResponse { code, issuer: returned.iss.clone() };
    sso.provider.claims(attempt, &response).await.map_err(of_provider)
}

/// Returns the person of an account, whom the rules let in; adds them at the first login.
async fn person(s: &Services, sso: &SingleSignOn, claims: &Claims, at: Timestamp) -> ServiceResult<PersonName> {
    let identity = Identity { issuer: sso.provider.issuer().to_owned(), subject: claims.subject.clone() };
    let admission = match sso.provider.rules().admit(claims) {
        Ok(admission) => admission,
        Err(why) => {
            // What groups gave must not live on in tokens and open sessions.
            if let Some(name) = s.accounts.person_of(&identity).await? {
                take_away(s, sso, claims, &name).await?;
            }
            let fix = "Ask an administrator of this service, who decides which groups may log in";
            return Err(ServiceError::forbidden("no_access", why, fix));
        }
    };
    if let Some(name) = s.accounts.person_of(&identity).await? {
        let current = s.accounts.person(&name).await?.map(|person| person.role);
        let is_of_groups = |role: &AccessRole| sso.provider.rules().groups.contains_key(role);
        let is_set = match admission {
            Admission::OfGroup(_) => true,
            // Somebody who left a group does not keep its role; one that no group gives was given by a person.
            Admission::Default(_) => current.as_ref().is_some_and(is_of_groups),
        };
        if is_set && current != Some(admission.role()) {
            s.accounts.set_role(&name, admission.role()).await?;
            record(s, &themselves(&name), "person.grant", people::subject(&name), &reason(admission)).await;
        }
        set_project_roles(s, sso, claims, &name).await?;
        return Ok(name);
    }
    let name = claims.person_name().ok_or_else(|| {
        let detail = "neither the account's name nor its e-mail address makes a name for a person here";
        let fix = "Ask an administrator to set `auth.oidc.username_claim` to a claim with such a name";
        ServiceError::forbidden("no_name", detail, fix)
    })?;
    let (role, project_roles) = (admission.role(), BTreeMap::new());
    let person = Person { name: name.clone(), role, project_roles, created_at: at, disabled_at: None };
    if !s.accounts.add_person_with(&person, &identity).await? {
        let detail = format!("there is a person {name} already, who is not linked with this account");
        let subject = claims.subject.as_str();
        let fix = format!("If that is you, ask an administrator to run `skep user link {name} {}`", shown(subject));
        return Err(ServiceError::conflict("person_exists", detail, fix));
    }
    record(s, &themselves(&name), "person.add", people::subject(&name), &reason(admission)).await;
    set_project_roles(s, sso, claims, &name).await?;
    Ok(name)
}

/// Takes the roles that groups give away from somebody whom the rules no longer let in.
async fn take_away(s: &Services, sso: &SingleSignOn, claims: &Claims, name: &PersonName) -> ServiceResult<()> {
    let current = s.accounts.person(name).await?.map(|person| person.role);
    if current.is_some_and(|role| sso.provider.rules().groups.contains_key(&role) && role != AccessRole::None) {
        s.accounts.set_role(name, AccessRole::None).await?;
        record(s, &themselves(name), "person.grant", people::subject(name), "none: the rules refused a login").await;
    }
    set_project_roles(s, sso, claims, name).await
}

/// Gives a person the roles of their groups in the projects that have such groups. Roles in other projects stay.
async fn set_project_roles(s: &Services, sso: &SingleSignOn, claims: &Claims, name: &PersonName) -> ServiceResult<()> {
    let asked = sso.provider.rules().project_roles(claims);
    if asked.is_empty() {
        return Ok(());
    }
    let now = s.accounts.person(name).await?.map(|person| person.project_roles).unwrap_or_default();
    for (project, role) in asked {
        if now.get(&project).copied().unwrap_or(AccessRole::None) != role {
            s.accounts.set_project_role(name, &project, role).await?;
            let detail = format!("{} in {project} by groups of the identity provider", role.name());
            record(s, &themselves(name), "person.grant", people::subject(name), &detail).await;
        }
    }
    Ok(())
}

fn reason(admission: Admission) -> String {
    match admission {
        Admission::OfGroup(role) => format!("{} by a group of the identity provider", role.name()),
        Admission::Default(role) => format!("{} by default", role.name()),
    }
}

/// Returns the person as the author of what their own login changes.
fn themselves(name: &PersonName) -> Caller {
    let principal: Principal = people::principal(name);
    Caller::new(principal, Default::default(), Via::Page)
}

fn of_provider(error: IdentityError) -> ServiceError {
    match error {
        IdentityError::Refused(why) => {
            tracing::warn!(why, "a login at the identity provider was refused");
            ServiceError::forbidden("login_refused", why, "Log in again; if it fails again, tell an administrator")
        }
        IdentityError::Unavailable(why) => {
            tracing::warn!(why, "the identity provider cannot be used");
            ServiceError::unavailable(why, "Try again, or use a login link; if it stays, tell an administrator")
        }
    }
}
