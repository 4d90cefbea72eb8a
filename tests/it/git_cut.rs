//! Every operation, cut short at many moments and done again: the result is the one of an undisturbed world.

use crate::git_world::{BRANCH, T1, World, git, write};
use skep::domain::{ChangeState, Sha, TaskId};
use skep::ports::forge::{ChangeText, Landing};
use skep::ports::{Forge, Moved, PortError, PortResult, Workspaces};
use std::future::Future;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Makes every lock file in the mirror look old, as it is when somebody comes back to it.
fn age_locks(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            age_locks(&path);
        } else if path.extension().is_some_and(|e| e == "lock")
            && let Ok(file) = std::fs::File::options().write(true).open(&path)
        {
            file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
        }
    }
}

/// Cuts the work at ever later moments, then lets it end. Dropping it kills its git.
async fn cut<T, F: Future<Output = PortResult<T>>>(w: &World, cuts: &mut Option<u32>, work: impl Fn() -> F) -> T {
    let Some(cuts) = cuts else { return work().await.unwrap() };
    for micros in [300, 1_000, 2_000, 4_000, 7_000, 11_000, 16_000, 23_000, 35_000] {
        match tokio::time::timeout(Duration::from_micros(micros), work()).await {
            Err(_) => *cuts += 1,
            Ok(Ok(_) | Err(PortError::Transient { .. } | PortError::Unknown { .. })) => {}
            Ok(Err(error)) => panic!("after {micros} µs: {error}"),
        }
        age_locks(&w.mirror());
        age_locks(&w.origin().join(".git"));
    }
    // On a busy machine a git that was killed may still be dying, and its locks are younger than those just aged.
    for _ in 0..50 {
        match work().await {
            Err(PortError::Transient { .. } | PortError::Unknown { .. }) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                age_locks(&w.mirror());
                age_locks(&w.origin().join(".git"));
            }
            ended => return ended.unwrap(),
        }
    }
    work().await.unwrap()
}

/// A small run from the fetch to the release; gives the landed commit.
async fn run(w: &World, cuts: &mut Option<u32>) -> Sha {
    let base = cut(w, cuts, || w.work.fetch(&w.repo, None)).await.1;
    let mut heads = Vec::new();
    for task in [T1, TaskId(2)] {
        let dir = cut(w, cuts, || w.work.task_dir(&w.repo, w.run, task, &base)).await;
        assert!(git(&dir, &["status", "--porcelain"]).is_empty());
        write(&dir, &format!("f{}", task.0), "new\n");
        let branch = w.task_branch(task);
        let commit = cut(w, cuts, || w.work.commit(&w.repo, w.run, task, &branch, &base, "Do it")).await;
        assert_eq!(commit.diff.files_total, 1);
        heads.push(commit.head);
    }
    let moved = cut(w, cuts, || w.work.rebase(&w.repo, &base, &heads[1], &heads[0], BRANCH)).await;
    let Moved::Clean(head) = moved else { panic!("{moved:?}") };
    let check = cut(w, cuts, || w.work.check_dir(&w.repo, w.run, "c", &head)).await;
    assert!(check.join("f1").exists() && check.join("f2").exists());
    cut(w, cuts, || w.work.remove_dir(&w.repo, w.run, "c")).await;
    cut(w, cuts, || w.work.push(&w.repo, &head, BRANCH, None)).await;
    let text = || ChangeText {
        after: None,
        branch: BRANCH,
        base_branch: "main",
        head: &head,
        draft: false,
        title: "t",
        body: "b",
    };
    let change = cut(w, cuts, || w.forge.ensure_change(&w.repo, text())).await.number;
    assert_eq!(change.0, 1);
    cut(w, cuts, || w.forge.ensure_comment(&w.repo, change, "1.1", "hello")).await;
    let landed = cut(w, cuts, || w.forge.land(&w.repo, change, &head, &base)).await;
    assert_eq!(landed, Landing::Landed(head.clone()));
    let seen = w.forge.observe(&w.repo, change).await.unwrap();
    assert!(matches!(seen.state, ChangeState::Merged { .. }));
    cut(w, cuts, || w.work.release(&w.repo, w.run, BRANCH)).await;
    assert!(!w.data().join("work").join(w.run.to_string()).exists());
    assert!(w.in_mirror(&["for-each-ref", "refs/heads"]).is_empty());
    head
}

#[tokio::test]
async fn cut_short_anywhere_and_done_again_gives_the_same() {
    let w = World::new().await;
    let mut cuts = Some(0);
    let head = run(&w, &mut cuts).await;
    assert!(cuts > Some(20), "only {cuts:?} cuts hit");
    assert_eq!(git(&w.origin(), &["rev-parse", "main"]), head.as_str());
    assert_eq!(git(&w.origin(), &["status", "--porcelain"]), "");
    assert_eq!(git(&w.origin(), &["log", "--format=%s"]), "Do it\nDo it\nFirst");
    git(&w.mirror(), &["fsck", "--strict", "--no-dangling"]);
    // The commits are the ones an undisturbed run makes.
    let calm = World::new().await;
    assert_eq!(run(&calm, &mut None).await, head);
}
