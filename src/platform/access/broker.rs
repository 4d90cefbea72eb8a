//! Grants a command the access that its project has: a session of the egress proxy, and secrets from the vault.
//! Dropping the access closes the session.
//!
//! Invariant: [`AccessBroker::grant`] never gives access to a model provider, and a secret is decrypted for one
//! command at a time.

use super::{Grants, ProjectGrants, network_need};
use crate::domain::{ProjectName, Usage};
use crate::platform::egress::{EgressProxy, Hosts, ProxySession, SessionSpec};
use crate::platform::sandbox::{Level, ProxyEndpoint};
use crate::platform::terminal_text;
use crate::ports::{PortError, PortResult, SecretName, Vault};
use crate::providers::meter::Meter;
use crate::providers::settings::Provider;
use crate::secrets::{Secret, VALUE_BYTES_MIN};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Maximum number of denied hosts that are listed by name, and the maximum length of such a name.
const LISTED_HOSTS_MAX: usize = 8;
const HOST_CHARS_MAX: usize = 100;

/// Grants access to commands. Without a proxy, no host can be reached; without a vault, no secret is granted.
#[derive(Clone, Default)]
pub struct AccessBroker {
    grants: Arc<ProjectGrants>,
    proxy: Option<Arc<EgressProxy>>,
    vault: Option<Arc<dyn Vault>>,
}

impl fmt::Debug for AccessBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessBroker").field("grants", &self.grants).finish_non_exhaustive()
    }
}

/// Kind of command that access is granted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// A check.
    Check,
    /// A `command:` engine or a driven agent.
    Engine,
    /// A command line written by a model. It gets no secret, because the model would read what the command prints.
    Model,
}

/// Access request for one command.
#[derive(Clone, Debug)]
pub struct AccessRequest<'a> {
    /// Project that the command works on.
    pub project: &'a ProjectName,
    /// Kind of the command.
    pub audience: Audience,
    /// Isolation level that the command runs at.
    pub level: Level,
    /// Name of the command for logs and errors.
    pub label: &'a str,
}

/// Access granted to one command.
#[derive(Debug)]
pub struct CommandAccess {
    project: ProjectName,
    level: Level,
    grants: Grants,
    /// The configuration file in which the grants can be changed.
    file: Option<PathBuf>,
    /// Session of the egress proxy, if the command has one.
    pub session: Option<ProxySession>,
    secrets: Vec<(String, Secret)>,
    /// Hosts that the command is known to need, and may not reach.
    known_hosts: Vec<String>,
}

impl AccessBroker {
    /// Creates a broker for these grants.
    pub fn new(grants: Arc<ProjectGrants>) -> AccessBroker {
        AccessBroker { grants, proxy: None, vault: None }
    }

    /// Adds the egress proxy.
    pub fn with_proxy(self, proxy: Arc<EgressProxy>) -> AccessBroker {
        AccessBroker { proxy: Some(proxy), ..self }
    }

    /// Adds the vault.
    pub fn with_vault(self, vault: Arc<dyn Vault>) -> AccessBroker {
        AccessBroker { vault: Some(vault), ..self }
    }

    /// Replaces the grants.
    pub fn with_grants(self, grants: Arc<ProjectGrants>) -> AccessBroker {
        AccessBroker { grants, ..self }
    }

    /// Returns the grants of a project.
    pub fn grants(&self, project: &ProjectName) -> &Grants {
        self.grants.for_project(project)
    }

    /// Returns whether commands can be given network access at all.
    pub fn has_proxy(&self) -> bool {
        self.proxy.is_some()
    }

    /// Grants access to a command: a proxy session only if its project may reach hosts. Needs a Tokio runtime.
    ///
    /// # Errors
    /// `Permanent` when a secret is missing or may not be used at this level, or when the session cannot be opened as
    /// configured; `Transient` when the store or the machine failed.
    pub async fn grant(&self, request: AccessRequest<'_>) -> PortResult<CommandAccess> {
        let secrets = self.secrets(&request).await?;
        let hosts = &self.grants.for_project(request.project).hosts;
        let session = match (&self.proxy, hosts.is_empty()) {
            (_, true) => None,
            (Some(proxy), false) => {
                // The session reaches no provider, so nothing is ever counted on this meter.
                let meter = Meter::new(Usage::default(), Arc::default());
                Some(open_session(proxy, &request, hosts, Vec::new(), meter)?)
            }
            (None, false) => {
                let what = format!("cannot give {} network access: this process has no egress proxy", request.label);
                return Err(PortError::permanent(what, "use `skep run` or `skep serve`"));
            }
        };
        Ok(CommandAccess::new(&request, &self.grants, session, secrets))
    }

    /// Grants access to a driven agent: its session also reaches its provider, and exists even if no host is granted.
    ///
    /// # Errors
    /// As [`AccessBroker::grant`].
    pub async fn grant_agent(
        &self,
        request: AccessRequest<'_>,
        provider: Option<Provider>,
        meter: Arc<Meter>,
    ) -> PortResult<CommandAccess> {
        let secrets = self.secrets(&request).await?;
        let hosts = &self.grants.for_project(request.project).hosts;
        let providers = provider.into_iter().collect();
        let session =
            self.proxy.as_ref().map(|proxy| open_session(proxy, &request, hosts, providers, meter)).transpose()?;
        Ok(CommandAccess::new(&request, &self.grants, session, secrets))
    }

    /// Decrypts the granted secrets. Fails if one of them is unavailable.
    async fn secrets(&self, request: &AccessRequest<'_>) -> PortResult<Vec<(String, Secret)>> {
        let grants = self.grants.for_project(request.project);
        let names = match request.audience {
            Audience::Check => &grants.check_secrets,
            Audience::Engine => &grants.engine_secrets,
            Audience::Model => return Ok(Vec::new()),
        };
        let mut secrets = Vec::with_capacity(names.len());
        for name in names {
            let value = self.secret(name, request).await.map_err(|e| match e {
                PortError::Permanent { what, fix } => {
                    PortError::permanent(format!("cannot start {}: {what}", request.label), fix)
                }
                other => other,
            })?;
            secrets.push((name.clone(), value));
        }
        if !names.is_empty() {
            let (command, project) = (request.label, request.project);
            tracing::info!(?command, %project, secrets = names.join(", "), "granted secrets of the vault");
        }
        Ok(secrets)
    }

    async fn secret(&self, name: &str, request: &AccessRequest<'_>) -> PortResult<Secret> {
        let Some(vault) = &self.vault else {
            let what = format!("cannot grant the secret {name}: this process has no vault");
            return Err(PortError::permanent(what, "use `skep run` or `skep serve`"));
        };
        let unusable = |why: String| {
            let fix = format!("set it again with `skep secret set {name} --project {}`", request.project);
            PortError::permanent(format!("the secret {name} {why}"), fix)
        };
        let secret_name = SecretName::new(name).map_err(|why| unusable(format!("has an invalid name: {why}")))?;
        let value = vault.for_run(&secret_name, request.project, request.level.name()).await?;
        if value.expose().contains('\0') {
            return Err(unusable("contains a NUL byte, which an environment variable cannot hold".to_owned()));
        }
        if value.expose().len() < VALUE_BYTES_MIN {
            return Err(unusable(format!(
                "has fewer than {VALUE_BYTES_MIN} bytes: it could not be distinguished from other text and would appear in logs"
            )));
        }
        Ok(value)
    }
}

fn open_session(
    proxy: &EgressProxy,
    request: &AccessRequest<'_>,
    hosts: &[String],
    providers: Vec<Provider>,
    meter: Arc<Meter>,
) -> PortResult<ProxySession> {
    let label = request.label;
    let session_label = format!("{label}, project {}", request.project);
    let spec = SessionSpec { providers, hosts: hosts.to_vec(), meter, label: session_label };
    proxy.open_session(spec).map_err(|e| match e.kind() {
        std::io::ErrorKind::InvalidInput => PortError::permanent(
            format!("cannot open a proxy session for {label}: {e}"),
            "fix egress.hosts or the temporary directory",
        ),
        _ => PortError::transient(format!("cannot open a proxy session for {label}: {e}")),
    })
}

impl CommandAccess {
    fn new(
        request: &AccessRequest<'_>,
        grants: &ProjectGrants,
        session: Option<ProxySession>,
        secrets: Vec<(String, Secret)>,
    ) -> CommandAccess {
        let (project, level) = (request.project.clone(), request.level);
        let file = grants.file.clone();
        let (grants, known_hosts) = (grants.for_project(&project).clone(), Vec::new());
        CommandAccess { grants, project, level, file, session, secrets, known_hosts }
    }

    /// Returns an access that grants nothing, for a command that runs on another machine.
    pub fn none(request: &AccessRequest<'_>) -> CommandAccess {
        CommandAccess::new(request, &ProjectGrants::default(), None, Vec::new())
    }

    /// Returns the address of the proxy, for the command's job.
    pub fn endpoint(&self) -> Option<&ProxyEndpoint> {
        self.session.as_ref().map(|session| &session.endpoint)
    }

    /// Returns the secrets as environment variables, for the command's environment only.
    pub fn env(&self) -> Vec<(&str, String)> {
        self.secrets.iter().map(|(name, value)| (name.as_str(), value.expose().to_owned())).collect()
    }

    /// Returns the names of the secrets, for the log.
    pub fn names(&self) -> Vec<String> {
        self.secrets.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Describes the hosts that the proxy denied, for people; `None` = it denied none.
    pub fn denied_hosts(&self) -> Option<String> {
        let listed = list(&self.denials())?;
        let missing = self.session.as_ref().map(ProxySession::missing_hosts).unwrap_or_default();
        let project = &self.project;
        let how = if missing.is_empty() { String::new() } else { format!(": {}", self.how_to_allow(&missing)) };
        Some(format!("it tried to reach {listed}, which egress.hosts of project {project} does not allow{how}"))
    }

    /// Explains what a command lacked of the network, and what to do. Denied hosts are always named, the rest only if
    /// it failed.
    pub fn network_note(&self, output: &str, failed: bool) -> Option<String> {
        let unreachable = || {
            let listed = list(&self.unreachable())?;
            Some(format!(
                "the egress proxy could not reach {listed}, which is allowed: check the name, and that this machine can reach it"
            ))
        };
        let of_failure = failed.then(|| unreachable().or_else(|| self.offline_hint(output))).flatten();
        let notes: Vec<String> = self.denied_hosts().into_iter().chain(of_failure).collect();
        (!notes.is_empty()).then(|| notes.join("; "))
    }

    /// Returns whether a failed command was denied a host, could not reach one, or has no network access and its output
    /// shows that it needed some.
    pub fn lacks_network(&self, output: &str) -> bool {
        !self.denials().is_empty() || !self.unreachable().is_empty() || self.is_offline(output)
    }

    /// Returns whether that is why it failed. A test may also try hosts that it does not need: unless the command
    /// `only_installs`, what is known of it or its output has to name the host, or a refusal by the proxy.
    pub fn failed_for_network(&self, output: &str, only_installs: bool) -> bool {
        let is_needed = |(name, _): &(String, String)| {
            let host = name.rsplit_once(':').map_or(name.as_str(), |(host, _)| host);
            let known = |known: &String| known == host || known.rsplit_once(':').is_some_and(|(name, _)| name == host);
            only_installs || self.known_hosts.iter().any(known) || network_need::blames(output, host)
        };
        // A person allowed a host because it is needed.
        self.is_offline(output) || !self.unreachable().is_empty() || self.denials().iter().any(is_needed)
    }

    /// Sets the hosts that the command is known to need and may not reach. They are proposed with those it tried.
    pub fn set_known_hosts(&mut self, hosts: Vec<String>) {
        self.known_hosts = hosts;
    }

    /// Returns the denied hosts. Model calls are not hosts; their errors are reported where they occur.
    fn denials(&self) -> Vec<(String, String)> {
        let denials = self.session.as_ref().map(ProxySession::denials).unwrap_or_default();
        denials.into_iter().filter(|(what, _)| !what.starts_with('/')).collect()
    }

    fn unreachable(&self) -> Vec<(String, String)> {
        self.session.as_ref().map(ProxySession::unreachable).unwrap_or_default()
    }

    fn is_offline(&self, output: &str) -> bool {
        self.session.is_none() && self.level != Level::None && network_need::is_needed(output)
    }

    fn offline_hint(&self, output: &str) -> Option<String> {
        self.is_offline(output).then(|| {
            let (project, how) = (&self.project, self.how_to_allow(&network_need::hosts(output)));
            format!("it needs the network, which is closed on purpose (egress.hosts of project {project} allows no host): {how}")
        })
    }

    /// Describes how to allow the known hosts and more: the command, and the same as a line, its table and the file.
    fn how_to_allow(&self, more: &[String]) -> String {
        // A name may have been chosen by the command. Only what is valid in the list is proposed.
        let named = self.known_hosts.iter().chain(more.iter().filter(|host| !self.known_hosts.contains(host)));
        let valid = named.filter(|host| Hosts::parse(std::slice::from_ref(*host)).is_ok());
        let more: Vec<String> = valid.filter(|host| !self.grants.hosts.contains(host)).cloned().collect();
        let more = if more.is_empty() { vec!["HOST".to_owned()] } else { more };
        let command = format!("skep project allow {} {}", self.project, more.join(" "));
        let hosts = self.grants.hosts.iter().chain(&more);
        let hosts: Vec<String> = hosts.map(|host| format!("\"{host}\"")).collect();
        let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let project = self.project.as_str();
        let project = if project.chars().all(is_bare) { project.to_owned() } else { format!("\"{project}\"") };
        let file = self.file.as_ref().map_or_else(|| "skep.toml".to_owned(), |file| file.display().to_string());
        let line = format!("`hosts = [{}]` below [project.{project}.egress] in {file}", hosts.join(", "));
        format!("to allow it: `{command}`, or {line}")
    }
}

/// Lists hosts with the reasons why they were not reached; `None` = there are none.
fn list(hosts: &[(String, String)]) -> Option<String> {
    let describe = |(host, why): &(String, String)| {
        // The command chose the name, so it is untrusted text.
        let host: String = terminal_text::sanitize(host.as_bytes()).chars().take(HOST_CHARS_MAX).collect();
        format!("{host} ({why})")
    };
    let mut listed: Vec<String> = hosts.iter().take(LISTED_HOSTS_MAX).map(describe).collect();
    if hosts.len() > listed.len() {
        listed.push(format!("and {} more", hosts.len() - listed.len()));
    }
    (!listed.is_empty()).then(|| listed.join(", "))
}
