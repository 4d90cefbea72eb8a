//! A real repository, a data root and the git adapters on them, for tests.

use skep::adapters::forge::local::LocalForge;
use skep::adapters::workspace::GitWorkspaces;
use skep::domain::{ProjectName, RunId, Sha, TaskId, Timestamp};
use skep::platform::git::{Git, Identity, Mirrors};
use skep::ports::{Clock, Repo, Workspaces};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// A clock that advances with each read.
#[derive(Default)]
pub struct Ticks(AtomicI64);

impl Clock for Ticks {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.fetch_add(1, Ordering::SeqCst))
    }
    fn new_run_id(&self) -> RunId {
        run_id(self.0.fetch_add(1, Ordering::SeqCst) as u128)
    }
}

pub fn run_id(n: u128) -> RunId {
    RunId(uuid::Uuid::from_u128(n))
}

pub struct World {
    pub tmp: tempfile::TempDir,
    pub mirrors: Arc<Mirrors>,
    pub work: GitWorkspaces,
    pub forge: LocalForge,
    pub repo: Repo,
    pub run: RunId,
}

pub const BRANCH: &str = "skep/a-thing-1";
pub const T1: TaskId = TaskId(1);

/// Runs plain git in a folder, as a person would.
pub fn git(dir: &Path, args: &[&str]) -> String {
    let (ok, output) = try_git(dir, args);
    assert!(ok, "git {args:?} in {}: {output}", dir.display());
    output
}

pub fn try_git(dir: &Path, args: &[&str]) -> (bool, String) {
    let finished = Command::new("git")
        .args(["-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "init.defaultBranch=main"])
        .args(["-c", "protocol.file.allow=always"])
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        // Fixed dates, so that two worlds created alike have equal commits.
        .env("GIT_AUTHOR_DATE", "1700000000 +0000")
        .env("GIT_COMMITTER_DATE", "1700000000 +0000")
        .output()
        .unwrap();
    let output = [finished.stdout, finished.stderr].concat();
    (finished.status.success(), String::from_utf8_lossy(&output).trim().to_owned())
}

pub fn write(dir: &Path, name: &str, text: impl AsRef<[u8]>) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// Commits everything in a person's repository.
pub fn commit_all(dir: &Path, message: &str) -> Sha {
    git(dir, &["add", "-A"]);
    git(dir, &["commit", "-q", "--allow-empty", "-m", message]);
    Sha(git(dir, &["rev-parse", "HEAD"]))
}

impl World {
    /// Creates an origin with three files on `main`.
    pub async fn new() -> World {
        let world = World::bare().await;
        let origin = world.origin();
        git(&origin, &["init", "-q"]);
        write(&origin, "README.md", "# A thing\n");
        write(&origin, "src/a.txt", "one\ntwo\nthree\nfour\nfive\nsix\nseven\n");
        write(&origin, ".gitignore", "target/\n");
        commit_all(&origin, "First");
        world
    }

    /// Creates an empty origin folder.
    pub async fn bare() -> World {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir(tmp.path().join("origin")).unwrap();
        let git = Arc::new(Git::find(Identity::default()).await.unwrap());
        let data = tmp.path().join("data");
        let mirrors = Arc::new(Mirrors::new(data.clone(), git));
        let repo = Repo {
            project: ProjectName::new("a-project").unwrap(),
            origin: tmp.path().join("origin").display().to_string(),
        };
        World {
            work: GitWorkspaces::new(data.clone(), Arc::clone(&mirrors)),
            forge: LocalForge::new(data, Arc::clone(&mirrors), Arc::new(Ticks::default())),
            mirrors,
            repo,
            run: run_id(7),
            tmp,
        }
    }

    pub fn origin(&self) -> PathBuf {
        self.tmp.path().join("origin")
    }
    pub fn data(&self) -> PathBuf {
        self.tmp.path().join("data")
    }
    pub fn mirror(&self) -> PathBuf {
        self.mirrors.dir(&self.repo.project)
    }
    /// File that exists if a planted program ran.
    pub fn marker(&self) -> PathBuf {
        self.tmp.path().join("FIRED")
    }
    /// Writes a program that creates the marker.
    pub fn trap(&self) -> String {
        let path = self.tmp.path().join("trap.sh");
        std::fs::write(&path, format!("#!/bin/sh\necho \"$0 $*\" >>'{}'\ncat\n", self.marker().display())).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        path.display().to_string()
    }
    #[track_caller]
    pub fn assert_quiet(&self) {
        let marker = std::fs::read_to_string(self.marker());
        assert!(marker.is_err(), "a planted program ran: {marker:?}");
    }
    pub async fn base(&self) -> Sha {
        self.work.fetch(&self.repo, None).await.unwrap().1
    }
    pub async fn task(&self, task: TaskId, head: &Sha) -> PathBuf {
        self.work.task_dir(&self.repo, self.run, task, head).await.unwrap()
    }
    pub fn task_branch(&self, task: TaskId) -> String {
        format!("{BRANCH}-task/{}", task.0)
    }
    pub async fn commit(&self, task: TaskId, from: &Sha) -> skep::ports::PortResult<skep::ports::Commit> {
        self.work.commit(&self.repo, self.run, task, &self.task_branch(task), from, "Do it\n\nBecause.").await
    }
    /// Runs plain git on the mirror.
    pub fn in_mirror(&self, args: &[&str]) -> String {
        git(&self.mirror(), args)
    }
}
