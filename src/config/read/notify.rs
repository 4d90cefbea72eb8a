//! Keys of the channels for messages: `[notify.NAME]`.

use super::super::reader::Reader;
use super::super::sections::Config;
use super::super::units;
use super::{MAX_SECRET_BYTES, is_plain_to_others, path, read_private, variable_name, wrong};
use crate::adapters::notify::settings::{BuiltIn, Template, WebhookSettings};
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
        let mut kind = String::new();
        r.checked(&at("kind"), &mut kind, |text| match text {
            "webhook" => Ok(text.to_owned()),
            _ => wrong("unknown kind of channel", "write \"webhook\""),
        });
        if kind.is_empty() {
            r.refuse(&at("kind"), "a channel needs a kind", "write kind = \"webhook\"");
        }
        let url = url(r, &at, env);
        let template = template(r, &at);
        let signing_secret = secret(r, &at, "secret", env).map(|(_, text)| Secret::new(text));
        let token = secret(r, &at, "token", env).map(|(_, text)| Secret::new(text));
        let rules = rules(r, &at);
        c.notify.insert(name, WebhookSettings { url, template, signing_secret, token, rules });
    }
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
    ChannelRules {
        events: on.iter().filter_map(|name| MessageEvent::named(name)).collect(),
        projects,
        delay_secs: delay.as_secs(),
        remind_secs,
    }
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
