//! The token by which Skep authenticates.

use crate::adapters::forge::secret::{SecretReader, TOKEN_REUSE, TokenInUse};
use crate::adapters::forge::settings::{Forgejo, SecretSource};
use crate::domain::ForgeName;
use crate::ports::{PortResult, Vault};
use crate::secrets::Secret;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::Mutex;

/// The credentials of one forge.
pub(super) struct Credentials {
    forge: ForgeName,
    source: SecretSource,
    pub secrets: SecretReader,
    used: Mutex<Option<TokenInUse>>,
}

impl Credentials {
    pub fn new(forge: ForgeName, settings: &Forgejo, vault: Option<Arc<dyn Vault>>) -> Credentials {
        let secrets = SecretReader::new(forge.clone(), &settings.url, vault);
        Credentials { forge, source: settings.token.clone(), secrets, used: Mutex::default() }
    }

    /// Returns the token.
    pub async fn token(&self) -> PortResult<Secret> {
        let mut used = self.used.lock().await;
        let now = SystemTime::now();
        if let Some(used) = used.as_ref().filter(|used| used.until > now) {
            return Ok(used.token.clone());
        }
        let token = self.secrets.read(&self.source, "token").await?;
        *used = Some(TokenInUse::new(&self.forge, token.clone(), now + TOKEN_REUSE));
        Ok(token)
    }

    /// Drops a token that was refused. Returns whether another try with a new one may help.
    pub async fn drop_refused(&self, token: &Secret) -> bool {
        self.used.lock().await.take_if(|used| used.token == *token).is_some()
    }
}
