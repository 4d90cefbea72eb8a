//! Channels for messages: JSON posted to an address, and e-mail.

mod content;
mod email;
mod form;
pub mod settings;
mod webhook;

pub use email::Email;
pub use webhook::Webhook;

use crate::domain::{Message, MessageEvent, Timestamp};
use std::time::Duration;

/// Time limit of a delivery.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The message of `skep notify test`.
pub fn example() -> Message {
    Message {
        key: "skep.test.broken.1".to_owned(),
        event: MessageEvent::Broken,
        run: None,
        block: None,
        project: String::new(),
        title: "Test of a channel".to_owned(),
        summary: "This message only shows that messages arrive. Nothing is wrong.".to_owned(),
        needs: Vec::new(),
        cost_micros: 0,
        path: "/".to_owned(),
        at: Timestamp(0),
    }
}
