//! The idle service: time from start to ready, memory and CPU time. Starts the real program.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a benchmark that cannot run should fail loudly

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const STARTS: usize = 10;
const IDLE: Duration = Duration::from_secs(20);

/// Ends the service when the benchmark ends.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn main() {
    let tmp = tempfile::tempdir().expect("a temporary folder");
    let mut first = Duration::ZERO;
    let mut times = Vec::new();
    for n in 0..STARTS {
        let (service, took) = start(tmp.path());
        if n == 0 {
            first = took;
        } else {
            times.push(took);
        }
        drop(service);
    }
    times.sort();
    println!(
        "start to ready: first (makes the database) {} ms, then median {} ms, worst {} ms",
        first.as_millis(),
        times[times.len() / 2].as_millis(),
        times[times.len() - 1].as_millis()
    );
    let (service, _) = start(tmp.path());
    let pid = service.0.id();
    // Let the startup work finish before the idle service is measured.
    std::thread::sleep(Duration::from_secs(2));
    let before = cpu_ticks(pid);
    std::thread::sleep(IDLE);
    println!(
        "idle for {} s: {} CPU ticks of 10 ms, resident {} MiB, {} threads",
        IDLE.as_secs(),
        cpu_ticks(pid) - before,
        field(pid, "VmRSS:") / 1024,
        field(pid, "Threads:")
    );
}

fn start(data: &std::path::Path) -> (Service, Duration) {
    let began = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_skep"))
        .args(["serve", "--listen", "127.0.0.1:0", "--json", "--data-dir"])
        .arg(data)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the service starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut line).expect("a line");
    let took = began.elapsed();
    assert!(line.contains("\"ready\":true"), "not ready: {line}");
    (Service(child), took)
}

fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    fields[11].parse::<u64>().expect("user") + fields[12].parse::<u64>().expect("system")
}

fn field(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find(|l| l.starts_with(name)).expect("the field");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}
