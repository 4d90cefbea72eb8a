//! The contract of every forge, for runs: the same tests on the local forge, on GitHub, on Forgejo and on GitLab.

use crate::git_world::{BRANCH, T1, World, commit_all, git, write};
use crate::support::forge_server::{ForgeServer, LOGIN, REPO};
use crate::support::forgejo::Forgejo;
use crate::support::github::GitHub;
use crate::support::gitlab::GitLab;
use skep::adapters::forge::forgejo::ForgejoForge;
use skep::adapters::forge::github::GitHubForge;
use skep::adapters::forge::gitlab::GitLabForge;
use skep::adapters::workspace::GitWorkspaces;
use skep::domain::{BlockId, ChangeNumber, ChangeState, ForgeName, JobLog, Principal, Sha, StatusState, TaskId};
use skep::platform::git::{Git, Identity, Mirrors};
use skep::ports::forge::{ChangeText, DeploymentReport, DeploymentStage, Landing};
use skep::ports::{Forge, GitCredentials, HumanActions, Repo, Workspaces};
use std::sync::Arc;

/// A forge with a repository and people.
pub struct Subject {
    pub world: World,
    /// `None` = another forge.
    pub github: Option<(GitHub, GitHubForge)>,
    pub forgejo: Option<(Forgejo, ForgejoForge)>,
    pub gitlab: Option<(GitLab, GitLabForge)>,
}

impl Subject {
    async fn local() -> Subject {
        Subject { world: World::new().await, github: None, forgejo: None, gitlab: None }
    }

    /// Creates a world on the double of GitHub.
    pub async fn github() -> Subject {
        let github = GitHub::start();
        github.push("main", &[("README.md", "# A thing\n")]);
        Subject::on(github).await
    }

    /// Creates a world on a double that is prepared.
    pub async fn on(github: GitHub) -> Subject {
        let settings = github.settings(github.token_account());
        Subject::with(github, settings).await
    }

    /// Creates a world with these settings.
    pub async fn with(github: GitHub, settings: skep::adapters::forge::settings::GitHub) -> Subject {
        let forge = || GitHubForge::new(ForgeName("github".to_owned()), settings.clone(), None).unwrap();
        let world = remote_world(&settings.url, Arc::new(forge())).await;
        Subject { world, github: Some((github, forge())), forgejo: None, gitlab: None }
    }

    /// Creates a world on the double of Forgejo.
    pub async fn forgejo() -> Subject {
        let forgejo = Forgejo::start();
        forgejo.push("main", &[("README.md", "# A thing\n")]);
        let settings = forgejo.settings();
        Subject::forgejo_with(forgejo, settings).await
    }

    /// Creates a world on a double of Forgejo with these settings.
    pub async fn forgejo_with(forgejo: Forgejo, settings: skep::adapters::forge::settings::Forgejo) -> Subject {
        let forge = || ForgejoForge::new(ForgeName("forgejo".to_owned()), settings.clone(), None).unwrap();
        let world = remote_world(&settings.url, Arc::new(forge())).await;
        Subject { world, github: None, forgejo: Some((forgejo, forge())), gitlab: None }
    }

    /// Creates a world on the double of GitLab.
    pub async fn gitlab() -> Subject {
        let gitlab = GitLab::start();
        gitlab.push("main", &[("README.md", "# A thing\n")]);
        let settings = gitlab.settings();
        Subject::gitlab_with(gitlab, settings).await
    }

    /// Creates a world on a double of GitLab with these settings.
    pub async fn gitlab_with(gitlab: GitLab, settings: skep::adapters::forge::settings::GitLab) -> Subject {
        let forge = || GitLabForge::new(ForgeName("gitlab".to_owned()), settings.clone(), None).unwrap();
        let world = remote_world(&settings.url, Arc::new(forge())).await;
        Subject { world, github: None, forgejo: None, gitlab: Some((gitlab, forge())) }
    }

    /// Returns the server of the forge; `None` = the local forge.
    pub fn server(&self) -> Option<&ForgeServer> {
        match (&self.github, &self.forgejo, &self.gitlab) {
            (Some((github, _)), ..) => Some(github),
            (_, Some((forgejo, _)), _) => Some(forgejo),
            (.., Some((gitlab, _))) => Some(gitlab),
            _ => None,
        }
    }

    pub fn forge(&self) -> &dyn Forge {
        match (&self.github, &self.forgejo, &self.gitlab) {
            (Some((_, forge)), ..) => forge,
            (_, Some((_, forge)), _) => forge,
            (.., Some((_, forge))) => forge,
            _ => &self.world.forge,
        }
    }

    fn name(&self) -> &'static str {
        match (&self.github, &self.forgejo, &self.gitlab) {
            (Some(_), ..) => "github",
            (_, Some(_), _) => "forgejo",
            (.., Some(_)) => "gitlab",
            _ => "local",
        }
    }

    /// Returns the principal of a person of this forge.
    fn person(&self, name: &str) -> Principal {
        let prefix = if self.server().is_some() { "forge" } else { "local" };
        Principal::from(format!("{prefix}:{name}").as_str())
    }

    /// Pushes a branch with one more file.
    pub async fn push(&self, task: TaskId, branch: &str, base: &Sha) -> Sha {
        let w = &self.world;
        let dir = w.task(task, base).await;
        write(&dir, &format!("f{}", task.0), "new\n");
        let head = w.commit(task, base).await.unwrap().head;
        w.work.push(&w.repo, &head, branch, None).await.unwrap();
        head
    }

    pub async fn ensure(&self, branch: &str, head: &Sha, draft: bool, after: Option<ChangeNumber>) -> ChangeNumber {
        let text = ChangeText { after, branch, base_branch: "main", head, draft, title: "A thing", body: "Because.\n" };
        self.forge().ensure_change(&self.world.repo, text).await.unwrap().number
    }

    pub async fn observe(&self, number: ChangeNumber) -> skep::domain::Observation {
        self.forge().observe(&self.world.repo, number).await.unwrap()
    }

    async fn close_by(&self, number: ChangeNumber, name: &str) {
        match self.server() {
            Some(server) => server.state().close_pull(number.0, name),
            None => drop(self.world.forge.close_by(&self.world.repo, number, &self.person(name)).await.unwrap()),
        }
    }

    async fn comment_by(&self, number: ChangeNumber, name: &str, text: &str) {
        match self.server() {
            Some(server) => server.state().comment(number.0, name, text),
            None => drop(self.world.forge.comment(&self.world.repo, number, &self.person(name), text).await.unwrap()),
        }
    }

    async fn review_by(&self, number: ChangeNumber, name: &str, head: &Sha, approves: bool) {
        let state = if approves { "APPROVED" } else { "CHANGES_REQUESTED" };
        match self.server() {
            Some(server) => server.state().review(number.0, name, state, head.as_str()),
            None => {
                let by = self.person(name);
                drop(self.world.forge.review(&self.world.repo, number, &by, approves, "").await.unwrap());
            }
        }
    }

    async fn ci_reports(&self, number: ChangeNumber, head: &Sha, context: &str) {
        match self.server() {
            Some(server) => server.state().status(head.as_str(), context, "failure"),
            None => {
                let (by, state) = (self.person("ann"), StatusState::Failure);
                let repo = &self.world.repo;
                drop(self.world.forge.report_status(repo, number, &by, head, context, state, "red").await.unwrap());
            }
        }
    }

    /// A person pushes one more commit to a branch.
    fn person_pushes(&self, branch: &str) -> Sha {
        match self.server() {
            Some(server) => Sha(server.push(branch, &[("more", "m")])),
            None => {
                git(&self.world.origin(), &["checkout", "-q", branch]);
                write(&self.world.origin(), "more", "m");
                let pushed = commit_all(&self.world.origin(), "More");
                git(&self.world.origin(), &["checkout", "-q", "main"]);
                pushed
            }
        }
    }

    /// A person requests changes with a text.
    async fn request_by(&self, number: ChangeNumber, name: &str, head: &Sha, text: &str) {
        match self.server() {
            Some(server) => {
                server.state().review_with(number.0, name, "CHANGES_REQUESTED", head.as_str(), text, &[]);
            }
            None => {
                let by = self.person(name);
                drop(self.world.forge.review(&self.world.repo, number, &by, false, text).await.unwrap());
            }
        }
    }

    fn main(&self) -> Sha {
        match self.server() {
            Some(server) => Sha(server.head("main").unwrap()),
            None => Sha(git(&self.world.origin(), &["rev-parse", "main"])),
        }
    }
}

/// Creates a world whose repository is on a remote forge.
async fn remote_world(url: &str, credentials: Arc<dyn GitCredentials>) -> World {
    let world = World::bare().await;
    let git = Arc::new(Git::find(Identity::default()).await.unwrap());
    let mirrors = Arc::new(Mirrors::new(world.data(), git).with_credentials(credentials));
    let repo = Repo { origin: format!("{url}/{REPO}.git"), ..world.repo.clone() };
    let work = GitWorkspaces::new(world.data(), mirrors.clone());
    World { mirrors, work, repo, ..world }
}

async fn subjects() -> [Subject; 4] {
    [Subject::local().await, Subject::github().await, Subject::forgejo().await, Subject::gitlab().await]
}

#[tokio::test]
async fn a_branch_has_one_change_and_a_closed_one_stays_closed() {
    for s in subjects().await {
        let base = s.world.base().await;
        let head = s.push(T1, BRANCH, &base).await;
        let number = s.ensure(BRANCH, &head, true, None).await;
        for draft in [true, false, false] {
            assert_eq!(s.ensure(BRANCH, &head, draft, None).await, number, "{}", s.name());
        }
        let other_head = s.push(TaskId(2), "skep/other", &base).await;
        let other = s.ensure("skep/other", &other_head, true, None).await;
        assert_ne!(other, number);
        s.close_by(number, "ann").await;
        assert_eq!(s.ensure(BRANCH, &head, true, None).await, number);
        assert_eq!(s.observe(number).await.state, ChangeState::Closed { by: s.person("ann") });
        s.forge().close(&s.world.repo, number).await.unwrap();
        let landing = s.forge().land(&s.world.repo, number, &head, &base).await.unwrap();
        assert!(matches!(landing, Landing::Stale(_)), "{}", s.name());
        assert_eq!(s.main(), base);
        // A run that goes on after that opens a new one.
        let next = s.ensure(BRANCH, &head, true, Some(number)).await;
        assert!(next > other, "{}", s.name());
        assert_eq!(s.ensure(BRANCH, &head, true, Some(number)).await, next);
        // Closing is repeatable.
        for _ in 0..2 {
            s.forge().close(&s.world.repo, next).await.unwrap();
        }
        assert!(matches!(s.observe(next).await.state, ChangeState::Closed { .. }));
        let none = s.forge().observe(&s.world.repo, ChangeNumber(99)).await.unwrap_err();
        assert!(none.to_string().contains("no change 99"), "{none}");
    }
}

#[tokio::test]
async fn a_comment_is_written_once_and_only_people_unblock() {
    for s in subjects().await {
        let base = s.world.base().await;
        let head = s.push(T1, BRANCH, &base).await;
        let number = s.ensure(BRANCH, &head, true, None).await;
        let comment =
            |marker: &'static str, text: &'static str| s.forge().ensure_comment(&s.world.repo, number, marker, text);
        for _ in 0..3 {
            comment("skep:7:1", "UNBLOCK #b1 I say").await.unwrap();
        }
        comment("skep:7:2", "another").await.unwrap();
        s.comment_by(number, "ann", "unblock #2 take Postgres").await;
        s.comment_by(number, "ann", "you may UNBLOCK #b3").await;
        let unblocks = s.observe(number).await.unblocks;
        assert_eq!(unblocks.len(), 1, "{}: {unblocks:?}", s.name());
        assert_eq!((unblocks[0].block, unblocks[0].text.as_str()), (BlockId(2), "take Postgres"));
        assert_eq!(unblocks[0].by, s.person("ann"));
        let written = match s.server() {
            Some(server) => server.state().comments.iter().filter(|c| c.by == LOGIN).count(),
            None => s.world.forge.change(&s.world.repo, number).await.unwrap().comments.len() - 2,
        };
        assert_eq!(written, 2, "{}", s.name());
    }
}

#[tokio::test]
async fn approvals_and_statuses_are_those_of_exactly_this_head() {
    for s in subjects().await {
        let base = s.world.base().await;
        let head = s.push(T1, BRANCH, &base).await;
        let number = s.ensure(BRANCH, &head, false, None).await;
        s.review_by(number, "ann", &head, true).await;
        s.review_by(number, "bob", &head, true).await;
        assert_eq!(s.observe(number).await.approved_by, [s.person("ann"), s.person("bob")]);
        s.review_by(number, "bob", &head, false).await;
        assert_eq!(s.observe(number).await.approved_by, [s.person("ann")]);
        // Skep's own statuses are not evidence.
        for _ in 0..2 {
            let set = s.forge().set_status(&s.world.repo, number, &head, "skep/checks", StatusState::Success, "green");
            set.await.unwrap();
        }
        s.ci_reports(number, &head, "ci").await;
        let statuses = s.observe(number).await.statuses;
        assert_eq!(statuses.into_iter().collect::<Vec<_>>(), [("ci".to_owned(), StatusState::Failure)], "{}", s.name());
        // A push voids all of it.
        let pushed = s.person_pushes(BRANCH);
        let observed = s.observe(number).await;
        assert_eq!(
            (&observed.head, observed.approved_by.len(), observed.statuses.len()),
            (&pushed, 0, 0),
            "{}",
            s.name()
        );
        let landing = s.forge().land(&s.world.repo, number, &head, &base).await.unwrap();
        assert!(matches!(landing, Landing::Stale(_)), "{}", s.name());
        assert_eq!(s.main(), base);
    }
}

#[tokio::test]
async fn landing_compares_head_and_base_and_is_repeatable() {
    for s in subjects().await {
        let base = s.world.base().await;
        let one_head = s.push(T1, BRANCH, &base).await;
        let two_head = s.push(TaskId(2), "skep/other", &base).await;
        let one = s.ensure(BRANCH, &one_head, false, None).await;
        let two = s.ensure("skep/other", &two_head, false, None).await;
        let land = |number, head, base| s.forge().land(&s.world.repo, number, head, base);
        let Landing::Landed(landed) = land(one, &one_head, &base).await.unwrap() else { panic!("{}", s.name()) };
        assert_eq!(s.main(), landed, "{}", s.name());
        // What landed contains the change, whatever the forge made of it.
        s.world.work.fetch(&s.world.repo, None).await.unwrap();
        let at = |file: &'static str| s.world.work.read_at(&s.world.repo, &landed, file);
        assert_eq!(at("f1").await.unwrap().unwrap(), b"new\n");
        assert_eq!(land(one, &one_head, &base).await.unwrap(), Landing::Landed(landed.clone()));
        let observed = s.observe(one).await;
        assert!(matches!(&observed.state, ChangeState::Merged { sha, .. } if *sha == landed), "{:?}", observed.state);
        assert_eq!(observed.base, landed);
        // The base moved under the other one.
        assert!(matches!(land(two, &two_head, &base).await.unwrap(), Landing::Stale(_)), "{}", s.name());
        assert_eq!(s.main(), landed);
        // The branch of what landed is gone.
        let heads = s.world.mirrors.remote_heads(&s.world.repo, &[BRANCH, "skep/other"]).await.unwrap().heads;
        assert!(!heads.contains_key(BRANCH) && heads.contains_key("skep/other"), "{}: {heads:?}", s.name());
    }
}

#[tokio::test]
async fn a_request_for_changes_is_reported_until_its_author_approves() {
    for s in subjects().await {
        let base = s.world.base().await;
        let head = s.push(T1, BRANCH, &base).await;
        let number = s.ensure(BRANCH, &head, false, None).await;
        s.request_by(number, "bob", &head, "Rename it").await;
        s.request_by(number, "ann", &head, "Test it").await;
        s.request_by(number, "bob", &head, "And document it").await;
        let requests = s.observe(number).await.change_requests;
        let said: Vec<(&Principal, &str)> = requests.iter().map(|r| (&r.by, r.text.as_str())).collect();
        let (ann, bob) = (s.person("ann"), s.person("bob"));
        assert_eq!(said, [(&bob, "Rename it"), (&ann, "Test it"), (&bob, "And document it")], "{}", s.name());
        assert!(requests.iter().all(|r| r.head == head));
        let ids: std::collections::BTreeSet<u64> = requests.iter().map(|r| r.review).collect();
        assert_eq!(ids.len(), 3);
        s.review_by(number, "bob", &head, true).await;
        let requests = s.observe(number).await.change_requests;
        assert_eq!(requests.iter().map(|r| &r.by).collect::<Vec<_>>(), [&ann], "{}", s.name());
    }
}

#[tokio::test]
async fn a_failed_status_is_explained_as_far_as_the_forge_knows() {
    for s in subjects().await {
        let base = s.world.base().await;
        let head = s.push(T1, BRANCH, &base).await;
        let number = s.ensure(BRANCH, &head, false, None).await;
        s.ci_reports(number, &head, "ci").await;
        s.ci_reports(number, &head, "lint").await;
        s.ci_reports(number, &base, "lint").await;
        let checks = ["ci".to_owned(), "lint".to_owned(), "unknown".to_owned()];
        let failures = s.forge().inspect_ci(&s.world.repo, number, &head, &base, &checks).await.unwrap();
        let found: Vec<(&str, bool)> = failures.iter().map(|f| (f.name.as_str(), f.red_at_base)).collect();
        assert_eq!(found, [("ci", false), ("lint", true), ("unknown", false)], "{}", s.name());
        assert!(failures.iter().all(|f| matches!(f.log, JobLog::Missing { .. }) && f.workflow_run.is_none()));
    }
}

#[tokio::test]
async fn deployments_are_shown_once_where_the_forge_shows_them() {
    for s in subjects().await {
        let sha = s.world.base().await;
        let report = |key, stage| {
            let (branch, url) = ("main", Some("https://test.example.org"));
            let report = DeploymentReport { key, environment: "test", sha: &sha, branch, stage, url, text: "as it is" };
            let forge = s.forge();
            let repo = &s.world.repo;
            async move { forge.report_deployment(repo, &report).await.unwrap() }
        };
        use DeploymentStage::{Failed, Started, Succeeded};
        for stage in [Started, Started, Failed, Failed] {
            report("one", stage).await;
        }
        // The same version once more.
        for stage in [Started, Succeeded, Succeeded] {
            report("two", stage).await;
        }
        let shown: Vec<String> = match s.server() {
            Some(server) => server.state().deployments.iter().map(|d| d.states.join(" ")).collect(),
            None => Vec::new(),
        };
        let expected: &[&str] = match s.name() {
            "github" => &["in_progress failure", "in_progress success"],
            "gitlab" => &["running failed", "running success"],
            _ => &[],
        };
        assert_eq!(shown, expected, "{}", s.name());
    }
}
