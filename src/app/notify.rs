//! The channels for messages.

use crate::adapters::notify::settings::{
    BuiltIn, ChannelSettings, EmailSettings, Template, WebhookSettings, mail_domain,
};
use crate::adapters::notify::{Email, Webhook, example};
use crate::config::Config;
use crate::domain::{ChannelRules, Message};
use crate::ports::PersonalChannels;
use crate::ports::messages::Channel;
use crate::secrets::Secret;
use crate::service::host::{HostError, HostResult, NotifyTest};
use std::sync::Arc;

/// Creates the configured channels.
///
/// # Errors
/// Which channel cannot be used, and why.
pub(super) fn channels(config: &Config) -> Result<Arc<[Arc<dyn Channel>]>, String> {
    let each = config.notify.iter().map(|(name, settings)| channel(config, name, settings));
    Ok(each.collect::<Result<Vec<_>, String>>()?.into_iter().flatten().collect())
}

/// Creates the channels of one table: one, or one for each recipient of e-mail.
fn channel(config: &Config, name: &str, settings: &ChannelSettings) -> Result<Vec<Arc<dyn Channel>>, String> {
    let pages = config.server.pages();
    let created: Result<Vec<Arc<dyn Channel>>, String> = match settings {
        ChannelSettings::Webhook(webhook) => {
            Webhook::new(name, webhook.clone(), pages).map(|channel| vec![Arc::new(channel) as Arc<dyn Channel>])
        }
        ChannelSettings::Email(email) => Email::each(name, email, pages.as_deref())
            .map(|channels| channels.into_iter().map(|channel| Arc::new(channel) as Arc<dyn Channel>).collect()),
    };
    created.map_err(|why| format!("the channel {name} cannot be used: {why}"))
}

/// Creates the channels of people: mail through the configured servers, and webhooks to public addresses.
pub(super) struct ConfiguredPersonal {
    mail: Vec<EmailSettings>,
    pages: Option<String>,
}

impl ConfiguredPersonal {
    pub(super) fn new(config: &Config) -> ConfiguredPersonal {
        let mail = config.notify.values().filter_map(|settings| match settings {
            ChannelSettings::Email(email) if !email.personal_domains.is_empty() => Some(email.clone()),
            _ => None,
        });
        ConfiguredPersonal { mail: mail.collect(), pages: config.server.pages() }
    }
}

impl PersonalChannels for ConfiguredPersonal {
    fn mail_domains(&self) -> Vec<String> {
        let mut domains: Vec<String> = self.mail.iter().flat_map(|mail| mail.personal_domains.clone()).collect();
        domains.sort_unstable();
        domains.dedup();
        domains
    }

    fn templates(&self) -> Vec<&'static str> {
        BuiltIn::ALL.iter().map(|built_in| built_in.name()).collect()
    }

    fn email(&self, name: &str, address: &str, rules: ChannelRules) -> Result<Arc<dyn Channel>, String> {
        let domain = mail_domain(address).ok_or("this is not an address of e-mail")?;
        let settings =
            self.mail.iter().find(|mail| mail.personal_domains.contains(&domain)).ok_or_else(|| {
                match self.mail.is_empty() {
                    true => "this service sends no mail to single people".to_owned(),
                    false => format!("mail is sent only to addresses at {}", self.mail_domains().join(", ")),
                }
            })?;
        Ok(Arc::new(Email::to_one(name, settings, address, rules, self.pages.as_deref())?))
    }

    fn webhook(
        &self,
        name: &str,
        template: &str,
        url: Secret,
        rules: ChannelRules,
    ) -> Result<Arc<dyn Channel>, String> {
        let built_in = BuiltIn::ALL.into_iter().find(|built_in| built_in.name() == template);
        let template = Template::BuiltIn(built_in.ok_or("unknown form of messages")?);
        let settings = WebhookSettings { url, template, signing_secret: None, token: None, rules };
        Ok(Arc::new(Webhook::to_public(name, settings, self.pages.clone())?))
    }
}

/// Sends a test message.
pub(super) async fn test(config: &Config, name: &str) -> HostResult<NotifyTest> {
    let Some(settings) = config.notify.get(name) else {
        let names: Vec<&str> = config.notify.keys().map(String::as_str).collect();
        let known =
            if names.is_empty() { "none is configured".to_owned() } else { format!("known: {}", names.join(", ")) };
        return Err(HostError::usage(
            format!("there is no channel {name}; {known}"),
            format!("add a table [notify.{name}] to the configuration (docs/notifications.md)"),
        ));
    };
    let channels = channel(config, name, settings)
        .map_err(|why| HostError::config(why, format!("fix [notify.{name}] in the configuration")))?;
    // Each test is a message of its own.
    let key = format!("skep.test-{}.broken.1", uuid::Uuid::now_v7().simple());
    let message = Message { key, ..example() };
    let mut failures = Vec::new();
    for channel in &channels {
        if let Err(error) = channel.send(&message).await {
            failures.push(if channels.len() == 1 { error.what } else { format!("{}: {}", channel.name(), error.what) });
        }
    }
    let error = (!failures.is_empty()).then(|| failures.join("; "));
    Ok(NotifyTest { name: name.to_owned(), delivered: error.is_none(), error })
}
