//! Keys of forges other than the local one: `[forges.NAME]`.

use super::super::reader::Reader;
use super::super::sections::Config;
use super::engines::{base_url, secret_name};
use super::{is_plain_to_others, path, variable_name, wrong};
use crate::adapters::forge::settings::{
    Account, ForgeSettings, GITHUB_URL, GitHub, Intake, LOCAL, MergeMethod, SecretSource,
};

/// Reads every forge.
pub(super) fn read(r: &mut Reader, c: &mut Config) {
    for name in r.names("forges") {
        let at = |key: &str| format!("forges.{name}.{key}");
        if name == LOCAL {
            r.refuse(&at("kind"), "\"local\" is the built-in forge on this machine", "choose another name");
        }
        let mut kind = String::new();
        r.checked(&at("kind"), &mut kind, |t| match t {
            "github" => Ok(t.to_owned()),
            _ => wrong("unknown kind of forge", "write \"github\""),
        });
        if kind.is_empty() {
            r.refuse(&at("kind"), "a forge needs a kind", "write kind = \"github\"");
        }
        let github = github(r, &at);
        c.forges.insert(name, ForgeSettings::GitHub(github));
    }
}

fn github(r: &mut Reader, at: &dyn Fn(&str) -> String) -> GitHub {
    let (mut url, mut api_url) = (format!("{GITHUB_URL}/"), String::new());
    r.checked(&at("url"), &mut url, |t| match t {
        "" => wrong("the URL is empty", "write one such as \"https://github.example.org\", or leave the key out"),
        t => base_url(t),
    });
    r.checked(&at("api_url"), &mut api_url, base_url);
    for (key, value) in [("url", &url), ("api_url", &api_url)] {
        if is_plain_to_others(value) {
            r.refuse(&at(key), "the token would be sent unencrypted to another machine", "write an https URL");
        }
    }
    let url = url.trim_end_matches('/').to_owned();
    let api_url = match api_url.trim_end_matches('/') {
        "" if url == GITHUB_URL => "https://api.github.com".to_owned(),
        "" => format!("{url}/api/v3"),
        given => given.to_owned(),
    };
    let mut merge_method = None;
    r.checked(&at("merge_method"), &mut merge_method, |t| match MergeMethod::ALL.iter().find(|m| m.name() == t) {
        Some(method) => Ok(Some(*method)),
        None if t.is_empty() => Ok(None),
        None => wrong(
            "unknown merge method",
            "write \"merge\", \"squash\" or \"rebase\"; \"\" takes the first one that the repository allows",
        ),
    });
    let account = account(r, at);
    GitHub { url, api_url, account, merge_method, intake: intake(r, at) }
}

fn intake(r: &mut Reader, at: &dyn Fn(&str) -> String) -> Intake {
    let mut intake = Intake::default();
    r.checked(&at("label"), &mut intake.label, |t| match t.trim() {
        "" => Ok(None),
        t if t.chars().count() <= 50 && !t.contains(',') && !t.chars().any(char::is_control) => Ok(Some(t.to_owned())),
        _ => wrong("this is not the name of a label", "write at most 50 characters, without a comma"),
    });
    r.duration(&at("poll_interval"), &mut intake.poll_interval, "0s", "1day");
    for name in ["webhook_secret", "previous_webhook_secret"] {
        let sources = secret(r, at, name);
        if let [(first, _), (second, _), ..] = sources.as_slice() {
            r.refuse(second, format!("{first} is set as well"), "keep one of them");
        }
        intake.webhook_secrets.extend(sources.into_iter().map(|(_, source)| source));
    }
    intake
}

fn account(r: &mut Reader, at: &dyn Fn(&str) -> String) -> Account {
    let mut from_gh = false;
    r.flag(&at("token_gh"), &mut from_gh);
    let mut sources = secret(r, at, "token");
    sources.extend(from_gh.then(|| (at("token_gh"), SecretSource::GitHubCli)));
    let mut app_id = 0_u64;
    r.number(&at("app_id"), &mut app_id, 1..=u64::from(u32::MAX));
    let keys = secret(r, at, "private_key");
    let is_app = app_id != 0 || !keys.is_empty();
    let (wanted, key) = if is_app { (keys, "private_key_file") } else { (sources.clone(), "token_env") };
    // A problem that is reported explains a credential that is missing.
    let mut is_reported = r.is_bad(&at("kind"));
    if is_app && let Some((key, _)) = sources.first() {
        is_reported = true;
        r.refuse(key, format!("{} is set as well", at("app_id")), "keep either a token or a GitHub App");
    }
    if is_app && app_id == 0 {
        r.refuse(&at("app_id"), "a private key belongs to a GitHub App", "write the App's id, a number");
    }
    if let [(first, _), (second, _), ..] = wanted.as_slice() {
        r.refuse(second, format!("{first} is set as well"), "keep one of them");
    }
    let source = wanted.into_iter().next().map(|(_, source)| source);
    if source.is_none() && !is_reported {
        let fix = match is_app {
            true => "name the file of the App's private key",
            false => {
                "name the source of a token: token_env, token_file, token_secret or token_gh = true; or of a GitHub \
                 App: app_id and private_key_file"
            }
        };
        r.refuse(&at(key), "the forge has no credential", fix);
    }
    let source = source.unwrap_or(SecretSource::GitHubCli);
    if is_app { Account::App { id: app_id, private_key: source } } else { Account::Token(source) }
}

/// Reads the sources of a secret that are set, each with its key.
fn secret(r: &mut Reader, at: &dyn Fn(&str) -> String, name: &str) -> Vec<(String, SecretSource)> {
    let key = |suffix: &str| at(&format!("{name}_{suffix}"));
    let (mut var, mut file, mut secret) = (String::new(), None, String::new());
    r.checked(&key("env"), &mut var, variable_name);
    r.checked(&key("file"), &mut file, path);
    r.secret_files.extend(file.clone());
    r.checked(&key("secret"), &mut secret, secret_name);
    let mut sources = Vec::new();
    if !var.is_empty() {
        sources.push((key("env"), SecretSource::Env(var)));
    }
    sources.extend(file.map(|file| (key("file"), SecretSource::File(file))));
    if !secret.is_empty() {
        sources.push((key("secret"), SecretSource::Vault(secret)));
    }
    sources
}
