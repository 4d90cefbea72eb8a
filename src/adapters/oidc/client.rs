//! Requests to the provider: its metadata, codes for tokens, and claims of the userinfo endpoint.

use super::id_token::ClaimSet;
use super::settings::OidcSettings;
use crate::ports::identity::IdentityError;
use crate::secrets::redact_all;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Time limit of a request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Upper bound on an answer, in bytes.
const MAX_ANSWER_BYTES: usize = 512 * 1024;
/// Time for which the metadata is used.
const METADATA_LIFETIME: Duration = Duration::from_secs(3_600);
/// Time for which a provider that does not answer is not asked again.
const FAILURE_LIFETIME: Duration = Duration::from_secs(5);
/// Longest text of the provider that an error repeats, in characters.
const MAX_SHOWN_CHARS: usize = 200;

/// What a provider publishes about itself (OpenID Connect Discovery 1.0).
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Metadata {
    issuer: String,
    pub authorization_endpoint: String,
    token_endpoint: String,
    pub jwks_uri: String,
    pub userinfo_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// RFC 9207.
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

/// Answer of the token endpoint.
#[derive(Deserialize)]
pub(super) struct Tokens {
    pub id_token: String,
    pub access_token: Option<String>,
}

/// Error of the token endpoint (RFC 6749, section 5.2).
#[derive(Deserialize)]
struct TokenError {
    error: String,
    #[serde(default)]
    error_description: String,
}

type Remembered = (Instant, Result<Arc<Metadata>, IdentityError>);

/// Client of one provider.
pub(super) struct Client {
    issuer: String,
    http: reqwest::Client,
    metadata: Mutex<Option<Remembered>>,
}

impl Client {
    /// Creates a client.
    ///
    /// # Errors
    /// Why the issuer cannot be used.
    pub fn new(issuer: &str) -> Result<Client, String> {
        crate::telemetry::install_crypto();
        let is_local = Url::parse(issuer).is_ok_and(|url| is_local(&url));
        let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(TIMEOUT);
        let builder = if is_local { builder.no_proxy() } else { builder };
        let http = builder.build().map_err(|e| format!("cannot create an HTTP client: {}", e.without_url()))?;
        Ok(Client { issuer: issuer.to_owned(), http, metadata: Mutex::default() })
    }

    /// Returns the metadata of the provider.
    pub async fn metadata(&self) -> Result<Arc<Metadata>, IdentityError> {
        // Held during the request: of many logins at once, one asks.
        let mut remembered = self.metadata.lock().await;
        if let Some((at, result)) = &*remembered {
            let lifetime = if result.is_ok() { METADATA_LIFETIME } else { FAILURE_LIFETIME };
            if at.elapsed() < lifetime {
                return result.clone();
            }
        }
        let result = self.discover().await.map(Arc::new);
        *remembered = Some((Instant::now(), result.clone()));
        result
    }

    async fn discover(&self) -> Result<Metadata, IdentityError> {
        let url = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let metadata: Metadata = self.json(self.http.get(url), "the provider's metadata").await?;
        if metadata.issuer != self.issuer {
            let (named, issuer) = (shown(&metadata.issuer), &self.issuer);
            let why =
                format!("the provider at {issuer} calls itself {named:?}; auth.oidc.issuer must be the same text");
            return Err(IdentityError::Unavailable(why));
        }
        let endpoints = [&metadata.authorization_endpoint, &metadata.token_endpoint, &metadata.jwks_uri];
        for endpoint in endpoints.into_iter().chain(&metadata.userinfo_endpoint) {
            let is_safe = Url::parse(endpoint).is_ok_and(|url| url.scheme() == "https" || is_local(&url));
            if !is_safe {
                let why = format!("the provider's metadata names {:?}, which is not an https URL", shown(endpoint));
                return Err(IdentityError::Unavailable(why));
            }
        }
        Ok(metadata)
    }

    /// Exchanges a code for tokens.
    pub async fn tokens(
        &self,
        settings: &OidcSettings,
        redirect_uri: &str,
        code: &str,
        verifier: &str,
    ) -> Result<Tokens, IdentityError> {
        let metadata = self.metadata().await?;
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", verifier),
        ];
        let mut request = self.http.post(&metadata.token_endpoint);
        let methods = metadata.token_endpoint_auth_methods_supported.as_deref();
        let takes = |method: &str| methods.is_none_or(|methods| methods.iter().any(|known| known == method));
        match &settings.client_secret {
            None => fields.push(("client_id", &settings.client_id)),
            // The default method, which RFC 6749 requires of every provider.
            Some(secret) if takes("client_secret_basic") || !takes("client_secret_post") => {
                let pair = format!("{}:{}", encode(&settings.client_id), encode(secret.expose()));
                request = request.header("authorization", format!("Basic {}", STANDARD.encode(pair)));
            }
            Some(secret) => {
                fields.extend([("client_id", settings.client_id.as_str()), ("client_secret", secret.expose())]);
            }
        }
        let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(body.join("&"));
        let (status, body) = self.send(request, "the provider's token endpoint").await?;
        if status.is_success() {
            return parsed(&body, "the answer of the provider's token endpoint");
        }
        let why = match serde_json::from_slice::<TokenError>(&body) {
            Ok(TokenError { error, error_description }) => format!("{error} {error_description}"),
            Err(_) => format!("it answered {}", status.as_u16()),
        };
        let why = format!("the provider does not accept the code: {}", shown(&why));
        if status.is_server_error() { Err(IdentityError::Unavailable(why)) } else { Err(IdentityError::Refused(why)) }
    }

    /// Returns the claims that an access token opens.
    pub async fn userinfo(&self, endpoint: &str, access_token: &str) -> Result<ClaimSet, IdentityError> {
        self.json(self.http.get(endpoint).bearer_auth(access_token), "the provider's userinfo endpoint").await
    }

    /// Returns the answer to a request for JSON.
    pub async fn get<T: DeserializeOwned>(&self, url: &str, what: &str) -> Result<T, IdentityError> {
        self.json(self.http.get(url), what).await
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder, what: &str) -> Result<T, IdentityError> {
        let (status, body) = self.send(request.header("accept", "application/json"), what).await?;
        if !status.is_success() {
            return Err(IdentityError::Unavailable(format!("{what} answered {}", status.as_u16())));
        }
        parsed(&body, what)
    }

    async fn send(&self, request: RequestBuilder, what: &str) -> Result<(StatusCode, Vec<u8>), IdentityError> {
        let failed = |error: reqwest::Error| {
            let error = error.without_url();
            // The outer texts only say that a request failed.
            let mut cause: &dyn std::error::Error = &error;
            while let Some(inner) = cause.source() {
                cause = inner;
            }
            let cause = if error.is_timeout() { "no answer within ten seconds".to_owned() } else { cause.to_string() };
            IdentityError::Unavailable(format!("cannot reach {what}: {cause}"))
        };
        let agent = concat!("skep/", env!("CARGO_PKG_VERSION"));
        let mut response = request.header("user-agent", agent).send().await.map_err(failed)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(IdentityError::Unavailable(format!("{what} answered more than {MAX_ANSWER_BYTES} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((response.status(), body))
    }
}

fn parsed<T: DeserializeOwned>(body: &[u8], what: &str) -> Result<T, IdentityError> {
    serde_json::from_slice(body).map_err(|e| IdentityError::Unavailable(format!("cannot read {what}: {e}")))
}

/// Returns whether a URL is on this machine.
fn is_local(url: &Url) -> bool {
    let is_here = |host: &str| {
        let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
        host == "localhost" || host.ends_with(".localhost") || ip.is_ok_and(|ip| ip.is_loopback())
    };
    url.scheme() == "http" && url.host_str().is_some_and(is_here)
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Returns a text of the provider as an error may repeat it.
pub(super) fn shown(text: &str) -> String {
    redact_all(text).trim().chars().filter(|c| !c.is_control()).take(MAX_SHOWN_CHARS).collect()
}
