//! Channels that post messages as JSON to an address of the configuration.
//!
//! The headers are those of Standard Webhooks: `webhook-id` is the message's key and the same at every try,
//! `webhook-signature` is an HMAC-SHA256 over the id, the time and the body.
//!
//! Invariant: redirects are not followed, and no error names the address, which may be a secret.

use super::TIMEOUT;
use super::form::Form;
use super::settings::{BuiltIn, Template, WebhookSettings};
use crate::domain::{ChannelRules, Message};
use crate::platform::egress::hosts::is_public;
use crate::ports::messages::{Channel, DeliveryError};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, ClientBuilder, StatusCode, Url};
use ring::hmac;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Why an address that a person gave is not used.
const NOT_PUBLIC: &str = "it is not a public address";

/// Channel that posts to an address.
pub struct Webhook {
    name: String,
    settings: WebhookSettings,
    url: Url,
    form: Form,
    key: Option<hmac::Key>,
    http: Client,
}

impl Webhook {
    /// Creates a channel. `pages` is the address of the pages that messages link to.
    ///
    /// # Errors
    /// Why it cannot be used, without its address.
    pub fn new(name: &str, settings: WebhookSettings, pages: Option<String>) -> Result<Webhook, String> {
        Webhook::with_client(name, settings, pages, Client::builder())
    }

    /// Creates a channel to an address that a person gave: over https, and only to public addresses, whatever its name
    /// leads to.
    ///
    /// # Errors
    /// Why it cannot be used, without its address.
    pub fn to_public(name: &str, settings: WebhookSettings, pages: Option<String>) -> Result<Webhook, String> {
        let url = Url::parse(settings.url.expose()).map_err(|e| format!("its URL cannot be used: {e}"))?;
        if url.scheme() != "https" || !url.username().is_empty() || url.password().is_some() {
            return Err("it must be an https URL without a user".to_owned());
        }
        let ip = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
        if ip.is_some_and(|ip| !is_public(ip)) {
            return Err(NOT_PUBLIC.to_owned());
        }
        // A proxy would look the name up by itself.
        Webhook::with_client(name, settings, pages, Client::builder().no_proxy().dns_resolver(Arc::new(PublicOnly)))
    }

    fn with_client(
        name: &str,
        settings: WebhookSettings,
        pages: Option<String>,
        client: ClientBuilder,
    ) -> Result<Webhook, String> {
        crate::telemetry::install_crypto();
        let mut url = Url::parse(settings.url.expose()).map_err(|e| format!("its URL cannot be used: {e}"))?;
        let mut topic = String::new();
        if settings.template == Template::BuiltIn(BuiltIn::Ntfy) {
            // ntfy takes JSON at its root, with the topic inside.
            topic = url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default().to_owned();
            url.set_path("/");
        }
        let is_local = url.host_str().is_some_and(|host| ["localhost", "127.0.0.1", "[::1]"].contains(&host));
        let builder = client.redirect(reqwest::redirect::Policy::none()).timeout(TIMEOUT);
        let builder = if is_local { builder.no_proxy() } else { builder };
        let http = builder.build().map_err(|e| format!("cannot create an HTTP client: {}", e.without_url()))?;
        let key = settings.signing_secret.as_ref().map(|secret| signing_key(secret.expose())).transpose()?;
        let form = Form::new(settings.template.clone(), pages, topic)?;
        Ok(Webhook { name: name.to_owned(), settings, url, form, key, http })
    }
}

/// Looks names up, and leaves out what is not public.
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err(NOT_PUBLIC.into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Reads a signing secret: `whsec_` and base64, as Standard Webhooks writes it, or any text.
fn signing_key(secret: &str) -> Result<hmac::Key, String> {
    let secret = secret.trim();
    let bytes = match secret.strip_prefix("whsec_") {
        Some(encoded) => {
            STANDARD.decode(encoded).map_err(|_| "its signing secret is not base64 after whsec_".to_owned())?
        }
        None => secret.as_bytes().to_vec(),
    };
    if bytes.len() < 16 {
        return Err("its signing secret is shorter than 16 bytes".to_owned());
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

#[async_trait]
impl Channel for Webhook {
    fn name(&self) -> &str {
        &self.name
    }

    fn rules(&self) -> &ChannelRules {
        &self.settings.rules
    }

    async fn send(&self, message: &Message) -> Result<(), DeliveryError> {
        let failed = |what: String| DeliveryError { what, is_final: false };
        let body = self.form.json(message).map_err(failed)?;
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut request = self
            .http
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("user-agent", concat!("skep/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", &message.key)
            .header("webhook-timestamp", time);
        if let Some(key) = &self.key {
            let signed = hmac::sign(key, format!("{}.{time}.{body}", message.key).as_bytes());
            request = request.header("webhook-signature", format!("v1,{}", STANDARD.encode(signed)));
        }
        if let Some(token) = &self.settings.token {
            request = request.bearer_auth(token.expose());
        }
        let response = request.body(body).send().await.map_err(|error| {
            if error.is_timeout() {
                return failed("no response within ten seconds".to_owned());
            }
            // The outer texts only say that a request failed, and the URL may be a secret.
            let error = error.without_url();
            let mut cause: &dyn std::error::Error = &error;
            while let Some(inner) = cause.source() {
                cause = inner;
            }
            failed(format!("cannot connect: {cause}"))
        })?;
        match response.status() {
            status if status.is_success() => Ok(()),
            StatusCode::GONE => {
                Err(DeliveryError { what: "the receiver answered 410: it no longer exists".to_owned(), is_final: true })
            }
            status if status.is_redirection() => {
                Err(failed(format!("the receiver answered {}, and redirects are not followed", status.as_u16())))
            }
            status => Err(failed(format!("the receiver answered {}", status.as_u16()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(url: &str) -> Result<Webhook, String> {
        let rules = ChannelRules {
            events: Vec::new(),
            projects: Vec::new(),
            delay_secs: 0,
            remind_secs: Vec::new(),
            digest_minute: 0,
        };
        let template = Template::BuiltIn(BuiltIn::Json);
        let url = crate::secrets::Secret::new(url);
        Webhook::to_public(
            "personal",
            WebhookSettings { url, template, signing_secret: None, token: None, rules },
            None,
        )
    }

    #[tokio::test]
    async fn an_address_that_a_person_gave_leads_to_no_private_network() {
        for url in [
            "http://hooks.example.org/x",
            "https://ann@hooks.example.org/x",
            "https://127.0.0.1/x",
            "https://[::1]/x",
            "https://[::ffff:10.0.0.1]/x",
            "https://169.254.169.254/latest",
            "https://0x7f000001/x",
            "file:///etc/passwd",
            "hooks.example.org",
        ] {
            assert!(given(url).is_err(), "{url}");
        }
        // A name that leads here is found out when it is looked up.
        let message = crate::adapters::notify::example();
        let error = given("https://localhost:1/x").unwrap().send(&message).await.unwrap_err();
        assert!(error.what.contains(NOT_PUBLIC), "{error}");
    }

    #[test]
    fn signatures_are_those_of_standard_webhooks() {
        // The example of the specification's reference libraries.
        let key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = "msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{\"test\": 2432232314}";
        let signature = STANDARD.encode(hmac::sign(&key, signed.as_bytes()));
        assert_eq!(signature, "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(signing_key("short").is_err() && signing_key("whsec_!").is_err());
    }
}
