//! Deployments, rollouts and sponsors: each data directory has its own, and a key has one rollout.

use crate::support::stores::TestStore;
use skep::domain::deployment::{Cause, Deployment, Rollout, RolloutState, Sponsor};
use skep::domain::{ProjectName, RunId, Sha, Timestamp};
use skep::ports::deployments::Deployments;

on_both!(a_key_has_one_rollout, observations_and_sponsors_are_replaced);

fn rollout(key: &str) -> Rollout {
    Rollout {
        target: "test".into(),
        number: 0,
        id: RunId::try_from("0192f0c1aaaa7bbb8ccc0123456789ab".to_owned()).unwrap(),
        key: key.into(),
        sha: Sha("b".repeat(40)),
        previous: Some(Sha("a".repeat(40))),
        cause: Cause::Requested { by: "user:ann".into() },
        state: RolloutState::Queued,
        proof: None,
        approved_by: None,
        why: "it's \"new\"".into(),
        deployment: None,
        criteria: Vec::new(),
        rollback: None,
        rollback_criteria: Vec::new(),
        created_at: Timestamp(7),
        started_at: None,
        ended_at: None,
    }
}

async fn a_key_has_one_rollout(b: TestStore) {
    let first = b.sea.add_rollout(&rollout("r.rollout.test")).await.expect("added").expect("the first");
    assert_eq!(first, Rollout { number: 1, ..rollout("r.rollout.test") });
    assert_eq!(b.sea.add_rollout(&rollout("r.rollout.test")).await.expect("an answer"), None);
    let second = b.sea.add_rollout(&rollout("other")).await.expect("added").expect("the second");
    assert_eq!(second.number, 2);
    assert_eq!(b.sea.open_rollouts("test").await.expect("open"), [first.clone(), second.clone()]);
    let ended = Rollout { state: RolloutState::Deployed, ended_at: Some(Timestamp(9)), ..first };
    b.sea.put_rollout(&ended).await.expect("replaced");
    assert_eq!(b.sea.open_rollouts("test").await.expect("open"), std::slice::from_ref(&second));
    assert_eq!(b.sea.rollouts("test", 10).await.expect("all"), [second, ended.clone()]);
    assert_eq!(b.sea.rollout("test", 1).await.expect("one"), Some(ended));
    assert!(b.sea.rollout("test", 3).await.expect("none").is_none());
    let elsewhere = b.sea.clone().at_home("elsewhere");
    assert!(elsewhere.rollouts("test", 10).await.expect("none").is_empty());
    let there = elsewhere.add_rollout(&rollout("r.rollout.test")).await.expect("added").expect("their first");
    assert_eq!(there.number, 1);
}

async fn observations_and_sponsors_are_replaced(b: TestStore) {
    let first = Deployment::new("test", Timestamp(3));
    let second = Deployment { sha: Some(Sha("b".repeat(40))), changed_at: Timestamp(5), ..first.clone() };
    assert!(b.sea.deployment("test").await.expect("none").is_none());
    for deployment in [&first, &second] {
        b.sea.put_deployment(deployment).await.expect("stored");
    }
    assert_eq!(b.sea.deployment("test").await.expect("stored"), Some(second));
    let sponsor = Sponsor {
        name: "acme".into(),
        project: ProjectName::new("tally").unwrap(),
        hosting: true,
        domain: false,
        monthly_micros: Some(5_000_000),
        is_public: false,
        notes: String::new(),
        since: Timestamp(1),
        paused_at: None,
        until: None,
    };
    let ended = Sponsor { until: Some(Timestamp(8)), ..sponsor.clone() };
    for sponsor in [&sponsor, &ended] {
        b.sea.put_sponsor(sponsor).await.expect("stored");
    }
    assert_eq!(b.sea.sponsors().await.expect("stored"), [ended]);
    assert!(b.sea.clone().at_home("elsewhere").sponsors().await.expect("none").is_empty());
    let of_another = Sponsor { project: ProjectName::new("other").unwrap(), ..sponsor.clone() };
    b.sea.put_sponsor(&of_another).await.expect("stored");
    b.sea.remove_sponsors(&sponsor.project).await.expect("removed");
    assert_eq!(b.sea.sponsors().await.expect("stored"), [of_another]);
}
