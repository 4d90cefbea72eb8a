//! Keys of forges other than the local one: `[forges.NAME]`.

use super::super::reader::Reader;
use super::super::sections::Config;
use super::engines::{base_url, secret_name};
use super::{is_plain_to_others, path, variable_name, wrong};
use crate::adapters::forge::settings::{
    Account, ForgeSettings, Forgejo, GITHUB_URL, GITLAB_URL, GitHub, GitLab, Intake, LOCAL, MergeMethod, RepoName,
    SecretSource, Software,
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
            "github" | "gitlab" | "forgejo" | "gitea" => Ok(t.to_owned()),
            _ => wrong("unknown kind of forge", "write \"github\", \"gitlab\", \"forgejo\" or \"gitea\""),
        });
        if kind.is_empty() {
            let fix = "write kind = \"github\", \"gitlab\", \"forgejo\" or \"gitea\"";
            r.refuse(&at("kind"), "a forge needs a kind", fix);
        }
        let settings = match kind.as_str() {
            "forgejo" => ForgeSettings::Forgejo(forgejo(r, &at, Software::Forgejo)),
            "gitea" => ForgeSettings::Forgejo(forgejo(r, &at, Software::Gitea)),
            "gitlab" => ForgeSettings::GitLab(gitlab(r, &at)),
            _ => ForgeSettings::GitHub(github(r, &at)),
        };
        c.forges.insert(name, settings);
    }
}

fn github(r: &mut Reader, at: &dyn Fn(&str) -> String) -> GitHub {
    let (mut url, mut api_url) = (format!("{GITHUB_URL}/"), String::new());
    r.checked(&at("url"), &mut url, |t| match t {
        "" => wrong("the URL is empty", "write one such as \"https://github.example.org\", or leave the key out"),
        t => base_url(t),
    });
    r.checked(&at("api_url"), &mut api_url, base_url);
    refuse_plain(r, &at("url"), &url);
    refuse_plain(r, &at("api_url"), &api_url);
    let url = url.trim_end_matches('/').to_owned();
    let api_url = match api_url.trim_end_matches('/') {
        "" if url == GITHUB_URL => "https://api.github.com".to_owned(),
        "" => format!("{url}/api/v3"),
        given => given.to_owned(),
    };
    let merge_method = merge_method(r, at, MergeMethod::OF_GITHUB);
    let account = account(r, at);
    let fork_owner = fork_owner(r, at);
    GitHub { url, api_url, account, merge_method, fork_owner, intake: intake(r, at) }
}

fn forgejo(r: &mut Reader, at: &dyn Fn(&str) -> String, software: Software) -> Forgejo {
    let mut url = String::new();
    r.checked(&at("url"), &mut url, base_url);
    if url.is_empty() && !r.is_bad(&at("url")) {
        r.refuse(&at("url"), "the forge has no address", "write one such as \"https://code.example.org\"");
    }
    refuse_plain(r, &at("url"), &url);
    let token = token(r, at, None);
    let merge_method = merge_method(r, at, MergeMethod::OF_FORGEJO);
    let (url, fork_owner) = (url.trim_end_matches('/').to_owned(), fork_owner(r, at));
    Forgejo { software, url, token, merge_method, fork_owner, intake: intake(r, at) }
}

fn gitlab(r: &mut Reader, at: &dyn Fn(&str) -> String) -> GitLab {
    let mut url = format!("{GITLAB_URL}/");
    r.checked(&at("url"), &mut url, |t| match t {
        "" => wrong("the URL is empty", "write one such as \"https://gitlab.example.org\", or leave the key out"),
        t => base_url(t),
    });
    refuse_plain(r, &at("url"), &url);
    let token = token(r, at, Some(("token_glab", SecretSource::GitLabCli)));
    let merge_method = merge_method(r, at, MergeMethod::OF_GITLAB);
    GitLab { url: url.trim_end_matches('/').to_owned(), token, merge_method, intake: intake(r, at) }
}

/// Reads the source of the token of a forge that has no other credential. `cli` is the flag that takes it from the
/// forge's command line.
fn token(r: &mut Reader, at: &dyn Fn(&str) -> String, cli: Option<(&str, SecretSource)>) -> SecretSource {
    let mut keys = vec!["token_env", "token_file", "token_secret"];
    let mut sources = secret(r, at, "token");
    let mut fix = "name the source of a token: token_env, token_file or token_secret".to_owned();
    if let Some((key, source)) = cli {
        let mut is_set = false;
        r.flag(&at(key), &mut is_set);
        sources.extend(is_set.then(|| (at(key), source)));
        keys.push(key);
        fix = format!("name the source of a token: token_env, token_file, token_secret or {key} = true");
    }
    if let [(first, _), (second, _), ..] = sources.as_slice() {
        r.refuse(second, format!("{first} is set as well"), "keep one of them");
    }
    let token = sources.into_iter().next().map(|(_, source)| source);
    let is_reported = keys.iter().any(|key| r.is_bad(&at(key)));
    if token.is_none() && !is_reported {
        r.refuse(&at("token_env"), "the forge has no credential", &fix);
    }
    token.unwrap_or(SecretSource::Env(String::new()))
}

/// Refuses a URL that would send the token unencrypted.
fn refuse_plain(r: &mut Reader, key: &str, url: &str) {
    if is_plain_to_others(url) {
        r.refuse(key, "the token would be sent unencrypted to another machine", "write an https URL");
    }
}

fn merge_method(r: &mut Reader, at: &dyn Fn(&str) -> String, all: &[MergeMethod]) -> Option<MergeMethod> {
    let mut method = None;
    r.checked(&at("merge_method"), &mut method, |t| match all.iter().find(|m| m.name() == t) {
        Some(method) => Ok(Some(*method)),
        None if t.is_empty() => Ok(None),
        None => {
            let names: Vec<String> = all.iter().map(|m| format!("\"{}\"", m.name())).collect();
            let fix = format!("write {}; \"\" leaves it to the repository", names.join(", "));
            wrong("unknown merge method", &fix)
        }
    });
    method
}

fn fork_owner(r: &mut Reader, at: &dyn Fn(&str) -> String) -> Option<String> {
    let mut owner = None;
    r.checked(&at("fork_owner"), &mut owner, |t| match t.trim() {
        "" => Ok(None),
        // A repository's name shows whether an owner has a valid one.
        t if RepoName::parse(&format!("{t}/x")).is_some() => Ok(Some(t.to_owned())),
        _ => wrong("this is not the name of a user or an organization", "write one such as \"skep-bot\""),
    });
    owner
}

fn intake(r: &mut Reader, at: &dyn Fn(&str) -> String) -> Intake {
    let mut intake = Intake::default();
    r.checked(&at("label"), &mut intake.label, |t| match t.trim() {
        "" => Ok(None),
        t if t.chars().count() <= 50 && !t.contains(',') && !t.chars().any(char::is_control) => Ok(Some(t.to_owned())),
        _ => wrong("this is not the name of a label", "write at most 50 characters, without a comma"),
    });
    r.checked(&at("mention"), &mut intake.mention, |t| match t.trim().trim_start_matches('@') {
        "" => Ok(None),
        t if t.len() <= 100 && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) => {
            Ok(Some(t.to_owned()))
        }
        _ => wrong("this is not a login", "write the name that people mention, such as \"skep-bot\""),
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
