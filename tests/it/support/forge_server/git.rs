//! git over http, by `git http-backend`; and the merges, by real git.

use super::state::{Pull, State};
use super::{REPO, Served, TOKEN};
use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::response::Response;
use base64::Engine as _;
use std::path::Path;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;

/// A request of git.
pub struct Call {
    service: String,
    path: String,
    query: String,
    method: String,
    content_type: String,
    encoding: String,
    protocol: String,
    token: Option<String>,
    body: Bytes,
}

impl Call {
    pub fn of(parts: &Parts, body: &Bytes) -> Option<Call> {
        let path = parts.uri.path();
        let is_git = ["/info/refs", "/git-upload-pack", "/git-receive-pack"].iter().any(|end| path.ends_with(end));
        let header = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
        let basic = header("authorization").strip_prefix("Basic ").map(str::to_owned);
        let decoded = basic.and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok());
        let token = decoded.and_then(|text| String::from_utf8(text).ok()?.split_once(':').map(|(_, t)| t.to_owned()));
        is_git.then(|| Call {
            service: path.to_owned(),
            path: path.to_owned(),
            query: parts.uri.query().unwrap_or("").to_owned(),
            method: parts.method.to_string(),
            content_type: header("content-type"),
            encoding: header("content-encoding"),
            protocol: header("git-protocol"),
            token,
            body: body.clone(),
        })
    }
}

pub async fn serve(served: &Served, call: Call) -> Response {
    let may_enter = {
        let mut state = served.state.lock().unwrap();
        let token = call.token.clone().unwrap_or_default();
        let minted = state.minted.iter().any(|m| m.token == token && !m.revoked);
        let known = token == TOKEN || minted;
        if known {
            state.leaks.extend(visible(&token));
        }
        known
    };
    if !may_enter {
        let refused = Response::builder().status(401).header("www-authenticate", "Basic realm=\"forge\"");
        return refused.body(Body::empty()).unwrap();
    }
    let is_push = call.service.ends_with("/git-receive-pack") || call.query.contains("git-receive-pack");
    {
        let state = served.state.lock().unwrap();
        let is_refused = state.lacks.contains("contents") || state.archived;
        if is_push && (is_refused || state.read_only && call.path.starts_with(&format!("/{REPO}"))) {
            return Response::builder().status(403).body(Body::from("Permission denied\n")).unwrap();
        }
    }
    let mut backend = tokio::process::Command::new("git");
    backend.arg("http-backend").env("GIT_PROJECT_ROOT", &served.root).env("GIT_HTTP_EXPORT_ALL", "1");
    backend.env("PATH_INFO", &call.path).env("QUERY_STRING", &call.query).env("REQUEST_METHOD", &call.method);
    backend.env("CONTENT_TYPE", &call.content_type).env("REMOTE_USER", "skep").env("REMOTE_ADDR", "127.0.0.1");
    if !call.encoding.is_empty() {
        backend.env("HTTP_CONTENT_ENCODING", &call.encoding);
    }
    if !call.protocol.is_empty() {
        backend.env("GIT_PROTOCOL", &call.protocol);
    }
    let mut child = backend.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let body = call.body.clone();
    let feed = tokio::spawn(async move {
        let _closed = stdin.write_all(&body).await;
    });
    let output = child.wait_with_output().await.unwrap().stdout;
    feed.await.unwrap();
    let cut = output.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let (mut status, mut response) = (200, Response::builder());
    for line in String::from_utf8_lossy(&output[..cut]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        match name {
            "Status" => status = value[..3].parse().unwrap(),
            _ => response = response.header(name, value),
        }
    }
    response.status(status).body(Body::from(output[cut + 4..].to_vec())).unwrap()
}

/// Returns the processes of this test in whose arguments or environment a token is visible. Other tests, which run at
/// the same time, use the same token.
fn visible(token: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        if !is_of_this_test(&entry.path()) {
            continue;
        }
        for file in ["cmdline", "environ"] {
            let bytes = std::fs::read(entry.path().join(file)).unwrap_or_default();
            if bytes.windows(token.len()).any(|w| w == token.as_bytes()) {
                found.push(format!("{}: {}", entry.path().join(file).display(), String::from_utf8_lossy(&bytes)));
            }
        }
    }
    found
}

/// Returns whether a process descends from this one.
fn is_of_this_test(process: &Path) -> bool {
    let mut process = process.to_owned();
    loop {
        // `pid (name) state ppid …`; a name may contain anything.
        let Ok(stat) = std::fs::read_to_string(process.join("stat")) else { return false };
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok());
        match parent {
            Some(parent) if parent == std::process::id() => return true,
            Some(parent) if parent > 1 => process = Path::new("/proc").join(parent.to_string()),
            _ => return false,
        }
    }
}

fn git(bare: &Path, args: &[&str]) -> Option<String> {
    let (ok, output) = crate::git_world::try_git(bare, args);
    ok.then_some(output)
}

pub fn head(bare: &Path, branch: &str) -> Option<String> {
    git(bare, &["rev-parse", "--verify", "--quiet", &format!("refs/heads/{branch}")])
}

pub fn has_commit(bare: &Path, sha: &str) -> bool {
    git(bare, &["cat-file", "-e", &format!("{sha}^{{commit}}")]).is_some()
}

pub fn delete_branch(bare: &Path, branch: &str) -> bool {
    git(bare, &["update-ref", "-d", &format!("refs/heads/{branch}")]).is_some()
}

/// Makes a fork, and returns its name.
pub fn fork(served: &Served, state: &mut State, owner: &str) -> String {
    let name = format!("{owner}/{}", REPO.rsplit('/').next().unwrap());
    state.fork_requests += 1;
    if state.forks.insert(name.clone()) {
        let folder = served.root.join(owner);
        std::fs::create_dir_all(&folder).unwrap();
        let (from, to) = (served.root.join(format!("{REPO}.git")), folder.join("calc.git"));
        crate::git_world::git(&folder, &["clone", "-q", "--bare", from.to_str().unwrap(), to.to_str().unwrap()]);
        crate::git_world::git(&to, &["config", "http.receivepack", "true"]);
    }
    name
}

/// Returns the repository and the branch of `OWNER:BRANCH`, or of a branch of the repository itself.
pub fn head_of(state: &State, head: &str) -> Option<(String, String)> {
    let Some((owner, branch)) = head.split_once(':') else { return Some((REPO.to_owned(), head.to_owned())) };
    let repo = format!("{owner}/calc");
    state.forks.contains(&repo).then(|| (repo, branch.to_owned()))
}

/// Makes open pull requests follow their branches. A forge has the commits of those from forks as well.
pub fn follow(served: &Served, state: &mut State) {
    let State { pulls, forks, .. } = state;
    for pull in pulls.iter_mut().filter(|pull| pull.open && (pull.head_repo == REPO || forks.contains(&pull.head_repo)))
    {
        let from = served.root.join(format!("{}.git", pull.head_repo));
        let Some(now) = head(&from, &pull.branch) else { continue };
        let bare = served.root.join(format!("{REPO}.git"));
        if !has_commit(&bare, &now) {
            crate::git_world::git(&bare, &["fetch", "-q", from.to_str().unwrap(), &pull.branch]);
        }
        pull.head = now;
    }
}

/// Merges a pull request; `None` = it conflicts.
pub fn merge(bare: &Path, pull: &Pull, method: &str) -> Option<String> {
    let base = head(bare, &pull.base)?;
    if method == "fast-forward-only" {
        git(bare, &["merge-base", "--is-ancestor", &base, &pull.head])?;
        git(bare, &["update-ref", &format!("refs/heads/{}", pull.base), &pull.head, &base])?;
        return Some(pull.head.clone());
    }
    let tree = git(bare, &["merge-tree", "--write-tree", &base, &pull.head])?;
    let message = format!("Merge pull request #{} from {}", pull.number, pull.branch);
    let mut args = vec!["commit-tree", &tree, "-p", &base];
    if method == "merge" {
        args.extend(["-p", pull.head.as_str()]);
    }
    args.extend(["-m", &message]);
    let merged = git(bare, &args)?;
    git(bare, &["update-ref", &format!("refs/heads/{}", pull.base), &merged, &base])?;
    Some(merged)
}
