//! The host of a deployment: requests that `remote.sh` carries out there, over SSH as for a runner.

use crate::adapters::runner::settings::Ssh;
use crate::adapters::runner::{Reply, SshRunner};
use crate::platform::process::Input;
use crate::ports::{PortError, PortResult};
use crate::secrets::Secret;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use std::fs::File;
use std::time::Duration;

/// The script that runs on the host.
const SCRIPT: &str = include_str!("remote.sh");
/// Time that a connection may outlast the limit of a request, which the host itself enforces; and that the request may
/// wait for an earlier one of this Skep.
const GRACE: Duration = Duration::from_secs(90);
/// Upper bound on the output of a request, in bytes: the last ones are kept.
const MAX_OUTPUT_BYTES: usize = 1024 * 1024;

/// A host, for one version on one target.
pub struct Host<'a> {
    ssh: SshRunner,
    target: &'a str,
    /// Names this Skep in the lock of the target.
    key: &'a str,
    sha: &'a str,
    timeout_secs: u64,
}

/// Result of a command on the host.
pub struct HostOutput {
    /// Exit code.
    pub code: i32,
    /// Its output, redacted.
    pub output: String,
    /// What it wrote to standard error, redacted, unless that is a part of the output.
    pub errors: String,
}

/// Values that are added to the environment of a command.
pub type Environment = Vec<(String, Secret)>;

impl<'a> Host<'a> {
    /// Names the host of a target.
    pub fn new(name: &str, settings: &Ssh, (target, key, sha): (&'a str, &'a str, &'a str), timeout_secs: u64) -> Self {
        Host { ssh: SshRunner::with_script(name, settings, SCRIPT), target, key, sha, timeout_secs }
    }

    /// Sends the files of the version, unless the host has them.
    pub async fn send(&self, archive: File) -> PortResult<()> {
        self.request("send", &[], Input::ThenFile(archive)).await.map(drop)
    }

    /// Runs a command line in the release.
    pub async fn command(&self, line: &str, environment: &Environment) -> PortResult<HostOutput> {
        let mut lines = vec![BASE64_STANDARD.encode(line)];
        lines.extend(encoded(environment));
        self.request("command", &lines, Input::HeldOpen).await
    }

    /// Runs one of the compose requests: `config`, `up` or `ps`.
    pub async fn compose(
        &self,
        operation: &str,
        (project, file): (&str, &str),
        environment: &Environment,
    ) -> PortResult<HostOutput> {
        let mut lines = vec![project.to_owned(), file.to_owned()];
        lines.extend(encoded(environment));
        self.request(operation, &lines, Input::HeldOpen).await
    }

    /// Returns the last lines of a service.
    pub async fn logs(
        &self,
        service: &str,
        (project, file): (&str, &str),
        environment: &Environment,
    ) -> PortResult<HostOutput> {
        // It is a line of the request, and comes from the host.
        let service: String = service.chars().filter(|c| !c.is_control()).take(200).collect();
        let mut lines = vec![service, project.to_owned(), file.to_owned()];
        lines.extend(encoded(environment));
        self.request("logs", &lines, Input::HeldOpen).await
    }

    /// Makes the version the current one, and removes old releases.
    pub async fn finish(&self, keep: u32, keep_sha: Option<&str>) -> PortResult<()> {
        let lines = [keep.to_string(), keep_sha.unwrap_or("-").to_owned()];
        self.request("finish", &lines, Input::HeldOpen).await.map(drop)
    }

    /// Gives up the lock.
    pub async fn unlock(&self) -> PortResult<()> {
        self.request("unlock", &[], Input::HeldOpen).await.map(drop)
    }

    async fn request(&self, operation: &str, more: &[String], input: Input) -> PortResult<HostOutput> {
        let limit = self.timeout_secs.to_string();
        let mut lines = vec![operation, self.ssh.dir(), self.target, self.key, limit.as_str(), self.sha];
        lines.extend(more.iter().map(String::as_str));
        let timeout = Duration::from_secs(self.timeout_secs.saturating_mul(2)) + GRACE;
        match self.ssh.request(&lines, input, (timeout, MAX_OUTPUT_BYTES)).await? {
            (Reply::Completed(end), finished) => {
                let code = end.parse().map_err(|_| self.ssh.unavailable("it returned an invalid exit code"))?;
                let text = |bytes: &[u8]| crate::platform::terminal_text::sanitize(bytes);
                let errors = text(&finished.stderr);
                let errors = errors.lines().filter(|line| !line.starts_with("skep-")).collect::<Vec<_>>().join("\n");
                Ok(HostOutput { code, output: text(&finished.stdout), errors })
            }
            (Reply::Failed(why), _) => Err(match why.strip_prefix("lacks ") {
                Some(program) => PortError::permanent(
                    format!("the host cannot deploy: {program} is not installed there"),
                    format!("install {program} on the host"),
                ),
                None => self.ssh.unavailable(&why),
            }),
        }
    }
}

/// Returns the lines of an environment: their number, then a name and an encoded value each.
fn encoded(environment: &Environment) -> Vec<String> {
    let pair = |(name, value): &(String, Secret)| format!("{name} {}", BASE64_STANDARD.encode(value.expose()));
    std::iter::once(environment.len().to_string()).chain(environment.iter().map(pair)).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_script_is_one_argument_of_the_login_shell() {
        assert!(!super::SCRIPT.contains('\''), "a single quote would end the argument");
    }
}
