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
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
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
/// Upper bound on the name of a repository.
const MAX_REPOSITORY_BYTES: usize = 512;
/// Upper bound on the signatures of one webhook.
const MAX_SIGNATURES: usize = 8;

/// Returns a header by its lower-case name.
pub(super) type Headers<'a> = &'a (dyn for<'b> Fn(&'b str) -> Option<String> + Send + Sync);

/// The headers of a kind of forge. Of several names, the first one that is there counts.
pub(super) struct Format {
    /// The forge, for messages.
    pub software: &'static str,
    /// How it authenticates its webhooks.
    pub authentication: Authentication,
    /// The id of the delivery.
    pub delivery: &'static [&'static str],
    /// The kind of event; empty = the payload says it.
    pub event: &'static [&'static str],
}

/// How a kind of forge authenticates its webhooks.
pub(super) enum Authentication {
    /// A signature over the body in one of these headers: HMAC-SHA256 in hex digits after a prefix.
    Signature { headers: &'static [&'static str], prefix: &'static str },
    /// The secret itself in a header; or a signature by the specification Standard Webhooks, in the header
    /// `webhook-signature`.
    Secret { header: &'static str },
}

impl Authentication {
    /// Returns whether one of the secrets authenticates a webhook; `None` = nothing in it claims to.
    fn verify(&self, secrets: &[Secret], header: Headers<'_>, body: &[u8]) -> Option<bool> {
        match self {
            Authentication::Signature { headers, prefix } => {
                let signature = headers.iter().find_map(|name| header(name))?;
                let tag = signature.strip_prefix(prefix).and_then(hex)?;
                Some(is_signed(secrets, &tag, body))
            }
            Authentication::Secret { header: name } => {
                let given = header(name).map(|given| is_one_of(secrets, &given));
                let signed = standard_signature(header, secrets, body);
                (given.is_some() || signed.is_some()).then(|| given == Some(true) || signed == Some(true))
            }
        }
    }
}

/// The parts of a kind of forge's payloads that every event may have.
pub(super) trait Head: DeserializeOwned {
    /// Returns the kind of event, if the payload says it.
    fn event(&self) -> Option<&str> {
        None
    }
    /// Returns what happened.
    fn action(&self) -> Option<&str>;
    /// Returns the repository.
    fn repository(&self) -> Option<&str>;
}

/// The parts of a kind of forge's payloads that Skep reads.
pub(super) trait Payload: DeserializeOwned {
    /// What every event may have.
    type Head: Head;
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
    /// Creates a comment.
    pub fn new(id: u64, body: Option<String>) -> Comment {
        Comment { id, body }
    }

    /// Returns the fact that somebody wrote this comment, if it contains a command.
    pub fn fact(self, number: u64) -> Result<Fact, String> {
        match command::may_contain(self.body.as_deref().unwrap_or_default()) {
            true => Ok(Fact::Commented { number, comment: self.id }),
            false => Err("the comment contains no command".to_owned()),
        }
    }
}

/// Returns the label as Skep writes it, if it means something to Skep. Only an issue can be given the one that starts a
/// run.
pub(super) fn known_label<'a>(name: &str, start_label: Option<&'a str>, is_issue: bool) -> Option<&'a str> {
    let known = [start_label.filter(|_| is_issue), Some(UNBLOCKED_LABEL)];
    known.into_iter().flatten().find(|known| known.eq_ignore_ascii_case(name))
}

/// The parts that every event of GitHub, Forgejo and Gitea may have.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct CommonHead {
    action: Option<String>,
    repository: Option<Repository>,
}

impl Head for CommonHead {
    fn action(&self) -> Option<&str> {
        self.action.as_deref()
    }

    fn repository(&self) -> Option<&str> {
        self.repository.as_ref().map(|repository| repository.full_name.as_str())
    }
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
        let is_authentic = async |max_age| {
            let held = self.secrets(intake, secrets, max_age).await?;
            self.format.authentication.verify(&held.all, header, body).ok_or(WebhookRefusal::Signature)
        };
        if !is_authentic(REUSE).await? && !is_authentic(RETRY).await? {
            return Err(WebhookRefusal::Signature);
        }
        let required = |names: &[&str], max_chars| {
            let text = first(names).map(|text| plain(&text, max_chars)).filter(|text| !text.is_empty());
            text.ok_or_else(|| WebhookRefusal::Malformed(format!("the header {} is missing", names[0])))
        };
        let id = required(self.format.delivery, MAX_ID_CHARS)?;
        let event = match self.format.event {
            [] => String::new(),
            names => required(names, MAX_EVENT_CHARS)?,
        };
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

/// Returns whether a text is one of the secrets. The comparison takes the same time wherever they differ.
fn is_one_of(secrets: &[Secret], given: &str) -> bool {
    let mut is_one = false;
    for secret in secrets {
        // The secret signs itself, and the signature must fit the given text.
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
        let tag = hmac::sign(&key, secret.expose().as_bytes());
        is_one |= hmac::verify(&key, given.as_bytes(), tag.as_ref()).is_ok();
    }
    is_one
}

/// Returns whether one of the secrets signed a webhook by the specification Standard Webhooks; `None` = it has no such
/// signature. The key of a secret is what stands after `whsec_`, in Base64.
fn standard_signature(header: Headers<'_>, secrets: &[Secret], body: &[u8]) -> Option<bool> {
    let all = header("webhook-signature")?;
    let (id, sent_at) = (header("webhook-id")?, header("webhook-timestamp")?);
    let signed = [id.as_bytes(), b".", sent_at.as_bytes(), b".", body].concat();
    let mut is_signed = false;
    let keys = secrets.iter().filter_map(|secret| BASE64.decode(secret.expose().strip_prefix("whsec_")?).ok());
    // Anybody can sign with an empty key.
    for key in keys.filter(|key| !key.is_empty()) {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        for tag in all.split(' ').take(MAX_SIGNATURES).filter_map(|text| BASE64.decode(text.strip_prefix("v1,")?).ok())
        {
            is_signed |= hmac::verify(&key, &signed, &tag).is_ok();
        }
    }
    Some(is_signed)
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
    name.len() <= MAX_REPOSITORY_BYTES && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
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
    let head: P::Head = serde_json::from_slice(body).map_err(no_json)?;
    let event =
        if event.is_empty() { head.event().map(|e| plain(e, MAX_EVENT_CHARS)).unwrap_or_default() } else { event };
    if event.is_empty() {
        return Err(format!("the body does not say what kind of event of {software} it is"));
    }
    let action = head.action().map(|action| plain(action, MAX_EVENT_CHARS)).unwrap_or_default();
    let repository = head.repository().filter(|name| is_repository(name)).unwrap_or_default().to_owned();
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
    fn a_secret_or_a_standard_signature_authenticates() {
        let secrets = [Secret::new("plain-secret"), Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")];
        let gitlab = Authentication::Secret { header: "x-gitlab-token" };
        let body: &[u8] = br#"{"test": 2432232314}"#;
        // The example of the specification's own libraries.
        let good = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let verify = |headers: &[(String, String)], body: &[u8]| {
            let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
            gitlab.verify(&secrets, &header, body)
        };
        let signed = |signature: &str| {
            let headers = [
                ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
                ("webhook-timestamp", "1614265330"),
                ("webhook-signature", signature),
            ];
            headers.map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        assert_eq!(verify(&signed(good), body), Some(true));
        assert_eq!(verify(&signed(&format!("v1,AAAA {good}")), body), Some(true));
        assert_eq!(verify(&signed(good), b"{}"), Some(false));
        assert_eq!(verify(&signed("v1,"), body), Some(false));
        assert_eq!(verify(&signed(&good.replace("v1,", "v2,")), body), Some(false));
        assert_eq!(verify(&signed(good)[1..], body), None, "without its id");
        let plain = |name: &str, secret: &str| [(name.to_owned(), secret.to_owned())];
        assert_eq!(verify(&plain("x-gitlab-token", "plain-secret"), body), Some(true));
        for wrong in ["", "plain-secre", "plain-secret2", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
            assert_eq!(verify(&plain("x-gitlab-token", wrong), body), Some(false), "{wrong}");
        }
        assert_eq!(verify(&plain("x-hub-signature-256", "x"), body), None);
    }

    #[test]
    fn nobody_can_sign_with_an_empty_key() {
        let secrets = [Secret::new("whsec_")];
        let signed = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b""), b"id.1.{}");
        let signature = format!("v1,{}", BASE64.encode(signed));
        let header = |name: &str| match name {
            "webhook-id" => Some("id".to_owned()),
            "webhook-timestamp" => Some("1".to_owned()),
            "webhook-signature" => Some(signature.clone()),
            _ => None,
        };
        assert_eq!(standard_signature(&header, &secrets, b"{}"), Some(false));
    }

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
