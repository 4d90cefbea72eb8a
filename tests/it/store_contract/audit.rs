//! Audit log and idempotency keys: appended once, listed newest first, remembered for a time.

use crate::support::stores::TestStore;
use skep::domain::{Principal, RunId, Timestamp};
use skep::ports::audit::{AuditEntry, AuditFilter, AuditLog};
use skep::ports::idempotency::{IdempotencyKeys, NewClaim};

on_both!(records_are_listed_newest_first_and_never_changed, a_key_keeps_its_first_claim_until_it_is_forgotten);

fn entry(n: i64) -> AuditEntry {
    AuditEntry {
        at: Timestamp(n),
        principal: Principal::from("local:ann"),
        via: "rest".to_owned(),
        action: "run.open".to_owned(),
        subject: format!("run:{n}"),
        detail: "a 'quoted'\0 title".to_owned(),
    }
}

async fn records_are_listed_newest_first_and_never_changed(b: TestStore) {
    for n in 1..=3 {
        b.sea.record(&entry(n)).await.expect("a record");
    }
    let newest = b.sea.list(&AuditFilter { before: None, limit: 2 }).await.expect("a list");
    let subjects: Vec<&str> = newest.iter().map(|row| row.entry.subject.as_str()).collect();
    assert_eq!(subjects, ["run:3", "run:2"]);
    let expected = AuditEntry { detail: "a 'quoted' title".to_owned(), ..entry(3) };
    assert_eq!(newest[0].entry, expected, "a NUL is dropped, everything else is stored as it is");
    let older = b.sea.list(&AuditFilter { before: Some(newest[1].id), limit: 10 }).await.expect("a list");
    assert_eq!(older.iter().map(|row| row.entry.at.0).collect::<Vec<_>>(), [1]);
}

async fn a_key_keeps_its_first_claim_until_it_is_forgotten(b: TestStore) {
    let (ann, ben) = (Principal::from("local:ann"), Principal::from("local:ben"));
    let claim = |principal: &Principal, fingerprint: &str, at: i64| NewClaim {
        principal: principal.clone(),
        key: "8e03".to_owned(),
        fingerprint: fingerprint.to_owned(),
        run: RunId(uuid::Uuid::now_v7()),
        at: Timestamp(at),
        retention_secs: 10,
    };
    let first = claim(&ann, "one", 1_000);
    let claimed = b.sea.claim(&first).await.expect("a claim");
    assert_eq!((claimed.run, claimed.fingerprint.as_str(), claimed.reused), (first.run, "one", false));
    assert_eq!(b.sea.claim(&claim(&ann, "two", 2_000)).await.expect("a claim"), claimed, "the first claim is kept");
    let other = claim(&ben, "two", 2_000);
    assert_eq!(b.sea.claim(&other).await.expect("a claim").run, other.run, "keys belong to a principal");

    let reused = RunId(uuid::Uuid::now_v7());
    b.sea.settle(&ann, "8e03", reused).await.expect("settled");
    let settled = b.sea.claim(&claim(&ann, "one", 3_000)).await.expect("a claim");
    assert_eq!((settled.run, settled.reused), (reused, true));

    let late = claim(&ann, "three", 12_000);
    assert_eq!(b.sea.claim(&late).await.expect("a claim").run, late.run, "an old claim is forgotten");
}
