//! The walls as people meet them: tried by a command, refused where they don't hold, and gone with Skep when it is killed; control groups.

use crate::support::cli::{Cli, ended};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn the_walls_are_tried_by_a_command() {
    let desk = Cli::new();
    let shown = desk.does(&["sandbox", "test", "--json"]).ends(0).json();
    assert_eq!((&shown["level"], &shown["holds"]), (&"strict".into(), &true.into()), "{shown}");
    let tried = shown["tried"].as_array().unwrap();
    assert!(tried.len() >= 46, "{shown}");
    for one in tried {
        assert!(one["promised"] == true && one["held"] == true && one["found"] != "", "{one}");
    }
    for what in ["memory: ", "processes: ", "control groups: "] {
        assert!(shown["bounds"].as_str().unwrap().contains(what), "{shown}");
    }
    let told = desk.does(&["sandbox", "test"]).ends(0).says("The level strict holds.").says("memory: ").out;
    assert!(!told.contains("canary"), "{told}");
}

#[test]
fn without_walls_nothing_is_run_and_the_fix_is_told() {
    let desk = Cli::new();
    desk.repo("sample", &[("a", "a")]);
    let run = ["run", "--repo", "sample", "--goal", "g", "--engine", "command: echo x > b", "--check", "true"];
    // A machine whose launcher of walls is no program.
    let path = std::env::var("PATH").unwrap();
    let launchers: Vec<_> = std::env::split_paths(&path).map(|dir| dir.join("bwrap")).filter(|p| p.is_file()).collect();
    let bare = |args: &[&str]| {
        let inner = desk.skep(args);
        let mut command = std::process::Command::new("bwrap");
        command.args(["--dev-bind", "/", "/"]);
        for launcher in &launchers {
            command.args(["--ro-bind", "/dev/null"]).arg(launcher.canonicalize().unwrap());
        }
        command.arg("--").arg(inner.get_program()).args(inner.get_args());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.current_dir(desk.dir.path()).stdin(std::process::Stdio::null());
        ended(command)
    };
    bare(&run).ends(78).one_error("bubblewrap is not installed", "apt-get install bubblewrap");
    bare(&["serve", "--listen", "127.0.0.1:0"]).ends(78).one_error("bubblewrap", "landlock");
    // Level none is nobody's default: it needs a person's word, and then it is said.
    std::fs::write(desk.path("none.toml"), "[sandbox]\nlevel = \"none\"\n").unwrap();
    bare(&[&run[..], &["--config", "none.toml"]].concat()).ends(78).one_error("sandbox", "accept_no_isolation");
    std::fs::write(desk.path("none.toml"), "[sandbox]\nlevel = \"none\"\naccept_no_isolation = true\n").unwrap();
    bare(&[&run[..], &["--config", "none.toml", "--yes"]].concat()).ends(0);
    // Looking needs no walls.
    bare(&["runs"]).ends(0).says("completed");
}

/// The processes with this text in their arguments.
fn running(text: &str) -> usize {
    let own = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes
        .filter(|p| p.file_name().to_str() != Some(&own))
        .filter_map(|p| std::fs::read(Path::new(&p.path()).join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(text)).count()
}

#[test]
fn what_runs_behind_the_walls_ends_with_a_killed_skep() {
    let desk = Cli::new();
    desk.repo("sample", &[("a", "a")]);
    let nap = format!("7{:06}", std::process::id());
    let engine = format!("command: (setsid env -i sleep {nap} &) ; sleep {nap}");
    let mut command = desk.skep(&["run", "--repo", "sample", "--goal", "g", "--engine", &engine, "--check", "true"]);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut skep = command.spawn().unwrap();
    // The word itself is in Skep's own arguments and in those of the launcher's helper, too.
    let is_napping = format!("sleep\0{nap}");
    desk.until("both naps", || running(&is_napping) >= 2);
    skep.kill().unwrap();
    skep.wait().unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    while running(&is_napping) > 0 {
        assert!(Instant::now() < end, "{} still run", running(&is_napping));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn level_landlock_carries_a_run_and_says_which_folder_is_in_the_way() {
    let desk = Cli::new();
    desk.repo("sample", &[("a", "a")]);
    std::fs::write(desk.path("landlock.toml"), "[sandbox]\nlevel = \"landlock\"\n").unwrap();
    let engine = "command: mkdir -p \"$HOME/.x\" && echo x > \"$TMPDIR/y\" && cp \"$TMPDIR/y\" b && id -u > who";
    let check = "grep -q x b && echo > \"$CARGO_TARGET_DIR\" && ! cat \"$SKEP_DATA_DIR/token\"";
    let run = [
        "run",
        "--repo",
        "sample",
        "--goal",
        "g",
        "--engine",
        engine,
        "--check",
        check,
        "--yes",
        "--config",
        "landlock.toml",
    ];
    let is_root = rustix::process::geteuid().is_root();
    let open = |mode| std::fs::set_permissions(desk.dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    if is_root {
        open(0o700);
        // The folder above the data directory is root's alone, and not Skep's to change.
        desk.does(&run).ends(78).one_error(&desk.dir.path().display().to_string(), "chmod o+x");
        open(0o711);
    }
    desk.does(&run).ends(0).says("landed");
    if is_root {
        let data = std::fs::metadata(desk.path("data")).unwrap();
        assert_eq!((data.mode() & 0o7777, data.uid(), data.gid()), (0o710, 0, 65_533));
        assert_eq!(std::fs::metadata(desk.path("data/token")).unwrap().mode() & 0o777, 0o600);
    }
    let shown = desk.does(&["sandbox", "test", "--json", "--config", "landlock.toml"]).ends(0).json();
    assert_eq!(shown["holds"], true, "{shown}");
}

#[test]
fn a_file_that_skep_was_started_with_is_not_a_command_s() {
    let desk = Cli::new();
    desk.repo("sample", &[("a", "a")]);
    std::fs::write(desk.path("held"), "canary-6102").unwrap();
    let engine = "command: cat <&7 > b; cat /proc/self/fd/7 >> b; ls /proc/self/fd >> b; true";
    let inner = desk.skep(&["run", "--repo", "sample", "--goal", "g", "--engine", engine, "--check", "true", "--yes"]);
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "exec 7< held; exec \"$@\"", "sh"]).arg(inner.get_program()).args(inner.get_args());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir(desk.dir.path());
    ended(command).ends(0);
    let seen = std::process::Command::new("git").args(["show", "main:b"]).current_dir(desk.path("sample")).output();
    let seen = String::from_utf8(seen.unwrap().stdout).unwrap();
    assert!(!seen.is_empty() && !seen.contains("canary") && !seen.contains('7'), "{seen}");
}

/// A part of the machine's control groups, given away as a service manager does it; gone at the end.
struct Given(PathBuf);

impl Given {
    /// Beneath what `SKEP_TEST_CGROUPS` names: where the tree (version 2) is mounted.
    fn new(mount: &str) -> Given {
        let path = Path::new(mount).join(format!("skep-test-{}", std::process::id()));
        std::fs::create_dir(&path).expect("SKEP_TEST_CGROUPS names a tree this user can divide");
        rustix::fs::setxattr(&path, "user.delegate", b"1", rustix::fs::XattrFlags::empty()).unwrap();
        Given(path)
    }
    /// The program, started within it.
    fn holds(&self, inner: &std::process::Command) -> std::process::Command {
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", "echo 0 > \"$0\" && exec \"$@\""]).arg(self.0.join("cgroup.procs"));
        command.arg(inner.get_program()).args(inner.get_args());
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(inner.get_current_dir().unwrap()).stdin(std::process::Stdio::null());
        command
    }
    fn leaves(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.0).unwrap().flatten().map(|e| e.path());
        entries.filter(|p| p.file_name().unwrap().to_string_lossy().starts_with("job-")).collect()
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir(self.0.join("skep"));
        let _gone = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_command_is_in_a_control_group_of_its_own_and_ends_with_it() {
    // A tree that can be divided is not on every machine; scripts/test looks for one.
    let Ok(mount) = std::env::var("SKEP_TEST_CGROUPS") else { return };
    let (desk, given) = (Cli::new(), Given::new(&mount));
    desk.repo("sample", &[("a", "a")]);
    let shown = ended(given.holds(&desk.skep(&["sandbox", "test", "--json"]))).ends(0).json();
    assert!(shown["bounds"].as_str().unwrap().contains(&given.0.display().to_string()), "{shown}");
    assert!(given.leaves().is_empty(), "{:?}", given.leaves());
    // A stray that left its group and its mark behind, at the level that has nothing else against it.
    std::fs::write(desk.path("none.toml"), "[sandbox]\nlevel = \"none\"\naccept_no_isolation = true\n").unwrap();
    let nap = format!("8{:06}", std::process::id());
    let stray = format!("command: echo b > b; (setsid env -i sleep {nap} > /dev/null 2>&1 < /dev/null &)");
    let run = |engine: &str, more: &[&str]| {
        let args = [&["run", "--repo", "sample", "--goal", "g", "--check", "true", "--yes", "--engine", engine], more]
            .concat();
        given.holds(&desk.skep(&args))
    };
    ended(run(&stray, &["--config", "none.toml"])).ends(0);
    assert_eq!(running(&format!("sleep\0{nap}")), 0);
    // Skep is killed: its command's group is still there, and the next start removes it.
    let mut skep =
        run(&format!("command: sleep {nap}"), &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    desk.until("the command is in its group", || {
        running(&format!("sleep\0{nap}")) > 0
            && given.leaves().iter().any(|leaf| {
                std::fs::read_to_string(leaf.join("cgroup.procs")).is_ok_and(|procs| procs.lines().count() >= 3)
            })
    });
    skep.kill().unwrap();
    skep.wait().unwrap();
    assert_eq!(given.leaves().len(), 1);
    ended(given.holds(&desk.skep(&["sandbox", "test"]))).ends(0);
    assert!(given.leaves().is_empty(), "{:?}", given.leaves());
}
