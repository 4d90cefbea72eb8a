//! Repositories of unusual shape: shallow, partial, with submodules, large files, hooks, or in the middle of something.

use crate::git_world::{BRANCH, T1, World, commit_all, git, write};
use skep::domain::{Notice, Sha};
use skep::ports::forge::{ChangeText, Landing};
use skep::ports::{Forge, PortError, PortResult, Repo, Workspaces};
use std::path::Path;

const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:07\nsize 2000\n";

/// Carries a one-file change to the base branch of `origin`. Returns the landed commit.
async fn lands(w: &World, origin: &Path) -> PortResult<Sha> {
    let repo = Repo { origin: origin.display().to_string(), ..w.repo.clone() };
    let (branch, base) = w.work.fetch(&repo, None).await?;
    w.work.inspect(&repo, &base, BRANCH).await?;
    let dir = w.work.task_dir(&repo, w.run, T1, &base).await?;
    write(&dir, "new", "n\n");
    let head = w.work.commit(&repo, w.run, T1, BRANCH, &base, "Add a file").await?.head;
    w.work.check_dir(&repo, w.run, "c", &head).await?;
    w.work.scan_outgoing(&repo, &head).await?;
    w.work.push(&repo, &head, BRANCH, None).await?;
    let text = ChangeText {
        after: None,
        branch: BRANCH,
        base_branch: &branch,
        head: &head,
        draft: false,
        title: "t",
        body: "",
    };
    let n = w.forge.ensure_change(&repo, text).await?.number;
    w.forge.observe(&repo, n).await?;
    assert_eq!(w.forge.land(&repo, n, &head, &base).await?, Landing::Landed(head.clone()));
    w.work.release(&repo, w.run, BRANCH).await?;
    Ok(head)
}

async fn notices(w: &World, base: &Sha) -> Vec<Notice> {
    w.work.inspect(&w.repo, base, BRANCH).await.unwrap()
}

fn paths(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

#[tokio::test]
async fn clones_of_every_kind_land() {
    let w = World::new().await;
    for n in 0..5 {
        write(&w.origin(), "README.md", format!("# {n}\n"));
        commit_all(&w.origin(), &format!("Commit {n}"));
    }
    git(&w.origin(), &["config", "uploadpack.allowFilter", "true"]);
    let url = format!("file://{}", w.origin().display());
    for (name, options) in [
        ("complete", &[][..]),
        ("shallow", &["--depth", "1"][..]),
        ("partial", &["--filter=blob:none"][..]),
        ("sparse", &["--sparse"][..]),
        ("separate", &["--separate-git-dir=elsewhere.git"][..]),
    ] {
        let fresh = World::bare().await;
        let clone = fresh.tmp.path().join(name);
        git(fresh.tmp.path(), &[&["clone", "-q"][..], options, &[url.as_str(), name]].concat());
        let head = lands(&fresh, &clone).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(git(&clone, &["rev-parse", "main"]), head.as_str(), "{name}");
        assert_eq!(git(&clone, &["status", "--porcelain"]), "", "{name}");
        assert!(clone.join("new").exists(), "{name}");
    }
}

#[tokio::test]
async fn a_sparse_working_copy_keeps_its_cone() {
    let w = World::new().await;
    write(&w.origin(), "other/b.txt", "b\n");
    commit_all(&w.origin(), "Two folders");
    git(&w.origin(), &["sparse-checkout", "set", "src"]);
    assert!(!w.origin().join("other").exists());
    let base = w.base().await;
    let dir = w.task(T1, &base).await;
    write(&dir, "other/b.txt", "changed\n");
    write(&dir, "other/c.txt", "c\n");
    write(&dir, "src/d.txt", "d\n");
    let head = w.work.commit(&w.repo, w.run, T1, BRANCH, &base, "m").await.unwrap().head;
    w.work.push(&w.repo, &head, BRANCH, None).await.unwrap();
    let text = ChangeText {
        after: None,
        branch: BRANCH,
        base_branch: "main",
        head: &head,
        draft: false,
        title: "t",
        body: "",
    };
    let n = w.forge.ensure_change(&w.repo, text).await.unwrap().number;
    assert_eq!(w.forge.land(&w.repo, n, &head, &base).await.unwrap(), Landing::Landed(head));
    assert!(w.origin().join("src/d.txt").exists() && !w.origin().join("other").exists());
    assert_eq!(git(&w.origin(), &["status", "--porcelain"]), "");
}

#[tokio::test]
async fn line_endings_of_the_working_copy_are_kept() {
    let w = World::new().await;
    write(&w.origin(), ".gitattributes", "*.bat text eol=crlf\n");
    write(&w.origin(), "a.bat", "one\r\n");
    commit_all(&w.origin(), "Line endings");
    git(&w.origin(), &["config", "core.autocrlf", "true"]);
    let base = w.base().await;
    let dir = w.task(T1, &base).await;
    write(&dir, "a.bat", "one\r\ntwo\r\n");
    write(&dir, "plain.txt", "text\n");
    let head = w.work.commit(&w.repo, w.run, T1, BRANCH, &base, "m").await.unwrap().head;
    w.work.push(&w.repo, &head, BRANCH, None).await.unwrap();
    let text = ChangeText {
        after: None,
        branch: BRANCH,
        base_branch: "main",
        head: &head,
        draft: false,
        title: "t",
        body: "",
    };
    let n = w.forge.ensure_change(&w.repo, text).await.unwrap().number;
    w.forge.land(&w.repo, n, &head, &base).await.unwrap();
    assert_eq!(std::fs::read_to_string(w.origin().join("a.bat")).unwrap(), "one\r\ntwo\r\n");
    assert_eq!(std::fs::read_to_string(w.origin().join("plain.txt")).unwrap(), "text\r\n");
    assert_eq!(git(&w.origin(), &["status", "--porcelain"]), "");
}

#[tokio::test]
async fn a_commit_rewrites_no_line_endings_and_no_untouched_file() {
    let w = World::new().await;
    // Stored with CRLF before the attributes said otherwise, as in many repositories.
    write(&w.origin(), "old.txt", "one\r\ntwo\r\nthree\r\n");
    write(&w.origin(), "touched.txt", "one\r\ntwo\r\n");
    commit_all(&w.origin(), "CRLF");
    write(&w.origin(), ".gitattributes", "*.txt text\n");
    git(&w.origin(), &["add", ".gitattributes"]);
    git(&w.origin(), &["commit", "-qm", "Attributes"]);
    let base = w.base().await;
    let dir = w.task(T1, &base).await;
    write(&dir, "old.txt", "one\r\n2\r\nthree\r\n");
    // Written again without a change.
    std::fs::remove_file(dir.join("touched.txt")).unwrap();
    write(&dir, "touched.txt", "one\r\ntwo\r\n");
    let commit = w.commit(T1, &base).await.unwrap();
    assert_eq!(commit.diff.paths().collect::<Vec<_>>(), ["old.txt"]);
    assert_eq!((commit.diff.added, commit.diff.removed), (1, 1));
}

#[tokio::test]
async fn content_never_replaces_a_pointer_or_an_encrypted_file() {
    let w = World::new().await;
    write(&w.origin(), ".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n*.key filter=git-crypt\n");
    write(&w.origin(), "big.bin", POINTER);
    write(&w.origin(), "x.key", "\0GITCRYPT\0");
    commit_all(&w.origin(), "Large files");
    let base = w.base().await;
    assert!(notices(&w, &base).await.contains(&Notice::Filters { names: paths(&["Git LFS", "git-crypt"]) }));
    type Shape<'a> = (&'a str, &'a dyn Fn(&Path), &'a str);
    let refused: [Shape<'_>; 5] = [
        ("changed", &|dir| write(dir, "big.bin", "BBBB"), "Git LFS"),
        ("new", &|dir| write(dir, "sub/new.bin", "BBBB"), "Git LFS"),
        ("encrypted", &|dir| write(dir, "x.key", "secret"), "git-crypt"),
        (
            "without its attribute",
            &|dir| {
                write(dir, ".gitattributes", "");
                write(dir, "big.bin", "BBBB");
            },
            "Git LFS",
        ),
        (
            "encrypted, without its attribute",
            &|dir| {
                write(dir, ".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n");
                write(dir, "x.key", "secret");
            },
            "git-crypt",
        ),
    ];
    for (what, change, product) in refused {
        let dir = w.task(T1, &base).await;
        change(&dir);
        let error = w.commit(T1, &base).await.unwrap_err();
        assert!(matches!(error, PortError::Permanent { .. }) && error.to_string().contains(product), "{what}: {error}");
    }
    // Another pointer, the removal of a file and everything else are ordinary changes.
    let dir = w.task(T1, &base).await;
    write(&dir, "other.bin", POINTER.replace("07", "08"));
    std::fs::remove_file(dir.join("big.bin")).unwrap();
    write(&dir, "README.md", "# Changed\n");
    assert_eq!(w.commit(T1, &base).await.unwrap().diff.files_total, 3);
}

#[tokio::test]
async fn a_filter_that_may_encrypt_is_never_bypassed() {
    let w = World::new().await;
    let attributes = "*.sec filter=git-agecrypt\n*.own filter=our-secrets\n*.ipynb filter=nbstripout\n";
    write(&w.origin(), ".gitattributes", attributes);
    write(&w.origin(), "a.sec", "age-encryption.org/v1\n");
    write(&w.origin(), "a.ipynb", "{}\n");
    write(&w.origin(), "vault.yml", "$ANSIBLE_VAULT;1.1;AES256\n6162\n");
    write(&w.origin(), "local.key", "x\n");
    commit_all(&w.origin(), "Secrets");
    // Attributes that no commit has.
    write(&w.origin(), ".git/info/attributes", "*.key filter=git-crypt\n");
    let base = w.base().await;
    for (path, product) in [
        ("a.sec", "git-agecrypt"),
        ("new.own", "the filter our-secrets"),
        ("vault.yml", "Ansible Vault"),
        ("local.key", "git-crypt"),
    ] {
        let dir = w.task(T1, &base).await;
        write(&dir, path, "password: x\n");
        let error = w.commit(T1, &base).await.unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, PortError::Permanent { .. }) && text.contains(product) && text.contains(path),
            "{text}"
        );
    }
    let dir = w.task(T1, &base).await;
    write(&dir, "a.ipynb", "{\"cells\": []}\n");
    assert_eq!(w.commit(T1, &base).await.unwrap().diff.files_total, 1);
}

#[tokio::test]
async fn modules_that_take_the_place_of_others_and_hidden_text_are_described() {
    let w = World::new().await;
    write(&w.origin(), "test_calc.py", "import unittest\n");
    write(&w.origin(), "hebrew.txt", "\u{202b}\u{5e9}\u{202c}\n");
    commit_all(&w.origin(), "Tests");
    let base = w.base().await;
    let dir = w.task(T1, &base).await;
    write(&dir, "test_calc/__init__.py", "");
    write(&dir, "turned.py", "a = 1\nb = '\u{202e}'\n");
    write(&dir, "wide.py", format!("a = 1{}; evil()\n", " ".repeat(300)));
    write(&dir, "plain.py", "a = 1\n");
    write(&dir, "hebrew.txt", "\u{202b}\u{5e9}\u{5e9}\u{202c}\n");
    assert_eq!(
        w.commit(T1, &base).await.unwrap().diff.unusual,
        [
            "test_calc/__init__.py can be loaded instead of test_calc.py",
            "turned.py has characters that change the reading direction in line 2",
            "wide.py has text behind many blanks in line 1",
        ]
    );
}

#[tokio::test]
async fn worktrees_have_recent_history_and_its_tags() {
    let w = World::new().await;
    git(&w.origin(), &["tag", "-a", "v1.2.3", "-m", "v"]);
    for n in 0..3 {
        write(&w.origin(), "README.md", format!("# {n}\n"));
        commit_all(&w.origin(), &format!("Commit {n}"));
    }
    git(&w.origin(), &["tag", "light", "HEAD~1"]);
    git(&w.origin(), &["tag", "unrelated", &git(&w.origin(), &["commit-tree", "-m", "x", "HEAD^{tree}"])]);
    let base = w.base().await;
    let dir = w.work.check_dir(&w.repo, w.run, "c", &base).await.unwrap();
    assert_eq!(git(&dir, &["describe", "--tags", "--match", "v*"]).split('-').next(), Some("v1.2.3"));
    assert_eq!(git(&dir, &["tag"]), "light\nv1.2.3");
    assert_eq!(git(&dir, &["diff", "--name-only", "HEAD~1"]), "README.md");
    assert_eq!(git(&dir, &["rev-list", "--count", "HEAD"]), "4");
    assert_eq!(git(&dir, &["status", "--porcelain"]), "");
    git(&dir, &["fsck", "--strict"]);
    // A tag that moves is followed.
    git(&w.origin(), &["tag", "-f", "light", "HEAD"]);
    w.base().await;
    let dir = w.work.check_dir(&w.repo, w.run, "c", &base).await.unwrap();
    assert_eq!(git(&dir, &["rev-parse", "light"]), base.as_str());
}

#[tokio::test]
async fn a_long_history_is_cut_and_complete_at_the_cut() {
    let w = World::new().await;
    for n in 0..60 {
        git(&w.origin(), &["commit", "-q", "--allow-empty", "-m", &format!("Commit {n}")]);
    }
    let base = w.base().await;
    let dir = w.work.check_dir(&w.repo, w.run, "c", &base).await.unwrap();
    assert_eq!(git(&dir, &["rev-list", "--count", "HEAD"]), "50");
    git(&dir, &["fsck", "--strict"]);
}

#[tokio::test]
async fn what_differs_from_git_in_a_persons_hands_is_noted() {
    let w = World::new().await;
    let base = w.base().await;
    assert!(notices(&w, &base).await.is_empty());
    write(&w.origin(), "README.md", "mine\n");
    write(&w.origin(), "draft/new.txt", "mine\n");
    write(&w.origin(), "staged", "mine\n");
    git(&w.origin(), &["add", "staged"]);
    write(&w.origin(), ".git/info/exclude", ".env\n");
    write(&w.origin(), ".env", "A=1\n");
    write(&w.origin(), "target/out", "built\n");
    git(&w.origin(), &["config", "commit.gpgsign", "true"]);
    git(&w.origin(), &["config", "core.hooksPath", ".husky"]);
    git(&w.origin(), &["remote", "add", "upstream", "https://example.org/x"]);
    write(&w.origin(), ".husky/pre-commit", "#!/bin/sh\n");
    let hook = w.origin().join(".husky/pre-commit");
    std::fs::set_permissions(hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    write(&w.origin(), ".husky/pre-push", "not executable\n");
    assert_eq!(
        notices(&w, &base).await,
        [
            Notice::Uncommitted { files: 4, paths: paths(&[".husky/", "README.md", "draft/", "staged"]) },
            Notice::Ignored { paths: paths(&[".env"]) },
            Notice::Hooks { names: paths(&["pre-commit"]) },
            Notice::Unsigned,
            Notice::Remote { name: "upstream".to_owned() },
        ]
    );
    // Looking changes nothing.
    assert_eq!(git(&w.origin(), &["diff", "--cached", "--name-only"]), "staged");
    assert!(!w.origin().join(".git/index.lock").exists());
}

#[tokio::test]
async fn submodules_are_named() {
    let w = World::new().await;
    write(
        &w.origin(),
        ".gitmodules",
        "[submodule \"lib\"]\n\tpath = vendor/lib\n\turl = ../lib\n[submodule \"x\"]\n\turl = ../x\n",
    );
    commit_all(&w.origin(), "Submodules");
    let base = w.base().await;
    assert_eq!(notices(&w, &base).await, [Notice::Submodules { paths: paths(&["vendor/lib"]) }]);
    write(&w.origin(), ".gitmodules", "[broken\n");
    commit_all(&w.origin(), "Broken");
    let base = w.base().await;
    assert!(notices(&w, &base).await.is_empty());
}

#[tokio::test]
async fn files_in_a_submodule_are_refused_and_never_left_out() {
    let w = World::new().await;
    write(&w.origin(), ".gitmodules", "[submodule \"lib\"]\n\tpath = vendor/lib\n\turl = ../lib\n");
    let link = format!("160000,{},vendor/lib", w.base().await);
    git(&w.origin(), &["update-index", "--add", "--cacheinfo", &link]);
    git(&w.origin(), &["add", ".gitmodules"]);
    git(&w.origin(), &["commit", "-qm", "A submodule"]);
    let base = w.base().await;
    let dir = w.task(T1, &base).await;
    write(&dir, "new", "n\n");
    write(&dir, "vendor/lib/x.c", "int x;\n");
    let refused = w.work.commit(&w.repo, w.run, T1, BRANCH, &base, "Both").await.unwrap_err();
    assert!(refused.to_string().contains("files were written into vendor/lib, which is a submodule"), "{refused}");
    std::fs::remove_file(dir.join("vendor/lib/x.c")).unwrap();
    let head = w.work.commit(&w.repo, w.run, T1, BRANCH, &base, "One").await.unwrap().head;
    assert_eq!(git(&w.origin(), &["ls-tree", "--name-only", &base.to_string(), "vendor/lib"]).trim(), "vendor/lib");
    assert_ne!(head, base);
}

#[tokio::test]
async fn a_branch_in_the_way_of_the_prefix_is_named_at_the_start() {
    let w = World::new().await;
    let base = w.base().await;
    git(&w.origin(), &["branch", "skep"]);
    let error = w.work.inspect(&w.repo, &base, BRANCH).await.unwrap_err();
    assert!(error.to_string().contains("branch \"skep\"") && error.fix().contains("branch_prefix"), "{error}");
    assert!(w.work.inspect(&w.repo, &base, "other/x").await.is_ok());
    // It may also appear later.
    let dir = w.task(T1, &base).await;
    write(&dir, "new", "n");
    let head = w.commit(T1, &base).await.unwrap().head;
    let error = w.work.push(&w.repo, &head, BRANCH, None).await.unwrap_err();
    assert!(matches!(error, PortError::Permanent { .. }) && error.fix().contains("branch_prefix"), "{error:?}");
}

#[tokio::test]
async fn a_folder_of_a_repository_leads_to_its_top() {
    let w = World::new().await;
    let top = w.origin().canonicalize().unwrap().display().to_string();
    let locate = |origin: String| {
        let w = &w;
        async move { w.work.locate(&origin).await.unwrap() }
    };
    assert_eq!(locate(format!("{top}/src")).await, top);
    assert_eq!(locate(top.clone()).await, top);
    for other in ["https://example.org/a.git", "/does/not/exist", "relative"] {
        assert_eq!(locate(other.to_owned()).await, other);
    }
}

#[tokio::test]
async fn very_many_branches_cost_little() {
    let w = World::new().await;
    let head = git(&w.origin(), &["rev-parse", "HEAD"]);
    let refs: String = (0..20_000).map(|n| format!("{head} refs/heads/b{n:07}\n")).collect();
    write(&w.origin(), ".git/packed-refs", format!("# pack-refs with: peeled fully-peeled sorted \n{refs}"));
    let begun = std::time::Instant::now();
    assert_eq!(w.base().await.as_str(), head);
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    assert_eq!(w.in_mirror(&["for-each-ref", "--format=%(refname)"]), "refs/remotes/origin/main");
    let error = w.work.fetch(&w.repo, Some("trunk")).await.unwrap_err();
    assert!(error.fix().contains("b0000000"), "{}", error.fix());
}

#[tokio::test]
async fn a_renamed_branch_does_not_block_the_next_fetch() {
    let w = World::new().await;
    git(&w.origin(), &["branch", "rel"]);
    w.work.fetch(&w.repo, Some("rel")).await.unwrap();
    git(&w.origin(), &["branch", "-m", "rel", "rel/1"]);
    assert_eq!(w.work.fetch(&w.repo, Some("rel/1")).await.unwrap().0, "rel/1");
}

#[tokio::test]
async fn looking_at_a_branch_of_a_local_repository_needs_no_mirror() {
    let w = World::new().await;
    let head = git(&w.origin(), &["rev-parse", "HEAD"]);
    let copy = w.tmp.path().join("copy");
    git(&w.origin(), &["worktree", "add", "-q", "-b", "side", &copy.display().to_string()]);
    for (origin, default) in [(w.origin(), "main"), (copy, "side")] {
        let repo = Repo { origin: origin.display().to_string(), ..w.repo.clone() };
        let seen = w.mirrors.remote_heads(&repo, &["main", "absent"]).await.unwrap();
        assert_eq!((seen.default.as_deref(), seen.has_head), (Some(default), true));
        assert_eq!(seen.heads.get("main").map(Sha::as_str), Some(head.as_str()));
        assert_eq!(seen.heads.get("absent"), None);
    }
    // git would have been started in the mirror.
    assert!(!w.mirror().exists());
}

#[tokio::test]
async fn an_operation_that_a_person_has_begun_is_named_at_the_start() {
    let w = World::new().await;
    let base = w.base().await;
    let unfinished = async |w: &World| {
        notices(w, &base).await.into_iter().find_map(|notice| match notice {
            Notice::Unfinished { branch, operation } => Some((branch, operation)),
            _ => None,
        })
    };
    assert_eq!(unfinished(&w).await, None);
    write(&w.origin(), ".git/MERGE_HEAD", format!("{base}\n"));
    assert_eq!(unfinished(&w).await, Some(("main".to_owned(), "merge".to_owned())));
    std::fs::remove_file(w.origin().join(".git/MERGE_HEAD")).unwrap();
    write(&w.origin(), ".git/rebase-merge/head-name", "refs/heads/topic\n");
    assert_eq!(unfinished(&w).await, Some(("topic".to_owned(), "rebase".to_owned())));
}
