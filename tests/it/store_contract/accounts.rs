//! People and access tokens: kept for their own data directory, never deleted.

use crate::support::stores::TestStore;
use skep::domain::{AccessRole, PersonName, Principal, ProjectName, Timestamp};
use skep::ports::accounts::{AccessToken, Accounts, Identity, Person};
use std::collections::BTreeMap;

on_both!(a_name_is_taken_once, an_account_belongs_to_one_person, tokens_are_kept_after_they_were_revoked);

async fn a_name_is_taken_once(b: TestStore) {
    let name = |name: &str| PersonName::new(name).expect("a name");
    let person = |n: &str, role| Person {
        name: name(n),
        role,
        project_roles: BTreeMap::new(),
        created_at: Timestamp(5),
        disabled_at: None,
    };
    let ann = person("ann", AccessRole::Member);
    let adds = futures::future::join_all((0..8).map(|_| b.sea.add_person(&ann))).await;
    assert_eq!(adds.into_iter().filter(|added| *added.as_ref().expect("an answer")).count(), 1);
    assert!(!b.sea.add_person(&person("ann", AccessRole::Admin)).await.expect("an answer"));
    assert!(b.sea.add_person(&person("Abe".to_lowercase().as_str(), AccessRole::Viewer)).await.expect("an answer"));
    assert_eq!(b.sea.person(&ann.name).await.expect("an answer"), Some(ann.clone()), "the first one stays as it was");
    assert_eq!(b.sea.people().await.expect("people").len(), 2);
    assert!(b.sea.set_role(&ann.name, AccessRole::Approver).await.expect("an answer"));
    assert!(b.sea.set_disabled(&ann.name, Some(Timestamp(9))).await.expect("an answer"));
    let now = b.sea.person(&ann.name).await.expect("an answer").expect("ann");
    assert_eq!((now.role, now.disabled_at), (AccessRole::Approver, Some(Timestamp(9))));
    assert!(b.sea.set_disabled(&ann.name, None).await.expect("an answer"));
    assert_eq!(b.sea.person(&ann.name).await.expect("an answer").expect("ann").disabled_at, None);
    for missing in [b.sea.set_role(&name("eve"), AccessRole::Admin).await, b.sea.set_disabled(&name("eve"), None).await]
    {
        assert!(!missing.expect("an answer"));
    }
    let project = |name: &str| ProjectName::new(name).expect("a name");
    let set = async |project, role| b.sea.set_project_role(&ann.name, project, role).await.expect("an answer");
    let (tally, calc) = (project("tally"), project("calc"));
    set(&tally, AccessRole::Viewer).await;
    set(&tally, AccessRole::Approver).await;
    set(&calc, AccessRole::Member).await;
    let both = BTreeMap::from([(tally.clone(), AccessRole::Approver), (calc.clone(), AccessRole::Member)]);
    assert_eq!(b.sea.person(&ann.name).await.expect("an answer").expect("ann").project_roles, both);
    let listed = b.sea.people().await.expect("people");
    assert_eq!(listed.iter().map(|p| p.project_roles.len()).collect::<Vec<_>>(), [0, 2], "abe, ann");
    set(&calc, AccessRole::None).await;
    b.sea.remove_project_roles(&project("other")).await.expect("an answer");
    b.sea.clone().at_home("elsewhere").remove_project_roles(&tally).await.expect("an answer");
    assert_eq!(b.sea.person(&ann.name).await.expect("an answer").expect("ann").project_roles.len(), 1);
    b.sea.remove_project_roles(&tally).await.expect("an answer");
    assert_eq!(b.sea.person(&ann.name).await.expect("an answer").expect("ann").project_roles.len(), 0);
    // Another data directory on the same database has other people.
    let other = b.sea.clone().at_home("elsewhere");
    assert_eq!(other.people().await.expect("people"), []);
    assert!(other.add_person(&ann).await.expect("an answer"));
}

async fn an_account_belongs_to_one_person(b: TestStore) {
    let name = |name: &str| PersonName::new(name).expect("a name");
    let identity = |subject: &str| Identity { issuer: "https://id.example".to_owned(), subject: subject.to_owned() };
    let person = |n: &str| Person {
        name: name(n),
        role: AccessRole::Member,
        project_roles: BTreeMap::new(),
        created_at: Timestamp(5),
        disabled_at: None,
    };
    let (ann, ben) = (person("ann"), person("ben"));
    assert_eq!(b.sea.person_of(&identity("1")).await.expect("an answer"), None);
    let first = identity("1");
    let adds = futures::future::join_all((0..8).map(|_| b.sea.add_person_with(&ann, &first))).await;
    assert_eq!(adds.into_iter().filter(|added| *added.as_ref().expect("an answer")).count(), 1);
    assert_eq!(b.sea.person_of(&identity("1")).await.expect("an answer"), Some(name("ann")));
    // Neither the name nor the account is given twice, and a refusal leaves nothing behind.
    assert!(!b.sea.add_person_with(&ann, &identity("2")).await.expect("an answer"));
    assert!(!b.sea.add_person_with(&ben, &identity("1")).await.expect("an answer"));
    assert_eq!(b.sea.person(&ben.name).await.expect("an answer"), None);
    assert_eq!(b.sea.person_of(&identity("2")).await.expect("an answer"), None);
    assert!(b.sea.add_person(&ben).await.expect("an answer"));
    b.sea.link(&identity("1"), &ben.name, Timestamp(6)).await.expect("linked");
    b.sea.link(&identity("3"), &ben.name, Timestamp(6)).await.expect("linked");
    for subject in ["1", "3"] {
        assert_eq!(b.sea.person_of(&identity(subject)).await.expect("an answer"), Some(name("ben")), "{subject}");
    }
    let elsewhere = Identity { issuer: "https://other.example".to_owned(), ..identity("1") };
    assert_eq!(b.sea.person_of(&elsewhere).await.expect("an answer"), None, "a subject belongs to its issuer");
    assert_eq!(b.sea.clone().at_home("elsewhere").person_of(&identity("1")).await.expect("an answer"), None);
}

async fn tokens_are_kept_after_they_were_revoked(b: TestStore) {
    let token = |id: &str, at: i64, expires_at: Option<i64>| AccessToken {
        id: id.to_owned(),
        digest: "d".repeat(64),
        principal: Principal::from("user:ann"),
        name: "laptop".to_owned(),
        rights: vec!["read".to_owned(), "run".to_owned()],
        projects: ["calc", "tally"].map(|name| ProjectName::new(name).expect("a name")).into(),
        created_by: Principal::from("local:ben"),
        created_at: Timestamp(at),
        expires_at: expires_at.map(Timestamp),
        last_used_at: None,
        revoked_at: None,
    };
    let (one, two) = (token("one", 1, Some(100)), token("two", 2, None));
    b.sea.add_token(&one).await.expect("stored");
    b.sea.add_token(&two).await.expect("stored");
    assert!(b.sea.add_token(&two).await.is_err(), "an id is used once");
    assert_eq!(b.sea.token("one").await.expect("an answer"), Some(one.clone()));
    assert_eq!(b.sea.tokens(10).await.expect("tokens"), [two.clone(), one.clone()], "newest first");
    assert_eq!(b.sea.tokens(1).await.expect("tokens"), [two]);
    let (ann, eve) = (Principal::from("user:ann"), Principal::from("user:eve"));
    assert_eq!(b.sea.tokens_of(&ann, 10).await.expect("tokens").len(), 2);
    assert_eq!(b.sea.tokens_of(&eve, 10).await.expect("tokens"), []);
    b.sea.expire_token("one", Timestamp(200)).await.expect("an answer");
    assert_eq!(b.sea.token("one").await.expect("an answer"), Some(one.clone()), "it never works for longer");
    b.sea.expire_token("two", Timestamp(50)).await.expect("an answer");
    let ends = b.sea.token("two").await.expect("an answer").expect("kept").expires_at;
    assert_eq!(ends, Some(Timestamp(50)));
    b.sea.touch_token("one", Timestamp(7)).await.expect("touched");
    assert!(b.sea.revoke_token("one", Timestamp(8)).await.expect("an answer"));
    assert!(b.sea.revoke_token("one", Timestamp(9)).await.expect("an answer"), "again is harmless");
    assert!(!b.sea.revoke_token("three", Timestamp(9)).await.expect("an answer"));
    let now = b.sea.token("one").await.expect("an answer").expect("kept");
    assert_eq!((now.last_used_at, now.revoked_at), (Some(Timestamp(7)), Some(Timestamp(8))), "the first time counts");
    let other = b.sea.clone().at_home("elsewhere");
    assert_eq!(other.token("one").await.expect("an answer"), None);
    assert!(!other.revoke_token("two", Timestamp(9)).await.expect("an answer"));
}
