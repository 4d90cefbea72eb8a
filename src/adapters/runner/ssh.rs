//! A host over SSH. Each order is a connection of its own; what it does there is one script of Skep's own (`remote.sh`), which gets
//! every text through its standard input.
//!
//! A check goes on there only as long as its connection: the script sees the end of its input and ends all of it.

use super::LOG_KEPT;
use super::client::{Call, Client, QUICK, SAID, TREE};
use super::sessions::{RemoteRunner, SessionGuard};
use super::{NoReport, RunnerSession};
use crate::adapters::runner::settings::Ssh;
use crate::domain::CheckSpec;
use crate::platform::access::broker::CommandAccess;
use crate::platform::process::{Input, ProcessOutput};
use crate::platform::terminal_text;
use crate::ports::{PortError, PortResult};
use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use std::ffi::OsString;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

/// What is done there.
const SCRIPT: &str = include_str!("remote.sh");
/// What the script says, at the start of a line, when it has come to its end; with how the command ended.
const END: &str = "skep-end ";
/// The same when it cannot do what it was told.
const FAIL: &str = "skep-fail ";
/// What of that is about the report.
const REPORT: &str = "report ";
/// How much longer than its limit a check's connection may last: the host itself keeps the limit.
const GRACE: Duration = Duration::from_secs(60);
/// Settings of the connection: none of the machine's, none of the user's; known host keys only; one key; nothing is forwarded.
#[rustfmt::skip]
const OPTIONS: [&str; 26] = [
    "BatchMode=yes", "StrictHostKeyChecking=yes", "GlobalKnownHostsFile=/dev/null", "UpdateHostKeys=no", "VerifyHostKeyDNS=no",
    "IdentitiesOnly=yes", "IdentityAgent=none", "PreferredAuthentications=publickey", "PasswordAuthentication=no",
    "KbdInteractiveAuthentication=no", "ForwardAgent=no", "ForwardX11=no", "ClearAllForwardings=yes", "ControlMaster=no",
    "ControlPath=none", "ProxyCommand=none", "PermitLocalCommand=no", "CanonicalizeHostname=no", "RequestTTY=no",
    "EscapeChar=none", "LogLevel=ERROR", "ConnectTimeout=15", "ConnectionAttempts=1", "ServerAliveInterval=10",
    "ServerAliveCountMax=3", "TCPKeepAlive=yes",
];

/// A host.
pub struct SshRunner {
    name: String,
    at: Ssh,
    client: Client,
}

/// How an order ended.
enum Ended {
    /// To its end, which says this.
    Said(String),
    /// It cannot be done: why.
    Failed(String),
}

impl SshRunner {
    /// The host of a place.
    pub fn new(name: &str, at: &Ssh) -> SshRunner {
        let mut args: Vec<OsString> = vec!["-F".into(), "/dev/null".into()];
        for option in OPTIONS {
            args.extend(["-o".into(), option.into()]);
        }
        // Quoted: the value of an option is read as words. The configuration allows no quote in it.
        args.extend(["-o".into(), format!("UserKnownHostsFile=\"{}\"", at.known_hosts.display()).into()]);
        args.extend(["-i".into(), at.identity_file.clone().into(), "-l".into(), at.user.clone().into()]);
        args.extend(["-p".into(), at.port.to_string().into(), "--".into(), at.host.clone().into()]);
        args.push(format!("exec /bin/sh -c '{SCRIPT}'").into());
        let client = Client { program: "ssh", package: "openssh-client", args, env: Vec::new() };
        SshRunner { name: name.to_owned(), at: at.clone(), client }
    }

    /// Gives an order: its lines, then its input. `None` = no end was heard of.
    async fn order(
        &self,
        lines: &[&str],
        input: Input,
        (limit, keep): (Duration, usize),
    ) -> PortResult<(Ended, ProcessOutput)> {
        let mut stdin = lines.join("\n").into_bytes();
        stdin.push(b'\n');
        let raw = lines[0] == "fetch";
        let call = Call { args: Vec::new(), input, stdin, limit, keep, raw, runner: &self.name };
        let ended = self.client.run(call).await?;
        let said = terminal_text::sanitize(&ended.stderr);
        let line =
            |start: &str| said.lines().rev().find_map(|l| l.strip_prefix(start)).map(str::trim).map(str::to_owned);
        if ended.timed_out {
            return Err(self.away(&format!("the order {} did not end within {} s", lines[0], limit.as_secs())));
        }
        match (line(END), line(FAIL)) {
            (Some(end), _) if ended.code == Some(0) => Ok((Ended::Said(end), ended)),
            (_, Some(why)) => {
                // What tar or mkdir said comes before.
                let more = said.lines().find(|l| !l.starts_with(FAIL)).map_or_else(String::new, |l| format!(" ({l})"));
                Ok((Ended::Failed(format!("{why}{more}")), ended))
            }
            _ => Err(self.unreached(&said)),
        }
    }

    /// One whose failure is the place's.
    async fn must(
        &self,
        lines: &[&str],
        input: Input,
        bounds: (Duration, usize),
    ) -> PortResult<(String, ProcessOutput)> {
        match self.order(lines, input, bounds).await? {
            (Ended::Said(end), ended) => Ok((end, ended)),
            (Ended::Failed(why), _) => Err(self.away(&why)),
        }
    }

    fn head<'a>(&'a self, order: &'a str, owner_id: &'a str, session: &'a str) -> [&'a str; 4] {
        [order, &self.at.dir, owner_id, session]
    }

    fn away(&self, why: &str) -> PortError {
        let Ssh { host, port, .. } = &self.at;
        let why: String = why.chars().take(500).collect();
        PortError::transient(format!(
            "the place {} ({host} port {port}) cannot be used now: {}; `skep runner test {}` looks again",
            self.name,
            why.trim().replace('\n', "; "),
            self.name
        ))
    }

    /// Why the other side did not come to its end, from what ssh said.
    fn unreached(&self, said: &str) -> PortError {
        let Ssh { host, port, user, known_hosts, identity_file, .. } = &self.at;
        let name = &self.name;
        let is = |part: &str| said.contains(part);
        if is("HOST IDENTIFICATION HAS CHANGED") || is("Host key verification failed") {
            let changed = match is("HAS CHANGED") {
                true => "its host key is another than the one that is known: somebody may have taken its place",
                false => "its host key is not known",
            };
            return PortError::permanent(
                format!("the place {name} ({host} port {port}) cannot be used: {changed}"),
                format!(
                    "compare the key with what the host's owner tells you, then write its line into {}",
                    known_hosts.display()
                ),
            );
        }
        if is("Permission denied") || is("Too many authentication failures") || is("UNPROTECTED PRIVATE KEY") {
            let why = match is("UNPROTECTED PRIVATE KEY") {
                true => "others can read its private key, so it is not used",
                false => "it does not let this user in with this key",
            };
            return PortError::permanent(
                format!("the place {name} ({user}@{host} port {port}) cannot be used: {why}"),
                format!(
                    "put the public key of {0} into {user}'s authorized_keys there; the file must be this user's alone (chmod 600 {0})",
                    identity_file.display()
                ),
            );
        }
        match terminal_text::last_line(said, 300) {
            Some(line) => self.away(&line),
            None => self.away("the connection ended before the order did"),
        }
    }
}

#[async_trait]
impl RemoteRunner for SshRunner {
    fn owner(&self) -> (u32, u32) {
        // Whoever unpacks it owns it.
        (0, 0)
    }

    async fn sweep(&self, owner_id: &str, live: &[String]) -> PortResult<()> {
        let live = live.join(" ");
        let lines = [&self.head("sweep", owner_id, "-")[..], &[&live]].concat();
        self.must(&lines, Input::Closed, (TREE, SAID)).await.map(drop)
    }

    async fn probe(&self, owner_id: &str) -> PortResult<String> {
        self.must(&self.head("probe", owner_id, "-"), Input::Closed, (QUICK, SAID)).await?;
        Ok(format!("{}@{} lets Skep in, and has what is needed", self.at.user, self.at.host))
    }

    async fn create_session(self: Arc<Self>, guard: SessionGuard, archive: File) -> PortResult<Box<dyn RunnerSession>> {
        let lines = self.head("open", guard.owner_id(), &guard.id);
        self.must(&lines, Input::ThenFile(archive), (TREE, SAID)).await?;
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
    async fn run(&mut self, spec: &CheckSpec, _given: &CommandAccess) -> PortResult<Result<ProcessOutput, String>> {
        let limit = spec.timeout_secs.max(1);
        let (secs, line) = (limit.to_string(), BASE64_STANDARD.encode(&spec.command));
        let head = self.host.head("run", self.guard.owner_id(), &self.guard.id);
        let lines = [&head[..], &[&secs, spec.junit.as_deref().unwrap_or(""), &line]].concat();
        let bounds = (Duration::from_secs(limit) + GRACE, LOG_KEPT);
        let (end, mut ended) = match self.host.order(&lines, Input::HeldOpen, bounds).await? {
            (Ended::Said(end), ended) => (end, ended),
            (Ended::Failed(why), _) => {
                return match why.strip_prefix(REPORT) {
                    Some(why) => Ok(Err(why.to_owned())),
                    None => Err(self.host.away(&why)),
                };
            }
        };
        (ended.code, ended.timed_out) = (end.parse().ok(), end == "time");
        if ended.code.is_none() && !ended.timed_out {
            return Err(self.host.away(&format!("it tells an end that is none: {end}")));
        }
        Ok(Ok(ended))
    }

    async fn report(&mut self, path: &str, most: u64) -> PortResult<Result<Vec<u8>, NoReport>> {
        let one_more = (most + 1).to_string();
        let head = self.host.head("fetch", self.guard.owner_id(), &self.guard.id);
        let lines = [&head[..], &[path, &one_more]].concat();
        let keep = usize::try_from(most).unwrap_or(usize::MAX);
        let refused = |why: String| Ok(Err(NoReport::Refused(why)));
        match self.host.order(&lines, Input::Closed, (TREE, keep)).await? {
            (Ended::Said(_), ended) if ended.truncated => refused(format!("has more than {most} bytes")),
            (Ended::Said(_), ended) => Ok(Ok(ended.stdout)),
            (Ended::Failed(why), _) => match why.strip_prefix(REPORT) {
                Some(why) if why.starts_with("missing") => Ok(Err(NoReport::Missing)),
                Some(why) => refused(why.to_owned()),
                None => Err(self.host.away(&why)),
            },
        }
    }

    async fn leave(self: Box<Self>) {
        self.guard.leave().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> SshRunner {
        let at = Ssh {
            host: "box".into(),
            port: 22,
            user: "ci".into(),
            identity_file: "/k/id".into(),
            known_hosts: "/k/known".into(),
            dir: ".skep".into(),
        };
        SshRunner::new("far", &at)
    }

    #[test]
    fn the_script_is_one_argument_of_the_login_shell() {
        assert!(!SCRIPT.contains('\''), "a single quote would end the argument");
        let args = host().client.args;
        let at = args.iter().position(|a| a == "--").unwrap();
        assert_eq!((args[at + 1].to_str(), args.len()), (Some("box"), at + 3));
    }

    #[test]
    fn what_ssh_says_tells_who_must_do_what() {
        let wrong = [
            (
                "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
                "another than",
                "/k/known",
            ),
            ("No ED25519 host key is known for box\nHost key verification failed.", "not known", "/k/known"),
            ("ci@box: Permission denied (publickey).", "does not let", "authorized_keys"),
        ];
        for (said, what, fix) in wrong {
            let PortError::Permanent { what: is, fix: does } = host().unreached(said) else { panic!("{said}") };
            assert!(is.contains(what) && is.contains("far") && does.contains(fix), "{is}: {does}");
        }
        for said in ["ssh: connect to host box port 22: Connection refused", "Connection closed by remote host", ""] {
            assert!(matches!(host().unreached(said), PortError::Transient { .. }), "{said}");
        }
    }
}
