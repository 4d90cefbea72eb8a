//! Messages to single people: each chooses what reaches them and how, and gets it once, about what they may read.

use super::{StoppedClock, header, ids, sink, url};
use crate::mail::MailSink;
use crate::support::browser::Browser;
use crate::support::provider::Scripted;
use crate::support::rest::{Service, service, service_configured};
use serde_json::json;
use skep::adapters::notify::Webhook;
use skep::adapters::notify::settings::{
    BuiltIn, ChannelSettings, EmailSettings, MailServer, Protection, Template, WebhookSettings,
};
use skep::domain::{AccessRole, ChannelRules, PersonName, Principal, Timestamp};
use skep::ports::PersonalChannels;
use skep::ports::accounts::Person;
use skep::ports::messages::Channel;
use skep::secrets::Secret;
use skep::service::messages::{Progress, pass};
use skep::service::{Caller, Services, Via, sessions};
use std::sync::Arc;

/// Creates webhooks to this machine, which people themselves cannot choose.
struct ToSinks;

impl PersonalChannels for ToSinks {
    fn mail_domains(&self) -> Vec<String> {
        Vec::new()
    }
    fn templates(&self) -> Vec<&'static str> {
        vec!["json"]
    }
    fn email(&self, _: &str, _: &str, _: ChannelRules) -> Result<Arc<dyn Channel>, String> {
        Err("no mail here".to_owned())
    }
    fn webhook(&self, name: &str, _: &str, url: Secret, rules: ChannelRules) -> Result<Arc<dyn Channel>, String> {
        let template = Template::BuiltIn(BuiltIn::Json);
        let settings = WebhookSettings { url, template, signing_secret: None, token: None, rules };
        Ok(Arc::new(Webhook::new(name, settings, Some("https://skep.example".to_owned()))?))
    }
}

async fn with_sinks() -> Service {
    let mut s = service().await;
    s.state.services.personal = Arc::new(ToSinks);
    s.router = skep::http::router(s.state.clone());
    s
}

/// Logs a person in, or the owner of the service.
async fn logged_in<'a>(s: &'a Service, name: Option<&str>) -> Browser<'a> {
    let operator = Caller::with_all_rights(Principal::from("local:tester"), Via::Rest);
    let link = sessions::new_link(&s.state.services, &operator, name).await.expect("a link");
    let path = skep::http::rest::wire::LoginLink::new(link).path;
    let mut browser = Browser::new(s);
    browser.open(&path).await.is(200);
    browser.submit(&path, &[]).await.is(303);
    browser
}

async fn add(s: &Service, name: &str, role: AccessRole) -> PersonName {
    let name = PersonName::new(name).expect("a name");
    let created_at = s.state.services.clock.now();
    let person = Person { name: name.clone(), role, project_roles: Default::default(), created_at, disabled_at: None };
    assert!(s.state.services.accounts.add_person(&person).await.expect("stored"));
    name
}

async fn choose(browser: &mut Browser<'_>, sink: &Scripted, events: &[&str]) {
    browser.open("/me").await.is(200);
    let address = url(sink);
    let mut fields = vec![("way", "webhook"), ("url", address.as_str()), ("template", "json")];
    fields.extend(events.iter().map(|event| ("event", *event)));
    let chosen = browser.send_form("/me/messages", &fields).await;
    assert_eq!(chosen.header("location"), "/me?notice=messages", "{chosen:?}");
}

/// Looks for messages as a worker that has just started does, this much later.
async fn later(s: &Service, secs: u64) {
    let clock = Arc::new(StoppedClock(s.state.services.clock.now().plus_secs(secs)));
    let services = Services { clock, ..s.state.services.clone() };
    pass(&services, &mut Progress::default()).await.expect("a pass");
}

async fn blocked(s: &Service) -> String {
    let id = s.open_run("Append two").await["id"].as_str().expect("an id").to_owned();
    s.until(&id, "blocked").await;
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_gets_what_they_chose_once() {
    let (s, sink) = (with_sinks().await, sink().await);
    let mut browser = logged_in(&s, None).await;
    let page = browser.open("/me").await.is(200);
    assert!(page.contains("Get messages") && page.contains("value=\"broken\""), "{page}");
    let empty = browser.send_form("/me/messages", &[("way", "webhook"), ("url", "https://example.org")]).await;
    assert_eq!(empty.status, 422, "nothing is chosen: {empty:?}");
    choose(&mut browser, &sink, &["question"]).await;
    let page = browser.open("/me").await.is(200);
    assert!(page.contains("Webhook in the form of") && !page.contains(&url(&sink)), "the address is hidden: {page}");
    let id = blocked(&s).await;
    later(&s, 60).await;
    assert!(ids(&sink).is_empty(), "a question may be answered within two minutes");
    // However often the worker starts again.
    for _ in 0..3 {
        later(&s, 200).await;
    }
    assert_eq!(ids(&sink), [format!("{id}.b1.question.1")]);
    assert_eq!(sink.asked()[0].json()["url"], format!("https://skep.example/q/{id}/b1"));

    browser.open("/me").await.is(200);
    let tested = browser.send_form("/me/messages/test", &[]).await;
    assert_eq!(tested.header("location"), "/me?notice=tested", "{tested:?}");
    assert!(header(&sink.asked()[1], "webhook-id").starts_with("skep.test-"));
    // Another choice keeps the address if none is given.
    let changed =
        browser.send_form("/me/messages", &[("way", "webhook"), ("template", "json"), ("event", "ended")]).await;
    assert_eq!(changed.status, 303, "{changed:?}");
    let answer = json!({"text": "no"});
    s.post(&format!("/api/v1/runs/{id}/actions/cancel"), &answer).await.is(200);
    s.until(&id, "cancelled").await;
    later(&s, 300).await;
    assert_eq!(ids(&sink).last(), Some(&format!("{id}.end.ended.1")));

    browser.open("/me").await.is(200);
    browser.send_form("/me/messages/stop", &[]).await.is(303);
    let before = ids(&sink).len();
    blocked(&s).await;
    later(&s, 400).await;
    assert_eq!(ids(&sink).len(), before, "nothing reaches them any more");
    assert!(s.state.services.vault.list().await.expect("secrets").is_empty(), "the address is gone");
    let audit = browser.open("/audit").await.is(200);
    for action in ["messages.choose", "messages.test", "messages.stop"] {
        assert!(audit.contains(action) && !audit.contains(&url(&sink)), "{action}: {audit}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_gets_messages_about_what_they_may_read_now() {
    let (s, of_ann, of_bob) = (with_sinks().await, sink().await, sink().await);
    let (ann, bob) = (add(&s, "ann", AccessRole::Viewer).await, add(&s, "bob", AccessRole::Viewer).await);
    for (name, sink) in [("ann", &of_ann), ("bob", &of_bob)] {
        let mut browser = logged_in(&s, Some(name)).await;
        let page = browser.open("/me").await.is(200);
        assert!(!page.contains("value=\"broken\""), "only administrators get faults of the service: {page}");
        choose(&mut browser, sink, &["question", "broken"]).await;
        let principal = Principal::from(format!("user:{name}").as_str());
        let chosen = s.state.services.personal_settings.personal_of(&principal);
        assert_eq!(chosen.await.expect("read").expect("a choice").events.len(), 1);
    }
    s.state.services.accounts.set_role(&bob, AccessRole::None).await.expect("stored");
    let first = blocked(&s).await;
    later(&s, 200).await;
    assert_eq!(ids(&of_ann), [format!("{first}.b1.question.1")]);
    assert!(ids(&of_bob).is_empty(), "no project may be read");
    // A role in the project is enough, a disabled person gets nothing.
    let project = skep::domain::ProjectName::new("origin").expect("a name");
    s.state.services.accounts.set_project_role(&bob, &project, AccessRole::Viewer).await.expect("stored");
    s.state.services.accounts.set_disabled(&ann, Some(Timestamp(1))).await.expect("stored");
    later(&s, 300).await;
    assert_eq!((ids(&of_ann).len(), ids(&of_bob)), (1, vec![format!("{first}.b1.question.1")]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_goes_to_addresses_at_the_domains_of_the_service_only() {
    let sink = MailSink::start().await;
    let port = sink.port;
    let s = service_configured(move |config| {
        let rules = ChannelRules {
            events: Vec::new(),
            projects: Vec::new(),
            delay_secs: 0,
            remind_secs: Vec::new(),
            digest_minute: 0,
        };
        let settings = EmailSettings {
            server: MailServer { host: "127.0.0.1".to_owned(), port, protection: Protection::None },
            user: String::new(),
            password: None,
            from: "skep@example.org".to_owned(),
            to: Vec::new(),
            personal_domains: vec!["example.org".to_owned()],
            rules,
        };
        config.notify.insert("mail".to_owned(), ChannelSettings::Email(settings));
    })
    .await;
    let mut browser = logged_in(&s, None).await;
    let page = browser.open("/me").await.is(200);
    assert!(page.contains("At example.org."), "{page}");
    for address in
        ["ann@evil.example", "ann@example.org.evil.example", "not an address", "a@b\r\nBcc: x@evil.example", ""]
    {
        let refused =
            browser.send_form("/me/messages", &[("way", "email"), ("email", address), ("event", "question")]).await;
        assert_eq!(refused.status, 422, "{address}: {refused:?}");
    }
    for address in ["http://hooks.example.org/x", "https://127.0.0.1/x", "https://[::1]:8443/x", "file:///etc/passwd"] {
        let fields = [("way", "webhook"), ("url", address), ("template", "slack"), ("event", "question")];
        let refused = browser.send_form("/me/messages", &fields).await;
        assert_eq!(refused.status, 422, "{address}: {refused:?}");
        assert!(!refused.text.contains(address), "the address may be a secret: {refused:?}");
    }
    let chosen = browser
        .send_form("/me/messages", &[("way", "email"), ("email", "ann@Example.org"), ("event", "question")])
        .await;
    assert_eq!(chosen.status, 303, "{chosen:?}");
    assert!(browser.open("/me").await.is(200).contains("Mail to <strong><bdi>ann@Example.org</bdi></strong>"));
    let id = blocked(&s).await;
    for _ in 0..2 {
        later(&s, 200).await;
    }
    let received = sink.received();
    assert_eq!(received.mails.len(), 1, "{received:?}");
    assert!(received.mails[0].contains(&format!("{id}.b1.question.1@example.org")), "{received:?}");
    let to: Vec<&String> = received.commands.iter().filter(|line| line.starts_with("RCPT")).collect();
    assert!(to.len() == 1 && to[0].to_lowercase().contains("ann@example.org"), "{to:?}");
}
