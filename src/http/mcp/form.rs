//! What tools return: one form for each. The forms are the protocol's own: a change of REST does not change them.
//!
//! Invariant: long text from repositories, commands and agents is only in fields named `quoted`, with its source beside
//! it. What is left are titles, names and sentences of one line.

use super::results::Quote;
use crate::domain::escalation::AnswerKind;
use crate::domain::{self, Answer, Raise, Run};
use crate::ports::run_index;
use crate::ports::{journal, ledger};
use crate::render;
use crate::service::actions::{right_to_answer, subject_of};
use crate::service::deployments::DeploymentView;
use crate::service::{Caller, runs};
use rmcp::schemars::{self, JsonSchema};
use serde::Serialize;

/// Maximum characters of a title or sentence from outside.
pub const MAX_TITLE: usize = 200;

/// Row of the run list.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RunRow {
    /// Id of the run.
    pub run: String,
    /// Project.
    pub project: String,
    /// First line of the goal.
    pub title: String,
    /// `pending`, `planning`, `planned`, `running`, `paused`, `blocked`, `failed`, `cancelled`, `completed` or
    /// `quarantined`.
    pub status: String,
    /// Codes of the questions that wait for an answer.
    pub questions: Vec<String>,
    /// When it was opened, in UTC.
    pub opened_at: String,
    /// When it last moved, in UTC.
    pub updated_at: String,
}

/// Rows of the run list.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RunList {
    /// Rows, newest first.
    pub runs: Vec<RunRow>,
    /// Pass it as `before` to get older runs; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_before: Option<String>,
}

impl From<run_index::RunRow> for RunRow {
    fn from(row: run_index::RunRow) -> RunRow {
        RunRow {
            run: row.run.to_string(),
            project: row.project,
            title: render::brief(&row.title, MAX_TITLE),
            status: row.status,
            questions: row.blocks,
            opened_at: render::utc(row.opened_at),
            updated_at: render::utc(row.updated_at),
        }
    }
}

/// Returns the tool that gives an answer, its argument `answer`, and the answer as the run gets it; `None` if no tool
/// gives it.
fn tool_of(kind: &AnswerKind) -> Option<(&'static str, Option<&'static str>, Answer)> {
    let no = || Answer::No { why: String::new() };
    let text = || Answer::Text { text: String::new() };
    match kind {
        AnswerKind::Approve => Some(("approve", None, Answer::Yes)),
        AnswerKind::Decline | AnswerKind::Stop => Some(("answer_question", Some("no"), no())),
        AnswerKind::Continue => Some(("answer_question", Some("yes"), Answer::Yes)),
        AnswerKind::Reply => Some(("answer_question", Some("text"), text())),
        AnswerKind::Skip => Some(("answer_question", Some("skip"), Answer::Skip)),
        AnswerKind::Raise { .. } => Some(("raise_budget", None, Answer::More { raise: Raise::default() })),
        AnswerKind::RaiseShared { .. } => None,
    }
}

/// Question that a run asks.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Question {
    /// Run.
    pub run: String,
    /// Block, such as `b1`.
    pub block: String,
    /// Stable code, such as `question` or `approve_merge`.
    pub code: String,
    /// What is asked, in a few words.
    pub reason: String,
    /// Whether only a person can answer it, in Skep itself.
    pub person_only: bool,
    /// What exactly an approval is about: the commits, or the revision of the plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What is needed.
    pub needs: Vec<String>,
    /// Answers that you may give.
    pub answers: Vec<PossibleAnswer>,
    /// What happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Quote>,
}

/// Answer to a question.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PossibleAnswer {
    /// Tool that gives it.
    pub tool: String,
    /// The argument `answer` of `answer_question`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// What it does.
    pub effect: String,
}

/// Returns the questions of a run, with the answers that `caller` may give.
pub fn questions(run: &Run, caller: &Caller) -> Vec<Question> {
    let question = |block: &domain::Block| {
        let escalation = render::escalation(run, block);
        let possible = escalation.answers.iter().filter_map(|a| {
            let (tool, word, answer) = tool_of(&a.option.kind)?;
            let is_allowed = caller.has(right_to_answer(&block.kind, &answer), &run.project);
            let effect = a.effect.clone();
            is_allowed.then(|| PossibleAnswer { tool: tool.to_owned(), answer: word.map(str::to_owned), effect })
        });
        let answers: Vec<PossibleAnswer> = possible.collect();
        Question {
            run: run.id.to_string(),
            block: block.id.to_string(),
            code: escalation.code.clone(),
            reason: render::brief(&escalation.reason, MAX_TITLE),
            person_only: answers.is_empty(),
            subject: subject_of(&block.kind),
            needs: escalation.needs.iter().map(|n| format!("{}: {}", n.what, n.how)).collect(),
            answers,
            why: Quote::of(format!("run {}", run.id.abbrev()), &escalation.why),
        }
    };
    run.blocks.iter().map(question).collect()
}

/// Questions of several runs.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Questions {
    /// Questions, those of the newest run first.
    pub questions: Vec<Question>,
    /// Pass it as `before` to get those of older runs; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_before: Option<String>,
}

/// Event of a journal.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Event {
    /// Number.
    pub seq: u64,
    /// When it happened, in UTC.
    pub at: String,
    /// What happened.
    pub event: String,
}

/// Part of a journal.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Events {
    /// Events in order; without any, there is nothing after `last` yet.
    pub events: Vec<Event>,
    /// Pass it as `after` to read on.
    pub last: u64,
}

/// Returns an event in words, on one line.
pub fn event_words(row: &journal::JournalRow) -> String {
    let words = render::JournalEntry::read(&row.name, row.event.as_ref()).words(|_| None);
    render::brief(&words.unwrap_or_else(|| row.name.replace('_', " ")), MAX_TITLE)
}

impl From<journal::JournalRow> for Event {
    fn from(row: journal::JournalRow) -> Event {
        Event { seq: row.seq, at: render::utc(row.at), event: event_words(&row) }
    }
}

/// What earlier runs have shown.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Memories {
    /// Rows, best first.
    pub memories: Vec<Quote>,
}

/// Returns a row as a quotation of its source: who stated it, in which run, and the files and lines it is about.
pub fn memory(memory: &domain::Memory) -> Option<Quote> {
    let run = memory.run.map(|run| format!(", run {}", run.abbrev())).unwrap_or_default();
    let about: String = memory.cites.iter().map(|cite| format!(", {}", cite.text())).collect();
    let from = format!("{} {} by {}{run}{about}", memory.kind.name(), memory.id, memory.author);
    Quote::of(from, &format!("{}\n{}", memory.title, memory.body))
}

/// Project.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Project {
    /// Name.
    pub project: String,
    /// Repository.
    pub repo: String,
    /// Branch that changes land on; empty for the repository's default branch.
    pub base: String,
}

/// Projects.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Projects {
    /// Projects by name.
    pub projects: Vec<Project>,
}

/// Row of a spending report.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Spent {
    /// Project, role, model, day or run.
    pub key: String,
    /// Money.
    pub cost: String,
    /// Tokens.
    pub tokens: u64,
    /// Attempts.
    pub attempts: u64,
}

/// Target of deployments.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Deployment {
    /// Name of the target.
    pub target: String,
    /// Project.
    pub project: String,
    /// `none`, `ready`, `sponsored`, `live` or `suspended`.
    pub status: String,
    /// Address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The commit that runs there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha: Option<String>,
    /// The newest rollout: number, state (`waiting` = for a person) and commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<String>,
}

/// Targets of deployments.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Deployments {
    /// Targets by name.
    pub deployments: Vec<Deployment>,
}

impl From<DeploymentView> for Deployment {
    fn from(view: DeploymentView) -> Deployment {
        let rollout = |r: &domain::deployment::Rollout| format!("{} {} {}", r.number, r.state.name(), r.sha);
        Deployment {
            rollout: view.rollouts.first().map(rollout),
            target: view.target.name,
            project: view.target.project.to_string(),
            status: view.status.name().to_owned(),
            url: view.target.url,
            sha: view.deployment.sha.map(|sha| sha.to_string()),
        }
    }
}

/// Spending report.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Spending {
    /// Rows.
    pub rows: Vec<Spent>,
}

impl From<ledger::Spending> for Spent {
    fn from(row: ledger::Spending) -> Spent {
        Spent { key: row.key, cost: render::money(row.cost_micros), tokens: row.tokens, attempts: row.attempts }
    }
}

/// What a run would start with.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Preview {
    /// Project.
    pub project: String,
    /// Branch it would land on.
    pub base_branch: String,
    /// Commit it would start from.
    pub base: String,
    /// Engine of each role.
    pub engines: std::collections::BTreeMap<String, String>,
    /// Names of the checks.
    pub checks: Vec<String>,
    /// Limits of what it may use.
    pub limits: String,
    /// Estimated tokens of the first prompt; 0 if its engine takes none.
    pub prompt_tokens: u64,
}

impl From<runs::Preview> for Preview {
    fn from(preview: runs::Preview) -> Preview {
        let prompt_tokens = preview.prompt_tokens();
        let opened = preview.opened;
        Preview {
            project: opened.project.to_string(),
            limits: limits(&opened.settings.policy.limits),
            base_branch: opened.settings.base_branch,
            base: opened.base.to_string(),
            engines: opened.settings.engines.iter().map(|(role, e)| (role.name().to_owned(), e.named())).collect(),
            checks: opened.settings.checks.into_iter().map(|check| check.name).collect(),
            prompt_tokens,
        }
    }
}

fn limits(limits: &domain::Limits) -> String {
    let given = [
        limits.tokens.map(|n| render::count(n, "token")),
        limits.cost_micros.map(render::money),
        limits.turns.map(|n| render::count(n, "model call")),
        Some(render::duration(limits.timeout_secs.saturating_mul(1_000))),
        Some(render::count(limits.attempts.into(), "attempt")),
        Some(format!("{} of rework", render::count(limits.rounds.into(), "round"))),
    ];
    given.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
