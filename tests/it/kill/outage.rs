//! Kills, stops and a full disk at random moments, while a client sends orders: no acknowledged run is lost, no order makes
//! two runs, and no process stays.
//!
//! `SKEP_TEST_OUTAGES=<n>` sets the number of outages, `SKEP_TEST_SEED=<n>` repeats the moments of an earlier run.

use super::block_on;
use super::random::{number, patient, seeded_rng};
use crate::support::program::{Running, Scene, git, until};
use crate::support::sameness::{check_journal, runs};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::{Value, json};
use skep::domain::Outcome;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

const ORDERS: usize = 8;

#[derive(Clone, Copy, Debug)]
enum Outage {
    Kill,
    Stop,
    FullDisk,
}

/// Starts a service that does not die from a write beyond the limit of its files.
fn serve(scene: &Scene) -> Running {
    let serve = scene.skep(&["serve"]);
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(serve.get_program()).args(serve.get_args());
    for (name, value) in serve.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    scene.serving(scene.start(command), &scene.data)
}

/// Sends a request to the service that runs now; `None` if there is no answer.
fn send(scene: &Scene, path: &str, key: Option<&str>, body: &Value) -> Option<(u16, Value)> {
    let endpoint: Value = serde_json::from_str(&std::fs::read_to_string(scene.data.join("service.json")).ok()?).ok()?;
    let token = std::fs::read_to_string(scene.data.join("token")).ok()?;
    let http = reqwest::blocking::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().ok()?;
    let address = endpoint["address"].as_str()?;
    let mut request = http.post(format!("http://{address}/api/v1{path}")).bearer_auth(token.trim()).json(body);
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let response = request.send().ok()?;
    Some((response.status().as_u16(), response.json().ok()?))
}

/// Sends every order until it is acknowledged, and returns the runs by key.
fn order_all(scene: &Scene) -> BTreeMap<String, String> {
    let mut acknowledged = BTreeMap::new();
    for n in 0..ORDERS {
        let key = format!("order-{n}");
        let order = json!({"repo": scene.origin, "goal": format!("goal {n}"), "checks": ["test -f a.txt"],
            "engines": {"dev": format!("command: sleep 0.1; echo {n} > {n}.txt")}});
        let run = until("the order is acknowledged", Duration::from_secs(120), || {
            let (status, run) = send(scene, "/runs", Some(&key), &order)?;
            matches!(status, 200 | 201).then(|| run["id"].as_str().expect("an id").to_owned())
        });
        acknowledged.insert(key, run);
    }
    acknowledged
}

#[test]
fn a_client_goes_on_when_its_service_is_killed_at_the_question() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let scene = Scene::new("", None).with("SKEP_SERVER__LISTEN", &format!("127.0.0.1:{port}"));
    let mut service = serve(&scene);
    for n in 0..4 {
        let mut client =
            scene.start(scene.order_by(&format!("goal {n}"), &format!("command: echo {n} > {n}.txt"), &["--yes"]));
        until("the run asks or has ended", Duration::from_secs(60), || {
            let asks = block_on(runs(&scene)).into_iter().any(|run| !run.blocks.is_empty());
            (asks || client.ended().is_some()).then_some(())
        });
        service.kill();
        service = serve(&scene);
        let code = until("the client ends", Duration::from_secs(40), || client.ended());
        assert_eq!(code, Some(0), "{}", client.output());
    }
    let all = block_on(runs(&scene));
    assert!(all.len() == 4 && all.iter().all(|run| matches!(run.outcome, Some(Outcome::Delivered { .. }))));
}

/// A command that is stopped while it lands reports the landing, or the next one does; neither opens a second run.
#[test]
fn a_command_stopped_at_random_moments_lands_once() {
    let mut rng = seeded_rng();
    for _ in 0..4 {
        let scene = Scene::new("", None).with("SKEP_POLICY__APPROVE_MERGE", "false");
        let order = || scene.order_by("add a file", "command: echo two > b.txt", &[]);
        let mut code = None;
        for _ in 0..6 {
            let mut running = scene.start(order());
            std::thread::sleep(Duration::from_millis(rng.below(1_500)));
            let had_ended = running.ended().is_some();
            if !had_ended {
                running.signal(Signal::TERM);
            }
            let asked = std::time::Instant::now();
            code = running.wait();
            assert!(asked.elapsed() < Duration::from_secs(10), "{}", running.output());
            assert!(matches!(code, None | Some(0 | 4)), "{code:?}: {}", running.output());
            if code == Some(0) {
                break;
            }
        }
        if code != Some(0) {
            let (code, output) = scene.run(order());
            assert_eq!(code, Some(0), "{output}");
        }
        assert_eq!(block_on(runs(&scene)).len(), 1, "one order is one run");
        assert_eq!(git(&scene.origin, &["rev-list", "--count", "main"]), "2", "it landed once");
        scene.wait_until_processes_end();
    }
}

#[test]
fn outages_at_random_moments_lose_no_acknowledged_run() {
    skep::telemetry::install_crypto();
    let (mut rng, outages) = (seeded_rng(), number("SKEP_TEST_OUTAGES").unwrap_or(8));
    let scene = patient(Scene::new("", None)).with("SKEP_POLICY__APPROVE_MERGE", "false");
    let mut service = serve(&scene);
    let acknowledged = std::thread::scope(|scope| {
        let client = scope.spawn(|| order_all(&scene));
        for _ in 0..outages {
            // The moment is the test input, so there is no condition to wait for.
            std::thread::sleep(Duration::from_millis(rng.below(900)));
            let outage = rng.one_of(&[Outage::Kill, Outage::Stop, Outage::FullDisk]);
            println!("{outage:?}");
            match outage {
                Outage::Kill => {
                    service.kill();
                    service = serve(&scene);
                }
                Outage::Stop => {
                    service.signal(Signal::TERM);
                    assert_eq!(service.wait(), Some(0), "{}", service.output());
                    service = serve(&scene);
                }
                Outage::FullDisk => {
                    let pid = i32::try_from(service.pid()).ok().and_then(Pid::from_raw).expect("a pid");
                    let limit = |current| Rlimit { current, maximum: None };
                    prlimit(Some(pid), Resource::Fsize, limit(Some(rng.below(64 * 1024)))).expect("the limit");
                    std::thread::sleep(Duration::from_millis(rng.below(1_500)));
                    prlimit(Some(pid), Resource::Fsize, limit(None)).expect("no limit");
                }
            }
        }
        client.join().expect("the client")
    });
    let all = until("every run ends", Duration::from_secs(150), || {
        let all = block_on(runs(&scene));
        for run in all.iter().filter(|run| !run.blocks.is_empty()) {
            // What a person was asked during the outage: it is over, try again.
            send(&scene, &format!("/runs/{}/actions/unblock", run.id), None, &json!({}));
        }
        (all.len() == ORDERS && all.iter().all(|run| run.ended())).then_some(all)
    });
    let mut expected: Vec<String> = acknowledged.into_values().collect();
    let mut found: Vec<String> = all.iter().map(|run| run.id.to_string()).collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected, "the runs are those that were acknowledged, one for each order");
    for run in &all {
        block_on(check_journal(&scene, run));
        assert!(matches!(run.outcome, Some(Outcome::Delivered { .. })), "{:?}", run.outcome);
    }
    assert_eq!(git(&scene.origin, &["rev-list", "--count", "main"]), (ORDERS + 1).to_string());
    drop(service);
    scene.wait_until_processes_end();
}
