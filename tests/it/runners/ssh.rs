//! Over SSH, on a real OpenSSH server of loopback.

use super::{HOUSE, checks, one, promises, run, spec, until};
use crate::support::sshd::{Sshd, running};
use skep::adapters::runner::settings::Runner;
use skep::domain::CheckSpec;
use skep::ports::PortError;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

#[tokio::test]
async fn green_red_reports_and_one_checkout_for_all_checks_over_ssh() {
    let sshd = Sshd::start("");
    promises(&checks(sshd.place())).await;
    assert!(sshd.sessions().is_empty(), "{:?}", sshd.sessions());
}

#[tokio::test]
async fn output_is_bounded_and_cleaned_wherever_it_comes_from() {
    let sshd = Sshd::start("");
    let checks = checks(sshd.place());
    let dir = tempfile::tempdir().unwrap();
    skep::secrets::register("canary", &skep::secrets::Secret::new("telltale-5f0b77aa9d31")).keep();
    let line = "head -c 30000000 /dev/zero | tr '\\0' x; printf '\\n\\033[31mtelltale-5f0b77aa9d31\\033[0m end\\n'";
    let flood = one(&checks, dir.path(), spec("flood", line)).await;
    assert!(flood.result.green && flood.files[0].2.len() <= 1024 * 1024, "{}", flood.files[0].2.len());
    assert!(flood.result.tail.ends_with("[redacted:canary] end\n"), "{:?}", flood.result.tail.len());
    assert!(!String::from_utf8_lossy(&flood.files[0].2).contains("telltale-5f"));
}

#[tokio::test]
async fn what_a_check_leaves_running_is_ended_with_it() {
    let sshd = Sshd::start("");
    let checks = checks(sshd.place());
    let dir = tempfile::tempdir().unwrap();
    // In its group, in a session of its own, holding the output.
    let line = "sleep 6011 & setsid sleep 6011 & (setsid sh -c 'sleep 6011; :' &) ; echo left";
    let began = Instant::now();
    let left = one(&checks, dir.path(), spec("leaves", line)).await.result;
    assert!(left.green && left.tail == "left\n", "{left:?}");
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(running("sleep 6011"), [0_u32; 0]);
    let slow = CheckSpec { timeout_secs: 1, ..spec("slow", "setsid sleep 6012 & sleep 6012") };
    assert!(one(&checks, dir.path(), slow).await.result.why.contains("limit"));
    assert_eq!(running("sleep 6012"), [0_u32; 0]);
    assert!(sshd.sessions().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_or_given_up_is_no_red_check_and_leaves_nothing() {
    let sshd = Sshd::start("");
    let checks = checks(sshd.place());
    let dir = tempfile::tempdir().unwrap();
    let cut = {
        let (checks, dir) = (checks.clone(), dir.path().to_owned());
        tokio::spawn(async move { run(&checks, &dir, &[spec("cut", "setsid sleep 6021 & sleep 6021")]).await })
    };
    until("it runs", || running("sleep 6021").len() >= 2).await;
    sshd.cut_connections();
    let error = cut.await.unwrap().unwrap_err();
    assert!(matches!(error, PortError::Transient { .. }) && error.to_string().contains("place box"), "{error}");
    until("the host ends it by itself", || running("sleep 6021").is_empty()).await;
    until("and removes it", || sshd.sessions().is_empty()).await;

    // Given up here.
    let given_up = {
        let (checks, dir) = (checks.clone(), dir.path().to_owned());
        tokio::spawn(async move { run(&checks, &dir, &[spec("given-up", "setsid sleep 6022 & sleep 6022")]).await })
    };
    until("it runs", || running("sleep 6022").len() >= 2).await;
    given_up.abort();
    until("it is ended", || running("sleep 6022").is_empty()).await;
    until("and removed", || sshd.sessions().is_empty()).await;
}

#[tokio::test]
async fn what_an_earlier_process_left_is_swept_and_others_are_let_be() {
    let sshd = Sshd::start("");
    let left = |owner_id: &str| {
        let at = sshd.room().join(owner_id).join("0189");
        std::fs::create_dir_all(at.join("tree/locked/in")).unwrap();
        symlink(sshd.path("host"), at.join("tree/link")).unwrap();
        at
    };
    let (ours, others) = (left(HOUSE), left("another"));
    let mut stray =
        std::process::Command::new("sleep").arg("6031").env("SKEP_JOB", format!("{HOUSE}.0189")).spawn().unwrap();
    let mut other = std::process::Command::new("sleep").arg("6032").env("SKEP_JOB", "another.0189").spawn().unwrap();
    let dir = tempfile::tempdir().unwrap();
    assert!(one(&checks(sshd.place()), dir.path(), spec("test", "true")).await.result.green);
    assert!(!ours.exists() && others.exists() && sshd.path("host").exists());
    assert!(!stray.wait().unwrap().success());
    assert!(other.try_wait().unwrap().is_none());
    other.kill().unwrap();
    let _ended = other.wait();
}

#[tokio::test]
async fn a_place_that_cannot_be_used_says_why_and_is_never_red() {
    let mut sshd = Sshd::start("");
    let dir = tempfile::tempdir().unwrap();
    let refused = async |place: Runner| {
        let error = run(&checks(place), dir.path(), &[spec("test", "true")]).await.unwrap_err();
        (matches!(error, PortError::Permanent { .. }), error.to_string(), error.fix().to_owned())
    };
    let with = |change: &dyn Fn(&mut skep::adapters::runner::settings::Ssh)| {
        let Runner::Ssh(mut ssh) = sshd.place() else { unreachable!() };
        change(&mut ssh);
        Runner::Ssh(ssh)
    };
    let (asks, what, fix) = refused(with(&|s| s.identity_file = sshd.path("other"))).await;
    assert!(asks && what.contains("does not let this user in") && fix.contains("authorized_keys"), "{what}: {fix}");
    let (asks, what, _) = refused(with(&|s| s.user = "nobody-of-this-name".into())).await;
    assert!(asks && what.contains("place box"), "{what}");
    let (asks, what, _) = refused(with(&|s| s.dir = "/proc/skep".into())).await;
    assert!(!asks && what.contains("cannot be made"), "{what}");
    let (asks, what, _) = refused(with(&|s| s.host = "no-such-host.invalid".into())).await;
    assert!(!asks && what.contains("cannot be used now"), "{what}");
    let before = std::fs::read(sshd.path("known")).unwrap();
    sshd.know_another();
    let (asks, what, fix) = refused(sshd.place()).await;
    assert!(asks && what.contains("another than the one that is known") && fix.contains("known"), "{what}: {fix}");
    std::fs::write(sshd.path("known"), "").unwrap();
    let (asks, what, _) = refused(sshd.place()).await;
    assert!(asks && what.contains("not known"), "{what}");
    assert_eq!(std::fs::read_to_string(sshd.path("known")).unwrap(), "", "no key is taken over");
    std::fs::write(sshd.path("known"), before).unwrap();
    sshd.cut();
    let (asks, what, _) = refused(sshd.place()).await;
    assert!(!asks && what.contains("refused") && what.contains("skep place test box"), "{what}");
    sshd.again();
    assert!(one(&checks(sshd.place()), dir.path(), spec("test", "true")).await.result.green);
}
