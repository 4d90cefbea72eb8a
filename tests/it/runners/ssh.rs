//! The SSH runner, on a real OpenSSH server on loopback.

use super::{OWNER_ID, checks, contract, one, run, spec, until};
use crate::support::sshd::{Sshd, running};
use skep::adapters::runner::settings::Runner;
use skep::domain::CheckSpec;
use skep::ports::PortError;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

#[tokio::test]
async fn ssh_fulfils_the_runner_contract() {
    let sshd = Sshd::start("");
    contract(&checks(sshd.runner())).await;
    assert!(sshd.sessions().is_empty(), "{:?}", sshd.sessions());
}

#[tokio::test]
async fn remote_output_is_bounded_and_redacted() {
    let sshd = Sshd::start("");
    let checks = checks(sshd.runner());
    let dir = tempfile::tempdir().unwrap();
    skep::secrets::register("canary", &skep::secrets::Secret::new("telltale-5f0b77aa9d31")).keep();
    let line = "head -c 30000000 /dev/zero | tr '\\0' x; printf '\\n\\033[31mtelltale-5f0b77aa9d31\\033[0m end\\n'";
    let flood = one(&checks, dir.path(), spec("flood", line)).await;
    assert!(flood.result.green && flood.files[0].2.len() <= 1024 * 1024, "{}", flood.files[0].2.len());
    assert!(flood.result.tail.ends_with("[redacted:canary] end\n"), "{:?}", flood.result.tail.len());
    assert!(!String::from_utf8_lossy(&flood.files[0].2).contains("telltale-5f"));
}

#[tokio::test]
async fn background_processes_of_a_check_are_killed() {
    let sshd = Sshd::start("");
    let checks = checks(sshd.runner());
    let dir = tempfile::tempdir().unwrap();
    // Processes in the group, in a session of their own, and holding the output open.
    let line = "sleep 6011 & setsid sleep 6011 & (setsid sh -c 'sleep 6011; :' &) ; echo left";
    let began = Instant::now();
    let left = one(&checks, dir.path(), spec("leaves", line)).await.result;
    assert!(left.green && left.tail == "left\n", "{left:?}");
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(running("sleep 6011"), [0_u32; 0]);
    let slow = CheckSpec { timeout_secs: 1, ..spec("slow", "setsid sleep 6012 & sleep 6012") };
    assert!(one(&checks, dir.path(), slow).await.result.why.contains("timeout"));
    assert_eq!(running("sleep 6012"), [0_u32; 0]);
    assert!(sshd.sessions().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_or_cancelled_connection_fails_no_check_and_leaves_nothing() {
    let sshd = Sshd::start("");
    let checks = checks(sshd.runner());
    let dir = tempfile::tempdir().unwrap();
    let cut = {
        let (checks, dir) = (checks.clone(), dir.path().to_owned());
        tokio::spawn(async move { run(&checks, &dir, &[spec("cut", "setsid sleep 6021 & sleep 6021")]).await })
    };
    until("the check runs", || running("sleep 6021").len() >= 2).await;
    sshd.cut_connections();
    let error = cut.await.unwrap().unwrap_err();
    assert!(matches!(error, PortError::Transient { .. }) && error.to_string().contains("runner box"), "{error}");
    until("the host ends the check", || running("sleep 6021").is_empty()).await;
    until("the host removes the session", || sshd.sessions().is_empty()).await;

    // The caller drops the future.
    let cancelled = {
        let (checks, dir) = (checks.clone(), dir.path().to_owned());
        tokio::spawn(async move { run(&checks, &dir, &[spec("cancelled", "setsid sleep 6022 & sleep 6022")]).await })
    };
    until("the check runs", || running("sleep 6022").len() >= 2).await;
    cancelled.abort();
    until("the check is ended", || running("sleep 6022").is_empty()).await;
    until("the session is removed", || sshd.sessions().is_empty()).await;
}

#[tokio::test]
async fn leftovers_of_an_earlier_process_are_swept_and_others_untouched() {
    let sshd = Sshd::start("");
    let leftover = |owner_id: &str| {
        let at = sshd.root().join(owner_id).join("0189");
        std::fs::create_dir_all(at.join("tree/locked/in")).unwrap();
        symlink(sshd.path("host"), at.join("tree/link")).unwrap();
        at
    };
    let (ours, others) = (leftover(OWNER_ID), leftover("another"));
    let mut stray =
        std::process::Command::new("sleep").arg("6031").env("SKEP_JOB", format!("{OWNER_ID}.0189")).spawn().unwrap();
    let mut other = std::process::Command::new("sleep").arg("6032").env("SKEP_JOB", "another.0189").spawn().unwrap();
    let dir = tempfile::tempdir().unwrap();
    assert!(one(&checks(sshd.runner()), dir.path(), spec("test", "true")).await.result.green);
    assert!(!ours.exists() && others.exists() && sshd.path("host").exists());
    assert!(!stray.wait().unwrap().success());
    assert!(other.try_wait().unwrap().is_none());
    other.kill().unwrap();
    let _ended = other.wait();
}

#[tokio::test]
async fn an_unusable_runner_names_the_cause_and_fails_no_check() {
    let mut sshd = Sshd::start("");
    let dir = tempfile::tempdir().unwrap();
    let error_of = async |runner: Runner| {
        let error = run(&checks(runner), dir.path(), &[spec("test", "true")]).await.unwrap_err();
        (matches!(error, PortError::Permanent { .. }), error.to_string(), error.fix().to_owned())
    };
    let with = |change: &dyn Fn(&mut skep::adapters::runner::settings::Ssh)| {
        let Runner::Ssh(mut ssh) = sshd.runner() else { unreachable!() };
        change(&mut ssh);
        Runner::Ssh(ssh)
    };
    let (permanent, what, fix) = error_of(with(&|s| s.identity_file = sshd.path("other"))).await;
    assert!(permanent && what.contains("rejected this user") && fix.contains("authorized_keys"), "{what}: {fix}");
    let (permanent, what, _) = error_of(with(&|s| s.user = "nobody-of-this-name".into())).await;
    assert!(permanent && what.contains("runner box"), "{what}");
    let (permanent, what, _) = error_of(with(&|s| s.dir = "/proc/skep".into())).await;
    assert!(!permanent && what.contains("cannot create"), "{what}");
    let (permanent, what, _) = error_of(with(&|s| s.host = "no-such-host.invalid".into())).await;
    assert!(!permanent && what.contains("is unavailable"), "{what}");
    let before = std::fs::read(sshd.path("known")).unwrap();
    sshd.replace_known_key();
    let (permanent, what, fix) = error_of(sshd.runner()).await;
    assert!(permanent && what.contains("host key has changed") && fix.contains("known"), "{what}: {fix}");
    std::fs::write(sshd.path("known"), "").unwrap();
    let (permanent, what, _) = error_of(sshd.runner()).await;
    assert!(permanent && what.contains("host key is unknown"), "{what}");
    assert_eq!(std::fs::read_to_string(sshd.path("known")).unwrap(), "", "no key is added");
    std::fs::write(sshd.path("known"), before).unwrap();
    sshd.cut();
    let (permanent, what, _) = error_of(sshd.runner()).await;
    assert!(!permanent && what.contains("refused") && what.contains("skep runner test box"), "{what}");
    sshd.restart();
    assert!(one(&checks(sshd.runner()), dir.path(), spec("test", "true")).await.result.green);
}
