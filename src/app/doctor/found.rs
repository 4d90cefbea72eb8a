//! Detects which configured providers and agents can be used on this machine. Runs only when a person asks.

use crate::config::{ApiKeySource, Config};
use crate::providers::settings::Api;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// Timeout for a model server on this machine.
const TIMEOUT: Duration = Duration::from_millis(300);
/// Largest model list read, in bytes.
const MAX_LIST_BYTES: usize = 1 << 20;
/// Maximum number of models listed for one server.
const MAX_MODELS: usize = 20;

/// Usable providers and agents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Names of the providers that have a key.
    pub keyed: Vec<String>,
    /// Model servers on this machine that respond, with their models.
    pub servers: Vec<(String, Vec<String>)>,
    /// Names of the agents whose program is installed.
    pub agents: Vec<String>,
}

impl Found {
    /// Detects the providers and agents that can be used on this machine.
    pub async fn on_this_machine(config: &Config) -> Found {
        let keyed = config.providers.iter().filter(|(_, k)| k.source != ApiKeySource::None && k.missing().is_none());
        let keyed = keyed.map(|(name, _)| name.clone()).collect();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let agents = config.agents.iter().filter(|(_, a)| a.command.first().is_some_and(|p| is_program(p, &path)));
        let agents = agents.map(|(name, _)| name.clone()).collect();
        crate::telemetry::install_crypto();
        let Ok(http) = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build() else {
            return Found { keyed, agents, servers: Vec::new() };
        };
        let local = config.providers.iter().filter(|(_, k)| is_loopback(&k.provider.base_url));
        let requests = local.map(|(name, k)| {
            let (http, api, base) = (http.clone(), k.provider.api, k.provider.base_url.clone());
            async move { Some((name.clone(), models(&http, api, &base).await?)) }
        });
        let servers = futures::future::join_all(requests).await.into_iter().flatten().collect();
        Found { keyed, servers, agents }
    }
}

/// Returns whether a program is installed: a path is used as it is, a bare name is searched for on PATH.
pub fn is_program(name: &str, path: &std::ffi::OsStr) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let is_executable =
        |p: &Path| std::fs::metadata(p).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    match name.contains('/') {
        true => is_executable(Path::new(name)),
        false => std::env::split_paths(path).any(|dir| dir.is_absolute() && is_executable(&dir.join(name))),
    }
}

/// Returns whether a server is on this machine.
pub fn is_loopback(base_url: &str) -> bool {
    let host = reqwest::Url::parse(base_url).ok().and_then(|u| u.host_str().map(str::to_owned)).unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|a| a.is_loopback())
}

/// Returns whether a server on this machine accepts connections; one elsewhere is assumed to accept them.
pub async fn listens(base_url: &str) -> bool {
    let url = reqwest::Url::parse(base_url).ok().filter(|_| is_loopback(base_url));
    let Some((host, port)) = url.and_then(|u| Some((u.host_str()?.to_owned(), u.port_or_known_default()?))) else {
        return true;
    };
    let connection = tokio::net::TcpStream::connect((host.trim_matches(['[', ']']), port));
    matches!(tokio::time::timeout(TIMEOUT, connection).await, Ok(Ok(_)))
}

/// Lists the models of a server; `None` if it does not respond, or not with a model list.
async fn models(http: &reqwest::Client, api: Api, base: &str) -> Option<Vec<String>> {
    let (path, list, name) = match api {
        Api::Ollama => ("api/tags", "models", "name"),
        _ => ("models", "data", "id"),
    };
    let mut response = http.get(format!("{base}{path}")).send().await.ok().filter(|r| r.status().is_success())?;
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_LIST_BYTES {
            return None;
        }
    }
    let value: Value = serde_json::from_slice(&bytes).ok()?;
    let is_plain =
        |s: &&str| (1..=200).contains(&s.len()) && !s.contains(|c: char| c.is_whitespace() || c.is_control());
    let names = value.get(list)?.as_array()?.iter().filter_map(|m| m.get(name)?.as_str()).filter(is_plain);
    Some(names.take(MAX_MODELS).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_servers_on_this_machine_are_queried() {
        for local in ["http://127.0.0.1:11434/", "http://localhost:1/v1/", "http://[::1]:8000/"] {
            assert!(is_loopback(local), "{local}");
        }
        for other in ["https://api.anthropic.com/v1/", "http://127.0.0.1.example.org/", "http://10.0.0.1/", "x", ""] {
            assert!(!is_loopback(other), "{other}");
        }
    }

    #[test]
    fn programs_are_found_on_the_path_only() {
        let path = std::ffi::OsStr::new("relative:/usr/bin:/bin");
        assert!(is_program("sh", path) && is_program("/bin/sh", path));
        assert!(
            !is_program("no-such-program-anywhere", path) && !is_program("/etc/passwd", path) && !is_program("", path)
        );
    }
}
