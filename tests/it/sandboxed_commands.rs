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
    assert!(ended.stop_reason.as_deref().is_some_and(|why| why.contains("memory")), "{ended:?}");
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
        assert!(ended.stop_reason.as_deref().is_some_and(|why| why.contains("memory")), "{fill}: {ended:?}");
    }
}

#[tokio::test]
async fn disk_space_is_limited_over_all_directories() {
    let dir = tempfile::tempdir().expect("a directory");
    let sandbox = limited(Limits { workspace: 8 << 20, ..Limits::default() });
    let fill = "for n in 1 2 3 4 5 6; do head -c 2000000 /dev/zero > $n; head -c 2000000 /dev/zero > $TMPDIR/$n; done; sleep 60";
    let ended = run(&sandbox, dir.path(), fill, None).await;
    assert!(ended.stop_reason.as_deref().is_some_and(|why| why.contains("disk")), "{ended:?}");
    let bury =
        "i=0; while [ $i -lt 300 ]; do mkdir d; cd d; i=$((i+1)); done; head -c 10000000 /dev/zero > x; sleep 60";
    let ended = run(&sandbox, &dir.path().join("deep"), bury, None).await;
    assert!(ended.stop_reason.as_deref().is_some_and(|why| why.contains("nested too deeply")), "{ended:?}");
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
