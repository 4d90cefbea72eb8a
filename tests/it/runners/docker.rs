//! The Docker runner, driven through a scripted `docker` program that accepts only the command lines Skep uses, or the
//! real one.
//!
//! To test a real engine, set `SKEP_TEST_DOCKER_HOST` (its address) and `SKEP_TEST_DOCKER_IMAGE` (an image there with a
//! shell and coreutils), and run `cargo nextest run --run-ignored only -E
//! 'test(a_docker_engine_fulfils_the_runner_contract)'`.

use super::{checks, contract, one, spec};
use crate::support::cli::Cli;
use crate::support::sshd::running;
use skep::adapters::runner::settings::{Docker, Runner};
use skep::domain::CheckSpec;
use std::path::{Path, PathBuf};
use std::process::Command;

const HOST: &str = "SKEP_TEST_DOCKER_HOST";
const IMAGE: &str = "SKEP_TEST_DOCKER_IMAGE";

/// Writes the scripted program. Returns a PATH that contains it, and the address of its engine.
fn scripted(dir: &Path) -> (String, String) {
    let bin = dir.join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::write(bin.join("docker"), include_str!("docker.py")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bin.join("docker"), mode).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    (path, format!("unix://{}/engine", dir.display()))
}

fn runner(docker_host: &str, image: &str) -> Runner {
    Runner::Docker(Docker {
        image: image.to_owned(),
        docker_host: docker_host.to_owned(),
        network: "none".into(),
        memory: 512 << 20,
        cpus: 2,
        processes: 256,
        user: (65_534, 65_534),
        runtime: String::new(),
    })
}

#[test]
fn scripted_containers_fulfil_the_runner_contract() {
    // `docker` is found through the PATH of the process, so the test below runs in a child process whose PATH contains
    // the scripted program.
    let dir = tempfile::tempdir().unwrap();
    let (path, host) = scripted(dir.path());
    let mut child = Command::new(std::env::current_exe().unwrap());
    let test = "runners::docker::a_docker_engine_fulfils_the_runner_contract";
    child.args(["--exact", test, "--include-ignored", "--nocapture"]);
    let finished = child.env("PATH", path).env(HOST, &host).env(IMAGE, "image:1").output().unwrap();
    let output = String::from_utf8_lossy(&finished.stdout).into_owned() + &String::from_utf8_lossy(&finished.stderr);
    assert!(finished.status.success() && output.contains("1 passed"), "{output}");
    for kind in ["containers", "volumes"] {
        let remaining = std::fs::read_dir(dir.path().join("engine.d").join(kind)).unwrap().count();
        assert_eq!(remaining, 0, "{kind} remain");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine: set SKEP_TEST_DOCKER_HOST and SKEP_TEST_DOCKER_IMAGE"]
async fn a_docker_engine_fulfils_the_runner_contract() {
    let host = std::env::var(HOST).expect("the engine's address, in SKEP_TEST_DOCKER_HOST");
    let image = std::env::var(IMAGE).expect("the image's name, in SKEP_TEST_DOCKER_IMAGE");
    let checks = checks(runner(&host, &image));
    contract(&checks).await;
    let dir = tempfile::tempdir().unwrap();
    let left = one(&checks, dir.path(), spec("leaves", "sleep 6051 & (sleep 6051 &) ; echo left")).await.result;
    assert!(left.green && left.tail == "left\n", "{left:?}");
    let slow = CheckSpec { timeout_secs: 1, ..spec("slow", "sleep 6051 & sleep 6051") };
    assert!(one(&checks, dir.path(), slow).await.result.why.contains("timeout"));
    assert_eq!(running("sleep 6051"), [0_u32; 0]);
    let rights = one(
        &checks,
        dir.path(),
        spec("rights", "grep -q '^CapEff:.*0000000000000000' /proc/self/status && ! ls /run/docker.sock && id -u"),
    )
    .await;
    if std::env::var(IMAGE).is_ok_and(|image| image != "image:1") {
        assert!(rights.result.green && rights.result.tail == "65534\n", "{rights:?}");
    }
}

struct DockerCli {
    cli: Cli,
    path: String,
}

impl DockerCli {
    /// A data directory with a Docker runner whose steps are retried for `timeout`.
    fn new(image: &str, timeout: &str) -> DockerCli {
        let cli = Cli::new();
        let (path, host) = scripted(cli.dir.path());
        std::fs::create_dir(cli.path("data")).unwrap();
        let text = format!(
            "[runners.clean]\nkind = \"docker\"\nimage = {image:?}\ndocker_host = {host:?}\n[checks]\nrunner = \"clean\"\n[steps.ops]\ntimeout = {timeout:?}\n"
        );
        std::fs::write(cli.path("data/skep.toml"), text).unwrap();
        cli.repo("tool", &[("a.txt", "a\n")]);
        DockerCli { cli, path }
    }
    fn skep(&self, args: &[&str]) -> Command {
        let mut command = self.cli.skep(args);
        command.env("PATH", &self.path);
        command
    }
    fn engine(&self, name: &str) -> PathBuf {
        self.cli.path("engine.d").join(name)
    }
    fn remaining(&self) -> usize {
        let count = |kind: &str| std::fs::read_dir(self.engine(kind)).map_or(0, Iterator::count);
        count("containers") + count("volumes")
    }
}

const RUN: [&str; 7] = ["run", "--repo", "tool.git", "--goal", "b", "--engine", "command: echo b > a.txt"];

#[test]
fn a_run_lands_with_its_checks_in_containers_and_a_killed_run_is_swept() {
    let cli = DockerCli::new("image:1", "1m");
    crate::support::cli::ended(cli.skep(&["runner", "test", "clean"])).exits_with(0).prints("The runner clean works");
    assert_eq!(cli.remaining(), 0);
    let check = "cat a.txt; test ! -e slow || sleep 6061";
    let args = [&RUN[..], &["--check", check, "--yes"]].concat();
    // Skep is killed while its container runs: the container notices that its client is gone.
    let slow = "command: echo b > a.txt; touch slow";
    let first = [&RUN[..5], &["--engine", slow, "--check", check, "--yes"]].concat();
    let mut killed =
        cli.skep(&first).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    cli.cli.until("the container runs", || !running("sleep 6061").is_empty());
    killed.kill().unwrap();
    let _ended = killed.wait();
    cli.cli.until("the container ends itself", || running("sleep 6061").is_empty());
    assert!(cli.remaining() > 0);
    // The next start removes what remains; here it also starts another run.
    let newer = [&args[..], &["--new"]].concat();
    crate::support::cli::ended(cli.skep(&["cancel", &cli.cli.newest()])).exits_with(0);
    crate::support::cli::ended(cli.skep(&newer)).exits_with(0);
    assert_eq!(cli.remaining(), 0);
}

#[test]
fn an_unavailable_engine_or_a_missing_image_fails_no_check() {
    let cli = DockerCli::new("image:2", "1m");
    let args = [&RUN[..], &["--check", "true", "--yes"]].concat();
    let result = crate::support::cli::ended(cli.skep(&args)).exits_with(4);
    assert!(result.out.contains("docker pull image:2") && result.out.contains("runner clean"), "{}", result.out);
    let cli = DockerCli::new("image:1", "2s");
    std::fs::create_dir_all(cli.engine("")).unwrap();
    std::fs::write(cli.engine("down"), "").unwrap();
    let result = crate::support::cli::ended(cli.skep(&args)).exits_with(4);
    assert!(result.out.contains("Is the docker daemon running"), "{}", result.out);
    let doctor = crate::support::cli::ended(cli.skep(&["doctor"])).exits_with(78);
    assert!(doctor.out.contains("runner clean"), "{}", doctor.out);
    // A lost connection is retried.
    let cli = DockerCli::new("image:1", "1m");
    std::fs::create_dir_all(cli.engine("")).unwrap();
    std::fs::write(cli.engine("cut"), "").unwrap();
    crate::support::cli::ended(cli.skep(&args)).exits_with(0);
    assert!(!cli.engine("cut").exists());
    assert_eq!(cli.remaining(), 0);
}
