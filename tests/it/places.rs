//! Checks at other places: over SSH on a real OpenSSH server.

use crate::support::cli::Desk;
use crate::support::sshd::{Sshd, running};
use skep::adapters::checks::{CommandChecks, Grounds};
use skep::adapters::grants::{Granted, Grants};
use skep::adapters::places::Place;
use skep::adapters::sandbox::Sandbox;
use skep::domain::{ArtifactKind, CheckKind, CheckSpec, ProjectName};
use skep::ports::PortError;
use skep::ports::checks::{Checked, Checks};
use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

/// The house of these tests' processes.
pub const HOUSE: &str = "0123456789abcdef0123456789abcdef";

pub fn project() -> ProjectName {
    ProjectName::new("calc").unwrap()
}

/// Checks whose place "box" is this one, for every project.
pub fn checks(place: Place) -> CommandChecks {
    let all = Grants { place: Some("box".to_owned()), ..Grants::default() };
    let granted = Granted { all, ..Granted::default() };
    let places = BTreeMap::from([("box".to_owned(), place)]);
    CommandChecks::new(Sandbox::closed()).with_places(places, granted, Grounds::new(HOUSE))
}

pub fn spec(name: &str, command: &str) -> CheckSpec {
    let (name, command) = (name.to_owned(), command.to_owned());
    CheckSpec { name, kind: CheckKind::Test, command, limit_secs: 30, junit: None, place: Some("box".to_owned()) }
}

pub async fn run(checks: &CommandChecks, dir: &Path, specs: &[CheckSpec]) -> Result<Vec<Checked>, PortError> {
    let cache = tempfile::tempdir().unwrap();
    let done = checks.run(&project(), dir, cache.path(), specs).await;
    assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), 0, "nothing is left of the parcel");
    done
}

async fn one(checks: &CommandChecks, dir: &Path, check: CheckSpec) -> Checked {
    run(checks, dir, &[check]).await.unwrap().remove(0)
}

/// Waits until it is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn green_red_reports_and_one_checkout_for_all_checks_over_ssh() {
    let sshd = Sshd::start("");
    promises(&checks(sshd.place())).await;
    assert!(sshd.sessions().is_empty(), "{:?}", sshd.sessions());
}

/// What holds at any place.
pub async fn promises(checks: &CommandChecks) {
    let dir = tempfile::tempdir().unwrap();
    for name in ["-rf", "new\nline", "a b", "$(touch gone)"] {
        std::fs::write(dir.path().join(name), name).unwrap();
    }
    symlink("/etc/passwd", dir.path().join("link")).unwrap();
    symlink("/etc", dir.path().join("way")).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("pipe"), fifo, rustix::fs::Mode::from_raw_mode(0o600), 0)
        .unwrap();
    std::fs::create_dir(dir.path().join("out")).unwrap();
    std::fs::write(dir.path().join("out/old.xml"), "<testsuite><testcase/></testsuite>").unwrap();
    std::fs::create_dir(dir.path().join("locked")).unwrap();

    let report = |name: &str, command: &str, path: &str| CheckSpec { junit: Some(path.to_owned()), ..spec(name, command) };
    let suite = |inner: &str| format!("printf '<testsuite>{inner}</testsuite>' > out/r.xml");
    let case = "<testcase name=\"1\"/>";
    let failed = "<testcase><failure/></testcase>";
    let specs = [
        CheckSpec { kind: CheckKind::Setup, ..spec("deps", "echo made > made; echo \"it's $HOME\" 'fine'") },
        spec("made", "cat made && test \"$(readlink link)\" = /etc/passwd && test ! -e pipe && ls -1 ./-rf './a b' && test -d way"),
        spec("names", "test \"$(cat 'new\nline')\" = 'new\nline' && test -f '$(touch gone)' && test ! -e gone"),
        spec("red", "echo out; echo err >&2; exit 3"),
        spec("signal", "kill -9 $$"),
        spec("none", "no-such-program-here"),
        report("counted", &suite(&case.repeat(3)), "out/r.xml"),
        report("lies", &suite(failed), "out/r.xml"),
        report("old", "true", "out/old.xml"),
        report("gone", "rm -f out/r.xml", "out/r.xml"),
        report("linked", "ln -s /etc/hostname out/l.xml", "out/l.xml"),
        report("piped", "mkfifo out/p.xml", "out/p.xml"),
        report("behind", "true", "way/r.xml"),
        report("huge", "head -c 9000000 /dev/zero > out/h.xml", "out/h.xml"),
        report("bomb", "echo '<!DOCTYPE a><testsuite/>' > out/b.xml", "out/b.xml"),
        CheckSpec { limit_secs: 1, ..spec("slow", "echo begun; sleep 613; echo never") },
        spec("quiet", "test \"$CI\" = true && test -z \"${SSH_CONNECTION-}${SKEP_DATA_DIR-}\" && ! read -r line"),
        spec("mess", "mkdir -p locked/in && chmod 0 locked"),
    ];
    let done = run(checks, dir.path(), &specs).await.unwrap();
    let of = |name: &str| &done.iter().find(|c| c.result.name == name).unwrap().result;
    for name in ["deps", "made", "names", "counted", "quiet", "mess"] {
        assert!(of(name).green, "{name}: {:?}", of(name));
    }
    assert!(of("deps").tail.starts_with("it's /") && of("deps").tail.ends_with(" fine\n"), "{:?}", of("deps"));
    assert_eq!((of("red").exit, of("red").tail.as_str()), (Some(3), "out\nerr\n"));
    assert!(!of("signal").green && of("signal").exit == Some(137), "{:?}", of("signal"));
    assert!(of("none").why.contains("not found"), "{:?}", of("none"));
    assert_eq!(of("counted").tests.map(|t| (t.run, t.failed)), Some((3, 0)));
    let kept = done.iter().find(|c| c.result.name == "counted").unwrap();
    assert!(kept.files.iter().any(|f| f.0 == ArtifactKind::TestReport && f.1 == "counted.junit.xml"));
    assert!(of("lies").why.contains("1 of 1 tests failed"), "{:?}", of("lies"));
    for name in ["old", "gone"] {
        assert!(of(name).why.contains("did not write its report"), "{:?}", of(name));
    }
    assert!(of("linked").why.starts_with("its report "), "{:?}", of("linked"));
    assert!(of("piped").why.starts_with("its report "), "{:?}", of("piped"));
    assert!(of("behind").why.contains("symbolic link"), "{:?}", of("behind"));
    assert!(of("huge").why.contains("8388608"), "{:?}", of("huge"));
    assert!(of("bomb").why.contains("document type"), "{:?}", of("bomb"));
    assert!(of("slow").why.contains("limit of 1 s") && of("slow").exit.is_none(), "{:?}", of("slow"));
    assert_eq!(of("slow").tail, "begun\n");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 9, "nothing comes back into the checkout");
}

#[tokio::test]
async fn output_is_bounded_and_cleaned_wherever_it_comes_from() {
    let sshd = Sshd::start("");
    let checks = checks(sshd.place());
    let dir = tempfile::tempdir().unwrap();
    skep::secret::register("canary", &skep::secret::Secret::new("telltale-5f0b77aa9d31")).keep();
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
    let slow = CheckSpec { limit_secs: 1, ..spec("slow", "setsid sleep 6012 & sleep 6012") };
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
    let left = |house: &str| {
        let at = sshd.room().join(house).join("0189");
        std::fs::create_dir_all(at.join("tree/locked/in")).unwrap();
        symlink(sshd.path("host"), at.join("tree/link")).unwrap();
        at
    };
    let (ours, others) = (left(HOUSE), left("another"));
    let mut stray = std::process::Command::new("sleep").arg("6031").env("SKEP_JOB", format!("{HOUSE}.0189")).spawn().unwrap();
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
    let refused = async |place: Place| {
        let error = run(&checks(place), dir.path(), &[spec("test", "true")]).await.unwrap_err();
        (matches!(error, PortError::Permanent { .. }), error.to_string(), error.fix().to_owned())
    };
    let with = |change: &dyn Fn(&mut skep::adapters::places::Ssh)| {
        let Place::Ssh(mut ssh) = sshd.place() else { unreachable!() };
        change(&mut ssh);
        Place::Ssh(ssh)
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

#[test]
fn a_repository_chooses_only_among_places_a_person_allowed() {
    let desk = Desk::new();
    let _unused = desk;
}
