//! Checks on remote runners: a real OpenSSH server, and containers.

mod docker;
mod ssh;
mod whole;

use skep::adapters::checks::{CommandChecks, RemoteSessions};
use skep::adapters::runner::settings::Runner;
use skep::domain::{ArtifactKind, CheckKind, CheckSpec, ProjectName};
use skep::platform::access::{Grants, ProjectGrants};
use skep::platform::sandbox::Sandbox;
use skep::ports::checks::{Checked, Checks};
use skep::ports::{PortError, Repo, Trust};
use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

/// Owner id of these tests.
const OWNER_ID: &str = "0123456789abcdef0123456789abcdef";

fn project() -> ProjectName {
    ProjectName::new("calc").unwrap()
}

/// Checks with this runner under the name "box", for every project.
fn checks(runner: Runner) -> CommandChecks {
    let all = Grants { runner: Some("box".to_owned()), ..Grants::default() };
    let granted = ProjectGrants { all, ..ProjectGrants::default() };
    let runners = BTreeMap::from([("box".to_owned(), runner)]);
    CommandChecks::new(Sandbox::disabled()).with_runners(runners, granted, RemoteSessions::new(OWNER_ID))
}

fn spec(name: &str, command: &str) -> CheckSpec {
    let (name, command) = (name.to_owned(), command.to_owned());
    CheckSpec {
        name,
        kind: CheckKind::Test,
        command,
        timeout_secs: 30,
        junit: None,
        runner: Some("box".to_owned()),
        detected: false,
    }
}

async fn run(checks: &CommandChecks, dir: &Path, specs: &[CheckSpec]) -> Result<Vec<Checked>, PortError> {
    let cache = tempfile::tempdir().unwrap();
    let repo = Repo { project: project(), origin: "https://forge.invalid/calc".to_owned() };
    let result = checks.run(&repo, dir, cache.path(), Trust::Unproven, specs).await;
    assert!(std::fs::read_dir(cache.path()).map_or(0, Iterator::count) == 0, "the archive is removed");
    result
}

async fn one(checks: &CommandChecks, dir: &Path, check: CheckSpec) -> Checked {
    run(checks, dir, &[check]).await.unwrap().remove(0)
}

/// Waits until a condition holds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Contract of every runner.
async fn contract(checks: &CommandChecks) {
    let dir = tempfile::tempdir().unwrap();
    for name in ["-rf", "new\nline", "a b", "$(touch gone)"] {
        std::fs::write(dir.path().join(name), name).unwrap();
    }
    symlink("/etc/passwd", dir.path().join("link")).unwrap();
    symlink("/etc", dir.path().join("dirlink")).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("pipe"), fifo, rustix::fs::Mode::from_raw_mode(0o600), 0)
        .unwrap();
    std::fs::create_dir(dir.path().join("out")).unwrap();
    std::fs::write(dir.path().join("out/old.xml"), "<testsuite><testcase/></testsuite>").unwrap();
    std::fs::create_dir(dir.path().join("locked")).unwrap();

    let report =
        |name: &str, command: &str, path: &str| CheckSpec { junit: Some(path.to_owned()), ..spec(name, command) };
    let suite = |inner: &str| format!("printf '<testsuite>{inner}</testsuite>' > out/r.xml");
    let case = "<testcase name=\"1\"/>";
    let failed = "<testcase><failure/></testcase>";
    let specs = [
        CheckSpec { kind: CheckKind::Setup, ..spec("deps", "echo made > made; echo \"it's $HOME\" 'fine'") },
        spec(
            "made",
            "cat made && test \"$(readlink link)\" = /etc/passwd && test ! -e pipe && ls -1 ./-rf './a b' && test -d dirlink",
        ),
        spec("names", "test \"$(cat 'new\nline')\" = 'new\nline' && test -f '$(touch gone)' && test ! -e gone"),
        spec("red", "echo out; echo err >&2; exit 3"),
        spec("signal", "kill -9 $$"),
        spec("none", "no-such-program-here"),
        report("counted", &suite(&case.repeat(3)), "out/r.xml"),
        report("lies", &suite(failed), "out/r.xml"),
        report("old", "true", "out/old.xml"),
        report("gone", "rm -f out/r.xml", "out/r.xml"),
        report("linked", "ln -s /etc/passwd out/l.xml", "out/l.xml"),
        report("piped", "mkfifo out/p.xml", "out/p.xml"),
        report("behind", "true", "dirlink/r.xml"),
        report("huge", "head -c 70000000 /dev/zero > out/h.xml", "out/h.xml"),
        report("bomb", "echo '<!DOCTYPE a><testsuite/>' > out/b.xml", "out/b.xml"),
        CheckSpec { timeout_secs: 1, ..spec("slow", "echo begun; sleep 613; echo never") },
        spec("quiet", "test \"$CI\" = true && test -z \"${SSH_CONNECTION-}${SKEP_DATA_DIR-}\" && ! read -r line"),
        spec("mess", "mkdir -p locked/in && chmod 0 locked"),
    ];
    let results = run(checks, dir.path(), &specs).await.unwrap();
    let of = |name: &str| &results.iter().find(|c| c.result.name == name).unwrap().result;
    for name in ["deps", "made", "names", "counted", "quiet", "mess"] {
        assert!(of(name).green, "{name}: {:?}", of(name));
    }
    assert!(of("deps").tail.starts_with("it's /") && of("deps").tail.ends_with(" fine\n"), "{:?}", of("deps"));
    assert_eq!((of("red").exit_code, of("red").tail.as_str()), (Some(3), "out\nerr\n"));
    assert!(!of("signal").green && of("signal").exit_code == Some(137), "{:?}", of("signal"));
    assert!(of("none").why.contains("not found"), "{:?}", of("none"));
    assert_eq!(of("counted").tests.map(|t| (t.run, t.failed)), Some((3, 0)));
    let counted = results.iter().find(|c| c.result.name == "counted").unwrap();
    assert!(counted.files.iter().any(|f| f.0 == ArtifactKind::TestReport && f.1 == "counted.junit.xml"));
    assert!(of("lies").why.contains("1 of 1 tests failed"), "{:?}", of("lies"));
    for name in ["old", "gone"] {
        assert!(of(name).why.contains("did not write its report"), "{:?}", of(name));
    }
    assert!(of("linked").why.starts_with("its report "), "{:?}", of("linked"));
    assert!(of("piped").why.starts_with("its report "), "{:?}", of("piped"));
    assert!(of("behind").why.contains("symbolic link"), "{:?}", of("behind"));
    assert!(of("huge").why.contains("67108864"), "{:?}", of("huge"));
    assert!(of("bomb").why.contains("document type"), "{:?}", of("bomb"));
    assert!(of("slow").why.contains("timeout of 1 s") && of("slow").exit_code.is_none(), "{:?}", of("slow"));
    assert_eq!(of("slow").tail, "begun\n");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 9, "nothing is copied back into the checkout");
}
