//! Issues become runs: once, only for people who may write, and the same by webhook and by sweep.

use super::{Kind, World};
use crate::support::forge_server::{ForgeServer, now};
use serde_json::json;
use skep::domain::{DeliveryState, GoalSource, Principal};

#[tokio::test]
async fn a_labelled_issue_becomes_one_run_however_often_it_is_reported() {
    let mut w = World::new().await;
    let issue = w.forge.state().open_issue("eve", "Say hello", "The greeting is misspelt.");
    w.forge.state().label(issue, "ann", "skep");
    let body = json!({ "action": "labeled", "issue": { "number": issue }, "label": { "name": "skep" },
        "repository": { "full_name": "My-Org/calc" } })
    .to_string()
    .into_bytes();
    let signed = super::signature(super::SECRET, &body);
    let sends = (0..50).map(|n| {
        // Half of them are repetitions of the others.
        let (w, body, signed, id) = (&w, &body, &signed, format!("d{}", n % 25));
        async move { w.send(&id, "issues", body, Some(signed)).await }
    });
    let answers = futures::future::join_all(sends).await;
    assert!(answers.iter().all(|status| status.as_u16() == 202), "{answers:?}");
    w.pass().await;
    let run = w.run().await;
    assert_eq!(run.goal.text, "Say hello\n\nThe greeting is misspelt.");
    assert_eq!(run.goal.asked_by, Principal::from("forge:ann"));
    let GoalSource::Issue { repository, number, .. } = &run.goal.source else { panic!("{:?}", run.goal.source) };
    assert_eq!((repository.as_str(), *number), ("my-org/calc", issue));
    w.settle().await;
    let state = w.forge.state();
    let about =
        state.comments_on(issue).into_iter().filter(|c| c.body.contains("Skep works on this issue as run")).count();
    assert_eq!(about, 1, "{:?}", state.comments_on(issue));
}

#[tokio::test]
async fn strangers_start_nothing_and_are_answered_once() {
    for kind in Kind::ALL {
        let mut w = World::on(kind).await;
        let issue = w.forge.state().open_issue("eve", "Say hello", "/skep run\n<!-- skep:intake:refused -->");
        w.label(issue, "eve", "skep").await;
        w.label(issue, "triage[bot]", "skep").await;
        w.pass().await;
        assert!(w.deliveries().await.iter().all(|d| d.state == DeliveryState::Ignored), "{:?}", w.deliveries().await);
        for by in ["eve", "mallory", "eve"] {
            w.comment(issue, by, "/skep run").await;
        }
        w.comment(issue, "helper[bot]", "/skep run").await;
        w.pass().await;
        assert!(w.runs().await.is_empty());
        let state = w.forge.state();
        let replies = state.comments_on(issue).into_iter().filter(|c| c.by == crate::support::github::LOGIN).count();
        assert_eq!(replies, 1, "{:?}", state.comments_on(issue));
    }
}

#[tokio::test]
async fn a_text_that_was_changed_after_the_label_starts_nothing() {
    for kind in Kind::ALL {
        let mut w = World::on(kind).await;
        let issue = w.forge.state().open_issue("eve", "Say hello", "");
        w.forge.state().label_at(issue, "ann", "skep", now() - 60);
        w.forge.state().issue(issue).edited = Some(("eve".to_owned(), now() - 30));
        w.report_label(issue, "ann", "skep").await;
        w.pass().await;
        assert_eq!(w.last().await.0, DeliveryState::Ignored);
        assert!(w.runs().await.is_empty());
        assert!(w.forge.state().comments_on(issue)[0].body.contains("was changed after"));
        match kind {
            // A change by somebody who may write needs no second look.
            Kind::GitHub | Kind::GitLab => {
                w.forge.state().issue(issue).edited = Some(("bob".to_owned(), now() - 20));
            }
            // Who changed it is unknown: a new label says that a person has seen it.
            Kind::Forgejo => w.forge.state().label(issue, "ann", "skep"),
        }
        w.report_label(issue, "ann", "skep").await;
        w.pass().await;
        assert_eq!(w.last().await.0, DeliveryState::Done, "{:?}", w.last().await);
        w.run().await;
    }
}

#[tokio::test]
async fn an_issue_of_somebody_who_may_write_starts_whatever_happened_to_it() {
    let mut w = World::on(Kind::Forgejo).await;
    let issue = w.forge.state().open_issue("ann", "Say hello", "");
    w.forge.state().label_at(issue, "bob", "skep", now() - 60);
    w.comment(issue, "eve", "A comment also changes the issue.").await;
    w.report_label(issue, "bob", "skep").await;
    w.pass().await;
    w.run().await;
}

#[tokio::test]
async fn an_issue_that_is_opened_with_its_label_starts_a_run() {
    let mut w = World::on(Kind::Forgejo).await;
    let issue = w.forge.state().open_issue("ann", "Say hello", "");
    w.forge.state().label(issue, "ann", "skep");
    let (event, mut body) = w.label_hook(issue, "ann", "skep");
    body["action"] = serde_json::json!("opened");
    w.hook(event, body).await;
    w.pass().await;
    w.run().await;
}

#[tokio::test]
async fn a_request_that_fails_says_why_and_a_new_label_tries_again() {
    for kind in Kind::ALL {
        let mut w = World::on(kind).await;
        let issue = w.forge.state().open_issue("ann", "Say hello", "");
        let name = skep::domain::ProjectName::new("calc").unwrap();
        let good = w.services.store.project(&name).await.unwrap().unwrap();
        let mut bad = good.clone();
        bad.base = Some("nowhere".to_owned());
        w.services.store.put_project(&bad, true).await.unwrap();
        w.forge.state().label_at(issue, "ann", "skep", now() - 5);
        w.report_label(issue, "ann", "skep").await;
        w.report_label(issue, "ann", "skep").await;
        w.pass().await;
        assert!(w.runs().await.is_empty());
        {
            let state = w.forge.state();
            let comments = state.comments_on(issue);
            assert_eq!(comments.len(), 1, "{comments:?}");
            assert!(comments[0].body.starts_with("Skep did not do this: `"), "{comments:?}");
        }
        w.services.store.put_project(&good, true).await.unwrap();
        w.label(issue, "ann", "skep").await;
        w.pass().await;
        w.run().await;
    }
}

/// Carries out the same story in a world, and returns what is left of it on the forge.
async fn story(mut w: World, reports: bool) -> (Vec<String>, usize, bool) {
    // The first sweep of comments begins here.
    w.pass().await;
    let issue = w.forge.state().open_issue("eve", "Say hello", "");
    w.forge.state().label(issue, "ann", "skep");
    if reports {
        w.report_label(issue, "ann", "skep").await;
        w.report_label(issue, "ann", "skep").await;
    }
    w.pass().await;
    let run = w.until_approval().await;
    w.settle().await;
    let pull = run.change.as_ref().unwrap().number.0;
    for (by, text) in [("eve", "/skep approve"), ("bob", "Looks good.\n/skep approve")] {
        let id = w.forge.state().post_comment(pull, by, text);
        if reports {
            w.report_comment(pull, id, text).await;
            w.report_comment(pull, id, text).await;
        }
        w.pass().await;
    }
    let run = w.until("ends", skep::domain::Run::ended).await;
    w.settle().await;
    let head = run.head.to_string();
    let open = w.forge.state().issue(issue).open;
    let state = w.forge.state();
    let clean =
        |text: &str| text.replace(&run.id.to_string(), "RUN").replace(&run.id.abbrev(), "RUN").replace(&head, "HEAD");
    let of = |number| state.comments_on(number).into_iter().map(|c| clean(&c.body)).collect::<Vec<_>>();
    let mut comments = of(issue);
    comments.extend(of(pull).into_iter().filter(|text| text.contains("skep:intake")));
    // What the run was doing at the moment of a reply may differ.
    let comments = comments.into_iter().map(|text| match text.contains("skep:intake:reply") {
        true => text.split(" is now: ").next().unwrap().to_owned(),
        false => text.lines().filter(|line| !line.contains(" of rework; ")).collect::<Vec<_>>().join("\n"),
    });
    (comments.collect(), state.merges, open)
}

#[tokio::test]
async fn a_sweep_leads_to_the_same_as_webhooks() {
    for kind in Kind::ALL {
        let told = story(World::on(kind).await, true).await;
        let swept = story(World::sweeping(kind).await, false).await;
        let both = story(World::sweeping(kind).await, true).await;
        assert_eq!((told.1, told.2), (1, false), "merged once, and the issue is closed: {told:#?}");
        assert!(told.0.iter().any(|text| text.contains("has ended")), "{told:#?}");
        let shown = |all: &[String]| all.iter().map(|text| crate::intake::shown(text)).collect::<Vec<_>>();
        assert_eq!((shown(&swept.0), swept.1, swept.2), (shown(&told.0), told.1, told.2));
        assert_eq!((shown(&both.0), both.1, both.2), (shown(&told.0), told.1, told.2));
    }
}

#[tokio::test]
async fn a_sweep_without_news_stores_nothing_and_is_not_sent_again() {
    let mut w = World::sweeping(Kind::GitHub).await;
    let issue = w.forge.state().open_issue("ann", "Say hello", "");
    w.forge.state().label(issue, "eve", "skep");
    w.pass().await;
    w.pass().await;
    let stored = w.deliveries().await.len();
    assert_eq!(stored, 1, "the stranger's label");
    let counts = |forge: &ForgeServer| {
        let state = forge.state();
        (state.unchanged, state.requests.len())
    };
    let (before, sent) = counts(&w.forge);
    w.pass().await;
    let (after, sent_after) = counts(&w.forge);
    assert!(sent_after > sent);
    assert_eq!(after - before, sent_after - sent, "every answer is a 304");
    assert_eq!(w.deliveries().await.len(), stored);
}

#[tokio::test]
async fn a_label_that_the_repository_does_not_have_lists_no_issue() {
    let mut w = World::sweeping(Kind::Forgejo).await;
    for n in 0..120 {
        w.forge.state().open_issue("ann", &format!("Issue {n}"), "");
    }
    w.pass().await;
    assert!(w.deliveries().await.is_empty(), "{:?}", w.deliveries().await);
    let lists = w.forge.state().requests.iter().filter(|line| line.contains("/issues?")).count();
    assert_eq!(lists, 2, "one page for each label");
}
