//! A vault that notifies when a secret changes, so that a new API key of a provider works immediately.

use crate::domain::ProjectName;
use crate::ports::vault::Rekeyed;
use crate::ports::{PortResult, SecretName, SecretRow, Vault};
use crate::secrets::Secret;
use async_trait::async_trait;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Notify;

/// The vault, and the notification of its changes.
pub struct NotifyingVault {
    pub vault: Arc<dyn Vault>,
    pub changed: Arc<Notify>,
}

#[async_trait]
impl Vault for NotifyingVault {
    async fn set(
        &self,
        name: &SecretName,
        project: Option<&ProjectName>,
        value: &Secret,
    ) -> PortResult<(SecretRow, Option<String>)> {
        let stored = self.vault.set(name, project, value).await?;
        self.changed.notify_one();
        Ok(stored)
    }

    async fn open(&self, name: &SecretName, project: Option<&ProjectName>) -> PortResult<Secret> {
        self.vault.open(name, project).await
    }

    async fn remember(&self) -> PortResult<()> {
        self.vault.remember().await
    }

    async fn list(&self) -> PortResult<Vec<SecretRow>> {
        self.vault.list().await
    }

    async fn remove(&self, name: &SecretName, project: Option<&ProjectName>) -> PortResult<bool> {
        let removed = self.vault.remove(name, project).await?;
        self.changed.notify_one();
        Ok(removed)
    }

    async fn check(&self) -> PortResult<()> {
        self.vault.check().await
    }

    async fn rekey(&self, new_key_file: &Path) -> PortResult<Rekeyed> {
        self.vault.rekey(new_key_file).await
    }
}
