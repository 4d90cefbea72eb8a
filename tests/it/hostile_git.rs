//! Traps for git: no program that a repository or an agent plants runs on the host.

use crate::git_world::{BRANCH, T1, World, commit_all, git, try_git, write};
use skep::domain::{Sha, TaskId};
use skep::ports::forge::{ChangeText, Landing};
use skep::ports::{Forge, Moved, PortError, Workspaces};
use std::path::Path;

/// Everything Skep does with a hostile worktree: commit, save, rebase, diff, push, release.
async fn exercise(w: &World, base: &Sha, plant: impl Fn(&Path)) -> Result<Sha, PortError> {
    let dir = w.task(T1, base).await;
    plant(&dir);
    write(&dir, "honest.txt", "work\n");
    let commit = w.commit(T1, base).await;
    w.assert_quiet();
    let head = match commit {
        Ok(commit) => commit.head,
        Err(error) => {
            w.task(T1, base).await;
            w.assert_quiet();
            return Err(error);
        }
    };
    let other = w.task(TaskId(2), base).await;
    write(&other, "other.txt", "o\n");
    let onto = w.commit(TaskId(2), base).await.unwrap().head;
    let moved = match w.work.rebase(&w.repo, base, &head, &onto, BRANCH).await.unwrap() {
        Moved::Clean(sha) => sha,
        Moved::Conflict(paths) => panic!("{paths:?}"),
    };
    w.work.diff(&w.repo, base, &moved).await.unwrap();
    w.work.check_dir(&w.repo, w.run, "c", &moved).await.unwrap();
    w.work.push(&w.repo, &moved, BRANCH, None).await.unwrap();
    write(&dir, "left.txt", "left over\n");
    w.task(T1, base).await;
    w.work.release(&w.repo, w.run, BRANCH).await.unwrap();
    w.assert_quiet();
    Ok(moved)
}

/// A config with every setting that names a program.
fn evil_config(trap: &str) -> String {
    format!(
        "[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tfsmonitor = {trap}\n\thooksPath = {hooks}\n\tsshCommand = {trap}\n\
         \teditor = {trap}\n\tpager = {trap}\n\tgitProxy = {trap}\n\taskPass = {trap}\n\talternateRefsCommand = {trap}\n\
         [filter \"nbstripout\"]\n\tclean = {trap}\n\tsmudge = {trap}\n\tprocess = {trap}\n\trequired = true\n\
         [diff \"evil\"]\n\ttextconv = {trap}\n\tcommand = {trap}\n[diff]\n\texternal = {trap}\n\
         [merge \"evil\"]\n\tdriver = {trap}\n[gpg]\n\tprogram = {trap}\n[commit]\n\tgpgSign = true\n\
         [credential]\n\thelper = {trap}\n[uploadpack]\n\tpackObjectsHook = {trap}\n\
         [remote \"origin\"]\n\turl = .\n\tuploadpack = {trap}\n\treceivepack = {trap}\n[include]\n\tpath = more\n",
        hooks = Path::new(trap).with_file_name("hooks").display(),
    )
}

/// Installs the trap under every hook name.
fn hooks(w: &World, dir: &Path) {
    let trap = w.trap();
    std::fs::create_dir_all(dir).unwrap();
    for name in [
        "applypatch-msg",
        "commit-msg",
        "fsmonitor-watchman",
        "post-checkout",
        "post-commit",
        "post-index-change",
        "post-merge",
        "post-rewrite",
        "pre-commit",
        "pre-merge-commit",
        "pre-push",
        "pre-rebase",
        "prepare-commit-msg",
        "reference-transaction",
    ] {
        std::fs::copy(&trap, dir.join(name)).unwrap();
    }
}

/// A filter by a name that only tidies: files with any other one are refused before it matters who runs it.
const ATTRIBUTES: &str = "* filter=nbstripout diff=evil merge=evil ident\n*.py -diff\n";

#[tokio::test]
async fn the_traps_fire_in_plain_git() {
    // Control: without Skep's protection the traps run. Otherwise the tests below would prove nothing.
    let w = World::new().await;
    let trap = w.trap();
    let dir = w.tmp.path().join("plain");
    git(w.tmp.path(), &["init", "-q", "plain"]);
    write(&dir, ".git/config", evil_config(&trap));
    write(&dir, ".gitattributes", ATTRIBUTES);
    write(&dir, "a", "a");
    let _ = try_git(&dir, &["add", "-A"]);
    assert!(w.marker().exists());
}

#[tokio::test]
async fn the_agents_own_repository_configures_nothing() {
    let w = World::new().await;
    let base = w.base().await;
    let trap = w.trap();
    hooks(&w, &w.tmp.path().join("hooks"));
    let elsewhere = w.tmp.path().join("elsewhere");
    git(w.tmp.path(), &["init", "-q", "elsewhere"]);
    write(&elsewhere, ".git/config", evil_config(&trap));
    // A config and hooks in the worktree's `.git`, a gitfile, a link.
    type Plant<'p> = Box<dyn Fn(&Path) + 'p>;
    let plants: Vec<Plant> = vec![
        Box::new(|dir| {
            write(dir, ".git/config", evil_config(&trap));
            write(dir, ".git/more", format!("[core]\n\tfsmonitor = {trap}\n"));
            write(dir, ".git/config.worktree", evil_config(&trap));
            write(dir, ".git/info/attributes", ATTRIBUTES);
            hooks(&w, &dir.join(".git/hooks"));
        }),
        Box::new(|dir| {
            std::fs::remove_dir_all(dir.join(".git")).unwrap();
            write(dir, ".git", format!("gitdir: {}/.git\n", elsewhere.display()));
        }),
        Box::new(|dir| {
            std::fs::remove_dir_all(dir.join(".git")).unwrap();
            std::os::unix::fs::symlink(elsewhere.join(".git"), dir.join(".git")).unwrap();
        }),
    ];
    for (n, plant) in plants.iter().enumerate() {
        git(&w.origin(), &["update-ref", "-d", &format!("refs/heads/{BRANCH}")]);
        let head = exercise(&w, &base, |dir| {
            write(dir, ".gitattributes", ATTRIBUTES);
            plant(dir);
        });
        let head = head.await.unwrap_or_else(|e| panic!("plant {n}: {e}"));
        let files = w.in_mirror(&["ls-tree", "-r", "--name-only", head.as_str()]);
        assert!(files.contains("honest.txt") && files.contains("other.txt") && !files.contains(".git/"), "{files}");
    }
    // The targets of the gitfile and the link are untouched.
    assert!(elsewhere.join(".git/HEAD").exists());
}

#[tokio::test]
async fn a_repositorys_attributes_run_nothing_and_hide_nothing() {
    let w = World::new().await;
    write(&w.origin(), ".gitattributes", format!("{ATTRIBUTES}*.lfs filter=lfs diff=lfs merge=lfs -text\n"));
    write(&w.origin(), "a.py", "print(1)\n");
    write(&w.origin(), "big.lfs", "version https://git-lfs.github.com/spec/v1\n");
    write(
        &w.origin(),
        ".gitmodules",
        "[submodule \"x\"]\n\tpath = x\n\turl = https://example.org/x\n\tupdate = none\n",
    );
    commit_all(&w.origin(), "Attributes");
    let base = w.base().await;
    let dir = w.task(T1, &base).await;
    assert_eq!(std::fs::read_to_string(dir.join("a.py")).unwrap(), "print(1)\n");
    write(&dir, "a.py", "print(2)\n");
    git(&dir, &["update-index", "--skip-worktree", "a.py"]);
    let done = w.commit(T1, &base).await.unwrap();
    assert_eq!((done.diff.files_total, done.diff.added, done.diff.removed), (1, 1, 1), "`-diff` hides no line");
    let patch = String::from_utf8(done.patch).unwrap();
    assert!(patch.contains("+print(2)"), "{patch}");
    // Both sides changed a file with a merge driver: git's built-in merge is used.
    let dir = w.task(TaskId(2), &base).await;
    write(&dir, "a.py", "print(3)\n");
    let other = w.commit(TaskId(2), &base).await.unwrap().head;
    let moved = w.work.rebase(&w.repo, &base, &other, &done.head, BRANCH).await.unwrap();
    assert!(matches!(moved, Moved::Conflict(paths) if paths == ["a.py"]));
    w.assert_quiet();
}

#[tokio::test]
async fn a_hostile_origin_runs_nothing() {
    let w = World::new().await;
    let trap = w.trap();
    write(&w.origin(), ".gitattributes", ATTRIBUTES);
    commit_all(&w.origin(), "Attributes");
    hooks(&w, &w.origin().join(".git/hooks"));
    // Every setting that names a program, in the origin's own configuration and in that of its working copy.
    write(&w.origin(), ".git/config", evil_config(&trap));
    write(&w.origin(), ".git/config.worktree", evil_config(&trap));
    write(&w.origin(), ".git/info/attributes", ATTRIBUTES);
    let base = w.base().await;
    let head = exercise(&w, &base, |_| ()).await.unwrap();
    let text = ChangeText {
        after: None,
        branch: BRANCH,
        base_branch: "main",
        head: &head,
        draft: false,
        title: "t",
        body: "b",
    };
    let n = w.forge.ensure_change(&w.repo, text).await.unwrap().number;
    assert_eq!(w.forge.land(&w.repo, n, &head, &base).await.unwrap(), Landing::Landed(head));
    assert_eq!(std::fs::read_to_string(w.origin().join("honest.txt")).unwrap(), "work\n");
    w.assert_quiet();
}

#[tokio::test]
async fn nested_repositories_are_refused_before_git_reads_them() {
    let w = World::new().await;
    let base = w.base().await;
    let trap = w.trap();
    for name in ["sub", "a/b/c", ".hidden"] {
        let error = exercise(&w, &base, |dir| {
            git(dir, &["init", "-q", name]);
            write(dir, &format!("{name}/.git/config"), evil_config(&trap));
            write(dir, &format!("{name}/file"), "x");
        });
        let error = error.await.unwrap_err();
        assert!(error.to_string().contains("repository inside"), "{error}");
    }
    // The files of a bare repository are ordinary files.
    git(w.tmp.path(), &["init", "-q", "--bare", "embedded"]);
    let embedded = exercise(&w, &base, |dir| {
        for file in ["HEAD", "config"] {
            write(dir, &format!("fixture/{file}"), std::fs::read(w.tmp.path().join("embedded").join(file)).unwrap());
        }
        write(dir, "fixture/config", evil_config(&trap));
        write(dir, "fixture/objects/x", "");
        write(dir, "fixture/refs/x", "");
    });
    embedded.await.unwrap();
    // A person is shown them, and links that lead out.
    let dir = w.task(TaskId(3), &base).await;
    for name in ["HEAD", "objects/x", "refs/x"] {
        write(&dir, &format!("fixture/{name}"), "x");
    }
    std::os::unix::fs::symlink("/etc", dir.join("link")).unwrap();
    std::os::unix::fs::symlink("src", dir.join("inside")).unwrap();
    let unusual = w.commit(TaskId(3), &base).await.unwrap().diff.unusual;
    assert_eq!(unusual.len(), 2, "{unusual:?}");
    assert!(unusual[0].contains("/etc") && unusual[1].contains("fixture"), "{unusual:?}");
}

#[tokio::test]
async fn a_populated_submodule_is_not_entered() {
    let w = World::new().await;
    let sub = git(&w.origin(), &["rev-parse", "HEAD"]);
    git(&w.origin(), &["update-index", "--add", "--cacheinfo", &format!("160000,{sub},vendor")]);
    git(&w.origin(), &["commit", "-qm", "Submodule"]);
    let base = w.base().await;
    let dir = w.task(T1, &base).await;
    write(&dir, "new", "n");
    assert_eq!(w.commit(T1, &base).await.unwrap().diff.files_total, 1, "an empty submodule folder is not a change");
    let trap = w.trap();
    git(&dir, &["init", "-q", "vendor"]);
    write(&dir, "vendor/.git/config", evil_config(&trap));
    let error = w.commit(T1, &base).await.unwrap_err();
    assert!(error.to_string().contains("vendor/.git"), "{error}");
    w.assert_quiet();
}

#[tokio::test]
async fn what_is_reviewed_is_what_is_pushed() {
    let w = World::new().await;
    let base = w.base().await;
    let dir = w.task(T1, &base).await;
    write(&dir, "a.py", "bad()\n");
    let head = w.commit(T1, &base).await.unwrap().head;
    // Replacement refs in the agent's repository, the origin or even the mirror change nothing.
    let bad = w.in_mirror(&["rev-parse", &format!("{head}:a.py")]);
    write(w.tmp.path(), "good.py", "good()\n");
    let good_file = w.tmp.path().join("good.py").display().to_string();
    for at in [dir.clone(), w.origin(), w.mirror()] {
        let good = git(&at, &["hash-object", "-w", "--no-filters", &good_file]);
        git(&at, &["update-ref", &format!("refs/replace/{bad}"), &good]);
    }
    w.base().await;
    assert_eq!(w.work.read_at(&w.repo, &head, "a.py").await.unwrap().unwrap(), b"bad()\n");
    let (_, patch) = w.work.diff(&w.repo, &base, &head).await.unwrap();
    assert!(String::from_utf8_lossy(&patch).contains("+bad()"));
    let check = w.work.check_dir(&w.repo, w.run, "c", &head).await.unwrap();
    assert_eq!(std::fs::read_to_string(check.join("a.py")).unwrap(), "bad()\n");
}

#[tokio::test]
async fn dangerous_histories_are_refused() {
    // Trees and submodule files that would write or execute something at checkout.
    let w = World::new().await;
    let origin = w.origin();
    let blob = git(&origin, &["rev-parse", "HEAD:README.md"]);
    let raw = |name: &str, mode: &str, id: &str| {
        let bytes: Vec<u8> = (0..20).map(|i| u8::from_str_radix(&id[i * 2..i * 2 + 2], 16).unwrap()).collect();
        [format!("{mode} {name}\0").into_bytes(), bytes].concat()
    };
    write(w.tmp.path(), "mod", "[submodule \"x\"]\n\tpath = x\n\turl = -u./payload\n");
    let modules = git(&origin, &["hash-object", "-w", &w.tmp.path().join("mod").display().to_string()]);
    for (name, id) in [(".git", &blob), ("..", &blob), (".GIT", &blob), ("git~1", &blob), (".gitmodules", &modules)] {
        let tree = {
            std::fs::write(w.tmp.path().join("tree"), raw(name, "100644", id)).unwrap();
            let out = std::process::Command::new("git")
                .args(["hash-object", "-t", "tree", "-w", "--literally", "--stdin"])
                .current_dir(&origin)
                .stdin(std::fs::File::open(w.tmp.path().join("tree")).unwrap())
                .output()
                .unwrap();
            String::from_utf8(out.stdout).unwrap().trim().to_owned()
        };
        let sha = git(&origin, &["commit-tree", "-p", "HEAD", "-m", "bad", &tree]);
        git(&origin, &["update-ref", "refs/heads/bad", &sha]);
        // Other branches stay usable.
        assert!(w.work.fetch(&w.repo, Some("main")).await.is_ok(), "{name}");
        match w.work.fetch(&w.repo, Some("bad")).await.unwrap_err() {
            PortError::Permanent { what, fix } => assert!(fix.contains("malformed"), "{name}: {what} / {fix}"),
            other => panic!("{name}: {other:?}"),
        }
        assert!(!try_git(&w.mirror(), &["cat-file", "-e", &sha]).0, "{name} was fetched");
    }
}
