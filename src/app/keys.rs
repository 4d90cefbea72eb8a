//! Providers' keys as they are now: files and the vault are looked at before each attempt, so that a key a person puts there counts at
//! once, for runs that wait for it, too.

use crate::config::{self, Config, KeyPlace};
use crate::ports::{SecretName, Vault};
use crate::secret::{Secret, register};

/// The configuration with the keys as they are now; `None` = none is another one. A key that cannot be read now stays as it was.
pub(super) async fn renewed(config: &Config, vault: &dyn Vault) -> Option<Config> {
    let mut next = None;
    for (name, keyed) in &config.providers {
        let found = match &keyed.place {
            KeyPlace::File(file) => config::key_in(file).map_err(|(why, fix)| format!("the file it names {why}; {fix}")),
            KeyPlace::Vault(secret) => in_vault(secret, vault).await,
            KeyPlace::Nowhere | KeyPlace::Env(_) => continue,
        };
        match found {
            Ok(key) if keyed.provider.key.as_ref() != Some(&key) => {
                register(&format!("key of {name}"), &key).keep();
                if let Some(keyed) = next.get_or_insert_with(|| config.clone()).providers.get_mut(name) {
                    keyed.provider.key = Some(key);
                }
            }
            Ok(_) => {}
            // One that no role uses may have no key; one that is used says so when it is called.
            Err(why) => tracing::debug!(provider = name, why, "the provider's key can't be read now"),
        }
    }
    next
}

async fn in_vault(secret: &str, vault: &dyn Vault) -> Result<Secret, String> {
    vault.open(&SecretName::new(secret)?, None).await.map_err(|e| e.to_string())
}
