//! The identity provider at which people log in.

use crate::adapters::oidc::Oidc;
use crate::config::Config;
use crate::service::host::{Finding, Severity};
use crate::service::single_sign_on::{CALLBACK, SingleSignOn};
use std::sync::Arc;

/// Creates the configured provider. Nothing is asked of it before somebody logs in.
///
/// # Errors
/// Why it cannot be used.
pub(super) fn single_sign_on(config: &Config) -> Result<Option<SingleSignOn>, String> {
    let Some(provider) = provider(config)? else { return Ok(None) };
    let sso = SingleSignOn::new(Arc::new(provider)).map_err(|e| format!("no random bytes: {e}"))?;
    Ok(Some(sso))
}

/// Checks that the configured provider answers; `None` without one.
pub(super) async fn inspect(config: &Config) -> Option<Finding> {
    let issuer = config.auth.oidc.as_ref()?.issuer.as_str();
    let answered = match provider(config) {
        Ok(Some(provider)) => provider.check().await.map_err(|error| error.to_string()),
        Ok(None) => return None,
        Err(why) => Err(why),
    };
    let (severity, detail, fix) = match answered {
        Ok(()) => (Severity::Ok, format!("{issuer} answers"), ""),
        Err(why) => (Severity::Error, why, "fix [auth.oidc], or the network; login links work until then"),
    };
    Some(Finding { subject: "identity provider".to_owned(), severity, detail, fix: fix.to_owned() })
}

fn provider(config: &Config) -> Result<Option<Oidc>, String> {
    let Some(settings) = config.auth.oidc.clone() else { return Ok(None) };
    let pages = config.server.pages().ok_or("auth.oidc needs server.public_url")?;
    let provider = Oidc::new(settings, format!("{pages}{CALLBACK}"));
    provider.map(Some).map_err(|why| format!("the identity provider cannot be used: {why}"))
}
