//! Adds a forge to the configuration file, once its account has been tested.

use super::{configure, forges};
use crate::adapters::forge::settings::{Account, ForgeSettings, SecretSource};
use crate::config::Config;
use crate::ports::Vault;
use crate::service::host::{AddedForge, HostContext, HostError, HostResult, NewForge};
use std::fmt::Write as _;
use std::sync::Arc;
use toml_edit::Value;

/// Tests a forge, and adds it to the configuration file if its account can authenticate.
///
/// # Errors
/// The forge is configured already, has no token, or refuses it; then nothing was changed.
pub async fn add(
    context: &HostContext,
    config: &Config,
    vault: Option<Arc<dyn Vault>>,
    new: &NewForge,
) -> HostResult<AddedForge> {
    if config.forges.contains_key(&new.name) {
        return Err(HostError::usage(
            format!("the forge {} is configured already", new.name),
            format!("change its table [forges.{}] in the configuration, or choose another name with --name", new.name),
        ));
    }
    let proposed = configure::propose(context, &table(new, &|name| std::env::var(name).ok())?)?;
    let settings = proposed.config().forges.get(&new.name);
    let account = settings.map(ForgeSettings::account).unwrap_or_default();
    let from_cli = match settings {
        Some(ForgeSettings::GitHub(github)) if github.account == Account::Token(SecretSource::GitHubCli) => {
            Some("GH_TOKEN")
        }
        Some(ForgeSettings::GitLab(gitlab)) if gitlab.token == SecretSource::GitLabCli => Some("GITLAB_TOKEN"),
        _ => None,
    };
    let tested = forges::test(proposed.config(), vault, &new.name, new.repo.as_deref()).await;
    let test = tested.map_err(|mut error| {
        if let Some(variable) = from_cli {
            for problem in &mut error.problems {
                problem.fix.push_str(&format!("; or set {variable}, or name a file with a token: --token-file FILE"));
            }
        }
        error
    })?;
    let file = proposed.accept()?.display().to_string();
    Ok(AddedForge { file, account, test })
}

/// Returns the table of a forge. Without a file, the token is that of the usual variable or of the command line of
/// GitHub or GitLab.
fn table(new: &NewForge, env: &dyn Fn(&str) -> Option<String>) -> HostResult<String> {
    let variables: &[&str] = match new.kind.as_str() {
        "github" => &["GH_TOKEN", "GITHUB_TOKEN"],
        "gitlab" => &["GITLAB_TOKEN"],
        "forgejo" => &["FORGEJO_TOKEN"],
        _ => &["GITEA_TOKEN"],
    };
    let mut keys = vec![("kind", Value::from(new.kind.as_str()))];
    keys.extend(new.url.as_deref().map(|url| ("url", url.into())));
    let variable = variables.iter().find(|name| env(name).is_some_and(|token| !token.trim().is_empty()));
    keys.push(match (&new.token_file, variable) {
        (Some(file), _) => ("token_file", file.display().to_string().into()),
        (None, Some(variable)) => ("token_env", (*variable).into()),
        (None, None) if new.kind == "github" => ("token_gh", true.into()),
        (None, None) if new.kind == "gitlab" => ("token_glab", true.into()),
        (None, None) => {
            return Err(HostError::usage(
                format!("the forge {} has no token: {} is not set", new.name, variables[0]),
                format!(
                    "name a file with the token, which only Skep's user can read: --token-file FILE; or set {}",
                    variables[0]
                ),
            ));
        }
    });
    keys.extend(new.label.as_deref().map(|label| ("label", label.into())));
    let mut text = format!("[forges.{}]\n", new.name);
    for (key, value) in keys {
        let _ = writeln!(text, "{key} = {value}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_the_one_of_the_file_of_the_variable_or_of_gh() {
        let new = |kind: &str, file: Option<&str>| NewForge {
            name: "code".to_owned(),
            kind: kind.to_owned(),
            url: Some("https://code.example.org".to_owned()),
            token_file: file.map(Into::into),
            label: None,
            repo: None,
        };
        let none = |_: &str| None;
        let set = |name: &str| (name == "GITHUB_TOKEN" || name == "FORGEJO_TOKEN").then(|| "t".to_owned());
        let head = |kind: &str| format!("[forges.code]\nkind = \"{kind}\"\nurl = \"https://code.example.org\"\n");
        for (kind, file, env, expected) in [
            ("github", None, &none as &dyn Fn(&str) -> Option<String>, "token_gh = true\n"),
            ("github", None, &set, "token_env = \"GITHUB_TOKEN\"\n"),
            ("github", Some("/etc/t"), &set, "token_file = \"/etc/t\"\n"),
            ("forgejo", None, &set, "token_env = \"FORGEJO_TOKEN\"\n"),
            ("gitlab", None, &set, "token_glab = true\n"),
        ] {
            assert_eq!(table(&new(kind, file), env).unwrap(), head(kind) + expected);
        }
        let error = table(&new("gitea", None), &set).unwrap_err();
        assert!(error.problems[0].fix.contains("GITEA_TOKEN"), "{error:?}");
    }
}
