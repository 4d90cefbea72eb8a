//! Commands in the sandbox: network access through the egress proxy, resource limits, toolchains, file ownership.

use crate::support::sandbox;
use skep::platform::process::ProcessOutput;
use skep::platform::sandbox::{Job, Limits, Policy, ProxyEndpoint, Purpose, Sandbox};
use skep::secrets::Secret;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

async fn run(sandbox: &Sandbox, dir: &Path, command: &str, proxy: Option<&ProxyEndpoint>) -> ProcessOutput {
    let at = |name: &str| {
        let path = dir.join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        path
    };
    let (work, cache, scratch) = (at("work"), at("cache"), at("scratch"));
    let job = Job {
        command,
        purpose: Purpose::Check,
        origin: None,
        dir: &work,
        cache: &cache,
        scratch: &scratch,
        env: &[],
        timeout: Duration::from_secs(120),
        max_output: 64 * 1024,
        proxy,
    };
    sandbox.run(&job, None).await.expect("the command starts")
}

fn text(ended: &ProcessOutput) -> String {
    String::from_utf8_lossy(&ended.stdout).into_owned()
}

fn limited(limits: Limits) -> Sandbox {
    sandbox::with_policy(&Policy { limits, ..Policy::default() })
}

#[tokio::test]
async fn the_egress_proxy_is_the_only_network_access() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("egress.sock");
    let proxy = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let login = Secret::new("skep:token");
    let endpoint = ProxyEndpoint { socket, tcp: tcp.local_addr().expect("an address"), login };
    let responder = std::thread::spawn(move || {
        let (mut client, _) = proxy.accept().expect("a connection");
        let mut request = [0; 5];
        client.read_exact(&mut request).expect("a request");
        client.write_all(b"answer").expect("an answer");
        request
    });
    let sandbox = sandbox::strict();
    let ask = "import socket,os; p=os.environ['HTTPS_PROXY']; print(p); s=socket.create_connection(('127.0.0.1', \
               int(p.rsplit(':',1)[1]))); s.sendall(b'hello'); s.shutdown(socket.SHUT_WR); print(s.recv(9).decode())";
    let ended = run(&sandbox, dir.path(), &format!("/usr/bin/python3 -c \"{ask}\""), Some(&endpoint)).await;
    assert_eq!(text(&ended), format!("{}\nanswer\n", sandbox.proxy_url(&endpoint)));
    assert_eq!(&responder.join().expect("an end"), b"hello");
    // The listener is on the host's loopback interface, which the sandbox cannot reach. Without a proxy, there is no
    // port and no variable.
    let line = format!(
        "echo \"<$HTTPS_PROXY>\"; (: < /dev/tcp/127.0.0.1/7390) 2>&1 | tail -n 1; (: < /dev/tcp/{}/{}) 2>&1 | tail -n 1",
        endpoint.tcp.ip(),
        endpoint.tcp.port()
    );
    let ended = run(&sandbox, dir.path(), &format!("bash -c '{line}'"), None).await;
    assert!(text(&ended).starts_with("<>\n") && text(&ended).matches("refused").count() == 2, "{}", text(&ended));
}

#[tokio::test]
async fn memory_of_all_processes_together_is_limited() {
    let dir = tempfile::tempdir().expect("a directory");
    let sandbox = limited(Limits { memory: 64 << 20, ..Limits::default() });
    // None of the four processes exceeds the limit alone.
    let each = "python3 -c 'import time; x=b\"x\"*(30<<20); time.sleep(60)' &";
    let ended = run(&sandbox, dir.path(), &format!("PATH=/usr/bin; {each} {each} {each} {each} wait"), None).await;
    assert!(ended.stop_reason.as_ref().is_some_and(|why| why.to_string().contains("memory")), "{ended:?}");
    let ended = run(&sandbox, dir.path(), "/usr/bin/python3 -c 'b\"x\"*(200<<20)'", None).await;
    assert!(!ended.ok() && text(&ended).contains("MemoryError"), "{ended:?}");
}

#[tokio::test]
async fn memory_that_belongs_to_no_process_is_limited() {
    let dir = tempfile::tempdir().expect("a directory");
    let sandbox = limited(Limits { memory: 64 << 20, ..Limits::default() });
    for fill in
        ["head -c 100000000 /dev/zero > /dev/shm/x", "i=0; while [ $i -lt 80000 ]; do : > /tmp/$i; i=$((i+1)); done"]
    {
        let ended = run(&sandbox, dir.path(), &format!("{fill}; sleep 60"), None).await;
        assert!(ended.stop_reason.as_ref().is_some_and(|why| why.to_string().contains("memory")), "{fill}: {ended:?}");
    }
}

#[tokio::test]
async fn disk_space_is_limited_over_all_directories() {
    let dir = tempfile::tempdir().expect("a directory");
    let sandbox = limited(Limits { workspace: 8 << 20, ..Limits::default() });
    let fill = "for n in 1 2 3 4 5 6; do head -c 2000000 /dev/zero > $n; head -c 2000000 /dev/zero > $TMPDIR/$n; done; sleep 60";
    let ended = run(&sandbox, dir.path(), fill, None).await;
    assert!(ended.stop_reason.as_ref().is_some_and(|why| why.to_string().contains("disk")), "{ended:?}");
    let bury =
        "i=0; while [ $i -lt 300 ]; do mkdir d; cd d; i=$((i+1)); done; head -c 10000000 /dev/zero > x; sleep 60";
    let ended = run(&sandbox, &dir.path().join("deep"), bury, None).await;
    assert!(ended.stop_reason.as_ref().is_some_and(|why| why.to_string().contains("nested too deeply")), "{ended:?}");
}

#[tokio::test]
async fn a_planted_link_is_not_followed() {
    let dir = tempfile::tempdir().expect("a directory");
    let outside = tempfile::tempdir().expect("a directory");
    let sandbox = sandbox::strict();
    let ended =
        run(&sandbox, dir.path(), &format!("rm -rf $HOME; ln -s {} $HOME", outside.path().display()), None).await;
    assert!(ended.ok(), "{}", text(&ended));
    let job = |line| Job {
        command: line,
        purpose: Purpose::Check,
        origin: None,
        dir: Path::new("/"),
        cache: Path::new("/"),
        scratch: Path::new("/"),
        env: &[],
        timeout: Duration::from_secs(9),
        max_output: 99,
        proxy: None,
    };
    let (work, cache, scratch) = (dir.path().join("work"), dir.path().join("cache"), dir.path().join("scratch"));
    let again = Job { dir: &work, cache: &cache, scratch: &scratch, ..job("true") };
    let error = sandbox.run(&again, None).await.expect_err("it fails").to_string();
    assert!(error.contains("link"), "{error}");
    assert_eq!(std::fs::read_dir(outside.path()).expect("a directory").count(), 0);
}

#[tokio::test]
async fn a_command_at_its_process_limit_does_not_affect_others() {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let dir = tempfile::tempdir().expect("a directory");
    let sandbox = limited(Limits { processes: 24, ..Limits::default() });
    // Forks up to the limit; all processes live until standard input delivers a byte.
    let fork = "import os,sys\nn=0\nr,w=os.pipe()\nwhile n<90:\n try: p=os.fork()\n except OSError: break\n if p==0: os.close(w); os.read(r,1); \
                os._exit(0)\n n+=1\nprint(n,flush=True)\nsys.stdin.read(1)";
    let line = format!("printf '{}' > f.py; exec /usr/bin/python3 f.py", fork.replace('\n', "\\n"));
    let (full, cache, scratch) = (dir.path().join("full"), dir.path().join("cache"), dir.path().join("scratch"));
    std::fs::create_dir(&full).expect("a directory");
    let job = Job {
        command: &line,
        purpose: Purpose::Check,
        origin: None,
        dir: &full,
        cache: &cache,
        scratch: &scratch,
        env: &[],
        timeout: Duration::from_secs(60),
        max_output: 1024,
        proxy: None,
    };
    let (mut process, _reaper) = sandbox.spawn(&job).expect("it starts");
    let mut first = String::new();
    BufReader::new(&mut process.stdout).read_line(&mut first).await.expect("it writes");
    let second = run(&sandbox, dir.path(), &format!("({line}) < /dev/null"), None).await;
    let counts = [first, text(&second)].map(|t| t.trim().parse::<u32>().unwrap_or_else(|e| panic!("{t:?}: {e}")));
    assert!(counts.iter().all(|n| (18..24).contains(n)), "{counts:?}");
    process.stdin.write_all(b"x").await.expect("the first command is still running");
}

#[tokio::test]
async fn an_interactive_program_gets_its_input_from_the_first_byte() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let dir = tempfile::tempdir().expect("a directory");
    let (cache, scratch) = (dir.path().join("cache"), dir.path().join("scratch"));
    let large = [("LARGE", "x".repeat(120_000))];
    let job = Job {
        command: "cat; echo aside >&2; echo ${#LARGE}",
        purpose: Purpose::Agent,
        origin: None,
        dir: dir.path(),
        cache: &cache,
        scratch: &scratch,
        env: &large,
        timeout: Duration::from_secs(60),
        max_output: 1024,
        proxy: None,
    };
    let (mut process, _reaper) = sandbox::strict().spawn(&job).expect("it starts");
    process.stdin.write_all(b"\x01first\n").await.expect("it reads");
    drop(process.stdin);
    let mut output = String::new();
    process.stdout.read_to_string(&mut output).await.expect("it writes");
    assert_eq!(output, "\x01first\n120000\n");
    let ended = process.handle.shut_down(Duration::from_secs(5)).await.expect("it ends");
    assert_eq!((ended.code, String::from_utf8_lossy(&ended.stderr).trim()), (Some(0), "aside"));
}

#[tokio::test]
async fn a_crate_is_built_and_tested_in_the_sandbox() {
    let dir = tempfile::tempdir().expect("a directory");
    let work = dir.path().join("work");
    std::fs::create_dir_all(work.join("src")).expect("a directory");
    std::fs::write(work.join("Cargo.toml"), "[package]\nname = \"x\"\nversion = \"0.1.0\"\nedition = \"2024\"\n")
        .expect("a file");
    std::fs::write(work.join("src/lib.rs"), "#[test]\nfn one() {}\n").expect("a file");
    let ended = run(&sandbox::strict(), dir.path(), "cargo test --offline 2>&1", None).await;
    assert!(ended.ok() && text(&ended).contains("1 passed"), "{}", text(&ended));
}

fn shown(folder: &Path, hidden: Vec<std::path::PathBuf>) -> Sandbox {
    sandbox::with_policy(&Policy { readable: vec![folder.to_owned()], hidden, ..Policy::default() })
}

#[tokio::test]
async fn skep_s_data_and_sockets_in_a_visible_directory_are_covered() {
    let (dir, package) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let at = |name: &str| package.path().join(name);
    std::fs::create_dir_all(at("data/inner")).expect("a directory");
    for file in ["data/token", "data/inner/file", "key", "visible"] {
        std::fs::write(at(file), "canary").expect("a file");
    }
    let opened = |path: &Path| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).expect("a mode");
    };
    opened(package.path());
    let sandbox = shown(package.path(), vec![at("data"), at("key")]);
    // Bound after the sandbox was made, as a service does that is restarted.
    let listener = std::os::unix::net::UnixListener::bind(at("socket")).expect("a socket");
    opened(&at("socket"));
    listener.set_nonblocking(true).expect("a socket");
    let root = package.path().display();
    let line = format!(
        "cd {root}; cat visible; cat data/token data/inner/file key; ls data; touch data/x; \
         /usr/bin/python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"{root}/socket\")'"
    );
    let ended = run(&sandbox, dir.path(), &line, None).await;
    let out = text(&ended);
    assert!(out.starts_with("canary") && out.matches("canary").count() == 1, "{out}");
    assert!(listener.accept().is_err(), "the socket was reached: {out}");
    assert!(!at("data/x").exists() && !ended.ok());
    // The data directory contains the directories of commands, which stay usable.
    let ended = run(&sandbox, &at("data"), "echo fine > file && cat file && ls ..", None).await;
    assert!(ended.ok() && text(&ended).starts_with("fine\n") && !text(&ended).contains("token"), "{}", text(&ended));
}

#[test]
fn a_directory_within_hidden_data_is_not_shown_and_a_home_is_refused() {
    let refused = |path: &str| {
        let policy = Policy { readable: vec![path.into()], ..Policy::default() };
        Sandbox::isolated(&policy, &[], Some(Path::new(env!("CARGO_BIN_EXE_skep")))).err().map(|e| e.what)
    };
    let home = std::env::var("HOME").expect("a home");
    for path in [home.as_str(), "/etc", "/root", "/var"] {
        assert!(refused(path).is_some_and(|why| why.contains("sandbox.toolchains")), "{path}");
    }
    assert_eq!(refused("/usr/lib"), None);
}

#[tokio::test]
async fn without_hosts_package_managers_are_told_to_do_without_the_network() {
    let dir = tempfile::tempdir().expect("a directory");
    let ended = run(&sandbox::strict(), dir.path(), "env", None).await;
    for variable in
        ["CARGO_NET_OFFLINE=true", "GOPROXY=off", "npm_config_offline=true", "UV_OFFLINE=1", "PIP_RETRIES=0"]
    {
        assert!(text(&ended).lines().any(|line| line == variable), "{variable}: {}", text(&ended));
    }
    for variable in ["NO_COLOR", "CARGO_TERM_COLOR", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONPATH"] {
        assert!(!text(&ended).lines().any(|line| line.starts_with(&format!("{variable}="))), "{variable}");
    }
}

/// Creates a virtual environment with one package, and returns the directory of its packages.
fn environment(at: &Path) -> std::path::PathBuf {
    let made = std::process::Command::new("/usr/bin/python3").args(["-m", "venv", "--without-pip"]).arg(at).status();
    assert!(made.expect("python3 is installed").success(), "install the package python3-venv");
    let lib = std::fs::read_dir(at.join("lib")).expect("a directory").next().expect("a version").expect("an entry");
    let packages = lib.path().join("site-packages");
    std::fs::write(packages.join("dependency.py"), "NAME = 'dependency'\n").expect("a file");
    packages
}

#[tokio::test]
async fn the_environment_of_the_working_copy_is_used_and_the_project_comes_from_the_checkout() {
    let (dir, home) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let origin = home.path().join("project");
    let packages = environment(&origin.join(".venv"));
    // An editable installation of the project, whose state in the working copy must not be what is tested.
    std::fs::create_dir_all(origin.join("src")).expect("a directory");
    std::fs::write(origin.join("src/project.py"), "STATE = 'working copy'\n").expect("a file");
    std::fs::write(packages.join("project.pth"), format!("{}\n", origin.join("src").display())).expect("a file");
    let (work, cache, scratch) = (dir.path().join("work"), dir.path().join("cache"), dir.path().join("scratch"));
    std::fs::create_dir_all(work.join("src")).expect("a directory");
    std::fs::write(work.join("src/project.py"), "STATE = 'checkout'\n").expect("a file");
    let line = "python -c 'import dependency, project, sys; print(dependency.NAME, project.STATE, sys.prefix)'";
    let run = |origin: Option<std::path::PathBuf>| {
        let (work, cache, scratch) = (work.clone(), cache.clone(), scratch.clone());
        async move {
            let job = Job {
                command: line,
                purpose: Purpose::Check,
                origin: origin.as_deref(),
                dir: &work,
                cache: &cache,
                scratch: &scratch,
                env: &[],
                timeout: Duration::from_secs(60),
                max_output: 4096,
                proxy: None,
            };
            text(&inactive().run(&job, None).await.expect("it starts"))
        }
    };
    let out = run(Some(origin.clone())).await;
    assert!(out.starts_with(&format!("dependency checkout {}/.venv\n", origin.display())), "{out}");
    // A directory of this name that the commit contains is not an environment that a person has made.
    std::fs::create_dir(work.join(".venv")).expect("a directory");
    assert!(!run(Some(origin)).await.contains("dependency checkout"));
    assert!(!run(None).await.contains("dependency checkout"));
}

/// Creates a sandbox in which no virtual environment is active.
fn inactive() -> Sandbox {
    let own = std::env::vars_os().filter(|(name, _)| name != "VIRTUAL_ENV" && name != "CONDA_PREFIX").collect();
    let helper = Path::new(env!("CARGO_BIN_EXE_skep"));
    Sandbox::new(&own, &[]).with_policy(&Policy::default(), Some(helper)).expect("bubblewrap is installed")
}

#[tokio::test]
async fn an_active_environment_is_visible_as_a_whole() {
    let (dir, home) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let venv = home.path().join("environments/one");
    environment(&venv);
    let mut own: std::collections::BTreeMap<_, _> = std::env::vars_os().collect();
    own.insert("VIRTUAL_ENV".into(), venv.clone().into());
    own.insert("PATH".into(), format!("{}:/usr/bin:/bin", venv.join("bin").display()).into());
    let helper = Path::new(env!("CARGO_BIN_EXE_skep"));
    let sandbox = Sandbox::new(&own, &[]).with_policy(&Policy::default(), Some(helper)).expect("bubblewrap");
    let ended = run(&sandbox, dir.path(), "python3 -c 'import dependency; print(dependency.NAME)'", None).await;
    assert_eq!(text(&ended), "dependency\n");
}

#[tokio::test]
async fn a_command_as_another_user_can_use_crates_with_narrow_modes() {
    use std::os::unix::fs::PermissionsExt;
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (dir, home) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let registry = home.path().join("cargo/registry");
    let (index, unpacked) = (registry.join("cache/index"), registry.join("src/index/narrow-1.0.0"));
    for folder in [&index, &unpacked] {
        std::fs::create_dir_all(folder).expect("a directory");
    }
    std::fs::write(index.join("narrow-1.0.0.crate"), "download").expect("a file");
    std::fs::write(unpacked.join("lib.rs"), "narrow").expect("a file");
    std::fs::set_permissions(unpacked.join("lib.rs"), std::fs::Permissions::from_mode(0o640)).expect("a mode");
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o700)).expect("a mode");
    let mut own: std::collections::BTreeMap<_, _> = std::env::vars_os().collect();
    own.insert("CARGO_HOME".into(), home.path().join("cargo").into());
    let helper = Path::new(env!("CARGO_BIN_EXE_skep"));
    let sandbox = Sandbox::new(&own, &[]).with_policy(&Policy::default(), Some(helper)).expect("bubblewrap");
    // The thousands of files of a registry are only linked for a project that uses them.
    let other = tempfile::tempdir().expect("a directory");
    let ended = run(&sandbox, other.path(), "test -d $CARGO_HOME && ! test -e $CARGO_HOME/registry", None).await;
    assert!(ended.ok(), "{ended:?}");
    std::fs::create_dir(dir.path().join("work")).expect("a directory");
    std::fs::write(dir.path().join("work/Cargo.toml"), "").expect("a file");
    let line = "cat $CARGO_HOME/registry/cache/index/*.crate && ! test -e $CARGO_HOME/registry/src/index/narrow-1.0.0/lib.rs \
                && mkdir -p $CARGO_HOME/registry/src/index && echo mine > $CARGO_HOME/registry/src/index/lib.rs";
    let ended = run(&sandbox, dir.path(), line, None).await;
    assert!(ended.ok() && text(&ended) == "download", "{ended:?}");
}
