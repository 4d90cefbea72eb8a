//! Authenticates webhooks, and reads the parts that all kinds of forges write alike.
//!
//! Invariant: nothing is parsed before the signature was verified over the raw bytes.

use super::secret::SecretReader;
use super::settings::Intake;
use crate::domain::delivery::UNBLOCKED_LABEL;
use crate::domain::{Fact, ForgeName, command};
use crate::ports::forge_issues::{WebhookEvent, WebhookRefusal};
use crate::ports::{PortError, PortResult};
use crate::secrets::{Live, Secret, register};
use ring::hmac;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the secrets are used before their sources are read again.
const REUSE: Duration = Duration::from_secs(60);
/// The same, if none of them fits: one may have just been replaced.
const RETRY: Duration = Duration::from_secs(1);
/// Upper bounds on the characters of an id and of a kind of event.
const MAX_ID_CHARS: usize = 100;
const MAX_EVENT_CHARS: usize = 64;

/// Returns a header by its lower-case name.
pub(super) type Headers<'a> = &'a (dyn for<'b> Fn(&'b str) -> Option<String> + Send + Sync);

/// The headers of a kind of forge. Of several names, the first one that is there counts.
pub(super) struct Format {
    /// The forge, for messages.
    pub software: &'static str,
    /// The signature.
    pub signature: &'static [&'static str],
    /// What stands before the hex digits of a signature.
    pub signature_prefix: &'static str,
    /// The id of the delivery.
    pub delivery: &'static [&'static str],
    /// The kind of event.
    pub event: &'static [&'static str],
}

/// The parts of a kind of forge's payloads that Skep reads.
pub(super) trait Payload: DeserializeOwned {
    /// The kinds of event that are read. Others may have any form.
    const EVENTS: &'static [&'static str];

    /// Returns what an event is about, or why it is ignored. `label` is the label that starts a run.
    fn fact(self, event: &str, label: Option<&str>) -> Result<Fact, String>;
}

#[derive(Deserialize)]
pub(super) struct Repository {
    full_name: String,
}
#[derive(Deserialize)]
pub(super) struct Named {
    pub name: String,
}
#[derive(Deserialize)]
pub(super) struct Comment {
    id: u64,
    #[serde(default)]
    body: Option<String>,
}

impl Comment {
    /// Returns the fact that somebody wrote this comment, if it contains a command.
    pub fn fact(self, number: u64) -> Result<Fact, String> {
        match command::parse(self.body.as_deref().unwrap_or_default()) {
            Some(_) => Ok(Fact::Commented { number, comment: self.id }),
            None => Err("the comment contains no command".to_owned()),
        }
    }
}

/// Returns the label as Skep writes it, if it means something to Skep. Only an issue can be given the one that starts a
/// run.
pub(super) fn known_label<'a>(name: &str, start_label: Option<&'a str>, is_issue: bool) -> Option<&'a str> {
    let known = [start_label.filter(|_| is_issue), Some(UNBLOCKED_LABEL)];
    known.into_iter().flatten().find(|known| known.eq_ignore_ascii_case(name))
}

/// The parts that every event may have.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Head {
    action: Option<String>,
    repository: Option<Repository>,
}

/// The secrets in use.
struct HeldSecrets {
    all: Vec<Secret>,
    read_at: Instant,
    /// Redacts them.
    _live: Vec<Live>,
}

/// The webhooks of one forge.
pub(super) struct Webhooks {
    forge: ForgeName,
    format: Format,
    held: Mutex<Option<Arc<HeldSecrets>>>,
}

impl Webhooks {
    pub fn new(forge: ForgeName, format: Format) -> Webhooks {
        Webhooks { forge, format, held: Mutex::default() }
    }

    /// Authenticates a webhook, and reads it.
    pub async fn read<P: Payload>(
        &self,
        intake: &Intake,
        secrets: &SecretReader,
        header: Headers<'_>,
        body: &[u8],
    ) -> Result<WebhookEvent, WebhookRefusal> {
        if intake.webhook_secrets.is_empty() {
            return Err(WebhookRefusal::Off);
        }
        let first = |names: &[&str]| names.iter().find_map(|name| header(name));
        let signature = first(self.format.signature).ok_or(WebhookRefusal::Signature)?;
        let tag =
            signature.strip_prefix(self.format.signature_prefix).and_then(hex).ok_or(WebhookRefusal::Signature)?;
        if !is_signed(&self.secrets(intake, secrets, REUSE).await?.all, &tag, body)
            && !is_signed(&self.secrets(intake, secrets, RETRY).await?.all, &tag, body)
        {
            return Err(WebhookRefusal::Signature);
        }
        let required = |names: &[&str], max_chars| {
            let text = first(names).map(|text| plain(&text, max_chars)).filter(|text| !text.is_empty());
            text.ok_or_else(|| WebhookRefusal::Malformed(format!("the header {} is missing", names[0])))
        };
        let id = required(self.format.delivery, MAX_ID_CHARS)?;
        let event = required(self.format.event, MAX_EVENT_CHARS)?;
        read::<P>(self.format.software, id, event, intake.label.as_deref(), body).map_err(WebhookRefusal::Malformed)
    }

    /// Returns the secrets, at most this old.
    async fn secrets(
        &self,
        intake: &Intake,
        reader: &SecretReader,
        max_age: Duration,
    ) -> Result<Arc<HeldSecrets>, WebhookRefusal> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(held) = held.filter(|held| held.read_at.elapsed() < max_age) {
            return Ok(held);
        }
        let fresh = Arc::new(self.load(intake, reader).await.map_err(WebhookRefusal::Unavailable)?);
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(fresh.clone());
        Ok(fresh)
    }

    async fn load(&self, intake: &Intake, reader: &SecretReader) -> PortResult<HeldSecrets> {
        let (mut all, mut error): (Vec<Secret>, Option<PortError>) = (Vec::new(), None);
        for source in &intake.webhook_secrets {
            match reader.read(source, "webhook secret").await {
                Ok(secret) => all.push(secret),
                // While one is replaced, the other one is valid.
                Err(e) => error = Some(e),
            }
        }
        if let Some(error) = error.filter(|_| all.is_empty()) {
            return Err(error);
        }
        let _live = all.iter().map(|secret| register(&format!("webhook secret of {}", self.forge), secret)).collect();
        Ok(HeldSecrets { all, read_at: Instant::now(), _live })
    }
}

/// Returns whether one of the secrets signed these bytes. The comparison takes the same time wherever they differ.
fn is_signed(secrets: &[Secret], tag: &[u8], body: &[u8]) -> bool {
    let mut is_signed = false;
    for secret in secrets {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
        is_signed |= hmac::verify(&key, body, tag).is_ok();
    }
    is_signed
}

/// Reads a SHA-256 in hex.
fn hex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..64).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

fn plain(text: &str, max_chars: usize) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.:".contains(*c)).take(max_chars).collect()
}

fn is_repository(name: &str) -> bool {
    name.len() <= 201 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
}

/// Reads a payload. Only the parts of an event that Skep knows must have the expected form.
pub(super) fn read<P: Payload>(
    software: &str,
    id: String,
    event: String,
    label: Option<&str>,
    body: &[u8],
) -> Result<WebhookEvent, String> {
    let no_json = |e: serde_json::Error| {
        format!(
            "the body is not what {software} sends as JSON ({e}); set the webhook's content type to application/json"
        )
    };
    let Head { action, repository } = serde_json::from_slice(body).map_err(no_json)?;
    let action = action.map(|action| plain(&action, MAX_EVENT_CHARS)).unwrap_or_default();
    let repository = repository.map(|r| r.full_name).filter(|name| is_repository(name)).unwrap_or_default();
    let fact = match P::EVENTS.contains(&event.as_str()) {
        true => serde_json::from_slice::<P>(body).map_err(no_json)?.fact(&event, label),
        false => Err("Skep does not use this event".to_owned()),
    };
    let fact = if repository.is_empty() && fact.is_ok() { Err("it names no repository".to_owned()) } else { fact };
    let event = if action.is_empty() { event } else { format!("{event}.{action}") };
    Ok(WebhookEvent { id, event, repository: repository.to_ascii_lowercase(), fact })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_of_githubs_documentation_fits() {
        let secrets = [Secret::new("other"), Secret::new("It's a Secret to Everybody")];
        let good = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let tag = hex(good).unwrap();
        assert_eq!(hex(&good.to_ascii_uppercase()).unwrap(), tag);
        assert!(is_signed(&secrets, &tag, b"Hello, World!"));
        assert!(!is_signed(&secrets[..1], &tag, b"Hello, World!"));
        assert!(!is_signed(&secrets, &tag, b"Hello, World"));
        assert!(!is_signed(&[], &tag, b"Hello, World!"));
        for bad in ["", "757107ea", &good[..62], &format!("{good}00"), &good.replace('7', "é"), &good.replace('7', "g")]
        {
            assert_eq!(hex(bad), None, "{bad}");
        }
    }
}
