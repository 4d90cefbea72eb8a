//! Granted hosts: a project's commands reach them through the egress proxy, those of other projects do not; downloaded
//! packages.

use crate::support::cli::{BackgroundProcess, Cli, ended};
use crate::support::models::{Models, call};
use crate::support::sandbox;
use crate::support::site::{HELLO, Site};
use serde_json::json;
use sha2::{Digest, Sha256};
use skep::platform::clock::SystemClock;
use skep::platform::egress::{EgressProxy, SessionSpec};
use skep::platform::sandbox::{Job, Level, Policy, ProxyEndpoint, Purpose, Sandbox};
use skep::providers::meter::Meter;
use skep::providers::rate_limit::RateLimits;
use skep::providers::settings::Api;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Creates a CLI with this configuration.
fn cli(config: &str) -> Cli {
    let cli = Cli::new();
    std::fs::create_dir(cli.path("data")).unwrap();
    std::fs::write(cli.path("data/skep.toml"), config).unwrap();
    cli
}

#[test]
fn a_host_is_reachable_only_for_the_project_it_is_granted_to() {
    let (site, elsewhere) = (Site::new(), Site::new());
    let cli = cli(&format!(
        "[steps.develop]\ntries = 1\n[project.tool.egress]\nhosts = [{:?}]\n[project.other.egress]\nhosts = [{:?}]\n",
        site.host(),
        elsewhere.host()
    ));
    let fetch = format!("{} > got.txt", site.fetch());
    let engine = format!("command: {fetch} || exit 3");
    let check = format!("grep '{HELLO}' got.txt && {fetch} && grep '{HELLO}' got.txt");
    let run = |repo: &str, engine: &str, check: &str| {
        cli.run(&["run", "--new", "--repo", repo, "--goal", "Fetch it", "--engine", engine, "--check", check, "--yes"])
    };
    cli.repo("tool", &[("a.txt", "a\n")]);
    run("tool.git", &engine, &check).exits_with(0);
    assert!(site.asked().len() >= 2, "by the engine and by the check: {:?}", site.asked());

    let asked = site.asked().len();
    cli.repo("other", &[("a.txt", "a\n")]);
    let output =
        run("other.git", "command: echo b > a.txt", &check.replace("grep 'hello from the host' got.txt && ", ""));
    let denied = format!(
        "it tried to reach {} (on the list, but with another port), which egress.hosts of project other does not allow",
        site.host()
    );
    assert!(output.exits_with(4).out.contains(&denied), "the check names the denied host");
    let output = run("other.git", &engine, "true");
    assert!(output.exits_with(4).out.contains(&denied), "and so does the engine");
    let logs = cli.run(&["logs", &cli.newest()]).exits_with(0).out;
    assert!(logs.contains(&format!("Skep: {denied}")), "{logs}");

    // Without grants there is no network.
    cli.repo("third", &[("a.txt", "a\n")]);
    let lost = "test -z \"$HTTPS_PROXY\" && /usr/bin/python3 -c 'import urllib.request as u; u.urlopen(\"http://nowhere.example/\")'";
    let output = run("third.git", "command: echo b > a.txt", lost);
    let out = output.exits_with(4).out;
    assert!(out.contains("closed on purpose (egress.hosts of project third allows no host)"), "{out}");
    let line = format!("`hosts = [\"HOST\"]` below [project.third.egress] in {}", cli.path("data/skep.toml").display());
    assert!(out.contains(&line), "{out}");
    assert_eq!((site.asked().len(), elsewhere.asked().len()), (asked, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_s_command_reaches_granted_hosts_and_reports_denied_ones() {
    let (site, elsewhere) = (Site::new(), Site::new());
    let models = Models::play([
        call("run", json!({"command": site.fetch()})),
        call("run", json!({"command": format!("{} 2>&1; echo \"<$DEPLOY_KEY>\"", elsewhere.fetch())})),
        call("write", json!({"path": "a.txt", "content": "b\n"})),
        call("done", json!({"summary": "did it"})),
    ])
    .await;
    let base = models.provider(Api::OpenAi).base_url;
    let cli = cli(&format!(
        "[providers.acme]\napi = \"openai\"\nbase_url = \"{base}\"\n[egress]\nhosts = [{:?}]\n\
         [engines]\nsecrets = [\"DEPLOY_KEY\"]\n",
        site.host()
    ));
    cli.repo("tool", &[("a.txt", "a\n")]);
    let run = ["run", "--repo", "tool.git", "--goal", "Do it", "--engine", "llm:acme/m", "--check", "true", "--yes"];
    tokio::task::block_in_place(|| {
        let mut set = cli.skep(&["secret", "set", "DEPLOY_KEY", "--from-env", "KEPT"]);
        set.env("KEPT", "a-canary-no-model-may-read");
        ended(set).exits_with(0);
        cli.run(&run).exits_with(0)
    });
    let messages = models.seen().last().unwrap().body["messages"].to_string();
    assert!(messages.contains(HELLO) && !messages.contains("canary"), "{messages}");
    let denied = format!("it tried to reach {} (on the list, but with another port)", elsewhere.host());
    assert!(messages.contains(&denied) && messages.contains("<>"), "{messages}");
    assert_eq!((site.asked().len(), elsewhere.asked().len()), (1, 0));
}

#[test]
fn a_service_adopts_changed_grants() {
    let site = Site::new();
    let cli = cli("[policy]\napprove_merge = false\n");
    cli.repo("tool", &[("a.txt", "a\n")]);
    let mut serve = cli.skep(&["serve", "--listen", "127.0.0.1:0"]);
    let log = File::create(cli.path("log")).unwrap();
    serve.env("SKEP_RUNS__SWEEP_INTERVAL", "1s").stdout(Stdio::null()).stderr(log);
    let _service = BackgroundProcess(serve.spawn().unwrap());
    cli.until("the service answers", || cli.path("data/service.json").is_file());
    let check = site.fetch();
    let run =
        ["run", "--repo", "tool.git", "--goal", "Do it", "--engine", "command: echo b > a.txt", "--check", &check];
    cli.run(&run).exits_with(4);
    assert_eq!(site.asked().len(), 0);
    std::fs::write(
        cli.path("data/skep.toml"),
        format!("[policy]\napprove_merge = false\n[project.tool.egress]\nhosts = [{:?}]\n", site.host()),
    )
    .unwrap();
    cli.until("the configuration is reloaded", || {
        std::fs::read_to_string(cli.path("log")).unwrap().contains("project.tool.egress.hosts")
    });
    // The waiting run also gets the new grant, because grants are not pinned when a run starts.
    cli.run(&["unblock", &cli.newest(), "--follow"]).exits_with(0);
    assert!(!site.asked().is_empty());
}

/// Opens a proxy session to a site, as the product does.
fn proxy_session(dir: &Path, site: &Site) -> skep::platform::egress::ProxySession {
    rustls::crypto::ring::default_provider().install_default().ok();
    let clock = Arc::new(SystemClock);
    let proxy = EgressProxy::new(RateLimits::new(clock.clone()), clock, dir).unwrap();
    let meter = Meter::new(Default::default(), Arc::default());
    proxy
        .open_session(SessionSpec { providers: vec![], hosts: vec![site.host()], meter, label: "a test".to_owned() })
        .unwrap()
}

async fn runs(sandbox: &Sandbox, dir: &Path, command: &str, proxy: Option<&ProxyEndpoint>) -> (bool, String) {
    let (cache, scratch) = (dir.join("cache"), dir.join("scratch"));
    let dir = &dir.join("work");
    let job = Job {
        command,
        purpose: Purpose::Check,
        origin: None,
        dir,
        cache: &cache,
        scratch: &scratch,
        env: &[],
        timeout: Duration::from_secs(120),
        max_output: 64 * 1024,
        proxy,
    };
    let ended = sandbox.run(&job, None).await.unwrap();
    (ended.ok(), String::from_utf8_lossy(&ended.stdout).into_owned())
}

/// Serves a registry with one package, `oned` 1.0.0.
fn registry(dir: &Path) -> Site {
    let package = dir.join("oned-1.0.0");
    std::fs::create_dir_all(package.join("src")).unwrap();
    std::fs::write(package.join("src/lib.rs"), "pub fn one() -> u8 { 1 }\n").unwrap();
    let manifest = "[package]\nname = \"oned\"\nversion = \"1.0.0\"\nedition = \"2021\"\n";
    std::fs::write(package.join("Cargo.toml"), manifest).unwrap();
    let packed = Command::new("tar").args(["czf", "oned.crate", "oned-1.0.0"]).current_dir(dir).status().unwrap();
    assert!(packed.success());
    let bytes = std::fs::read(dir.join("oned.crate")).unwrap();
    let sum: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    Site::with(|address| {
        let config = format!("{{\"dl\": \"http://{address}/dl\"}}");
        let line = json!({"name": "oned", "vers": "1.0.0", "deps": [], "cksum": sum, "features": {}, "yanked": false});
        BTreeMap::from([
            ("/index/config.json".to_owned(), config.into_bytes()),
            ("/index/on/ed/oned".to_owned(), line.to_string().into_bytes()),
            ("/dl/oned/1.0.0/download".to_owned(), bytes),
        ])
    })
}

#[tokio::test]
async fn a_missing_package_is_downloaded_and_the_host_s_own_stay_unchanged() {
    downloads_a_package(Level::Strict).await;
}

#[tokio::test]
#[ignore = "needs an unprivileged user; scripts/test runs it unless it is root"]
async fn a_missing_package_is_downloaded_at_level_landlock() {
    assert!(!rustix::process::geteuid().is_root(), "run this test as an unprivileged user");
    downloads_a_package(Level::Landlock).await;
}

async fn downloads_a_package(level: Level) {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    std::fs::create_dir_all(work.join("src")).unwrap();
    std::fs::create_dir_all(work.join(".cargo")).unwrap();
    let site = registry(dir.path());
    let files = [
        ("Cargo.toml", "[package]\nname = \"x\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\noned = { version = \"1\", registry = \"near\" }\n".to_owned()),
        ("src/lib.rs", "#[test]\nfn one() { assert_eq!(oned::one(), 1) }\n".to_owned()),
        (".cargo/config.toml", format!("[registries.near]\nindex = \"sparse+http://{}/index/\"\n", site.host())),
    ];
    for (path, text) in files {
        std::fs::write(work.join(path), text).unwrap();
    }
    // The host has a package of its own, which must not be changed.
    let home = dir.path().join("cargo-home");
    let kept = home.join("registry/cache/near/kept-1.0.0.crate");
    std::fs::create_dir_all(kept.parent().unwrap()).unwrap();
    std::fs::write(&kept, "as it was").unwrap();
    let mut host: BTreeMap<_, _> = std::env::vars_os().collect();
    host.insert("CARGO_HOME".into(), home.clone().into());
    let line = "env -u NO_PROXY -u no_proxy cargo test 2>&1; status=$?; cat $CARGO_HOME/registry/cache/near/kept-1.0.0.crate; \
                (echo changed > $CARGO_HOME/registry/cache/near/kept-1.0.0.crate) 2>&1; exit $status";
    let policy = Policy { level, ..Policy::default() };
    let helper = Path::new(env!("CARGO_BIN_EXE_skep"));
    let sandbox = Sandbox::new(&host, &[])
        .with_policy(&policy, Some(helper))
        .expect("bubblewrap is missing; install it with `apt-get install bubblewrap`");
    let opened = proxy_session(dir.path(), &site);
    let (ok, output) = runs(&sandbox, dir.path(), line, Some(&opened.endpoint)).await;
    assert!(ok && output.contains("1 passed") && output.contains("as it was"), "{output}");
    assert_eq!(opened.denials(), []);
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "as it was");
    // Once downloaded, the package is available to the next command of the run without the network.
    let asked = site.asked().len();
    let (ok, output) = runs(&sandbox, dir.path(), "cargo test --offline 2>&1", Some(&opened.endpoint)).await;
    assert!(ok && site.asked().len() == asked, "{output}");
    assert!(!home.join("registry/src").exists(), "nothing was written to the host's");
    std::fs::remove_dir_all(dir.path().join("cache")).unwrap();
    // Without network access the host's toolchain homes are used, and none are created.
    let (_, output) = runs(&sandbox::strict(), dir.path(), "echo <$GOMODCACHE>; ls $HOME/..", None).await;
    assert!(!output.contains("toolchains"), "{output}");
}

#[tokio::test]
async fn at_a_weaker_level_the_proxy_requires_its_credentials() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("work")).unwrap();
    let site = Site::new();
    let policy = Policy { level: Level::None, accept_no_isolation: true, ..Policy::default() };
    let opened = proxy_session(dir.path(), &site);
    let (ok, output) = runs(&sandbox::with_policy(&policy), dir.path(), &site.fetch(), Some(&opened.endpoint)).await;
    assert!(ok && output.contains(HELLO), "{output}");
    let bare = format!("HTTP_PROXY=http://{0} http_proxy=http://{0} {1}", opened.endpoint.tcp, site.fetch());
    let (ok, output) = runs(&sandbox::with_policy(&policy), dir.path(), &bare, Some(&opened.endpoint)).await;
    assert!(!ok && output.contains("407"), "{output}");
}
