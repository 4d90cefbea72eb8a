//! Login links and sessions of people on the pages. Only digests of their secrets are stored.

use super::PortResult;
use crate::domain::{Principal, Timestamp};
use async_trait::async_trait;

/// Link that logs its owner in once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginLink {
    /// SHA-256 of its code, in hex.
    pub digest: String,
    /// Who it logs in.
    pub principal: Principal,
    /// When it stops working.
    pub ends_at: Timestamp,
}

/// Session of a browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// SHA-256 of its cookie, in hex.
    pub digest: String,
    /// Whose session it is.
    pub principal: Principal,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was last used, as far as recorded.
    pub seen_at: Timestamp,
    /// When it ends at the latest.
    pub ends_at: Timestamp,
    /// How the person logged in.
    pub login: LoginMethod,
    /// What the browser says about itself.
    pub agent: String,
}

/// How a person logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginMethod {
    /// With a link that works once.
    Link,
    /// At the identity provider.
    Oidc,
}

impl LoginMethod {
    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            LoginMethod::Link => "link",
            LoginMethod::Oidc => "oidc",
        }
    }

    /// Returns the method with this name.
    pub fn named(name: &str) -> Option<LoginMethod> {
        [LoginMethod::Link, LoginMethod::Oidc].into_iter().find(|method| method.name() == name)
    }
}

/// Login links and sessions of one data directory.
#[async_trait]
pub trait Sessions: Send + Sync {
    /// Stores a link, and deletes links and sessions that ended before `at`.
    async fn add_link(&self, link: &LoginLink, at: Timestamp) -> PortResult<()>;
    /// Deletes a link and returns whom it logs in; `None` if it does not exist or has ended. Of several concurrent
    /// calls, one gets it.
    async fn use_link(&self, digest: &str, at: Timestamp) -> PortResult<Option<Principal>>;
    /// Returns whom a link would log in, without using it.
    async fn peek_link(&self, digest: &str, at: Timestamp) -> PortResult<Option<Principal>>;
    /// Stores a session.
    async fn add_session(&self, session: &Session) -> PortResult<()>;
    /// Returns a session, also one that has ended.
    async fn session(&self, digest: &str) -> PortResult<Option<Session>>;
    /// Returns the newest sessions of a person, newest first; those that have ended, too.
    async fn sessions_of(&self, principal: &Principal, limit: u64) -> PortResult<Vec<Session>>;
    /// Records that a session was used.
    async fn touch_session(&self, digest: &str, at: Timestamp) -> PortResult<()>;
    /// Deletes a session.
    async fn end_session(&self, digest: &str) -> PortResult<()>;
}
