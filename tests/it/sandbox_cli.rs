//! The sandbox from the command line: the self-test, refusals where isolation is not possible, cleanup after Skep is
//! killed, control groups.

use crate::support::cli::{Cli, ended};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn a_command_tests_the_sandbox() {
    let cli = Cli::new();
    let shown = cli.run(&["sandbox", "test", "--json"]).exits_with(0).json();
    assert_eq!((&shown["level"], &shown["holds"]), (&"strict".into(), &true.into()), "{shown}");
    let tried = shown["actions"].as_array().unwrap();
    assert!(tried.len() >= 46, "{shown}");
    for one in tried {
        assert!(one["must_block"] == true && one["blocked"] == true && one["observed"] != "", "{one}");
    }
    for what in ["memory: ", "processes: ", "control groups: "] {
        assert!(shown["resource_limits"].as_str().unwrap().contains(what), "{shown}");
    }
    let output =
        cli.run(&["sandbox", "test"]).exits_with(0).prints("The sandbox holds at level strict.").prints("memory: ").out;
    assert!(!output.contains("canary"), "{output}");
}

#[test]
fn without_a_sandbox_nothing_runs_and_the_fix_is_shown() {
    let cli = Cli::new();
    cli.repo("sample", &[("a", "a")]);
    let run = ["run", "--repo", "sample", "--goal", "g", "--engine", "command: echo x > b", "--check", "true"];
    // A machine on which bubblewrap is not executable.
    let path = std::env::var("PATH").unwrap();
    let launchers: Vec<_> = std::env::split_paths(&path).map(|dir| dir.join("bwrap")).filter(|p| p.is_file()).collect();
    let bare = |args: &[&str]| {
        let inner = cli.skep(args);
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
        command.current_dir(cli.dir.path()).stdin(std::process::Stdio::null());
        ended(command)
    };
    bare(&run).exits_with(78).one_error("bubblewrap is not installed", "apt-get install bubblewrap");
    bare(&["serve", "--listen", "127.0.0.1:0"]).exits_with(78).one_error("bubblewrap", "landlock");
    // The level `none` is never the default: it must be accepted explicitly.
    std::fs::write(cli.path("none.toml"), "[sandbox]\nlevel = \"none\"\n").unwrap();
    bare(&[&run[..], &["--config", "none.toml"]].concat()).exits_with(78).one_error("sandbox", "accept_no_isolation");
    std::fs::write(cli.path("none.toml"), "[sandbox]\nlevel = \"none\"\naccept_no_isolation = true\n").unwrap();
    bare(&[&run[..], &["--config", "none.toml", "--yes"]].concat()).exits_with(0);
    // Read-only commands need no sandbox.
    bare(&["runs"]).exits_with(0).prints("completed");
}

/// Counts the processes with this text in their arguments.
fn running(text: &str) -> usize {
    let own = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes
        .filter(|p| p.file_name().to_str() != Some(&own))
        .filter_map(|p| std::fs::read(Path::new(&p.path()).join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(text)).count()
}

#[test]
fn sandboxed_processes_end_when_skep_is_killed() {
    let cli = Cli::new();
    cli.repo("sample", &[("a", "a")]);
    let nap = format!("7{:06}", std::process::id());
    let engine = format!("command: (setsid env -i sleep {nap} &) ; sleep {nap}");
    let mut command = cli.skep(&["run", "--repo", "sample", "--goal", "g", "--engine", &engine, "--check", "true"]);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut skep = command.spawn().unwrap();
    // The text itself also appears in Skep's own arguments and in those of the helper.
    let is_napping = format!("sleep\0{nap}");
    cli.until("both naps", || running(&is_napping) >= 2);
    skep.kill().unwrap();
    skep.wait().unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    while running(&is_napping) > 0 {
        assert!(Instant::now() < end, "{} still run", running(&is_napping));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_run_at_level_landlock_completes_and_names_an_inaccessible_directory() {
    let cli = Cli::new();
    cli.repo("sample", &[("a", "a")]);
    std::fs::write(cli.path("landlock.toml"), "[sandbox]\nlevel = \"landlock\"\n").unwrap();
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
    let open = |mode| std::fs::set_permissions(cli.dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    if is_root {
        open(0o700);
        // The directory above the data directory belongs to root, and Skep must not change it.
        cli.run(&run).exits_with(78).one_error(&cli.dir.path().display().to_string(), "chmod o+x");
        open(0o711);
    }
    cli.run(&run).exits_with(0).prints("landed");
    if is_root {
        let data = std::fs::metadata(cli.path("data")).unwrap();
        assert_eq!((data.mode() & 0o7777, data.uid(), data.gid()), (0o710, 0, 65_533));
        assert_eq!(std::fs::metadata(cli.path("data/token")).unwrap().mode() & 0o777, 0o600);
    }
    let shown = cli.run(&["sandbox", "test", "--json", "--config", "landlock.toml"]).exits_with(0).json();
    assert_eq!(shown["holds"], true, "{shown}");
}

#[test]
fn files_that_skep_inherited_do_not_reach_commands() {
    let cli = Cli::new();
    cli.repo("sample", &[("a", "a")]);
    std::fs::write(cli.path("held"), "canary-6102").unwrap();
    let engine = "command: cat <&7 > b; cat /proc/self/fd/7 >> b; ls /proc/self/fd >> b; true";
    let inner = cli.skep(&["run", "--repo", "sample", "--goal", "g", "--engine", engine, "--check", "true", "--yes"]);
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "exec 7< held; exec \"$@\"", "sh"]).arg(inner.get_program()).args(inner.get_args());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir(cli.dir.path());
    ended(command).exits_with(0);
    let seen = std::process::Command::new("git").args(["show", "main:b"]).current_dir(cli.path("sample")).output();
    let seen = String::from_utf8(seen.unwrap().stdout).unwrap();
    assert!(!seen.is_empty() && !seen.contains("canary") && !seen.contains('7'), "{seen}");
}

/// A delegated control group, as a service manager creates it; removed on drop.
struct DelegatedCgroup(PathBuf);

impl DelegatedCgroup {
    /// Creates a group below `mount`, where the cgroup tree (version 2) is mounted.
    fn new(mount: &str) -> DelegatedCgroup {
        let path = Path::new(mount).join(format!("skep-test-{}", std::process::id()));
        std::fs::create_dir(&path).expect("SKEP_TEST_CGROUPS must name a cgroup tree that this user can write");
        rustix::fs::setxattr(&path, "user.delegate", b"1", rustix::fs::XattrFlags::empty()).unwrap();
        DelegatedCgroup(path)
    }
    /// Wraps a program so that it starts in the group.
    fn wrap(&self, inner: &std::process::Command) -> std::process::Command {
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

impl Drop for DelegatedCgroup {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir(self.0.join("skep"));
        let _gone = std::fs::remove_dir(&self.0);
    }
}

#[test]
#[ignore = "needs a writable cgroup tree in SKEP_TEST_CGROUPS; scripts/test runs it where there is one"]
fn a_command_gets_its_own_control_group_and_ends_with_it() {
    let mount = std::env::var("SKEP_TEST_CGROUPS").expect("SKEP_TEST_CGROUPS must name a writable cgroup tree");
    let (cli, cgroup) = (Cli::new(), DelegatedCgroup::new(&mount));
    cli.repo("sample", &[("a", "a")]);
    let shown = ended(cgroup.wrap(&cli.skep(&["sandbox", "test", "--json"]))).exits_with(0).json();
    assert!(shown["resource_limits"].as_str().unwrap().contains(&cgroup.0.display().to_string()), "{shown}");
    assert!(cgroup.leaves().is_empty(), "{:?}", cgroup.leaves());
    // A process that left its process group and dropped its marker, at the level where only the control group can find
    // it.
    std::fs::write(cli.path("none.toml"), "[sandbox]\nlevel = \"none\"\naccept_no_isolation = true\n").unwrap();
    let nap = format!("8{:06}", std::process::id());
    let stray = format!("command: echo b > b; (setsid env -i sleep {nap} > /dev/null 2>&1 < /dev/null &)");
    let run = |engine: &str, more: &[&str]| {
        let args = [&["run", "--repo", "sample", "--goal", "g", "--check", "true", "--yes", "--engine", engine], more]
            .concat();
        cgroup.wrap(&cli.skep(&args))
    };
    ended(run(&stray, &["--config", "none.toml"])).exits_with(0);
    assert_eq!(running(&format!("sleep\0{nap}")), 0);
    // When Skep is killed, the group of its command remains, and the next start removes it.
    let mut skep =
        run(&format!("command: sleep {nap}"), &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    cli.until("the command is in its group", || {
        running(&format!("sleep\0{nap}")) > 0
            && cgroup.leaves().iter().any(|leaf| {
                std::fs::read_to_string(leaf.join("cgroup.procs")).is_ok_and(|procs| procs.lines().count() >= 3)
            })
    });
    skep.kill().unwrap();
    skep.wait().unwrap();
    assert_eq!(cgroup.leaves().len(), 1);
    ended(cgroup.wrap(&cli.skep(&["sandbox", "test"]))).exits_with(0);
    assert!(cgroup.leaves().is_empty(), "{:?}", cgroup.leaves());
}
