//! Login links and sessions: a link works once and for a time, for its own data directory only.

use crate::support::stores::TestStore;
use skep::domain::{Principal, Timestamp};
use skep::ports::sessions::{LoginLink, LoginMethod, Session, Sessions};

on_both!(a_link_is_used_once_until_it_ends, sessions_are_kept_until_they_end);

async fn a_link_is_used_once_until_it_ends(b: TestStore) {
    let ann = Principal::from("local:ann");
    let link = |digest: &str, ends: i64| LoginLink {
        digest: digest.to_owned(),
        principal: ann.clone(),
        ends_at: Timestamp(ends),
    };
    b.sea.add_link(&link("one", 100), Timestamp(1)).await.expect("a link");
    b.sea.add_link(&link("two", 100), Timestamp(1)).await.expect("a link");
    assert_eq!(b.sea.peek_link("one", Timestamp(50)).await.expect("an answer"), Some(ann.clone()));
    // Another data directory on the same database has other people.
    let other = b.sea.clone().at_home("elsewhere");
    assert_eq!(other.peek_link("one", Timestamp(50)).await.expect("an answer"), None);
    assert_eq!(other.use_link("one", Timestamp(50)).await.expect("an answer"), None);
    let uses = futures::future::join_all((0..8).map(|_| b.sea.use_link("one", Timestamp(50)))).await;
    let used = uses.into_iter().filter(|used| used.as_ref().expect("an answer").is_some()).count();
    assert_eq!(used, 1, "of several attempts at once, one works");
    assert_eq!(b.sea.use_link("two", Timestamp(100)).await.expect("an answer"), None, "it has ended");
    b.sea.add_link(&link("three", 300), Timestamp(200)).await.expect("a link");
    assert_eq!(b.sea.use_link("two", Timestamp(50)).await.expect("an answer"), None, "ended links are deleted");
}

async fn sessions_are_kept_until_they_end(b: TestStore) {
    let session = Session {
        digest: "s".to_owned(),
        principal: Principal::from("local:ann"),
        created_at: Timestamp(1),
        seen_at: Timestamp(1),
        ends_at: Timestamp(100),
        login: LoginMethod::Oidc,
        agent: "Firefox".to_owned(),
    };
    b.sea.add_session(&session).await.expect("stored");
    assert_eq!(b.sea.session("s").await.expect("an answer"), Some(session.clone()));
    assert_eq!(b.sea.clone().at_home("elsewhere").session("s").await.expect("an answer"), None);
    let newer = Session { digest: "n".to_owned(), created_at: Timestamp(2), ..session.clone() };
    let others = Session { digest: "o".to_owned(), principal: Principal::from("user:ben"), ..session.clone() };
    b.sea.add_session(&newer).await.expect("stored");
    b.sea.add_session(&others).await.expect("stored");
    let of_ann = b.sea.sessions_of(&session.principal, 10).await.expect("sessions");
    assert_eq!(of_ann, [newer.clone(), session.clone()], "newest first, and only Ann's");
    assert_eq!(b.sea.sessions_of(&session.principal, 1).await.expect("sessions"), [newer]);
    assert_eq!(b.sea.clone().at_home("elsewhere").sessions_of(&session.principal, 9).await.expect("none"), []);
    b.sea.touch_session("s", Timestamp(40)).await.expect("recorded");
    let seen = b.sea.session("s").await.expect("an answer").expect("a session");
    assert_eq!(seen, Session { seen_at: Timestamp(40), ..session.clone() });
    b.sea.end_session("s").await.expect("ended");
    assert_eq!(b.sea.session("s").await.expect("an answer"), None);
    // A link that is created later deletes what has ended.
    b.sea.add_session(&session).await.expect("stored");
    let link = LoginLink { digest: "l".to_owned(), principal: Principal::from("local:ann"), ends_at: Timestamp(500) };
    b.sea.add_link(&link, Timestamp(100)).await.expect("a link");
    assert_eq!(b.sea.session("s").await.expect("an answer"), None);
}
