//! Whatever the commands of attempts and rejected commits plant, wherever they can write, a later commit is judged as if
//! nothing else had ever run.

use crate::checks_contract::repo;
use crate::git_world::World;
use crate::support::rng::Rng;
use crate::support::sandbox;
use skep::adapters::checks::CommandChecks;
use skep::domain::{CheckKind, CheckSpec};
use skep::platform::sandbox::{Job, Policy, Purpose, Sandbox};
use skep::ports::checks::Checks;
use skep::ports::{Trust, Workspaces};
use std::path::Path;
use std::time::Duration;

const SEQUENCES: u64 = 12;
const STEPS: u64 = 6;

/// Files that decide what later programs do, each relative to a folder.
const FILES: &[&str] = &[
    "usercustomize.py",
    "sitecustomize.py",
    "calc.py",
    "unittest.py",
    "calc.pth",
    ".local/lib/python3.99/site-packages/usercustomize.py",
    ".local/bin/python3",
    ".profile",
    ".bashrc",
    ".npmrc",
    ".gitconfig",
    ".cargo/config.toml",
    ".config/pip/pip.conf",
    "__pycache__/calc.pyc",
    "bin/python3",
];

/// Folders to plant in, as a shell expands them.
const FOLDERS: &[&str] = &[
    "$HOME",
    "$HOME/..",
    "$HOME/../..",
    "$TMPDIR",
    "$TMPDIR/..",
    "$CARGO_TARGET_DIR",
    "$GOCACHE",
    "$GRADLE_USER_HOME",
    "$PIP_CACHE_DIR",
    "$npm_config_cache",
    "$PWD",
    "$PWD/..",
    "/tmp",
    "/dev/shm",
    "/var/tmp",
    "/run",
    "/run/skep",
    "/etc",
    "/usr/local/lib",
];

/// Returns a hostile line: plants files, replaces folders by links, and leaves a process that goes on planting.
fn plant(rng: &mut Rng) -> String {
    let mut line = String::from("V=$(python3 -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])'); ");
    for _ in 0..rng.below(6) + 2 {
        let (folder, file) = (rng.one_of(FOLDERS), rng.one_of(FILES).replace("3.99", "$V"));
        line.push_str(&format!(
            "mkdir -p \"$(dirname \"{folder}/{file}\")\" && echo 'import os; os._exit(0) # PLANTED' > \"{folder}/{file}\"; chmod +x \"{folder}/{file}\"; "
        ));
    }
    if rng.chance(30) {
        line.push_str("mv \"$HOME\" \"$HOME.old\" && ln -s \"$HOME.old\" \"$HOME\"; ");
    }
    if rng.chance(30) {
        line.push_str(
            "(setsid sh -c 'while :; do echo PLANTED > \"$HOME/usercustomize.py\"; done' &) >/dev/null 2>&1; ",
        );
    }
    if rng.chance(20) {
        line.push_str("chmod 000 \"$HOME\"; ");
    }
    format!("PATH=/usr/bin:/bin; {{ {line} }} 2>/dev/null; true")
}

fn spec(command: String) -> CheckSpec {
    let (name, kind) = ("test".to_owned(), CheckKind::Test);
    CheckSpec { name, kind, command, timeout_secs: 60, junit: None, runner: None, detected: false }
}

/// Returns the verdict on a commit whose test is right or wrong, and whether it saw anything that was planted.
async fn judge(checks: &CommandChecks, w: &World, right: bool) -> (bool, String) {
    let tree = tempfile::tempdir().unwrap();
    std::fs::write(tree.path().join("calc.py"), format!("RIGHT = {}\n", if right { "True" } else { "False" })).unwrap();
    let test = "import unittest, calc\nclass T(unittest.TestCase):\n    def test_it(self):\n        self.assertTrue(calc.RIGHT)\n";
    std::fs::write(tree.path().join("test_calc.py"), test).unwrap();
    let find = "PATH=/usr/bin:/bin; grep -rsl PLANTED \"$HOME/..\" \"$TMPDIR/..\" /tmp /dev/shm /var/tmp | sed s/^/FOUND:/; python3 -m unittest -q test_calc";
    let (cache, _) = w.work.scratch_dirs(w.run, "check-head");
    let specs = [spec(find.to_owned())];
    let result = checks.run(&repo(), tree.path(), &cache, Trust::Unproven, &specs).await.unwrap().remove(0).result;
    (result.green, result.tail)
}

async fn attempt(sandbox: &Sandbox, w: &World, name: &str, line: &str) {
    let tree = tempfile::tempdir().unwrap();
    let (cache, scratch) = w.work.scratch_dirs(w.run, name);
    let job = Job {
        command: line,
        purpose: Purpose::Agent,
        origin: None,
        dir: tree.path(),
        cache: &cache,
        scratch: &scratch,
        env: &[],
        timeout: Duration::from_secs(60),
        max_output: 4096,
        proxy: None,
    };
    // An attempt that has replaced its own home is refused its next command.
    let _refused = sandbox.run(&job, None).await;
}

#[tokio::test]
async fn no_sequence_of_attempts_changes_the_verdict_on_a_later_commit() {
    let w = World::new().await;
    let policy = |data: &Path| Policy { data_dir: Some(data.to_owned()), ..Policy::default() };
    let sandbox = sandbox::with_policy(&policy(&w.data()));
    let checks = CommandChecks::new(sandbox.clone());
    let base = || spec("mkdir -p \"$HOME/deps\" && echo base > \"$HOME/deps/kept\"".to_owned());
    for seed in 0..SEQUENCES {
        let mut rng = Rng(seed);
        for step in 0..STEPS {
            let line = plant(&mut rng);
            match rng.below(4) {
                0 => attempt(&sandbox, &w, &format!("a{}", rng.below(3)), &line).await,
                1 => {
                    let tree = tempfile::tempdir().unwrap();
                    let (cache, _) = w.work.scratch_dirs(w.run, "check-base");
                    let results = checks.run(&repo(), tree.path(), &cache, Trust::Base, &[base()]).await.unwrap();
                    assert!(results[0].result.green, "{:?}", results[0].result);
                }
                _ => {
                    let tree = tempfile::tempdir().unwrap();
                    let (cache, _) = w.work.scratch_dirs(w.run, rng.one_of(&["check-t1", "check-head"]));
                    let specs = [spec(line)];
                    checks.run(&repo(), tree.path(), &cache, Trust::Unproven, &specs).await.unwrap();
                }
            }
            let right = rng.chance(50);
            let (green, output) = judge(&checks, &w, right).await;
            assert!(green == right && !output.contains("FOUND"), "seed {seed}, step {step}: green {green}: {output}");
        }
    }
    // What base commits left is found, which shows that the checks above did not simply start from nothing.
    let tree = tempfile::tempdir().unwrap();
    let (cache, _) = w.work.scratch_dirs(w.run, "check-base");
    checks.run(&repo(), tree.path(), &cache, Trust::Base, &[base()]).await.unwrap();
    let kept = [spec("test \"$(cat \"$HOME/deps/kept\")\" = base".to_owned())];
    let results = checks.run(&repo(), tree.path(), &cache, Trust::Unproven, &kept).await.unwrap();
    assert!(results[0].result.green, "{:?}", results[0].result);
}
