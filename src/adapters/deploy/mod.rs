//! Deployments: Docker Compose or a command on a host over SSH, a command where the project's checks run, or a deploy
//! hook.
//!
//! | file | duty |
//! |---|---|
//! | `host`, `remote.sh` | requests to a host, and the script that carries them out there |
//! | `compose` | what a compose file may do, and which services are at fault |
//! | `http` | requests to what is deployed, and to hooks |
//!
//! Invariant: nothing of a repository becomes a part of a command line on a host; values travel as data.

mod compose;
mod host;
mod http;

use crate::adapters::runner::settings::Runner;
use crate::adapters::runner::{PathFilter, pack};
use crate::domain::deployment::{Criterion, CriterionTest, Method, Target, fill};
use crate::domain::{CheckKind, CheckSpec};
use crate::platform::terminal_text;
use crate::ports::deployments::{DeployOrder, DeployResult, Deployer, Observed};
use crate::ports::{PortError, PortResult, SecretName, Trust, Vault, Workspaces};
use crate::secrets::Secret;
use async_trait::async_trait;
use host::{Environment, Host, HostOutput};
use http::{Expected, Http};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// Characters of an output that are kept.
const MAX_LOG_CHARS: usize = 16 * 1024;
/// Services whose lines are added to a report.
const MAX_LOGS: usize = 5;
/// The checkout of a rollout.
const CHECKOUT: &str = "deploy";

/// Brings versions to the configured targets.
pub struct Deploys {
    runners: BTreeMap<String, Runner>,
    workspaces: Arc<dyn Workspaces>,
    vault: Arc<dyn Vault>,
    /// Created with the first request, because loading certificates takes time.
    http: OnceLock<Result<Http, String>>,
    /// Names this Skep in the locks on hosts.
    key: String,
}

impl Deploys {
    /// Creates it. `key` is the id of the data directory.
    pub fn new(
        runners: BTreeMap<String, Runner>,
        workspaces: Arc<dyn Workspaces>,
        vault: Arc<dyn Vault>,
        key: &str,
    ) -> Deploys {
        Deploys { runners, workspaces, vault, http: OnceLock::new(), key: key.to_owned() }
    }

    fn http(&self) -> PortResult<&Http> {
        let created = self.http.get_or_init(Http::new);
        created.as_ref().map_err(|why| PortError::permanent(why, "check the certificates of this machine"))
    }

    /// Returns the host of a target; `None` = it has none.
    fn host<'a>(&'a self, order: &'a DeployOrder, timeout_secs: u64) -> PortResult<Option<Host<'a>>> {
        let Some(name) = &order.target.runner else { return Ok(None) };
        match self.runners.get(name) {
            Some(Runner::Ssh(ssh)) => {
                let names = (order.target.name.as_str(), self.key.as_str(), order.sha.as_str());
                Ok(Some(Host::new(name, ssh, names, timeout_secs)))
            }
            _ => Err(PortError::permanent(
                format!("there is no SSH runner {name}"),
                format!("fix deploy.{}.runner in the configuration", order.target.name),
            )),
        }
    }

    async fn secret(&self, name: &str, target: &Target) -> PortResult<Secret> {
        let parsed = SecretName::new(name).map_err(|why| PortError::permanent(why, "fix the configuration"))?;
        self.vault.open(&parsed, Some(&target.project)).await
    }

    /// Returns the environment of the commands of a target.
    async fn environment(&self, order: &DeployOrder) -> PortResult<Environment> {
        let target = &order.target;
        let plain = |name: &str, value: &str| (name.to_owned(), Secret::new(value.to_owned()));
        let mut all: Environment = target.env.iter().map(|(name, value)| plain(name, value)).collect();
        for name in &target.secrets {
            all.push((name.clone(), self.secret(name, target).await?));
        }
        all.push(plain("SKEP_SHA", order.sha.as_str()));
        all.push(plain("SKEP_TARGET", &target.name));
        Ok(all)
    }

    /// Sends the files of a version to the host.
    async fn send(&self, order: &DeployOrder, host: &Host<'_>) -> PortResult<()> {
        let filter = order.target.file_filter().map_err(|why| PortError::permanent(why, "fix the configuration"))?;
        let filter: PathFilter = Box::new(filter);
        let dir = self.workspaces.check_dir(&order.repo, order.id, CHECKOUT, &order.sha).await?;
        let archive = pack(&dir, dir.parent().unwrap_or(&dir), (0, 0), Some(filter)).await?;
        host.send(archive).await?;
        self.workspaces.remove_dir(&order.repo, order.id, CHECKOUT).await?;
        crate::fault!("after-deploy-send");
        Ok(())
    }

    async fn compose(
        &self,
        order: &DeployOrder,
        host: &Host<'_>,
        (file, project, allow): (&str, &str, &[String]),
    ) -> PortResult<DeployResult> {
        let environment = self.environment(order).await?;
        self.send(order, host).await?;
        let at = (project, file);
        let untouched = |log: String| Ok(DeployResult { passed: false, changed: false, log: end(&log) });
        let config = host.compose("config", at, &environment).await?;
        let (tree, json) = config.output.split_once('\n').unwrap_or_default();
        if config.code != 0 {
            return untouched(format!("the compose file cannot be used:\n{}", config.errors));
        }
        let parsed: Value = match serde_json::from_str(json) {
            Ok(parsed) => parsed,
            Err(e) => return untouched(format!("docker compose config returned no JSON: {e}")),
        };
        let problems = compose::problems(&parsed, tree, allow, order.target.probe().is_some());
        if !problems.is_empty() {
            return untouched(format!("the compose file is refused:\n{}", problems.join("\n")));
        }
        crate::fault!("after-deploy-config");
        let up = host.compose("up", at, &environment).await?;
        crate::fault!("after-deploy-up");
        if up.code != 0 {
            let mut log = limit_note(&up, order.target.timeout_secs);
            for (service, state) in self.unwell(host, at, &environment).await?.into_iter().take(MAX_LOGS) {
                let lines = host.logs(&service, at, &environment).await?;
                log.push_str(&format!("\nservice {service} is {state}; its last lines:\n{}", lines.output.trim_end()));
            }
            return Ok(DeployResult { passed: false, changed: true, log: end(&log) });
        }
        self.finish(order, host).await?;
        Ok(DeployResult { passed: true, changed: true, log: end(&up.output) })
    }

    async fn unwell(
        &self,
        host: &Host<'_>,
        at: (&str, &str),
        environment: &Environment,
    ) -> PortResult<Vec<(String, String)>> {
        Ok(compose::unwell(&host.compose("ps", at, environment).await?.output))
    }

    async fn finish(&self, order: &DeployOrder, host: &Host<'_>) -> PortResult<()> {
        host.finish(order.target.keep, order.keep_sha.as_ref().map(|sha| sha.as_str())).await?;
        crate::fault!("after-deploy-finish");
        Ok(())
    }

    async fn command(&self, order: &DeployOrder, command: &str) -> PortResult<DeployResult> {
        let line = fill(command, &order.target.name, &order.sha);
        let Some(host) = self.host(order, order.target.timeout_secs)? else {
            let observed = self.check(order, "deploy", &line, order.target.timeout_secs).await?;
            return Ok(DeployResult { passed: observed.passed, changed: true, log: end(&observed.got) });
        };
        let environment = self.environment(order).await?;
        self.send(order, &host).await?;
        let finished = host.command(&line, &environment).await?;
        crate::fault!("after-deploy-command");
        if finished.code != 0 {
            let log = end(&limit_note(&finished, order.target.timeout_secs));
            return Ok(DeployResult { passed: false, changed: true, log });
        }
        self.finish(order, &host).await?;
        Ok(DeployResult { passed: true, changed: true, log: end(&finished.output) })
    }

    /// Runs a command where the project's checks run.
    async fn check(&self, order: &DeployOrder, name: &str, line: &str, timeout_secs: u64) -> PortResult<Observed> {
        let spec = CheckSpec {
            name: name.to_owned(),
            kind: CheckKind::Accept,
            command: line.to_owned(),
            timeout_secs,
            junit: None,
            runner: None,
            detected: false,
        };
        let dir = self.workspaces.check_dir(&order.repo, order.id, CHECKOUT, &order.sha).await?;
        let (cache, _) = self.workspaces.scratch_dirs(order.id, CHECKOUT);
        let checked = order.checks.run(&order.repo, &dir, &cache, Trust::Unproven, &[spec]).await?;
        self.workspaces.remove_dir(&order.repo, order.id, CHECKOUT).await?;
        let Some(first) = checked.first() else {
            return Ok(Observed { passed: false, got: "the command was not run".to_owned() });
        };
        let result = &first.result;
        let got = match result.green {
            true => result.tail.clone(),
            false => format!("{}\n{}", result.why, result.tail),
        };
        Ok(Observed { passed: result.green, got })
    }

    async fn hook(
        &self,
        order: &DeployOrder,
        secret: &str,
        query: &BTreeMap<String, String>,
    ) -> PortResult<DeployResult> {
        let target = &order.target;
        // A call that was made before a crash may have been carried out.
        if let Some(criterion) = target.criteria.iter().find(|criterion| criterion.test.names_version())
            && self.test(order, criterion).await?.passed
        {
            let log = "the version is already deployed".to_owned();
            return Ok(DeployResult { passed: true, changed: true, log });
        }
        let address = self.secret(secret, target).await?;
        let called = self.http()?.call_hook(address.expose(), query, (&target.name, &order.sha)).await;
        crate::fault!("after-deploy-hook");
        match called {
            Ok((passed, log)) => Ok(DeployResult { passed, changed: passed, log }),
            Err(why) => Err(PortError::transient(format!("the deploy hook of {} did not answer: {why}", target.name))),
        }
    }
}

#[async_trait]
impl Deployer for Deploys {
    async fn deploy(&self, order: &DeployOrder) -> PortResult<DeployResult> {
        match &order.target.method {
            Method::Command { command } => self.command(order, command).await,
            Method::Hook { url_secret, query } => self.hook(order, url_secret, query).await,
            Method::Compose { file, name, allow } => match self.host(order, order.target.timeout_secs)? {
                Some(host) => self.compose(order, &host, (file, name, allow)).await,
                None => Err(PortError::permanent(
                    format!("the target {} has no host", order.target.name),
                    format!("add deploy.{}.runner to the configuration", order.target.name),
                )),
            },
        }
    }

    async fn test(&self, order: &DeployOrder, criterion: &Criterion) -> PortResult<Observed> {
        match &criterion.test {
            CriterionTest::Http { path, status, body } => {
                let url = order.target.url.as_deref().unwrap_or_default();
                let expected = Expected { path, status: *status, body: body.as_deref() };
                Ok(self.http()?.test(url, &expected, &order.target.name, &order.sha).await)
            }
            CriterionTest::Command { command } => {
                let line = fill(command, &order.target.name, &order.sha);
                let Some(host) = self.host(order, criterion.within_secs)? else {
                    return self.check(order, &criterion.name, &line, criterion.within_secs).await;
                };
                // A hook has sent no files.
                if matches!(order.target.method, Method::Hook { .. }) {
                    self.send(order, &host).await?;
                }
                let finished = host.command(&line, &self.environment(order).await?).await?;
                let got = format!("exit {}\n{}", finished.code, end(&finished.output));
                Ok(Observed { passed: finished.code == 0, got })
            }
        }
    }

    async fn release(&self, order: &DeployOrder) -> PortResult<()> {
        self.workspaces.release(&order.repo, order.id, &format!("skep/rollout-{}", order.id)).await?;
        match self.host(order, order.target.timeout_secs)? {
            Some(host) => host.unlock().await,
            None => Ok(()),
        }
    }
}

/// Returns the output of a command that failed, with the reason.
fn limit_note(finished: &HostOutput, timeout_secs: u64) -> String {
    let output = format!("{}\n{}", finished.output.trim_end(), finished.errors);
    match finished.code {
        // What `timeout` exits with.
        124 | 137 => format!("{output}\nit did not end within {timeout_secs} s"),
        code => format!("{output}\nit ended with {code}"),
    }
}

/// Returns the end of an output.
fn end(text: &str) -> String {
    let text = terminal_text::sanitize(text.trim().as_bytes());
    let skipped = text.chars().count().saturating_sub(MAX_LOG_CHARS);
    text.chars().skip(skipped).collect()
}
