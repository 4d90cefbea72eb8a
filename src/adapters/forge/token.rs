//! The configured token by which Skep authenticates, on forges that have no other kind.

use super::answer::Answer;
use super::client::Client;
use super::secret::{SecretReader, TOKEN_REUSE, TokenInUse};
use super::settings::SecretSource;
use crate::domain::ForgeName;
use crate::ports::{PortResult, Vault};
use crate::secrets::Secret;
use http::{Method, StatusCode};
use serde_json::Value;
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
    pub fn new(forge: ForgeName, url: &str, source: SecretSource, vault: Option<Arc<dyn Vault>>) -> Credentials {
        let secrets = SecretReader::new(forge.clone(), url, vault);
        Credentials { forge, source, secrets, used: Mutex::default() }
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

    /// Sends a request with the token.
    pub async fn send(
        &self,
        client: &Client,
        method: Method,
        url: &str,
        body: Option<&Value>,
        doing: &str,
    ) -> PortResult<Answer> {
        let token = self.token().await?;
        let answer = client.send(Some(&token), method.clone(), url, body, doing).await?;
        // A refused token did nothing, so the request may be sent again with the token that replaced it.
        if answer.status == StatusCode::UNAUTHORIZED && self.drop_refused(&token).await {
            let fresh = self.token().await?;
            if fresh != token {
                return client.send(Some(&fresh), method, url, body, doing).await;
            }
        }
        Ok(answer)
    }
}
