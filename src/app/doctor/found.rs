//! Detects which configured providers and agents can be used on this machine. Runs only when a person asks.

use crate::config::{ApiKeySource, Config};
use crate::platform::sandbox::Sandbox;
use crate::providers::settings::Api;
use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
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
    /// Names of the agents whose program is installed, and visible in the sandbox.
    pub agents: Vec<String>,
    /// Names of the agents whose program is installed but not visible in the sandbox, with the folder that is missing.
    pub hidden: Vec<(String, PathBuf)>,
}

/// Where an agent's program is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Installed {
    /// Nowhere.
    No,
    /// Where sandboxed commands see it.
    Visible,
    /// Elsewhere: commands would see its name but not the file that it links to. The folder to add.
    Hidden(PathBuf),
}

/// Finds a program and checks that sandboxed commands see the file itself, too, not only a link to it.
pub fn installed(name: &str, path: &OsStr, sandbox: Option<&Sandbox>) -> Installed {
    let Some(program) = find(name, path) else { return Installed::No };
    let (Some(sandbox), Ok(real)) = (sandbox, program.canonicalize()) else { return Installed::Visible };
    if sandbox.shows(&real) {
        return Installed::Visible;
    }
    // A package is shown whole: the link and its target usually share its folder.
    let shared = program.ancestors().find(|folder| real.starts_with(folder)).unwrap_or(Path::new("/"));
    let own = real.parent().unwrap_or(Path::new("/"));
    let too_broad = shared.components().count() < 3
        || std::env::var_os("HOME").is_some_and(|home| Path::new(&home).starts_with(shared));
    Installed::Hidden(if too_broad { own } else { shared }.to_owned())
}

/// Describes an agent whose program is not visible in the sandbox: what is wrong, and what to do.
pub fn hidden_fix(folder: &Path) -> String {
    format!("add its folder to sandbox.toolchains: [\"{}\"]", folder.display())
}

impl Found {
    /// Detects the providers and agents that can be used on this machine.
    pub async fn on_this_machine(config: &Config, sandbox: Option<&Sandbox>) -> Found {
        let keyed = config.providers.iter().filter(|(_, k)| k.source != ApiKeySource::None && k.missing().is_none());
        let keyed = keyed.map(|(name, _)| name.clone()).collect();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let (mut agents, mut hidden) = (Vec::new(), Vec::new());
        for (name, agent) in &config.agents {
            match installed(agent.command.first().map_or("", String::as_str), &path, sandbox) {
                Installed::No => {}
                Installed::Visible => agents.push(name.clone()),
                Installed::Hidden(folder) => hidden.push((name.clone(), folder)),
            }
        }
        crate::telemetry::install_crypto();
        let Ok(http) = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build() else {
            return Found { keyed, agents, hidden, servers: Vec::new() };
        };
        let local = config.providers.iter().filter(|(_, k)| is_loopback(&k.provider.base_url));
        let requests = local.map(|(name, k)| {
            let (http, api, base) = (http.clone(), k.provider.api, k.provider.base_url.clone());
            async move { Some((name.clone(), models(&http, api, &base).await?)) }
        });
        let servers = futures::future::join_all(requests).await.into_iter().flatten().collect();
        Found { keyed, servers, agents, hidden }
    }
}

/// Finds a program: a path is used as it is, a bare name is searched for on PATH.
fn find(name: &str, path: &OsStr) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let is_executable =
        |p: &Path| std::fs::metadata(p).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    match name.contains('/') {
        true => Some(PathBuf::from(name)).filter(|p| is_executable(p)),
        false => {
            let mut candidates = std::env::split_paths(path).filter(|dir| dir.is_absolute()).map(|dir| dir.join(name));
            candidates.find(|p| is_executable(p))
        }
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
        let is_found = |name: &str| installed(name, path, None) == Installed::Visible;
        assert!(is_found("sh") && is_found("/bin/sh"));
        assert!(!is_found("no-such-program-anywhere") && !is_found("/etc/passwd") && !is_found(""));
    }

    #[test]
    fn a_program_behind_a_link_is_visible() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let root = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let folder = root.path().join(name);
            std::fs::create_dir_all(&folder).unwrap();
            folder.canonicalize().unwrap()
        };
        let (bin, lib) = (folder("pkg/bin"), folder("pkg/lib"));
        std::fs::write(lib.join("agent.sh"), "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(lib.join("agent.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
        symlink("../lib/agent.sh", bin.join("agent")).unwrap();
        let found = |shown: &Path| {
            let policy = crate::platform::sandbox::Policy {
                level: crate::platform::sandbox::settings::Level::Landlock,
                readable: vec![shown.to_owned()],
                ..Default::default()
            };
            let env = [("PATH".into(), bin.clone().into_os_string())].into();
            let sandbox = Sandbox::new(&env, &[]).with_policy(&policy, Some(Path::new("/bin/true"))).unwrap();
            installed("agent", bin.as_os_str(), Some(&sandbox))
        };
        let package = bin.parent().unwrap();
        // What a link in a shown folder leads to is shown, too.
        assert_eq!(found(&bin), Installed::Visible);
        assert_eq!(found(package), Installed::Visible);
    }
}
