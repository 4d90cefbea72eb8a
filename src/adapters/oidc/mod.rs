//! An OpenID Connect provider: authorization code with PKCE, and ID tokens verified with the provider's keys.
//!
//! | module | duty |
//! |---|---|
//! | `client` | requests to the provider, and the metadata it publishes |
//! | `id_token` | the provider's keys, and the checks of an ID token |
//! | `ring_crypto` | signatures, by `ring` |
//!
//! Invariant: redirects are not followed, answers are bounded, and nothing is sent unencrypted to another machine.

mod client;
mod id_token;
mod ring_crypto;
pub mod settings;

use crate::domain::{Claims, LoginRules};
use crate::ports::identity::{AuthorizationResponse, IdentityError, IdentityProvider, LoginAttempt};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use client::Client;
use id_token::{ClaimSet, Keys};
use reqwest::Url;
use serde_json::Value;
use settings::OidcSettings;
use sha2::{Digest, Sha256};

/// Groups of a person that are read.
const MAX_GROUPS: usize = 1_000;

/// The provider.
pub struct Oidc {
    settings: OidcSettings,
    redirect_uri: String,
    client: Client,
    keys: Keys,
}

impl Oidc {
    /// Creates the provider. `redirect_uri` is the address of this service to which it returns browsers.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn new(settings: OidcSettings, redirect_uri: String) -> Result<Oidc, String> {
        ring_crypto::install();
        let client = Client::new(&settings.issuer)?;
        Ok(Oidc { settings, redirect_uri, client, keys: Keys::default() })
    }

    /// Checks that the provider answers, and is the configured one.
    ///
    /// # Errors
    /// Why not.
    pub async fn check(&self) -> Result<(), IdentityError> {
        self.client.metadata().await.map(drop)
    }

    /// Returns the claims of the ID token, completed by those of the userinfo endpoint.
    async fn complete(&self, mut claims: ClaimSet, access_token: Option<&str>) -> Result<ClaimSet, IdentityError> {
        let metadata = self.client.metadata().await?;
        let rules = &self.settings.rules;
        let of_domain = rules.domains.iter().any(|domain| domain != "*");
        let needed = [
            (self.settings.username_claim.as_str(), true),
            ("email", true),
            ("email_verified", of_domain),
            (rules.groups_claim.as_str(), !rules.groups.is_empty() || !rules.project_groups.is_empty()),
        ];
        let is_complete = needed.into_iter().all(|(name, is_needed)| !is_needed || find(&claims, name).is_some());
        let (Some(endpoint), Some(token), false) = (&metadata.userinfo_endpoint, access_token, is_complete) else {
            return Ok(claims);
        };
        // Without its claims, a person would get the role of somebody in no group.
        let mut more = self.client.userinfo(endpoint, token).await?;
        // OpenID Connect Core, section 5.3.2: an answer about somebody else must not be used.
        if more.get("sub") != claims.get("sub") {
            return Err(IdentityError::Refused("the userinfo endpoint answered about another subject".to_owned()));
        }
        if claims.contains_key("email") && claims.get("email") != more.get("email") {
            // It is about the other address.
            more.remove("email_verified");
        }
        if !claims.contains_key("email") && more.contains_key("email") {
            claims.remove("email_verified");
        }
        for (name, value) in more {
            claims.entry(name).or_insert(value);
        }
        Ok(claims)
    }
}

#[async_trait]
impl IdentityProvider for Oidc {
    fn label(&self) -> &str {
        &self.settings.label
    }

    fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    fn redirect_uri(&self) -> &str {
        &self.redirect_uri
    }

    fn rules(&self) -> &LoginRules {
        &self.settings.rules
    }

    async fn authorization_url(&self, attempt: &LoginAttempt) -> Result<String, IdentityError> {
        let metadata = self.client.metadata().await?;
        let mut url = Url::parse(&metadata.authorization_endpoint)
            .map_err(|e| IdentityError::Unavailable(format!("the provider's authorization endpoint: {e}")))?;
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(attempt.verifier.as_bytes()));
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.settings.client_id)
            .append_pair("redirect_uri", &self.redirect_uri)
            .append_pair("scope", &self.settings.scopes.join(" "))
            .append_pair("state", &attempt.state)
            .append_pair("nonce", &attempt.nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        Ok(url.into())
    }

    async fn claims(&self, attempt: &LoginAttempt, response: &AuthorizationResponse) -> Result<Claims, IdentityError> {
        let metadata = self.client.metadata().await?;
        let is_named = match &response.issuer {
            Some(issuer) => *issuer == self.settings.issuer,
            None => !metadata.authorization_response_iss_parameter_supported,
        };
        if !is_named {
            let why = "the browser came back from another issuer than the configured one";
            return Err(IdentityError::Refused(why.to_owned()));
        }
        let tokens = self.client.tokens(&self.settings, &self.redirect_uri, &response.code, &attempt.verifier).await?;
        let claims = self.keys.verify(&self.client, &self.settings, &tokens.id_token, &attempt.nonce).await?;
        let claims = self.complete(claims, tokens.access_token.as_deref()).await?;
        let text = |name: &str| find(&claims, name).and_then(Value::as_str).map(str::to_owned);
        Ok(Claims {
            subject: text("sub").unwrap_or_default(),
            username: text(&self.settings.username_claim),
            email: text("email"),
            // Some providers write the flag as a text.
            is_email_verified: claims.get("email_verified").is_some_and(|flag| *flag == true || *flag == "true"),
            groups: find(&claims, &self.settings.rules.groups_claim).and_then(texts),
        })
    }
}

/// Returns a claim by its name, or by its path, such as `realm_access.roles`.
fn find<'c>(claims: &'c ClaimSet, name: &str) -> Option<&'c Value> {
    let by_path = || {
        let mut parts = name.split('.');
        let first = claims.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    };
    claims.get(name).or_else(by_path).filter(|value| !value.is_null())
}

/// Returns a list of texts, or one text as a list.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(all) => {
            Some(all.iter().filter_map(Value::as_str).take(MAX_GROUPS).map(str::to_owned).collect::<Vec<_>>())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_found_by_name_and_by_path() {
        let claims = serde_json::json!({
            "groups": ["dev", 5], "one": "dev", "https://x.example/groups": ["a"], "realm_access": {"roles": ["b"]},
            "empty": null,
        });
        let claims = claims.as_object().unwrap();
        let groups = |name: &str| find(claims, name).and_then(texts);
        assert_eq!(groups("groups"), Some(vec!["dev".to_owned()]));
        assert_eq!(groups("one"), Some(vec!["dev".to_owned()]));
        assert_eq!(groups("https://x.example/groups"), Some(vec!["a".to_owned()]));
        assert_eq!(groups("realm_access.roles"), Some(vec!["b".to_owned()]));
        for missing in ["empty", "realm_access", "realm_access.none", "none.roles", "", "."] {
            assert_eq!(groups(missing), None, "{missing}");
        }
    }
}
