//! Every git operation, interrupted at many moments and repeated: the result equals that of an undisturbed run.

use crate::git_world::{BRANCH, T1, World, git, write};
use skep::domain::{ChangeState, Sha, TaskId};
use skep::ports::forge::{ChangeText, Landing};
use skep::ports::{Forge, Moved, PortError, PortResult, Workspaces};
use std::future::Future;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Whether a live process works below a folder, by its arguments, working directory or environment.
fn is_in_use(dir: &Path) -> bool {
    let dir = dir.as_os_str().as_bytes();
    let mentions = |bytes: &[u8]| bytes.windows(dir.len()).any(|window| window == dir);
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    processes.filter(|path| path.join("cmdline").is_file() && !path.ends_with(std::process::id().to_string())).any(
        |path| {
            std::fs::read_link(path.join("cwd")).is_ok_and(|cwd| mentions(cwd.as_os_str().as_bytes()))
                || ["cmdline", "environ"]
                    .iter()
                    .any(|file| std::fs::read(path.join(file)).is_ok_and(|text| mentions(&text)))
        },
    )
}

/// Waits until every git of this world has ended.
async fn settle(w: &World) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while is_in_use(w.tmp.path()) {
        assert!(Instant::now() < deadline, "a git is still running after 30 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Interrupts an operation at ever later moments, then lets it finish. Dropping its future kills its git.
async fn cut<T, F: Future<Output = PortResult<T>>>(w: &World, cuts: &mut Option<u32>, work: impl Fn() -> F) -> T {
    let Some(cuts) = cuts else { return work().await.unwrap() };
    for micros in [300, 1_000, 2_000, 4_000, 7_000, 11_000, 16_000, 23_000, 35_000] {
        match tokio::time::timeout(Duration::from_micros(micros), work()).await {
            Err(_) => *cuts += 1,
            Ok(Ok(_) | Err(PortError::Transient { .. } | PortError::Unknown { .. })) => {}
            Ok(Err(error)) => panic!("after {micros} µs: {error}"),
        }
        settle(w).await;
    }
    // A killed git is out of sight before the kernel has closed its files, so a lock can still appear after it was
    // looked for.
    for _ in 0..3 {
        match work().await {
            Err(PortError::Transient { .. } | PortError::Unknown { .. }) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                settle(w).await;
            }
            result => return result.unwrap(),
        }
    }
    work().await.unwrap()
}

/// A small run from fetch to release. Returns the landed commit.
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
    let observed = w.forge.observe(&w.repo, change).await.unwrap();
    assert!(matches!(observed.state, ChangeState::Merged { .. }));
    cut(w, cuts, || w.work.release(&w.repo, w.run, BRANCH)).await;
    assert!(!w.data().join("work").join(w.run.to_string()).exists());
    assert!(w.in_mirror(&["for-each-ref", "refs/heads"]).is_empty());
    head
}

#[tokio::test]
async fn interrupted_operations_can_be_repeated_with_the_same_result() {
    let w = World::new().await;
    let mut cuts = Some(0);
    let head = run(&w, &mut cuts).await;
    assert!(cuts > Some(20), "only {cuts:?} cuts hit");
    assert_eq!(git(&w.origin(), &["rev-parse", "main"]), head.as_str());
    assert_eq!(git(&w.origin(), &["status", "--porcelain"]), "");
    assert_eq!(git(&w.origin(), &["log", "--format=%s"]), "Do it\nDo it\nFirst");
    git(&w.mirror(), &["fsck", "--strict", "--no-dangling"]);
    // An undisturbed run creates the same commits.
    let undisturbed = World::new().await;
    assert_eq!(run(&undisturbed, &mut None).await, head);
}
