//! States of schedules: each data directory has its own.

use crate::support::stores::TestStore;
use skep::domain::{RunId, Timestamp};
use skep::ports::schedules::{ScheduleState, Schedules};

on_both!(states_are_replaced_and_removed);

async fn states_are_replaced_and_removed(b: TestStore) {
    let run = RunId::try_from("0192f0c1aaaa7bbb8ccc0123456789ab".to_owned()).unwrap();
    let first = ScheduleState { name: "b".to_owned(), timing: "0 5 * * 1 UTC".to_owned(), ..ScheduleState::default() };
    let second = ScheduleState {
        next_at: Timestamp(7),
        starting: Some(run),
        last_at: Some(Timestamp(3)),
        last_run: Some(run),
        last_error: Some("it's \"late\"".to_owned()),
        ..first.clone()
    };
    let other = ScheduleState { name: "a".to_owned(), ..first.clone() };
    for state in [&first, &other, &second] {
        b.sea.put_schedule(state).await.expect("a state");
    }
    assert_eq!(b.sea.schedules().await.expect("states"), [other.clone(), second.clone()]);
    assert!(b.sea.clone().at_home("elsewhere").schedules().await.expect("states").is_empty());
    b.sea.clone().at_home("elsewhere").remove_schedule("b").await.expect("nothing there");
    b.sea.remove_schedule("a").await.expect("removed");
    assert_eq!(b.sea.schedules().await.expect("states"), [second]);
}
