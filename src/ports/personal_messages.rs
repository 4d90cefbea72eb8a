//! Messages to single people: how each of them wants to get messages, and the channels that deliver them.

use super::PortResult;
use super::messages::Channel;
use crate::domain::{ChannelRules, MessageEvent, Principal, Timestamp};
use crate::secrets::Secret;
use async_trait::async_trait;
use std::sync::Arc;

/// How a person gets messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PersonalWay {
    /// By e-mail.
    Email {
        /// Address.
        address: String,
    },
    /// By a webhook, whose address is in the vault.
    Webhook {
        /// Name of the form of its messages.
        template: String,
    },
}

/// Messages that a person wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonalMessages {
    /// The person.
    pub principal: Principal,
    /// How they get messages.
    pub way: PersonalWay,
    /// What they get messages about.
    pub events: Vec<MessageEvent>,
    /// When they chose this. They get messages about what happens from then on.
    pub chosen_at: Timestamp,
}

/// What people chose, of one data directory.
#[async_trait]
pub trait PersonalSettings: Send + Sync {
    /// Stores what a person chose, instead of what they chose before.
    async fn set_personal(&self, chosen: &PersonalMessages) -> PortResult<()>;
    /// Returns what a person chose.
    async fn personal_of(&self, principal: &Principal) -> PortResult<Option<PersonalMessages>>;
    /// Returns what everybody chose, by person.
    async fn all_personal(&self, limit: u64) -> PortResult<Vec<PersonalMessages>>;
    /// Forgets what a person chose.
    async fn remove_personal(&self, principal: &Principal) -> PortResult<()>;
}

/// Creates the channels of people.
pub trait PersonalChannels: Send + Sync {
    /// Returns the domains at which people may get mail.
    fn mail_domains(&self) -> Vec<String>;
    /// Returns the names of the forms of webhooks.
    fn templates(&self) -> Vec<&'static str>;
    /// Creates a channel that sends mail to an address at one of the domains.
    ///
    /// # Errors
    /// Why it cannot be used.
    fn email(&self, name: &str, address: &str, rules: ChannelRules) -> Result<Arc<dyn Channel>, String>;
    /// Creates a channel that posts to a public address.
    ///
    /// # Errors
    /// Why it cannot be used, without its address.
    fn webhook(&self, name: &str, template: &str, url: Secret, rules: ChannelRules)
    -> Result<Arc<dyn Channel>, String>;
}
