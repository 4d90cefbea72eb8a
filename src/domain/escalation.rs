//! How a block is put to a person: the reason, the run, numbered needs (what, where to make it, exact scope, where to put it),
//! and how to answer. Worded by Skep; text from outside is quoted and marked.

use super::block::{Block, BlockKind, Subject};
use super::order::EngineSpec;
use super::run::Run;
use super::shared_budget::{self, BudgetScope, SharedBudget};
use serde::{Deserialize, Serialize};

/// One thing a person is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// What.
    pub what: String,
    /// Where to make or find it; exact scopes; where to put it.
    pub how: String,
}

/// An escalation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Escalation {
    /// The block it is about.
    pub block: super::BlockId,
    /// Its stable code.
    pub code: String,
    /// In a few words.
    pub reason: String,
    /// The run, by its short id and goal.
    pub run: String,
    /// What happened, quoted: may hold text from outside.
    pub why: String,
    /// What is needed.
    pub needs: Vec<Need>,
    /// The answers that lift it, as commands.
    pub answers: Vec<String>,
    /// How the run goes on without a command: by itself, and by which comment.
    pub resumes: String,
    /// What stays reserved meanwhile.
    pub reserved: String,
}

/// The escalation of a block.
pub fn of(run: &Run, block: &Block) -> Escalation {
    let id = run.id.abbrev();
    let b = block.id;
    let unblock = |rest: &str| format!("skep unblock {id} --block {b}{rest}");
    let approve = format!("skep approve {id} --block {b}");
    let decline = format!("skep approve {id} --block {b} --no \"what should be different\"");
    let give_up = unblock(" --no \"why\"  # ends the run undelivered");
    let (reason, needs, answers) = match &block.kind {
        BlockKind::Approval(Subject::Plan { revision }) => (
            "the plan waits for approval".to_owned(),
            vec![need("Approval (yes or no) of the plan", &format!("revision {revision}; `skep show {id}` prints it"))],
            vec![approve, decline],
        ),
        BlockKind::Approval(Subject::Diff { task, head, .. }) => (
            "a task's work needs approval before it goes on".to_owned(),
            vec![need(
                "Approval (yes or no) of what the task changed",
                &format!("task {task}, commit {head}; `skep show {id} --patch {task}` prints the diff"),
            )],
            vec![approve, decline, unblock(" --skip  # goes on without this task")],
        ),
        BlockKind::Approval(Subject::Merge { head, base }) => (
            "the merge waits for approval".to_owned(),
            vec![need(
                "Approval (yes or no) of the merge",
                &format!(
                    "commit {head} onto {} at {}; look with `skep change show {}`",
                    run.settings.base_branch,
                    base.abbrev(),
                    run.change.as_ref().map_or_else(|| id.clone(), |c| format!("{}#{}", run.project, c.number)),
                ),
            )],
            vec![approve, decline],
        ),
        BlockKind::Tries { step, task } => (
            match task {
                Some(task) => format!("task {task} did not succeed within its tries"),
                None => format!("the {} step did not succeed within its tries", step.name()),
            },
            vec![need(
                "A hint, or a mended environment",
                &format!("the last failure is below; `skep logs {id}` has all of it"),
            )],
            {
                let mut answers =
                    vec![unblock("  # as many tries again"), unblock(" --answer \"a hint for the next try\"")];
                if task.is_some() {
                    answers.push(unblock(" --skip  # goes on without this task"));
                }
                answers.push(give_up);
                answers
            },
        ),
        BlockKind::Rounds => (
            "the rounds of rework are used up".to_owned(),
            vec![need("A decision whether to go on", "what still fails is below")],
            vec![unblock("  # as many rounds again"), unblock(" --answer \"a hint\""), give_up],
        ),
        BlockKind::Shared { of } => {
            let raises = raises(run, of);
            let (names, are) = (shared_budget::names(of), if raises.len() > 1 { "are" } else { "is" });
            let what = names.replace("the ", "");
            (
                format!("{names} {are} used up"),
                vec![need(
                    &format!("More {what}, or the end of the run"),
                    &format!("shared with other runs; what it went to is below; {}", raises.join(" and ")),
                )],
                raises.into_iter().chain([unblock("  # asks again"), give_up]).collect(),
            )
        }
        BlockKind::Engine { role, engine } => (
            format!("no engine of the {} can be used: {}", role.name(), EngineSpec::parse(engine).named()),
            vec![need(
                "What keeps it from working, mended",
                "what happened, and what to do, is below; new runs can be given another engine or fall-backs",
            )],
            vec![unblock("  # tries it again"), give_up],
        ),
        BlockKind::Budget { what } => {
            let flag = match what.as_str() {
                "money" => "--more cost=\"1.00 USD\"",
                "tokens" => "--more tokens=100000",
                "attempts" => "--more attempts=10",
                "turns" => "--more turns=100",
                _ => "--more time=1h",
            };
            (
                format!("the budget is used up: {what}"),
                vec![need(
                    &format!("More {what}, or the end of the run"),
                    &format!("give it with {flag}; for new runs change [limits] in the configuration"),
                )],
                vec![unblock(&format!(" {flag}")), give_up],
            )
        }
        BlockKind::Question { step, .. } => (
            format!("the {} step asks", step.role().name()),
            vec![need("An answer", "the question is below")],
            vec![unblock(" --answer \"…\"")],
        ),
        BlockKind::NothingChanged => (
            "nothing changed".to_owned(),
            vec![need(
                "A hint what should change, or the end of the run",
                "the goal may be met already, or too vague for the engine",
            )],
            vec![unblock(" --answer \"a hint\""), unblock("  # tries the goal once more"), give_up],
        ),
        BlockKind::Act { act } => (
            format!("{} does not succeed", act_in_words(act)),
            vec![need("What keeps it from working, mended", "what happened, and what to do, is below")],
            vec![unblock("  # tries it again"), give_up],
        ),
        BlockKind::ChangeClosed => (
            "the change was closed".to_owned(),
            vec![need("A decision", "whether a new change is opened for the same branch, or the run ends")],
            vec![unblock("  # opens a new change"), give_up],
        ),
        BlockKind::ForeignPush { head } => (
            "somebody else pushed to the run's branch".to_owned(),
            vec![need("A decision", &format!("whether {head} on {} may be overwritten", run.settings.branch))],
            vec![unblock("  # puts the run's own head back"), give_up],
        ),
        BlockKind::SecretFound { .. } => (
            "what would be pushed holds a secret".to_owned(),
            vec![need(
                "A decision whether it may be published",
                "where it stands is below; a real secret that was ever in the repository should be changed, too",
            )],
            vec![
                unblock("  # it is no secret: lets exactly this pass, in this run"),
                unblock(" --answer \"a hint\"  # does the work again without it"),
                give_up,
            ],
        ),
    };
    let change = run.change.as_ref().map(|c| format!("{}#{}", run.project, c.number));
    let mut resumes = match (&block.kind, change) {
        (BlockKind::Approval(Subject::Merge { .. }), Some(change)) => {
            format!("The run goes on by itself after one of these, or after `skep change approve {change}`.")
        }
        (BlockKind::Approval(_), _) | (_, None) => "The run goes on by itself after one of these.".to_owned(),
        (BlockKind::Question { .. }, Some(change)) => {
            format!(
                "The run goes on by itself after that, or after the comment `UNBLOCK #{b}` with the answer on {change}."
            )
        }
        (_, Some(change)) => {
            format!("The run goes on by itself after one of these, or after the comment `UNBLOCK #{b}` on {change}.")
        }
    };
    if let Some(until) = block.until {
        resumes.push_str(&format!(" Without an answer it goes on by itself at {}.", super::describe::utc(until)));
    }
    Escalation {
        block: b,
        code: block.kind.code().to_owned(),
        reason,
        run: format!("{id}: {}", run.goal.title()),
        why: block.why.clone(),
        needs,
        answers,
        resumes,
        reserved: format!(
            "The run's workspace, branch {}, sessions and slot stay reserved until then.",
            run.settings.branch
        ),
    }
}

/// A command for each share: what is short of it, raised above what is used.
fn raises(run: &Run, of: &[SharedBudget]) -> Vec<String> {
    let raise = |share: BudgetScope| {
        let mut command = match share {
            BudgetScope::Project => format!("skep budget raise --project {}", run.project),
            BudgetScope::Day => "skep budget raise --day".to_owned(),
        };
        let plain = command.len();
        for budget in of.iter().filter(|b| b.share == share) {
            let amount = budget.suggested();
            command.push_str(&match budget.money {
                true => format!(" --cost \"{}.00 USD\"", amount / 1_000_000),
                false => format!(" --tokens {amount}"),
            });
        }
        (command.len() > plain).then_some(command)
    };
    [BudgetScope::Project, BudgetScope::Day].into_iter().filter_map(raise).collect()
}

/// An act on the world, as a person calls it.
fn act_in_words(act: &str) -> &str {
    match act {
        "start" => "starting an attempt",
        "reserve" => "setting an attempt's cost aside in the shared budgets",
        "check" => "running the checks",
        "integrate" => "bringing a task's work onto the run's branch",
        "rebase" => "bringing the run's branch onto the moved base",
        "push" => "pushing the run's branch",
        "ensure_change" => "opening the change",
        "comment" => "commenting on the change",
        "set_status" => "setting a status on the change",
        "observe" => "looking at the change",
        "land" => "landing",
        "close" => "closing the change",
        "release" => "giving the workspace back",
        other => other,
    }
}

fn need(what: &str, how: &str) -> Need {
    Need { what: what.to_owned(), how: how.to_owned() }
}

impl Escalation {
    /// As Markdown, for a comment on the change.
    pub fn markdown(&self) -> String {
        let mut text =
            format!("**Escalation: {}**\n\n**Run:** {}\n\n", self.reason, super::describe::inline(&self.run));
        text.push_str("**What I need from you:**\n");
        for (i, need) in self.needs.iter().enumerate() {
            text.push_str(&format!("{}. {} — {}\n", i + 1, need.what, need.how));
        }
        text.push_str("\n**What happened:**\n");
        text.push_str(&super::describe::fenced(&self.why));
        text.push_str("\n**Answer with one of:**\n");
        for answer in &self.answers {
            text.push_str(&format!("- `{answer}`\n"));
        }
        text.push_str(&format!("\n{} {}\n", self.resumes, self.reserved));
        text
    }

    /// As plain text, for a terminal. Control characters in quoted text are the printer's to escape.
    pub fn plain(&self) -> String {
        let mut text = format!("Escalation: {}\nRun: {}\nWhat I need from you:\n", self.reason, self.run);
        for (i, need) in self.needs.iter().enumerate() {
            text.push_str(&format!("  {}) {} -> {}\n", i + 1, need.what, need.how));
        }
        text.push_str("What happened:\n");
        for line in self.why.lines() {
            text.push_str(&format!("  | {line}\n"));
        }
        text.push_str("Answer with one of:\n");
        for answer in &self.answers {
            text.push_str(&format!("  {answer}\n"));
        }
        text.push_str(&format!("{}\n{}\n", self.resumes, self.reserved));
        text
    }
}
