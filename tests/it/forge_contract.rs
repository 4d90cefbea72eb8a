//! Contract of the local forge, for runs and for people.

use crate::git_world::{BRANCH, T1, World, commit_all, git, write};
use skep::adapters::forge::local::LocalForge;
use skep::domain::{BatchProof, BlockId, ChangeNumber, ChangeState, Principal, Sha, StatusState, TaskId};
use skep::platform::git::{Git, Identity, Mirrors};
use skep::ports::forge::{BatchMember, ChangeText, Landing};
use skep::ports::workspace::Moved;
use skep::ports::{Forge, HumanActions, PortError, Repo, Workspaces};
use std::sync::Arc;

fn ann() -> Principal {
    Principal::from("local:ann")
}

/// Opens a change whose branch adds one file.
async fn open_change(w: &World, task: TaskId, branch: &str, base: &Sha) -> (ChangeNumber, Sha) {
    let dir = w.task(task, base).await;
    write(&dir, &format!("f{}", task.0), "new\n");
    let head = w.commit(task, base).await.unwrap().head;
    w.work.push(&w.repo, &head, branch, None).await.unwrap();
    (ensure(w, branch, &head).await, head)
}

async fn ensure(w: &World, branch: &str, head: &Sha) -> ChangeNumber {
    let text =
        ChangeText { after: None, branch, base_branch: "main", head, draft: true, title: "A thing", body: "Because." };
    w.forge.ensure_change(&w.repo, text).await.unwrap().number
}

fn origin_head(w: &World) -> Sha {
    Sha(git(&w.origin(), &["rev-parse", "main"]))
}

#[tokio::test]
async fn one_change_per_branch() {
    let w = World::new().await;
    let base = w.base().await;
    let (n, head) = open_change(&w, T1, BRANCH, &base).await;
    assert_eq!(n, ensure(&w, BRANCH, &head).await);
    let (m, _) = open_change(&w, TaskId(2), "skep/other", &base).await;
    assert_eq!((n.0, m.0), (1, 2));
    let listed: Vec<u64> = w.forge.changes(&w.repo).await.unwrap().iter().map(|c| c.number.0).collect();
    assert_eq!(listed, [2, 1]);
    // A change that a person closed stays closed, and no second change is opened.
    w.forge.close_by(&w.repo, n, &ann()).await.unwrap();
    assert_eq!(ensure(&w, BRANCH, &head).await, n);
    assert_eq!(w.forge.observe(&w.repo, n).await.unwrap().state, ChangeState::Closed { by: ann() });
    w.forge.close(&w.repo, n).await.unwrap();
    assert!(matches!(w.forge.land(&w.repo, n, &head, &base).await.unwrap(), Landing::Stale(_)));
    assert_eq!(origin_head(&w), base);
    let none = w.forge.observe(&w.repo, ChangeNumber(99)).await.unwrap_err();
    assert!(none.to_string().contains("no change 99"), "{none}");
}

#[tokio::test]
async fn concurrent_writers_lose_nothing() {
    let w = World::new().await;
    let base = w.base().await;
    let (n, head) = open_change(&w, T1, BRANCH, &base).await;
    let ensures = (0..10).map(|_| ensure(&w, BRANCH, &head));
    assert!(futures::future::join_all(ensures).await.iter().all(|m| *m == n));
    // A second process: another forge on the same folder.
    let git = Arc::new(Git::find(Identity::default()).await.unwrap());
    let mirrors = Arc::new(Mirrors::new(w.data(), git));
    let other = LocalForge::new(w.data(), mirrors, Arc::new(crate::git_world::Ticks::default()));
    let comments = (0..20).map(|i| {
        let (forge, repo, text) = (if i % 2 == 0 { &w.forge } else { &other }, &w.repo, format!("comment {i}"));
        async move { forge.comment(repo, n, &ann(), &text).await.unwrap() }
    });
    futures::future::join_all(comments).await;
    let change = w.forge.change(&w.repo, n).await.unwrap();
    let mut ids: Vec<u64> = change.comments.iter().map(|c| c.id).collect();
    ids.dedup();
    assert_eq!(ids, (1..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn comments_are_posted_once_and_only_people_unblock() {
    let w = World::new().await;
    let base = w.base().await;
    let (n, _) = open_change(&w, T1, BRANCH, &base).await;
    for _ in 0..3 {
        w.forge.ensure_comment(&w.repo, n, "7.1", "UNBLOCK #b1 I say").await.unwrap();
    }
    w.forge.comment(&w.repo, n, &ann(), "unblock #2 take Postgres").await.unwrap();
    w.forge.comment(&w.repo, n, &ann(), "you may UNBLOCK #b3").await.unwrap();
    assert!(w.forge.comment(&w.repo, n, &Principal::skep(), "UNBLOCK #b4").await.is_err());
    let observed = w.forge.observe(&w.repo, n).await.unwrap().unblocks;
    assert_eq!(observed.len(), 1);
    assert_eq!((observed[0].block, observed[0].text.as_str(), observed[0].comment), (BlockId(2), "take Postgres", 2));
    let huge = "é".repeat(100_000);
    let change = w.forge.comment(&w.repo, n, &ann(), &huge).await.unwrap();
    assert_eq!(change.comments.last().unwrap().text.len(), 64 * 1024);
}

#[tokio::test]
async fn approvals_apply_to_one_head_and_can_be_withdrawn() {
    let w = World::new().await;
    let base = w.base().await;
    let (n, head) = open_change(&w, T1, BRANCH, &base).await;
    let approved = || async { w.forge.observe(&w.repo, n).await.unwrap().approved_by };
    let review = |by: &'static str, ok| {
        let w = &w;
        async move { w.forge.review(&w.repo, n, &Principal::from(by), ok, "").await }
    };
    assert!(review("skep", true).await.is_err());
    review("local:ann", true).await.unwrap();
    review("local:bob", true).await.unwrap();
    assert_eq!(approved().await.len(), 2);
    review("local:bob", false).await.unwrap();
    assert_eq!(approved().await, [ann()]);
    // Skep's own statuses are not evidence.
    w.forge.set_status(&w.repo, n, &head, "skep", StatusState::Success, "").await.unwrap();
    w.forge.report_status(&w.repo, n, &ann(), &head, "ci", StatusState::Failure, "red").await.unwrap();
    let observed = w.forge.observe(&w.repo, n).await.unwrap();
    assert_eq!(observed.statuses.into_iter().collect::<Vec<_>>(), [("ci".to_owned(), StatusState::Failure)]);
    // A person pushes to the branch: the push is observed, and the approval becomes void.
    git(&w.origin(), &["checkout", "-q", BRANCH]);
    write(&w.origin(), "more", "m");
    let pushed = commit_all(&w.origin(), "More");
    let observed = w.forge.observe(&w.repo, n).await.unwrap();
    assert_eq!((observed.head, observed.approved_by.len(), observed.statuses.len()), (pushed, 0, 0));
    assert!(matches!(w.forge.land(&w.repo, n, &head, &base).await.unwrap(), Landing::Stale(_)));
}

#[tokio::test]
async fn landing_is_a_compare_and_swap() {
    let w = World::new().await;
    let base = w.base().await;
    let (one, head1) = open_change(&w, T1, BRANCH, &base).await;
    let (two, head2) = open_change(&w, TaskId(2), "skep/other", &base).await;
    let (a, b) = tokio::join!(w.forge.land(&w.repo, one, &head1, &base), w.forge.land(&w.repo, two, &head2, &base));
    let landed: Vec<bool> = [a, b].map(|l| matches!(l.unwrap(), Landing::Landed(_))).into();
    assert_eq!(landed.iter().filter(|l| **l).count(), 1, "exactly one of two lands");
    let (number, head, late, late_head) = if landed[0] { (one, head1, two, head2) } else { (two, head2, one, head1) };
    assert_eq!(origin_head(&w), head);
    // The checked-out copy was updated.
    assert_eq!(git(&w.origin(), &["status", "--porcelain"]), "");
    // Landing the change again reports the same result.
    assert_eq!(w.forge.land(&w.repo, number, &head, &base).await.unwrap(), Landing::Landed(head.clone()));
    let observed = w.forge.observe(&w.repo, number).await.unwrap();
    assert_eq!(observed.state, ChangeState::Merged { sha: head.clone(), by: Principal::skep() });
    // The other change does not descend from the new base, so a person is refused as well.
    assert!(matches!(w.forge.land(&w.repo, late, &late_head, &head).await.unwrap(), Landing::Stale(_)));
    let error = w.forge.merge(&w.repo, late, &ann()).await.unwrap_err();
    assert!(error.fix().contains("rebase"), "{error} {}", error.fix());
    assert_eq!(origin_head(&w), head);
}

#[tokio::test]
async fn a_dirty_copy_is_never_touched() {
    let w = World::new().await;
    let base = w.base().await;
    let (n, head) = open_change(&w, T1, BRANCH, &base).await;
    // Changes of other files are no obstacle, staged or not; they stay as they are.
    write(&w.origin(), "README.md", "mine, not committed\n");
    write(&w.origin(), "staged", "s");
    git(&w.origin(), &["add", "staged"]);
    let status = git(&w.origin(), &["status", "--porcelain"]);
    // A file that the landing would overwrite is.
    let refused = || async {
        let error = w.forge.land(&w.repo, n, &head, &base).await.unwrap_err();
        let PortError::Permanent { what, fix } = error else { panic!("{error:?}") };
        assert!(what.contains("f1") && !what.contains("README"), "{what}");
        assert!(fix.contains("stash") && fix.contains("skep unblock"), "{fix}");
        assert_eq!(origin_head(&w), base);
        assert_eq!(std::fs::read_to_string(w.origin().join("f1")).unwrap(), "mine");
        assert_eq!(w.forge.observe(&w.repo, n).await.unwrap().state, ChangeState::Open);
        assert!(!w.origin().join(".git/index.lock").exists());
    };
    write(&w.origin(), "f1", "mine");
    refused().await;
    git(&w.origin(), &["add", "f1"]);
    refused().await;
    git(&w.origin(), &["rm", "-q", "--cached", "f1"]);
    std::fs::remove_file(w.origin().join("f1")).unwrap();
    assert_eq!(w.forge.land(&w.repo, n, &head, &base).await.unwrap(), Landing::Landed(head.clone()));
    assert_eq!(std::fs::read_to_string(w.origin().join("f1")).unwrap(), "new\n");
    assert_eq!(git(&w.origin(), &["status", "--porcelain"]), status);
}

#[tokio::test]
async fn observing_recovers_from_a_crash_between_push_and_file() {
    let w = World::new().await;
    let base = w.base().await;
    let (n, head) = open_change(&w, T1, BRANCH, &base).await;
    let file = w.data().join("forge/a-project/1.json");
    let before = std::fs::read(&file).unwrap();
    w.forge.land(&w.repo, n, &head, &base).await.unwrap();
    std::fs::write(&file, &before).unwrap();
    let observed = w.forge.observe(&w.repo, n).await.unwrap();
    assert!(matches!(&observed.state, ChangeState::Merged { sha, .. } if *sha == head), "{:?}", observed.state);
    // Landing again also recovers with the recorded intent and a deleted branch, and knows the author.
    let mut entry: serde_json::Value = serde_json::from_slice(&before).unwrap();
    entry["landing"] = serde_json::json!({"head": head, "by": "local:ann"});
    std::fs::write(&file, entry.to_string()).unwrap();
    assert_eq!(git(&w.origin(), &["branch", "--list", "skep/*"]), "", "the branch is deleted after landing");
    write(&w.origin(), "later", "l");
    commit_all(&w.origin(), "Later");
    assert_eq!(w.forge.land(&w.repo, n, &head, &base).await.unwrap(), Landing::Landed(head.clone()));
    assert_eq!(w.forge.change(&w.repo, n).await.unwrap().state, ChangeState::Merged { sha: head, by: ann() });
    // A partially written file next to it is not a change.
    std::fs::write(w.data().join("forge/a-project/.tmpXYZ"), "{").unwrap();
    assert_eq!(w.forge.changes(&w.repo).await.unwrap().len(), 1);
}

#[tokio::test]
async fn people_merge_with_skep_or_with_git() {
    let w = World::new().await;
    let base = w.base().await;
    let (one, head) = open_change(&w, T1, BRANCH, &base).await;
    assert!(w.forge.merge(&w.repo, one, &Principal::skep()).await.is_err());
    for _ in 0..2 {
        let change = w.forge.merge(&w.repo, one, &ann()).await.unwrap();
        assert_eq!(change.state, ChangeState::Merged { sha: head.clone(), by: ann() });
    }
    assert_eq!(origin_head(&w), head);
    let (two, head2) = open_change(&w, TaskId(2), "skep/other", &head).await;
    git(&w.origin(), &["merge", "-q", "--no-ff", "-m", "By hand", "skep/other"]);
    let observed = w.forge.observe(&w.repo, two).await.unwrap();
    assert!(
        matches!(&observed.state, ChangeState::Merged { sha, by } if *sha == head2 && by.is_person()),
        "{:?}",
        observed.state
    );
    assert_eq!(observed.base, origin_head(&w));
}

#[tokio::test]
async fn a_bare_origin_lands_too_and_runs_no_hook() {
    let w = World::new().await;
    let bare = w.tmp.path().join("bare.git");
    git(w.tmp.path(), &["clone", "-q", "--bare", "origin", "bare.git"]);
    for hook in ["pre-receive", "update", "post-receive", "post-update", "reference-transaction", "proc-receive"] {
        std::fs::create_dir_all(bare.join("hooks")).unwrap();
        std::fs::copy(w.trap(), bare.join("hooks").join(hook)).unwrap();
    }
    let w = World { repo: Repo { origin: bare.display().to_string(), ..w.repo.clone() }, ..w };
    let base = w.base().await;
    let (n, head) = open_change(&w, T1, BRANCH, &base).await;
    assert_eq!(w.forge.land(&w.repo, n, &head, &base).await.unwrap(), Landing::Landed(head.clone()));
    assert_eq!(git(&bare, &["rev-parse", "main"]), head.as_str());
    w.assert_quiet();
}

/// The stored change, to put the forge back to where a kill would have left it.
fn stored(w: &World) -> std::path::PathBuf {
    w.data().join("forge/a-project/1.json")
}

/// Opens a change that modifies, adds and deletes files.
async fn open_mixed_change(w: &World) -> (ChangeNumber, Sha, Sha) {
    for n in 0..5 {
        write(&w.origin(), &format!("old/{n}"), format!("{n}\n"));
    }
    commit_all(&w.origin(), "Old files");
    let base = w.base().await;
    let dir = w.task(T1, &base).await;
    write(&dir, "README.md", "# Changed\n");
    write(&dir, "deep/er/new", "a long line that is cut\n".repeat(50));
    std::fs::remove_dir_all(dir.join("old")).unwrap();
    let head = w.commit(T1, &base).await.unwrap().head;
    w.work.push(&w.repo, &head, BRANCH, None).await.unwrap();
    (ensure(w, BRANCH, &head).await, base, head)
}

#[tokio::test]
async fn a_landing_that_was_killed_is_finished_or_never_began() {
    for stage in 0..7 {
        let w = World::new().await;
        let (n, base, head) = open_mixed_change(&w).await;
        // As a kill at each stage leaves it: the lock, then the branch, then some files, then all files.
        let mut entry: serde_json::Value = serde_json::from_slice(&std::fs::read(stored(&w)).unwrap()).unwrap();
        entry["landing"] =
            serde_json::json!({"head": head, "by": "skep", "base": base, "token": "t", "pushing_since": 1});
        std::fs::write(stored(&w), entry.to_string()).unwrap();
        write(&w.origin(), ".git/index.lock", "skep t\n");
        if stage == 0 {
            // Killed while the branch was to be moved.
            write(&w.origin(), ".git/refs/heads/main.lock", "");
        }
        if stage >= 1 {
            git(&w.origin(), &["update-ref", "refs/heads/main", head.as_str(), base.as_str()]);
        }
        if stage >= 2 {
            write(&w.origin(), "README.md", "# Changed\n");
            std::fs::remove_file(w.origin().join("old/1")).unwrap();
        }
        if stage >= 3 {
            // A file that was being written.
            write(&w.origin(), "deep/er/new", "a long line th");
        }
        if stage >= 4 {
            write(&w.origin(), "deep/er/new", "a long line that is cut\n".repeat(50));
            std::fs::remove_dir_all(w.origin().join("old")).unwrap();
        }
        if stage == 5 {
            // The person went on to edit a file.
            write(&w.origin(), "README.md", "# Mine\n");
        }
        if stage == 6 {
            // Another commit came on top before Skep was back.
            let tree = git(&w.origin(), &["rev-parse", &format!("{head}^{{tree}}")]);
            let next = git(&w.origin(), &["commit-tree", "-p", head.as_str(), "-m", "Next", &tree]);
            git(&w.origin(), &["update-ref", "refs/heads/main", &next]);
        }
        assert_eq!(w.forge.land(&w.repo, n, &head, &base).await.unwrap(), Landing::Landed(head.clone()), "{stage}");
        let status = git(&w.origin(), &["status", "--porcelain"]);
        assert_eq!(status, if stage == 5 { "M README.md" } else { "" }, "stage {stage}");
        if stage == 5 {
            assert_eq!(std::fs::read_to_string(w.origin().join("README.md")).unwrap(), "# Mine\n");
        }
        assert!(!w.origin().join(".git/index.lock").exists() && !w.origin().join("old").exists());
        git(&w.origin(), &["fsck", "--strict"]);
    }
}

#[tokio::test]
async fn locks_of_a_persons_git_are_waited_for_and_named() {
    let w = World::new().await;
    let base = w.base().await;
    let (n, head) = open_change(&w, T1, BRANCH, &base).await;
    for lock in ["index.lock", "HEAD.lock", "refs/heads/main.lock"] {
        let path = w.origin().join(".git").join(lock);
        write(&w.origin(), &format!(".git/{lock}"), "");
        let error = w.forge.land(&w.repo, n, &head, &base).await.unwrap_err();
        assert!(matches!(error, PortError::Permanent { .. }) && error.to_string().contains(lock), "{lock}: {error:?}");
        assert!(error.fix().contains("skep unblock"), "{}", error.fix());
        assert_eq!(origin_head(&w), base);
        assert!(path.exists(), "a lock of others is never removed");
        std::fs::remove_file(path).unwrap();
        assert_eq!(git(&w.origin(), &["status", "--porcelain"]), "", "{lock}");
    }
    // A lock that is released in time costs a moment only.
    write(&w.origin(), ".git/index.lock", "");
    let lock = w.origin().join(".git/index.lock");
    let release = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        std::fs::remove_file(lock).unwrap();
    };
    let (landed, ()) = tokio::join!(w.forge.land(&w.repo, n, &head, &base), release);
    assert_eq!(landed.unwrap(), Landing::Landed(head));
}

#[tokio::test]
async fn an_unfinished_rebase_or_merge_is_named() {
    let w = World::new().await;
    let base = w.base().await;
    let (n, head) = open_change(&w, T1, BRANCH, &base).await;
    write(&w.origin(), ".git/MERGE_HEAD", format!("{head}\n"));
    let error = w.forge.land(&w.repo, n, &head, &base).await.unwrap_err();
    assert!(error.to_string().contains("merge") && error.fix().contains("--abort"), "{error}");
    std::fs::remove_file(w.origin().join(".git/MERGE_HEAD")).unwrap();
    git(&w.origin(), &["checkout", "-q", "--detach"]);
    write(&w.origin(), ".git/rebase-merge/head-name", "refs/heads/main\n");
    let error = w.forge.land(&w.repo, n, &head, &base).await.unwrap_err();
    assert!(error.to_string().contains("rebase"), "{error}");
    assert_eq!(origin_head(&w), base);
}

#[tokio::test]
async fn every_working_copy_with_the_branch_moves_with_it() {
    // A linked worktree has the base branch; the main working copy has another one.
    let w = World::new().await;
    let linked = w.tmp.path().join("linked");
    git(&w.origin(), &["checkout", "-q", "-b", "side"]);
    git(&w.origin(), &["worktree", "add", "-q", linked.to_str().unwrap(), "main"]);
    for origin in [w.origin(), linked.clone()] {
        let repo = Repo { origin: origin.display().to_string(), ..w.repo.clone() };
        let (_, base) = w.work.fetch(&repo, Some("main")).await.unwrap();
        let task = TaskId(if origin == linked { 2 } else { 1 });
        let dir = w.work.task_dir(&repo, w.run, task, &base).await.unwrap();
        write(&dir, &format!("f{}", task.0), "new\n");
        let branch = format!("skep/b{}", task.0);
        let head = w.work.commit(&repo, w.run, task, &branch, &base, "m").await.unwrap().head;
        w.work.push(&repo, &head, &branch, None).await.unwrap();
        let text = ChangeText {
            after: None,
            branch: &branch,
            base_branch: "main",
            head: &head,
            draft: false,
            title: "t",
            body: "b",
        };
        let n = w.forge.ensure_change(&repo, text).await.unwrap().number;
        assert_eq!(w.forge.land(&repo, n, &head, &base).await.unwrap(), Landing::Landed(head.clone()));
        assert_eq!(git(&linked, &["rev-parse", "HEAD"]), head.as_str());
        assert_eq!(git(&linked, &["status", "--porcelain"]), "");
        assert!(linked.join(format!("f{}", task.0)).exists());
        assert_eq!(git(&w.origin(), &["status", "--porcelain"]), "");
    }
}

#[tokio::test]
async fn the_changes_of_a_batch_land_all_or_none_and_each_knows_how() {
    let w = World::new().await;
    let base = w.base().await;
    let (one, head1) = open_change(&w, T1, BRANCH, &base).await;
    let (two, head2) = open_change(&w, TaskId(2), "skep/other", &base).await;
    let moved = w.work.rebase(&w.repo, &base, &head2, &head1, "skep/other-task/landing").await.unwrap();
    let Moved::Clean(tip) = moved else { panic!("{moved:?}") };
    assert_ne!(tip, head2);
    let proof = |base: &Sha| BatchProof {
        base: base.clone(),
        tip: tip.clone(),
        runs: vec![w.run],
        results: Vec::new(),
        environment: None,
    };
    let member = |change, head: &Sha, commit: &Sha| BatchMember { change, head: head.clone(), commit: commit.clone() };
    let members = [member(one, &head1, &head1), member(two, &head2, &tip)];
    // One change is not where its run proved it, or the base is another one: none lands.
    let pushed = [members[0].clone(), member(two, &tip, &tip)];
    for (members, onto) in [(&pushed, &base), (&members, &head1)] {
        let landing = w.forge.land_batch(&w.repo, members, &proof(onto)).await.unwrap();
        assert!(matches!(landing, Landing::Stale(_)), "{landing:?}");
        assert_eq!(origin_head(&w), base);
    }
    let landing = w.forge.land_batch(&w.repo, &members, &proof(&base)).await.unwrap();
    assert_eq!(landing, Landing::Landed(tip.clone()));
    assert_eq!((origin_head(&w), git(&w.origin(), &["status", "--porcelain"])), (tip.clone(), String::new()));
    assert!(w.origin().join("f1").exists() && w.origin().join("f2").exists(), "the working copy moved too");
    assert_eq!(git(&w.origin(), &["branch", "--list", "skep/*"]), "", "both branches are deleted");
    for (change, head, commit) in [(one, &head1, &head1), (two, &head2, &tip)] {
        let state = w.forge.observe(&w.repo, change).await.unwrap().state;
        assert_eq!(state, ChangeState::Merged { sha: commit.clone(), by: Principal::skep() });
        // As a run asks again whose process was killed.
        let again = w.forge.land(&w.repo, change, head, &base).await.unwrap();
        assert_eq!(again, Landing::LandedInBatch(commit.clone(), Box::new(proof(&base))));
    }
    // What was never part of it is not taken for it.
    assert!(matches!(w.forge.land(&w.repo, two, &base, &base).await.unwrap(), Landing::Stale(_)));
}

#[tokio::test]
async fn a_deleted_branch_lands_and_a_branch_in_use_stays() {
    let w = World::new().await;
    let base = w.base().await;
    let (n, head) = open_change(&w, T1, BRANCH, &base).await;
    git(&w.origin(), &["branch", "-D", BRANCH]);
    assert_eq!(w.forge.land(&w.repo, n, &head, &base).await.unwrap(), Landing::Landed(head.clone()));
    let (two, second) = open_change(&w, TaskId(2), "skep/other", &head).await;
    git(&w.origin(), &["checkout", "-q", "skep/other"]);
    assert_eq!(w.forge.land(&w.repo, two, &second, &head).await.unwrap(), Landing::Landed(second.clone()));
    assert_eq!(git(&w.origin(), &["symbolic-ref", "HEAD"]), "refs/heads/skep/other");
    assert_eq!(git(&w.origin(), &["status", "--porcelain"]), "");
}

#[tokio::test]
async fn changes_that_are_gone_are_named_with_a_way_out() {
    let w = World::new().await;
    let base = w.base().await;
    let (n, head) = open_change(&w, T1, BRANCH, &base).await;
    std::fs::remove_dir_all(stored(&w).parent().unwrap()).unwrap();
    for error in
        [w.forge.observe(&w.repo, n).await.unwrap_err(), w.forge.land(&w.repo, n, &head, &base).await.unwrap_err()]
    {
        assert!(
            error.to_string().contains("holds no changes") && error.fix().contains("restore the folder"),
            "{error:?}"
        );
    }
    // A change that never existed, beside others, is another mistake.
    let other = ensure(&w, BRANCH, &head).await;
    let error = w.forge.observe(&w.repo, ChangeNumber(other.0 + 7)).await.unwrap_err();
    assert!(!error.to_string().contains("holds no changes"), "{error:?}");
}

#[tokio::test]
async fn a_status_name_is_never_cleaned_into_another() {
    let w = World::new().await;
    let base = w.base().await;
    let (n, head) = open_change(&w, T1, BRANCH, &base).await;
    for name in ["ci/build\n", "ci/build ", "ci\u{7f}/build", ""] {
        let reported = w.forge.report_status(&w.repo, n, &ann(), &head, name, StatusState::Success, "").await;
        assert!(matches!(reported, Err(PortError::Permanent { .. })), "{name:?}");
    }
    assert!(w.forge.observe(&w.repo, n).await.unwrap().statuses.is_empty());
}
