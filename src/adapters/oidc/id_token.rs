//! ID tokens: the provider's keys, and every check of OpenID Connect Core, section 3.1.3.7.

use super::client::{Client, shown};
use super::ring_crypto::ALGORITHMS;
use super::settings::OidcSettings;
use crate::ports::identity::IdentityError;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, get_current_timestamp};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// How much the clocks of the provider and this machine may differ, in seconds.
const SKEW_SECS: u64 = 60;
/// Upper bound on the bytes of an ID token.
const MAX_TOKEN_BYTES: usize = 64 * 1024;
/// Upper bound on the keys of a provider.
const MAX_KEYS: usize = 100;
/// Interval at which an unknown key makes the provider's keys be fetched again.
const REFETCH_INTERVAL: Duration = Duration::from_secs(60);
/// Time for which fetched keys are used.
const KEYS_LIFETIME: Duration = Duration::from_secs(3_600);

/// Claims by name.
pub(super) type ClaimSet = Map<String, Value>;

/// The provider's keys.
#[derive(Default)]
pub(super) struct Keys(Mutex<Fetched>);

#[derive(Default)]
struct Fetched {
    keys: Arc<[Jwk]>,
    at: Option<Instant>,
    /// When an unknown key last made the keys be fetched again.
    refetched_at: Option<Instant>,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

impl Keys {
    /// Verifies an ID token that was issued for a login, and returns its claims.
    pub async fn verify(
        &self,
        client: &Client,
        settings: &OidcSettings,
        token: &str,
        nonce: &str,
    ) -> Result<ClaimSet, IdentityError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(refused("it is too long"));
        }
        // An algorithm that the library does not know, such as `none`, cannot be read.
        let header = decode_header(token)
            .map_err(|_| refused("its header cannot be read, or names an algorithm that is not accepted"))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(refused(&format!("it is signed by the algorithm {:?}, which is not accepted", header.alg)));
        }
        let key = self.key(client, header.kid.as_deref(), header.alg).await?;
        let mut validation = Validation::new(header.alg);
        validation.leeway = SKEW_SECS;
        validation.validate_nbf = true;
        validation.set_audience(&[&settings.client_id]);
        validation.set_issuer(&[&settings.issuer]);
        validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        let claims = decode::<ClaimSet>(token, &key, &validation).map_err(|error| refused(&why(error.kind())))?.claims;
        check(&claims, settings, nonce).map_err(|why| refused(&why))?;
        Ok(claims)
    }

    /// Returns the key that signed a token.
    async fn key(&self, client: &Client, kid: Option<&str>, alg: Algorithm) -> Result<DecodingKey, IdentityError> {
        let mut fetched = self.0.lock().await;
        let is_current = fetched.at.is_some_and(|at| at.elapsed() < KEYS_LIFETIME);
        if !is_current {
            fetched.keys = fetch(client).await?;
            fetched.at = Some(Instant::now());
        }
        if let Some(key) = find(&fetched.keys, kid, alg) {
            return Ok(key);
        }
        // The provider may have a new key. Limited, so that a misconfigured one is not asked at every login.
        if fetched.refetched_at.is_none_or(|at| at.elapsed() >= REFETCH_INTERVAL) {
            fetched.refetched_at = Some(Instant::now());
            fetched.keys = fetch(client).await?;
        }
        find(&fetched.keys, kid, alg).ok_or_else(|| {
            let kid = kid.map_or_else(|| "none".to_owned(), |kid| format!("{:?}", shown(kid)));
            refused(&format!("it is signed by a key that the provider does not publish (kid {kid}, {alg:?})"))
        })
    }
}

async fn fetch(client: &Client) -> Result<Arc<[Jwk]>, IdentityError> {
    let metadata = client.metadata().await?;
    let set: KeySet = client.get(&metadata.jwks_uri, "the provider's keys").await?;
    // A key of an unknown kind is none that could be used.
    Ok(set.keys.into_iter().take(MAX_KEYS).filter_map(|key| serde_json::from_value(key).ok()).collect())
}

/// Returns the key with an id; without an id, the only one that fits the algorithm.
fn find(keys: &[Jwk], kid: Option<&str>, alg: Algorithm) -> Option<DecodingKey> {
    let fits = |key: &&Jwk| {
        let is_kind = match alg {
            Algorithm::RS256 | Algorithm::PS256 => matches!(key.algorithm, AlgorithmParameters::RSA(_)),
            Algorithm::ES256 | Algorithm::ES384 => matches!(key.algorithm, AlgorithmParameters::EllipticCurve(_)),
            Algorithm::EdDSA => matches!(key.algorithm, AlgorithmParameters::OctetKeyPair(_)),
            _ => false,
        };
        let is_for_signatures = key.common.public_key_use.as_ref().is_none_or(|u| *u == PublicKeyUse::Signature);
        let is_for_alg = key.common.key_algorithm.is_none_or(|of| of == alg.into());
        is_kind && is_for_signatures && is_for_alg && kid.is_none_or(|kid| key.common.key_id.as_deref() == Some(kid))
    };
    let mut fitting = keys.iter().filter(fits);
    let (first, second) = (fitting.next()?, fitting.next());
    if kid.is_none() && second.is_some() {
        return None;
    }
    DecodingKey::from_jwk(first).ok()
}

/// Checks the claims that the library does not.
fn check(claims: &ClaimSet, settings: &OidcSettings, nonce: &str) -> Result<(), String> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if text("iss") != Some(&settings.issuer) {
        return Err("its claim `iss` is not the configured issuer".to_owned());
    }
    if text("sub").is_none_or(|subject| subject.is_empty() || subject.len() > 255) {
        return Err("its claim `sub` is not a text of 1 to 255 characters".to_owned());
    }
    let has_others = claims.get("aud").and_then(Value::as_array).is_some_and(|all| all.len() > 1);
    match claims.get("azp") {
        None if has_others => return Err("it is for several clients, and has no claim `azp`".to_owned()),
        Some(azp) if *azp != settings.client_id.as_str() => {
            return Err("its claim `azp` names another client".to_owned());
        }
        _ => {}
    }
    let issued_at = claims.get("iat").and_then(Value::as_f64);
    if issued_at.is_none_or(|at| at > (get_current_timestamp() + SKEW_SECS) as f64) {
        return Err("its claim `iat` is missing or in the future; compare the clocks of both machines".to_owned());
    }
    if text("nonce") != Some(nonce) {
        return Err("its claim `nonce` is that of another login".to_owned());
    }
    Ok(())
}

fn why(kind: &ErrorKind) -> String {
    match kind {
        ErrorKind::InvalidSignature => "its signature is wrong".to_owned(),
        ErrorKind::ExpiredSignature => "it has expired; compare the clocks of both machines".to_owned(),
        ErrorKind::ImmatureSignature => "it is not valid yet; compare the clocks of both machines".to_owned(),
        ErrorKind::InvalidIssuer => "its claim `iss` is not the configured issuer".to_owned(),
        ErrorKind::InvalidAudience => "its claim `aud` does not name this client".to_owned(),
        ErrorKind::MissingRequiredClaim(claim) => format!("its claim `{claim}` is missing"),
        ErrorKind::InvalidClaimFormat(claim) => format!("its claim `{claim}` has the wrong form"),
        _ => "it cannot be read".to_owned(),
    }
}

fn refused(why: &str) -> IdentityError {
    IdentityError::Refused(format!("the ID token is not valid: {why}"))
}
