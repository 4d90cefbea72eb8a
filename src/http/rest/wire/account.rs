//! People and access tokens.

use super::Timestamp;
use crate::ports::accounts;
use crate::service::tokens::{CreatedToken, Expiry};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Person who uses the service.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Person {
    /// Name; the person is `user:<name>` in journals and in the audit log.
    #[schema(example = "ann")]
    pub name: String,
    /// Role in the whole service: `none`, `viewer`, `member`, `approver` or `admin`.
    #[schema(example = "member")]
    pub role: String,
    /// Further roles in single projects, by project.
    pub project_roles: BTreeMap<String, String>,
    /// When the person was added.
    pub created_at: Timestamp,
    /// When the person was disabled; `null` if not.
    pub disabled_at: Option<Timestamp>,
}

impl From<accounts::Person> for Person {
    fn from(person: accounts::Person) -> Person {
        Person {
            name: person.name.to_string(),
            role: person.role.name().to_owned(),
            project_roles: person
                .project_roles
                .into_iter()
                .map(|(project, role)| (project.to_string(), role.name().to_owned()))
                .collect(),
            created_at: person.created_at.into(),
            disabled_at: person.disabled_at.map(Into::into),
        }
    }
}

/// Person to add.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"name": "ann", "role": "member"}))]
#[serde(deny_unknown_fields)]
pub struct NewPerson {
    /// Name: 1 to 64 of a-z, 0-9, `-`, `_` and `.`, starting with a letter or digit.
    pub name: String,
    /// Role: `viewer`, `member`, `approver`, and for the whole service `admin` or `none`.
    pub role: String,
    /// Project that the role is for; the whole service if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}

/// Role to grant.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"role": "approver"}))]
#[serde(deny_unknown_fields)]
pub struct NewRole {
    /// Role: `viewer`, `member`, `approver`, for the whole service `admin`; `none` takes the role away.
    pub role: String,
    /// Project that the role is for; the whole service if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}

/// Account of a person at the identity provider.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"subject": "8a5c2f10-77b1-4c55-9d3e-0f2b8f6f3a11"}))]
#[serde(deny_unknown_fields)]
pub struct NewIdentity {
    /// Id of the account at the provider, its claim `sub`.
    pub subject: String,
}

/// Access token, without its secret.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AccessToken {
    /// Id.
    #[schema(example = "5f0c3a91be77")]
    pub id: String,
    /// What it is for.
    #[schema(example = "laptop")]
    pub name: String,
    /// Whom it acts as: `user:<person>` or `token:<name>`.
    #[schema(example = "user:ann")]
    pub principal: String,
    /// Names of its rights. A person's token has at most those of the person's role.
    pub rights: Vec<String>,
    /// Projects that it is limited to; empty: it is not.
    pub projects: Vec<String>,
    /// Who created it.
    pub created_by: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it stops working; `null`: never.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to a minute.
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked; `null` if not.
    pub revoked_at: Option<Timestamp>,
}

impl From<accounts::AccessToken> for AccessToken {
    fn from(row: accounts::AccessToken) -> AccessToken {
        AccessToken {
            id: row.id,
            name: row.name,
            principal: row.principal.to_string(),
            rights: row.rights,
            projects: row.projects.iter().map(ToString::to_string).collect(),
            created_by: row.created_by.to_string(),
            created_at: row.created_at.into(),
            expires_at: row.expires_at.map(Into::into),
            last_used_at: row.last_used_at.map(Into::into),
            revoked_at: row.revoked_at.map(Into::into),
        }
    }
}

/// Access token to create.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"name": "laptop", "person": "ann", "rights": ["read", "run"]}))]
#[serde(deny_unknown_fields)]
pub struct NewAccessToken {
    /// What it is for, in the form of a person's name.
    pub name: String,
    /// Person it acts as. Without one it belongs to a program, which cannot approve, and acts as `token:<name>`.
    #[serde(default)]
    pub person: Option<String>,
    /// Names of rights: `read`, `run`, `approve`, `review`, `budget`, `secrets`, `projects`, `admin`; `read` if empty.
    #[serde(default)]
    pub rights: Vec<String>,
    /// Projects that it is limited to; empty: it is not.
    #[serde(default)]
    pub projects: Vec<String>,
    /// Days after which it stops working, 1 to 3650; 90 if absent.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 3650)]
    pub days: Option<u32>,
    /// Whether it works until it is revoked.
    #[serde(default)]
    pub never_expires: bool,
}

impl NewAccessToken {
    /// Returns when the token shall stop working.
    pub fn expiry(&self) -> Expiry {
        match (self.never_expires, self.days) {
            (true, _) => Expiry::Never,
            (false, Some(days)) => Expiry::Days(days),
            (false, None) => Expiry::Default,
        }
    }
}

/// Access token that was created. It is not `Debug`, because the token must never be logged.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct CreatedAccessToken {
    /// The whole token, which is shown only here.
    #[schema(example = "skep_pat_5f0c3a91be77_…")]
    pub token: String,
    /// Its row.
    pub access_token: AccessToken,
}

impl From<CreatedToken> for CreatedAccessToken {
    fn from(created: CreatedToken) -> CreatedAccessToken {
        CreatedAccessToken { token: created.token.expose().to_owned(), access_token: created.row.into() }
    }
}
