//! Reloads the key files of providers before each attempt, so that a new key applies to the next one.

use crate::config::{self, ApiKeySource, Config};

/// Returns the configuration with the current keys of the files; `None` = they are unchanged. A file that cannot be
/// read changes nothing.
pub(super) fn with_current_keys(config: &Config) -> Option<Config> {
    let mut next = None;
    for (name, keyed) in &config.providers {
        let ApiKeySource::File(file) = &keyed.source else { continue };
        match config::key_in(file) {
            Ok(key) if keyed.provider.key.as_ref() != Some(&key) => {
                if let Some(keyed) = next.get_or_insert_with(|| config.clone()).providers.get_mut(name) {
                    keyed.provider.key = Some(key);
                }
            }
            Ok(_) => {}
            Err((why, fix)) => tracing::warn!(provider = name, "the provider's key file {why}: {fix}"),
        }
    }
    next
}
