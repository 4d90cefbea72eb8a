//! Key files of providers, looked at again before each attempt: a key that a person puts there counts for the very next one.

use crate::config::{self, Config, KeyPlace};

/// The configuration with the keys that are in the files now; `None` = they are the same. A file that cannot be read changes nothing.
pub(super) fn renewed(config: &Config) -> Option<Config> {
    let mut next = None;
    for (name, keyed) in &config.providers {
        let KeyPlace::File(file) = &keyed.place else { continue };
        match config::key_in(file) {
            Ok(key) if keyed.provider.key.as_ref() != Some(&key) => {
                if let Some(keyed) = next.get_or_insert_with(|| config.clone()).providers.get_mut(name) {
                    keyed.provider.key = Some(key);
                }
            }
            Ok(_) => {}
            Err((why, fix)) => tracing::warn!(provider = name, "the file of the provider's key {why}: {fix}"),
        }
    }
    next
}
