//! Containers of a Docker engine: one unprivileged container per check, without a network unless the configuration
//! names one, and one volume per checkout. Nothing of the host is mounted.
//!
//! A container ends with its check, together with every process the check left running. Its standard input is held by
//! the `docker` program that started it: when that program dies, the container ends itself.
//!
//! Skep drives the `docker` program rather than the engine's API through `bollard`. The crate itself is small (it adds
//! `bollard`, `bollard-stubs`, `hyperlocal` and `serde_repr`, and reuses hyper 1). But Skep already bounds, redacts and
//! reaps the program as it does `ssh`, the program also drives Podman, and a scripted double in the tests checks its
//! command line flag by flag. A typed API would need its own attach, tar upload and cancellation code, and a fake
//! engine in the tests.

use super::MAX_OUTPUT_BYTES;
use super::client::{Call, Client, TREE_TIMEOUT};
use super::sessions::{RemoteRunner, SessionGuard};
use super::settings::Docker;
use super::{NoReport, RunnerSession, archive};
use crate::domain::CheckSpec;
use crate::platform::access::broker::CommandAccess;
use crate::platform::process::{Input, OnOutput, ProcessOutput, StopReason};
use crate::platform::terminal_text;
use crate::ports::{PortError, PortResult};
use async_trait::async_trait;
use serde::Deserialize;
use std::ffi::OsString;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

/// Labels by which a later start finds what an earlier process left.
const OWNER_LABEL: &str = "skep.owner";
const SESSION_LABEL: &str = "skep.session";
/// Mount point of the volume in a container.
const ROOT: &str = "/skep";
/// Upper bound on the size of a one-file tar beyond the file itself.
const MAX_TAR_OVERHEAD: usize = 64 * 1024;
/// Prefix of the script's output, and its exit code, when the report's path is unusable and the command is not started.
const REPORT_PREFIX: &str = "skep-fail report ";
const REPORT_CODE: i32 = 125;

/// Script run in a container: `$1` is the report's path (relative and validated, or empty), `$2` the check's command.
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
    [ ! -e "$1" ] || rm -f "./$1" || { echo "skep-fail report cannot be cleared"; exit 125; }
fi
exec /bin/sh -c "$2"
"#;

/// Environment of a check.
#[rustfmt::skip]
const ENVIRONMENT: [(&str, &str); 9] = [
    ("HOME", "/skep/home"), ("TMPDIR", "/skep/tmp"), ("SHELL", "/bin/sh"), ("LANG", "C.UTF-8"), ("TERM", "dumb"), ("CI", "true"),
    ("SKEP", "1"), ("GIT_TERMINAL_PROMPT", "0"), ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
];

/// State of a container as reported by the engine.
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

/// A Docker engine as a runner.
pub struct DockerRunner {
    name: String,
    settings: Docker,
    client: Client,
}

impl DockerRunner {
    /// Creates the runner with this name and these settings.
    pub fn new(name: &str, settings: &Docker) -> DockerRunner {
        // Excludes the user's settings, contexts and logins.
        let mut env = vec![("DOCKER_CONFIG", OsString::from("/nonexistent"))];
        if !settings.docker_host.is_empty() {
            env.push(("DOCKER_HOST", (&settings.docker_host).into()));
        }
        let client = Client { program: "docker", package: "docker.io", args: Vec::new(), env };
        DockerRunner { name: name.to_owned(), settings: settings.clone(), client }
    }

    async fn call<A: Into<OsString>>(&self, args: impl IntoIterator<Item = A>) -> PortResult<ProcessOutput> {
        self.client.run(Call::short(&self.name, args)).await
    }

    /// Runs a command that must succeed. Returns its output.
    async fn must<A: Into<OsString>>(&self, args: impl IntoIterator<Item = A>) -> PortResult<String> {
        let call = Call { timeout: TREE_TIMEOUT, ..Call::short(&self.name, args) };
        let finished = self.client.run(call).await?;
        match finished.ok() && !finished.truncated {
            true => Ok(terminal_text::sanitize(&finished.stdout)),
            false => Err(self.docker_error(&finished)),
        }
    }

    fn unavailable(&self, why: &str) -> PortError {
        let name = &self.name;
        let why: String = why.chars().take(500).collect();
        PortError::transient(format!(
            "runner {name} ({}) is unavailable: {}; `skep runner test {name}` checks it again",
            self.settings.image,
            why.trim().replace('\n', "; ")
        ))
    }

    /// Creates the error for a failed command, from the output of docker.
    fn docker_error(&self, finished: &ProcessOutput) -> PortError {
        let output = terminal_text::sanitize(&finished.stderr);
        let (name, lower) = (&self.name, output.to_lowercase());
        let has = |part: &str| lower.contains(part);
        let line = terminal_text::last_line(&output, 300).unwrap_or_else(|| "docker printed no message".to_owned());
        let permanent =
            |why: &str, fix: String| PortError::permanent(format!("runner {name} is unusable: {why}: {line}"), fix);
        if finished.timed_out {
            return self.unavailable("docker did not respond in time");
        }
        if has("no such image") || has("image not known") {
            let fix = format!("pull it: `docker pull {}`; Skep never pulls images", self.settings.image);
            return permanent("its image is missing on the engine", fix);
        }
        if has("permission denied") && has("connect") {
            let fix = "give the user Skep runs as write access to the engine's socket".to_owned();
            return permanent("Skep has no access to the engine", fix);
        }
        if has("unknown or invalid runtime") || has("network") && has("not found") || has("executable file not found") {
            return permanent(
                "the engine cannot create its containers",
                format!("fix [runners.{name}] in the configuration"),
            );
        }
        self.unavailable(&line)
    }

    fn labels(owner_id: &str, session: &str) -> [String; 4] {
        ["--label".into(), format!("{OWNER_LABEL}={owner_id}"), "--label".into(), format!("{SESSION_LABEL}={session}")]
    }

    /// Arguments that create the container of a check.
    fn container(&self, guard: &SessionGuard, name: &str, spec: &CheckSpec) -> Vec<String> {
        let settings = &self.settings;
        let (memory, user) = (format!("{}b", settings.memory), format!("{}:{}", settings.user.0, settings.user.1));
        let mut args: Vec<String> = ["create", "--pull", "never", "--name", name].map(str::to_owned).into();
        args.extend(Self::labels(guard.owner_id(), &guard.id));
        let (cpus, pids) = (settings.cpus.to_string(), settings.processes.to_string());
        let volume = format!("{}:{ROOT}", volume(&guard.id));
        #[rustfmt::skip]
        args.extend([
            "--interactive", "--init", "--log-driver", "none", "--network", &settings.network, "--cap-drop", "ALL",
            "--security-opt", "no-new-privileges", "--read-only", "--tmpfs", "/tmp:rw,exec,nosuid,nodev,size=256m,mode=1777",
            "--memory", &memory, "--memory-swap", &memory, "--cpus", &cpus, "--pids-limit", &pids,
            "--user", &user, "--workdir", "/skep/tree", "--volume", &volume, "--entrypoint", "/bin/sh",
        ].map(str::to_owned));
        for (name, value) in ENVIRONMENT {
            args.extend(["--env".to_owned(), format!("{name}={value}")]);
        }
        if !settings.runtime.is_empty() {
            args.extend(["--runtime".to_owned(), settings.runtime.clone()]);
        }
        let report = spec.junit.as_deref().unwrap_or("");
        // Nothing after the image is parsed as an option.
        args.extend([&settings.image, "-c", SCRIPT, "skep", report, &spec.command].map(str::to_owned));
        args
    }

    /// Returns the state of a container.
    async fn state(&self, container: &str) -> PortResult<ContainerState> {
        let output = self.must(["container", "inspect", "--format", "{{json .State}}", container]).await?;
        serde_json::from_str(output.trim())
            .map_err(|e| self.unavailable(&format!("docker returned an invalid container state: {e}")))
    }
}

fn volume(session: &str) -> String {
    format!("skep-{session}")
}

/// Returns whether a text is an id or name as engines write them. Anything else an engine returns is not passed to a
/// program again.
fn is_id(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

#[async_trait]
impl RemoteRunner for DockerRunner {
    fn file_owner(&self) -> (u32, u32) {
        self.settings.user
    }

    async fn sweep(&self, owner_id: &str, live: &[String]) -> PortResult<()> {
        let filter = format!("label={OWNER_LABEL}={owner_id}");
        let is_live = |session: &str| live.iter().any(|l| l == session);
        let format = format!("{{{{.ID}}}} {{{{.Label \"{SESSION_LABEL}\"}}}}");
        let list = self.must(["ps", "--all", "--no-trunc", "--filter", &filter, "--format", &format]).await?;
        let dead = list.lines().filter_map(|l| l.split_once(' ')).filter(|(id, s)| is_id(id) && !is_live(s.trim()));
        for (id, _) in dead {
            self.remove(&["rm", "--force", "--volumes", id]).await?;
        }
        let list = self.must(["volume", "ls", "--filter", &filter, "--format", "{{.Name}}"]).await?;
        for name in list.lines().map(str::trim).filter(|name| is_id(name)) {
            if name.strip_prefix("skep-").is_some_and(|session| !is_live(session)) {
                self.remove(&["volume", "rm", "--force", name]).await?;
            }
        }
        Ok(())
    }

    async fn probe(&self, _owner_id: &str) -> PortResult<String> {
        let version = self.must(["version", "--format", "{{.Server.Version}}"]).await?;
        let id = self.must(["image", "inspect", "--format", "{{.Id}}", &self.settings.image]).await?;
        let pin_advice = match self.settings.image.contains("@sha256:") {
            true => "",
            false => "; a tag can move to another image, so prefer a digest (NAME@sha256:…)",
        };
        let id: String = id.trim().chars().take(19).collect();
        Ok(format!("engine {} responds and has the image ({id}){pin_advice}", version.trim()))
    }

    async fn create_session(self: Arc<Self>, guard: SessionGuard, archive: File) -> PortResult<Box<dyn RunnerSession>> {
        let (volume, labels) = (volume(&guard.id), Self::labels(guard.owner_id(), &guard.id));
        let mut create = vec!["volume".to_owned(), "create".to_owned()];
        create.extend(labels.iter().cloned().chain([volume.clone()]));
        self.must(create).await?;
        // A container that never runs, to copy the checkout into the volume.
        let (loader, mount) = (format!("{volume}-put"), format!("{volume}:{ROOT}"));
        let mut create: Vec<String> = ["create", "--pull", "never", "--name", &loader].map(str::to_owned).into();
        create.extend(labels);
        let rest = ["--network", "none", "--volume", &mount, "--entrypoint", "/bin/sh", &self.settings.image];
        create.extend(rest.map(str::to_owned));
        self.must(create).await?;
        let to = format!("{loader}:{ROOT}");
        let input = Input::ThenFile(archive);
        let copy = Call { input, timeout: TREE_TIMEOUT, ..Call::short(&self.name, ["cp", "-", &to]) };
        let finished = self.client.run(copy).await?;
        if !finished.ok() {
            return Err(self.docker_error(&finished));
        }
        self.remove(&["rm", "--force", "--volumes", &loader]).await?;
        Ok(Box::new(DockerSession { runner: self, guard, count: 0 }))
    }
}

impl DockerRunner {
    /// Runs a command that removes something; it may be gone already.
    async fn remove(&self, args: &[&str]) -> PortResult<()> {
        let finished = self.client.run(Call { timeout: TREE_TIMEOUT, ..Call::short(&self.name, args) }).await?;
        let output = String::from_utf8_lossy(&finished.stderr).to_lowercase();
        match finished.ok() || output.contains("no such") || output.contains("already in progress") {
            true => Ok(()),
            false => Err(self.docker_error(&finished)),
        }
    }
}

/// A session: its volume and its latest container.
struct DockerSession {
    runner: Arc<DockerRunner>,
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
    async fn run(
        &mut self,
        spec: &CheckSpec,
        _access: &CommandAccess,
        _on_output: OnOutput,
    ) -> PortResult<Result<ProcessOutput, String>> {
        let runner = self.runner.clone();
        if self.count > 0 {
            runner.remove(&["rm", "--force", "--volumes", &self.latest()]).await?;
        }
        self.count += 1;
        let name = self.latest();
        runner.must(runner.container(&self.guard, &name, spec)).await?;
        let call = Call {
            input: Input::HeldOpen,
            timeout: Duration::from_secs(spec.timeout_secs.max(1)),
            max_bytes: MAX_OUTPUT_BYTES,
            ..Call::short(&runner.name, ["start", "--attach", "--interactive", &name])
        };
        let mut finished = runner.client.run(call).await?;
        if finished.timed_out {
            // It may have ended in the meantime, so the result does not matter.
            runner.call(["kill", &name]).await?;
        }
        let state = runner.state(&name).await?;
        if !state.error.is_empty() || state.status == "created" {
            let error = if state.error.is_empty() { terminal_text::sanitize(&finished.stderr) } else { state.error };
            finished.stderr = error.into_bytes();
            return Err(runner.docker_error(&finished));
        }
        if state.running {
            return Err(runner.unavailable("the connection to the container ended before the container did"));
        }
        if finished.timed_out {
            return Ok(Ok(finished));
        }
        let code = i32::try_from(state.exit_code).ok();
        if finished.code != code {
            // The command did not end by itself: the engine went away, or someone killed the container.
            let line = terminal_text::last_line(&terminal_text::sanitize(&finished.stderr), 200).unwrap_or_default();
            return Err(runner.unavailable(&format!("the connection to the container was lost ({line})")));
        }
        if state.out_of_memory && code != Some(0) {
            let mib = runner.settings.memory >> 20;
            finished.stop_reason = Some(StopReason::Excess(format!("it exceeded its memory limit of {mib} MiB")));
        }
        if code == Some(REPORT_CODE)
            && let Some(why) = String::from_utf8_lossy(&finished.stdout).trim_end().strip_prefix(REPORT_PREFIX)
        {
            return Ok(Err(why.to_owned()));
        }
        Ok(Ok(finished))
    }

    async fn report(&mut self, path: &str, max_bytes: u64) -> PortResult<Result<Vec<u8>, NoReport>> {
        let from = format!("{}:{ROOT}/{}/{path}", self.latest(), archive::TREE);
        let capacity = usize::try_from(max_bytes).unwrap_or(usize::MAX).saturating_add(MAX_TAR_OVERHEAD);
        let call = Call { max_bytes: capacity, is_binary: true, ..Call::short(&self.runner.name, ["cp", &from, "-"]) };
        let finished = self.runner.client.run(call).await?;
        if finished.truncated {
            return Ok(Err(NoReport::Unusable(format!("has more than {max_bytes} bytes"))));
        }
        if finished.ok() {
            return Ok(archive::read_single_file(&finished.stdout, max_bytes).map_err(NoReport::Unusable));
        }
        let output = String::from_utf8_lossy(&finished.stderr).to_lowercase();
        let missing = ["could not find", "no such file", "not a directory"];
        match missing.iter().any(|text| output.contains(text)) {
            true => Ok(Err(NoReport::Missing)),
            false => Err(self.runner.docker_error(&finished)),
        }
    }

    async fn close(self: Box<Self>) {
        self.guard.close().await;
    }
}
