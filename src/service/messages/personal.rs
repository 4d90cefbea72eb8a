//! Messages to single people: each chooses what reaches them, and how. They get messages about projects that they may
//! read at that time, and about what happens from their choice on.
//!
//! Invariant: an address that somebody gives is used only if it is public (a webhook) or at a domain that the
//! configuration names (mail), so that nobody can make this service talk to other machines of its network.

use crate::domain::{ChannelRules, Message, MessageEvent, Principal, ProjectSet, Timestamp};
use crate::ports::messages::{Channel, MessageState};
use crate::ports::personal_messages::{PersonalMessages, PersonalWay};
use crate::ports::{PortError, PortResult, SecretName};
use crate::secrets::Secret;
use crate::service::audit::record;
use crate::service::{Caller, Right, ServiceError, ServiceResult, Services, Via, people};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;

/// People who may get messages of their own.
const MAX_PEOPLE: u64 = 500;
/// Messages of a person that may not have been delivered yet.
const MAX_PENDING: u64 = 1_000;
/// Length of an address.
const MAX_ADDRESS_BYTES: usize = 2_000;
/// Seconds a question may wait before the first message, and until each reminder.
const DELAY_SECS: u64 = 120;
const REMIND_SECS: [u64; 2] = [4 * 3_600, 24 * 3_600];
/// When a day ends, in minutes after midnight UTC.
const DIGEST_MINUTE: u32 = 7 * 60;
/// Start of the names of channels of people.
const PREFIX: &str = "personal";

/// What a person asks for.
#[derive(Clone, Debug)]
pub struct Choice {
    /// `email` or `webhook`.
    pub way: String,
    /// Address of mail, or of a webhook; an empty one of a webhook keeps the one that was given before.
    pub address: String,
    /// Name of the form of a webhook.
    pub template: String,
    /// Names of what to get messages about.
    pub events: Vec<String>,
}

/// What a person may choose, and what they chose.
#[derive(Clone, Debug)]
pub struct Offer {
    /// What they chose; `None` = nothing reaches them personally.
    pub chosen: Option<PersonalMessages>,
    /// What there may be messages about.
    pub events: Vec<MessageEvent>,
    /// Domains at which people may get mail; empty = no mail.
    pub mail_domains: Vec<String>,
    /// Forms of webhooks.
    pub templates: Vec<&'static str>,
}

/// Returns what the caller may choose, and what they chose.
///
/// # Errors
/// `not_a_person`, or if the store cannot be used.
pub async fn offer(s: &Services, caller: &Caller) -> ServiceResult<Offer> {
    require_person(caller)?;
    let (personal, chosen) = (&s.personal, s.personal_settings.personal_of(&caller.principal).await?);
    let (mail_domains, templates) = (personal.mail_domains(), personal.templates());
    Ok(Offer { chosen, events: events_for(caller), mail_domains, templates })
}

/// Stores what the caller chose, and what replaces it from now on.
///
/// # Errors
/// `not_a_person`, or `invalid` if something cannot be used.
pub async fn choose(s: &Services, caller: &Caller, choice: &Choice) -> ServiceResult<()> {
    require_person(caller)?;
    let possible = events_for(caller);
    let events: Vec<MessageEvent> =
        choice.events.iter().filter_map(|name| MessageEvent::named(name)).filter(|e| possible.contains(e)).collect();
    if events.is_empty() {
        return Err(ServiceError::invalid("messages: nothing is chosen", "Choose what should reach you"));
    }
    let unusable = |why: String| ServiceError::invalid(format!("address: {why}"), "Write another address");
    if choice.address.len() > MAX_ADDRESS_BYTES {
        return Err(unusable("it is too long".to_owned()));
    }
    let (name, rules) = (channel_name(&caller.principal), rules(caller, &events));
    let way = match choice.way.as_str() {
        "email" => {
            s.personal.email(&name, &choice.address, rules).map_err(unusable)?;
            PersonalWay::Email { address: choice.address.clone() }
        }
        "webhook" => {
            let url = match choice.address.is_empty() {
                true => s.vault.open(&secret_name(&caller.principal)?, None).await.map_err(|_| {
                    ServiceError::invalid("address: empty", "Write the https address that messages are posted to")
                })?,
                false => Secret::new(choice.address.clone()),
            };
            s.personal.webhook(&name, &choice.template, url.clone(), rules).map_err(unusable)?;
            if !choice.address.is_empty() {
                s.vault.set(&secret_name(&caller.principal)?, None, &url).await?;
            }
            PersonalWay::Webhook { template: choice.template.clone() }
        }
        _ => return Err(ServiceError::invalid("way: unknown", "Choose e-mail or a webhook")),
    };
    let principal = caller.principal.clone();
    let chosen = PersonalMessages { principal, way, events, chosen_at: s.clock.now() };
    withdraw(s, caller).await?;
    s.personal_settings.set_personal(&chosen).await?;
    let detail: Vec<&str> = chosen.events.iter().map(|event| event.name()).collect();
    record(s, caller, "messages.choose", subject(caller), &format!("{}: {}", choice.way, detail.join(", "))).await;
    Ok(())
}

/// Ends the personal messages of the caller.
///
/// # Errors
/// `not_a_person`, or if the store cannot be used.
pub async fn stop(s: &Services, caller: &Caller) -> ServiceResult<()> {
    require_person(caller)?;
    s.personal_settings.remove_personal(&caller.principal).await?;
    withdraw(s, caller).await?;
    s.vault.remove(&secret_name(&caller.principal)?, None).await?;
    record(s, caller, "messages.stop", subject(caller), "").await;
    Ok(())
}

/// Ends the messages that have not reached the caller yet: what they choose is about what happens from then on.
async fn withdraw(s: &Services, caller: &Caller) -> ServiceResult<()> {
    let name = channel_name(&caller.principal);
    for pending in s.messages.due(&name, Timestamp(i64::MAX), MAX_PENDING).await? {
        let (state, reason) = (MessageState::Obsolete, "the person chose again");
        s.messages.settle(&name, &pending.message.key, state, reason, s.clock.now()).await?;
    }
    Ok(())
}

/// Sends the caller a test message.
///
/// # Errors
/// `not_chosen` if the caller gets no messages, `not_delivered` with the reason.
pub async fn test(s: &Services, caller: &Caller) -> ServiceResult<()> {
    require_person(caller)?;
    let Some(chosen) = s.personal_settings.personal_of(&caller.principal).await? else {
        let fix = "Choose how messages reach you first";
        return Err(ServiceError::conflict("not_chosen", "you get no personal messages", fix));
    };
    let channel = channel(s, &chosen, rules(caller, &chosen.events)).await?;
    let now = s.clock.now();
    let summary = "This message only shows that messages arrive. Nothing is wrong.".to_owned();
    let key = format!("skep.test-{}-{}.broken.1", now.0, digest(&caller.principal));
    let message = Message { title: "Test of your messages".to_owned(), ..super::plan::broken(key, summary, now) };
    record(s, caller, "messages.test", subject(caller), "").await;
    channel.send(&message).await.map_err(|error| {
        let fix = "Check the address, then send another test";
        ServiceError::conflict("not_delivered", format!("the test was not delivered: {error}"), fix)
    })
}

/// Channels of people, as they were created last.
#[derive(Default)]
pub(super) struct Created(BTreeMap<String, (Timestamp, Arc<dyn Channel>)>);

impl Created {
    /// Returns the channels of all people who want messages and may read something, each with the time of their choice.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub async fn all(&mut self, s: &Services) -> PortResult<Vec<(Timestamp, Arc<dyn Channel>)>> {
        let mut now = BTreeMap::new();
        for chosen in s.personal_settings.all_personal(MAX_PEOPLE).await? {
            let caller = match people::caller_of(s, &chosen.principal, Via::Page).await {
                Ok(Some(caller)) => caller,
                Ok(None) => continue,
                Err(error) => return Err(PortError::transient(error.detail)),
            };
            let allowed = events_for(&caller);
            let events: Vec<MessageEvent> = chosen.events.iter().copied().filter(|e| allowed.contains(e)).collect();
            if events.is_empty() {
                continue;
            }
            let (name, rules) = (channel_name(&chosen.principal), rules(&caller, &events));
            let known = self.0.get(&name).filter(|(at, known)| *at == chosen.chosen_at && *known.rules() == rules);
            let created = match known {
                Some((_, known)) => known.clone(),
                None => match channel(s, &chosen, rules).await {
                    Ok(created) => created,
                    Err(error) => {
                        tracing::warn!(person = %chosen.principal, %error, "a person cannot get messages");
                        continue;
                    }
                },
            };
            now.insert(name, (chosen.chosen_at, created));
        }
        self.0 = now;
        Ok(self.0.values().cloned().collect())
    }
}

async fn channel(s: &Services, chosen: &PersonalMessages, rules: ChannelRules) -> ServiceResult<Arc<dyn Channel>> {
    let name = channel_name(&chosen.principal);
    let created = match &chosen.way {
        PersonalWay::Email { address } => s.personal.email(&name, address, rules),
        PersonalWay::Webhook { template } => {
            let url = s.vault.open(&secret_name(&chosen.principal)?, None).await?;
            s.personal.webhook(&name, template, url, rules)
        }
    };
    created.map_err(|why| ServiceError::conflict("unusable_channel", why, "Choose again how messages reach you"))
}

/// Returns what somebody may get messages about: nothing if they read no project, and the state of the service only if
/// they administer it.
fn events_for(caller: &Caller) -> Vec<MessageEvent> {
    let reads = match caller.readable() {
        ProjectSet::All => true,
        ProjectSet::Only(projects) => !projects.is_empty(),
    };
    let may = |event: &MessageEvent| match event {
        MessageEvent::Broken => caller.rights.contains(&Right::Admin),
        _ => reads,
    };
    MessageEvent::ALL.into_iter().filter(may).collect()
}

fn rules(caller: &Caller, events: &[MessageEvent]) -> ChannelRules {
    let projects = match caller.readable() {
        ProjectSet::All => Vec::new(),
        ProjectSet::Only(projects) => projects.iter().map(|project| project.as_str().to_owned()).collect(),
    };
    ChannelRules {
        events: events.to_vec(),
        projects,
        delay_secs: DELAY_SECS,
        remind_secs: REMIND_SECS.to_vec(),
        digest_minute: DIGEST_MINUTE,
    }
}

fn require_person(caller: &Caller) -> ServiceResult<()> {
    if caller.principal.is_person() {
        return Ok(());
    }
    let detail = format!("{} is not a person", caller.principal);
    Err(ServiceError::forbidden("not_a_person", detail, "Choose your messages as a person"))
}

fn subject(caller: &Caller) -> String {
    format!("person:{}", caller.principal)
}

fn channel_name(principal: &Principal) -> String {
    format!("{PREFIX}:{principal}")
}

/// Returns the name under which the vault has the address of a person's webhook.
fn secret_name(principal: &Principal) -> ServiceResult<SecretName> {
    SecretName::new(&format!("messages-{}", digest(principal)))
        .map_err(|why| ServiceError::invalid(why, "Report this as a bug"))
}

fn digest(principal: &Principal) -> String {
    Sha256::digest(principal.as_str()).iter().take(8).map(|b| format!("{b:02x}")).collect()
}
