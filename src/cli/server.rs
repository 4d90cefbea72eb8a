//! A service that is named by its address (`--server`), with the access token for it.

use super::args::{Command, ForgeCommand, ProjectCommand};
use super::exit::CliError;
use crate::secrets::read_private;
use crate::service::host::NamedServer;
use std::path::Path;

/// Maximum bytes of a token file.
const MAX_TOKEN_BYTES: u64 = 4096;

/// Returns the service that the option or `SKEP_SERVER` names, with its token from `SKEP_TOKEN` or the file that
/// `SKEP_TOKEN_FILE` names.
///
/// # Errors
/// If the URL is not usable, or there is no token.
pub fn named(option: Option<&str>) -> Result<Option<NamedServer>, CliError> {
    let var = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let Some(url) = option.map(str::to_owned).or_else(|| var("SKEP_SERVER")) else { return Ok(None) };
    let url = parse_url(&url)?;
    let token = match (var("SKEP_TOKEN"), var("SKEP_TOKEN_FILE")) {
        (Some(token), _) => token.trim().to_owned(),
        (None, Some(file)) => {
            let token = read_private(Path::new(&file), MAX_TOKEN_BYTES)
                .map_err(|e| CliError::usage(format!("SKEP_TOKEN_FILE: {file} {}", e.why), e.fix))?;
            token.expose().trim().to_owned()
        }
        (None, None) => {
            return Err(CliError::usage(
                format!("there is no access token for {url}"),
                "set SKEP_TOKEN_FILE to a file that only you can read; the page of the service under your name creates \
                 tokens, and `skep token new NAME --person YOU --rights read,run,approve` on its machine",
            ));
        }
    };
    Ok(Some(NamedServer { url, token }))
}

/// Checks a URL and returns it without the slash at its end. A token is sent in clear text to this machine only.
fn parse_url(text: &str) -> Result<String, CliError> {
    let bad = |what: &str, fix: &str| CliError::usage(format!("--server: {what}"), fix.to_owned());
    let url = reqwest::Url::parse(text).map_err(|_| bad("not a URL", "write it as https://skep.example.org"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("the URL contains credentials", "put the token into SKEP_TOKEN_FILE"));
    }
    let is_loopback = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    match url.scheme() {
        "https" => {}
        "http" if is_loopback => {}
        "http" => {
            return Err(bad(
                "http would send the access token in clear text",
                "use https, or forward a port of this machine with `ssh -L`",
            ));
        }
        _ => return Err(bad("neither http nor https", "write it as https://skep.example.org")),
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad("the URL has a query or a fragment", "leave them out"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// Refuses commands that are about this machine.
///
/// # Errors
/// If the command is one of them.
pub fn check_command(command: &Command) -> Result<(), CliError> {
    let name = match command {
        Command::Check(_) => "check",
        Command::Init(_) => "init",
        Command::Demo(_) => "demo",
        Command::Serve { .. } => "serve",
        Command::Config(_) => "config",
        Command::Migrate { .. } => "migrate",
        Command::Backup(_) => "backup",
        Command::Restore(_) => "restore",
        Command::Verify => "verify",
        Command::Gc(_) => "gc",
        Command::Engine(_) => "engine",
        Command::Prompts(_) => "prompts",
        Command::Doctor { .. } => "doctor",
        Command::Runner(_) => "runner",
        Command::Forge(ForgeCommand::List | ForgeCommand::Test { .. }) => "forge",
        Command::Notify(_) => "notify",
        Command::Sandbox(_) => "sandbox",
        Command::Project(ProjectCommand::Allow { .. }) => "project allow",
        _ => return Ok(()),
    };
    Err(CliError::usage(
        format!("`skep {name}` is about the machine it runs on, and a service was named with --server or SKEP_SERVER"),
        "leave the server out, or run the command on the machine of the service",
    ))
}

/// Refuses a repository of this machine, which the service cannot reach. The command line makes paths absolute.
///
/// # Errors
/// If the repository is a path.
pub fn check_repo(repo: Option<&str>) -> Result<(), CliError> {
    match repo.filter(|repo| repo.starts_with('/') || repo.starts_with("file:")) {
        None => Ok(()),
        Some(repo) => Err(CliError::usage(
            format!("the repository {repo} is on this machine, and the service may be elsewhere"),
            "name a project of the service with --project (`skep project list`), or a URL with --repo",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_sent_in_clear_text_to_another_machine() {
        for (text, url) in [
            ("https://skep.example.org/", "https://skep.example.org"),
            ("http://127.0.0.1:7377", "http://127.0.0.1:7377"),
            ("http://localhost:7377/", "http://localhost:7377"),
            ("https://example.org/skep/", "https://example.org/skep"),
        ] {
            assert_eq!(parse_url(text).unwrap(), url);
        }
        for text in [
            "http://skep.example.org",
            "http://127.0.0.1.example.org",
            "ftp://skep.example.org",
            "skep.example.org",
            "https://ann:x@skep.example.org",
            "https://skep.example.org/?a=b",
            "",
        ] {
            assert!(parse_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_repositories_elsewhere_are_named() {
        for repo in [None, Some("https://example.org/a.git"), Some("git@example.org:a/b.git"), Some("my-org/calc")] {
            assert!(check_repo(repo).is_ok(), "{repo:?}");
        }
        for repo in ["/srv/a.git", "file:///srv/a.git"] {
            assert!(check_repo(Some(repo)).is_err(), "{repo}");
        }
    }
}
