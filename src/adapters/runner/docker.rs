//! Containers of a Docker engine, by its own program: for each check one of its own, without rights, without a network unless a person
//! named one; for the checks of one run a volume with the checkout. Nothing of the host's is mounted.
//!
//! A container ends with its check, and with it all it has left running. It reads from the program that started it: when that is
//! gone, the container ends itself.

use super::LOG_KEPT;
use super::client::{Call, Client, QUICK, TREE};
use super::sessions::{RemoteRunner, SessionGuard};
use super::{NoReport, RunnerSession, archive};
use crate::adapters::runner::settings::Docker;
use crate::domain::CheckSpec;
use crate::platform::access::broker::CommandAccess;
use crate::platform::process::{Input, ProcessOutput};
use crate::platform::terminal_text;
use crate::ports::{PortError, PortResult};
use async_trait::async_trait;
use serde::Deserialize;
use std::ffi::OsString;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

/// Labels by which a later start finds what an earlier one left.
const OWNER_LABEL: &str = "skep.owner";
const SESSION_LABEL: &str = "skep.session";
/// Where the volume is in a container.
const ROOT: &str = "/skep";
/// How much larger than its file a tar may be.
const TAR: usize = 64 * 1024;
/// What the script says when it does not even start the command; ends with this code then.
const REPORT: &str = "skep-fail report ";
const REPORT_CODE: i32 = 125;

/// What is run in a container: `$1` is where the report goes (relative, checked, perhaps empty), `$2` the check's command.
const SCRIPT: &str = r#"
ulimit -c 0
ulimit -n 4096 2>/dev/null
exec 3<&0
(while IFS= read -r _; do :; done; kill -9 -1) <&3 >/dev/null 2>&1 3<&- &
exec 2>&1 </dev/null 3<&-
if [ -n "$1" ]; then
    part= rest=$1
    while [ -n "$rest" ]; do
        part=$part${rest%%/*}
        [ ! -L "$part" ] || { echo "skep-fail report leads through a symbolic link"; exit 125; }
        case $rest in */*) rest=${rest#*/} part=$part/ ;; *) rest= ;; esac
    done
    [ ! -e "$1" ] || rm -f "./$1" || { echo "skep-fail report cannot be removed"; exit 125; }
fi
exec /bin/sh -c "$2"
"#;

/// Variables of a check.
#[rustfmt::skip]
const ENVIRONMENT: [(&str, &str); 11] = [
    ("HOME", "/skep/home"), ("TMPDIR", "/skep/tmp"), ("SHELL", "/bin/sh"), ("LANG", "C.UTF-8"), ("TERM", "dumb"), ("CI", "true"),
    ("SKEP", "1"), ("NO_COLOR", "1"), ("GIT_TERMINAL_PROMPT", "0"), ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
    ("PYTHONDONTWRITEBYTECODE", "1"),
];

/// The state of a container, as the engine tells it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContainerState {
    #[serde(default)]
    status: String,
    #[serde(default)]
    running: bool,
    #[serde(default)]
    exit_code: i64,
    #[serde(default, rename = "OOMKilled")]
    out_of_memory: bool,
    #[serde(default)]
    error: String,
}

/// An engine.
pub struct DockerRunner {
    name: String,
    at: Docker,
    client: Client,
}

impl DockerRunner {
    /// The engine of a place.
    pub fn new(name: &str, at: &Docker) -> DockerRunner {
        // No settings, contexts or logins of the user's.
        let mut env = vec![("DOCKER_CONFIG", OsString::from("/nonexistent"))];
        if !at.docker_host.is_empty() {
            env.push(("DOCKER_HOST", (&at.docker_host).into()));
        }
        let client = Client { program: "docker", package: "docker.io", args: Vec::new(), env };
        DockerRunner { name: name.to_owned(), at: at.clone(), client }
    }

    async fn call<A: Into<OsString>>(&self, args: impl IntoIterator<Item = A>) -> PortResult<ProcessOutput> {
        self.client.run(Call::quick(&self.name, args)).await
    }

    /// One that must end well; gives what it printed.
    async fn must<A: Into<OsString>>(&self, args: impl IntoIterator<Item = A>) -> PortResult<String> {
        let call = Call { limit: TREE, ..Call::quick(&self.name, args) };
        let ended = self.client.run(call).await?;
        match ended.ok() && !ended.truncated {
            true => Ok(terminal_text::sanitize(&ended.stdout)),
            false => Err(self.trouble(&ended)),
        }
    }

    fn away(&self, why: &str) -> PortError {
        let name = &self.name;
        let why: String = why.chars().take(500).collect();
        PortError::transient(format!(
            "the place {name} ({}) cannot be used now: {}; `skep runner test {name}` looks again",
            self.at.image,
            why.trim().replace('\n', "; ")
        ))
    }

    /// What went wrong, from what docker said.
    fn trouble(&self, ended: &ProcessOutput) -> PortError {
        let said = terminal_text::sanitize(&ended.stderr);
        let (name, lower) = (&self.name, said.to_lowercase());
        let is = |part: &str| lower.contains(part);
        let line = terminal_text::last_line(&said, 300).unwrap_or_else(|| "docker did not come to its end".to_owned());
        let permanent = |why: &str, fix: String| {
            PortError::permanent(format!("the place {name} cannot be used: {why}: {line}"), fix)
        };
        if ended.timed_out {
            return self.away("docker did not answer in time");
        }
        if is("no such image") || is("image not known") {
            let fix = format!("put it there: `docker pull {}`; Skep fetches no images by itself", self.at.image);
            return permanent("the engine does not have its image", fix);
        }
        if is("permission denied") && is("connect") {
            return permanent("Skep's user may not use the engine", "let it write to the engine's socket".to_owned());
        }
        if is("unknown or invalid runtime") || is("network") && is("not found") || is("executable file not found") {
            return permanent(
                "the engine can't make its containers",
                format!("mend [places.{name}] in the configuration"),
            );
        }
        self.away(&line)
    }

    fn labels(owner_id: &str, session: &str) -> [String; 4] {
        ["--label".into(), format!("{OWNER_LABEL}={owner_id}"), "--label".into(), format!("{SESSION_LABEL}={session}")]
    }

    /// The arguments that make a check's container.
    fn container(&self, guard: &SessionGuard, name: &str, spec: &CheckSpec) -> Vec<String> {
        let at = &self.at;
        let (memory, user) = (format!("{}b", at.memory), format!("{}:{}", at.user.0, at.user.1));
        let mut args: Vec<String> = ["create", "--pull", "never", "--name", name].map(str::to_owned).into();
        args.extend(Self::labels(guard.owner_id(), &guard.id));
        let (cpus, pids) = (at.cpus.to_string(), at.processes.to_string());
        let volume = format!("{}:{ROOT}", volume(&guard.id));
        #[rustfmt::skip]
        args.extend([
            "--interactive", "--init", "--log-driver", "none", "--network", &at.network, "--cap-drop", "ALL",
            "--security-opt", "no-new-privileges", "--read-only", "--tmpfs", "/tmp:rw,exec,nosuid,nodev,size=256m,mode=1777",
            "--memory", &memory, "--memory-swap", &memory, "--cpus", &cpus, "--pids-limit", &pids,
            "--user", &user, "--workdir", "/skep/tree", "--volume", &volume, "--entrypoint", "/bin/sh",
        ].map(str::to_owned));
        for (name, value) in ENVIRONMENT {
            args.extend(["--env".to_owned(), format!("{name}={value}")]);
        }
        if !at.runtime.is_empty() {
            args.extend(["--runtime".to_owned(), at.runtime.clone()]);
        }
        let report = spec.junit.as_deref().unwrap_or("");
        // What follows the image is not read as options.
        args.extend([&at.image, "-c", SCRIPT, "skep", report, &spec.command].map(str::to_owned));
        args
    }

    /// How a container stands.
    async fn stood(&self, container: &str) -> PortResult<ContainerState> {
        let said = self.must(["container", "inspect", "--format", "{{json .State}}", container]).await?;
        serde_json::from_str(said.trim()).map_err(|e| self.away(&format!("docker tells a state that is none: {e}")))
    }
}

fn volume(session: &str) -> String {
    format!("skep-{session}")
}

/// Ids and names as engines write them: what else comes back is not handed to a program again.
fn is_id(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

#[async_trait]
impl RemoteRunner for DockerRunner {
    fn owner(&self) -> (u32, u32) {
        self.at.user
    }

    async fn sweep(&self, owner_id: &str, live: &[String]) -> PortResult<()> {
        let ours = format!("label={OWNER_LABEL}={owner_id}");
        let is_live = |session: &str| live.iter().any(|l| l == session);
        let format = format!("{{{{.ID}}}} {{{{.Label \"{SESSION_LABEL}\"}}}}");
        let list = self.must(["ps", "--all", "--no-trunc", "--filter", &ours, "--format", &format]).await?;
        let left = list.lines().filter_map(|l| l.split_once(' ')).filter(|(id, s)| is_id(id) && !is_live(s.trim()));
        for (id, _) in left {
            self.gone(&["rm", "--force", "--volumes", id]).await?;
        }
        let list = self.must(["volume", "ls", "--filter", &ours, "--format", "{{.Name}}"]).await?;
        for name in list.lines().map(str::trim).filter(|name| is_id(name)) {
            if name.strip_prefix("skep-").is_some_and(|session| !is_live(session)) {
                self.gone(&["volume", "rm", "--force", name]).await?;
            }
        }
        Ok(())
    }

    async fn probe(&self, _house: &str) -> PortResult<String> {
        let version = self.must(["version", "--format", "{{.Server.Version}}"]).await?;
        let id = self.must(["image", "inspect", "--format", "{{.Id}}", &self.at.image]).await?;
        let pinned = match self.at.image.contains("@sha256:") {
            true => "",
            false => "; named by a tag, which may come to mean another image: a digest (NAME@sha256:…) would not",
        };
        let id: String = id.trim().chars().take(19).collect();
        Ok(format!("the engine {} answers and has the image ({id}){pinned}", version.trim()))
    }

    async fn create_session(self: Arc<Self>, guard: SessionGuard, archive: File) -> PortResult<Box<dyn RunnerSession>> {
        let (volume, labels) = (volume(&guard.id), Self::labels(guard.owner_id(), &guard.id));
        let mut make = vec!["volume".to_owned(), "create".to_owned()];
        make.extend(labels.iter().cloned().chain([volume.clone()]));
        self.must(make).await?;
        let (hand, mount) = (format!("{volume}-put"), format!("{volume}:{ROOT}"));
        let mut make: Vec<String> = ["create", "--pull", "never", "--name", &hand].map(str::to_owned).into();
        make.extend(labels);
        let rest = ["--network", "none", "--volume", &mount, "--entrypoint", "/bin/sh", &self.at.image];
        make.extend(rest.map(str::to_owned));
        self.must(make).await?;
        let to = format!("{hand}:{ROOT}");
        let input = Input::ThenFile(archive);
        let put = Call { input, limit: TREE, ..Call::quick(&self.name, ["cp", "-", &to]) };
        let ended = self.client.run(put).await?;
        if !ended.ok() {
            return Err(self.trouble(&ended));
        }
        self.gone(&["rm", "--force", "--volumes", &hand]).await?;
        Ok(Box::new(DockerSession { engine: self, guard, count: 0 }))
    }
}

impl DockerRunner {
    /// Removes something that may be gone already.
    async fn gone(&self, args: &[&str]) -> PortResult<()> {
        let ended = self.client.run(Call { limit: TREE, ..Call::quick(&self.name, args) }).await?;
        let said = String::from_utf8_lossy(&ended.stderr).to_lowercase();
        match ended.ok() || said.contains("no such") || said.contains("already in progress") {
            true => Ok(()),
            false => Err(self.trouble(&ended)),
        }
    }
}

/// A session's volume and its latest container.
struct DockerSession {
    engine: Arc<DockerRunner>,
    guard: SessionGuard,
    count: u32,
}

impl DockerSession {
    fn latest(&self) -> String {
        format!("{}-{}", volume(&self.guard.id), self.count)
    }
}

#[async_trait]
impl RunnerSession for DockerSession {
    async fn run(&mut self, spec: &CheckSpec, _given: &CommandAccess) -> PortResult<Result<ProcessOutput, String>> {
        let engine = self.engine.clone();
        if self.count > 0 {
            engine.gone(&["rm", "--force", "--volumes", &self.latest()]).await?;
        }
        self.count += 1;
        let name = self.latest();
        engine.must(engine.container(&self.guard, &name, spec)).await?;
        let call = Call {
            input: Input::HeldOpen,
            limit: Duration::from_secs(spec.timeout_secs.max(1)),
            keep: LOG_KEPT,
            ..Call::quick(&engine.name, ["start", "--attach", "--interactive", &name])
        };
        let mut ended = engine.client.run(call).await?;
        if ended.timed_out {
            // It may have ended just now.
            engine.call(["kill", &name]).await?;
        }
        let stood = engine.stood(&name).await?;
        if !stood.error.is_empty() || stood.status == "created" {
            let error = if stood.error.is_empty() { terminal_text::sanitize(&ended.stderr) } else { stood.error };
            ended.stderr = error.into_bytes();
            return Err(engine.trouble(&ended));
        }
        if stood.running {
            return Err(engine.away("the connection to the container ended before the container did"));
        }
        if ended.timed_out {
            return Ok(Ok(ended));
        }
        let code = i32::try_from(stood.exit_code).ok();
        if ended.code != code {
            // Not the command's own end: the engine went away, or somebody ended the container.
            let line = terminal_text::last_line(&terminal_text::sanitize(&ended.stderr), 200).unwrap_or_default();
            return Err(engine.away(&format!("the connection to the container was lost ({line})")));
        }
        if stood.out_of_memory && code != Some(0) {
            ended.stop_reason = Some(format!("it used more than the {} MiB of memory it has", engine.at.memory >> 20));
        }
        if code == Some(REPORT_CODE)
            && let Some(why) = String::from_utf8_lossy(&ended.stdout).trim_end().strip_prefix(REPORT)
        {
            return Ok(Err(why.to_owned()));
        }
        Ok(Ok(ended))
    }

    async fn report(&mut self, path: &str, most: u64) -> PortResult<Result<Vec<u8>, NoReport>> {
        let from = format!("{}:{ROOT}/{}/{path}", self.latest(), archive::TREE);
        let keep = usize::try_from(most).unwrap_or(usize::MAX).saturating_add(TAR);
        let call = Call { limit: QUICK, keep, raw: true, ..Call::quick(&self.engine.name, ["cp", &from, "-"]) };
        let ended = self.engine.client.run(call).await?;
        if ended.truncated {
            return Ok(Err(NoReport::Refused(format!("has more than {most} bytes"))));
        }
        if ended.ok() {
            return Ok(archive::one_file(&ended.stdout, most).map_err(NoReport::Refused));
        }
        let said = String::from_utf8_lossy(&ended.stderr).to_lowercase();
        match said.contains("could not find") || said.contains("no such file") || said.contains("not a directory") {
            true => Ok(Err(NoReport::Missing)),
            false => Err(self.engine.trouble(&ended)),
        }
    }

    async fn leave(self: Box<Self>) {
        self.guard.leave().await;
    }
}
