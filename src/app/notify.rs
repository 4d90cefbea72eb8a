//! The channels for messages.

use crate::adapters::notify::settings::ChannelSettings;
use crate::adapters::notify::{Email, Webhook, example};
use crate::config::Config;
use crate::domain::Message;
use crate::ports::messages::Channel;
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
