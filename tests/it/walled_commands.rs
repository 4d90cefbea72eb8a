//! What a command behind the walls gets and is denied: its way out by the gate, its limits, its toolchains, its files' owner.

use crate::support::walls;
use skep::platform::process::Finished;
use skep::platform::sandbox::{Job, Limits, Policy, ProxyEndpoint, Purpose, Sandbox};
use skep::secrets::Secret;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

async fn run(sandbox: &Sandbox, dir: &Path, line: &str, gate: Option<&ProxyEndpoint>) -> Finished {
    let at = |name: &str| {
        let path = dir.join(name);
        std::fs::create_dir_all(&path).expect("a folder");
        path
    };
    let (work, cache, scratch) = (at("work"), at("cache"), at("scratch"));
    let job = Job {
        line,
        purpose: Purpose::Check,
        dir: &work,
        cache: &cache,
        scratch: &scratch,
        env: &[],
        limit: Duration::from_secs(120),
        keep: 64 * 1024,
        gate,
    };
    sandbox.run(&job, None).await.expect("the command is started")
}

fn text(ended: &Finished) -> String {
    String::from_utf8_lossy(&ended.stdout).into_owned()
}

fn limited(limits: Limits) -> Sandbox {
    walls::with(&Policy { limits, ..Policy::default() })
}

#[tokio::test]
async fn the_gate_is_the_one_way_out() {
    let dir = tempfile::tempdir().expect("a folder");
    let socket = dir.path().join("gate.sock");
    let gate = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let login = Secret::new("skep:token");
    let place = ProxyEndpoint { socket, tcp: tcp.local_addr().expect("an address"), login };
    let answering = std::thread::spawn(move || {
        let (mut client, _) = gate.accept().expect("a connection");
        let mut asked = [0; 5];
        client.read_exact(&mut asked).expect("a question");
        client.write_all(b"answer").expect("an answer");
        asked
    });
    let sandbox = walls::sandbox();
    let ask = "import socket,os; p=os.environ['HTTPS_PROXY']; print(p); s=socket.create_connection(('127.0.0.1', \
               int(p.rsplit(':',1)[1]))); s.sendall(b'hello'); s.shutdown(socket.SHUT_WR); print(s.recv(9).decode())";
    let ended = run(&sandbox, dir.path(), &format!("/usr/bin/python3 -c \"{ask}\""), Some(&place)).await;
    assert_eq!(text(&ended), format!("{}\nanswer\n", sandbox.gate_url(&place)));
    assert_eq!(&answering.join().expect("an end"), b"hello");
    // Its other place is the host's, which is not there behind the walls; and without a gate there is no port and no proxy.
    let line = format!(
        "echo \"<$HTTPS_PROXY>\"; (: < /dev/tcp/127.0.0.1/7390) 2>&1 | tail -n 1; (: < /dev/tcp/{}/{}) 2>&1 | tail -n 1",
        place.tcp.ip(),
        place.tcp.port()
    );
    let ended = run(&sandbox, dir.path(), &format!("bash -c '{line}'"), None).await;
    assert!(text(&ended).starts_with("<>\n") && text(&ended).matches("refused").count() == 2, "{}", text(&ended));
}

#[tokio::test]
async fn memory_of_all_its_processes_together_is_limited() {
    let dir = tempfile::tempdir().expect("a folder");
    let sandbox = limited(Limits { memory: 64 << 20, ..Limits::default() });
    // None of the four is over the limit alone.
    let each = "python3 -c 'import time; x=b\"x\"*(30<<20); time.sleep(60)' &";
    let ended = run(&sandbox, dir.path(), &format!("PATH=/usr/bin; {each} {each} {each} {each} wait"), None).await;
    assert!(ended.stopped.as_deref().is_some_and(|why| why.contains("memory")), "{ended:?}");
    let ended = run(&sandbox, dir.path(), "/usr/bin/python3 -c 'b\"x\"*(200<<20)'", None).await;
    assert!(!ended.ok() && text(&ended).contains("MemoryError"), "{ended:?}");
}

#[tokio::test]
async fn memory_that_is_in_no_process_is_limited() {
    let dir = tempfile::tempdir().expect("a folder");
    let sandbox = limited(Limits { memory: 64 << 20, ..Limits::default() });
    for fill in
        ["head -c 100000000 /dev/zero > /dev/shm/x", "i=0; while [ $i -lt 80000 ]; do : > /tmp/$i; i=$((i+1)); done"]
    {
        let ended = run(&sandbox, dir.path(), &format!("{fill}; sleep 60"), None).await;
        assert!(ended.stopped.as_deref().is_some_and(|why| why.contains("memory")), "{fill}: {ended:?}");
    }
}

#[tokio::test]
async fn disk_is_limited_over_all_its_folders() {
    let dir = tempfile::tempdir().expect("a folder");
    let sandbox = limited(Limits { workspace: 8 << 20, ..Limits::default() });
    let fill = "for n in 1 2 3 4 5 6; do head -c 2000000 /dev/zero > $n; head -c 2000000 /dev/zero > $TMPDIR/$n; done; sleep 60";
    let ended = run(&sandbox, dir.path(), fill, None).await;
    assert!(ended.stopped.as_deref().is_some_and(|why| why.contains("disk")), "{ended:?}");
    let bury =
        "i=0; while [ $i -lt 300 ]; do mkdir d; cd d; i=$((i+1)); done; head -c 10000000 /dev/zero > x; sleep 60";
    let ended = run(&sandbox, &dir.path().join("deep"), bury, None).await;
    assert!(ended.stopped.as_deref().is_some_and(|why| why.contains("deep")), "{ended:?}");
}

#[tokio::test]
async fn a_link_left_where_skep_writes_is_not_followed() {
    let dir = tempfile::tempdir().expect("a folder");
    let outside = tempfile::tempdir().expect("a folder");
    let sandbox = walls::sandbox();
    let ended =
        run(&sandbox, dir.path(), &format!("rm -rf $HOME; ln -s {} $HOME", outside.path().display()), None).await;
    assert!(ended.ok(), "{}", text(&ended));
    let job = |line| Job {
        line,
        purpose: Purpose::Check,
        dir: Path::new("/"),
        cache: Path::new("/"),
        scratch: Path::new("/"),
        env: &[],
        limit: Duration::from_secs(9),
        keep: 99,
        gate: None,
    };
    let (work, cache, scratch) = (dir.path().join("work"), dir.path().join("cache"), dir.path().join("scratch"));
    let again = Job { dir: &work, cache: &cache, scratch: &scratch, ..job("true") };
    let said = sandbox.run(&again, None).await.expect_err("it is refused").to_string();
    assert!(said.contains("link"), "{said}");
    assert_eq!(std::fs::read_dir(outside.path()).expect("a folder").count(), 0);
}

#[tokio::test]
async fn a_command_at_its_limit_of_processes_takes_nothing_from_another() {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let dir = tempfile::tempdir().expect("a folder");
    let sandbox = limited(Limits { processes: 24, ..Limits::default() });
    // As many as it is given, all of them alive until somebody says something.
    let fork = "import os,sys\nn=0\nr,w=os.pipe()\nwhile n<90:\n try: p=os.fork()\n except OSError: break\n if p==0: os.close(w); os.read(r,1); \
                os._exit(0)\n n+=1\nprint(n,flush=True)\nsys.stdin.read(1)";
    let line = format!("printf '{}' > f.py; exec /usr/bin/python3 f.py", fork.replace('\n', "\\n"));
    let (full, cache, scratch) = (dir.path().join("full"), dir.path().join("cache"), dir.path().join("scratch"));
    std::fs::create_dir(&full).expect("a folder");
    let job = Job {
        line: &line,
        purpose: Purpose::Check,
        dir: &full,
        cache: &cache,
        scratch: &scratch,
        env: &[],
        limit: Duration::from_secs(60),
        keep: 1024,
        gate: None,
    };
    let (mut talk, _strays) = sandbox.open(&job).expect("it is started");
    let mut first = String::new();
    BufReader::new(&mut talk.stdout).read_line(&mut first).await.expect("it writes");
    let second = run(&sandbox, dir.path(), &format!("({line}) < /dev/null"), None).await;
    let counts = [first, text(&second)].map(|t| t.trim().parse::<u32>().unwrap_or_else(|e| panic!("{t:?}: {e}")));
    assert!(counts.iter().all(|n| (18..24).contains(n)), "{counts:?}");
    talk.stdin.write_all(b"x").await.expect("the first is still there");
}

#[tokio::test]
async fn a_program_is_talked_to_behind_the_walls_from_its_first_byte() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, scratch) = (dir.path().join("cache"), dir.path().join("scratch"));
    let large = [("LARGE", "x".repeat(120_000))];
    let job = Job {
        line: "cat; echo aside >&2; echo ${#LARGE}",
        purpose: Purpose::Agent,
        dir: dir.path(),
        cache: &cache,
        scratch: &scratch,
        env: &large,
        limit: Duration::from_secs(60),
        keep: 1024,
        gate: None,
    };
    let (mut talk, _strays) = walls::sandbox().open(&job).expect("it is started");
    talk.stdin.write_all(b"\x01first\n").await.expect("it reads");
    drop(talk.stdin);
    let mut said = String::new();
    talk.stdout.read_to_string(&mut said).await.expect("it writes");
    assert_eq!(said, "\x01first\n120000\n");
    let ended = talk.end.end(Duration::from_secs(5)).await.expect("it ends");
    assert_eq!((ended.code, String::from_utf8_lossy(&ended.stderr).trim()), (Some(0), "aside"));
}

#[tokio::test]
async fn a_crate_is_built_and_tested_behind_the_walls() {
    let dir = tempfile::tempdir().expect("a folder");
    let work = dir.path().join("work");
    std::fs::create_dir_all(work.join("src")).expect("a folder");
    std::fs::write(work.join("Cargo.toml"), "[package]\nname = \"x\"\nversion = \"0.1.0\"\nedition = \"2024\"\n")
        .expect("a file");
    std::fs::write(work.join("src/lib.rs"), "#[test]\nfn one() {}\n").expect("a file");
    let ended = run(&walls::sandbox(), dir.path(), "cargo test --offline 2>&1", None).await;
    assert!(ended.ok() && text(&ended).contains("1 passed"), "{}", text(&ended));
}
