//! A process killed between any two instructions loses nothing that was acknowledged.

use crate::support::runs::{moving, no_lease, opening, owner, run};
use crate::support::stores::TestStore;
use skep::adapters::store::connect;
use skep::domain::{Phase, RunId};
use skep::ports::{Journal, Leases};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

super::on_both!(a_killed_process_loses_nothing_acknowledged);

/// The variable with the URL of the killed process's store.
const URL: &str = "SKEP_TEST_CRASH_URL";
const KILLS: usize = 4;

/// The process that is killed: it writes batches of transitions and prints each one after its acknowledgement.
#[tokio::test]
#[ignore = "started and killed by the tests of this file"]
async fn writer() {
    let Ok(url) = std::env::var(URL) else { return };
    let store = connect(&url).await.expect("the store");
    let mut runs = [run(), run(), run()];
    let mut leases = Vec::new();
    for r in &runs {
        store.commit(vec![opening(r, no_lease(r.id)).into()]).await.remove(0).expect("an opening");
        println!("ack {} 1", r.id);
        leases.push(store.acquire(r.id, &owner("one"), 60).await.expect("an answer").expect("a run").lease);
    }
    loop {
        let batch = runs.iter_mut().zip(&leases).map(|(r, lease)| moving(r, lease, Phase::Working, 2).into()).collect();
        for answer in store.commit(batch).await {
            answer.expect("a transition");
        }
        for r in &runs {
            println!("ack {} {}", r.id, r.seq);
        }
    }
}

async fn a_killed_process_loses_nothing_acknowledged(b: TestStore) {
    for kill in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "store_contract::crash::writer", "--ignored", "--nocapture"])
            .env(URL, &b.url)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the writer");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut acknowledged = Vec::new();
        while acknowledged.len() < 20 + kill * 7 {
            let line = lines.next().expect("the writer ended by itself").expect("a line");
            acknowledged.extend(read_ack(&line));
        }
        child.kill().expect("a kill");
        child.wait().expect("its end");
        // Lines printed before the kill were acknowledged too.
        acknowledged.extend(lines.map_while(Result::ok).filter_map(|line| read_ack(&line)));

        let mut last = std::collections::BTreeMap::new();
        last.extend(acknowledged);
        assert_eq!(last.len(), 3);
        for (run, seq) in last {
            // Acquire the run before reading it: the database may still execute the last statement of the killed
            // process.
            assert!(
                b.store.acquire(run, &owner("two"), 60).await.expect("an answer").is_none(),
                "its lease still runs"
            );
            let taken = b.store.acquire(run, &owner("one"), 60).await.expect("an answer").expect("a run");
            let numbers: Vec<u64> =
                b.store.events(run, 0, 1_000).await.expect("a journal").iter().map(|row| row.seq).collect();
            let written = numbers.len() as u64;
            assert_eq!(numbers, (1..=written).collect::<Vec<_>>(), "a gap");
            assert!(written == seq || written == seq + 1, "{written} written, {seq} acknowledged");
            // Events, state and outbox agree.
            assert_eq!((taken.run.seq, taken.pending.len() as u64), (written, 2 * (written - 1)));
        }
    }
}

fn read_ack(line: &str) -> Option<(RunId, u64)> {
    let (run, seq) = line.split_once("ack ")?.1.split_once(' ')?;
    Some((RunId::try_from(run.to_owned()).ok()?, seq.parse().ok()?))
}
