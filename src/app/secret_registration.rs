//! Registers the secrets of this process for redaction: those of the configuration and of the environment.

use crate::config::{Config, Database};
use crate::secrets::{Secret, register};

/// Registers every secret that the configuration names until the process ends.
///
/// A variable of `engines.pass_env` whose value is a path or a number is not treated as a secret, because every
/// occurrence would be redacted.
pub(super) fn register_all(config: &Config) {
    for (name, value) in &config.telemetry.otlp_headers {
        let bare = value.expose().split_whitespace().last().unwrap_or_default();
        register_forever(&format!("telemetry header {name}"), bare);
        register_forever(&format!("telemetry header {name}"), value.expose());
    }
    if let Database::Url(url) = &config.store.database
        && let Some(password) = password_of(url.expose())
    {
        let decoded = percent_encoding::percent_decode_str(password).decode_utf8_lossy();
        register_forever("database password", &decoded);
        register_forever("database password", password);
    }
    if let Some((name, value)) = &config.secrets.key_env {
        register_forever(name, value.expose());
    }
    for (provider, keyed) in &config.providers {
        if let Some(key) = &keyed.provider.key {
            register_forever(&format!("key of {provider}"), key.expose());
        }
    }
    if let Some(secret) = config.auth.oidc.as_ref().and_then(|oidc| oidc.client_secret.as_ref()) {
        register_forever("secret of the OpenID Connect client", secret.expose());
    }
    for (name, channel) in &config.notify {
        for (what, secret) in channel.secrets() {
            register_forever(&format!("{what} of {name}"), secret.expose());
        }
    }
    for name in config.agents.values().flat_map(|a| &a.pass_env).chain(&config.engines.pass_env) {
        let Some(value) = std::env::var_os(name).and_then(|v| v.into_string().ok()) else { continue };
        let is_harmless = value.starts_with('/') || value.chars().all(|c| c.is_ascii_digit() || c == '.');
        if !is_harmless {
            register_forever(name, &value);
        }
    }
}

fn register_forever(name: &str, value: &str) {
    if !value.trim().is_empty() {
        register(name, &Secret::new(value)).keep();
    }
}

/// Returns the password of `scheme://user:password@host` or of `?password=…`, as written.
fn password_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let by_parameter = rest.split(['?', '&']).find_map(|p| p.strip_prefix("password="));
    let in_authority = rest.rsplit_once('@').and_then(|(user, _)| user.split_once(':')).map(|(_, password)| password);
    in_authority.or(by_parameter).filter(|p| !p.is_empty())
}
