//! Channels that send e-mail: one message to one recipient, as text and as HTML.
//!
//! `Message-ID` is made from the message's key and is the same at every try, so that mail systems recognise a repetition.
//! All messages about a run refer to one thread.

use super::TIMEOUT;
use super::content::{Content, defused, short};
use super::settings::{EmailSettings, Protection};
use crate::domain::{ChannelRules, Message};
use crate::ports::messages::{Channel, DeliveryError};
use async_trait::async_trait;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use std::collections::BTreeSet;

/// Channel that sends e-mail to one recipient.
pub struct Email {
    name: String,
    rules: ChannelRules,
    from: Mailbox,
    to: Mailbox,
    pages: Option<String>,
    server: AsyncSmtpTransport<Tokio1Executor>,
}

impl Email {
    /// Creates one channel for each recipient, named `NAME:ADDRESS`: each has its own tries, and a refused one delays no
    /// other. `pages` is the address of the pages that messages link to.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn each(name: &str, settings: &EmailSettings, pages: Option<&str>) -> Result<Vec<Email>, String> {
        crate::telemetry::install_crypto();
        let mailbox = |text: &String| {
            text.parse::<Mailbox>().map_err(|error| format!("{text:?} is not an address of e-mail: {error}"))
        };
        let from = mailbox(&settings.from)?;
        let server = server(settings, from.email.domain())?;
        let one = |to: &String| {
            let to = mailbox(to)?;
            let name = format!("{name}:{}", to.email);
            let (rules, from, pages) = (settings.rules.clone(), from.clone(), pages.map(str::to_owned));
            Ok(Email { name, rules, from, to, pages, server: server.clone() })
        };
        let mut each = settings.to.iter().map(one).collect::<Result<Vec<Email>, String>>()?;
        // One address under two names is one recipient.
        let mut seen = BTreeSet::new();
        each.retain(|channel| seen.insert(channel.name.clone()));
        Ok(each)
    }

    /// Creates a channel to one recipient, named `name`.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn to_one(
        name: &str,
        settings: &EmailSettings,
        address: &str,
        rules: ChannelRules,
        pages: Option<&str>,
    ) -> Result<Email, String> {
        let settings = EmailSettings { to: vec![address.to_owned()], rules, ..settings.clone() };
        let one = Email::each(name, &settings, pages)?.pop().ok_or("it has no recipient")?;
        Ok(Email { name: name.to_owned(), ..one })
    }

    fn mail(&self, message: &Message) -> Result<lettre::Message, lettre::error::Error> {
        let content = Content::new(message, self.pages.as_deref(), &defused);
        let subject = match content.title.as_str() {
            "" => content.headline.clone(),
            title => format!("{}: {title}", content.headline),
        };
        let mut text = format!("{}\n\n{}\n", content.headline, content.lines.join("\n"));
        if !content.url.is_empty() {
            text.push_str(&format!("\n{}\n", content.url));
        }
        text.push_str("\nSkep does not read answers to this message.\n");
        let html = format!("{}<br><br>Skep does not read answers to this message.", content.html());
        let id = |local: &str| format!("<{local}@{}>", self.from.email.domain());
        let mut mail = lettre::Message::builder()
            .from(self.from.clone())
            .to(self.to.clone())
            .subject(subject)
            .message_id(Some(id(&message.key)));
        if let Some(run) = &message.run {
            let thread = id(&format!("{run}.thread"));
            mail = mail.in_reply_to(thread.clone()).references(thread);
        }
        let mut mail = mail.multipart(MultiPart::alternative_plain_html(text, html))?;
        // RFC 3834: nobody's automatic reply comes back.
        let name = HeaderName::new_from_ascii_str("Auto-Submitted");
        mail.headers_mut().insert_raw(HeaderValue::new(name, "auto-generated".to_owned()));
        Ok(mail)
    }
}

fn server(settings: &EmailSettings, domain: &str) -> Result<AsyncSmtpTransport<Tokio1Executor>, String> {
    let server = &settings.server;
    let tls =
        || TlsParameters::new_rustls(server.host.clone()).map_err(|error| format!("TLS cannot be set up: {error}"));
    let tls = match server.protection {
        Protection::Tls => Tls::Wrapper(tls()?),
        Protection::StartTls => Tls::Required(tls()?),
        Protection::None => Tls::None,
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&server.host)
        .port(server.port)
        .tls(tls)
        .hello_name(ClientId::Domain(domain.to_owned()))
        .timeout(Some(TIMEOUT));
    if let Some(password) = &settings.password {
        builder = builder.credentials(Credentials::new(settings.user.clone(), password.expose().to_owned()));
    }
    Ok(builder.build())
}

#[async_trait]
impl Channel for Email {
    fn name(&self) -> &str {
        &self.name
    }

    fn rules(&self) -> &ChannelRules {
        &self.rules
    }

    async fn send(&self, message: &Message) -> Result<(), DeliveryError> {
        let failed = |what: String| DeliveryError { what, is_final: false };
        let mail = self.mail(message).map_err(|error| failed(format!("cannot write the mail: {error}")))?;
        match tokio::time::timeout(TIMEOUT, self.server.send(mail)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(failed(reason(&error))),
            Err(_) => Err(failed("the mail server did not finish within ten seconds".to_owned())),
        }
    }
}

/// Returns why a mail was not accepted. The server's words are outside text.
fn reason(error: &lettre::transport::smtp::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    let mut is_tls = error.is_tls();
    while let Some(inner) = cause.source() {
        cause = inner;
        // How rustls reports an answer that is not TLS, or an untrusted certificate.
        is_tls |= cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::InvalidData);
    }
    let words = short(&cause.to_string());
    match error.status() {
        Some(code) => format!("the mail server answered {code}: {words}"),
        None if error.is_timeout() => "the mail server did not answer within ten seconds".to_owned(),
        None if is_tls => format!("no protected connection to the mail server: {words}"),
        None => format!("cannot talk to the mail server: {words}"),
    }
}
