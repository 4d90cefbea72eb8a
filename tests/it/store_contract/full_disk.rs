//! A disk that is full at random moments: nothing is acknowledged that is not stored, and the store recovers with the disk.

use crate::support::rng::Rng;
use crate::support::runs::{moving, no_lease, opening, owner, run};
use crate::support::stores::{TestStore, on_sqlite};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use skep::adapters::store::{SeaStore, connect};
use skep::domain::{Phase, Run, RunId};
use skep::ports::leases::Lease;
use skep::ports::{Journal, Leases, PortError, Store};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The variables with the URL of the writer's store and its seed.
const URL: &str = "SKEP_TEST_FULL_DISK_URL";
const SEED: &str = "SKEP_TEST_FULL_DISK_SEED";

/// Limits the size of this process's files: a write beyond it fails, as on a full disk.
fn limit_files(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum }).expect("the limit");
}

/// Writes a transition and prints the run and its sequence number once it is acknowledged. Returns whether it was.
async fn write(store: &SeaStore, run: &Run, transition: skep::ports::journal::Transition) -> bool {
    match store.commit(vec![transition.into()]).await.remove(0) {
        Ok(()) => {
            println!("ack {} {}", run.id, run.seq);
            true
        }
        Err(PortError::Transient { .. } | PortError::Unknown { .. }) => {
            println!("failed");
            false
        }
        Err(e) => panic!("a full disk passes: {e}"),
    }
}

/// The writing process, because the limit holds for all of a process.
#[tokio::test]
#[ignore = "started by the test of this file"]
async fn writer() {
    let (Ok(url), Ok(seed)) = (std::env::var(URL), std::env::var(SEED)) else { return };
    let mut rng = Rng(seed.parse().expect("a seed"));
    let store = connect(&url).await.expect("the store");
    let mut runs: Vec<(Run, Lease)> = Vec::new();
    for round in 0..30 {
        limit_files((round % 2 == 1).then(|| rng.below(64 * 1024)));
        for _ in 0..=rng.below(5) {
            if runs.is_empty() || rng.chance(40) {
                let new = run();
                if write(&store, &new, opening(&new, no_lease(new.id))).await {
                    let leased = store.acquire(new.id, &owner("one"), 3600).await;
                    runs.extend(leased.ok().flatten().map(|leased| (new, leased.lease)));
                }
            } else {
                let index = rng.below(runs.len() as u64) as usize;
                let (old, lease) = &mut runs[index];
                let mut next = old.clone();
                let transition = moving(&mut next, lease, Phase::Working, 2);
                // An unknown outcome is settled as the runtime does it: by writing the same again, without the limit.
                if !write(&store, &next, transition.clone()).await {
                    limit_files(None);
                    assert!(write(&store, &next, transition).await, "it is possible again");
                }
                *old = next;
            }
        }
    }
    limit_files(Some(0));
    let last = run();
    assert!(!write(&store, &last, opening(&last, no_lease(last.id))).await, "nothing can be written");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert!(store.ping().await.is_err(), "it is not ready");
    limit_files(None);
    assert!(write(&store, &last, opening(&last, no_lease(last.id))).await, "it recovers without a restart");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    store.ping().await.expect("it is ready again");
    println!("done");
}

async fn nothing_acknowledged_is_lost(b: TestStore, seed: u64) {
    // A signal that is ignored stays ignored in the program that is started.
    let program = std::env::current_exe().expect("this program");
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(program)
        .args(["--exact", "store_contract::full_disk::writer", "--ignored", "--nocapture"])
        .envs([(URL, b.url.clone()), (SEED, seed.to_string())])
        .stderr(Stdio::inherit())
        .output()
        .expect("the writer");
    let output = String::from_utf8_lossy(&output.stdout);
    assert!(output.contains("done"), "seed {seed}: {output}");
    assert!(output.contains("failed"), "seed {seed}: the limit was never met");
    let mut acknowledged: BTreeMap<RunId, u64> = BTreeMap::new();
    for line in output.lines() {
        let Some((id, seq)) = line.split_once("ack ").and_then(|(_, rest)| rest.split_once(' ')) else { continue };
        let id = RunId::try_from(id.to_owned()).expect("an id");
        acknowledged.insert(id, seq.parse().expect("a number"));
    }
    for (id, seq) in acknowledged {
        let stored =
            b.store.load(id).await.expect("readable").unwrap_or_else(|| panic!("seed {seed}: run {id} is lost"));
        assert_eq!(stored.seq, seq, "seed {seed}");
        assert_eq!(b.store.events(id, 0, 1_000).await.expect("a journal").len() as u64, seq, "seed {seed}");
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_on_a_disk_that_is_full_at_times() {
    for seed in [1, 2, 3] {
        on_sqlite(|b| nothing_acknowledged_is_lost(b, seed)).await;
    }
}
