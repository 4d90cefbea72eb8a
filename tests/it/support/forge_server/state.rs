//! State of a test forge, and the faults it is asked to produce.

use std::collections::{BTreeMap, BTreeSet};

/// How one request fails.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The work is done, and the connection breaks off before the answer.
    CutAfter,
    /// The work is done, and a gateway answers 502.
    BadGatewayAfter,
    /// Nothing is done, and this is the answer: status, headers, body.
    Answer(u16, Vec<(&'static str, String)>, String),
}

#[derive(Clone, Debug)]
pub struct Pull {
    pub number: u64,
    pub title: String,
    pub body: String,
    pub by: String,
    pub branch: String,
    /// The repository of the branch; another one is a fork.
    pub head_repo: String,
    pub base: String,
    /// The head, while it is not that of the branch.
    pub head: String,
    pub draft: bool,
    pub open: bool,
    pub closed_by: Option<String>,
    pub merged: Option<(String, String)>,
}

#[derive(Clone, Debug)]
pub struct Comment {
    pub id: u64,
    /// The pull request or issue.
    pub pull: u64,
    pub by: String,
    pub body: String,
    /// Unix seconds.
    pub at: i64,
    pub updated_at: i64,
}

#[derive(Clone, Debug)]
pub struct Issue {
    pub number: u64,
    pub title: String,
    pub body: String,
    pub by: String,
    pub open: bool,
    /// Who changed the text last, and when.
    pub edited: Option<(String, i64)>,
    pub updated_at: i64,
}

/// An event of an issue or pull request.
#[derive(Clone, Debug)]
pub struct IssueEvent {
    pub number: u64,
    pub event: &'static str,
    pub by: String,
    pub label: String,
    pub at: i64,
}

/// Returns the time in Unix seconds.
pub fn now() -> i64 {
    i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap()
}

#[derive(Clone, Debug)]
pub struct Review {
    pub id: u64,
    pub pull: u64,
    pub by: String,
    pub state: &'static str,
    pub head: String,
    pub body: String,
}

/// A comment of a review on a line, or an answer in its thread.
#[derive(Clone, Debug)]
pub struct ReviewComment {
    pub id: u64,
    pub pull: u64,
    pub review: Option<u64>,
    pub reply_to: Option<u64>,
    pub by: String,
    pub path: String,
    pub line: Option<u64>,
    pub body: String,
}

#[derive(Clone, Debug)]
pub struct Status {
    pub sha: String,
    pub context: String,
    pub state: String,
    pub description: String,
    /// The address of its page; empty = it has none.
    pub page: String,
}

/// A deployment as a forge shows it.
#[derive(Clone, Debug)]
pub struct ShownDeployment {
    pub id: u64,
    pub sha: String,
    pub environment: String,
    /// What its author put there.
    pub payload: serde_json::Value,
    /// Its states, oldest first.
    pub states: Vec<String>,
}

/// A check run of a job of GitHub Actions.
#[derive(Clone, Debug)]
pub struct CheckRun {
    pub id: u64,
    pub sha: String,
    pub name: String,
    pub status: &'static str,
    pub conclusion: Option<&'static str>,
    /// The run of the workflow.
    pub run: u64,
    pub attempt: u64,
    /// `None` = GitHub no longer has it.
    pub log: Option<String>,
    /// Path, line, message.
    pub annotations: Vec<(String, u64, String)>,
}

/// A run of a workflow.
#[derive(Clone, Debug)]
pub struct ActionsRun {
    pub id: u64,
    pub workflow: u64,
    pub attempt: u64,
}

/// An installation token of the App.
#[derive(Clone, Debug)]
pub struct Minted {
    pub token: String,
    pub repositories: Vec<String>,
    pub permissions: BTreeMap<String, String>,
    pub revoked: bool,
}

/// Everything the double knows.
#[derive(Debug)]
pub struct State {
    pub pulls: Vec<Pull>,
    pub comments: Vec<Comment>,
    pub issues: Vec<Issue>,
    pub events: Vec<IssueEvent>,
    /// Labels of issues and pull requests.
    pub labels: BTreeSet<(u64, String)>,
    pub reviews: Vec<Review>,
    pub statuses: Vec<Status>,
    pub deployments: Vec<ShownDeployment>,
    pub review_comments: Vec<ReviewComment>,
    pub check_runs: Vec<CheckRun>,
    pub actions_runs: Vec<ActionsRun>,
    /// Contexts that a branch protection rule requires, and those of a ruleset.
    pub required: Vec<&'static str>,
    pub required_by_ruleset: Vec<&'static str>,
    pub minted: Vec<Minted>,
    /// People and their permission.
    pub collaborators: BTreeMap<String, &'static str>,
    /// Permissions that the account lacks.
    pub lacks: BTreeSet<&'static str>,
    /// What the App's installation has.
    pub installation: BTreeMap<String, String>,
    /// Merge methods that are not allowed.
    pub forbidden_methods: BTreeSet<&'static str>,
    /// A branch protection rule that refuses every merge.
    pub protected: Option<&'static str>,
    pub archived: bool,
    /// Whether the account may not write, as with most repositories of others.
    pub read_only: bool,
    /// The forks, and other repositories of the account.
    pub forks: BTreeSet<String>,
    pub strangers: BTreeSet<String>,
    /// How often a fork was asked for.
    pub fork_requests: usize,
    pub no_drafts: bool,
    /// How long an installation token is valid, in seconds.
    pub token_secs: i64,
    /// How many more lists of pull requests and comments are answered without what was written last.
    pub stale_lists: u32,
    /// The next requests whose line contains a text fail.
    pub faults: Vec<(&'static str, Fault)>,
    /// Method, path and query of every API request.
    pub requests: Vec<String>,
    /// Answers that had not changed.
    pub unchanged: usize,
    pub git_calls: usize,
    /// Where a credential was visible while git used it.
    pub leaks: Vec<String>,
    pub merges: usize,
    pub next_id: u64,
    /// Requests that violate the description of the API.
    pub violations: Vec<String>,
    /// The most entries of a page, whatever is asked for.
    pub max_page: usize,
    /// Whether it is a version without the newer parts of the API.
    pub is_old: bool,
    /// Of GitLab, the heads of each merge request in the order in which it saw them: number, head, id.
    pub versions: Vec<(u64, String, u64)>,
}

impl Default for State {
    fn default() -> State {
        let all = ["actions", "checks", "contents", "issues", "metadata", "pull_requests", "statuses"];
        State {
            pulls: Vec::new(),
            comments: Vec::new(),
            issues: Vec::new(),
            events: Vec::new(),
            labels: BTreeSet::new(),
            reviews: Vec::new(),
            statuses: Vec::new(),
            deployments: Vec::new(),
            review_comments: Vec::new(),
            check_runs: Vec::new(),
            actions_runs: Vec::new(),
            required: Vec::new(),
            required_by_ruleset: Vec::new(),
            minted: Vec::new(),
            collaborators: [("ann".to_owned(), "write"), ("bob".to_owned(), "admin"), ("eve".to_owned(), "read")]
                .into(),
            lacks: BTreeSet::new(),
            installation: all.map(|name| (name.to_owned(), "write".to_owned())).into(),
            forbidden_methods: BTreeSet::new(),
            protected: None,
            archived: false,
            read_only: false,
            forks: BTreeSet::new(),
            strangers: BTreeSet::new(),
            fork_requests: 0,
            no_drafts: false,
            token_secs: 3_600,
            stale_lists: 0,
            faults: Vec::new(),
            requests: Vec::new(),
            unchanged: 0,
            git_calls: 0,
            leaks: Vec::new(),
            merges: 0,
            next_id: 0,
            violations: Vec::new(),
            max_page: 50,
            is_old: false,
            versions: Vec::new(),
        }
    }
}

impl State {
    pub fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Opens a pull request as somebody would on GitHub's pages.
    pub fn open_pull(&mut self, by: &str, branch: &str, head_repo: &str, head: &str) -> u64 {
        let number = self.id();
        self.pulls.push(Pull {
            number,
            title: "By hand".to_owned(),
            body: String::new(),
            by: by.to_owned(),
            branch: branch.to_owned(),
            head_repo: head_repo.to_owned(),
            base: "main".to_owned(),
            head: head.to_owned(),
            draft: false,
            open: true,
            closed_by: None,
            merged: None,
        });
        number
    }

    pub fn comment(&mut self, pull: u64, by: &str, body: &str) {
        self.post_comment(pull, by, body);
    }

    /// Comments on an issue or pull request, and returns the id of the comment.
    pub fn post_comment(&mut self, pull: u64, by: &str, body: &str) -> u64 {
        let id = self.id();
        let (at, by, body) = (now(), by.to_owned(), body.to_owned());
        if let Some(issue) = self.issues.iter_mut().find(|issue| issue.number == pull) {
            issue.updated_at = at;
        }
        self.comments.push(Comment { id, pull, by, body, at, updated_at: at });
        id
    }

    /// Opens an issue.
    pub fn open_issue(&mut self, by: &str, title: &str, body: &str) -> u64 {
        let (number, updated_at) = (self.id(), now());
        let (by, title, body) = (by.to_owned(), title.to_owned(), body.to_owned());
        self.issues.push(Issue { number, title, body, by, open: true, edited: None, updated_at });
        number
    }

    pub fn issue(&mut self, number: u64) -> &mut Issue {
        self.issues.iter_mut().find(|issue| issue.number == number).unwrap()
    }

    /// Gives an issue or pull request a label.
    pub fn label(&mut self, number: u64, by: &str, label: &str) {
        self.label_at(number, by, label, now());
    }

    pub fn label_at(&mut self, number: u64, by: &str, label: &str, at: i64) {
        self.labels.insert((number, label.to_owned()));
        self.events.push(IssueEvent { number, event: "labeled", by: by.to_owned(), label: label.to_owned(), at });
        if let Some(issue) = self.issues.iter_mut().find(|issue| issue.number == number) {
            issue.updated_at = at;
        }
    }

    /// Returns the comments on an issue or pull request.
    pub fn comments_on(&self, number: u64) -> Vec<&Comment> {
        self.comments.iter().filter(|comment| comment.pull == number).collect()
    }

    pub fn review(&mut self, pull: u64, by: &str, state: &'static str, head: &str) {
        self.review_with(pull, by, state, head, "", &[]);
    }

    /// Submits a review with a text and comments on lines. Returns the ids of the comments.
    pub fn review_with(
        &mut self,
        pull: u64,
        by: &str,
        state: &'static str,
        head: &str,
        body: &str,
        comments: &[(&str, u64, &str)],
    ) -> Vec<u64> {
        let (review, by) = (self.id(), by.to_owned());
        let (head, body) = (head.to_owned(), body.to_owned());
        self.reviews.push(Review { id: review, pull, by: by.clone(), state, head, body });
        let mut ids = Vec::new();
        for (path, line, text) in comments {
            let (id, path, body) = (self.id(), (*path).to_owned(), (*text).to_owned());
            let (review, line) = (Some(review), Some(*line));
            self.review_comments.push(ReviewComment {
                id,
                pull,
                review,
                reply_to: None,
                by: by.clone(),
                path,
                line,
                body,
            });
            ids.push(id);
        }
        ids
    }

    pub fn status(&mut self, sha: &str, context: &str, state: &str) {
        let (sha, context, state) = (sha.to_owned(), context.to_owned(), state.to_owned());
        self.statuses.push(Status { sha, context, state, description: String::new(), page: String::new() });
    }

    pub fn check_run(&mut self, sha: &str, name: &str, status: &'static str, conclusion: Option<&'static str>) {
        self.job(sha, name, 1, status, conclusion);
    }

    /// Adds a job in a run of its own of a workflow.
    pub fn job(
        &mut self,
        sha: &str,
        name: &str,
        workflow: u64,
        status: &'static str,
        conclusion: Option<&'static str>,
    ) -> &mut CheckRun {
        let (id, run) = (self.id(), self.id());
        self.actions_runs.push(ActionsRun { id: run, workflow, attempt: 1 });
        let (sha, name) = (sha.to_owned(), name.to_owned());
        let (log, annotations) = (None, Vec::new());
        self.check_runs.push(CheckRun { id, sha, name, status, conclusion, run, attempt: 1, log, annotations });
        self.check_runs.last_mut().unwrap()
    }

    /// Ends the jobs that are queued at a commit.
    pub fn complete(&mut self, sha: &str, conclusion: &'static str) {
        for run in self.check_runs.iter_mut().filter(|run| run.sha == sha && run.status == "queued") {
            (run.status, run.conclusion) = ("completed", Some(conclusion));
        }
    }

    pub fn close_pull(&mut self, number: u64, by: &str) {
        let pull = self.pulls.iter_mut().find(|pull| pull.number == number).unwrap();
        (pull.open, pull.closed_by) = (false, Some(by.to_owned()));
    }

    /// Makes the next request whose line contains a text fail.
    pub fn fail(&mut self, part: &'static str, fault: Fault) {
        self.faults.push((part, fault));
    }
}
