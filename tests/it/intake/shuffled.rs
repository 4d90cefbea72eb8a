//! Ten thousand webhooks, shuffled, repeated, lost and forged, lead to the same as the same events reported once and in
//! order.

use super::{Kind, SECRET, World, comment_hook, shown, signature};
use crate::support::forge_server::{REPO, now};
use crate::support::rng::Rng;
use serde_json::{Value, json};
use skep::domain::{DeliveryState, ForgeName};
use std::collections::BTreeMap;

const ISSUES: u64 = 6;
const ACTS: u64 = 2_500;
const DELIVERIES: usize = 10_000;
/// How many acts later a webhook may arrive.
const MAX_DELAY: u64 = 400;
/// Acts after which the service applies what has arrived.
const PASS_EVERY: u64 = 125;
const COMMANDS: [&str; 9] = [
    "/skep run",
    "/skep run\nKeep the file.",
    "/skep pause",
    "/skep resume",
    "/skep status",
    "/skep cancel it is not needed",
    "/skep dance",
    "UNBLOCK #b1 yes",
    "/skep approve",
];

/// What somebody does on the forge.
enum Act {
    Label {
        issue: u64,
        by: &'static str,
    },
    Comment {
        issue: u64,
        by: &'static str,
        text: &'static str,
    },
    /// Something that Skep does not need.
    Other(u64),
}

/// Draws what happens: strangers and writers label issues and give commands, among much else.
fn story(rng: &mut Rng) -> Vec<Act> {
    let mut acts: Vec<Act> = (0..ACTS).map(Act::Other).collect();
    for issue in 0..ISSUES {
        let first = rng.below(ACTS / 2);
        acts[usize::try_from(first).unwrap()] = Act::Label { issue, by: "eve" };
        // Only the last one who set a label is known, so that a writer does it once.
        acts[usize::try_from(first + 1 + rng.below(ACTS / 4)).unwrap()] = Act::Label { issue, by: "ann" };
    }
    for _ in 0..ISSUES * 12 {
        let at = usize::try_from(rng.below(ACTS)).unwrap();
        if matches!(acts[at], Act::Other(_)) {
            let (issue, by) = (rng.below(ISSUES), rng.one_of(&["ann", "bob", "eve"]));
            acts[at] = Act::Comment { issue, by, text: rng.one_of(&COMMANDS) };
        }
    }
    acts
}

/// A webhook: the kind of event and the signed bytes.
type Hook = (&'static str, Vec<u8>);

/// A world with its issues, and the comments that gave commands.
struct Stage {
    w: World,
    issues: Vec<u64>,
    comments: Vec<u64>,
    start: i64,
}

impl Stage {
    async fn new(kind: Kind) -> Stage {
        let mut w = World::idle(kind).await;
        // Comments are read from here on.
        w.sweep().await;
        let issues = (0..ISSUES).map(|n| w.forge.state().open_issue("ann", &format!("Say hello {n}"), "")).collect();
        Stage { w, issues, comments: Vec::new(), start: now() + 1 }
    }

    /// Does something at a second of its own, and returns how the forge reports it.
    fn carry_out(&mut self, at: usize, act: &Act) -> Hook {
        let seconds = self.start + i64::try_from(at).unwrap();
        let (event, body) = match act {
            Act::Label { issue, by } => {
                let issue = self.issues[usize::try_from(*issue).unwrap()];
                self.w.forge.state().label_at(issue, by, "skep", seconds);
                self.w.label_hook(issue, by, "skep")
            }
            Act::Comment { issue, by, text } => {
                let issue = self.issues[usize::try_from(*issue).unwrap()];
                let mut state = self.w.forge.state();
                let id = state.post_comment(issue, by, text);
                let comment = state.comments.last_mut().unwrap();
                (comment.at, comment.updated_at) = (seconds, seconds);
                self.comments.push(id);
                ("issue_comment", comment_hook(issue, id, text))
            }
            Act::Other(n) => match n % 5 {
                0 => ("push", json!({ "ref": "refs/heads/main", "commits": [{ "id": n }] })),
                1 => ("issue_comment", comment_hook(self.issues[0], 1_000_000 + n, "Thank you!")),
                2 => ("issues", json!({ "action": "closed", "issue": { "number": self.issues[0], "labels": null } })),
                3 => ("dance", json!({ "action": "started" })),
                _ => (
                    "pull_request",
                    json!({ "action": "opened", "pull_request": { "number": n, "head": { "ref": "x" } } }),
                ),
            },
        };
        (event, self.w.kind.payload(event, body).to_string().into_bytes())
    }

    async fn send(&self, id: &str, (event, body): &Hook) {
        let status = self.w.send(id, event, body, Some(&signature(SECRET, body))).await;
        assert_eq!(status.as_u16(), 202, "{event} {id}");
    }

    /// Sweeps, and returns what is left: of each issue its run, of each command its reply, and Skep's other comments.
    async fn end(mut self) -> Vec<String> {
        self.w.sweep().await;
        self.w.settle().await;
        self.w.settle().await;
        let forge = ForgeName(self.w.kind.name().to_owned());
        let mut left = Vec::new();
        for (n, issue) in self.issues.iter().enumerate() {
            let row = self.w.services.intake.issue_run(&forge, REPO, *issue).await.unwrap();
            let run = match &row {
                Some(row) => self.w.services.store.load(row.run).await.unwrap(),
                None => None,
            };
            let run = run.map(|run| {
                let paused = run.paused.is_some();
                format!("{:?} {paused} {:?} {} {}", run.phase, run.outcome.is_some(), run.goal.asked_by, run.goal.text)
            });
            left.push(format!("issue {n}: {run:?}"));
            let state = self.w.forge.state();
            let own = state.comments_on(*issue).into_iter().filter(|c| !c.body.contains("skep:intake:reply"));
            let own = own.filter(|c| c.body.contains("<!-- skep:")).map(|c| shown(&without_run(&c.body)));
            let mut own: Vec<String> = own.collect();
            own.sort();
            left.extend(own);
        }
        left.extend(self.comments.iter().map(|id| self.w.reply(*id).map_or("no reply".to_owned(), |r| shown(&r))));
        left
    }
}

/// Removes the run from the marker of a comment.
fn without_run(body: &str) -> String {
    match body.rsplit_once("<!-- skep:issue:") {
        Some((text, marker)) => format!("{text}{}", marker.rsplit(':').next().unwrap()),
        None => body.to_owned(),
    }
}

async fn in_order(kind: Kind, acts: &[Act]) -> Vec<String> {
    let mut stage = Stage::new(kind).await;
    for (at, act) in acts.iter().enumerate() {
        let hook = stage.carry_out(at, act);
        stage.send(&format!("d{at}"), &hook).await;
        if !matches!(act, Act::Other(_)) {
            stage.w.pass().await;
        }
    }
    stage.end().await
}

async fn shuffled(kind: Kind, acts: &[Act], rng: &mut Rng) -> Vec<String> {
    let mut stage = Stage::new(kind).await;
    // What arrives after an act: the id of the delivery, and which act it reports.
    let mut arrivals: BTreeMap<u64, Vec<(String, usize)>> = BTreeMap::new();
    let (mut hooks, mut ids): (Vec<Hook>, std::collections::BTreeSet<String>) = Default::default();
    let (mut sent, mut forged) = (0, 0);
    let copies = DELIVERIES / acts.len();
    for at in 0..acts.len() + usize::try_from(MAX_DELAY).unwrap() {
        if let Some(act) = acts.get(at) {
            hooks.push(stage.carry_out(at, act));
            let is_lost = rng.chance(15);
            for copy in 0..copies {
                let when = at as u64 + rng.below(MAX_DELAY);
                match (is_lost, rng.below(4)) {
                    // Repeated by the network: the same id. Repeated by a person: a new one.
                    (false, 0) => arrivals.entry(when).or_default().push((format!("d{at}-{copy}"), at)),
                    (false, 1 | 2) => arrivals.entry(when).or_default().push((format!("d{at}"), at)),
                    _ => {
                        forged += 1;
                        let (event, body) = &hooks[at];
                        let signature = [None, Some(signature("guessed", body)), Some(signature(SECRET, b"{}"))];
                        let signature = signature[forged % 3].as_deref();
                        assert_eq!(stage.w.send("forged", event, body, signature).await.as_u16(), 401);
                    }
                }
            }
        }
        for (id, of) in arrivals.remove(&(at as u64)).unwrap_or_default() {
            stage.send(&id, &hooks[of]).await;
            ids.insert(id);
            sent += 1;
        }
        if (at as u64).is_multiple_of(PASS_EVERY) {
            stage.w.pass().await;
        }
    }
    assert_eq!(sent + forged, DELIVERIES);
    let forge = ForgeName(kind.name().to_owned());
    let intake = &stage.w.services.intake;
    let (mut stored, mut before) = (0, None);
    loop {
        let rows = intake.deliveries(&forge, before, 1_000).await.unwrap();
        let Some(last) = rows.last() else { break };
        before = Some(last.seq);
        stored += rows.iter().filter(|row| ids.contains(&row.new.id)).count();
        assert!(rows.iter().all(|row| row.new.id != "forged"));
        let is_visible = |state, reason: &str| state != DeliveryState::Ignored || !reason.is_empty();
        assert!(rows.iter().all(|row| is_visible(row.state, &row.reason)));
    }
    assert_eq!(stored, ids.len(), "each id is stored once");
    stage.end().await
}

async fn compare(kind: Kind, seed: u64) {
    let mut rng = Rng(seed);
    let acts = story(&mut rng);
    let expected = in_order(kind, &acts).await;
    let got = shuffled(kind, &acts, &mut rng).await;
    let differ = expected.iter().zip(&got).filter(|(expected, got)| expected != got).collect::<Vec<_>>();
    assert!(differ.is_empty(), "seed {seed}, expected and got: {differ:#?}");
    assert_eq!(got.len(), expected.len(), "seed {seed}");
    let runs = expected.iter().filter(|line| line.starts_with("issue ") && !line.ends_with("None")).count();
    assert_eq!(runs, usize::try_from(ISSUES).unwrap(), "{expected:#?}");
    assert!(expected.iter().any(|line| line.contains("paused by")), "{expected:#?}");
}

#[tokio::test]
async fn shuffled_deliveries_of_github_end_as_ordered_ones() {
    compare(Kind::GitHub, 7).await;
}

#[tokio::test]
async fn shuffled_deliveries_of_forgejo_end_as_ordered_ones() {
    compare(Kind::Forgejo, 8).await;
}

#[tokio::test]
async fn shuffled_deliveries_of_gitlab_end_as_ordered_ones() {
    compare(Kind::GitLab, 9).await;
}

/// Sends the payloads of a folder to a world on Forgejo; the name of each file starts with the kind of event.
#[tokio::test]
#[ignore = "needs payloads of Gitea, such as those of the Go module github.com/drone/go-scm: SKEP_GITEA_WEBHOOKS=<folder>"]
async fn every_real_payload_of_gitea_is_read_or_visibly_ignored() {
    let w = World::on(Kind::Forgejo).await;
    let mut sent = 0;
    for file in std::fs::read_dir(std::env::var_os("SKEP_GITEA_WEBHOOKS").unwrap()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|ext| ext != "json") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let events = [("issue_comment", "issue_comment"), ("pull_request_comment", "issue_comment")];
        let others = ["issues", "pull_request", "push", "status"].map(|event| (event, event));
        let event =
            events.into_iter().chain(others).find(|(start, _)| name.starts_with(start)).map_or("create", |e| e.1);
        let text = std::fs::read(&path).unwrap();
        let body = serde_json::from_slice::<Value>(&text).unwrap().to_string().into_bytes();
        let status = w.send(&format!("d{sent}"), event, &body, Some(&signature(SECRET, &body))).await;
        assert_eq!(status.as_u16(), 202, "{name}");
        sent += 1;
    }
    let stored = w.deliveries().await;
    assert!(sent > 0 && stored.len() == sent);
    for row in &stored {
        println!("{}: {:?} {}", row.new.event, row.new.fact, row.reason);
        assert!(row.new.fact.is_ok() || !row.reason.is_empty());
    }
}
