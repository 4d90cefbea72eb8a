//! The identity provider at which people log in.

use crate::adapters::oidc::Oidc;
use crate::config::Config;
use crate::service::single_sign_on::{CALLBACK, SingleSignOn};
use std::sync::Arc;

/// Creates the configured provider. Nothing is asked of it before somebody logs in.
///
/// # Errors
/// Why it cannot be used.
pub(super) fn single_sign_on(config: &Config) -> Result<Option<SingleSignOn>, String> {
    let Some(settings) = config.auth.oidc.clone() else { return Ok(None) };
    let pages = config.server.pages().ok_or("auth.oidc needs server.public_url")?;
    let provider = Oidc::new(settings, format!("{pages}{CALLBACK}"))
        .map_err(|why| format!("the identity provider cannot be used: {why}"))?;
    let sso = SingleSignOn::new(Arc::new(provider)).map_err(|e| format!("no random bytes: {e}"))?;
    Ok(Some(sso))
}
