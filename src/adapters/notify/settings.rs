//! Settings of the channels for messages: `[notify.NAME]`.

use crate::domain::ChannelRules;
use crate::secrets::Secret;

/// Settings of a channel that posts JSON to an address.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookSettings {
    /// Where messages are posted. It may be a secret, as those of Slack are.
    pub url: Secret,
    /// Form of the messages.
    pub template: Template,
    /// Secret that messages are signed with.
    pub signing_secret: Option<Secret>,
    /// Token that is sent as `Authorization: Bearer`.
    pub token: Option<Secret>,
    /// When it gets messages.
    pub rules: ChannelRules,
}

/// Form of messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Template {
    /// A built-in one.
    BuiltIn(BuiltIn),
    /// The text of a file.
    Own(String),
}

/// The built-in forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuiltIn {
    /// All facts, for programs.
    Json,
    /// Incoming webhook of Slack.
    Slack,
    /// Webhook of a Discord channel.
    Discord,
    /// Webhook of Teams Workflows: an Adaptive Card.
    Teams,
    /// Generic webhook of the Matrix bridge Hookshot.
    Matrix,
    /// Topic of ntfy.
    Ntfy,
}

impl BuiltIn {
    /// All of them.
    pub const ALL: [BuiltIn; 6] =
        [BuiltIn::Json, BuiltIn::Slack, BuiltIn::Discord, BuiltIn::Teams, BuiltIn::Matrix, BuiltIn::Ntfy];

    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            BuiltIn::Json => "json",
            BuiltIn::Slack => "slack",
            BuiltIn::Discord => "discord",
            BuiltIn::Teams => "teams",
            BuiltIn::Matrix => "matrix",
            BuiltIn::Ntfy => "ntfy",
        }
    }
}
