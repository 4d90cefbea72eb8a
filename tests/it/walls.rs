//! The walls as people meet them: tried by a command, refused where they don't hold, and gone with Skep when it is killed.

use crate::support::cli::{Desk, ended};
use std::path::Path;
use std::time::{Duration, Instant};

#[test]
fn the_walls_are_tried_by_a_command() {
    let desk = Desk::new();
    let shown = desk.does(&["sandbox", "test", "--json"]).ends(0).json();
    assert_eq!((&shown["level"], &shown["holds"]), (&"strict".into(), &true.into()), "{shown}");
    let tried = shown["tried"].as_array().unwrap();
    assert!(tried.len() >= 40, "{shown}");
    for one in tried {
        assert!(one["promised"] == true && one["held"] == true && one["found"] != "", "{one}");
    }
    let told = desk.does(&["sandbox", "test"]).ends(0).says("The level strict holds.").out;
    assert!(!told.contains("canary"), "{told}");
}

#[test]
fn without_walls_nothing_is_run_and_the_fix_is_told() {
    let desk = Desk::new();
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
    let desk = Desk::new();
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
