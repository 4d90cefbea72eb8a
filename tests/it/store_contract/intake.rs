//! Intake: deliveries are stored once and applied in order, and an issue has one run.

use crate::support::stores::TestStore;
use skep::domain::{BlockId, CommandTarget, DeliveryState, Fact, ForgeName, RunId, Timestamp};
use skep::ports::intake::{COMMENTED, Intake, IssueProgress, IssueRun, NewDelivery};

on_both!(
    a_delivery_is_stored_once_and_settled_once,
    comments_that_a_sweep_found_come_first,
    only_settled_deliveries_are_forgotten,
    an_issue_has_one_run,
    cursors_are_kept_for_each_data_directory
);

fn forge() -> ForgeName {
    ForgeName("github".to_owned())
}

fn delivery(id: &str, key: Option<&str>) -> NewDelivery {
    NewDelivery {
        forge: forge(),
        id: id.to_owned(),
        event: "issue_comment.created".to_owned(),
        repository: "my-org/calc".to_owned(),
        fact: Ok(Fact::Commented { number: 7, comment: 9 }),
        key: key.map(str::to_owned),
        at: Timestamp(1_000),
    }
}

async fn a_delivery_is_stored_once_and_settled_once(b: TestStore) {
    let sea = &b.sea;
    let stored =
        futures::future::join_all((0..8).map(|_| async { sea.receive(&delivery("a", Some("k"))).await })).await;
    assert_eq!(stored.into_iter().filter(|new| *new.as_ref().unwrap()).count(), 1);
    assert!(sea.receive(&delivery("b", Some("k"))).await.unwrap());
    let ignored = NewDelivery { fact: Err("no\0thing to do".to_owned()), ..delivery("c", None) };
    assert!(sea.receive(&ignored).await.unwrap());
    let due = sea.due(Timestamp(1_000), 10).await.unwrap();
    let ids: Vec<&str> = due.iter().map(|d| d.new.id.as_str()).collect();
    assert_eq!(ids, ["a", "b"], "in order of arrival");
    assert_eq!(due[0].new, delivery("a", Some("k")));
    assert!(sea.due(Timestamp(999), 10).await.unwrap().is_empty());
    let (a, second) = (due[0].seq, due[1].seq);

    let target = CommandTarget {
        run: RunId::try_from("0192f0c0-0000-7000-8000-000000000001".to_owned()).unwrap(),
        block: Some(BlockId(2)),
    };
    assert_eq!(sea.pin(a, &target).await.unwrap(), target);
    let later = CommandTarget { block: None, ..target };
    assert_eq!(sea.pin(a, &later).await.unwrap(), target, "the first target stays");

    assert!(!sea.was_applied(&forge(), "k", second).await.unwrap());
    sea.postpone(a, "the forge is down", Timestamp(5_000)).await.unwrap();
    assert_eq!(sea.next_due().await.unwrap(), Some(Timestamp(1_000)));
    let due = sea.due(Timestamp(5_000), 10).await.unwrap();
    assert_eq!((due[0].tries, due[0].reason.as_str(), due[0].target), (1, "the forge is down", Some(target)));
    sea.settle(a, DeliveryState::Applied, "the reply", Timestamp(6_000)).await.unwrap();
    sea.postpone(a, "the forge is down", Timestamp(7_000)).await.unwrap();
    let due = sea.due(Timestamp(7_000), 10).await.unwrap();
    assert_eq!((due[0].state, due[0].reason.as_str()), (DeliveryState::Applied, "the reply"));
    assert!(sea.was_applied(&forge(), "k", second).await.unwrap());
    assert!(!sea.was_applied(&forge(), "k", a).await.unwrap(), "another delivery than this one");
    for (seq, state) in [(a, DeliveryState::Done), (second, DeliveryState::Failed)] {
        sea.settle(seq, state, "so", Timestamp(8_000)).await.unwrap();
    }
    assert!(sea.due(Timestamp(i64::MAX), 10).await.unwrap().is_empty());
    assert_eq!(sea.next_due().await.unwrap(), None);
    let listed = sea.deliveries(&forge(), None, 10).await.unwrap();
    let states: Vec<DeliveryState> = listed.iter().map(|d| d.state).collect();
    assert_eq!(states, [DeliveryState::Ignored, DeliveryState::Failed, DeliveryState::Done]);
    assert_eq!(listed[0].reason, "nothing to do");
    assert_eq!(sea.deliveries(&forge(), Some(second), 10).await.unwrap().len(), 1);
    // Another data directory on the same database sees none of it.
    let other = sea.clone().at_home("elsewhere");
    assert!(other.deliveries(&forge(), None, 10).await.unwrap().is_empty());
    assert!(other.receive(&delivery("a", None)).await.unwrap());
}

async fn comments_that_a_sweep_found_come_first(b: TestStore) {
    let sea = &b.sea;
    let found = |id: &str| NewDelivery { event: COMMENTED.to_owned(), ..delivery(id, None) };
    for new in [delivery("a", None), found("b"), delivery("c", None), found("d")] {
        sea.receive(&new).await.unwrap();
    }
    let due = sea.due(Timestamp(1_000), 3).await.unwrap();
    let ids: Vec<&str> = due.iter().map(|d| d.new.id.as_str()).collect();
    assert_eq!(ids, ["b", "d", "a"]);
}

async fn only_settled_deliveries_are_forgotten(b: TestStore) {
    for n in 0..6 {
        b.sea.receive(&delivery(&format!("d{n}"), None)).await.unwrap();
    }
    for delivery in b.sea.due(Timestamp(1_000), 10).await.unwrap().iter().skip(1) {
        b.sea.settle(delivery.seq, DeliveryState::Done, "", Timestamp(2_000)).await.unwrap();
    }
    b.sea.forget_deliveries(&forge(), 10).await.unwrap();
    assert_eq!(b.sea.deliveries(&forge(), None, 10).await.unwrap().len(), 6);
    b.sea.forget_deliveries(&forge(), 2).await.unwrap();
    let left = b.sea.deliveries(&forge(), None, 10).await.unwrap();
    let ids: Vec<&str> = left.iter().map(|d| d.new.id.as_str()).collect();
    assert_eq!(ids, ["d5", "d4", "d0"]);
}

fn issue(run: &str) -> IssueRun {
    IssueRun {
        forge: forge(),
        repository: "my-org/calc".to_owned(),
        number: 7,
        run: RunId::try_from(format!("0192f0c0-0000-7000-8000-00000000000{run}")).unwrap(),
        asked_at: Timestamp(1_000),
        progress: IssueProgress::default(),
        is_finished: false,
    }
}

async fn an_issue_has_one_run(b: TestStore) {
    let sea = &b.sea;
    let claims =
        ["1", "2", "3", "4"].map(|run| async move { sea.claim_issue(&issue(run)).await.unwrap().unwrap().run });
    let runs = futures::future::join_all(claims).await;
    assert!(runs.iter().all(|run| *run == runs[0]), "{runs:?}");
    let held = sea.issue_run(&forge(), "my-org/calc", 7).await.unwrap().unwrap();
    assert_eq!(sea.open_issues(10).await.unwrap(), std::slice::from_ref(&held));
    // A data directory that has none is told so.
    let other = sea.clone().at_home("elsewhere");
    assert_eq!(other.claim_issue(&issue("5")).await.unwrap(), None);
    let progress = IssueProgress { run: "x".to_owned(), question: String::new() };
    let finished = IssueRun { progress: progress.clone(), is_finished: true, ..held.clone() };
    sea.put_progress(&finished).await.unwrap();
    assert!(sea.open_issues(10).await.unwrap().is_empty());
    assert!(!sea.replace_issue_run(&issue("6"), issue("9").run).await.unwrap(), "only if it is the run before");
    assert!(sea.replace_issue_run(&issue("6"), held.run).await.unwrap());
    assert_eq!(sea.open_issues(10).await.unwrap(), [issue("6")]);
    // What was still under way for the run before changes nothing.
    sea.put_progress(&finished).await.unwrap();
    assert_eq!(sea.open_issues(10).await.unwrap(), [issue("6")]);
}

async fn cursors_are_kept_for_each_data_directory(b: TestStore) {
    assert_eq!(b.sea.cursor(&forge(), "my-org/calc").await.unwrap(), None);
    for at in [5, 9] {
        b.sea.put_cursor(&forge(), "my-org/calc", Timestamp(at)).await.unwrap();
    }
    assert_eq!(b.sea.cursor(&forge(), "my-org/calc").await.unwrap(), Some(Timestamp(9)));
    assert_eq!(b.sea.clone().at_home("elsewhere").cursor(&forge(), "my-org/calc").await.unwrap(), None);
}
