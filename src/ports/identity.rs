//! An identity provider outside, such as a company's OpenID Connect server, which says who a person is.

use crate::domain::{Claims, LoginRules};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// Secrets of one login, from the moment the browser is sent to the provider until it returns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginAttempt {
    /// Value that the provider returns with the browser.
    pub state: String,
    /// Value that the ID token must contain.
    pub nonce: String,
    /// Code verifier of PKCE.
    pub verifier: String,
}

/// What the browser brings back from the provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorizationResponse {
    /// Code, to be exchanged for the ID token.
    pub code: String,
    /// Issuer, if the provider names itself (RFC 9207).
    pub issuer: Option<String>,
}

/// Why a provider did not say who a person is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The provider cannot be reached or does not work.
    #[error("{0}")]
    Unavailable(String),
    /// The provider refused, or what it sent is not valid.
    #[error("{0}")]
    Refused(String),
}

/// An identity provider.
#[async_trait]
pub trait IdentityProvider: Send + Sync {
    /// Returns what people call it, after "Log in with".
    fn label(&self) -> &str;
    /// Returns its issuer. A subject is unique below it.
    fn issuer(&self) -> &str;
    /// Returns the address of this service to which it returns browsers.
    fn redirect_uri(&self) -> &str;
    /// Returns who may log in.
    fn rules(&self) -> &LoginRules;
    /// Returns the address to which the browser is sent.
    ///
    /// # Errors
    /// Why the provider cannot be used.
    async fn authorization_url(&self, attempt: &LoginAttempt) -> Result<String, IdentityError>;
    /// Exchanges what the browser brought back for verified claims.
    ///
    /// # Errors
    /// Why the provider does not say who the person is.
    async fn claims(&self, attempt: &LoginAttempt, response: &AuthorizationResponse) -> Result<Claims, IdentityError>;
}
