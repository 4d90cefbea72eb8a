//! The channels for messages.

use crate::adapters::notify::{Webhook, example};
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
    let one = |name: &String| Ok(Arc::new(channel(config, name)?) as Arc<dyn Channel>);
    config.notify.keys().map(one).collect::<Result<Vec<_>, String>>().map(Arc::from)
}

fn channel(config: &Config, name: &str) -> Result<Webhook, String> {
    let settings = config.notify.get(name).cloned().ok_or_else(|| format!("there is no channel {name}"))?;
    Webhook::new(name, settings, pages(config)).map_err(|why| format!("the channel {name} cannot be used: {why}"))
}

/// Returns the address of the pages that messages link to.
fn pages(config: &Config) -> Option<String> {
    let listen = config.server.listen;
    let local = listen.ip().is_loopback().then(|| format!("http://{listen}"));
    config.server.public_url.clone().or(local)
}

/// Sends a test message.
pub(super) async fn test(config: &Config, name: &str) -> HostResult<NotifyTest> {
    if !config.notify.contains_key(name) {
        let names: Vec<&str> = config.notify.keys().map(String::as_str).collect();
        let known =
            if names.is_empty() { "none is configured".to_owned() } else { format!("known: {}", names.join(", ")) };
        return Err(HostError::usage(
            format!("there is no channel {name}; {known}"),
            format!("add a table [notify.{name}] to the configuration (docs/notifications.md)"),
        ));
    }
    let channel = channel(config, name)
        .map_err(|why| HostError::config(why, format!("fix [notify.{name}] in the configuration")))?;
    // Each test is a message of its own.
    let key = format!("skep.test-{}.broken.1", uuid::Uuid::now_v7().simple());
    let sent = channel.send(&Message { key, ..example() }).await;
    Ok(NotifyTest { name: name.to_owned(), delivered: sent.is_ok(), error: sent.err().map(|error| error.what) })
}
