//! Settings of the channels for messages: `[notify.NAME]`.

use crate::domain::ChannelRules;
use crate::secrets::Secret;

/// Settings of a channel.
#[derive(Clone, Debug, PartialEq)]
pub enum ChannelSettings {
    /// It posts JSON to an address.
    Webhook(WebhookSettings),
    /// It sends e-mail.
    Email(EmailSettings),
}

impl ChannelSettings {
    /// Returns the secrets among the settings, each with what it is.
    pub fn secrets(&self) -> Vec<(&'static str, &Secret)> {
        match self {
            ChannelSettings::Webhook(webhook) => {
                let others = webhook.signing_secret.iter().chain(&webhook.token).map(|secret| ("secret", secret));
                std::iter::once(("address", &webhook.url)).chain(others).collect()
            }
            ChannelSettings::Email(email) => email.password.iter().map(|password| ("password", password)).collect(),
        }
    }
}

/// Settings of a channel that sends e-mail.
#[derive(Clone, Debug, PartialEq)]
pub struct EmailSettings {
    /// The server that takes the mail.
    pub server: MailServer,
    /// Name to log in with; empty = no login.
    pub user: String,
    /// Password to log in with.
    pub password: Option<Secret>,
    /// Sender: an address, or `Name <address>`.
    pub from: String,
    /// Recipients, in the same form.
    pub to: Vec<String>,
    /// Domains at which people may get mail of their own through this server.
    pub personal_domains: Vec<String>,
    /// When it gets messages.
    pub rules: ChannelRules,
}

impl EmailSettings {
    /// Upper bound on the recipients of a channel.
    pub const MAX_RECIPIENTS: usize = 20;
}

/// A server that takes mail by SMTP (RFC 5321, submission by RFC 6409).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailServer {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub protection: Protection,
}

/// How a connection to a mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// TLS from the first byte (RFC 8314).
    Tls,
    /// STARTTLS (RFC 3207), without which nothing is sent.
    StartTls,
    /// None: the server is on this machine.
    None,
}

/// Returns whether a text is an address of e-mail, alone or as `Name <address>`.
pub fn is_mail_address(text: &str) -> bool {
    !text.contains(char::is_control) && text.parse::<lettre::message::Mailbox>().is_ok()
}

/// Returns the domain of an address without a name, in lower case; `None` if it is not one.
pub fn mail_domain(address: &str) -> Option<String> {
    let parsed: lettre::Address = address.parse().ok()?;
    Some(parsed.domain().to_ascii_lowercase())
}

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
