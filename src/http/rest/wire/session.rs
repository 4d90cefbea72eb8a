//! Login links of the pages.

use super::Timestamp;
use crate::service::sessions::NewLink;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Path of the page that a login link opens, before the link's code.
pub const LOGIN_PATH: &str = "/login/link/";

/// Whom a login link is for.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewLoginLink {
    /// Name of a person; the caller if absent.
    pub person: Option<String>,
}

/// Link that logs a person in once.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LoginLink {
    /// Path at this service.
    #[schema(example = "/login/link/5f0c…")]
    pub path: String,
    /// When it stops working.
    pub ends_at: Timestamp,
}

impl LoginLink {
    /// Returns the form of a link that was just created.
    pub fn new(link: NewLink) -> LoginLink {
        LoginLink { path: format!("{LOGIN_PATH}{}", link.code), ends_at: link.ends_at.into() }
    }
}
