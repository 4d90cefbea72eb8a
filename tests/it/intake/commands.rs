//! Commands in comments: each does what it says, answers what it was written about, and is answered once.

use super::{Kind, World};
use crate::support::github::{LOGIN, now};
use serde_json::json;
use skep::domain::{DeliveryState, Outcome};

#[tokio::test]
async fn each_command_is_carried_out_and_answered() {
    for kind in Kind::ALL {
        let mut w = World::on(kind).await;
        let issue = w.forge.state().open_issue("eve", "Say hello", "");
        assert!(w.command(issue, "ann", "/skep status").await.contains("no run of Skep belongs here"));
        let started = w.command(issue, "ann", "/skep run\nKeep the file.").await;
        let run = w.run().await;
        assert!(started.starts_with(&format!("Run `{}` is now:", run.id.abbrev())), "{started}");
        assert!(run.goal.text.contains("Keep the file."));
        let again = w.command(issue, "bob", "/skep run").await;
        assert!(again.contains(&run.id.abbrev()), "{again}");
        let run = w.until_approval().await;
        w.settle().await;
        let pull = run.change.as_ref().unwrap().number.0;
        {
            let state = w.forge.state();
            let question =
                state.comments_on(issue).into_iter().find(|c| c.body.contains("Escalation")).unwrap().body.clone();
            assert!(question.contains("`/skep approve`") && question.contains("`/skep decline TEXT`"), "{question}");
        }
        for (on, text, expected) in [
            (issue, "/skep dance", "there is no command dance"),
            (issue, "/skep", "a command is missing"),
            (pull, "/skep run", "a run starts at an issue"),
            (pull, "/skep decline", "has no text"),
            (issue, "/skep answer", "asks for an approval"),
            (issue, "/skep answer yes", "asks for an approval"),
            (issue, "UNBLOCK #b9", "b9"),
            (pull, "/skep approve 0123456789", "nothing was approved"),
            (issue, "/skep retry", "does not wait for another try"),
            (pull, "/skep pause", "paused by forge:ann"),
            (pull, "/skep resume", "is now:"),
            (pull, "/skep status", "the merge waits for approval"),
        ] {
            let reply = w.command(on, "ann", text).await;
            assert!(reply.contains(expected), "{text}: {expected:?} is not in {reply:?}");
        }
        assert_eq!(w.forge.state().merges, 0);
        let approved = w.command(pull, "bob", &format!("/skep approve {}", &run.head.as_str()[..10])).await;
        assert!(approved.contains("is now:"), "{approved}");
        let run = w.until("ends", skep::domain::Run::ended).await;
        assert!(matches!(run.outcome, Some(Outcome::Delivered { .. })), "{:?}", run.outcome);
        w.settle().await;
        let audit = w.services.audit.list(&skep::ports::audit::AuditFilter { before: None, limit: 100 }).await.unwrap();
        let approval = audit.iter().find(|row| row.entry.action == "run.answer").unwrap();
        assert_eq!((approval.entry.principal.as_str(), approval.entry.via.as_str()), ("forge:bob", "forge"));
        let state = w.forge.state();
        assert_eq!(state.merges, 1);
        assert!(!state.issues[0].open);
        let on_issue = state.comments_on(issue);
        assert!(on_issue.iter().any(|c| c.body.starts_with("The question was answered.")), "{on_issue:#?}");
        assert!(on_issue.iter().any(|c| c.body.contains("Delivered: ")), "{on_issue:#?}");
    }
}

#[tokio::test]
async fn an_approval_counts_only_for_what_its_author_can_have_seen() {
    for kind in Kind::ALL {
        let mut w = World::on(kind).await;
        let issue = w.forge.state().open_issue("ann", "Say hello", "");
        w.label(issue, "ann", "skep").await;
        w.pass().await;
        let run = w.until_approval().await;
        let pull = run.change.as_ref().unwrap().number.0;
        // Written before the question was asked.
        let early = w.forge.state().post_comment(pull, "ann", "/skep approve");
        w.forge.state().comments.iter_mut().find(|c| c.id == early).unwrap().at = now() - 3_600;
        w.report_comment(pull, early, "/skep approve").await;
        w.pass().await;
        assert!(w.reply(early).unwrap().contains("was asked after this comment"), "{:?}", w.reply(early));
        // Somebody pushed: the pull request shows another head than the one the run asks about.
        w.forge.push(&run.settings.branch, &[("greet.txt", "hello, and more\n")]);
        let late = w.forge.state().post_comment(pull, "ann", "/skep approve");
        w.report_comment(pull, late, "/skep approve").await;
        w.pass().await;
        let reply = w.reply(late).unwrap();
        assert!(reply.starts_with("Skep did not do this"), "{reply}");
        assert_eq!(w.forge.state().merges, 0);
    }
}

#[tokio::test]
async fn own_comments_edited_ones_and_bots_are_no_commands() {
    let mut w = World::new().await;
    let issue = w.forge.state().open_issue("ann", "Say hello", "");
    // With a person's token, Skep's comments have that person as their author; their last line marks them.
    w.forge.state().collaborators.insert(LOGIN.to_owned(), "write");
    for (by, text) in [(LOGIN, "/skep run\n\n<!-- skep:issue:x:run -->"), ("helper[bot]", "/skep run")] {
        w.comment(issue, by, text).await;
        w.pass().await;
        assert_eq!(w.last().await.0, DeliveryState::Ignored, "{by}");
    }
    let edited =
        json!({ "action": "edited", "issue": { "number": issue }, "comment": { "id": 1, "body": "/skep run" } });
    w.hook("issue_comment", edited).await;
    assert_eq!(w.last().await.0, DeliveryState::Ignored);
    assert!(w.runs().await.is_empty());
    // A stranger's marker makes nobody's comment Skep's, and the person behind the token may give commands.
    w.comment(issue, LOGIN, "<!-- skep:issue:x:run -->\n/skep run").await;
    w.pass().await;
    w.run().await;
}

#[tokio::test]
async fn questions_are_answered_by_text_and_by_label() {
    for kind in Kind::ALL {
        let mut w = World::on(kind).await;
        let name = skep::domain::ProjectName::new("calc").unwrap();
        let mut project = w.services.store.project(&name).await.unwrap().unwrap();
        // Every try fails: the run asks what to do.
        let failing = skep::domain::EngineSpec::parse("command: false");
        project.engines.insert(skep::domain::Role::Dev, failing);
        w.services.store.put_project(&project, true).await.unwrap();
        let issue = w.forge.state().open_issue("ann", "Say hello", "");
        w.label(issue, "ann", "skep").await;
        w.pass().await;
        let asks = |run: &skep::domain::Run| !run.blocks.is_empty();
        let run = w.until("asks", asks).await;
        let first = run.blocks[0].id;
        w.settle().await;
        w.label(issue, "eve", "unblocked").await;
        w.pass().await;
        assert_eq!(w.run().await.blocks[0].id, first, "a stranger's label answers nothing");
        // The clock of the forge is ahead: only that the label was applied keeps it from answering again.
        w.forge.state().label_at(issue, "ann", "unblocked", now() + 3_600);
        w.report_label(issue, "ann", "unblocked").await;
        w.pass().await;
        assert_eq!(w.last().await.0, DeliveryState::Done, "{:?}", w.last().await);
        let run = w.until("asks again", |run| run.blocks.first().is_some_and(|b| b.id != first)).await;
        let second = run.blocks[0].id;
        w.report_label(issue, "ann", "unblocked").await;
        w.pass().await;
        assert_eq!(w.last().await.0, DeliveryState::Ignored, "a label answers one question: {:?}", w.last().await);
        assert_eq!(w.run().await.blocks[0].id, second);
        let reply = w.command(issue, "ann", &format!("UNBLOCK #{second} look into greet.txt")).await;
        assert!(reply.contains("is now:"), "{reply}");
        w.until("asks once more", |run| run.blocks.first().is_some_and(|b| b.id != second)).await;
        let reply = w.command(issue, "ann", "/skep cancel it is fine as it is").await;
        assert!(reply.contains("is now:"), "{reply}");
        w.until("ends", skep::domain::Run::ended).await;
        w.settle().await;
        let state = w.forge.state();
        assert!(state.issues[0].open, "an issue that was not delivered stays open");
        assert!(state.comments_on(issue).iter().any(|c| c.body.contains("has ended") && c.body.contains("Cancelled")));
    }
}

#[tokio::test]
async fn a_mention_starts_and_steers_a_run_like_a_command_if_its_author_may_write() {
    for kind in Kind::ALL {
        let mut w = World::on(kind).await;
        let issue = w.forge.state().open_issue("eve", "Say hello", "@skep-bot work on this");
        w.comment(issue, "eve", "@skep-bot work on this").await;
        w.pass().await;
        assert_eq!(w.last().await.0, DeliveryState::Ignored, "{kind:?}: only people who may write");
        // Somebody else is mentioned, or nothing is asked for.
        for text in ["@ann run", "@skep-bot thank you", "> @skep-bot work on this"] {
            w.comment(issue, "ann", text).await;
            w.pass().await;
            assert_eq!(w.last().await.0, DeliveryState::Ignored, "{kind:?}: {text}");
        }
        assert!(w.runs().await.is_empty());
        let started = w.command(issue, "ann", "@skep-bot, work on this: keep the rest").await;
        assert!(started.contains("is now:"), "{started}");
        let run = w.until_approval().await;
        assert!(run.goal.text.contains("keep the rest"), "{}", run.goal.text);
        let pull = run.change.as_ref().unwrap().number.0;
        let paused = w.command(pull, "ann", "@skep-bot pause").await;
        assert!(paused.contains("paused by forge:ann"), "{paused}");
    }
}

#[tokio::test]
async fn a_mention_that_no_webhook_reported_is_found_by_the_sweep() {
    let mut w = World::sweeping(Kind::GitHub).await;
    let issue = w.forge.state().open_issue("ann", "Say hello", "");
    w.sweep().await;
    w.forge.state().post_comment(issue, "ann", "@skep-bot work on this");
    w.sweep().await;
    w.run().await;
}
