//! A host over SSH. Every request is a separate connection that runs one script (`remote.sh`), which receives all data
//! through its standard input.
//!
//! A check runs only as long as its connection: when the script sees the end of its input, it ends the check.

use super::MAX_OUTPUT_BYTES;
use super::client::{Call, Client, MAX_REPLY_BYTES, SHORT_TIMEOUT, TREE_TIMEOUT};
use super::sessions::{RemoteRunner, SessionGuard};
use super::settings::Ssh;
use super::{NoReport, RunnerSession};
use crate::domain::CheckSpec;
use crate::platform::access::broker::CommandAccess;
use crate::platform::process::{Input, OnOutput, ProcessOutput};
use crate::platform::terminal_text;
use crate::ports::{PortError, PortResult};
use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use std::ffi::OsString;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

/// The script that runs on the host.
const SCRIPT: &str = include_str!("remote.sh");
/// Prefix of the line the script prints when it completes, followed by the command's exit code or `time`.
const END: &str = "skep-end ";
/// Prefix of the line it prints when it cannot carry out the request, followed by the reason.
const FAIL: &str = "skep-fail ";
/// Prefix of a reason that concerns the report.
const REPORT_PREFIX: &str = "report ";
/// Time that a connection may outlast the check's timeout, which the host itself enforces.
const GRACE: Duration = Duration::from_secs(60);
/// Options of the connection: no machine or user settings, known host keys only, one key, no forwarding.
#[rustfmt::skip]
const OPTIONS: [&str; 26] = [
    "BatchMode=yes", "StrictHostKeyChecking=yes", "GlobalKnownHostsFile=/dev/null", "UpdateHostKeys=no", "VerifyHostKeyDNS=no",
    "IdentitiesOnly=yes", "IdentityAgent=none", "PreferredAuthentications=publickey", "PasswordAuthentication=no",
    "KbdInteractiveAuthentication=no", "ForwardAgent=no", "ForwardX11=no", "ClearAllForwardings=yes", "ControlMaster=no",
    "ControlPath=none", "ProxyCommand=none", "PermitLocalCommand=no", "CanonicalizeHostname=no", "RequestTTY=no",
    "EscapeChar=none", "LogLevel=ERROR", "ConnectTimeout=15", "ConnectionAttempts=1", "ServerAliveInterval=10",
    "ServerAliveCountMax=3", "TCPKeepAlive=yes",
];

/// A host as a runner.
pub struct SshRunner {
    name: String,
    settings: Ssh,
    client: Client,
}

/// Result of a request that reached the host.
pub(in crate::adapters) enum Reply {
    /// The script completed; the text after [`END`].
    Completed(String),
    /// The script could not carry out the request; the reason.
    Failed(String),
}

impl SshRunner {
    /// Creates the runner with this name and these settings.
    pub fn new(name: &str, settings: &Ssh) -> SshRunner {
        Self::with_script(name, settings, SCRIPT)
    }

    /// Creates the runner with another script for its requests. It must not contain a single quote.
    pub(in crate::adapters) fn with_script(name: &str, settings: &Ssh, script: &str) -> SshRunner {
        let mut args: Vec<OsString> = vec!["-F".into(), "/dev/null".into()];
        for option in OPTIONS {
            args.extend(["-o".into(), option.into()]);
        }
        // Quoted, because ssh splits an option's value into words. The configuration refuses quotes in it.
        args.extend(["-o".into(), format!("UserKnownHostsFile=\"{}\"", settings.known_hosts.display()).into()]);
        args.extend(["-i".into(), settings.identity_file.clone().into(), "-l".into(), settings.user.clone().into()]);
        args.extend(["-p".into(), settings.port.to_string().into(), "--".into(), settings.host.clone().into()]);
        args.push(format!("exec /bin/sh -c '{script}'").into());
        let client = Client { program: "ssh", package: "openssh-client", args, env: Vec::new() };
        SshRunner { name: name.to_owned(), settings: settings.clone(), client }
    }

    /// Returns the folder for Skep's files on the host.
    pub(in crate::adapters) fn dir(&self) -> &str {
        &self.settings.dir
    }

    /// Sends a request: its lines, then its input.
    pub(in crate::adapters) async fn request(
        &self,
        lines: &[&str],
        input: Input,
        (timeout, max_bytes): (Duration, usize),
    ) -> PortResult<(Reply, ProcessOutput)> {
        let mut stdin = lines.join("\n").into_bytes();
        stdin.push(b'\n');
        let is_binary = lines[0] == "fetch";
        let call = Call { args: Vec::new(), input, stdin, timeout, max_bytes, is_binary, runner: &self.name };
        let finished = self.client.run(call).await?;
        let output = terminal_text::sanitize(&finished.stderr);
        let line =
            |prefix: &str| output.lines().rev().find_map(|l| l.strip_prefix(prefix)).map(str::trim).map(str::to_owned);
        if finished.timed_out {
            let why = format!("the request `{}` did not complete within {} s", lines[0], timeout.as_secs());
            return Err(self.unavailable(&why));
        }
        match (line(END), line(FAIL)) {
            (Some(end), _) if finished.code == Some(0) => Ok((Reply::Completed(end), finished)),
            (_, Some(why)) => {
                // The message of tar or mkdir, if any, precedes the reason.
                let cause =
                    output.lines().find(|l| !l.starts_with(FAIL)).map_or_else(String::new, |l| format!(" ({l})"));
                Ok((Reply::Failed(format!("{why}{cause}")), finished))
            }
            _ => Err(self.connection_error(&output)),
        }
    }

    /// Sends a request whose failure is a fault of the runner.
    async fn must(
        &self,
        lines: &[&str],
        input: Input,
        limits: (Duration, usize),
    ) -> PortResult<(String, ProcessOutput)> {
        match self.request(lines, input, limits).await? {
            (Reply::Completed(end), finished) => Ok((end, finished)),
            (Reply::Failed(why), _) => Err(self.unavailable(&why)),
        }
    }

    fn request_head<'a>(&'a self, operation: &'a str, owner_id: &'a str, session: &'a str) -> [&'a str; 4] {
        [operation, &self.settings.dir, owner_id, session]
    }

    /// Creates the error for a host that cannot carry out requests now.
    pub(in crate::adapters) fn unavailable(&self, why: &str) -> PortError {
        let Ssh { host, port, .. } = &self.settings;
        let why: String = why.chars().take(500).collect();
        PortError::transient(format!(
            "runner {} ({host} port {port}) is unavailable: {}; `skep runner test {}` checks it again",
            self.name,
            why.trim().replace('\n', "; "),
            self.name
        ))
    }

    /// Creates the error for a request that did not complete, from the output of ssh.
    fn connection_error(&self, output: &str) -> PortError {
        let Ssh { host, port, user, known_hosts, identity_file, .. } = &self.settings;
        let name = &self.name;
        let has = |part: &str| output.contains(part);
        if has("HOST IDENTIFICATION HAS CHANGED") || has("Host key verification failed") {
            let changed = match has("HAS CHANGED") {
                true => "its host key has changed; another machine may be answering for it",
                false => "its host key is unknown",
            };
            return PortError::permanent(
                format!("runner {name} ({host} port {port}) is unusable: {changed}"),
                format!(
                    "compare the key with the one the host's administrator gives you, then add its line to {}",
                    known_hosts.display()
                ),
            );
        }
        if has("Permission denied") || has("Too many authentication failures") || has("UNPROTECTED PRIVATE KEY") {
            let why = match has("UNPROTECTED PRIVATE KEY") {
                true => "its private key is readable by other users, so ssh refuses it",
                false => "it rejected this user and key",
            };
            return PortError::permanent(
                format!("runner {name} ({user}@{host} port {port}) is unusable: {why}"),
                format!(
                    "add the public key of {0} to {user}'s authorized_keys there, and make the private key readable by its owner only (chmod 600 {0})",
                    identity_file.display()
                ),
            );
        }
        match terminal_text::last_line(output, 300) {
            Some(line) => self.unavailable(&line),
            None => self.unavailable("the connection ended before the request completed"),
        }
    }
}

#[async_trait]
impl RemoteRunner for SshRunner {
    fn file_owner(&self) -> (u32, u32) {
        // Ignored there: the user who unpacks the archive owns its files.
        (0, 0)
    }

    async fn sweep(&self, owner_id: &str, live: &[String]) -> PortResult<()> {
        let live = live.join(" ");
        let lines = [&self.request_head("sweep", owner_id, "-")[..], &[&live]].concat();
        self.must(&lines, Input::Closed, (TREE_TIMEOUT, MAX_REPLY_BYTES)).await.map(drop)
    }

    async fn probe(&self, owner_id: &str) -> PortResult<String> {
        self.must(&self.request_head("probe", owner_id, "-"), Input::Closed, (SHORT_TIMEOUT, MAX_REPLY_BYTES)).await?;
        Ok(format!("logged in as {}@{}, and all required tools are installed", self.settings.user, self.settings.host))
    }

    async fn create_session(self: Arc<Self>, guard: SessionGuard, archive: File) -> PortResult<Box<dyn RunnerSession>> {
        let lines = self.request_head("open", guard.owner_id(), &guard.id);
        self.must(&lines, Input::ThenFile(archive), (TREE_TIMEOUT, MAX_REPLY_BYTES)).await?;
        Ok(Box::new(SshSession { host: self, guard }))
    }
}

/// A session's folder on the host.
struct SshSession {
    host: Arc<SshRunner>,
    guard: SessionGuard,
}

#[async_trait]
impl RunnerSession for SshSession {
    async fn run(
        &mut self,
        spec: &CheckSpec,
        _access: &CommandAccess,
        _on_output: OnOutput,
    ) -> PortResult<Result<ProcessOutput, String>> {
        let timeout_secs = spec.timeout_secs.max(1);
        let (secs, line) = (timeout_secs.to_string(), BASE64_STANDARD.encode(&spec.command));
        let head = self.host.request_head("run", self.guard.owner_id(), &self.guard.id);
        let lines = [&head[..], &[&secs, spec.junit.as_deref().unwrap_or(""), &line]].concat();
        let limits = (Duration::from_secs(timeout_secs) + GRACE, MAX_OUTPUT_BYTES);
        let (end, mut finished) = match self.host.request(&lines, Input::HeldOpen, limits).await? {
            (Reply::Completed(end), finished) => (end, finished),
            (Reply::Failed(why), _) => {
                return match why.strip_prefix(REPORT_PREFIX) {
                    Some(why) => Ok(Err(why.to_owned())),
                    None => Err(self.host.unavailable(&why)),
                };
            }
        };
        (finished.code, finished.timed_out) = (end.parse().ok(), end == "time");
        if finished.code.is_none() && !finished.timed_out {
            return Err(self.host.unavailable(&format!("it returned an invalid exit code: {end}")));
        }
        Ok(Ok(finished))
    }

    async fn report(&mut self, path: &str, max_bytes: u64) -> PortResult<Result<Vec<u8>, NoReport>> {
        // One byte more than allowed reveals that the report is too large.
        let fetch_bytes = (max_bytes + 1).to_string();
        let head = self.host.request_head("fetch", self.guard.owner_id(), &self.guard.id);
        let lines = [&head[..], &[path, &fetch_bytes]].concat();
        let capacity = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        let unusable = |why: String| Ok(Err(NoReport::Unusable(why)));
        match self.host.request(&lines, Input::Closed, (TREE_TIMEOUT, capacity)).await? {
            (Reply::Completed(_), finished) if finished.truncated => {
                unusable(format!("has more than {max_bytes} bytes"))
            }
            (Reply::Completed(_), finished) => Ok(Ok(finished.stdout)),
            (Reply::Failed(why), _) => match why.strip_prefix(REPORT_PREFIX) {
                Some(why) if why.starts_with("missing") => Ok(Err(NoReport::Missing)),
                Some(why) => unusable(why.to_owned()),
                None => Err(self.host.unavailable(&why)),
            },
        }
    }

    async fn close(self: Box<Self>) {
        self.guard.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> SshRunner {
        let settings = Ssh {
            host: "box".into(),
            port: 22,
            user: "ci".into(),
            identity_file: "/k/id".into(),
            known_hosts: "/k/known".into(),
            dir: ".skep".into(),
        };
        SshRunner::new("far", &settings)
    }

    #[test]
    fn the_script_is_one_argument_of_the_login_shell() {
        assert!(!SCRIPT.contains('\''), "a single quote would end the argument");
        let args = host().client.args;
        let separator = args.iter().position(|a| a == "--").unwrap();
        assert_eq!((args[separator + 1].to_str(), args.len()), (Some("box"), separator + 3));
    }

    #[test]
    fn output_of_ssh_maps_to_a_cause_and_a_fix() {
        let permanent = [
            (
                "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
                "has changed",
                "/k/known",
            ),
            ("No ED25519 host key is known for box\nHost key verification failed.", "is unknown", "/k/known"),
            ("ci@box: Permission denied (publickey).", "rejected this user", "authorized_keys"),
        ];
        for (output, what, fix) in permanent {
            let PortError::Permanent { what: cause, fix: advice } = host().connection_error(output) else {
                panic!("{output}")
            };
            assert!(cause.contains(what) && cause.contains("far") && advice.contains(fix), "{cause}: {advice}");
        }
        for output in ["ssh: connect to host box port 22: Connection refused", "Connection closed by remote host", ""] {
            assert!(matches!(host().connection_error(output), PortError::Transient { .. }), "{output}");
        }
    }
}
