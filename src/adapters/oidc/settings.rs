//! Settings of the OpenID Connect provider: `[auth.oidc]`.

use crate::domain::LoginRules;
use crate::secrets::Secret;

/// Settings of the provider.
#[derive(Clone, Debug, PartialEq)]
pub struct OidcSettings {
    /// Issuer, exactly as the provider writes it.
    pub issuer: String,
    /// Id of this service at the provider.
    pub client_id: String,
    /// Secret of this service at the provider; a public client has none.
    pub client_secret: Option<Secret>,
    /// What people call the provider.
    pub label: String,
    /// Scopes that are asked for.
    pub scopes: Vec<String>,
    /// Name of the claim that names the account.
    pub username_claim: String,
    /// Who may log in, with which role.
    pub rules: LoginRules,
}
