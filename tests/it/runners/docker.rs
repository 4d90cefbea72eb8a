//! In containers, by the docker program: a scripted one that holds to the real one's command line, or the real one.
//!
//! `SKEP_TEST_DOCKER_HOST` (an engine's address) and `SKEP_TEST_DOCKER_IMAGE` (an image there with a shell and coreutils) ask for the real
//! one; then it must be there.

use super::{checks, one, promises, spec};
use crate::support::cli::Cli;
use crate::support::sshd::running;
use skep::adapters::runner::settings::{Docker, Runner};
use skep::domain::CheckSpec;
use std::path::{Path, PathBuf};
use std::process::Command;

const HOST: &str = "SKEP_TEST_DOCKER_HOST";
const IMAGE: &str = "SKEP_TEST_DOCKER_IMAGE";

/// A folder for PATH with the scripted program, and the address it takes for its engine's.
fn scripted(dir: &Path) -> (String, String) {
    let bin = dir.join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::write(bin.join("docker"), include_str!("docker.py")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bin.join("docker"), mode).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    (path, format!("unix://{}/engine", dir.display()))
}

fn place(docker_host: &str, image: &str) -> Runner {
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

#[tokio::test(flavor = "multi_thread")]
async fn containers_keep_what_every_place_promises() {
    let Ok(host) = std::env::var(HOST) else {
        // The program is looked up on this process's PATH: so this test again, as a process with the scripted one there.
        let dir = tempfile::tempdir().unwrap();
        let (path, host) = scripted(dir.path());
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "places::docker::containers_keep_what_every_place_promises", "--nocapture"]);
        let done = again.env("PATH", path).env(HOST, &host).env(IMAGE, "image:1").output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success() && said.contains("1 passed"), "{said}");
        for kind in ["containers", "volumes"] {
            assert_eq!(
                std::fs::read_dir(dir.path().join("engine.d").join(kind)).unwrap().count(),
                0,
                "{kind} are left"
            );
        }
        return;
    };
    let image = std::env::var(IMAGE).expect("the image's name, in SKEP_TEST_DOCKER_IMAGE");
    let checks = checks(place(&host, &image));
    promises(&checks).await;
    let dir = tempfile::tempdir().unwrap();
    let left = one(&checks, dir.path(), spec("leaves", "sleep 6051 & (sleep 6051 &) ; echo left")).await.result;
    assert!(left.green && left.tail == "left\n", "{left:?}");
    let slow = CheckSpec { timeout_secs: 1, ..spec("slow", "sleep 6051 & sleep 6051") };
    assert!(one(&checks, dir.path(), slow).await.result.why.contains("limit"));
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

struct Docked {
    desk: Cli,
    path: String,
}

impl Docked {
    /// One whose acts are tried for so long.
    fn new(image: &str, patience: &str) -> Docked {
        let desk = Cli::new();
        let (path, host) = scripted(desk.dir.path());
        std::fs::create_dir(desk.path("data")).unwrap();
        let text = format!(
            "[places.clean]\nkind = \"docker\"\nimage = {image:?}\ndocker_host = {host:?}\n[checks]\nplace = \"clean\"\n[steps.ops]\nwall = {patience:?}\n"
        );
        std::fs::write(desk.path("data/skep.toml"), text).unwrap();
        desk.repo("tool", &[("a.txt", "a\n")]);
        Docked { desk, path }
    }
    fn skep(&self, args: &[&str]) -> Command {
        let mut command = self.desk.skep(args);
        command.env("PATH", &self.path);
        command
    }
    fn engine(&self, name: &str) -> PathBuf {
        self.desk.path("engine.d").join(name)
    }
    fn left(&self) -> usize {
        let count = |kind: &str| std::fs::read_dir(self.engine(kind)).map_or(0, Iterator::count);
        count("containers") + count("volumes")
    }
}

const RUN: [&str; 7] = ["run", "--repo", "tool.git", "--goal", "b", "--engine", "command: echo b > a.txt"];

#[test]
fn a_run_lands_with_its_checks_in_containers_and_a_killed_one_is_swept() {
    let docked = Docked::new("image:1", "1m");
    crate::support::cli::ended(docked.skep(&["runner", "test", "clean"])).ends(0).says("The runner clean works");
    assert_eq!(docked.left(), 0);
    let check = "cat a.txt; test ! -e slow || sleep 6061";
    let args = [&RUN[..], &["--check", check, "--yes"]].concat();
    // Killed while its container runs: the container sees that nobody holds it any more.
    let slow = "command: echo b > a.txt; touch slow";
    let first = [&RUN[..5], &["--engine", slow, "--check", check, "--yes"]].concat();
    let mut killed =
        docked.skep(&first).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    docked.desk.until("the container runs", || !running("sleep 6061").is_empty());
    killed.kill().unwrap();
    let _ended = killed.wait();
    docked.desk.until("the container ends itself", || running("sleep 6061").is_empty());
    assert!(docked.left() > 0);
    // The next start removes what is left; here it opens a run of its own.
    let newer = [&args[..], &["--new"]].concat();
    crate::support::cli::ended(docked.skep(&["cancel", &docked.desk.newest()])).ends(3);
    crate::support::cli::ended(docked.skep(&newer)).ends(0);
    assert_eq!(docked.left(), 0);
}

#[test]
fn an_engine_that_is_away_or_without_the_image_is_no_red_check() {
    let docked = Docked::new("image:2", "1m");
    let args = [&RUN[..], &["--check", "true", "--yes"]].concat();
    let said = crate::support::cli::ended(docked.skep(&args)).ends(4);
    assert!(said.out.contains("docker pull image:2") && said.out.contains("place clean"), "{}", said.out);
    let docked = Docked::new("image:1", "2s");
    std::fs::create_dir_all(docked.engine("")).unwrap();
    std::fs::write(docked.engine("down"), "").unwrap();
    let said = crate::support::cli::ended(docked.skep(&args)).ends(4);
    assert!(said.out.contains("Is the docker daemon running"), "{}", said.out);
    let looked = crate::support::cli::ended(docked.skep(&["doctor"])).ends(78);
    assert!(looked.out.contains("runner clean"), "{}", looked.out);
    // A connection that is lost is looked at again.
    let docked = Docked::new("image:1", "1m");
    std::fs::create_dir_all(docked.engine("")).unwrap();
    std::fs::write(docked.engine("cut"), "").unwrap();
    crate::support::cli::ended(docked.skep(&args)).ends(0);
    assert!(!docked.engine("cut").exists());
    assert_eq!(docked.left(), 0);
}
