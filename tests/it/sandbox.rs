//! Commands without isolation: an emptied environment, limits, and no process left behind.

use skep::platform::process::ProcessOutput;
use skep::platform::sandbox::{self, Job, Purpose, Sandbox};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

async fn run(dir: &Path, command: &str, timeout: Duration, max_output: usize) -> ProcessOutput {
    let job = job(dir, command, timeout, max_output);
    Sandbox::from_process_env(&[]).run(&job, None).await.unwrap()
}

fn job<'a>(dir: &'a Path, command: &'a str, timeout: Duration, max_output: usize) -> Job<'a> {
    Job {
        command,
        purpose: Purpose::Check,
        origin: None,
        dir,
        cache: dir,
        scratch: dir,
        env: &[],
        timeout,
        max_output,
        proxy: None,
    }
}

async fn quick(line: &str) -> (ProcessOutput, String) {
    let dir = tempfile::tempdir().unwrap();
    let ended = run(dir.path(), line, Duration::from_secs(30), 64 * 1024).await;
    let text = String::from_utf8_lossy(&ended.stdout).into_owned();
    (ended, text)
}

/// Waits until the process whose id is in `file` has ended (or is a zombie that was not reaped yet).
async fn gone(file: &Path) -> bool {
    let pid = std::fs::read_to_string(file).unwrap();
    let stat = format!("/proc/{}/stat", pid.trim());
    tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            match std::fs::read_to_string(&stat) {
                Ok(text) if !text.rsplit_once(')').unwrap().1.starts_with(" Z") => tokio::task::yield_now().await,
                _ => return,
            }
        }
    })
    .await
    .is_ok()
}

#[tokio::test]
async fn host_variables_do_not_reach_commands() {
    let host: BTreeMap<_, _> =
        [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/root"), ("MY_TOKEN", "canary-5713")]
            .into_iter()
            .map(|(k, v)| (k.into(), v.into()))
            .collect();
    let dir = tempfile::tempdir().unwrap();
    let line = "env; echo; cat /proc/self/environ /proc/$PPID/environ 2>/dev/null | tr '\\0' '\\n' | grep -c '^MY_TOKEN' || true";
    let job = job(dir.path(), line, Duration::from_secs(30), 64 * 1024);
    let ended = Sandbox::new(&host, &[]).run(&job, None).await.unwrap();
    let text = String::from_utf8(ended.stdout).unwrap();
    assert!(!text.contains("canary-5713"), "{text}");
    for expected in ["LANG=C.UTF-8", "TERM=dumb", "CI=true", "SKEP=1"] {
        assert!(text.lines().any(|l| l == expected), "{expected} is missing in {text}");
    }
    let home = dir.path().join("check/home");
    assert!(text.lines().any(|l| l == format!("HOME={}", home.display())), "{text}");
    let given = Sandbox::new(&host, &["MY_TOKEN".to_owned()]).run(&job, None).await.unwrap();
    assert!(String::from_utf8_lossy(&given.stdout).contains("MY_TOKEN=canary-5713"));
}

#[tokio::test]
async fn both_streams_arrive_in_order_with_the_exit_code() {
    let (ended, text) = quick("echo one; echo two >&2; echo three; exit 7").await;
    assert_eq!((ended.code, text.as_str()), (Some(7), "one\ntwo\nthree\n"));
    let (ended, _) = quick("kill -9 $$").await;
    assert_eq!((ended.code, ended.signal), (None, Some(9)));
}

#[tokio::test]
async fn limits_are_set() {
    let (_, text) = quick("ulimit -c; ulimit -n; ulimit -f").await;
    let numbers: Vec<&str> = text.lines().collect();
    assert_eq!(numbers[0], "0");
    assert!(numbers[1].parse::<u64>().unwrap() <= 4096, "{text}");
    assert!(numbers[2].parse::<u64>().unwrap() <= 8_388_608, "{text}");
}

#[tokio::test]
async fn a_timed_out_command_leaves_only_its_output() {
    let dir = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let line = "echo before; (echo $$ > pid; exec sleep 600) & echo $! > child; sleep 600";
    let ended = run(dir.path(), line, Duration::from_millis(500), 1024).await;
    assert!(ended.timed_out && !ended.ok());
    assert_eq!(ended.stdout, b"before\n");
    assert!(started.elapsed() < Duration::from_secs(20));
    assert!(gone(&dir.path().join("child")).await);
}

#[tokio::test]
async fn a_command_that_closes_its_output_still_times_out() {
    let dir = tempfile::tempdir().unwrap();
    let ended = run(dir.path(), "exec >&- 2>&-; sleep 600", Duration::from_millis(300), 1024).await;
    assert!(ended.timed_out);
}

#[tokio::test]
async fn the_process_group_ends_with_its_leader() {
    let dir = tempfile::tempdir().unwrap();
    let ended = run(dir.path(), "sleep 600 & echo $! > child; echo done", Duration::from_secs(60), 1024).await;
    assert!(ended.ok() && ended.took < Duration::from_secs(30));
    assert_eq!(ended.stdout, b"done\n");
    assert!(gone(&dir.path().join("child")).await);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_daemon_that_left_the_group_is_found_by_its_marker() {
    let dir = tempfile::tempdir().unwrap();
    // The child also holds the pipe open, which must not delay the result until the timeout.
    let line = "setsid sh -c 'echo $$ > child.new; mv child.new child; exec sleep 600' & while [ ! -e child ]; do :; done; echo up";
    let ended = run(dir.path(), line, Duration::from_secs(60), 1024).await;
    assert!(ended.ok(), "{ended:?}");
    assert_eq!(ended.stdout, b"up\n");
    assert!(ended.took < Duration::from_secs(30));
    assert!(gone(&dir.path().join("child")).await);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn dropping_the_future_ends_the_whole_tree() {
    let dir = tempfile::tempdir().unwrap();
    let (group, daemon) = (dir.path().join("group"), dir.path().join("daemon"));
    let line = "setsid sh -c 'echo $$ > d; mv d daemon; exec sleep 600' & sleep 600 & echo $! > g; mv g group; wait";
    let sandbox = Sandbox::from_process_env(&[]);
    let job = job(dir.path(), line, Duration::from_secs(60), 1024);
    let up = async {
        while !(group.exists() && daemon.exists()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        ended = sandbox.run(&job, None) => panic!("it ended: {ended:?}"),
        () = up => {}
    }
    assert!(gone(&group).await && gone(&daemon).await);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_sweep_kills_only_processes_of_a_dead_skep() {
    let space = std::fs::read_link("/proc/self/ns/pid").unwrap();
    let space: String = space.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    let sleeper = |mark: String| {
        let mut command = tokio::process::Command::new("sleep");
        command.arg("600").env("SKEP_JOB", mark).kill_on_drop(true).spawn().unwrap()
    };
    // Process 1 exists, but did not start at tick 123456789012.
    let mut left = sleeper(format!("{space}.1.123456789012.0"));
    let mut elsewhere = sleeper("1.1.123456789012.0".to_owned());
    let mut strange = sleeper("strange".to_owned());
    assert!(sandbox::sweep(Duration::ZERO).await >= 1);
    assert!(!left.wait().await.unwrap().success());
    assert!(elsewhere.try_wait().unwrap().is_none());
    assert!(strange.try_wait().unwrap().is_none());
}

#[tokio::test]
async fn a_flood_of_output_is_bounded_and_its_end_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let keep = 64 * 1024;
    let ended = run(dir.path(), "head -c 100000000 /dev/zero; echo the end", Duration::from_secs(120), keep).await;
    assert!(ended.ok() && ended.truncated);
    assert_eq!(ended.stdout.len(), keep);
    assert!(ended.stdout.capacity() <= 4 * keep, "{}", ended.stdout.capacity());
    assert!(ended.stdout.ends_with(b"the end\n"));
}

#[tokio::test]
async fn a_missing_directory_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none");
    let job = Job { dir: &missing, ..job(dir.path(), "true", Duration::from_secs(5), 10) };
    let error = Sandbox::from_process_env(&[]).run(&job, None).await.unwrap_err().to_string();
    assert!(error.contains("none"), "{error}");
}

#[tokio::test]
async fn the_toolchains_of_the_user_are_found() {
    let mut found = Vec::new();
    for tool in ["cargo", "rustc", "python3", "node", "npm", "go", "git", "make"] {
        let version = if tool == "go" { "version" } else { "--version" };
        if !std::process::Command::new(tool).arg(version).output().is_ok_and(|o| o.status.success()) {
            continue;
        }
        let (ended, text) = quick(&format!("{tool} {version}")).await;
        assert!(ended.ok(), "{tool}: {text}");
        found.push(tool);
    }
    // These are needed to build Skep; the others are optional.
    assert!(["cargo", "rustc", "git"].iter().all(|tool| found.contains(tool)), "{found:?}");
}

#[tokio::test]
async fn a_test_that_commits_finds_an_identity_and_no_other_configuration() {
    let (ended, text) =
        quick("git init -q x && cd x && git commit -q --allow-empty -m m && git log --format=%an%ae").await;
    assert!(ended.ok() && text.ends_with("Skepskep@localhost\n"), "{text}");
}

/// A command whose Skep was killed while it started must not run: nobody would ever end it.
#[test]
fn a_command_does_not_start_after_the_death_of_skep() {
    use skep::platform::sandbox::inside::{HELPER, Restrictions, Sockets, frame};
    use std::io::Write;
    use std::process::{Command, Stdio};
    for dead in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let restrictions = Restrictions {
            level: sandbox::Level::None,
            argv: ["/bin/sh", "-c", "echo started > started"].map(Into::into).to_vec(),
            env: Vec::new(),
            dir: dir.path().into(),
            merge: true,
            user: None,
            limits: sandbox::Limits::default(),
            readable: vec!["/".into()],
            writable: vec![dir.path().into()],
            sockets: Sockets::None,
            port: None,
            relay: false,
        };
        let mut helper = Command::new(env!("CARGO_BIN_EXE_skep"));
        helper.arg(HELPER).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut helper = helper.spawn().unwrap();
        if dead {
            // As the kernel does when Skep dies: its end of the pipe is gone.
            drop(helper.stdout.take());
        }
        helper.stdin.take().unwrap().write_all(&frame(&restrictions).unwrap()).unwrap();
        assert_eq!(helper.wait().unwrap().success(), !dead);
        assert_eq!(dir.path().join("started").exists(), !dead);
    }
}
