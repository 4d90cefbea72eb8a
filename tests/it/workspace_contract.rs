//! Contract of `Workspaces`, on real repositories.

use crate::git_world::{BRANCH, T1, World, commit_all, git, write};
use skep::adapters::workspace::{GitWorkspaces, WorkspaceLimits};
use skep::domain::{AttemptId, FileKind, Sha, TaskId};
use skep::ports::{ChangeVersion, Moved, PortError, PortResult, Repo, VersionDiff, Workspaces};
use std::os::unix::fs::symlink;
use std::sync::Arc;

const T2: TaskId = TaskId(2);

fn clean(moved: Moved) -> Sha {
    match moved {
        Moved::Clean(sha) => sha,
        Moved::Conflict(paths) => panic!("conflict in {paths:?}"),
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: PortResult<T>, has: &str) -> String {
    match result.unwrap_err() {
        PortError::Permanent { what, fix } => {
            assert!(what.contains(has) && !fix.is_empty(), "{what:?} / {fix:?}");
            format!("{what} / {fix}")
        }
        other => panic!("not permanent: {other:?}"),
    }
}

#[tokio::test]
async fn fetch_returns_the_base_and_reads_from_it() {
    let w = World::new().await;
    let head = Sha(git(&w.origin(), &["rev-parse", "HEAD"]));
    // A dirty working copy is a valid origin: only its commits count.
    write(&w.origin(), "src/a.txt", "dirty");
    for base in [None, Some("main")] {
        assert_eq!(w.work.fetch(&w.repo, base).await.unwrap(), ("main".to_owned(), head.clone()));
    }
    let read = |path: &'static str| w.work.read_at(&w.repo, &head, path);
    assert_eq!(read("README.md").await.unwrap().unwrap(), b"# A thing\n");
    assert!(read("src/a.txt").await.unwrap().unwrap().starts_with(b"one"));
    for missing in ["src", "nope", "src/a.txt/b", "", "../README.md", "/README.md", "a//b"] {
        assert_eq!(read(missing).await.unwrap(), None, "{missing}");
    }
    assert_eq!(w.work.paths(&w.repo, &head).await.unwrap(), [".gitignore", "README.md", "src/a.txt"]);

    // The mirror follows the origin, also after a rewrite, a renamed branch and a large file.
    write(&w.origin(), "big.bin", vec![b'x'; 3 << 20]);
    git(&w.origin(), &["branch", "feature"]);
    git(&w.origin(), &["branch", "-m", "feature", "feature/deep"]);
    let next = commit_all(&w.origin(), "Big");
    assert_eq!(w.base().await, next);
    assert_eq!(w.work.read_at(&w.repo, &next, "big.bin").await.unwrap().unwrap().len(), 1 << 20);
    git(&w.origin(), &["branch", "-D", "feature/deep"]);
    git(&w.origin(), &["branch", "feature"]);
    git(&w.origin(), &["reset", "-q", "--hard", head.as_str()]);
    assert_eq!(w.base().await, head);
}

#[tokio::test]
async fn fetch_errors_name_the_cause_and_the_fix() {
    let w = World::bare().await;
    let at = |origin: String| Repo { project: w.repo.project.clone(), origin };
    refused(w.work.fetch(&at("/does/not/exist".into()), None).await, "does not exist");
    refused(w.work.fetch(&w.repo, None).await, "does not appear to be a git repository");
    git(&w.origin(), &["init", "-q"]);
    refused(w.work.fetch(&w.repo, None).await, "no commit");
    write(&w.origin(), "a", "a");
    commit_all(&w.origin(), "First");
    for n in 0..7 {
        git(&w.origin(), &["branch", &format!("b{n}")]);
    }
    let error = refused(w.work.fetch(&w.repo, Some("trunk")).await, "no branch \"trunk\"");
    assert!(error.contains("b0, b1, b2, b3, b4") && !error.contains("b5"), "{error}");
    refused(w.work.fetch(&w.repo, Some("--upload-pack=x")).await, "not a valid branch name");
    git(&w.origin(), &["checkout", "-q", "--detach"]);
    refused(w.work.fetch(&w.repo, None).await, "detached");
    assert!(w.work.fetch(&w.repo, Some("main")).await.is_ok());
    for bad in ["ext::sh -c true", "-x", "relative/path", "https://a:b@example.org/x"] {
        refused(w.work.fetch(&at(bad.into()), None).await, "repository");
    }
    // The listener is closed, so connections to this port are refused.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    match w.work.fetch(&at(format!("http://127.0.0.1:{port}/a.git")), None).await.unwrap_err() {
        PortError::Transient { what, .. } => assert!(what.contains("reach"), "{what}"),
        PortError::Permanent { what, .. } => assert!(what.contains("http"), "{what}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn bare_origins_and_defective_old_commits_are_accepted() {
    let w = World::new().await;
    // A commit in the format of old tools: no space before the date, an invalid time zone.
    let tree = git(&w.origin(), &["rev-parse", "HEAD^{tree}"]);
    let raw = format!("tree {tree}\nauthor A <a@x>1 +0000\ncommitter A <a@x> 1 +9999999\n\nOld\n");
    write(&w.tmp.path().join("x"), "c", raw);
    let file = w.tmp.path().join("x/c").display().to_string();
    let sha = git(&w.origin(), &["hash-object", "-t", "commit", "-w", "--literally", &file]);
    git(&w.origin(), &["update-ref", "refs/heads/old", &sha]);
    let bare = w.tmp.path().join("bare.git").display().to_string();
    git(w.tmp.path(), &["clone", "-q", "--bare", "origin", &bare]);
    let repo = Repo { origin: bare, ..w.repo.clone() };
    assert_eq!(w.work.fetch(&repo, Some("old")).await.unwrap().1, Sha(sha));
}

#[tokio::test]
async fn concurrent_fetches_succeed() {
    let w = World::new().await;
    let fetches = (0..4).map(|_| w.work.fetch(&w.repo, None));
    for result in futures::future::join_all(fetches).await {
        result.unwrap();
    }
}

#[tokio::test]
async fn a_worktree_is_committed_as_it_is() {
    let w = World::new().await;
    let base = w.base().await;
    let dir = w.task(T1, &base).await;
    // The agent's own git works and knows the base commit.
    assert_eq!(git(&dir, &["status", "--porcelain"]), "");
    assert_eq!(git(&dir, &["rev-parse", "HEAD"]), base.as_str());
    git(&dir, &["fsck", "--strict"]);

    let outside = w.tmp.path().join("outside");
    write(&outside, "secret", "do not read");
    write(&dir, "src/a.txt", "one\nTWO\nthree\nfour\nfive\nsix\nseven\n");
    std::fs::remove_file(dir.join("README.md")).unwrap();
    for name in ["with space", "new\nline", "-dash", "😀/é", "tab\there", "\"quoted\"", "back\\slash"] {
        write(&dir, name, "x\n");
    }
    write(&dir, "bin", [0_u8, 1, 2, 255]);
    write(&dir, "target/debug/out", "ignored");
    symlink(outside.join("secret"), dir.join("link")).unwrap();
    symlink(&outside, dir.join("folder")).unwrap();
    write(&dir, "run.sh", "#!/bin/sh\n");
    std::fs::set_permissions(dir.join("run.sh"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    // Commands in the agent's own repository have no effect on the commit.
    git(&dir, &["update-index", "--skip-worktree", "src/a.txt"]);
    git(&dir, &["-c", "core.safecrlf=false", "add", "-A"]);
    git(&dir, &["commit", "-qm", "mine"]);

    let done = w.commit(T1, &base).await.unwrap();
    let again = w.commit(T1, &base).await.unwrap();
    assert_eq!(done.head, again.head, "the same content must be the same commit");
    assert_eq!(done.diff.files_total, 13, "{:?}", done.diff);
    let find = |path: &str| done.diff.files.iter().find(|f| f.path == path).unwrap_or_else(|| panic!("{path}"));
    assert_eq!((find("src/a.txt").added, find("src/a.txt").removed), (1, 1));
    assert_eq!(find("README.md").kind, FileKind::Deleted);
    assert_eq!(find("new\nline").kind, FileKind::Added);
    assert!(find("bin").binary);
    assert!(String::from_utf8_lossy(&done.patch).contains("+TWO"));
    assert!(!String::from_utf8_lossy(&done.patch).contains("do not read"));
    let modes = w.in_mirror(&["ls-tree", "-r", done.head.as_str()]);
    assert!(
        modes.contains("120000")
            && modes.contains("100755")
            && !modes.contains("secret\n")
            && !modes.contains("target")
    );
    let log = w.in_mirror(&["log", "-1", "--format=%an <%ae>|%cn|%s|%P", done.head.as_str()]);
    assert_eq!(log, format!("Skep <skep@localhost>|Skep|Do it|{base}"));
    assert_eq!(w.in_mirror(&["rev-parse", &w.task_branch(T1)]), done.head.as_str());
    assert_eq!(w.work.diff(&w.repo, &base, &done.head).await.unwrap(), (done.diff, done.patch));
}

#[tokio::test]
async fn an_unchanged_worktree_commits_to_the_base() {
    let w = World::new().await;
    let base = w.base().await;
    let dir = w.task(T1, &base).await;
    write(&dir, "target/x", "ignored");
    let done = w.commit(T1, &base).await.unwrap();
    assert_eq!((done.head, done.diff.is_empty(), done.patch.len()), (base, true, 0));
}

#[tokio::test]
async fn an_edit_of_equal_length_and_time_is_detected() {
    let w = World::new().await;
    let base = w.base().await;
    let dir = w.task(T1, &base).await;
    let path = dir.join("README.md");
    let before = std::fs::metadata(&path).unwrap().modified().unwrap();
    write(&dir, "README.md", "# A THING\n");
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
    // Age the index, so that it is older than a copy of it would be.
    let index = w.data().join("sealed").join(w.run.to_string()).join("t1/index");
    let file = std::fs::File::options().write(true).open(index).unwrap();
    file.set_modified(before).unwrap();
    assert_eq!(w.commit(T1, &base).await.unwrap().diff.summary(), "1 file, +1 -1");
}

#[tokio::test]
async fn forbidden_entries_are_refused() {
    let w = World::new().await;
    let base = w.base().await;
    for (name, has) in [
        ("sub/.git/config", "repository inside"),
        ("sub/.GIT/config", "repository inside"),
        ("sub/git~1", "repository inside"),
        ("sub/.g\u{200c}it", "repository inside"),
        (".Git/config", "repository inside"),
        ("sub/.git", "repository inside"),
    ] {
        let dir = w.task(T1, &base).await;
        write(&dir, name, "[core]\n");
        refused(w.commit(T1, &base).await, has);
    }
    let dir = w.task(T1, &base).await;
    assert!(!dir.join("sub").exists(), "each attempt starts clean");
    let fifo = |path: std::path::PathBuf| {
        rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RUSR).unwrap();
    };
    fifo(dir.join("pipe"));
    refused(w.commit(T1, &base).await, "pipe");
    let dir = w.task(T1, &base).await;
    std::fs::remove_file(dir.join(".gitignore")).unwrap();
    fifo(dir.join(".gitignore"));
    refused(w.commit(T1, &base).await, ".gitignore");
    // Ignored folders are not inspected.
    let dir = w.task(T1, &base).await;
    git(&dir, &["init", "-q", "target/dep"]);
    fifo(dir.join("target/pipe"));
    write(&dir, "ok", "ok");
    assert_eq!(w.commit(T1, &base).await.unwrap().diff.files_total, 1);
}

#[tokio::test]
async fn an_existing_worktree_is_found_with_its_content() {
    let w = World::new().await;
    let base = w.base().await;
    let existing = async |task: Option<TaskId>, name: &str, head: &Sha| {
        w.work.existing_dir(w.run, task, name, head).await.unwrap()
    };
    assert_eq!(existing(Some(T1), "a1", &base).await, None, "nothing exists yet");
    let dir = w.task(T1, &base).await;
    write(&dir, "half", "done");
    assert_eq!(existing(Some(T1), "a1", &base).await.as_deref(), Some(dir.as_path()));
    assert_eq!(std::fs::read_to_string(dir.join("half")).unwrap(), "done");
    assert_eq!(
        existing(Some(T1), "a1", &"a".repeat(40).as_str().into()).await,
        None,
        "it has another commit checked out"
    );
    let read = w.work.read_dir(&w.repo, w.run, "a2", &base).await.unwrap();
    assert_eq!(existing(None, "a2", &base).await, Some(read.clone()));
    std::fs::remove_dir_all(&read).unwrap();
    assert_eq!(existing(None, "a2", &base).await, None, "its folder was removed");
    assert!(w.work.existing_dir(w.run, None, "../../x", &base).await.is_err());
    // The meter file is out of the agent's reach, and is removed with the run.
    let meter = w.work.meter_file(w.run, AttemptId(1));
    assert!(meter.starts_with(w.data().join("sealed")) && !meter.starts_with(&dir));
    write(meter.parent().unwrap(), meter.file_name().unwrap().to_str().unwrap(), "{}");
    w.work.release(&w.repo, w.run, BRANCH).await.unwrap();
    assert!(!meter.exists());
}

#[tokio::test]
async fn limits_apply_to_checkout_and_commit() {
    let w = World::new().await;
    let base = w.base().await;
    let small = WorkspaceLimits { files: 100, bytes: 1 << 20, changed_files: 5, changed_bytes: 1000 };
    let work = GitWorkspaces::new(w.data(), Arc::clone(&w.mirrors)).with_limits(small);
    let commit = || work.commit(&w.repo, w.run, T1, "skep/x", &base, "m");
    let dir = work.task_dir(&w.repo, w.run, T1, &base).await.unwrap();
    write(&dir, "large", vec![b'x'; 2000]);
    refused(commit().await, "MiB");
    let dir = work.task_dir(&w.repo, w.run, T2, &base).await.unwrap();
    for n in 0..6 {
        write(&dir, &format!("f{n}"), "x");
    }
    refused(work.commit(&w.repo, w.run, T2, "skep/x", &base, "m").await, "6 files changed");

    // A tree bomb: ten levels of ten names for the same folder, 10^10 files.
    let blob = git(&w.origin(), &["rev-parse", "HEAD:README.md"]);
    let mut id = ("100644 blob".to_owned(), blob);
    for _ in 0..10 {
        let lines: String = (0..10).map(|n| format!("{} {}\tf{n}\n", id.0, id.1)).collect();
        write(w.tmp.path(), "tree", lines);
        let out = std::process::Command::new("git")
            .arg("mktree")
            .current_dir(w.origin())
            .stdin(std::fs::File::open(w.tmp.path().join("tree")).unwrap())
            .output()
            .unwrap();
        id = ("040000 tree".to_owned(), String::from_utf8(out.stdout).unwrap().trim().to_owned());
    }
    let bomb = git(&w.origin(), &["commit-tree", "-m", "bomb", &id.1]);
    git(&w.origin(), &["update-ref", "refs/heads/bomb", &bomb]);
    let (_, bomb) = w.work.fetch(&w.repo, Some("bomb")).await.unwrap();
    refused(w.work.check_dir(&w.repo, w.run, "c", &bomb).await, "files");
}

#[tokio::test]
async fn uncommitted_work_is_saved_once() {
    let w = World::new().await;
    let base = w.base().await;
    let dir = w.task(T1, &base).await;
    write(&dir, "half.txt", "half done");
    git(&dir, &["init", "-q", "nested"]);
    write(&dir, "target/cache", "built");
    let saved = || w.in_mirror(&["for-each-ref", "--format=%(refname)", "refs/skep/wip"]);
    assert_eq!(w.task(T1, &base).await, dir);
    assert!(!dir.join("half.txt").exists() && !dir.join("nested").exists());
    let name = format!("refs/skep/wip/{}/t1-1", w.run);
    assert_eq!(saved(), name);
    assert_eq!(w.in_mirror(&["show", &format!("{name}:half.txt")]), "half done");
    write(&dir, "half.txt", "half done");
    w.task(T1, &base).await;
    assert_eq!(saved(), name, "equal work is saved once");

    // Committed work is not saved again, and its build output stays for the next attempt.
    write(&dir, "new.txt", "n");
    write(&dir, "target/cache", "built");
    let head = w.commit(T1, &base).await.unwrap().head;
    w.task(T1, &head).await;
    assert_eq!(saved(), name);
    assert!(dir.join("target/cache").exists() && dir.join("new.txt").exists());
    assert_eq!(git(&dir, &["rev-parse", "HEAD"]), head.as_str());
    assert_eq!(w.commit(T1, &head).await.unwrap().head, head);
}

#[tokio::test]
async fn unfinished_work_is_continued_on_the_same_head() {
    let w = World::new().await;
    let base = w.base().await;
    let dir = w.task(T1, &base).await;
    write(&dir, "new.txt", "half");
    std::fs::remove_file(dir.join("README.md")).unwrap();
    write(&dir, "target/cache", "built");
    let half = w.commit(T1, &base).await.unwrap();

    // Whatever was left in the worktree since, the next attempt finds the commit's content as its own changes.
    write(&dir, "new.txt", "spoiled");
    w.task(T1, &base).await;
    w.work.continue_work(&w.repo, w.run, T1, &half.head).await.unwrap();
    assert_eq!(std::fs::read_to_string(dir.join("new.txt")).unwrap(), "half");
    assert_eq!(git(&dir, &["status", "--porcelain"]), "D README.md\n?? new.txt");
    assert_eq!(git(&dir, &["rev-parse", "HEAD"]), base.as_str());
    let same = w.commit(T1, &base).await.unwrap();
    assert_eq!((same.diff, same.patch), (half.diff.clone(), half.patch.clone()));
    write(&dir, "new.txt", "whole");
    let whole = w.commit(T1, &base).await.unwrap();
    assert_eq!(w.in_mirror(&["rev-list", "--count", &format!("{base}..{}", whole.head)]), "1");
    assert_eq!(w.in_mirror(&["show", &format!("{}:new.txt", whole.head)]), "whole");

    // The next attempt that does not continue starts clean.
    w.task(T1, &base).await;
    assert!(!dir.join("new.txt").exists() && dir.join("README.md").exists());
    let missing = "f".repeat(40).as_str().into();
    refused(w.work.continue_work(&w.repo, w.run, T1, &missing).await, "");
}

#[tokio::test]
async fn incomplete_mirrors_and_worktrees_are_recreated() {
    let w = World::new().await;
    // A mirror whose creation was interrupted.
    std::fs::create_dir_all(w.data().join("mirrors/a-project.git.half/refs")).unwrap();
    let base = w.base().await;
    let dir = w.task(T1, &base).await;
    // A kill during the checkout leaves no marker.
    let sealed = w.data().join("sealed").join(w.run.to_string()).join("t1");
    std::fs::remove_file(sealed.join("ready")).unwrap();
    std::fs::remove_file(dir.join("README.md")).unwrap();
    refused(w.commit(T1, &base).await, "incomplete");
    w.task(T1, &base).await;
    assert!(dir.join("README.md").exists());
    // A kill during the commit leaves a copy of the index and its lock.
    write(&sealed, "index.work", "rubbish");
    write(&sealed, "index.work.lock", "");
    write(&dir, "new", "n");
    assert_eq!(w.commit(T1, &base).await.unwrap().diff.files_total, 1);
    // The worktree itself was replaced by a link.
    let outside = w.tmp.path().join("outside");
    write(&outside, "precious", "p");
    std::fs::remove_dir_all(&dir).unwrap();
    symlink(&outside, &dir).unwrap();
    refused(w.commit(T1, &base).await, "incomplete");
    w.task(T1, &base).await;
    assert!(outside.join("precious").exists() && dir.join("README.md").exists() && !dir.is_symlink());
}

#[tokio::test]
async fn leftovers_of_killed_gits_are_removed_at_once() {
    let w = World::new().await;
    let base = w.base().await;
    let dir = w.task(T1, &base).await;
    write(&dir, "new", "n");
    let lock = format!("refs/heads/{}.lock", w.task_branch(T1));
    write(&w.mirror(), &lock, "");
    w.commit(T1, &base).await.unwrap();
    assert!(!w.mirror().join(lock).exists());
    // A fetch meets locks on the branch it updates, and removes what a killed fetch downloaded.
    write(&w.origin(), "b", "b");
    commit_all(&w.origin(), "Second");
    let left = ["refs/remotes/origin/main.lock", "objects/pack/tmp_pack_x", "objects/pack/tmp_idx_x"];
    left.iter().for_each(|name| write(&w.mirror(), name, ""));
    write(&w.mirror(), "objects/tmp_objdir-incoming-x/pack/y", "");
    assert_eq!(w.base().await.as_str(), git(&w.origin(), &["rev-parse", "main"]));
    for name in left.iter().chain(&["objects/tmp_objdir-incoming-x"]) {
        assert!(!w.mirror().join(name).exists(), "{name}");
    }
    // In the origin, only a lock on the run's own branch is Skep's.
    let head = w.commit(T1, &base).await.unwrap().head;
    write(&w.origin(), &format!(".git/refs/heads/{BRANCH}.lock"), "");
    w.work.push(&w.repo, &head, BRANCH, None).await.unwrap();
    assert_eq!(git(&w.origin(), &["rev-parse", BRANCH]), head.as_str());
    write(&w.origin(), ".git/refs/heads/main.lock", "");
    let deleted = git(&w.origin(), &["branch", "-D", BRANCH]);
    w.work.push(&w.repo, &head, BRANCH, None).await.expect(&deleted);
    assert!(w.origin().join(".git/refs/heads/main.lock").exists());
}

#[tokio::test]
async fn a_mirror_that_is_gone_is_made_again() {
    let w = World::new().await;
    let base = w.base().await;
    let dir = w.task(T1, &base).await;
    write(&dir, "new", "n");
    let head = w.commit(T1, &base).await.unwrap().head;
    w.work.push(&w.repo, &head, BRANCH, None).await.unwrap();
    std::fs::remove_dir_all(w.mirror()).unwrap();
    // What was pushed comes back from the origin.
    assert!(w.work.check_dir(&w.repo, w.run, "c", &head).await.unwrap().join("new").exists());
    assert_eq!(w.work.diff(&w.repo, &base, &head).await.unwrap().0.files_total, 1);
    // Commits that only the mirror had are lost, and the error reports it.
    let dir = w.task(T2, &base).await;
    write(&dir, "other", "o");
    let head = w.work.commit(&w.repo, w.run, T2, "skep/x", &base, "m").await.unwrap().head;
    std::fs::remove_dir_all(w.mirror()).unwrap();
    let error = refused(w.work.push(&w.repo, &head, BRANCH, None).await, head.abbrev());
    assert!(error.contains("skep retry"), "{error}");
}

#[tokio::test]
async fn a_repository_that_was_there_before_may_come_back() {
    let w = World::new().await;
    w.base().await;
    let away = w.tmp.path().join("away");
    std::fs::rename(w.origin(), &away).unwrap();
    let is_transient = |r: PortResult<_>| matches!(r, Err(PortError::Transient { .. }));
    assert!(is_transient(w.work.fetch(&w.repo, None).await.map(drop)));
    // An empty mount point.
    std::fs::create_dir(w.origin()).unwrap();
    assert!(is_transient(w.work.fetch(&w.repo, None).await.map(drop)));
    std::fs::remove_dir(w.origin()).unwrap();
    std::fs::rename(&away, w.origin()).unwrap();
    w.base().await;
}

#[tokio::test]
async fn worktrees_outside_of_tasks_are_recreated_and_removed() {
    let w = World::new().await;
    let base = w.base().await;
    let read = w.work.read_dir(&w.repo, w.run, "a3", &base).await.unwrap();
    write(&read, "scribble", "x");
    assert!(!w.work.read_dir(&w.repo, w.run, "a3", &base).await.unwrap().join("scribble").exists());
    let check = w.work.check_dir(&w.repo, w.run, "c-1", &base).await.unwrap();
    assert!(check != read && check.join("src/a.txt").exists());
    for _ in 0..2 {
        w.work.remove_dir(&w.repo, w.run, "a3").await.unwrap();
        w.work.remove_dir(&w.repo, w.run, "c-1").await.unwrap();
    }
    assert!(!read.exists() && !check.exists());
    for bad in ["../x", "", ".x", "-x", "a/b"] {
        refused(w.work.read_dir(&w.repo, w.run, bad, &base).await, "not a valid worktree name");
    }
    let (cache, scratch) = w.work.scratch_dirs(w.run, "../../x");
    assert!(cache.is_dir() && scratch.is_dir() && scratch.starts_with(w.data()));
}

#[tokio::test]
async fn rebasing_is_deterministic() {
    let w = World::new().await;
    let base = w.base().await;
    let one = w.task(T1, &base).await;
    write(&one, "src/a.txt", "ONE\ntwo\nthree\nfour\nfive\nsix\nseven\n");
    let one = w.commit(T1, &base).await.unwrap().head;
    let two = w.task(T2, &base).await;
    write(&two, "src/a.txt", "one\ntwo\nthree\nfour\nfive\nsix\nSEVEN\n");
    let two = w.commit(T2, &base).await.unwrap().head;
    let onto = |from: Sha, head: Sha, onto: Sha| {
        let w = &w;
        async move { w.work.rebase(&w.repo, &from, &head, &onto, BRANCH).await.unwrap() }
    };
    // A commit that is already based on the new base stays the same.
    assert_eq!(clean(onto(base.clone(), one.clone(), base.clone()).await), one);
    let moved = clean(onto(base.clone(), two.clone(), one.clone()).await);
    assert_eq!(moved, clean(onto(base.clone(), two.clone(), one.clone()).await));
    assert_ne!(moved, two);
    assert_eq!(w.in_mirror(&["rev-parse", BRANCH]), moved.as_str());
    let text = w.work.read_at(&w.repo, &moved, "src/a.txt").await.unwrap().unwrap();
    assert_eq!(text, b"ONE\ntwo\nthree\nfour\nfive\nsix\nSEVEN\n");
    // A change that is already contained adds nothing.
    assert_eq!(clean(onto(base.clone(), two.clone(), moved.clone()).await), moved);
    assert_eq!(clean(onto(base.clone(), base.clone(), one.clone()).await), one);

    // An unusual author line of a person is preserved byte for byte.
    write(&w.origin(), "p", "p");
    git(&w.origin(), &["add", "-A"]);
    git(&w.origin(), &["commit", "-qm", "Theirs", "--author", "Zoë \"Z\" <z@x>"]);
    let theirs = w.base().await;
    let moved = clean(onto(base.clone(), theirs.clone(), one.clone()).await);
    let author = |sha: &Sha| w.in_mirror(&["log", "-1", "--format=%an|%ae|%ad|%B", sha.as_str()]);
    assert_eq!(author(&moved), author(&theirs));

    // A conflict reports its paths, and the branch stays.
    let dir = w.task(TaskId(3), &base).await;
    write(&dir, "src/a.txt", "uno\ntwo\nthree\nfour\nfive\nsix\nseven\n");
    let three = w.commit(TaskId(3), &base).await.unwrap().head;
    match onto(base.clone(), three, one).await {
        Moved::Conflict(paths) => assert_eq!(paths, ["src/a.txt"]),
        Moved::Clean(sha) => panic!("{sha}"),
    }
    assert_eq!(w.in_mirror(&["rev-parse", BRANCH]), moved.as_str());
}

#[tokio::test]
async fn versions_of_a_change_differ_without_what_happened_between_their_bases() {
    let w = World::new().await;
    let base = w.base().await;
    let dir = w.task(T1, &base).await;
    write(&dir, "src/a.txt", "ONE\ntwo\nthree\nfour\nfive\nsix\nseven\n");
    let first = w.commit(T1, &base).await.unwrap().head;
    write(&dir, "added.txt", "new\n");
    let second = w.commit(T1, &base).await.unwrap().head;
    write(&w.origin(), "README.md", "# Another thing\n");
    commit_all(&w.origin(), "Theirs");
    let moved_base = w.base().await;
    let rebased = clean(w.work.rebase(&w.repo, &base, &second, &moved_base, BRANCH).await.unwrap());
    let at = |base: &Sha, head: &Sha| ChangeVersion { base: base.clone(), head: head.clone() };
    let differ = |old: ChangeVersion, new: ChangeVersion| {
        let w = &w;
        async move { w.work.diff_versions(&w.repo, &old, &new).await.unwrap() }
    };
    let text = |diff: &VersionDiff| String::from_utf8(diff.patch.clone()).unwrap();
    for new in [at(&base, &second), at(&moved_base, &rebased)] {
        let diff = differ(at(&base, &first), new).await;
        assert!(text(&diff).contains("+++ b/added.txt") && diff.conflicts.is_empty(), "{}", text(&diff));
        assert!(!text(&diff).contains("README.md") && !text(&diff).contains("a/src/a.txt"), "{}", text(&diff));
    }
    // Only the base moved.
    assert_eq!(text(&differ(at(&base, &second), at(&moved_base, &rebased)).await), "");
    // Where the older version does not fit the newer base, its lines are between conflict markers.
    write(&w.origin(), "src/a.txt", "uno\ntwo\nthree\nfour\nfive\nsix\nseven\n");
    commit_all(&w.origin(), "In the way");
    let in_the_way = w.base().await;
    let dir = w.task(T2, &in_the_way).await;
    write(&dir, "src/a.txt", "UNO\ntwo\nthree\nfour\nfive\nsix\nseven\n");
    let third = w.commit(T2, &in_the_way).await.unwrap().head;
    let diff = differ(at(&base, &first), at(&in_the_way, &third)).await;
    assert_eq!(diff.conflicts, ["src/a.txt"]);
    assert!(text(&diff).contains("-<<<<<<<") && text(&diff).contains("+UNO"), "{}", text(&diff));
    let missing = at(&base, &Sha::from("1".repeat(40).as_str()));
    assert!(w.work.diff_versions(&w.repo, &missing, &at(&base, &first)).await.is_err());
}

#[tokio::test]
async fn push_moves_only_what_skep_left_there() {
    let w = World::new().await;
    let base = w.base().await;
    let dir = w.task(T1, &base).await;
    write(&dir, "new", "n");
    let first = w.commit(T1, &base).await.unwrap().head;
    let push = |sha: Sha, expected: Option<Sha>| {
        let w = &w;
        async move { w.work.push(&w.repo, &sha, BRANCH, expected.as_ref()).await }
    };
    let remote_head = || git(&w.origin(), &["rev-parse", BRANCH]);
    for _ in 0..2 {
        push(first.clone(), None).await.unwrap();
        assert_eq!(remote_head(), first.as_str());
    }
    write(&dir, "new", "m");
    let second = w.commit(T1, &base).await.unwrap().head;
    // The new commit need not descend from the old head: only the expected head counts.
    push(second.clone(), Some(first.clone())).await.unwrap();
    assert_eq!(remote_head(), second.as_str());
    // Another author's commit is never overwritten.
    git(&w.origin(), &["branch", "-f", BRANCH, base.as_str()]);
    let error = refused(push(first.clone(), Some(second.clone())).await, base.as_str());
    assert!(error.contains("unblock"), "{error}");
    refused(push(first.clone(), None).await, base.as_str());
    // A deleted branch is recreated.
    git(&w.origin(), &["branch", "-D", BRANCH]);
    push(first.clone(), Some(second)).await.unwrap();
    assert_eq!(remote_head(), first.as_str());
    refused(w.work.push(&w.repo, &first, "main", Some(&base)).await, "no prefix");
    refused(w.work.push(&w.repo, &first, "a/../b", None).await, "valid branch name");
    git(&w.origin(), &["checkout", "-q", "-b", "rel/one"]);
    refused(w.work.push(&w.repo, &first, "rel/one", Some(&base)).await, "default branch");
}

#[tokio::test]
async fn release_keeps_unlanded_commits_and_removes_the_rest() {
    let w = World::new().await;
    let base = w.base().await;
    let dir = w.task(T1, &base).await;
    write(&dir, "new", "n");
    let head = w.commit(T1, &base).await.unwrap().head;
    clean(w.work.rebase(&w.repo, &base, &head, &base, BRANCH).await.unwrap());
    w.work.push(&w.repo, &head, BRANCH, None).await.unwrap();
    w.base().await;
    let dir2 = w.task(T2, &base).await;
    write(&dir2, "uncommitted", "u");
    let (cache, _) = w.work.scratch_dirs(w.run, "a1");
    for _ in 0..2 {
        w.work.release(&w.repo, w.run, BRANCH).await.unwrap();
        assert!(!dir.exists() && !dir2.exists() && !cache.exists());
        assert_eq!(w.in_mirror(&["for-each-ref", "refs/heads"]), "");
        let archived = w.in_mirror(&["for-each-ref", "--format=%(refname:lstrip=4)", "refs/skep/wip"]);
        assert_eq!(archived, "skep-a-thing-1\nskep-a-thing-1-task-1\nt2-1");
    }
    // Landed commits are not archived.
    let w = World::new().await;
    let base = w.base().await;
    let dir = w.task(T1, &base).await;
    write(&dir, "new", "n");
    let head = w.commit(T1, &base).await.unwrap().head;
    w.work.push(&w.repo, &head, BRANCH, None).await.unwrap();
    git(&w.origin(), &["merge", "-q", "--ff-only", BRANCH]);
    w.base().await;
    w.work.release(&w.repo, w.run, BRANCH).await.unwrap();
    assert_eq!(w.in_mirror(&["for-each-ref", "refs/skep", "refs/heads"]), "");
}
