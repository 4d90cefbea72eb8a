//! Part of the page of a person: which messages reach them, and how.

use super::problem::PageResult;
use super::shell;
use super::visit::{Fields, Person};
use super::{State, look, me, see_other};
use crate::domain::MessageEvent;
use crate::ports::personal_messages::PersonalWay;
use crate::service::messages::personal::{self, Choice, Offer};
use axum::extract::{Path, State as Shared};
use axum::response::Response;
use maud::{Markup, html};

/// `POST /me/messages`.
pub async fn choose(Shared(state): Shared<State>, person: Person, fields: Fields) -> PageResult<Response> {
    let choice = Choice {
        way: fields.get("way"),
        address: match fields.get("way").as_str() {
            "email" => fields.get("email"),
            _ => fields.get("url"),
        },
        template: fields.get("template"),
        events: fields.all("event"),
    };
    personal::choose(&state.services, &person.caller, &choice).await?;
    Ok(see_other("/me?notice=messages"))
}

/// `POST /me/messages/{action}`: `stop`, `test`.
pub async fn act(
    Shared(state): Shared<State>,
    person: Person,
    Path(action): Path<String>,
    _: Fields,
) -> PageResult<Response> {
    match action.as_str() {
        "stop" => {
            personal::stop(&state.services, &person.caller).await?;
            Ok(see_other("/me?notice=no-messages"))
        }
        "test" => {
            personal::test(&state.services, &person.caller).await?;
            Ok(see_other("/me?notice=tested"))
        }
        _ => Err(me::no_action().into()),
    }
}

/// Returns the section with the form.
pub fn section(person: &Person, offer: &Offer) -> Markup {
    html! {
        section aria-labelledby="messages" { h2 id="messages" { "Messages" }
            p.quiet { "Rooms and lists get their messages as the service is configured. These reach you alone, about \
                projects that you may read." }
            @if offer.events.is_empty() { (look::empty("Nothing can reach you.", html! { "You may not read any project." })) }
            @else {
                @if let Some(chosen) = &offer.chosen {
                    p { @match &chosen.way {
                        PersonalWay::Email { address } => { "Mail to " strong { (look::line(address)) } },
                        PersonalWay::Webhook { template } => { "Webhook in the form of " strong { (look::line(template)) } },
                    } ", chosen " (look::ago(chosen.chosen_at, person.visit.at())) ". "
                        (me::button(person, "/me/messages/test", "Send a test", "to you"))
                        (me::button(person, "/me/messages/stop", "Stop", "messages to you")) }
                }
                details.more open[offer.chosen.is_none()] {
                    summary { @if offer.chosen.is_some() { "Change" } @else { "Get messages" } }
                    (form(person, offer))
                }
            }
        }
    }
}

fn form(person: &Person, offer: &Offer) -> Markup {
    let chosen = offer.chosen.as_ref();
    let is_checked = |event: MessageEvent| match chosen {
        Some(chosen) => chosen.events.contains(&event),
        None => matches!(event, MessageEvent::Question | MessageEvent::Failed | MessageEvent::Broken),
    };
    let (address, template) = match chosen.map(|chosen| &chosen.way) {
        Some(PersonalWay::Email { address }) => (address.as_str(), None),
        Some(PersonalWay::Webhook { template }) => ("", Some(template.as_str())),
        None => ("", None),
    };
    let is_webhook = template.is_some() || offer.mail_domains.is_empty();
    html! {
        form.stacked method="post" action="/me/messages" aria-label="Messages" {
            (shell::token(&person.visit))
            fieldset { legend { "About" } div.fields { @for event in &offer.events {
                label.check { input type="checkbox" name="event" value=(event.name()) checked[is_checked(*event)];
                    (about(*event)) }
            } } }
            fieldset { legend { "By" }
                @if !offer.mail_domains.is_empty() {
                    label.check { input type="radio" name="way" value="email" checked[!is_webhook]; "mail" }
                }
                label.check { input type="radio" name="way" value="webhook" checked[is_webhook]; "a webhook" }
            }
            @if !offer.mail_domains.is_empty() {
                label for="messages-email" { "Address of mail" }
                input #messages-email name="email" type="email" maxlength="254" value=(address)
                    aria-describedby="messages-email-hint";
                p.hint #messages-email-hint { "At " (offer.mail_domains.join(", ")) "." }
            }
            label for="messages-url" { "Address of the webhook" }
            input #messages-url name="url" type="url" maxlength="2000" autocomplete="off"
                aria-describedby="messages-url-hint";
            p.hint #messages-url-hint { "A public https address. It is stored encrypted and never shown"
                @if template.is_some() { "; leave it empty to keep the present one" } "." }
            label for="messages-template" { "Form of the webhook" }
            select #messages-template name="template" {
                @for name in &offer.templates { option value=(name) selected[template == Some(*name)] { (name) } }
            }
            div.buttons { button.button.primary type="submit" { "Save" } }
        }
    }
}

fn about(event: MessageEvent) -> &'static str {
    match event {
        MessageEvent::Question => "questions that wait",
        MessageEvent::Failed => "runs that fail",
        MessageEvent::Ended => "every run that ends",
        MessageEvent::Budget => "budgets that are nearly used",
        MessageEvent::Broken => "faults of the service",
        MessageEvent::Digest => "a digest each day",
    }
}
