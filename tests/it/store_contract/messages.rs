//! The outbox of messages, and what is monitored.

use crate::support::runs::{moving, run};
use crate::support::stores::TestStore;
use skep::domain::{Block, BlockId, BlockKind, Message, MessageEvent, Phase, Timestamp};
use skep::ports::messages::{MessageState, Messages};

super::on_both!(a_message_is_stored_once_and_settled_once, runs_are_summed_up);

fn message(key: &str) -> Message {
    Message {
        key: key.to_owned(),
        event: MessageEvent::Question,
        run: None,
        block: Some(1),
        project: "tool".to_owned(),
        title: "a \u{1f41d} \"title\"".to_owned(),
        summary: String::new(),
        needs: vec!["a person".to_owned()],
        cost_micros: 7,
        path: "/".to_owned(),
        at: Timestamp(1),
    }
}

async fn a_message_is_stored_once_and_settled_once(b: TestStore) {
    let sea = &b.sea;
    let at = Timestamp;
    assert_eq!(sea.known_since("team", at(5)).await.unwrap(), at(5));
    assert_eq!(sea.known_since("team", at(9)).await.unwrap(), at(5));
    let stored =
        futures::future::join_all((0..8).map(|_| async { sea.put("team", &message("a"), at(10)).await })).await;
    assert_eq!(stored.into_iter().filter(|new| *new.as_ref().unwrap()).count(), 1);
    assert!(sea.put("other", &message("a"), at(10)).await.unwrap(), "another channel has its own");
    assert!(sea.put("team", &message("b"), at(11)).await.unwrap());
    assert_eq!(sea.next_due("team").await.unwrap(), Some(at(10)));
    assert_eq!(sea.next_due("nowhere").await.unwrap(), None);
    let keys = async |now| -> Vec<(String, u32)> {
        let due = sea.due("team", at(now), 10).await.unwrap();
        due.into_iter().map(|pending| (pending.message.key, pending.tries)).collect()
    };
    assert_eq!(keys(10).await, [("a".to_owned(), 0)]);
    assert_eq!(sea.due("team", at(10), 10).await.unwrap()[0].message, message("a"));
    sea.postpone("team", "a", "no\0answer", at(50)).await.unwrap();
    assert_eq!(keys(49).await, [("b".to_owned(), 0)]);
    assert_eq!(keys(50).await, [("a".to_owned(), 1), ("b".to_owned(), 0)]);
    sea.settle("team", "a", MessageState::Sent, "", at(60)).await.unwrap();
    sea.settle("team", "a", MessageState::Failed, "later", at(99)).await.unwrap();
    assert_eq!(sea.sent_since("team", at(60)).await.unwrap(), 1, "the first end counts");
    assert_eq!(sea.sent_since("team", at(61)).await.unwrap(), 0);
    assert!(!sea.put("team", &message("a"), at(70)).await.unwrap());

    sea.put("team", &message("c"), at(70)).await.unwrap();
    sea.fold("team", &["b".to_owned(), "c".to_owned()], &message("b.and-1"), at(80)).await.unwrap();
    assert_eq!(keys(80).await, [("b.and-1".to_owned(), 0)]);
    sea.forget(at(1_000)).await.unwrap();
    assert_eq!(keys(80).await, [("b.and-1".to_owned(), 0)], "what is pending stays");
    assert!(sea.put("team", &message("a"), at(90)).await.unwrap(), "what is forgotten is new");
}

async fn runs_are_summed_up(b: TestStore) {
    assert_eq!(b.store.totals().await.unwrap(), Default::default());
    let (mut first, mut second, mut third) = (run(), run(), run());
    for r in [&mut first, &mut second, &mut third] {
        b.open(r).await;
    }
    let lease = b.take(first.id, "one").await;
    first.blocks.push(Block {
        id: BlockId(1),
        kind: BlockKind::Rounds,
        why: String::new(),
        fix: None,
        levels: Vec::new(),
        spending: Vec::new(),
        since: Timestamp(5),
        until: None,
    });
    b.commit(moving(&mut first, &lease, Phase::Working, 1)).await.expect("a block");
    let lease = b.take(second.id, "one").await;
    let end = moving(&mut second, &lease, Phase::Ended, 0);
    let ended_at = end.at;
    b.commit(end).await.expect("an end");
    let project = first.project.as_str().to_owned();
    let totals = b.store.totals().await.unwrap();
    assert_eq!(totals.open, [(project.clone(), "queued".to_owned(), 1), (project, "working".to_owned(), 1)]);
    assert!(totals.oldest_effect.is_some_and(|at| at > Timestamp(1_000)), "{totals:?}");
    assert_eq!(b.store.asking(10).await.unwrap(), [(first.id, 2)]);
    assert_eq!(b.sea.ended_since(ended_at, 10).await.unwrap(), [(second.id, ended_at)]);
    assert!(b.sea.ended_since(Timestamp(ended_at.0 + 1), 10).await.unwrap().is_empty());
    b.damage("UPDATE run SET quarantined = 'damaged'").await;
    let totals = b.store.totals().await.unwrap();
    assert_eq!((totals.open.len(), totals.quarantined, totals.oldest_effect), (0, 3, None));
}
