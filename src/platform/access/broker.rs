//! Gives a command what its project is granted: a way out through the gate, and secrets of the vault. The way closes when it is dropped.
//!
//! Invariant: no provider of models is reached by what [`AccessBroker::give`] opens, and a secret is opened for one command at a time.

use super::{Granted, Grants};
use crate::domain::{ProjectName, Usage};
use crate::platform::egress::{EgressProxy, ProxySession, SessionSpec};
use crate::platform::sandbox::{Level, ProxyEndpoint};
use crate::platform::terminal_text;
use crate::ports::{PortError, PortResult, SecretName, Vault};
use crate::providers::meter::Meter;
use crate::providers::settings::Provider;
use crate::secrets::{Secret, VALUE_BYTES_MIN};
use std::fmt;
use std::sync::Arc;

/// Hosts that are named one by one where some were refused, and the longest name of one.
const NAMED_MAX: usize = 8;
const NAME_CHARS_MAX: usize = 100;

/// What a command says that was looking for a network and found none, in lower case.
const OFFLINE: &[&str] = &[
    "could not resolve host",
    "couldn't resolve host",
    "temporary failure in name resolution",
    "name or service not known",
    "network is unreachable",
    "eai_again",
    "enotfound",
    "dns error",
    "no such host",
];

/// Gives. Without a gate nothing is let out, without a vault no secret is given.
#[derive(Clone, Default)]
pub struct AccessBroker {
    granted: Arc<Granted>,
    gate: Option<Arc<EgressProxy>>,
    vault: Option<Arc<dyn Vault>>,
}

impl fmt::Debug for AccessBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Giver").field("granted", &self.granted).finish_non_exhaustive()
    }
}

/// Whom something is given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// A check.
    Check,
    /// A `command:` engine or a driven agent.
    Engine,
    /// A line a model wrote: it gets no secret, because the model would read what the line prints.
    Model,
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct AccessRequest<'a> {
    /// For which project.
    pub project: &'a ProjectName,
    /// As what.
    pub to: Audience,
    /// The level it runs at.
    pub level: Level,
    /// Which command it is, for the log.
    pub label: &'a str,
}

/// What one command was given.
#[derive(Debug)]
pub struct CommandAccess {
    project: ProjectName,
    level: Level,
    /// The way out, if there is one.
    pub out: Option<ProxySession>,
    secrets: Vec<(String, Secret)>,
}

impl AccessBroker {
    /// Gives what is granted.
    pub fn new(granted: Arc<Granted>) -> AccessBroker {
        AccessBroker { granted, gate: None, vault: None }
    }

    /// The same, through a gate.
    pub fn through(self, gate: Arc<EgressProxy>) -> AccessBroker {
        AccessBroker { gate: Some(gate), ..self }
    }

    /// The same, with the secrets of a vault.
    pub fn opening(self, vault: Arc<dyn Vault>) -> AccessBroker {
        AccessBroker { vault: Some(vault), ..self }
    }

    /// The same, with other grants.
    pub fn granting(self, granted: Arc<Granted>) -> AccessBroker {
        AccessBroker { granted, ..self }
    }

    /// What a project is granted.
    pub fn grants(&self, project: &ProjectName) -> &Grants {
        self.granted.of(project)
    }

    /// Whether anything can be let out at all.
    pub fn has_gate(&self) -> bool {
        self.gate.is_some()
    }

    /// What a command is given: a way out only where its project may reach hosts. Needs a runtime.
    ///
    /// # Errors
    /// `Permanent` when a secret is not there or may not be given at this level, or the way out cannot be opened as it is configured;
    /// `Transient` when the store or the machine is to blame.
    pub async fn give(&self, asker: AccessRequest<'_>) -> PortResult<CommandAccess> {
        let secrets = self.secrets(&asker).await?;
        let hosts = &self.granted.of(asker.project).hosts;
        let out = match (&self.gate, hosts.is_empty()) {
            (_, true) => None,
            (Some(gate), false) => {
                // It leads to no provider: nothing is ever counted on it.
                let meter = Meter::new(Usage::default(), Arc::default());
                Some(open(gate, &asker, hosts, Vec::new(), meter)?)
            }
            (None, false) => {
                let what = format!("{} cannot be let out to hosts: this process has no gate", asker.label);
                return Err(PortError::permanent(what, "use `skep run` or `skep serve`"));
            }
        };
        Ok(CommandAccess::new(&asker, out, secrets))
    }

    /// What a driven agent is given: its way leads to its provider, too, and is there even when no host is granted.
    ///
    /// # Errors
    /// As [`AccessBroker::give`].
    pub async fn give_agent(
        &self,
        asker: AccessRequest<'_>,
        provider: Option<Provider>,
        meter: Arc<Meter>,
    ) -> PortResult<CommandAccess> {
        let secrets = self.secrets(&asker).await?;
        let hosts = &self.granted.of(asker.project).hosts;
        let providers = provider.into_iter().collect();
        let out = self.gate.as_ref().map(|gate| open(gate, &asker, hosts, providers, meter)).transpose()?;
        Ok(CommandAccess::new(&asker, out, secrets))
    }

    /// The secrets, all or none.
    async fn secrets(&self, asker: &AccessRequest<'_>) -> PortResult<Vec<(String, Secret)>> {
        let grants = self.granted.of(asker.project);
        let names = match asker.to {
            Audience::Check => &grants.check_secrets,
            Audience::Engine => &grants.engine_secrets,
            Audience::Model => return Ok(Vec::new()),
        };
        let mut secrets = Vec::with_capacity(names.len());
        for name in names {
            let value = self.secret(name, asker).await.map_err(|e| match e {
                PortError::Permanent { what, fix } => {
                    PortError::permanent(format!("{} is not started: {what}", asker.label), fix)
                }
                other => other,
            })?;
            secrets.push((name.clone(), value));
        }
        if !names.is_empty() {
            tracing::info!(to = ?asker.label, project = %asker.project, secrets = names.join(", "), "secrets of the vault are given");
        }
        Ok(secrets)
    }

    async fn secret(&self, name: &str, asker: &AccessRequest<'_>) -> PortResult<Secret> {
        let Some(vault) = &self.vault else {
            let what = format!("the secret {name} cannot be given: this process has no vault");
            return Err(PortError::permanent(what, "use `skep run` or `skep serve`"));
        };
        let wrong = |why: String| {
            let fix = format!("set it anew with `skep secret set {name} --project {}`", asker.project);
            PortError::permanent(format!("the secret {name} {why}"), fix)
        };
        let known = SecretName::new(name).map_err(|why| wrong(format!("has no usable name: {why}")))?;
        let value = vault.for_run(&known, asker.project, asker.level.name()).await?;
        if value.expose().contains('\0') {
            return Err(wrong("has a NUL in it, and no variable can have one".to_owned()));
        }
        if value.expose().len() < VALUE_BYTES_MIN {
            return Err(wrong(format!(
                "has fewer than {VALUE_BYTES_MIN} bytes: it could not be told from other text, and would stand in logs"
            )));
        }
        Ok(value)
    }
}

fn open(
    gate: &EgressProxy,
    asker: &AccessRequest<'_>,
    hosts: &[String],
    providers: Vec<Provider>,
    meter: Arc<Meter>,
) -> PortResult<ProxySession> {
    let label = asker.label;
    let whose = format!("{label}, project {}", asker.project);
    let pass = SessionSpec { providers, hosts: hosts.to_vec(), meter, label: whose };
    gate.open(pass).map_err(|e| match e.kind() {
        std::io::ErrorKind::InvalidInput => PortError::permanent(
            format!("the way out of {label} cannot be opened: {e}"),
            "correct egress.hosts or the temporary folder",
        ),
        _ => PortError::transient(format!("the way out of {label} cannot be opened: {e}")),
    })
}

impl CommandAccess {
    fn new(asker: &AccessRequest<'_>, out: Option<ProxySession>, secrets: Vec<(String, Secret)>) -> CommandAccess {
        CommandAccess { project: asker.project.clone(), level: asker.level, out, secrets }
    }

    /// Nothing at all: what a command gets that runs elsewhere.
    pub fn nothing(asker: &AccessRequest<'_>) -> CommandAccess {
        CommandAccess::new(asker, None, Vec::new())
    }

    /// Where its way out is: for the command's job.
    pub fn place(&self) -> Option<&ProxyEndpoint> {
        self.out.as_ref().map(|out| &out.place)
    }

    /// The secrets, for its environment and nothing else.
    pub fn env(&self) -> Vec<(&str, String)> {
        self.secrets.iter().map(|(name, value)| (name.as_str(), value.expose().to_owned())).collect()
    }

    /// The secrets' names, for the record.
    pub fn names(&self) -> Vec<String> {
        self.secrets.iter().map(|(name, _)| name.clone()).collect()
    }

    /// What the gate refused it, in words for people; `None` = nothing.
    pub fn refused(&self) -> Option<String> {
        let mut denials = self.out.as_ref()?.denials();
        // Calls of models are no hosts, and their refusals are told where they were made.
        denials.retain(|(what, _)| !what.starts_with('/'));
        let shown = |(what, why): &(String, String)| {
            // The name is the command's own text.
            let what: String = terminal_text::sanitize(what.as_bytes()).chars().take(NAME_CHARS_MAX).collect();
            format!("{what} ({why})")
        };
        let mut named: Vec<String> = denials.iter().take(NAMED_MAX).map(shown).collect();
        match denials.len() {
            0 => return None,
            all if all > named.len() => named.push(format!("and {} more", all - named.len())),
            _ => {}
        }
        let (named, project) = (named.join(", "), &self.project);
        Some(format!("it wanted to reach {named}, which egress.hosts of project {project} does not allow"))
    }

    /// What kept a command from a network it seems to have looked for, as far as its output tells.
    pub fn kept_in(&self, output: &str) -> Option<String> {
        let output = output.to_lowercase();
        let looked = OFFLINE.iter().any(|words| output.contains(words));
        let walled = self.out.is_none() && self.level != Level::None;
        (looked && walled).then(|| {
            let project = &self.project;
            format!(
                "it seems to have looked for the network, and egress.hosts of project {project} lists no host it may reach"
            )
        })
    }
}
