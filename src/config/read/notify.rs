//! Keys of the channels for messages: `[notify.NAME]`.

use super::super::reader::Reader;
use super::super::sections::Config;
use super::super::units;
use super::{MAX_SECRET_BYTES, Parsed, is_loopback, is_plain_to_others, path, read_private, variable_name, wrong};
use crate::adapters::notify::settings::{
    BuiltIn, ChannelSettings, EmailSettings, MailServer, Protection, Template, WebhookSettings, is_mail_address,
};
use crate::domain::{ChannelRules, MessageEvent, ProjectName};
use crate::secrets::Secret;

/// Bytes of a template file.
const MAX_TEMPLATE_BYTES: u64 = 64 * 1024;
/// Longest delay and longest time until a reminder, in seconds.
const MAX_SECS: u64 = 30 * 24 * 3_600;

/// Reads every channel.
pub(super) fn read(r: &mut Reader, c: &mut Config, env: &dyn Fn(&str) -> Option<String>) {
    for name in r.names("notify") {
        let at = |key: &str| format!("notify.{name}.{key}");
        let mut is_email = None;
        r.checked(&at("kind"), &mut is_email, |text| match text {
            "webhook" => Ok(Some(false)),
            "email" => Ok(Some(true)),
            _ => wrong("unknown kind of channel", "write \"webhook\" or \"email\""),
        });
        if is_email.is_none() && !r.is_bad(&at("kind")) {
            r.refuse(&at("kind"), "a channel needs a kind", "write kind = \"webhook\" or kind = \"email\"");
        }
        let settings = if is_email == Some(true) {
            ChannelSettings::Email(email(r, &at, env))
        } else {
            let url = url(r, &at, env);
            let template = template(r, &at);
            let signing_secret = secret(r, &at, "secret", env).map(|(_, text)| Secret::new(text));
            let token = secret(r, &at, "token", env).map(|(_, text)| Secret::new(text));
            let rules = rules(r, &at);
            ChannelSettings::Webhook(WebhookSettings { url, template, signing_secret, token, rules })
        };
        c.notify.insert(name, settings);
    }
}

fn email(r: &mut Reader, at: &dyn Fn(&str) -> String, env: &dyn Fn(&str) -> Option<String>) -> EmailSettings {
    let mut server = None;
    r.checked(&at("smtp"), &mut server, |text| mail_server(text).map(Some));
    if server.is_none() && !r.is_bad(&at("smtp")) {
        r.refuse(&at("smtp"), "the channel has no mail server", "write smtp = \"smtps://mail.example.org\"");
    }
    let server = server.unwrap_or(MailServer { host: String::new(), port: 0, protection: Protection::Tls });
    let mut user = String::new();
    r.checked(&at("user"), &mut user, |text| Ok(text.trim().to_owned()));
    let password = secret(r, at, "password", env);
    match &password {
        Some((key, _)) if user.is_empty() => {
            r.refuse(key, "there is a password without a user", format!("set {}", at("user")))
        }
        None if !user.is_empty() && !["password_file", "password_env"].iter().any(|key| r.is_bad(&at(key))) => {
            r.refuse(
                &at("user"),
                "there is a user without a password",
                format!("name its file in {}", at("password_file")),
            );
        }
        _ => {}
    }
    let address = |text: &str| match is_mail_address(text) {
        true => Ok(()),
        false => wrong("this is not an address of e-mail", "write ann@example.org or \"Ann <ann@example.org>\""),
    };
    let (mut from, mut to) = (String::new(), Vec::new());
    r.checked(&at("from"), &mut from, |text| address(text).map(|()| text.to_owned()));
    if from.is_empty() && !r.is_bad(&at("from")) {
        r.refuse(&at("from"), "the channel has no sender", "write the address that mail comes from");
    }
    r.list(&at("to"), &mut to, address);
    let mut personal_domains: Vec<String> = Vec::new();
    r.list(&at("personal_domains"), &mut personal_domains, |text| {
        let is_domain = text.contains('.') && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
        if is_domain { Ok(()) } else { wrong("this is not a domain", "write one such as \"example.org\"") }
    });
    personal_domains.iter_mut().for_each(|domain| domain.make_ascii_lowercase());
    if to.is_empty() && personal_domains.is_empty() && !r.is_bad(&at("to")) {
        r.refuse(&at("to"), "the channel has no recipient", "write to = [\"ann@example.org\"]");
    }
    if to.len() > EmailSettings::MAX_RECIPIENTS {
        r.refuse(&at("to"), "there are more than 20 recipients", "write the address of a mailing list");
    }
    to.sort_unstable();
    to.dedup();
    EmailSettings {
        server,
        user,
        password: password.map(|(_, text)| Secret::new(text)),
        from,
        to,
        personal_domains,
        rules: rules(r, at),
    }
}

/// Reads `smtps://HOST[:PORT]` or `smtp://HOST[:PORT]`, which means STARTTLS, or nothing on this machine.
fn mail_server(text: &str) -> Parsed<MailServer> {
    let (is_tls, rest) = match text.strip_prefix("smtps://") {
        Some(rest) => (true, rest),
        None => match text.strip_prefix("smtp://") {
            Some(rest) => (false, rest),
            None => {
                return wrong(
                    "this is not the URL of a mail server",
                    "write smtps://HOST or smtp://HOST, which uses STARTTLS",
                );
            }
        },
    };
    if rest.contains('@') {
        return wrong(
            "the URL contains a user",
            "write the user in `user`, and name the file of the password in `password_file`",
        );
    }
    let rest = rest.trim_end_matches('/');
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (rest, None),
    };
    let is_here = is_loopback(host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_name = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._:".contains(c));
    let port = port.map(str::parse::<u16>).transpose();
    let (true, Ok(port)) = (is_name, port) else {
        return wrong("the host or the port cannot be read", "write smtps://HOST or smtps://HOST:PORT");
    };
    let (protection, usual) = match (is_tls, is_here) {
        (true, _) => (Protection::Tls, 465),
        (false, true) => (Protection::None, 25),
        (false, false) => (Protection::StartTls, 587),
    };
    Ok(MailServer { host: host.to_owned(), port: port.unwrap_or(usual), protection })
}

fn url(r: &mut Reader, at: &dyn Fn(&str) -> String, env: &dyn Fn(&str) -> Option<String>) -> Secret {
    let mut plain = String::new();
    r.checked(&at("url"), &mut plain, |text| Ok(text.trim().to_owned()));
    let hidden = secret(r, at, "url", env);
    let (key, text) = match (plain.is_empty(), hidden) {
        (false, Some((key, _))) => {
            r.refuse(&key, format!("{} is set as well", at("url")), "keep one of them");
            (at("url"), plain)
        }
        (false, None) => (at("url"), plain),
        (true, Some((key, text))) => (key, text),
        (true, None) => {
            if !["url", "url_file", "url_env"].iter().any(|key| r.is_bad(&at(key))) {
                r.refuse(&at("url_file"), "the channel has no address", "name the file that holds its URL");
            }
            return Secret::new(String::new());
        }
    };
    let has_host = |rest: &str| rest.split(['/', '?', '#']).next().is_some_and(|host| !host.is_empty());
    let is_http = ["https://", "http://"].iter().filter_map(|scheme| text.strip_prefix(scheme)).any(has_host);
    if !is_http || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        r.refuse(&key, "this is not an http or https URL", "write the address to which messages are posted");
    } else if is_plain_to_others(&text) {
        r.refuse(&key, "messages would be sent unencrypted to another machine", "write an https URL");
    }
    Secret::new(text)
}

fn template(r: &mut Reader, at: &dyn Fn(&str) -> String) -> Template {
    let names = || BuiltIn::ALL.map(|built_in| format!("\"{}\"", built_in.name())).join(", ");
    let mut template = None;
    r.checked(&at("template"), &mut template, |text| match BuiltIn::ALL.iter().find(|b| b.name() == text) {
        Some(built_in) => Ok(Some(*built_in)),
        None => wrong("unknown template", format!("write one of {}, or name a file in template_file", names())),
    });
    let mut file = None;
    r.checked(&at("template_file"), &mut file, path);
    let Some(file) = file else { return Template::BuiltIn(template.unwrap_or(BuiltIn::Json)) };
    if template.is_some() {
        r.refuse(&at("template_file"), format!("{} is set as well", at("template")), "keep one of them");
    }
    let is_small = std::fs::metadata(&file).is_ok_and(|file| file.is_file() && file.len() <= MAX_TEMPLATE_BYTES);
    match std::fs::read_to_string(&file) {
        Ok(text) if is_small => Template::Own(text),
        Ok(_) => {
            r.refuse(&at("template_file"), "the file is larger than 64 KiB", "write a smaller template");
            Template::BuiltIn(BuiltIn::Json)
        }
        Err(error) => {
            r.refuse(&at("template_file"), format!("the file cannot be read: {error}"), "name a readable text file");
            Template::BuiltIn(BuiltIn::Json)
        }
    }
}

fn rules(r: &mut Reader, at: &dyn Fn(&str) -> String) -> ChannelRules {
    let known = || MessageEvent::ALL.map(|event| format!("\"{}\"", event.name())).join(", ");
    let mut on: Vec<String> =
        [MessageEvent::Question, MessageEvent::Failed, MessageEvent::Broken].map(|e| e.name().to_owned()).into();
    r.list(&at("on"), &mut on, |text| match MessageEvent::named(text) {
        Some(_) => Ok(()),
        None => wrong("one entry is not an event", format!("use some of {}", known())),
    });
    let mut projects = Vec::new();
    r.list(&at("projects"), &mut projects, |text| match text == "*" || ProjectName::new(text).is_ok() {
        true => Ok(()),
        false => wrong("one entry is not the name of a project", "write names, or leave the key out for all projects"),
    });
    if projects.iter().any(|project| project == "*") {
        projects.clear();
    }
    let mut delay = std::time::Duration::from_secs(120);
    r.duration(&at("delay"), &mut delay, "0s", "30days");
    let mut remind = vec!["4h".to_owned(), "24h".to_owned()];
    r.list(&at("remind"), &mut remind, |text| match units::duration(text) {
        Ok(time) if time.as_secs() <= MAX_SECS => Ok(()),
        _ => wrong("one entry is not a duration up to 30 days", "write durations such as [\"4h\", \"24h\"]"),
    });
    let mut remind_secs: Vec<u64> =
        remind.iter().filter_map(|text| units::duration(text).ok()).map(|time| time.as_secs()).collect();
    remind_secs.sort_unstable();
    remind_secs.dedup();
    if remind_secs.len() > ChannelRules::MAX_REMINDERS {
        r.refuse(&at("remind"), "there are more than ten reminders", "write at most ten durations");
    }
    let mut digest_minute = 7 * 60;
    r.checked(&at("digest"), &mut digest_minute, |text| match minute_of_day(text) {
        Some(minute) => Ok(minute),
        None => wrong("this is not a time of day", "write one such as \"07:00\", in UTC"),
    });
    ChannelRules {
        digest_minute,
        events: on.iter().filter_map(|name| MessageEvent::named(name)).collect(),
        projects,
        delay_secs: delay.as_secs(),
        remind_secs,
    }
}

/// Reads `HH:MM`.
fn minute_of_day(text: &str) -> Option<u32> {
    let (hour, minute) = text.split_once(':')?;
    let number = |part: &str, below: u32| {
        let is_short = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        part.parse().ok().filter(|n: &u32| is_short && *n < below)
    };
    Some(number(hour, 24)? * 60 + number(minute, 60)?)
}

/// Reads a secret from `NAME_file` or `NAME_env`. Returns it with the key that names it.
fn secret(
    r: &mut Reader,
    at: &dyn Fn(&str) -> String,
    name: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Option<(String, String)> {
    let (file_key, env_key) = (at(&format!("{name}_file")), at(&format!("{name}_env")));
    let (mut file, mut variable) = (None, String::new());
    r.checked(&file_key, &mut file, path);
    r.checked(&env_key, &mut variable, variable_name);
    if file.is_some() && !variable.is_empty() {
        r.refuse(&env_key, format!("{file_key} is set as well"), "keep one of them");
        return None;
    }
    let (key, text) = if let Some(file) = file {
        r.secret_files.push(file.clone());
        match read_private(&file, MAX_SECRET_BYTES) {
            Ok(text) => (file_key, text.expose().trim().to_owned()),
            Err(problem) => {
                r.refuse(&file_key, format!("the file {}", problem.why), problem.fix);
                return None;
            }
        }
    } else if !variable.is_empty() {
        let Some(text) = env(&variable) else {
            r.refuse(&env_key, "the variable is not set", "set that variable, or name another");
            return None;
        };
        (env_key, text.trim().to_owned())
    } else {
        return None;
    };
    if text.is_empty() {
        r.refuse(&key, "the secret is empty", "write it there, as one line");
        return None;
    }
    Some((key, text))
}
