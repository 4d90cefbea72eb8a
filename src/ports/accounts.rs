//! People and access tokens. Only digests of tokens are stored.

use super::PortResult;
use crate::domain::{AccessRole, PersonName, Principal, ProjectName, Timestamp};
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};

/// Person who uses a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Name, unique.
    pub name: PersonName,
    /// Role in the whole service.
    pub role: AccessRole,
    /// Further roles in single projects.
    pub project_roles: BTreeMap<ProjectName, AccessRole>,
    /// When the person was added.
    pub created_at: Timestamp,
    /// When the person was disabled; such a person can do nothing.
    pub disabled_at: Option<Timestamp>,
}

/// Account of a person at an identity provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Issuer of the provider.
    pub issuer: String,
    /// The account's id there.
    pub subject: String,
}

/// Access token of a person or a program, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessToken {
    /// Id, the public part of the token.
    pub id: String,
    /// SHA-256 of the secret part, in hex.
    pub digest: String,
    /// Whom it acts as.
    pub principal: Principal,
    /// What it is for, in its creator's words.
    pub name: String,
    /// Names of its rights.
    pub rights: Vec<String>,
    /// The projects that it is limited to; empty: it is not.
    pub projects: BTreeSet<ProjectName>,
    /// Who created it.
    pub created_by: Principal,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it stops working; `None`: never.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, as far as recorded.
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// People and access tokens of one data directory.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// Adds a person, with a role in the whole service only; returns whether the name was free.
    async fn add_person(&self, person: &Person) -> PortResult<bool>;
    /// Returns a person, also a disabled one.
    async fn person(&self, name: &PersonName) -> PortResult<Option<Person>>;
    /// Returns everybody, by name.
    async fn people(&self) -> PortResult<Vec<Person>>;
    /// Replaces the role; returns whether there is such a person.
    async fn set_role(&self, name: &PersonName, role: AccessRole) -> PortResult<bool>;
    /// Replaces the role in one project, or removes it with [`AccessRole::None`].
    async fn set_project_role(&self, name: &PersonName, project: &ProjectName, role: AccessRole) -> PortResult<()>;
    /// Removes everybody's role in one project.
    async fn remove_project_roles(&self, project: &ProjectName) -> PortResult<()>;
    /// Disables a person, or lifts that with `None`; returns whether there is such a person.
    async fn set_disabled(&self, name: &PersonName, at: Option<Timestamp>) -> PortResult<bool>;
    /// Returns the name of the person whose account this is.
    async fn person_of(&self, identity: &Identity) -> PortResult<Option<PersonName>>;
    /// Adds a person together with their account; returns whether the name and the account were free.
    async fn add_person_with(&self, person: &Person, identity: &Identity) -> PortResult<bool>;
    /// Makes an account that of a person, whoever it belonged to before.
    async fn link(&self, identity: &Identity, person: &PersonName, at: Timestamp) -> PortResult<()>;
    /// Adds a token.
    async fn add_token(&self, token: &AccessToken) -> PortResult<()>;
    /// Returns a token, also an expired or revoked one.
    async fn token(&self, id: &str) -> PortResult<Option<AccessToken>>;
    /// Returns the newest tokens, newest first.
    async fn tokens(&self, limit: u64) -> PortResult<Vec<AccessToken>>;
    /// Returns the newest tokens of a principal, newest first.
    async fn tokens_of(&self, principal: &Principal, limit: u64) -> PortResult<Vec<AccessToken>>;
    /// Lets a token end at a moment, unless it ends before.
    async fn expire_token(&self, id: &str, at: Timestamp) -> PortResult<()>;
    /// Revokes a token, if it is not revoked; returns whether there is such a token.
    async fn revoke_token(&self, id: &str, at: Timestamp) -> PortResult<bool>;
    /// Records that a token was used.
    async fn touch_token(&self, id: &str, at: Timestamp) -> PortResult<()>;
}
